"""Every page keeps what CONTRIBUTING promises about pages, and every check can tell a page that does not."""

from collections.abc import Callable
from pathlib import Path
from shutil import copy

import nbformat
import page_checks
import pytest
from jupytext.cli import jupytext
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from page_checks import CHECKS, Check, out_of_step

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
PAGES = sorted(NOTEBOOKS.glob("*.md"))
# Recipes are programs to paste: longer than a cell that teaches a step, in no order. test_recipes.py runs each alone.
NOT_FOR_RECIPES = {"short_cells", "skeleton", "asserted"}
every_page = pytest.mark.parametrize("source", PAGES, ids=lambda source: source.stem)


def read(source: Path) -> NotebookNode:
    return nbformat.read(source.with_suffix(".ipynb"), as_version=4)


def test_there_are_pages() -> None:
    assert PAGES
    assert [page.with_suffix(".ipynb") for page in PAGES] == sorted(NOTEBOOKS.glob("*.ipynb"))


@every_page
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_page(source: Path, check: Check) -> None:
    if source.stem == "recipes" and check.__name__ in NOT_FOR_RECIPES:
        return
    assert check(read(source)) == []


@every_page
def test_a_page_is_in_step_with_its_source(source: Path, tmp_path: Path) -> None:
    assert out_of_step(source, tmp_path) == [], "run `make sync`"


def good_page() -> NotebookNode:
    """Build a small page with which all is well."""
    drawn = new_output("display_data", {"image/png": "", "text/plain": "<Figure>"})
    cells = [
        new_markdown_cell("# Do a thing\n\n**You will build** it. **You need** nothing.\n\n```\n# no title\n```"),
        new_code_cell("print(1)", outputs=[new_output("stream", name="stdout", text="1\n")]),
        new_code_cell("draw()", outputs=[drawn], metadata={"mystnb": {"image": {"alt": "A line."}}}),
        new_code_cell("show_source(f)", outputs=[new_output("display_data", {"text/markdown": "127.0.0.1"})]),
        new_code_cell("1 / 0", outputs=[mistake()], metadata={"tags": ["raises-exception"]}),
        new_code_cell('assert str(error) == "division by zero"'),
        new_markdown_cell("## 3. Check"),
        new_code_cell("assert 1 == 1"),
        new_markdown_cell("## In practice\n\n## On your own"),
        new_code_cell("pass", metadata={"tags": ["hide-input"], "jupyter": {"source_hidden": True}}),
        new_markdown_cell("## Next"),
    ]
    for number, cell in enumerate((cell for cell in cells if cell.cell_type == "code"), start=1):
        cell.execution_count = number
    kernelspec = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernelspec, "language_info": {"name": "python"}})


def mistake() -> NotebookNode:
    return new_output("error", ename="ZeroDivisionError", evalue="division by zero", traceback=[])


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_good_page_passes(check: Check) -> None:
    assert check(good_page()) == []


def set_output(number: int, output: NotebookNode) -> Callable[[NotebookNode], None]:
    return lambda page: page.cells[number].update(outputs=[output])


def set_source(number: int, source: str) -> Callable[[NotebookNode], None]:
    return lambda page: page.cells[number].update(source=source)


def set_metadata(number: int, **metadata: object) -> Callable[[NotebookNode], None]:
    return lambda page: page.cells[number].update(metadata=nbformat.from_dict(metadata))


def printed(text: str, name: str = "stdout") -> Callable[[NotebookNode], None]:
    return set_output(1, new_output("stream", name=name, text=text))


FAULTS = [
    ("executed_in_order", lambda page: page.cells[1].update(execution_count=None)),
    ("executed_in_order", lambda page: page.cells[1].update(execution_count=7)),
    ("executed_in_order", lambda page: page.cells.insert(1, new_code_cell("pass"))),
    ("only_taught_mistakes_raise", set_output(1, mistake())),
    ("only_taught_mistakes_raise", set_output(4, new_output("stream", text="0"))),
    ("only_taught_mistakes_raise", set_source(5, "print(error)")),
    ("only_taught_mistakes_raise", lambda page: page.cells[7].update(page.cells[4])),
    ("known_tags", set_metadata(1, tags=["nbval-skip"])),
    ("known_tags", set_source(1, "# NBVAL_IGNORE_OUTPUT\nprint(1)")),
    ("quiet", printed("saved to /tmp/ray/1")),
    ("quiet", printed("in '/home/me/data'")),
    ("quiet", printed("(train pid=4711) loss 3")),
    ("quiet", printed("listening on 10.0.0.7")),
    ("quiet", printed("WARNING worker.py")),
    ("quiet", printed("UserWarning: no")),
    ("quiet", printed("Traceback (most recent call last):")),
    ("quiet", printed("started at 12:31")),
    ("quiet", printed("on 2026-11-21")),
    ("quiet", printed("<Model at 0x7f00ab>")),
    ("quiet", printed("hello", name="stderr")),
    ("quiet", set_output(1, new_output("execute_result", {"text/html": "<b>/root/x</b>"}))),
    ("quiet", set_output(4, new_output("error", ename="E", evalue="ip=10.0.0.7", traceback=[]))),
    ("short_cells", set_source(1, "pass\n" * 16)),
    ("short_cells", lambda page: page.cells.extend([new_code_cell("pass")] * 45)),
    ("skeleton", set_source(0, "# Do a thing\n\n**You need** nothing.")),
    ("skeleton", set_source(0, "You will build, You need")),
    ("skeleton", set_source(6, "# Check")),
    ("skeleton", set_source(10, "## Then")),
    ("skeleton", set_metadata(9, tags=["hide-input"])),
    ("skeleton", set_metadata(9, jupyter={"source_hidden": True})),
    ("skeleton", lambda page: page.cells.pop(9)),
    ("asserted", set_source(7, "print('fine')")),
    ("asserted", set_source(6, "## Other")),
    ("images_described", set_metadata(2)),
    ("images_described", set_metadata(2, mystnb={"image": {"alt": " "}})),
    ("nothing_of_the_kernel", lambda page: page.metadata.update(widgets={})),
    ("nothing_of_the_kernel", lambda page: page.metadata.language_info.update(version="3.11")),
    ("nothing_of_the_kernel", set_metadata(1, execution={"iopub.execute_input": "now"})),
    (
        "nothing_of_the_kernel",
        set_output(1, new_output("display_data", {"application/vnd.jupyter.widget-view+json": {"model_id": "7"}})),
    ),
]


@pytest.mark.parametrize(("check", "spoil"), FAULTS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_check_finds_a_fault(check: str, spoil: Callable[[NotebookNode], None]) -> None:
    page = good_page()
    spoil(page)
    assert getattr(page_checks, check)(page)


def test_every_check_is_tried_with_a_fault() -> None:
    assert {name for name, _ in FAULTS} == {check.__name__ for check in CHECKS}


@pytest.mark.parametrize("changed", [None, ".md", ".ipynb"])
def test_a_pair_out_of_step_is_found(tmp_path: Path, changed: str | None) -> None:
    source = tmp_path / "pair" / "01_do.md"
    source.parent.mkdir()
    copy(NOTEBOOKS / "jupytext.toml", source.parent)
    nbformat.write(good_page(), source.with_suffix(".ipynb"))
    jupytext(["--quiet", "--sync", str(source.with_suffix(".ipynb"))])
    jupytext(["--quiet", "--sync", str(source)])
    if changed:
        file = source.with_suffix(changed)
        file.write_text(file.read_text().replace("print(1)", "print(2)"))
    assert out_of_step(source, tmp_path) == ([source.with_suffix(".ipynb").name] if changed else [])
