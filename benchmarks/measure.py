"""Measure one thing against another: in turns, several times, with the spread. Nothing here knows what is measured."""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal, NamedTuple

ROOT = Path(__file__).parent.parent

Compare = Literal["ratio", "difference", "value"]


class Spread(NamedTuple):
    """A median with the smallest and the largest of what it is the median of."""

    median: float
    lowest: float
    highest: float


@dataclass
class Row:
    """One line of the table: what was measured, against what, and what was to be reached.

    Attributes:
        what: the thing of this package that was measured.
        peer: what it is compared with; empty for a bare number.
        unit: of ``ours`` and ``peers``.
        ours: a number for each pair, in the order in which they were measured.
        peers: its partner of the same pair; empty for a bare number.
        compare: ``"ratio"``: ours / peer's; ``"difference"``: ours - peer's; ``"value"``: ours alone.
        at_least: what the median of these must reach; None if there is no such bound.
        at_most: what it must not exceed; likewise.
        note: what a reader must know to judge the number; more about it, measured in the same run.
    """

    what: str
    peer: str
    unit: str
    ours: list[float]
    peers: list[float] = field(default_factory=list)
    compare: Compare = "ratio"
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    def values(self) -> list[float]:
        """Compare each pair."""
        if self.compare == "value":
            return self.ours
        pairs = zip(self.ours, self.peers, strict=True)
        return [ours / peer if self.compare == "ratio" else ours - peer for ours, peer in pairs]

    def spread(self) -> Spread:
        """Return the median of the pairs' comparisons, not the comparison of medians."""
        return spread(self.values())

    def is_met(self) -> bool | None:
        """Tell whether the target is reached; None if there is none."""
        if self.at_least is None and self.at_most is None:
            return None
        middle = self.spread().median
        return (self.at_least is None or middle >= self.at_least) and (self.at_most is None or middle <= self.at_most)


@dataclass
class Curve:
    """A measured line for a plot: ``y`` against ``x``, of one ``name`` in one ``panel``."""

    panel: str
    name: str
    x: list[float]
    y: list[float]


@dataclass
class Settings:
    """How much is measured.

    Attributes:
        pairs: how often each comparison is repeated.
        quick: measure tiny sizes, to see that everything runs. The numbers then mean nothing.
    """

    pairs: int = 5
    quick: bool = False

    def pick(self, full: Any, quick: Any) -> Any:
        """Return the first, or the second when only tiny sizes are measured."""
        return quick if self.quick else full


def spread(values: list[float]) -> Spread:
    """Return median, minimum and maximum."""
    return Spread(median(values), min(values), max(values))


def alternate(
    contenders: Mapping[str, Callable[[], Any]], pairs: int, show: Callable[[Any], str] = str
) -> dict[str, list[Any]]:
    """Let each contender run once, then each again, and so on: what disturbs the machine disturbs all of them.

    Args:
        contenders: by name, a function that does the work once and returns what it measured.
        pairs: how many rounds.
        show: turns what one returned into a few words for the progress line.

    Returns:
        By name, what was returned in each round.
    """
    results: dict[str, list[Any]] = {name: [] for name in contenders}
    for number in range(pairs):
        for name, run in contenders.items():
            started = time.perf_counter()
            results[name].append(run())
            took = time.perf_counter() - started
            say(f"  {number + 1}/{pairs}  {name:<34} {show(results[name][-1]):<24} {took:6.1f} s")
    return results


def python(*arguments: str) -> tuple[list[str], dict[str, Any]]:
    """Return the command and the options of ``subprocess`` for another Python that finds this package, and no GPU.

    All sides are measured on the CPU: some of them would take a GPU that is there, and others not.

    Args:
        arguments: of the interpreter.
    """
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""}
    return [sys.executable, *arguments], {"cwd": ROOT, "env": environment}


def seconds(work: Callable[[], Any]) -> float:
    """Return how long a function took."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def say(line: str) -> None:
    """Print progress at once, also into a pipe."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def fit_line(x: list[float], y: list[float]) -> tuple[float, float, float]:
    """Fit a straight line by least squares.

    Returns:
        Slope, value at 0, and the share of the variance that the line explains (R²; 1 is a straight line).
    """
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)
    at_zero = mean_y - slope * mean_x
    left = sum((b - at_zero - slope * a) ** 2 for a, b in zip(x, y, strict=True))
    total = sum((b - mean_y) ** 2 for b in y)
    return slope, at_zero, 1 - left / total if total else 1.0


def save_family(path: Path, rows: list[Row], curves: list[Curve]) -> None:
    """Write down what one family of measurements found."""
    path.write_text(json.dumps({"rows": [asdict(row) for row in rows], "curves": [asdict(curve) for curve in curves]}))
