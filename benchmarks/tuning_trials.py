"""Sixteen trials with early stopping: Ray Tune against a plain loop and against Optuna with two jobs."""

import tempfile
import uuid
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import torch
from ray import tune
from ray.tune.search import BasicVariantGenerator

from air_tutorials.cluster import local_cluster
from air_tutorials.trials import load_split, train_alone, train_cifar
from air_tutorials.tuning import make_tuner
from benchmarks.measure import Curve, Row, Settings, alternate, fit_line, seconds
from benchmarks.tune_by_hand import draw_configs, tune_with_optuna

_NUM_TRIALS = 16


class Run(NamedTuple):
    """What an experiment took.

    Attributes:
        took_s: from its start until all trials had ended, in seconds.
        epochs: how many epochs each trial was trained, in the order of the configurations.
    """

    took_s: float
    epochs: list[int]


def measure(settings: Settings) -> tuple[list[Row], list[Curve]]:
    """Train the same sixteen configurations with Tune, in a loop, and with Optuna; and the first four with Tune."""
    local_cluster(num_cpus=2)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    num_trials, max_epochs = settings.pick((_NUM_TRIALS, 4), (4, 2))
    data = load_split(num_images=settings.pick(6_000, 500))
    configs = draw_configs(num_trials)
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        with_ray(configs[:2], 1, data, root)  # imports, and starts processes
        last: list[Run] = []  # the loop trains each configuration as long as Tune has just done
        contenders = {
            "Ray Tune, ASHA, 2 CPUs": lambda: remember(last, with_ray(configs, max_epochs, data, root)),
            "plain loop, the same epochs": lambda: in_a_loop(configs, last[-1].epochs, data, root),
            "Optuna, 2 jobs": lambda: with_optuna(configs, max_epochs, data, root),
        }
        fewer = num_trials // 4
        contenders[f"Ray Tune, {fewer} trials"] = lambda: with_ray(configs[:fewer], max_epochs, data, root)
        ray_tune, loop, optuna_runs, with_fewer = alternate(contenders, settings.pairs, _show).values()
    rows = _rows(ray_tune, loop, optuna_runs, max_epochs, len(data[0]))
    return [*rows, _growth_row(with_fewer, ray_tune)], []


def remember(last: list[Run], run: Run) -> Run:
    """Append a run to a list, and return it."""
    last.append(run)
    return run


def with_ray(configs: list[dict[str, Any]], max_epochs: int, data: Any, root: Path) -> Run:
    """Tune with page 4's tuner, on a cluster that runs already: one CPU for each trial, ASHA."""
    names = configs[0]
    tuner = make_tuner(
        train_cifar,
        {name: tune.choice([config[name] for config in configs]) for name in names},
        num_samples=len(configs),
        max_epochs=max_epochs,
        storage_path=root,
        name=uuid.uuid4().hex,
        data=data,
        search_alg=BasicVariantGenerator(points_to_evaluate=configs),  # type: ignore[arg-type]
    )
    grid: list[tune.ResultGrid] = []
    took_s = seconds(lambda: grid.append(tuner.fit()))
    epochs = {tuple(result.config[name] for name in names): result.metrics["training_iteration"] for result in grid[0]}
    return Run(took_s, [epochs[tuple(config.values())] for config in configs])


def in_a_loop(configs: list[dict[str, Any]], epochs: list[int], data: Any, root: Path) -> Run:
    """Train one configuration after the other in this process, each for a given number of epochs."""

    def train_all() -> None:
        for config, num_epochs in zip(configs, epochs, strict=True):
            train_alone({**config, "epochs": num_epochs, "save_to": root / uuid.uuid4().hex}, data)

    return Run(seconds(train_all), epochs)


def with_optuna(configs: list[dict[str, Any]], max_epochs: int, data: Any, root: Path) -> Run:
    """Tune with two threads of Optuna in this process, one thread of PyTorch for each."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    epochs: list[list[int]] = []
    took_s = seconds(lambda: epochs.append(tune_with_optuna(configs, max_epochs, data, root)))
    torch.set_num_threads(num_threads)
    return Run(took_s, epochs[0])


def _rows(ray_tune: list[Run], loop: list[Run], optuna_runs: list[Run], max_epochs: int, num_images: int) -> list[Row]:
    what = f"{len(loop[0].epochs)} tuning trials with early stopping"
    took = [[run.took_s for run in runs] for runs in (ray_tune, loop, optuna_runs)]
    total = [[sum(run.epochs) for run in runs] for runs in (ray_tune, optuna_runs)]
    of_loop = (
        f"Page 4's model, {num_images:,} images an epoch. The loop trains each configuration for as many epochs as "
        f"Tune just did (of at most {max_epochs}; {_listed(total[0])} in all), in one process with "
        f"{torch.get_num_threads()} threads, PyTorch's default here. Ray's cluster runs already; two trials run at a "
        "time, with one thread each."
    )
    of_optuna = (
        "Two threads, successive halving by the same factor, the same configurations. What is stopped depends on who "
        "comes first, and Tune compares a trial with those before it, Optuna also with itself: Tune trained "
        f"{_listed(total[0])} epochs, Optuna {_listed(total[1])}."
    )
    return [
        Row(what, "a plain loop over the same epochs", "s", took[0], took[1], at_most=0.6, note=of_loop),
        Row(what, "Optuna, 2 jobs", "s", took[0], took[2], at_most=1.1, note=of_optuna),
    ]


def _growth_row(fewer: list[Run], most: list[Run]) -> Row:
    trials, times = zip(*((len(run.epochs), run.took_s) for run in [*fewer, *most]), strict=True)
    slope, at_zero, explained = fit_line([*map(float, trials)], [*times])
    few, many = trials[0], trials[-1]
    note = (
        f"A straight line through {len(trials)} experiments of {few} and {many} trials: {at_zero:.1f} s and "
        f"{slope:.2f} s for each trial, R² = {explained:.3f}. Of {few}, fewer are stopped: "
        f"{_listed([sum(run.epochs) for run in fewer])} epochs in all."
    )
    took = [[run.took_s for run in runs] for runs in (most, fewer)]
    return Row(f"growth: {many} trials", f"itself, {few} trials", "s", *took, note=note)


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _show(run: Run) -> str:
    return f"{run.took_s:.1f} s, {sum(run.epochs)} epochs"
