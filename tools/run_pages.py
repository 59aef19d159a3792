"""Execute the pages: into `_build/pages` (`make run`), or into the notebooks beside their sources (`make sync`).

The outputs of a page are the same on every run, as long as its cells print the same: times, versions, ids that
are drawn at random and the paths in a traceback are left out of what is stored.
"""

# ruff: noqa: T201 (a command prints)

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import jupytext
import nbformat
from jupytext.cli import jupytext as jupytext_command
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from run_times import RunTime, measured, store

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "notebooks"
CELL_TIMEOUT_S = 240
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


class ProgressBar:
    """One line for one page: how many of its cells are done, and the seconds so far."""

    WIDTH = 24

    def __init__(self, name: str, total: int) -> None:
        self.name, self.total = name, total
        self.started = self.done = 0
        self.start = time.monotonic()
        self.cell_starts: list[float] = []
        self.live = sys.stdout.isatty()
        self._finished = threading.Event()
        # The seconds go on while a long cell runs, so that nobody takes it for a page that hangs.
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Self:
        self._ticker.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end = time.monotonic()
        self._finished.set()
        self._ticker.join()
        if error is None:
            self.done = self.total
        self._draw(end="\n")

    def _tick(self) -> None:
        while self.live and not self._finished.wait(timeout=0.5):
            self._draw(end="")

    def _draw(self, end: str) -> None:
        filled = self.WIDTH * self.done // max(self.total, 1)
        bar = "█" * filled + "░" * (self.WIDTH - filled)
        seconds = time.monotonic() - self.start
        line = f"{bar} {self.done:3d}/{self.total} cells {seconds:5.0f} s  {self.name}"
        print(f"\r\033[K{line}" if self.live else line, end=end, flush=True)

    def start_cell(self, **_: object) -> None:
        """Count the cells before the one that starts now."""
        self.cell_starts.append(time.monotonic())
        self.started += 1
        self.done = self.started - 1

    def run_time(self) -> RunTime:
        """Tell how long the page took, once it is done."""
        return measured(self.start, self.cell_starts, self.end)


def execute(source: Path) -> tuple[NotebookNode, RunTime]:
    """Run one page in a fresh kernel, where a reader runs it; give it back with its outputs, and how long it took."""
    notebook = jupytext.read(source)
    num_cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    with ProgressBar(source.stem, num_cells) as bar:
        client = NotebookClient(
            notebook,
            timeout=CELL_TIMEOUT_S,
            resources={"metadata": {"path": str(source.parent)}},
            record_timing=False,
            store_widget_state=False,
            coalesce_streams=True,
            on_cell_execute=bar.start_cell,
            # Asked politely, the kernel first ends the Ray that it started and then waits for it in vain.
            shutdown_kernel="immediate",
        )
        # What the page prints comes back as its output. This is the kernel's own chatter, and that of the dying Ray.
        client.execute(stderr=subprocess.DEVNULL)
    return tidy(notebook), bar.run_time()


def tidy(notebook: NotebookNode) -> NotebookNode:
    """Leave out what differs from run to run, or that nobody can use once the kernel is gone."""
    language = NotebookNode(name="python", pygments_lexer="ipython3")
    # The version of Python is no part of the page; the lexer is what jupytext writes behind `{code-cell}`.
    notebook.metadata = NotebookNode(
        jupytext=NotebookNode(default_lexer=language.pygments_lexer),
        # As JupyterLab writes it, so that saving a page there changes nothing in its source.
        kernelspec=NotebookNode(display_name="Python 3 (ipykernel)", language="python", name="python3"),
        language_info=language,
    )
    for number, cell in enumerate(notebook.cells, start=1):
        cell.id = f"cell-{number:02d}"
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                # The frames of the traceback hold paths of this machine, and Lab colours the rest.
                output.traceback = [f"{output.ename}: {output.evalue}"]
            elif "data" in output:
                # Without its kernel a widget is an error message. The image or the text beside it stands in for it.
                output.data.pop(WIDGET_VIEW, None)
    return notebook


def run_page(source: Path, directory: Path, *, sync: bool) -> None:
    """Execute one page and write it to `directory` as a notebook. `sync` brings source and notebook into one form."""
    target = directory / f"{source.stem}.ipynb"
    notebook, run_time = execute(source)
    nbformat.write(notebook, target)
    store(directory, source.stem, run_time)
    if sync:
        jupytext_command(["--quiet", "--sync", str(target)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Execute the pages that were named, or all. Return the exit status: 1 as soon as one of them fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("pages", nargs="*", type=Path, help="notebooks/name.md; all of them when none is named")
    parser.add_argument("--into", type=Path, default=ROOT / "_build" / "pages", help="where the notebooks are written")
    parser.add_argument("--sync", action="store_true", help="rewrite the notebooks beside their sources instead")
    options = parser.parse_args(arguments)
    for source in options.pages or sorted(PAGES.glob("*.md")):
        directory = source.parent if options.sync else options.into
        directory.mkdir(parents=True, exist_ok=True)
        try:
            run_page(source, directory, sync=options.sync)
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            print(f"\n{source.name} failed:\n{error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
