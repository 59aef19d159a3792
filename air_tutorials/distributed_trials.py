"""Trials of Ray Tune each of which is a Ray Train run of its own, on several workers."""

import contextlib
import threading
import time
from functools import partial
from typing import Any

import ray
from ray import tune
from ray.core.generated import gcs_pb2
from ray.train import RunConfig, ScalingConfig
from ray.tune.integration.ray_train import TuneReportCallback
from ray.util.placement_group import PlacementGroup, remove_placement_group

from air_tutorials.errors import PreflightError
from air_tutorials.models import Net
from air_tutorials.preflight import count_workers_that_fit, preflight
from air_tutorials.trainer import make_trainer, train_func
from air_tutorials.trials import load_split

# For ``make_tuner``: the process of such a trial computes nothing, and only waits for its workers. If it took a CPU,
# the waiting could take all that there are, and no worker would ever start. Ray wants it to take something, so this.
DRIVER_RESOURCES = {"cpu": 0, "node:__internal_head__": 0.001}

_PATIENCE_S = 60.0


def train_on_workers(config: dict[str, Any]) -> None:
    """Train ``Net`` on several workers, as one trial: Tune hears of every epoch, and may stop it after any.

    Args:
        config: ``l1``, ``l2``, ``lr``, ``batch_size`` (of all workers together), ``epochs``; ``num_workers``;
            ``storage_path``, where the run keeps its checkpoints; ``source`` and ``num_images``, see ``load_split``;
            ``use_gpu``, a GPU for each worker, False if left out.

    Each report holds ``checkpoint_path``, where Train has put the checkpoint. Tune is not given it a second time.
    """
    make_trainer(
        train_func,
        train_loop_config={
            **{name: config[name] for name in ("lr", "batch_size", "epochs")},
            "make_model": partial(Net, config["l1"], config["l2"]),
            "load_data": partial(load_split, config.get("source", "sample"), num_images=config.get("num_images")),
        },
        scaling_config=ScalingConfig(num_workers=config["num_workers"], use_gpu=config.get("use_gpu", False)),
        run_config=RunConfig(
            # Of the trial's name, so that no two trials share a run, and one that is tried again goes on with its own.
            name=f"train-{tune.get_context().get_trial_id()}",
            storage_path=config["storage_path"],
            callbacks=[TuneReportCallback()],
        ),
        resume=True,
    ).fit()


class FreeWorkers(tune.Callback):
    """Gives back the CPUs and GPUs of the workers of trials that were stopped in the middle of their Train run.

    Ray Train reserves them, and an actor of its own frees them when a run was ended from outside. To find that out, it
    asks the dashboard; where there is none, as after ``local_cluster()``, it asks for ever, and what follows waits.

    Args:
        interval_s: seconds between two looks.
    """

    def __init__(self, interval_s: float = 0.5) -> None:
        self._interval_s = interval_s
        self._next_look_s = 0.0

    def on_step_end(self, **_: Any) -> None:
        """Look for what nobody uses any more; Tune calls this many times a second."""
        if time.monotonic() >= self._next_look_s:
            self._next_look_s = time.monotonic() + self._interval_s
            _free_abandoned()

    def on_experiment_end(self, **_: Any) -> None:
        """Look on for a while, in a thread: the run of the last trial ends only after the experiment."""
        threading.Thread(target=self._look_on, daemon=True).start()

    def _look_on(self) -> None:
        give_up_s = time.monotonic() + _PATIENCE_S
        with contextlib.suppress(Exception):  # Ray may be shut down meanwhile, and has then freed everything
            while time.monotonic() < give_up_s and ray.is_initialized() and _free_abandoned():
                time.sleep(self._interval_s)


def _free_abandoned() -> int:
    """Remove the placement groups whose creator, an actor, has died; count those whose creator lives.

    The creator is the controller of a Train run. A group that another actor made to outlive it is detached, and stays.
    """
    # Only Ray's own table tells who created one; what is public shows neither that nor, without a dashboard, actors.
    table = ray._private.state.state._connect_and_get_accessor().get_placement_group_table()
    this_program = bytes.fromhex(ray.get_runtime_context().get_job_id())
    groups = [
        group
        for group in map(gcs_pb2.PlacementGroupTableData.FromString, table)
        if group.creator_job_id == this_program
        and not ray.ActorID(group.creator_actor_id).is_nil()  # what this process made itself, as Tune does for a trial
        and not group.is_detached
        and group.state != gcs_pb2.PlacementGroupTableData.REMOVED
    ]
    abandoned = [group for group in groups if group.creator_actor_dead]
    for group in abandoned:
        remove_placement_group(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))
    return len(groups) - len(abandoned)


def trials_that_fit(scaling_config: ScalingConfig) -> int:
    """Return how many such trials can run at a time: for ``max_concurrent_trials``.

    With more, trials wait for the workers that others hold. Of the time that they wait Tune knows nothing, and its
    scheduler would compare what has not begun.

    Args:
        scaling_config: of each trial's run, with at least one worker.

    Raises:
        PreflightError: not even one fits; the message has the arithmetic.
        ClusterError: Ray is not running; call ``local_cluster()`` first.
    """
    preflight(scaling_config)
    num_workers = scaling_config.min_workers
    if num_workers < 1:
        raise PreflightError("num_workers is 0: such a trial runs in its own process. Set it to 1 or more.")
    if scaling_config.placement_strategy.startswith("STRICT"):
        raise PreflightError(
            f"placement_strategy is {scaling_config.placement_strategy!r}, and only 'PACK' and 'SPREAD' are counted. "
            "Take one of those, or set max_concurrent_trials yourself."
        )
    return count_workers_that_fit(scaling_config._resources_per_worker_not_none) // num_workers
