"""How long the pages take: stored by `run_pages.py` as it measures, and shown by the site and nowhere typed."""

import json
import os
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypedDict

import nbformat

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "notebooks"
FILE = "run_times.json"


class RunTime(TypedDict):
    """One page on one machine: wall seconds from the start of its kernel to its end, and those of its longest cell."""

    cells: int
    seconds: float
    longest_cell_seconds: float
    cpus: int


def measured(start: float, cell_starts: Sequence[float], end: float) -> RunTime:
    """Sum up one run of a page.

    Args:
        start: when its kernel was started, in seconds of a monotonic clock.
        cell_starts: when each cell of code began, in their order.
        end: when the last one had ended.
    """
    longest = max((after - before for before, after in pairwise([*cell_starts, end])), default=0.0)
    return RunTime(
        cells=len(cell_starts),
        seconds=round(end - start, 1),
        longest_cell_seconds=round(longest, 1),
        cpus=os.cpu_count() or 1,
    )


def store(directory: Path, page: str, run_time: RunTime) -> None:
    """Put down how long one page took, beside what was measured of the others.

    Args:
        directory: where the executed pages are.
        page: the name of its file, without the ending.
        run_time: as measured.
    """
    times = load(directory) | {page: run_time}
    (directory / FILE).write_text(json.dumps(times, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load(directory: Path = PAGES) -> dict[str, RunTime]:
    """Read what was measured last, by page; nothing was, where there is no such file."""
    file = directory / FILE
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}


def pages() -> list[str]:
    """List the executed pages in their order: those with a number first."""
    return sorted(file.stem for file in PAGES.glob("*.ipynb"))


def title(page: str) -> str:
    """Read the heading of an executed page, and put its number before it: `1. Convert a PyTorch program to Ray`."""
    notebook = nbformat.read(PAGES / f"{page}.ipynb", as_version=4)
    heading = re.search(r"^# (.+)$", notebook.cells[0].source, re.MULTILINE)
    number = re.match(r"0*(\d+)_", page)
    text = heading[1] if heading else page
    return f"{number[1]}. {text}" if number else text


def table() -> str:
    """Make the Markdown table of all pages: how many cells each has, its seconds, and those of its longest cell."""
    times = load()
    rows = ["| Page | Cells | Seconds | Longest cell, s |", "| :--- | ---: | ---: | ---: |"]
    for page in pages():
        link = f"[{title(page)}](notebooks/{page}.ipynb)"
        if time := times.get(page):
            rows.append(f"| {link} | {time['cells']} | {time['seconds']:.0f} | {time['longest_cell_seconds']:.0f} |")
        else:
            rows.append(f"| {link} | | not measured | |")
    return "\n".join(rows)


def total() -> str:
    """Say how long all measured pages take, one after the other, and on what: `6 minutes on 2 CPUs`."""
    times = load().values()
    minutes = sum(time["seconds"] for time in times) / 60
    cpus = " or ".join(str(count) for count in sorted({time["cpus"] for time in times}))
    return f"{minutes:.0f} minutes on {cpus} CPUs"
