"""Tune over Train: every epoch of every trial reaches Tune, and more trials than fit run to their end."""

import sys

import pytest
import ray
import torch
from ray import tune
from ray.train import ScalingConfig
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from served import wait_until

from air_tutorials.checkpoints import load_weights
from air_tutorials.datasets import load_cifar10
from air_tutorials.distributed_trials import DRIVER_RESOURCES, FreeWorkers, train_on_workers, trials_that_fit
from air_tutorials.errors import PreflightError
from air_tutorials.loops import test_epoch
from air_tutorials.models import Net
from air_tutorials.trials import load_split
from air_tutorials.tuning import failure_of, make_tuner

pytestmark = pytest.mark.usefixtures("cluster")

# Ray's workers do not have the tests on their path.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

NUM_IMAGES = 400


def test_more_trials_than_fit_run_to_their_end_and_report_every_epoch(tmp_path):
    load_cifar10(train=True)  # drawn once, before several workers ask for it
    at_once = trials_that_fit(ScalingConfig(num_workers=2))
    assert at_once == 2
    space = {
        "l1": 16,
        "l2": 8,
        "batch_size": 32,
        "num_workers": 2,
        "num_images": NUM_IMAGES,
        "storage_path": str(tmp_path / "runs"),
        "lr": tune.grid_search([0.1, 0.05, 0.01]),
    }
    results = make_tuner(
        train_on_workers,
        space,
        num_samples=1,
        max_epochs=2,
        storage_path=tmp_path,
        name="over Train",
        scheduler=FIFOScheduler(),
        resources_per_trial=DRIVER_RESOURCES,
        max_concurrent_trials=at_once,
        reuse_actors=False,
    ).fit()

    assert [failure_of(result) for result in results] == [None] * 3
    validation = load_split(num_images=NUM_IMAGES)[1]
    for result in results:
        assert result.metrics_dataframe["epoch"].tolist() == [0, 1]
        model = load_weights(result.metrics["checkpoint_path"], Net(16, 8))
        score = test_epoch(torch.utils.data.DataLoader(validation, batch_size=80), model, torch.nn.CrossEntropyLoss())
        assert score.num_correct == result.metrics["num_correct"]
        assert score.loss == pytest.approx(result.metrics["loss"], abs=1e-6)
    assert len({result.metrics["checkpoint_path"] for result in results}) == 3


def test_a_trial_that_is_stopped_in_the_middle_makes_room_for_the_next(tmp_path):
    space = {
        "l1": 16,
        "l2": 8,
        "batch_size": 30,
        "num_workers": 3,
        "num_images": NUM_IMAGES,
        "storage_path": str(tmp_path / "runs"),
        "lr": tune.grid_search([0.1, 0.05]),
    }
    results = make_tuner(
        train_on_workers,
        space,
        num_samples=1,
        max_epochs=500,
        storage_path=tmp_path,
        name="stopped",
        scheduler=ASHAScheduler(max_t=1),
        resources_per_trial=DRIVER_RESOURCES,
        max_concurrent_trials=trials_that_fit(ScalingConfig(num_workers=3)),
        reuse_actors=False,
        callbacks=[FreeWorkers()],
    ).fit()
    assert [failure_of(result) for result in results] == [None] * 2
    assert [len(result.metrics_dataframe) for result in results] == [1, 1]
    wait_until(lambda: ray.available_resources().get("CPU") == 4)  # of the last one's workers, too


@ray.remote(num_cpus=0)
class Maker:
    """Reserves a CPU for longer than it lives, or for as long."""

    def make(self, lifetime: str | None) -> bytes:
        group = placement_group([{"CPU": 1}], lifetime=lifetime)
        assert group.wait(30)
        return group.id.binary()


def test_what_another_actor_made_to_outlive_it_stays():
    makers = [Maker.remote(), Maker.remote()]
    kept, _ = ray.get([maker.make.remote(lifetime) for maker, lifetime in zip(makers, ["detached", None], strict=True)])
    for maker in makers:
        ray.kill(maker)
    callback = FreeWorkers(interval_s=0)

    def look() -> bool:
        callback.on_step_end()
        return ray.available_resources().get("CPU") == 3

    wait_until(look)
    remove_placement_group(PlacementGroup(ray.PlacementGroupID(kept)))
    wait_until(lambda: ray.available_resources().get("CPU") == 4)


@pytest.mark.parametrize(
    ("scaling_config", "at_once"),
    [
        (ScalingConfig(num_workers=1), 4),
        (ScalingConfig(num_workers=3), 1),
        (ScalingConfig(num_workers=2, resources_per_worker={"CPU": 0.5}), 4),
    ],
)
def test_the_number_of_trials_at_a_time_is_what_their_workers_leave_room_for(scaling_config, at_once):
    assert trials_that_fit(scaling_config) == at_once


@pytest.mark.parametrize(("num_workers", "says"), [(5, "5 workers × 1 CPU = 5 CPU"), (0, "num_workers is 0")])
def test_a_trial_that_can_never_run_is_refused(num_workers, says):
    with pytest.raises(PreflightError, match=says):
        trials_that_fit(ScalingConfig(num_workers=num_workers))


def test_a_placement_that_is_not_counted_is_refused():
    with pytest.raises(PreflightError, match="STRICT_PACK"):
        trials_that_fit(ScalingConfig(num_workers=1, placement_strategy="STRICT_PACK"))
