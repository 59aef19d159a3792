"""The interface of a classifier by itself: what it takes, how it answers, and that it refuses the rest by name."""

import asyncio
import json
import math

import httpx
import numpy as np
import pytest
import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as np_st

from air_tutorials.errors import ConfigError
from air_tutorials.image_api import make_image_api

SHAPE, CLASSES, MAX_IMAGES = (2, 3), ["cat", "dog"], 4
LARGEST = float(np.finfo(np.float32).max)
seen = []


async def classify(images: np.ndarray) -> np.ndarray:
    """A dog where the first number is positive. Keeps what it was given."""
    seen.append(images)
    is_dog = (images[:, 0, 0] > 0).astype(np.float32)
    return np.stack([1 - is_dog, is_dog], axis=1)


def served(classify, **limits):
    return make_image_api(classify, input_shape=SHAPE, classes=CLASSES, **limits)


api = served(classify, max_images=MAX_IMAGES)


def call(method: str, path: str, content: bytes = b"", application: object = api) -> httpx.Response:
    async def send() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://test") as client:
            return await client.request(method, path, content=content)

    return asyncio.run(send())


def post(array: object) -> httpx.Response:
    return call("POST", "/predict", json.dumps({"array": array}).encode())


numbers = st.floats(-LARGEST, LARGEST, allow_nan=False)
images = np_st.arrays(np.float64, st.tuples(st.integers(1, MAX_IMAGES), *map(st.just, SHAPE)), elements=numbers)


@given(images)
def test_what_is_sent_is_what_the_model_gets(array):
    answer = post(array.tolist())
    assert answer.status_code == 200
    np.testing.assert_array_equal(seen[-1], array.astype(np.float32))
    assert seen[-1].dtype == np.float32
    named = [prediction["name"] for prediction in answer.json()["predictions"]]
    assert named == ["dog" if first > 0 else "cat" for first in array.astype(np.float32)[:, 0, 0]]
    assert post(array[0].tolist()).json() == {"predictions": answer.json()["predictions"][:1]}


image = [[1, 2, 3], [4, 5, 6.5]]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("", "body: Invalid JSON"),
        ("{", "body: Invalid JSON"),
        ("\xff", "body: Invalid JSON"),
        ("[" * 500, "body: Invalid JSON"),
        ("null", "body: Input should be an object"),
        ("[1]", "body: Input should be an object"),
        ("{}", "array: Field required"),
        ('{"image": 1}', "array: Field required"),
        (json.dumps({"array": image, "threshold": 1}), "threshold: Extra inputs"),
        ('{"array": null}', "array: Input should be a valid array"),
        ('{"array": "cat"}', "array: Input should be a valid array"),
        ('{"array": []}', "array: List should have at least 2 items"),
        ('{"array": [[], []]}', "array[0]: List should have at least 3 items"),
        ('{"array": [[1, 2, 3], [4, 5]]}', "array[1]: List should have at least 3 items"),
        ('{"array": [[1, 2, 3], [4, 5, 6, 7]]}', "array[1]: List should have at most 3 items"),
        ('{"array": [[1, 2, 3], [4, 5, "6"]]}', "array[1][2]: Input should be a valid number"),
        ('{"array": [[1, 2, 3], [4, 5, true]]}', "array[1][2]: Input should be a valid number"),
        ('{"array": [[1, 2, 3], [4, 5, null]]}', "array[1][2]: Input should be a valid number"),
        ('{"array": [[1, 2, 3], [4, 5, NaN]]}', "array[1][2]: Input should be a finite number"),
        ('{"array": [[1, 2, 3], [4, 5, -Infinity]]}', "array[1][2]: Input should be a finite number"),
        ('{"array": [[1, 2, 3], [4, 5, 1e39]]}', "array[1][2]: Input should be less than"),
        (json.dumps({"array": [image] * 5}), "array: List should have at most 4 items"),
        (json.dumps({"array": [[image]]}), "array[0][0][0]: Input should be a valid number"),
    ],
)
def test_a_bad_request_is_told_where_it_is_wrong_and_what_is_expected(body, says):
    answer = call("POST", "/predict", body.encode("latin-1"))
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith(says)
    assert answer.json()["detail"].endswith("one image of shape 2 x 3, or a list of up to 4 such images.")


def test_a_long_body_is_refused_whatever_it_holds():
    limit = len(json.dumps({"array": image}))
    small = served(classify, max_body_bytes=limit)
    body = json.dumps({"array": image}).encode()
    assert call("POST", "/predict", body, small).status_code == 200
    answer = call("POST", "/predict", body + b" ", small)
    assert answer.status_code == 413
    assert f"{limit} bytes" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/predict", 405), ("DELETE", "/predict", 405), ("POST", "/healthz", 405), ("GET", "/predictions", 404)],
)
def test_another_method_or_path_is_no_error_of_the_server(method, path, status):
    answer = call(method, path)
    assert answer.status_code == status
    assert answer.json()["detail"].endswith("There are POST /predict, GET /healthz and GET /openapi.json.")


def test_an_answer_that_is_no_number_is_a_request_out_of_range():
    async def overflow(images: np.ndarray) -> np.ndarray:
        return np.array([[0.5, 0.5], [np.nan, np.nan]], np.float32)

    answer = call("POST", "/predict", json.dumps({"array": [image, image]}).encode(), served(overflow))
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("image 1: the model gives no finite answer")


def test_a_wrong_key_as_long_as_the_body_is_not_sent_back():
    answer = call("POST", "/predict", json.dumps({"array": image, "k" * 1000: 1}).encode())
    assert answer.status_code == 422
    assert len(answer.json()["detail"]) < 300


def test_every_number_fits_into_the_default_limit():
    worst = [[-math.pi * 1e-300] * 3] * 2
    assert post([worst] * MAX_IMAGES).status_code == 200


# It knows 413 for no answer to a body that is wrong as well as long.
roomy = served(classify, max_images=MAX_IMAGES, max_body_bytes=1_000_000)
schema = schemathesis.openapi.from_asgi("/openapi.json", roomy)


@schema.parametrize()
@settings(max_examples=100)
def test_the_interface_keeps_to_its_own_document(case):
    case.call_and_validate()


@pytest.mark.parametrize(
    "change",
    [{"input_shape": ()}, {"input_shape": (3, 0)}, {"classes": []}, {"max_images": 0}, {"max_body_bytes": 0}],
)
def test_a_limit_out_of_range_is_refused_by_name(change):
    settings = {"input_shape": SHAPE, "classes": CLASSES, **change}
    with pytest.raises(ConfigError, match=next(iter(change))):
        make_image_api(classify, **settings)
