"""What holds for every page. Each check takes an executed page and returns what is wrong with it, in words.

That its cells compute what they should is for the page's own assertions and for nbval. nbval passes a cell that was
never executed, and a mistake that raises nothing: that is for the checks here.
"""

import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from shutil import copy

from jupytext.cli import jupytext
from nbformat import NotebookNode

TAGS = {"remove-cell", "hide-input", "hide-output", "raises-exception"}
SECTIONS = ("Check", "In practice", "On your own", "Next")
OPENING = ("You will build", "You need")
MAX_LINES = 15
MAX_CELLS = 45
NOISE = {
    "a path of one machine": r"(?<![\w.:/])/(?:tmp|home|root|work|Users|private|var|opt|usr|mnt)/",
    "a process id": r"\bpid\b\W{0,2}\d+",
    "a network address": r"\b\d{1,3}(?:\.\d{1,3}){3}\b",
    "a warning": r"\bWARN(?:ING)?\b|Warning:",
    "a traceback": r"Traceback \(most recent call last\)",
    "a time of day": r"\b\d{1,2}:\d{2}(?::\d{2})?\b",
    "a date": r"\b20\d\d-\d\d-\d\d\b",
    "an address in memory": r"\bat 0x[0-9a-f]+",
}

Check = Callable[[NotebookNode], list[str]]


def code_cells(page: NotebookNode) -> list[NotebookNode]:
    """List the cells that are executed, in their order."""
    return [cell for cell in page.cells if cell.cell_type == "code"]


def tags(cell: NotebookNode) -> set[str]:
    """Collect the tags of a cell."""
    return set(cell.metadata.get("tags", []))


def errors(cell: NotebookNode) -> list[NotebookNode]:
    """List the exceptions that a cell ended with."""
    return [output for output in cell.outputs if output.output_type == "error"]


def headings(page: NotebookNode) -> Iterator[tuple[int, int, str]]:
    """Yield (number of the cell, level, text without its number) of every heading outside of fenced code."""
    for number, cell in enumerate(page.cells):
        if cell.cell_type == "markdown":
            prose = re.sub(r"^(`{3,}|:{3,}).*?^\1", "", cell.source, flags=re.MULTILINE | re.DOTALL)
            for marks, text in re.findall(r"^(#+) +(?:\d+\. +)?(.+?) *$", prose, flags=re.MULTILINE):
                yield number, len(marks), text


def section(page: NotebookNode, title: str) -> list[NotebookNode]:
    """List the cells from one heading of the second level to the next one."""
    starts = [(number, text) for number, level, text in headings(page) if level == 2] + [(len(page.cells), "")]
    return [
        cell
        for (start, text), (end, _) in pairwise(starts)
        if text == title
        # Two headings may stand in one cell of text.
        for cell in page.cells[start : max(end, start + 1)]
    ]


def executed_in_order(page: NotebookNode) -> list[str]:
    """Every cell of code was executed, from top to bottom, in a fresh kernel."""
    counts = [cell.execution_count for cell in code_cells(page)]
    return [] if counts == list(range(1, len(counts) + 1)) else [f"the cells were executed as {counts}"]


def only_taught_mistakes_raise(page: NotebookNode) -> list[str]:
    """A cell ends with an exception if and only if it says that it teaches a mistake, and the next cell looks at it."""
    found = []
    cells = code_cells(page)
    for cell, following in zip(cells, [*cells[1:], None], strict=True):
        if "raises-exception" not in tags(cell):
            found += [f"{error.ename} in: {cell.source}" for error in errors(cell)]
        elif not errors(cell):
            found.append(f"a mistake that raises nothing: {cell.source}")
        elif following is None or "assert" not in following.source:
            found.append(f"no assertion follows the mistake: {cell.source}")
    return found


def known_tags(page: NotebookNode) -> list[str]:
    """No cell is skipped, left uncompared, or tagged with something that means nothing."""
    unknown = [f"tag {tag}: {cell.source}" for cell in page.cells for tag in tags(cell) - TAGS]
    return unknown + [f"comment for nbval: {cell.source}" for cell in code_cells(page) if "NBVAL_" in cell.source]


def texts(cell: NotebookNode) -> Iterator[str]:
    """Yield what a cell printed and returned. What it shows as Markdown is source code, which may name anything."""
    for output in cell.outputs:
        data = output.get("data", {})
        if "text/markdown" not in data:
            yield from (text for kind, text in data.items() if kind.startswith("text/"))
        yield output.get("text", "")
        yield output.get("evalue", "")


