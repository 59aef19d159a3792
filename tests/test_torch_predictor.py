"""Batches of every form and size are predicted as the plain loop does it, and columns that do not fit are named."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.data.extensions import TensorArray
from torch import Tensor, nn

from air_tutorials.errors import ColumnError, ConfigError
from air_tutorials.models import NeuralNetwork
from air_tutorials.torch_predictor import TorchPredictor

torch.manual_seed(0)
MODEL = NeuralNetwork().eval()
IMAGES = np.random.default_rng(0).random((70, 1, 28, 28), dtype=np.float32)
with torch.inference_mode():
    LOGITS = MODEL(torch.from_numpy(IMAGES)).numpy()


@given(num_rows=st.integers(0, 70), batch_size=st.integers(1, 80), as_pandas=st.booleans())
@settings(deadline=None, max_examples=40)
def test_batches_of_any_size_equal_the_whole(num_rows: int, batch_size: int, as_pandas: bool) -> None:
    predictor = TorchPredictor(MODEL.state_dict(), NeuralNetwork, keep_columns=["id"])
    for start in range(0, max(num_rows, 1), batch_size):
        rows = slice(start, min(start + batch_size, num_rows))
        batch: Any = {"image": IMAGES[rows], "id": np.arange(len(IMAGES))[rows]}
        if as_pandas:
            batch = pd.DataFrame({"image": TensorArray(IMAGES[rows]), "id": batch["id"]})
        predicted = predictor(batch)
        assert sorted(predicted) == ["id", "predictions"]
        assert (predicted["id"] == np.arange(len(IMAGES))[rows]).all()
        assert predicted["predictions"].dtype == np.float32
        expected = LOGITS[rows] if len(LOGITS[rows]) else np.empty((0,))
        np.testing.assert_allclose(predicted["predictions"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "column",
    [
        lambda images: images,
        lambda images: images.tolist(),
        lambda images: np.array([*images, None], dtype=object)[:-1],
        lambda images: pd.Series(list(images)),
        lambda images: pd.Series(TensorArray(images)),
    ],
    ids=["array", "lists", "objects", "series of arrays", "series of tensors"],
)
def test_takes_a_column_of_tensors_in_every_form(column: Callable[[np.ndarray], Any]) -> None:
    predictor = TorchPredictor(MODEL.state_dict(), NeuralNetwork)
    predictions = predictor({"image": column(IMAGES[:5])})["predictions"]
    np.testing.assert_allclose(predictions, LOGITS[:5], rtol=1e-5, atol=1e-6)


class Recorder(nn.Module):
    """Returns its input, and whether it was in training."""

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.cat([inputs.flatten(1), torch.full((len(inputs), 1), float(self.training))], dim=1)


def record(batch: Any, *feature_columns: str) -> list[list[float]]:
    return TorchPredictor({}, Recorder, feature_columns=feature_columns)(batch)["predictions"].tolist()


def test_scalar_columns_become_one_table() -> None:
    table = {"a": np.array([1, 2]), "b": np.array([True, False]), "c": [0.5, 1.5]}
    assert record(table, "a", "b", "c") == [[1, 1, 0.5, 0], [2, 0, 1.5, 0]]
    assert record(pd.DataFrame(table), "c", "a") == [[0.5, 1, 0], [1.5, 2, 0]]
    assert record(pd.DataFrame({"a": pd.array([7], dtype="Int64")}), "a") == [[7, 0]]


def test_bytes_keep_their_range_and_read_only_memory_stays_as_it_is() -> None:
    pixels = np.array([[0, 255]], dtype=np.uint8)
    assert record({"image": pixels}, "image") == [[0, 255, 0]]
    shared = np.array([[-1.0, 2.0]], dtype=np.float32)
    shared.flags.writeable = False
    predictor = TorchPredictor({}, lambda: nn.ReLU(inplace=True))
    assert predictor({"image": shared})["predictions"].tolist() == [[0, 2]]
    assert shared.tolist() == [[-1, 2]]


@pytest.mark.parametrize(
    ("batch", "feature_columns", "message"),
    [
        ({"image": np.zeros((2, 3))}, ["picture"], r"no column 'picture'; there are 'image'\. Set feature_columns"),
        ({}, ["picture"], "no column 'picture'; there are none"),
        ({"name": np.array(["a", "b"])}, ["name"], "'name' holds <U1 values, and a model takes numbers"),
        ({"name": pd.Series(["a", None])}, ["name"], "'name' holds .* values, and a model takes numbers"),
        ({"z": np.zeros(2, dtype=complex)}, ["z"], "'z' holds complex128 values"),
        (
            {"image": np.array([np.zeros((2, 2)), np.zeros((3, 2)), None], dtype=object)[:-1]},
            ["image"],
            r"'image' holds arrays of different shapes: \(2, 2\), \(3, 2\)\. Bring them to one shape",
        ),
        ({"list": pd.Series([[1, 2], [3]])}, ["list"], r"'list' holds arrays of different shapes\. Bring"),
        ({"a": np.zeros(2), "b": np.zeros((2, 3))}, ["a", "b"], r"side by side and must be scalars.* a \(\), b \(3,\)"),
    ],
)
def test_columns_that_do_not_fit(batch: dict[str, Any], feature_columns: list[str], message: str) -> None:
    with pytest.raises(ColumnError, match=message):
        TorchPredictor({}, Recorder, feature_columns=feature_columns)(batch)


@pytest.mark.parametrize(
    ("forward", "returned"),
    [(lambda _, x: {"logits": x}, "dict"), (lambda _, x: x.sum(), r"\(\)"), (lambda _, x: x[1:], r"\(2, 4\)")],
)
def test_models_that_return_no_row_for_each_sample(forward: Callable[..., Any], returned: str) -> None:
    model = type("Odd", (nn.Module,), {"forward": forward})
    with pytest.raises(ConfigError, match=rf"returned {returned} for 3 samples, and must return a tensor"):
        TorchPredictor({}, model)({"image": np.zeros((3, 4))})


def test_columns_are_named_sensibly() -> None:
    with pytest.raises(ConfigError, match="feature_columns is empty"):
        TorchPredictor({}, Recorder, feature_columns=())
    with pytest.raises(ConfigError, match="keep_columns has 'predictions'"):
        TorchPredictor({}, Recorder, keep_columns=("id", "predictions"))
