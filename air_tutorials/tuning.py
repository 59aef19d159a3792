"""Tune a training function: checked before it starts, and with the best model afterwards."""

import logging
import math
import os
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, PopulationBasedTraining, TrialScheduler
from ray.tune.search import Searcher

from air_tutorials.checkpoints import load_weights
from air_tutorials.errors import ConfigError, PreflightError, TuningError
from air_tutorials.models import Net
from air_tutorials.preflight import check_storage, count_workers_that_fit


def make_tuner(
    trainable: Callable[..., Any],
    space: Mapping[str, Any],
    *,
    num_samples: int,
    max_epochs: int,
    storage_path: str | Path,
    name: str | None = None,
    data: Any = None,
    metric: str = "loss",
    mode: str = "min",
    scheduler: TrialScheduler | None = None,
    search_alg: Searcher | None = None,
    resources_per_trial: Mapping[str, float] | None = None,
    max_concurrent_trials: int | None = None,
    max_failures: int = 0,
    reuse_actors: bool | None = None,
    callbacks: Sequence[tune.Callback] = (),
) -> tune.Tuner:
    """Make a ``Tuner`` after checking what would otherwise wait for ever, or show at the end of the first trial.

    It also quiets Tune's log in this process, and has Tune write the experiment down every second, unless
    ``TUNE_GLOBAL_CHECKPOINT_S`` says otherwise.

    Args:
        trainable: ``trials.train_cifar`` or a function like it, which reports ``metric`` after each epoch.
        space: for each hyperparameter a distribution or a value. ``epochs`` is added, from ``max_epochs``.
        num_samples: how many draws from the space; with a ``grid_search`` in it, how often the whole grid is run: 1
            gives each of its points one trial.
        max_epochs: what a trial that is never stopped trains.
        storage_path: where trials keep their checkpoints; an absolute path, or a URI such as ``s3://bucket/runs``.
        name: of the experiment.
        data: the function's second argument, put into the object store once and shared by all trials.
        metric: of those reported, the one that is compared.
        mode: ``"min"`` or ``"max"``.
        scheduler: left out, ASHA: after 1, 2, 4, … epochs only the better half goes on.
        search_alg: left out, random search.
        resources_per_trial: left out, one CPU. On a machine with GPUs ask for one, or for a share, as in
            ``{"cpu": 1, "gpu": 0.5}``: trials that ask for none see all of them, and take the first.
        max_concurrent_trials: left out, as many as fit.
        max_failures: how often a trial that raised, or whose process died, goes on from its checkpoint.
        reuse_actors: let the process of a trial that has ended take the next one, which need not import torch again.
            Left out, it does, but for population based training, where Ray 2.60 then loses rows of the trials' tables.
            Not where the function waits for a Ray Train run: it could not be interrupted there.
        callbacks: hear how the trials go, such as a ``TuningMonitor``.

    Returns:
        A tuner whose ``fit()`` runs the trials. A trial that raises ends alone, and its reason is in its result.

    Raises:
        ConfigError: a number is below 1, the mode is unknown, or a hyperparameter has no values.
        PreflightError: no trial fits into the cluster, or the storage path cannot be written.
        ClusterError: Ray is not running; call ``local_cluster()`` first.
        TuningError: raised by ``fit()``, when ``metric`` is not among what a trial reports: report it, or name another.
    """
    _check_space(space, num_samples, max_epochs, mode)
    check_storage(storage_path)
    _quiet_and_safe()
    scheduler = scheduler or ASHAScheduler(max_t=max_epochs, grace_period=1, reduction_factor=2)
    tune_config = tune.TuneConfig(
        metric=metric,
        mode=mode,
        num_samples=num_samples,
        search_alg=search_alg,
        scheduler=scheduler,
        max_concurrent_trials=max_concurrent_trials,
        reuse_actors=not isinstance(scheduler, PopulationBasedTraining) if reuse_actors is None else reuse_actors,
    )
    run_config = _make_run_config(name, storage_path, metric, max_failures, callbacks)
    if data is not None:
        trainable = tune.with_parameters(trainable, data=data)
    trainable = tune.with_resources(trainable, _check_resources(resources_per_trial or {"cpu": 1}))
    param_space = {**space, "epochs": max_epochs}
    return _Tuner(trainable, param_space=param_space, tune_config=tune_config, run_config=run_config)


