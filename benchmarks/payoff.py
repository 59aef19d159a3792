"""When do more processes pay? Images per second against batch size and model, for one process, two and four workers."""

import math
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, prepare_model
from torch import nn

from air_tutorials.cluster import local_cluster
from benchmarks.measure import MOST_PAIRS, Curve, Row, Settings, alternate, spread
from benchmarks.programs import make_conv_net, make_mlp, num_parameters

Speeds = dict[str, dict[int, float]]  # images per second by model and global batch size

MODELS: dict[str, Callable[[], nn.Module]] = {
    "page 1's MLP": partial(make_mlp, 512),
    "an MLP four times as wide": partial(make_mlp, 2048),
    "a small network of convolutions": make_conv_net,
}
# A step of convolutions on 4,096 images takes seconds.
BATCH_SIZES = {name: [64, 256, 1024, 4096] for name in MODELS} | {
    "a small network of convolutions": [16, 64, 256, 1024]
}
ALONE, TWO, FOUR = "1 process", "2 workers", "4 workers"


def measure(settings: Settings) -> tuple[list[Row], list[Curve]]:
    """Sweep all models and batch sizes with one process and two workers in turns, and once with four workers."""
    local_cluster(num_cpus=4)
    num_sizes = settings.pick(None, 2)
    batch_sizes = {name: sizes[:num_sizes] for name, sizes in BATCH_SIZES.items()}
    config = {"batch_sizes": batch_sizes, "seconds": settings.pick(0.2, 0.05)}
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        pair = {ALONE: lambda: sweep(config), TWO: lambda: sweep_on_workers(config, 2, root)}
        runs: dict[str, list[Speeds]] = alternate(pair, min(settings.pairs, MOST_PAIRS), _show)
        runs |= alternate({FOUR: lambda: sweep_on_workers(config, 4, root)}, 1, _show)  # on the curves alone
    rows, curves = [], []
    for model, sizes in batch_sizes.items():
        for name, results in runs.items():
            speeds = [spread([result[model][size] for result in results]).median for size in sizes]
            curves.append(Curve(f"payoff: {model}", name, [float(size) for size in sizes], speeds))
        rows += _rows(model, runs, sizes)
    return rows, curves


def _rows(model: str, runs: dict[str, list[Speeds]], batch_sizes: list[int]) -> list[Row]:
    """Compare two workers with one process at the smallest and the largest batch, and say where they cross."""
    parameters = f"{num_parameters(MODELS[model]()) / 1e6:.2f} million parameters"
    alone, two = (
        [spread([r[model][size] for r in runs[name]]).median for size in batch_sizes] for name in (ALONE, TWO)
    )
    crossing = crossing_point([float(size) for size in batch_sizes], two, alone)
    if crossing is None:
        crosses = f"Two workers stay {'slower' if two[-1] < alone[-1] else 'faster'} at all batch sizes measured."
    else:
        crosses = f"Two workers are as fast as one process at a batch of about {crossing:,.0f}."
    note = f"{parameters}. {crosses} One process takes all {torch.get_num_threads()} threads, a worker one."
    return [
        Row(
            f"two workers, {model}, batch {size:,}",
            "one process",
            "images/s",
            [run[model][size] for run in runs[TWO]],
            [run[model][size] for run in runs[ALONE]],
            note=note,
        )
        for size in (batch_sizes[0], batch_sizes[-1])
    ]


def crossing_point(x: list[float], first: list[float], second: list[float]) -> float | None:
    """Find where the ratio of two curves reaches 1, by a straight line between the logarithms of neighbours.

    Args:
        x: above 0, in rising order.
        first: a value for each, above 0.
        second: likewise.

    Returns:
        The smallest such place; None if the curves do not cross.

    >>> round(crossing_point([1, 100], [1, 4], [2, 2]))
    10
    """
    logs = [math.log(a / b) for a, b in zip(first, second, strict=True)]
    for i in range(len(x) - 1):
        if logs[i] * logs[i + 1] <= 0 and logs[i] != logs[i + 1]:
            share = logs[i] / (logs[i] - logs[i + 1])
            return math.exp(math.log(x[i]) + share * math.log(x[i + 1] / x[i]))
    return None


def sweep_on_workers(config: dict[str, Any], num_workers: int, root: Path) -> Speeds:
    """Sweep on workers of Ray, as page 1's trainer starts them."""
    trainer = TorchTrainer(
        sweep,
        train_loop_config=config,
        scaling_config=ScalingConfig(num_workers=num_workers),
        run_config=RunConfig(storage_path=str(root), name=f"{num_workers} workers, {time.time_ns()}"),
    )
    return trainer.fit().return_value


def sweep(config: dict[str, Any]) -> Speeds:
    """Measure every model with every batch size: on this worker with the others, or alone."""
    world_size = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    return {
        name: {size: _speed(make_model, size, world_size, config["seconds"]) for size in config["batch_sizes"][name]}
        for name, make_model in MODELS.items()
    }


def _speed(make_model: Callable[[], nn.Module], batch_size: int, world_size: int, seconds: float) -> float:
    torch.manual_seed(0)
    model = prepare_model(make_model()) if world_size > 1 else make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    loss_fn = nn.CrossEntropyLoss()
    images, targets = torch.rand(batch_size // world_size, 1, 28, 28), torch.arange(batch_size // world_size) % 10

    def step() -> None:
        loss = loss_fn(model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def timed(num_steps: int) -> float:
        started = time.perf_counter()
        for _ in range(num_steps):
            step()
        took = torch.tensor(time.perf_counter() - started)
        if world_size > 1:  # the slowest counts, and all must agree on the number of steps
            torch.distributed.all_reduce(took, torch.distributed.ReduceOp.MAX)
        return float(took)

    timed(1)
    took = timed(1)
    num_steps = max(1, round(seconds / took))
    return num_steps * batch_size / (took if num_steps == 1 else timed(num_steps))


def _show(speeds: Speeds) -> str:
    return f"{speeds[next(iter(MODELS))][64]:,.0f} images/s at 64"
