"""What a reader does on the site by hand: copy, download, switch tabs and colours, search, and open the menu."""

import re

import nbformat
import pytest
from built_site import NOTEBOOKS, PHONE, ROOT, Site, copied, read, shown_cells
from playwright.sync_api import Page, expect


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_copy_button_copies_the_code_of_a_cell(site: Site, name: str) -> None:
    cells = shown_cells(name)
    page = site.open(name)
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    buttons = page.locator(".cell_input button.copybtn")
    assert buttons.count() == len(cells) > 0
    for button, cell in zip(buttons.all(), cells, strict=True):
        button.click()
        assert copied(page) == cell.source.rstrip("\n")
    # What a cell printed is no code to copy.
    assert page.locator(".stream button.copybtn, .text_plain button.copybtn").count() == 0


def test_a_prompt_is_not_copied(site: Site) -> None:
    page = site.open("index")
    block = page.locator("#run-them .highlight-console").first
    lines = block.locator("pre").inner_text().splitlines()
    assert lines
    assert all(line.startswith("$ ") for line in lines)
    block.hover()
    block.locator("button.copybtn").click()
    assert copied(page).splitlines() == [line.removeprefix("$ ") for line in lines]


def test_the_tabs_show_the_program_before_and_after_as_the_package_has_it(site: Site) -> None:
    page = site.open("index")
    tabs = page.locator("article .sd-tab-set > label")
    assert tabs.all_inner_texts() == ["What changed", "Before", "After"]
    for tab, module in ((1, "baseline"), (2, "trainer")):
        tabs.nth(tab).click()
        shown = page.locator("article .sd-tab-content:visible")
        assert shown.count() == 1
        source = (ROOT / "air_tutorials" / f"{module}.py").read_text()
        code = shown.locator("pre").inner_text()
        assert code.startswith("def train_func(")
        assert code in source
    tabs.first.click()
    added, removed = page.locator(".highlight .gi:visible"), page.locator(".highlight .gd:visible")
    assert added.count() > 5
    assert removed.count() > 5
    colors = {each.first.evaluate("node => getComputedStyle(node).backgroundColor") for each in (added, removed)}
    assert len(colors) == 2


def test_the_keyboard_switches_tabs_too(site: Site) -> None:
    page = site.open("index")
    page.locator("article .sd-tab-set > input").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("article .sd-tab-content:visible")).to_contain_text("def train_func(")
    assert page.locator("article .sd-tab-set > input").nth(1).is_checked()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_page_can_be_downloaded_as_the_notebook_that_it_is(site: Site, name: str) -> None:
    page = site.open(name)
    with page.expect_download() as started:
        page.get_by_title("Download this page as a Jupyter notebook").click()
    assert started.value.suggested_filename == f"{name.removeprefix('notebooks/')}.ipynb"
    notebook = nbformat.read(started.value.path(), as_version=4)
    nbformat.validate(notebook)
    assert notebook.cells == read(name).cells


def test_only_notebooks_are_offered_as_notebooks(site: Site) -> None:
    assert site.open("api").get_by_title("Download this page as a Jupyter notebook").count() == 0


def search(page: Page, words: str) -> None:
    page.keyboard.press("Control+k")
    page.locator("dialog input[type=search]").fill(words)
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=*")


def test_the_search_finds_a_page_by_its_words(site: Site) -> None:
    name = NOTEBOOKS[0]
    heading = re.search(r"^## \d\. (.+)$", "\n".join(cell.source for cell in read(name).cells), re.MULTILINE)[1]
    page = site.open("index")
    search(page, heading)
    page.locator(f"ul.search a[href*='{name}.html']").first.click()
    page.wait_for_url(f"**/{name}.html*")
    expect(page.locator("article h2").first).to_contain_text(heading)
    assert site.complaints == []


def test_the_search_finds_a_function_of_the_package(site: Site) -> None:
    page = site.open("index")
    search(page, "make_trainer")
    page.locator("ul.search a[href*='api.html#air_tutorials.trainer.make_trainer']").first.wait_for()


def test_the_search_says_when_it_finds_nothing(site: Site) -> None:
    page = site.open("index")
    search(page, "xylophone")
    expect(page.locator("#search-results")).to_contain_text("did not match any documents")
    assert page.locator("ul.search li").count() == 0


def test_the_colours_can_be_switched_and_stay_on_the_next_page(site: Site) -> None:
    page = site.watch(site.new_context(color_scheme="light").new_page(), "index")
    page.locator(".theme-switch-button:visible").click()
    page.locator("button.theme-change-button[data-mode=dark]:visible").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.locator("a.right-next").click()
    page.wait_for_url("**/notebooks/*.html")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_on_a_phone_the_menu_leads_to_every_page(site: Site) -> None:
    page = site.watch(site.new_context(viewport=PHONE).new_page(), "index")
    entry = page.get_by_role("navigation").get_by_role("link", name="3. Feed PyTorch with Ray Data")
    assert entry.count() == 0  # the menu is closed, and nothing in it can be reached
    page.locator("button.primary-toggle:visible").click()
    entry.click()
    page.wait_for_url("**/03_feed_pytorch_with_ray_data.html")
