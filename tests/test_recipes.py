"""Each recipe is one cell that runs alone, pasted into an empty file, and prints what the page shows."""

import ast
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import jupytext
import nbformat
import psutil
import pytest

PAGE = Path(__file__).parent.parent / "notebooks" / "recipes.md"
MAX_LINES = 40
# What a project has that uses PyTorch and ray[data,train,tune,serve]: the two, and what they bring along.
ALLOWED = {
    "torch",
    "torchvision",
    "ray",
    "numpy",
    "pandas",
    "pyarrow",
    "PIL",
    "fastapi",
    "pydantic",
    "requests",
    "filelock",
}
TIMEOUT_S = 240


class Recipe(NamedTuple):
    """One section of the page: its title, what is said before and after its cells, and their sources."""

    title: str
    prose: str
    cells: list[str]


def read_recipes() -> list[Recipe]:
    recipes = []
    for cell in jupytext.read(PAGE).cells:
        if cell.cell_type == "code":
            if recipes:  # before the first recipe, the page sets itself up
                recipes[-1].cells.append(cell.source)
            continue
        for text in re.split(r"^(?=## )", cell.source, flags=re.MULTILINE):
            if title := re.match(r"## (.+)", text):
                recipes.append(Recipe(title[1], text, []))
            elif recipes:
                recipes[-1] = recipes[-1]._replace(prose=f"{recipes[-1].prose}\n{text}")
    return recipes


RECIPES = read_recipes()
every_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.title.lower().replace(" ", "-"))


def imported(source: str) -> set[str]:
    """Name the packages that a program imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            found.add(node.module.partition(".")[0])
    return found


def test_the_table_leads_to_every_recipe() -> None:
    assert len(RECIPES) >= 14
    beginning = jupytext.read(PAGE).cells[0].source
    rows = re.findall(r"^\| .+ \| \[(.+)\]\(#(.+)\) \|$", beginning, flags=re.MULTILINE)
    assert [title for title, _ in rows] == [recipe.title for recipe in RECIPES]
    assert [anchor for _, anchor in rows] == [title.lower().replace(" ", "-") for title, _ in rows]


@every_recipe
def test_a_recipe_is_one_short_cell_with_when_to_use_it_and_what_to_change(recipe: Recipe) -> None:
    (source,) = recipe.cells
    assert sum(1 for line in source.splitlines() if line.strip()) <= MAX_LINES
    assert max(map(len, source.splitlines())) <= 120
    assert imported(source) <= ALLOWED | sys.stdlib_module_names
    assert re.search(r"^\s*assert |assert_close\(", source, flags=re.MULTILINE), "nothing is checked"
    when, change = recipe.prose.find("**When.**"), recipe.prose.find("**Change.**")
    assert 0 < when < change
    pages = re.findall(r"\]\((\d\d_\w+\.md)\)", recipe.prose)
    assert pages
    assert all((PAGE.parent / page).exists() for page in pages)


class Run(NamedTuple):
    """How a recipe ended that was run alone, and what is left of it."""

    returncode: int
    stdout: str
    stderr: str
    files: list[str]
    processes: list[str]


def run_alone(recipe: Recipe, directory: Path) -> Run:
    """Paste a recipe into an empty file in an empty directory, and run that in a process of its own."""
    place, temporary = directory / "empty", directory / "tmp"
    place.mkdir()
    temporary.mkdir()
    (place / "program.py").write_text(recipe.cells[0])
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "GLOO_", "NCCL_"))}
    mark = {"AIR_TUTORIALS_RECIPE": str(directory)}  # all that the program starts inherits it
    quick = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2"}  # spares seconds at the end of each training, and nothing else
    # Ray would put its sockets below TMPDIR, where their paths become too long.
    places = {"TMPDIR": str(temporary), "RAY_TMPDIR": tempfile.gettempdir()}
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=place,
        env={**environment, **mark, **quick, **places},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    deadline = time.monotonic() + 120  # Ray's agents notice late that their raylet is gone
    while (left := with_environment(mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    files = sorted(path.name for path in place.iterdir() if path.name != "program.py")
    return Run(done.returncode, done.stdout, done.stderr, files, left)


def with_environment(mark: dict[str, str]) -> list[str]:
    """Name the living processes that were started with a mark in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and mark.items() <= process.environ().items():
                found.append(process.name())
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="module")
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Run]]]:
    """Run those recipes whose tests were asked for, two at a time: most of each is waiting for processes to start."""
    # A cell that nbval runs is an item, too, and has no fixtures.
    wanted = [
        item.callspec.params["recipe"] for item in request.session.items if "runs" in getattr(item, "fixturenames", ())
    ]
    with ThreadPoolExecutor(max_workers=2) as pool:
        yield {recipe.title: pool.submit(run_alone, recipe, tmp_path_factory.mktemp("recipe")) for recipe in wanted}


@every_recipe
def test_a_recipe_runs_alone_and_prints_what_the_page_shows(recipe: Recipe, runs: dict[str, Future[Run]]) -> None:
    run = runs[recipe.title].result()
    assert run.returncode == 0, run.stderr[-5000:]
    assert "Traceback" not in run.stderr, run.stderr[-5000:]
    printed = printed_on_the_page(recipe)
    assert printed
    # Whole lines, in their order. Between them, outside of a notebook, Ray tells of what it does itself.
    lines = iter(run.stdout.splitlines())
    assert [line for line in printed.splitlines() if line not in lines] == [], run.stdout
    assert len(printed.splitlines()) <= 10
    assert run.files == []
    assert run.processes == []


def printed_on_the_page(recipe: Recipe) -> str:
    notebook = nbformat.read(PAGE.with_suffix(".ipynb"), as_version=4)
    (outputs,) = (cell.outputs for cell in notebook.cells if cell.source == recipe.cells[0])
    assert {output.get("name") for output in outputs} == {"stdout"}
    return "".join(output.text for output in outputs)


def test_an_import_is_found_wherever_it_stands() -> None:
    source = "import os.path\ndef f():\n    from air_tutorials.cluster import local_cluster\n    import optuna as o"
    assert imported(source) == {"os", "air_tutorials", "optuna"}
