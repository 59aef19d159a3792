"""The HTTP interface of a classifier: what a request may hold, what it is answered, and what is refused with a 4xx."""

import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, create_model
from starlette.exceptions import HTTPException as StarletteHTTPException

from air_tutorials.errors import ConfigError

# Takes float32 (images, …), returns probabilities, float32 (images, classes).
Classify = Callable[[np.ndarray], Awaitable[np.ndarray]]

_LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
_BYTES_PER_NUMBER = 32  # as JSON: 17 digits, sign, exponent, comma, and room for some white space


class Prediction(BaseModel):
    """What is said of one image."""

    class_index: int = Field(alias="class", description="Index of the most probable class, from 0.")
    name: str = Field(description="Name of that class.")
    probabilities: list[float] = Field(description="One for each class, in their order; they sum to 1.")


class Predictions(BaseModel):
    """What is said of all images of a request, in their order."""

    predictions: list[Prediction]


class Health(BaseModel):
    """Says that requests are taken."""

    status: str


class Refusal(BaseModel):
    """Says what was wrong with a request, and what is expected."""

    detail: str


def make_image_api(
    classify: Classify,
    *,
    input_shape: Sequence[int],
    classes: Sequence[str],
    max_images: int = 64,
    max_body_bytes: int | None = None,
) -> FastAPI:
    """Make the interface: ``POST /predict``, ``GET /healthz`` and ``GET /openapi.json``.

    ``POST /predict`` takes ``{"array": …}``: the numbers of one image, nested as its shape says, or a list of images.

    Args:
        classify: is awaited with float32 (images, …), and returns probabilities (images, classes).
        input_shape: shape of one image, such as (3, 32, 32).
        classes: the names, in the order of the model's outputs.
        max_images: how many images one request may hold.
        max_body_bytes: how long its body may be, in bytes. Left out: enough for so many images with long numbers.

    Returns:
        An ASGI application, for Ray Serve or any other server.

    Raises:
        ConfigError: a limit or a length is below 1; the message names it.
    """
    _check_limits(input_shape, classes, max_images, max_body_bytes)
    max_body_bytes = max_body_bytes or _BYTES_PER_NUMBER * math.prod(input_shape) * max_images + 1024
    body_type = _body_type(tuple(input_shape), max_images)
    # Swagger UI would be fetched from a server elsewhere. The document itself can be read without it.
    api = FastAPI(title="Image classifier", docs_url=None, redoc_url=None)
    schema = body_type.model_json_schema(ref_template="#/components/schemas/{model}")
    request_body = {"required": True, "content": {"application/json": {"schema": schema}}}

    @api.post(
        "/predict",
        response_model=Predictions,
        responses={413: {"model": Refusal}, 422: {"model": Refusal}},
        openapi_extra={"requestBody": request_body},
    )
    async def predict(request: Request) -> JSONResponse:
        """Classify one image, or several."""
        images = _read_images(await _read_body(request, max_body_bytes), body_type, input_shape, max_images)
        return JSONResponse(_answer(await classify(images), classes))

    api.get("/healthz")(_healthz)
    for status in (404, 405):
        api.add_exception_handler(status, _say_what_there_is)
    return api


async def _say_what_there_is(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, StarletteHTTPException)
    detail = f"{error.detail}. There are POST /predict, GET /healthz and GET /openapi.json."
    return JSONResponse({"detail": detail}, error.status_code, error.headers)


async def _healthz() -> Health:
    """Tell that requests are taken."""
    return Health(status="ok")


def _check_limits(
    input_shape: Sequence[int], classes: Sequence[str], max_images: int, max_body_bytes: int | None
) -> None:
    if not input_shape or min(input_shape) < 1:
        raise ConfigError(f"input_shape is {tuple(input_shape)}, and must be like (channels, height, width).")
    if not classes:
        raise ConfigError("classes is empty. Name each of the model's outputs.")
    if max_images < 1 or (max_body_bytes is not None and max_body_bytes < 1):
        raise ConfigError(f"max_images is {max_images} and max_body_bytes {max_body_bytes}: both must be at least 1.")


def _body_type(input_shape: tuple[int, ...], max_images: int) -> type[BaseModel]:
    """Describe a body exactly, so that the document that is published is also the check that is made."""
    # Strict: `true` is no 1.0, and "1" is none either.
    number = Field(strict=True, ge=-_LARGEST_FLOAT32, le=_LARGEST_FLOAT32, allow_inf_nan=False)
    image: Any = Annotated[float, number]
    for length in reversed(input_shape):
        image = Annotated[list[image], Field(min_length=length, max_length=length, fail_fast=True)]
    images = Annotated[list[image], Field(min_length=1, max_length=max_images, fail_fast=True)]

    def which(value: Any) -> str:
        return "images" if _depth(value) > len(input_shape) else "image"

    array = Annotated[Annotated[image, Tag("image")] | Annotated[images, Tag("images")], Discriminator(which)]
    return create_model("PredictRequest", __config__=ConfigDict(extra="forbid"), array=(array, ...))


def _depth(value: Any) -> int:
    depth = 0
    while isinstance(value, list) and value:
        value, depth = value[0], depth + 1
    return depth + isinstance(value, list)


async def _read_body(request: Request, max_bytes: int) -> bytes:
    """Read a body, and stop as soon as it is too long, whatever length it claims to have."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            detail = f"The body is longer than {max_bytes:,} bytes. Send fewer images at once."
            raise HTTPException(413, detail)
    return bytes(body)


def _read_images(body: bytes, body_type: type[BaseModel], input_shape: Sequence[int], max_images: int) -> np.ndarray:
    try:
        array = body_type.model_validate_json(body).array  # type: ignore[attr-defined]
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        # The middle entry tells apart one image and several, which no reader of a message needs.
        where = "".join(f"[{part}]" if isinstance(part, int) else "" for part in first["loc"])
        place = "array" + where if first["loc"][:1] == ("array",) else ".".join(map(str, first["loc"])) or "body"
        shape = " x ".join(map(str, input_shape))
        detail = (
            f'{place[:100]}: {first["msg"]}. Send {{"array": ...}} with the numbers of one image of shape {shape}, '
            f"or a list of up to {max_images} such images."
        )
        raise HTTPException(422, detail) from error
    images = np.array(array, np.float32)
    return images if images.ndim > len(input_shape) else images[np.newaxis]


def _answer(probabilities: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    finite = np.isfinite(probabilities).all(axis=1)
    if not finite.all():
        # Numbers that a request may hold can still be too large for what the model multiplies them with.
        detail = f"image {int(finite.argmin())}: the model gives no finite answer. Send numbers as it was trained with."
        raise HTTPException(422, detail)
    best = probabilities.argmax(axis=1).tolist()
    return {
        "predictions": [
            {"class": index, "name": classes[index], "probabilities": row}
            for index, row in zip(best, probabilities.tolist(), strict=True)
        ]
    }
