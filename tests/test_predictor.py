"""Predictions equal the plain loop's, row by row, however the dataset is cut and whoever computes it."""

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import ray
import torch
from ray.data.extensions import TensorArray
from torch import Tensor, nn

from air_tutorials.checkpoints import save_checkpoint
from air_tutorials.errors import CheckpointMismatchError, ColumnError, ConfigError, PreflightError
from air_tutorials.models import NeuralNetwork
from air_tutorials.predictor import BatchPredictor

NUM_ROWS = 2_003  # divides by nothing

# Workers cannot import this module.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def make_model() -> nn.Module:
    torch.manual_seed(0)
    return NeuralNetwork().eval()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).random((NUM_ROWS, 1, 28, 28), dtype=np.float32)


@pytest.fixture(scope="module")
def logits(images: np.ndarray) -> np.ndarray:
    """What a plain loop of PyTorch computes."""
    model = make_model()
    with torch.inference_mode():
        return np.concatenate([model(torch.from_numpy(images[i : i + 64])).numpy() for i in range(0, NUM_ROWS, 64)])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint"), make_model())


def to_dataset(images: np.ndarray, num_blocks: int) -> Any:
    parts = np.array_split(np.arange(len(images)), num_blocks)
    return ray.data.from_blocks([pd.DataFrame({"id": part, "image": TensorArray(images[part])}) for part in parts])


def assert_equal_by_id(result: Any, logits: np.ndarray) -> None:
    batches = list(result.iter_batches(batch_size=None))
    ids = np.concatenate([batch["id"] for batch in batches])
    predictions = np.concatenate([batch["predictions"] for batch in batches])
    assert sorted(ids) == list(range(len(logits)))
    assert predictions.dtype == np.float32
    np.testing.assert_allclose(predictions, logits[ids], rtol=1e-5, atol=1e-6)
    assert (predictions.argmax(axis=1) == logits[ids].argmax(axis=1)).all()


@pytest.mark.parametrize(
    ("num_blocks", "num_workers", "batch_format", "batch_size", "computed"),
    [
        (1, 1, "numpy", 1024, True),
        (1, 2, "pandas", 99, False),
        (7, 3, "numpy", 64, False),
        (40, 4, "pandas", 999, True),
    ],
)
def test_predictions_equal_the_plain_loop(
    cluster: dict[str, float],
    images: np.ndarray,
    logits: np.ndarray,
    checkpoint: Path,
    tmp_path: Path,
    num_blocks: int,
    num_workers: int,
    batch_format: str,
    batch_size: int,
    computed: bool,
) -> None:
    """The workers cannot see the checkpoint; and four leave no CPU to feed them, were each to reserve a whole one."""
    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    predictor = BatchPredictor.from_checkpoint(copy, lambda: NeuralNetwork())
    shutil.rmtree(copy)
    dataset = to_dataset(images, num_blocks)
    if not computed:
        dataset = dataset.map_batches(lambda batch: batch)
    result = predictor.predict(
        dataset, keep_columns="id", batch_size=batch_size, num_workers=num_workers, batch_format=batch_format
    )
    del predictor
    assert_equal_by_id(result, logits)


class Witness(nn.Module):
    """Returns who computes; its first answer waits until two processes are at it."""

    def __init__(self, directory: Path, built: list[int]) -> None:
        super().__init__()
        self.directory, self.built = directory, built
        built.append(os.getpid())

    def forward(self, inputs: Tensor) -> Tensor:
        (self.directory / str(os.getpid())).touch()
        give_up = time.monotonic() + 60
        while len(list(self.directory.iterdir())) < 2 and time.monotonic() < give_up:
            time.sleep(0.01)
        return torch.tensor([[os.getpid(), len(self.built), torch.get_num_threads(), len(inputs)]] * len(inputs))


@pytest.mark.parametrize("computed", [True, False])
def test_one_block_keeps_two_workers_busy(cluster: dict[str, float], tmp_path: Path, computed: bool) -> None:
    """Each builds one model, uses one thread, and gets whole batches."""
    dataset = ray.data.from_numpy(np.zeros((3_200, 3)))
    if not computed:
        dataset = dataset.map_batches(lambda batch: batch)
    built: list[int] = []
    result = BatchPredictor({}, lambda: Witness(tmp_path, built)).predict(
        dataset, feature_columns="data", batch_size=100
    )
    seen = np.concatenate([batch["predictions"] for batch in result.iter_batches(batch_size=None)]).astype(int)
    pids, models, threads, batch_sizes = (set(column) for column in seen.T)
    assert len(seen) == 3_200
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert models == {1}
    assert threads == {1}
    assert batch_sizes == {100}


@pytest.mark.parametrize("empty", ["items", "filtered"])
def test_empty_dataset_gives_an_empty_result(
    cluster: dict[str, float], checkpoint: Path, empty: str, recwarn: pytest.WarningsRecorder
) -> None:
    dataset = ray.data.from_items([])
    if empty == "filtered":
        dataset = ray.data.range(3).map_batches(lambda batch: {"image": batch["id"][:0]})
    assert BatchPredictor.from_checkpoint(checkpoint, NeuralNetwork).predict(dataset, num_workers=1).take_all() == []
    assert [warning for warning in recwarn if issubclass(warning.category, UserWarning)] == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"feature_columns": "picture"}, ColumnError, "no column 'picture'; there are 'id', 'image'"),
        ({"keep_columns": ["id", "label"]}, ColumnError, "no column 'label'"),
        ({"num_workers": 9}, PreflightError, "9 workers × 1 CPU = 9 CPU, but the cluster has 4, .* room for 4"),
        ({"num_cpus_per_worker": 3}, PreflightError, "2 workers × 3 CPU = 6 CPU, .* room for 1"),
        ({"use_gpu": True}, PreflightError, "Set use_gpu=False"),
        ({"num_workers": 0}, ConfigError, "num_workers 0: both must be at least 1"),
        ({"batch_size": 0}, ConfigError, "batch_size is 0"),
        ({"batches_per_block": 0}, ConfigError, "batches_per_block is 0"),
        ({"batch_format": "pyarrow"}, ConfigError, "'pyarrow', and must be 'numpy' or 'pandas'"),
    ],
)
def test_mistakes_show_before_anything_starts(
    cluster: dict[str, float],
    images: np.ndarray,
    checkpoint: Path,
    arguments: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    predictor = BatchPredictor.from_checkpoint(checkpoint, NeuralNetwork)
    with pytest.raises(error, match=message):
        predictor.predict(to_dataset(images[:9], 1), **arguments)


def test_checkpoint_of_another_model_shows_at_once(checkpoint: Path) -> None:
    with pytest.raises(CheckpointMismatchError, match="do not fit Linear"):
        BatchPredictor.from_checkpoint(checkpoint, lambda: nn.Linear(2, 2))


def test_an_error_in_a_worker_arrives_as_itself(
    cluster: dict[str, float], checkpoint: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dataset = ray.data.from_items([{"image": "no numbers"}])
    result = BatchPredictor.from_checkpoint(checkpoint, NeuralNetwork).predict(dataset, num_workers=1)
    with pytest.raises(ColumnError, match=r"Column 'image' holds .* values, and a model takes numbers"):
        result.take_all()
    assert capfd.readouterr() == ("", "")
