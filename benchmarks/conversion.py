"""How many lines change when page 1's program moves to several processes: counted by the diff that page 1 shows."""

import importlib
import importlib.util
from collections.abc import Callable
from types import ModuleType

from air_tutorials import baseline, trainer
from air_tutorials.display import count_changed_lines
from benchmarks.measure import Curve, Row, Settings, say

# What ``train_func`` calls that the plain program lacks, and that somebody has to write: by the module's name.
HELPERS = {
    "air_tutorials.trainer": ["shard_without_padding", "resume", "seed_epoch", "reduce_over_workers", "report"],
    "benchmarks.with_ddp": ["shard_without_padding", "resume", "seed_epoch", "reduce_over_workers", "save"],
    "benchmarks.with_accelerate": ["shard_without_padding", "resume", "seed_epoch", "reduce_over_workers", "save"],
    "benchmarks.with_fabric": ["shard_without_padding", "resume", "seed_epoch", "reduce_over_workers", "save"],
}
PEERS = {
    "hand-written DDP": "benchmarks.with_ddp",
    "Accelerate": "benchmarks.with_accelerate",
    "Lightning Fabric": "benchmarks.with_fabric",
}


def measure(_settings: Settings) -> tuple[list[Row], list[Curve]]:
    """Count for each peer; nothing here varies from run to run."""
    rows = []
    ours, with_helpers = changed_lines(trainer), changed_lines(trainer) + helper_lines(trainer)
    for name, module_name in PEERS.items():
        module = importlib.import_module(module_name)
        theirs = changed_lines(module)
        say(f"  {name}: {theirs} changed lines, ours {ours}")
        note = (
            f"Without the helpers that each calls; with them, {with_helpers} lines against "
            f"{theirs + helper_lines(module)}. All give the same metrics and checkpoints, and go on after a crash."
        )
        rows.append(
            Row("changed lines of `train_func`", name, "lines", [ours], [theirs], "difference", at_most=0, note=note)
        )
    return rows, []


def changed_lines(module: ModuleType) -> int:
    """Count the lines in which a twin's ``train_func`` differs from the plain program's."""
    return count_changed_lines(baseline.train_func, module.train_func)


def helper_lines(module: ModuleType) -> int:
    """Count the lines of code of the functions that a twin's ``train_func`` needs beside it."""
    return sum(_num_lines(getattr(module, name)) for name in HELPERS[module.__name__])


def _num_lines(function: Callable) -> int:
    # Nothing in common with the function: to turn one into the other, every line of the longer one changes.
    return count_changed_lines(function, _nothing)


def _nothing() -> None: ...
