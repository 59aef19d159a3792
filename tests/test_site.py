"""The site as a reader gets it: built with warnings as errors, and looked at in a real browser."""

import re
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from built_site import NOTEBOOKS, PAGES, PHONE, PROSE, ROOT, Site, copied, read
from playwright.sync_api import Page

SMALL_PHONE = {"width": 320, "height": 568}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_loads_without_an_error_and_asks_nobody_else(site: Site, name: str, scheme: str) -> None:
    page = site.open(name, scheme)
    page.wait_for_load_state("networkidle")
    assert site.complaints == []
    assert page.locator("html").get_attribute("data-theme") == scheme
    broken = "images => images.filter(image => !image.naturalWidth || !image.alt.trim()).map(image => image.src)"
    assert page.locator("article img").evaluate_all(broken) == []


@pytest.mark.parametrize("name", PAGES)
def test_a_phone_does_not_scroll_sideways(site: Site, name: str) -> None:
    page = site.open(name)
    for size in (PHONE, SMALL_PHONE):
        page.set_viewport_size(size)
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


def hrefs(page: Page, selector: str) -> list[str]:
    return page.locator(selector).evaluate_all("nodes => nodes.map(node => node.href)")


def test_every_link_leads_somewhere(site: Site) -> None:
    anchors, links = {}, set()
    page = site.open("index")
    for name in PAGES:
        url = site.url(name)
        page.goto(url)
        anchors[url] = {"", *page.locator("[id]").evaluate_all("nodes => nodes.map(node => node.id)")}
        links |= {(url, link) for link in hrefs(page, "a[href]")}
    assert len(links) > len(PAGES)
    dead = []
    for url, link in links:
        target, anchor = urldefrag(link)
        inside = target.startswith(site.address)
        file = site.directory / unquote(target.removeprefix(site.address)).lstrip("/")
        if inside and (not file.is_file() or unquote(anchor) not in anchors.get(target, {""})):
            dead.append(f"{url} -> {link}")
    assert dead == []


def test_the_landing_page_has_a_card_and_a_measured_time_for_every_page(site: Site) -> None:
    page = site.open("index")
    every_page = sorted(site.url(name) for name in NOTEBOOKS)
    assert sorted({urldefrag(link)[0] for link in hrefs(page, "article .sd-card a")}) == every_page
    assert sorted(hrefs(page, "article table a")) == every_page
    for row in page.locator("article table tbody tr").all():
        cells, seconds, longest = row.locator("td").all_inner_texts()[1:]
        assert int(cells) > 0
        assert int(seconds) >= int(longest) >= 0


def test_previous_and_next_lead_through_all_pages_in_the_order_of_the_sidebar(site: Site) -> None:
    page = site.open("index")
    order = [site.url("index"), *hrefs(page, ".bd-sidebar-primary .toctree-l1 > a")]
    assert sorted(order) == sorted(site.url(name) for name in [*PROSE, *NOTEBOOKS])
    assert order[1 : 1 + len(NOTEBOOKS)] == [site.url(name) for name in NOTEBOOKS]
    for here, following in pairwise(order):
        page.goto(here)
        assert hrefs(page, "a.right-next") == [following]
        page.goto(following)
        assert hrefs(page, "a.left-prev") == [here]
    assert hrefs(page, "a.right-next") == []


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_page_shows_its_outputs(site: Site, name: str) -> None:
    cells = [cell for cell in read(name).cells if "remove-cell" not in cell.metadata.get("tags", [])]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    page = site.open(name)
    assert page.locator(".cell_output").count() == sum(bool(cell.get("outputs")) for cell in cells) > 0
    assert page.locator(".cell_output img").count() >= sum("image/png" in output.get("data", {}) for output in outputs)
    text = re.sub(r"\s+", "", page.locator("article").evaluate("node => node.textContent"))
    printed = [output.text for output in outputs if output.output_type == "stream"]
    assert [line for line in printed if re.sub(r"\s+", "", line) not in text] == []


INVENTORIES = sorted((ROOT / "inventories").glob("*.txt"))


@pytest.mark.parametrize("inventory", INVENTORIES, ids=lambda inventory: inventory.stem)
def test_the_reference_links_to_other_projects_under_names_that_they_have(site: Site, inventory: Path) -> None:
    page = site.open("api")
    links = set(hrefs(page, "article a.external"))
    names = [line.split()[0] for line in inventory.read_text().splitlines()[3:]]
    assert names == sorted(names)
    for name in names:
        module, _, attribute = name.rpartition(".")
        assert hasattr(import_module(module or "builtins"), attribute)
        assert any(urldefrag(link)[1] == name for link in links), f"{name} is listed and never linked"


def test_from_the_landing_page_a_recipe_is_a_few_clicks_away(site: Site) -> None:
    recipes = read("notebooks/recipes").cells
    title = "Predict a folder of images"
    heading = next(i for i, cell in enumerate(recipes) if f"## {title}" in cell.source)
    code = next(cell for cell in recipes[heading:] if cell.cell_type == "code")
    page = site.open("index")
    page.locator("article .sd-card", has_text="recipe").click()
    page.locator("nav.page-toc a", has_text=title).click()
    section = page.locator("article section", has=page.locator("h2, h3", has_text=title)).last
    section.locator(".cell_input").hover()
    section.locator(".cell_input button.copybtn").click()
    assert copied(page) == code.source
