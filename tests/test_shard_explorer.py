"""Which rows each worker gets, and what is said of them."""

import sys
from itertools import chain

import pytest
import ray
import torch.distributed
from ray.train import ScalingConfig
from ray.train.torch import TorchTrainer
from torch.utils.data import DataLoader

from air_tutorials import trainer
from air_tutorials.errors import ConfigError
from air_tutorials.shard_explorer import DROPPING, NEITHER, PADDING, Sharding, explore_shards

# Ray's workers do not have the tests on their path.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def take_rows(config: dict) -> list:
    """Take the rows that the helpers of the page give this worker, and return those of all workers, way by way."""
    rows = range(config["num_rows"])
    loader = trainer.prepare_data_loader(DataLoader(rows, batch_size=2), move_to_device=False)
    mine = [[int(row) for batch in loader for row in batch], list(trainer.shard_without_padding(rows))]
    of_all = [None] * ray.train.get_context().get_world_size()
    torch.distributed.all_gather_object(of_all, mine)
    return list(zip(*of_all, strict=True))


def test_the_rows_are_those_of_rays_own_workers(cluster, tmp_path):
    fitted = TorchTrainer(
        take_rows,
        train_loop_config={"num_rows": 10},
        scaling_config=ScalingConfig(num_workers=3),
        run_config=ray.train.RunConfig(storage_path=str(tmp_path)),
    ).fit()
    padded, unpadded = map(list, fitted.return_value)
    assert padded == Sharding(num_rows=10, num_workers=3, remainder=PADDING).shares(0)
    assert unpadded == Sharding(num_rows=10, num_workers=3, remainder=NEITHER).shares(0)


def test_the_repeated_rows_are_marked_and_named():
    sharding = Sharding(num_rows=10, num_workers=3)
    assert sharding.shares(0) == [[0, 3, 6, 9], [1, 4, 7, 0], [2, 5, 8, 1]]
    assert sharding.repeats(0) == {(1, 3), (2, 3)}
    markup = explore_shards(sharding).markup
    assert markup.count("<mark") == 2
    assert "repeats (↻) rows 0, 1" in markup


def test_what_is_not_repeated_is_dropped_or_shared_unevenly():
    assert len(set(chain(*Sharding(remainder=DROPPING).shares(0)))) == 9
    assert sorted(chain(*Sharding(remainder=NEITHER).shares(0))) == list(range(10))
    explorer = explore_shards(Sharding(remainder=DROPPING))
    assert "Left out of this epoch: row 9" in explorer.markup
    explorer.controls["remainder"].value = NEITHER
    assert "every row comes exactly once" in explorer.markup


def test_without_set_epoch_every_epoch_is_alike():
    forgotten = Sharding(num_rows=40, shuffle=True, set_epoch=False)
    assert forgotten.shares(0) == forgotten.shares(7) != Sharding(num_rows=40, shuffle=True).shares(7)
    explorer = explore_shards(forgotten)
    assert "set_epoch was forgotten: these 3 epochs have the same order" in explorer.markup
    explorer.controls["set_epoch"].value = True
    assert "these 3 epochs have 3 different orders" in explorer.markup


def test_together_they_take_the_batches_of_one_process():
    said = "Step by step, all workers together take the batches of one process with a batch size of 6."
    assert said in repr(explore_shards(Sharding(num_rows=12)))
    assert said not in repr(explore_shards(Sharding(num_rows=12, shuffle=True)))


@pytest.mark.parametrize(("settings", "message"), [({"num_workers": 0}, "at least 1"), ({"num_rows": 41}, "up to 40")])
def test_what_cannot_be_shown_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        explore_shards(Sharding(**settings))
