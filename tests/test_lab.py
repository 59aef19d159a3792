"""The explorers in a real JupyterLab: a page is opened by a double click and run, and every control is moved."""

import html
import re
from collections.abc import Iterator
from pathlib import Path
from shutil import copy

import nbformat
import pytest
from browser import open_browser
from lab_server import lab_server
from playwright.sync_api import Locator, Page, expect

from air_tutorials.datasets import load_fashion_mnist
from air_tutorials.explorer import Explorer

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
# One cell for each explorer. The test runs the same lines, and so knows what is to be shown.
SOURCES = {
    "shards": "from air_tutorials.shard_explorer import explore_shards\n\nexplore_shards()",
    "conversion": """
from air_tutorials.conversion_explorer import explore_conversion
from air_tutorials.datasets import load_fashion_mnist

training_data, test_data = load_fashion_mnist(train=True), load_fashion_mnist(train=False)
explore_conversion(training_data, test_data)
""",
    "predictions": """
import torch
from air_tutorials.prediction_explorer import explore_predictions

images, labels = test_data.images[:300], test_data.labels[:300]
torch.manual_seed(0)
probabilities = torch.nn.functional.one_hot(labels, 10).add(1.5 * torch.rand(300, 10)).mul(3).softmax(dim=1)
explore_predictions(images, labels, probabilities, classes=test_data.classes)
""",
}
STALE = "stored by an earlier run"
# What nobody draws in a minute is not drawn at all; a busy machine needs a while.
PATIENCE_MS = 45_000


def write_pages(directory: Path) -> None:
    """Write a page as this project does: a .md by hand, and a notebook beside it that holds the outputs."""
    import jupytext

    directory.mkdir()
    copy(NOTEBOOKS / "jupytext.toml", directory)
    cells = [nbformat.v4.new_markdown_cell("# Explorers")]
    for name, source in SOURCES.items():
        cells.append(nbformat.v4.new_code_cell(source.strip(), id=name))
        cells[-1].outputs = [nbformat.v4.new_output("stream", name="stdout", text=STALE)]
    kernelspec = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernelspec})
    nbformat.write(notebook, directory / "page.ipynb")
    jupytext.write(notebook, directory / "page.md", fmt="md:myst")


def open_page(page: Page, url: str) -> None:
    """Open the page by a double click on its .md, throw the stored outputs away, and run it."""
    page.goto(f"{url}/lab")
    page.locator(".jp-DirListing-item", has_text="page.md").dblclick()
    panel = page.locator(".jp-NotebookPanel")
    expect(panel).to_be_visible()
    expect(page.locator(".lm-DockPanel-tabBar .lm-TabBar-tab")).to_contain_text(["page.md"])
    stale = panel.get_by_text(STALE, exact=True)
    expect(stale).to_have_count(len(SOURCES))
    # A cell that is run before there is a kernel is not run.
    expect(page.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible()
    choose(page, "Edit", "Clear Outputs of All Cells")
    expect(stale).to_have_count(0)
    choose(page, "Run", "Run All Cells")


def choose(page: Page, menu: str, entry: str) -> None:
    page.locator(".lm-MenuBar-item", has_text=menu).first.click()
    page.locator(".lm-Menu-item", has_text=entry).first.click()


def show(place: Locator, explorer: Explorer) -> None:
    """Expect that every word of what the explorer of this process answers stands there, and nothing else."""
    words = html.unescape(re.sub(r"<[^>]+>", "", explorer.answer.markup))
    answer = place.locator(".widget-html-content").last.element_handle()
    has_words = "([node, words]) => node.textContent.replace(/\\s+/g, '') === words"
    place.page.wait_for_function(has_words, arg=[answer, re.sub(r"\s+", "", words)])


@pytest.fixture(scope="module")
def in_lab(tmp_path_factory: pytest.TempPathFactory, data_root: Path) -> Iterator[tuple[Page, dict[str, Explorer]]]:
    directory = tmp_path_factory.mktemp("lab")
    write_pages(directory / "pages")
    load_fashion_mnist(data_root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIR_TUTORIALS_DATA", str(data_root))
        names: dict[str, object] = {}
        explorers = {}
        for name, source in SOURCES.items():
            *lines, last = source.strip().splitlines()
            exec("\n".join(lines), names)
            explorers[name] = eval(last, names)
    with lab_server(directory, data_root) as url, open_browser() as browser:
        # High enough that no cell is out of sight: JupyterLab draws only what is seen.
        page = browser.new_context(viewport={"width": 1400, "height": 4000}).new_page()
        page.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        open_page(page, url)
        yield page, explorers
        expect.set_options(timeout=5000)


def cell(page: Page, name: str) -> Locator:
    return page.locator(".jp-CodeCell").nth(list(SOURCES).index(name))


MOVES = {
    "shards": [
        ("shuffle", True),
        ("set_epoch", False),
        ("epoch", 3),
        ("num_rows", 11),
        ("num_workers", 4),
        ("batch_size_per_worker", 1),
        ("remainder", "drop rows (drop_last)"),
        ("remainder", "neither (shard_without_padding)"),
    ],
    "conversion": [
        ("batch_size_per_worker", False),
        ("num_workers", 3),
        ("prepare_model", False),
        ("prepare_data_loader", False),
        ("batch_size_per_worker", True),
        ("prepare_model", True),
        ("shard_without_padding", False),
        ("reduce_over_workers", False),
        ("report", False),
        ("resume", False),
        ("seed_epoch", False),
        ("unwrap_model", False),
    ],
    "predictions": [
        ("position", 2),
        ("true_class", "Shirt"),
        ("only_mistakes", False),
        ("highest", 40),
        ("true_class", "any"),
        ("predicted_class", "Bag"),
        ("lowest", 35),
    ],
}


def move(control: Locator, value: object) -> None:
    """Move a control as a hand does."""
    if isinstance(value, bool):
        control.set_checked(value)
    elif control.evaluate("node => node.tagName") == "SELECT":
        control.select_option(label=str(value))
    else:
        control.fill(str(value))
        control.press("Enter")


@pytest.mark.parametrize("name", SOURCES)
def test_every_control_of_an_explorer_changes_what_is_shown(
    in_lab: tuple[Page, dict[str, Explorer]], name: str
) -> None:
    page, explorers = in_lab
    place, explorer = cell(page, name), explorers[name]
    show(place, explorer)
    assert {control for control, _ in MOVES[name]} == set(explorer.controls)
    for control, value in MOVES[name]:
        before = explorer.answer
        explorer.controls[control].value = value
        assert explorer.answer != before, (control, value)
        move(place.get_by_label(explorer.controls[control].description, exact=True), value)
        show(place, explorer)


def test_the_buttons_lead_through_the_images(in_lab: tuple[Page, dict[str, Explorer]]) -> None:
    page, explorers = in_lab
    place, explorer = cell(page, "predictions"), explorers["predictions"]
    for control, value in (("lowest", 0), ("highest", 100)):
        explorer.controls[control].value = value
        move(place.get_by_label(explorer.controls[control].description, exact=True), value)
        show(place, explorer)
    number = place.get_by_label("Image", exact=True)
    before = int(number.input_value())
    for button, by in (("Next", 1), ("Next", 2), ("Previous", 1)):
        place.get_by_role("button", name=button).click()
        explorer.controls["position"].value = before + by
        expect(number).to_have_value(str(before + by))
        show(place, explorer)
        expect(place.locator("img[src^='data:image/png']")).to_be_visible()