def quiet(page: NotebookNode) -> list[str]:
    """Outputs hold what a reader wants to see: no logs, and nothing that only one machine or one day has."""
    found = [
        f"{what}: {match.group()!r} in {text[:200]!r}"
        for cell in code_cells(page)
        for text in texts(cell)
        for what, pattern in NOISE.items()
        if (match := re.search(pattern, text))
    ]
    stderr = [output.text for cell in code_cells(page) for output in cell.outputs if output.get("name") == "stderr"]
    return found + [f"printed to stderr: {text[:200]!r}" for text in stderr]


def short_cells(page: NotebookNode) -> list[str]:
    """A cell shows one step, and a page can be read in one sitting."""
    found = [
        f"{n} lines: {cell.source}" for cell in code_cells(page) if (n := len(cell.source.splitlines())) > MAX_LINES
    ]
    return found + ([f"{n} cells of code"] if (n := len(code_cells(page))) > MAX_CELLS else [])


def skeleton(page: NotebookNode) -> list[str]:
    """A page says what it builds and needs, and ends as every page does. A solution is hidden until it is wanted."""
    titles = [text for _, level, text in headings(page) if level == 1]
    found = [] if len(titles) == 1 else [f"the titles of the page are {titles}"]
    opening = page.cells[0].source
    found += [f"the first cell does not say: {text}" for text in OPENING if text not in opening]
    sections = [text for _, level, text in headings(page) if level == 2]
    if tuple(sections[-len(SECTIONS) :]) != SECTIONS:
        found.append(f"the page ends with {sections[-len(SECTIONS) :]}")
    solutions = [cell for cell in section(page, "On your own") if cell.cell_type == "code"]
    if not solutions:
        found.append("no exercise has a solution")
    for cell in solutions:
        # Hidden on the site and in JupyterLab, which read different keys.
        if "hide-input" not in tags(cell) or not cell.metadata.get("jupyter", {}).get("source_hidden"):
            found.append(f"a solution that is not hidden: {cell.source}")
    return found


def asserted(page: NotebookNode) -> list[str]:
    """The section Check asserts what the page claims."""
    sources = [cell.source for cell in section(page, "Check") if cell.cell_type == "code"]
    return (
        [] if any(re.search(r"^\s*assert ", source, re.MULTILINE) for source in sources) else ["Check asserts nothing"]
    )


def images_described(page: NotebookNode) -> list[str]:
    """Every image has a text for those who cannot see it: `mystnb: {image: {alt: ...}}` in the metadata of its cell."""
    return [
        f"no text for the image of: {cell.source}"
        for cell in code_cells(page)
        if any(kind.startswith("image/") for output in cell.outputs for kind in output.get("data", {}))
        and not cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "").strip()
    ]


def nothing_of_the_kernel(page: NotebookNode) -> list[str]:
    """Nothing is stored that is dead without its kernel (widgets), or that differs between machines (versions)."""
    found = sorted(set(page.metadata) - {"jupytext", "kernelspec", "language_info"})
    found += [f"language_info.{key}" for key in set(page.metadata.language_info) - {"name", "pygments_lexer"}]
    found += [
        f"metadata {set(cell.metadata)}" for cell in page.cells if set(cell.metadata) - {"tags", "mystnb", "jupyter"}
    ]
    kinds = [kind for cell in code_cells(page) for output in cell.outputs for kind in output.get("data", {})]
    return found + [kind for kind in kinds if "widget" in kind]


CHECKS: tuple[Check, ...] = (
    executed_in_order,
    only_taught_mistakes_raise,
    known_tags,
    quiet,
    short_cells,
    skeleton,
    asserted,
    images_described,
    nothing_of_the_kernel,
)


def out_of_step(source: Path, directory: Path) -> list[str]:
    """Name the files of a pair that `jupytext --sync` would change. It works on a copy in `directory`."""
    pair = (source.with_suffix(".ipynb"), source)
    # The source is copied last, so that jupytext takes it for the newer one.
    copies = [Path(copy(file, directory)) for file in (source.parent / "jupytext.toml", *pair)][1:]
    jupytext(["--quiet", "--sync", str(copies[-1])])
    return [file.name for file, copied in zip(pair, copies, strict=True) if file.read_bytes() != copied.read_bytes()]
