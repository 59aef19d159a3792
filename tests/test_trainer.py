"""The converted program computes what the plain one computes, whatever happens to its workers."""

from functools import partial
from pathlib import Path

import pyarrow.fs
import pytest
import ray.train
import torch
from programs import (
    KillOnce,
    load_blobs,
    load_handwritten_digits,
    look_at_shards,
    make_blob_model,
    make_dropout_model,
)
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from torch.utils.data import DataLoader

from air_tutorials import baseline, trainer
from air_tutorials.checkpoints import load_weights
from air_tutorials.errors import ConfigError, PreflightError, RunNameInUseError
from air_tutorials.loops import test_epoch
from air_tutorials.models import NeuralNetwork
from air_tutorials.trainer import make_trainer

pytestmark = pytest.mark.usefixtures("cluster")

BLOBS = {"lr": 0.1, "batch_size": 32, "epochs": 3, "load_data": load_blobs, "make_model": make_blob_model}


def largest_difference(first: torch.nn.Module, second: torch.nn.Module) -> float:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs)


def fit(config: dict, num_workers: int, storage: Path, **kwargs: object) -> ray.train.Result:
    run_config = RunConfig(storage_path=str(storage), **kwargs)
    scaling_config = ScalingConfig(num_workers=num_workers)
    return make_trainer(
        trainer.train_func, train_loop_config=config, scaling_config=scaling_config, run_config=run_config
    ).fit()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, list[dict]]:
    """The plain program's model and metrics."""
    directory = tmp_path_factory.mktemp("plain")
    history = baseline.train_func({**BLOBS, "save_to": directory})
    return load_weights(directory, make_blob_model()), history


@pytest.mark.parametrize("num_workers", [0, 1, 2, 4])
def test_any_number_of_workers_trains_the_plain_programs_weights(num_workers, plain, tmp_path):
    plain_model, plain_history = plain
    result = fit(BLOBS, num_workers, tmp_path)

    model = load_weights(result.checkpoint, make_blob_model())
    assert largest_difference(model, plain_model) < 1e-5

    # No sample of the 101 is counted twice or left out, and the score is that of the checkpoint.
    test_data = load_blobs()[1]
    score = test_epoch(DataLoader(test_data, batch_size=32), model, torch.nn.CrossEntropyLoss())
    assert (result.metrics["num_correct"], result.metrics["num_samples"]) == (score.num_correct, len(test_data))
    assert result.metrics["loss"] == pytest.approx(score.loss, abs=1e-6)
    for metrics, expected in zip(result.return_value, plain_history, strict=True):
        assert metrics["train_loss"] == pytest.approx(expected["train_loss"], abs=1e-5)
        assert metrics["accuracy"] == expected["accuracy"]


def test_real_digits_are_learned_and_equal_the_plain_program(tmp_path):
    config = {"lr": 0.1, "batch_size": 32, "epochs": 12, "load_data": load_handwritten_digits}
    baseline.train_func({**config, "save_to": tmp_path / "plain"})
    result = fit(config, 2, tmp_path)

    plain_model = load_weights(tmp_path / "plain", NeuralNetwork())
    model = load_weights(result.checkpoint, NeuralNetwork())
    assert largest_difference(model, plain_model) < 1e-5
    assert result.metrics["accuracy"] >= 0.95
    assert result.metrics["num_samples"] == len(load_handwritten_digits()[1])


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_worker_changes_no_bit_of_the_weights(rank, tmp_path):
    # Shuffled, with dropout and running averages: every kind of state that a resumed run could lose.
    config = {**BLOBS, "epochs": 4, "shuffle": True, "seed": 3, "make_model": make_dropout_model}
    marker = tmp_path / "killed"
    on_step = KillOnce(marker, epoch=2, step=3, rank=rank)
    killed = fit({**config, "on_step": on_step}, 2, tmp_path, failure_config=FailureConfig(max_failures=1))
    whole = fit(config, 2, tmp_path)

    assert marker.exists()
    killed_weights = load_weights(killed.checkpoint, make_dropout_model()).state_dict()
    whole_weights = load_weights(whole.checkpoint, make_dropout_model()).state_dict()
    assert all(torch.equal(killed_weights[name], whole_weights[name]) for name in whole_weights)
    assert killed.metrics == whole.metrics
    # Ray notes a report some time after it was made, and resumes from the last one that it noted.
    epochs = [metrics["epoch"] for metrics in killed.return_value]
    assert epochs in ([2, 3], [1, 2, 3], [0, 1, 2, 3])


