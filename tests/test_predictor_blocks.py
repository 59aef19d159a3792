"""How a dataset is read and cut for the workers: what it costs in processes and memory."""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import ray
from torch import nn

from air_tutorials.predictor import BatchPredictor, _spread

# Workers cannot import this module.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def test_the_files_of_a_dataset_are_not_all_read_at_once(cluster: dict[str, float], tmp_path: Path) -> None:
    """One process took gigabytes for that."""
    values = np.random.default_rng(0).random((4, 12 * 2**20 // 8))
    for i in range(4):
        pyarrow.parquet.write_table(pyarrow.table({"value": values[i]}), tmp_path / f"{i}.parquet")
    read = ray.data.read_parquet(str(tmp_path)).map_batches(
        lambda _: {"task": np.array([ray.get_runtime_context().get_task_id()])}, batch_size=None
    )
    before = count_footer_readers()
    assert len({row["task"] for row in read.take_all()}) == 4
    assert count_footer_readers() - before == 1  # and not Ray's 32, each of them a process


def count_footer_readers() -> int:
    return sum("FooterReader" in actor["ActorClassName"] for actor in ray._private.state.actors().values())


def test_the_steps_before_hand_over_little_at_once(cluster: dict[str, float]) -> None:
    """With Ray's 128 MiB, memory grew with the dataset. The caller's settings stay as they are."""
    dataset = ray.data.range(10_000)
    limit = dataset.context.target_max_block_size
    cut = _spread(dataset, num_workers=2, batch_size=256, batches_per_block=None)
    assert cut.context.target_max_block_size == 4 * 2**20 < limit
    assert dataset.context.target_max_block_size == limit
    assert cut.count() == 10_000


@pytest.mark.parametrize(("batches_per_block", "fewest", "most"), [(None, 8, 12), (16, 2, 4)])
def test_a_large_dataset_can_travel_in_larger_blocks(
    cluster: dict[str, float], batches_per_block: int | None, fewest: int, most: int
) -> None:
    """A million rows took half as long again in blocks of four batches."""
    dataset = ray.data.range(10_000, override_num_blocks=1).map_batches(
        lambda batch: {"x": batch["id"].astype(np.float32)}
    )
    result = BatchPredictor(nn.Linear(1, 1).state_dict(), lambda: nn.Linear(1, 1)).predict(
        dataset, feature_columns="x", batch_size=256, batches_per_block=batches_per_block
    )
    assert fewest <= result.materialize().num_blocks() <= most


def test_blocks_that_are_there_are_cut_when_asked(cluster: dict[str, float]) -> None:
    dataset = ray.data.range(8_000, override_num_blocks=8).map_batches(
        lambda batch: {"x": batch["id"].astype(np.float32)}
    )
    predict = partial(
        BatchPredictor(nn.Linear(1, 1).state_dict(), lambda: nn.Linear(1, 1)).predict,
        dataset.materialize(),
        feature_columns="x",
        batch_size=100,
    )
    assert predict().materialize().num_blocks() == 8
    assert predict(batches_per_block=2).materialize().num_blocks() == 40
