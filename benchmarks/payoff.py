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
from benchmarks.measure import Curve, Row, Settings, alternate, say, spread
from benchmarks.programs import make_conv_net, make_mlp, num_parameters

Speeds = dict[str, dict[int, float]]  # images per second by model and global batch size

MODELS: dict[str, Callable[[], nn.Module]] = {
    "page 1's MLP": partial(make_mlp, 512),
    "an MLP four times as wide": partial(make_mlp, 2048),
    "a small network of convolutions": make_conv_net,
}
# A step of convolutions on 1,024 images takes a second and more, and shows nothing that one on 256 does not.
BATCH_SIZES = {name: [64, 256, 1024, 4096] for name in MODELS} | {"a small network of convolutions": [16, 64, 256]}
ALONE, TWO, FOUR = "1 process", "2 workers", "4 workers"


def measure(settings: Settings) -> tuple[list[Row], list[Curve]]:
    """Sweep all models and batch sizes with one process and two workers in turns, and once with four workers."""
    local_cluster(num_cpus=4)
    num_sizes = settings.pick(None, 2)
    batch_sizes = {name: sizes[:num_sizes] for name, sizes in BATCH_SIZES.items()}
    config = {"batch_sizes": batch_sizes, "seconds": settings.pick(0.2, 0.05), "threads": torch.get_num_threads()}
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        say(f"  {settings.pairs} pairs in one run of two workers: a line at its end")
        in_turns = run_on_workers(sweep_in_turns, config | {"pairs": settings.pairs}, 2, root)
        for name, results in in_turns.items():
            say(f"  {name:<34} {', '.join(map(_show, results))}")
        four = alternate({FOUR: lambda: run_on_workers(sweep, config, 4, root)}, 1, _show)  # on the curves alone
    runs: dict[str, list[Speeds]] = in_turns | four
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


def run_on_workers(train_func: Callable[..., Any], config: dict[str, Any], num_workers: int, root: Path) -> Any:
    """Run a function on workers of Ray, as page 1's trainer starts them, and return what the first one returned."""
    trainer = TorchTrainer(
        train_func,
        train_loop_config=config,
        scaling_config=ScalingConfig(num_workers=num_workers),
        run_config=RunConfig(storage_path=str(root), name=f"{num_workers} workers, {time.time_ns()}"),
    )
    return trainer.fit().return_value


def sweep_in_turns(config: dict[str, Any]) -> dict[str, list[Speeds]]:
    """Measure this worker alone, with all threads, while the others wait; then all of them together; and so on."""
    results: dict[str, list[Speeds]] = {ALONE: [], TWO: []}
    for _ in range(config["pairs"]):
        if torch.distributed.get_rank() == 0:
            num_threads = torch.get_num_threads()
            torch.set_num_threads(config["threads"])
            results[ALONE].append(sweep(config, alone=True))
            torch.set_num_threads(num_threads)
        torch.distributed.barrier()
        results[TWO].append(sweep(config))
    return results


def sweep(config: dict[str, Any], alone: bool = False) -> Speeds:
    """Measure every model with every batch size, together with the other workers or alone."""
    world_size = 1 if alone else torch.distributed.get_world_size()
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
