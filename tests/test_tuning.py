"""Tuning: the trial computes what the plain function computes, and what goes wrong in one trial stays there."""

import math
import os
import signal
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import ray
import torch
from programs import load_colour_blobs
from ray import tune
from ray.tune.schedulers import FIFOScheduler
from torch.utils.data import DataLoader

from air_tutorials import trials
from air_tutorials.checkpoints import load_weights, save_checkpoint
from air_tutorials.display import count_changed_lines
from air_tutorials.errors import ConfigError, PreflightError, TuningError
from air_tutorials.loops import test_epoch
from air_tutorials.models import Net
from air_tutorials.trials import search_space, train_alone, train_cifar
from air_tutorials.tuning import best_model, failure_of, make_tuner

pytestmark = pytest.mark.usefixtures("cluster")

# Ray's workers do not have the tests on their path.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

CONFIG = {"l1": 16, "l2": 8, "lr": 0.05, "batch_size": 16}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """A trial has one CPU, and sums over more threads are added up in another order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def run(trainable, space, tmp_path: Path, **settings):
    arguments = {"num_samples": 1, "max_epochs": 4, "storage_path": tmp_path, "name": "tuned", **settings}
    return make_tuner(trainable, space, **arguments).fit()


def test_a_trial_computes_what_the_plain_function_computes(tmp_path):
    data = load_colour_blobs()
    history = train_alone({**CONFIG, "epochs": 3, "save_to": tmp_path / "alone"}, data)
    results = run(train_cifar, CONFIG, tmp_path, max_epochs=3, data=data)

    assert [row["loss"] for row in results[0].metrics_dataframe.to_dict("records")] == [row["loss"] for row in history]
    alone = load_weights(tmp_path / "alone", Net(16, 8)).state_dict()
    tuned = load_weights(results[0].checkpoint, Net(16, 8)).state_dict()
    assert all(torch.equal(alone[name], tuned[name]) for name in alone)
    assert count_changed_lines(train_alone, train_cifar) <= 12


def test_asha_trains_fewer_epochs_and_the_best_model_has_the_reported_loss(tmp_path):
    data = load_colour_blobs()
    space = {**CONFIG, "lr": tune.grid_search([0.05, 0.02, 1e-5, 1e-4])}
    # One after the other, so that what is worse is compared with what is better.
    results = run(train_cifar, space, tmp_path, data=data, max_concurrent_trials=1)

    epochs = {result.config["lr"]: len(result.metrics_dataframe) for result in results}
    assert (epochs[0.05], epochs[1e-5], epochs[1e-4]) == (4, 1, 1)
    assert len({result.metrics["pid"] for result in results}) < 4  # a process was used again
    best, model = best_model(results)
    losses = [loss for result in results for loss in result.metrics_dataframe["loss"]]
    score = test_epoch(DataLoader(data[1], batch_size=256), model, torch.nn.CrossEntropyLoss())
    assert score.loss == min(losses)
    assert best.config["lr"] >= 0.02


def fail_or_diverge(config: dict) -> None:
    for epoch in range(config["epochs"]):
        if config["kind"] == "raises":
            raise ValueError("no such data")
        if config["kind"] == "diverges":
            trials.report_trial({"loss": math.nan, "epoch": epoch}, Net(4, 4), None, 0)
        tune.report({"loss": 1 / (epoch + 1)})


def test_a_trial_that_raises_or_diverges_ends_alone_with_its_reason(tmp_path):
    space = {"kind": tune.grid_search(["raises", "diverges", "trains"])}
    results = run(fail_or_diverge, space, tmp_path)
    reasons = {result.config["kind"]: failure_of(result) for result in results}
    assert reasons == {
        "raises": "ValueError: no such data",
        "diverges": "FloatingPointError: the loss is nan after epoch 0",
        "trains": None,
    }
    assert results.get_best_result().config["kind"] == "trains"


def report_nan(config: dict) -> None:
    for _ in range(config["epochs"]):
        tune.report({"loss": math.nan})


def test_a_trial_that_reports_nan_is_stopped_at_once(tmp_path):
    results = run(report_nan, {}, tmp_path, max_epochs=50)
    assert len(results[0].metrics_dataframe) == 1


def test_when_every_trial_fails_one_error_says_why(tmp_path):
    results = run(fail_or_diverge, {"kind": "raises"}, tmp_path, num_samples=2)
    with pytest.raises(TuningError, match=r"None of 2 trials .* finite 'loss' .*\. 2 failed with ValueError: no such"):
        best_model(results)


def report_loss(config: dict) -> None:
    tune.report({"loss": 1.0})


def report_with_checkpoint(config: dict) -> None:
    for epoch, loss in enumerate(config["losses"]):
        with tempfile.TemporaryDirectory() as directory:
            torch.manual_seed(epoch)
            save_checkpoint(directory, Net(4, 4))
            tune.report({"loss": loss}, checkpoint=tune.Checkpoint.from_directory(directory))


def test_an_epoch_before_the_loss_was_nan_can_be_the_best(tmp_path):
    space = {"losses": tune.grid_search([[0.7, 0.6], [0.9, 0.5, math.nan]]), "l1": 4, "l2": 4}
    results = run(report_with_checkpoint, space, tmp_path, max_epochs=3, scheduler=FIFOScheduler())
    best, model = best_model(results)
    assert best.config["losses"][1] == 0.5
    torch.manual_seed(1)
    assert torch.equal(model.conv1.weight, Net(4, 4).conv1.weight)
    assert best_model(results, mode="max")[0].config["losses"][0] == 0.9
    with pytest.raises(ConfigError, match="mode is 'least'"):
        best_model(results, mode="least")


def test_trials_without_a_finite_metric_or_a_checkpoint_have_no_best(tmp_path):
    for trainable in (report_nan, report_loss):
        results = run(trainable, {}, tmp_path, max_epochs=1, num_samples=2)
        with pytest.raises(TuningError, match=r"None of 2 trials .* with a checkpoint\. None failed\."):
            best_model(results)


def report_something_else(config: dict) -> None:
    for _ in range(config["epochs"]):
        tune.report({"accuracy": 0.5})


def test_a_metric_that_is_never_reported_is_named_at_the_first_report(tmp_path):
    with pytest.raises(TuningError, match=r"not include the specified metric\(s\) `loss`"):
        run(report_something_else, {}, tmp_path)


def die_once(config: dict, data: tuple) -> None:
    def save_and_die(metrics, model, optimizer, next_epoch):
        report(metrics, model, optimizer, next_epoch)
        if next_epoch == 2 and not Path(config["marker"]).exists():
            Path(config["marker"]).touch()
            os.kill(os.getpid(), signal.SIGKILL)

    report, trials.report_trial = trials.report_trial, save_and_die
    try:
        train_cifar(config, data)
    finally:
        trials.report_trial = report


def test_a_trial_whose_process_is_killed_goes_on_from_its_checkpoint(tmp_path):
    data = load_colour_blobs()
    space = {**CONFIG, "marker": str(tmp_path / "killed")}
    killed = run(die_once, space, tmp_path, data=data, max_failures=1)
    whole = run(train_cifar, CONFIG, tmp_path, data=data, name="whole")
    assert (tmp_path / "killed").exists()
    assert killed[0].error is None
    assert killed[0].metrics["loss"] == whole[0].metrics["loss"]
    assert killed[0].metrics["epoch"] == 3


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"num_samples": 0}, ConfigError, "num_samples is 0"),
        ({"max_epochs": 0}, ConfigError, "max_epochs 0"),
        ({"mode": "lowest"}, ConfigError, "lowest"),
        ({"space": {"lr": tune.choice([])}}, ConfigError, "lr has no values"),
        ({"space": {"lr": tune.grid_search([])}}, ConfigError, "lr has no values"),
        ({"resources_per_trial": {"cpu": 99}}, PreflightError, "99 CPU"),
        ({"resources_per_trial": {"gpu": 99}}, PreflightError, "99 GPU"),
        ({"storage_path": "/proc/nowhere"}, PreflightError, "/proc/nowhere"),
        ({"storage_path": "relative"}, PreflightError, "relative"),
    ],
)
def test_what_cannot_work_is_refused_before_it_starts(change, error, says, tmp_path):
    space = change.pop("space", {"lr": 0.1})
    with pytest.raises(error, match=says):
        run(fail_or_diverge, space, tmp_path, **change)


def test_the_space_is_searched_within_its_bounds():
    space = search_space()
    rng = np.random.RandomState(0)
    powers = {2**power for power in range(2, 9)}
    for _ in range(50):
        assert space["l1"].sample(random_state=rng) in powers
        assert space["l2"].sample() in powers
        assert 1e-4 <= space["lr"].sample(random_state=rng) <= 1e-1