def test_a_run_goes_on_by_its_name_only_when_asked(tmp_path):
    config = {**BLOBS, "shuffle": True}
    straight = fit({**config, "epochs": 3}, 1, tmp_path)
    fit({**config, "epochs": 1}, 1, tmp_path, name="in two parts")
    with pytest.raises(RunNameInUseError, match=r"'in two parts'.*resume=True"):
        fit({**config, "epochs": 3}, 1, tmp_path, name="in two parts")

    resumed = make_trainer(
        trainer.train_func,
        train_loop_config={**config, "epochs": 3},
        scaling_config=ScalingConfig(num_workers=1),
        run_config=RunConfig(storage_path=str(tmp_path), name="in two parts"),
        resume=True,
    ).fit()
    assert [metrics["epoch"] for metrics in resumed.return_value] == [1, 2]
    models = [load_weights(result.checkpoint, make_blob_model()) for result in (straight, resumed)]
    assert largest_difference(*models) == 0


def test_names_that_ray_gave_are_told_apart_and_resumed_by(tmp_path):
    def name_of(name, resume):
        return make_trainer(
            trainer.train_func,
            train_loop_config=BLOBS,
            scaling_config=ScalingConfig(num_workers=1),
            run_config=RunConfig(storage_path=str(tmp_path), name=name),
            resume=resume,
        ).run_config.name

    given = "ray_train_run-2026-01-01_00-00-00"
    first, second = name_of(given, resume=False), name_of(given, resume=False)
    assert len({first, second, given}) == 3
    assert [name_of(name, resume=True) for name in (given, first)] == [given, first]
    (tmp_path / first).mkdir()
    with pytest.raises(RunNameInUseError):
        name_of(first, resume=False)


def test_a_path_on_a_filesystem_of_its_own_is_not_looked_for_on_this_disk(tmp_path):
    filesystem = pyarrow.fs.SubTreeFileSystem(str(tmp_path), pyarrow.fs.LocalFileSystem())
    make = partial(
        make_trainer,
        trainer.train_func,
        train_loop_config=BLOBS,
        scaling_config=ScalingConfig(num_workers=1),
        run_config=RunConfig(storage_path="bucket/runs", storage_filesystem=filesystem, name="mine"),
    )
    make()
    (tmp_path / "bucket" / "runs" / "mine").mkdir(parents=True)
    with pytest.raises(RunNameInUseError):
        make()


def test_what_each_worker_sees(tmp_path):
    result = TorchTrainer(
        look_at_shards,
        train_loop_config={"seed": 5},
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(storage_path=str(tmp_path)),
    ).fit()
    first, second = result.return_value["workers"]

    for (order, number), (other_order, other_number) in zip(first["epochs"], second["epochs"], strict=True):
        assert sorted(order + other_order) == list(range(20))
        assert number != other_number
    assert first["epochs"][0] == first["epochs"][2] != first["epochs"][1]

    # Seven samples over two workers: four and three, none repeated.
    assert sorted(first["shard"] + second["shard"]) == list(range(7))
    assert first["reduced"] == second["reduced"] == (1.5, trainer.Score(30.0, 1, 7))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": 6.4}, r"batch_size=6\.4"),
        ({"epochs": 0}, "epochs=0"),
        ({"lr": 0}, "lr=0"),
        ({"lr": float("nan")}, "lr=nan"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(change, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        fit({**BLOBS, **change}, 2, tmp_path)


@pytest.mark.parametrize(
    ("num_workers", "batch_size", "message"), [(3, 32, "33"), (9, 36, "CPU"), (4, 2, "batch_size")]
)
def test_what_cannot_fit_is_refused_before_anything_starts(num_workers, batch_size, message, tmp_path):
    with pytest.raises(PreflightError, match=message):
        fit({**BLOBS, "batch_size": batch_size}, num_workers, tmp_path)
    assert not any(tmp_path.iterdir())


def test_runs_without_a_name_never_share_one(tmp_path):
    scaling_config = ScalingConfig(num_workers=0)
    names = {
        make_trainer(
            trainer.train_func,
            train_loop_config=BLOBS,
            scaling_config=scaling_config,
            run_config=RunConfig(storage_path=str(tmp_path)),
        ).run_config.name
        for _ in range(5)
    }
    assert len(names) == 5