def _make_run_config(
    name: str | None, storage_path: str | Path, metric: str, max_failures: int, callbacks: Sequence[tune.Callback]
) -> tune.RunConfig:
    return tune.RunConfig(
        name,
        str(storage_path),
        verbose=0,
        # That for notebooks, which Tune takes there, leaves an empty output even when it has nothing to say.
        progress_reporter=tune.CLIReporter(),
        # To ASHA, NaN is not worse than anything.
        stop=partial(_has_diverged, metric),
        failure_config=tune.FailureConfig(max_failures=max_failures),
        callbacks=[*callbacks],
    )


def _has_diverged(metric: str, _trial_id: str, result: Mapping[str, Any]) -> bool:
    return not math.isfinite(result.get(metric, 0.0))


class _Tuner(tune.Tuner):
    """A ``Tuner`` that fails with what was wrong, where Ray's fails with the trace of its own loop as a message."""

    def fit(self) -> tune.ResultGrid:
        try:
            return super().fit()
        except tune.TuneError as error:
            raise TuningError(f"The experiment could not go on. {str(error).strip().splitlines()[-1]}") from error


def best_model(results: tune.ResultGrid, metric: str = "loss", mode: str = "min") -> tuple[tune.Result, Net]:
    """Return the best trial of an experiment, and the model as it was after its best epoch.

    Args:
        results: what ``Tuner.fit()`` returned.
        metric: the one that was reported.
        mode: ``"min"`` or ``"max"``.

    Returns:
        The trial, and a ``Net`` of its ``l1`` and ``l2`` on the CPU. The trials must have handed their checkpoints to
        Tune, as ``train_cifar`` does; of ``train_on_workers``, load what ``checkpoint_path`` names.

    Raises:
        TuningError: no checkpoint was reported with a finite value of the metric; the message has the reasons of the
            trials that failed.
        ConfigError: the mode is unknown.
    """
    _check_mode(mode)
    saved = [
        (metrics[metric], result, checkpoint)
        for result in results
        for checkpoint, metrics in result.best_checkpoints or []
        if math.isfinite(metrics.get(metric, math.nan))
    ]
    if not saved:
        reasons = Counter(failure for result in results if (failure := failure_of(result)))
        counted = "; ".join(f"{count} failed with {reason}" for reason, count in reasons.items())
        raise TuningError(
            f"None of {len(results)} trials reported a finite {metric!r} with a checkpoint. {counted or 'None failed'}."
        )
    _, best, checkpoint = (min if mode == "min" else max)(saved, key=lambda each: each[0])
    model = Net(best.config["l1"], best.config["l2"])
    load_weights(checkpoint, model)
    return best, model


def failure_of(result: tune.Result) -> str | None:
    """Return the exception that ended a trial, in one line, or None if none did."""
    return str(result.error).strip().splitlines()[-1] if result.error else None


def _check_resources(resources: Mapping[str, float]) -> dict[str, float]:
    needs = {{"cpu": "CPU", "gpu": "GPU"}.get(kind, kind): amount for kind, amount in resources.items() if amount > 0}
    if not count_workers_that_fit(needs):
        total = ray.cluster_resources()
        wants, has = (" and ".join(f"{amounts.get(kind, 0):g} {kind}" for kind in needs) for amounts in (needs, total))
        raise PreflightError(
            f"A trial takes {wants}, but the cluster has {has}, and no machine has room for one. Ask for less in "
            "resources_per_trial."
        )
    return dict(resources)


def _quiet_and_safe() -> None:
    # Of a trial that failed Tune logs the whole trace; its result holds it too.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", message="Consider boosting PBT performance by enabling `reuse_actors`")
    # A driver that dies loses what happened since Tune last wrote it down, and trials that had ended would run again.
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1")


def _check_mode(mode: str) -> None:
    if mode not in ("min", "max"):
        raise ConfigError(f"mode is {mode!r}, and must be 'min' or 'max'.")


def _check_space(space: Mapping[str, Any], num_samples: int, max_epochs: int, mode: str) -> None:
    if min(num_samples, max_epochs) < 1:
        raise ConfigError(f"num_samples is {num_samples} and max_epochs {max_epochs}: both must be at least 1.")
    _check_mode(mode)
    for name, values in space.items():
        choices = values.get("grid_search") if isinstance(values, dict) else getattr(values, "categories", None)
        if choices is not None and not len(choices):
            raise ConfigError(f"{name} has no values to choose from. Give it at least one.")
