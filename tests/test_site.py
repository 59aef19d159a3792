"""The site as a reader gets it: built with warnings as errors, and looked at in a real browser."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urldefrag

import nbformat
import pytest
from browser import open_browser
from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parent.parent
NOTEBOOKS = [f"notebooks/{source.stem}" for source in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.md"))]
PAGES = ["index", "api", "search", *NOTEBOOKS]
PHONE = {"width": 390, "height": 844}

# The contrast of a node's text, as WCAG 2 defines it. A ground may let through the one below it.
CONTRAST = """node => {
    const channels = colour => [...colour.match(/[\\d.]+/g).map(Number), 1].slice(0, 4);
    const luminance = colour => colour.slice(0, 3)
        .map(value => value / 255)
        .map(value => value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
        .reduce((sum, value, i) => sum + value * [0.2126, 0.7152, 0.0722][i], 0);
    const grounds = [];
    for (let at = node; at && !(grounds.length && grounds[0][3] === 1); at = at.parentElement)
        grounds.unshift(channels(getComputedStyle(at).backgroundColor));
    const ground = grounds.reduce((below, above) => below.map((value, i) => value + (above[i] - value) * above[3]));
    const [dark, light] = [channels(getComputedStyle(node).color), ground].map(luminance).sort((a, b) => a - b);
    return (light + 0.05) / (dark + 0.05);
}"""
READABLE = 4.5


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files without a line for each request."""

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@dataclass
class Site:
    """The built site, where it is served, and what a browser complained about."""

    directory: Path
    address: str
    browser: Browser
    complaints: list[str] = field(default_factory=list)

    def open(self, name: str, **options: object) -> Page:
        """Open one page in a fresh profile, wait until it asks for nothing more, and note what goes wrong."""
        page = self.browser.new_context(**options).new_page()
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("requestfailed", lambda request: self.complaints.append(f"failed: {request.url}"))
        page.on("request", self.note_request)
        page.goto(f"{self.address}/{name}.html", wait_until="networkidle")
        return page

    def note_request(self, request: object) -> None:
        """Complain about a request that leaves the site."""
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.complaints.append(f"leaves the site: {request.url}")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", directory / "doctrees"]
    done = subprocess.run([*command, ROOT, directory / "html"], capture_output=True, text=True, cwd=ROOT)
    if done.returncode != 0:
        pytest.fail(f"the site does not build without warnings:\n{done.stderr}", pytrace=False)
    return directory / "html"


@pytest.fixture(scope="module")
def served(built: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=built))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


@pytest.fixture
def site(built: Path, served: str, browser: Browser) -> Iterator[Site]:
    yield Site(built, served, browser)
    for context in browser.contexts:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_loads_without_an_error_and_asks_nobody_else(site: Site, name: str, scheme: str) -> None:
    page = site.open(name, color_scheme=scheme)
    assert site.complaints == []
    assert page.locator("html").get_attribute("data-theme") == scheme
    assert all(
        node.evaluate(CONTRAST) >= READABLE
        for node in page.locator("main h1, main ins, main del, main .text_html").all()
    )
    broken = "images => images.filter(image => !image.naturalWidth || !image.alt.trim()).map(image => image.src)"
    assert page.locator("article img").evaluate_all(broken) == []
    page.set_viewport_size(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], "a phone has to scroll sideways"


def test_every_link_leads_somewhere(site: Site) -> None:
    anchors, links = {}, set()
    page = site.open("index")
    for name in PAGES:
        url = f"{site.address}/{name}.html"
        page.goto(url)
        anchors[url] = {"", *page.locator("[id]").evaluate_all("nodes => nodes.map(node => node.id)")}
        links |= {(url, link) for link in page.locator("a[href]").evaluate_all("nodes => nodes.map(node => node.href)")}
    assert len(links) > len(PAGES)
    dead = []
    for url, link in links:
        target, anchor = urldefrag(link)
        inside = target.startswith(site.address)
        file = site.directory / unquote(target.removeprefix(site.address)).lstrip("/")
        if inside and (not file.is_file() or unquote(anchor) not in anchors.get(target, {""})):
            dead.append(f"{url} -> {link}")
    assert dead == []


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_copy_button_copies_the_code_of_a_cell(site: Site, name: str) -> None:
    notebook = nbformat.read(ROOT / f"{name}.ipynb", as_version=4)
    shown = [
        cell
        for cell in notebook.cells
        if cell.cell_type == "code" and "remove-cell" not in cell.metadata.get("tags", [])
    ]
    page = site.open(name, permissions=["clipboard-read", "clipboard-write"])
    page.evaluate("document.querySelectorAll('details').forEach(details => details.open = true)")
    buttons = page.locator(".cell_input button.copybtn")
    assert buttons.count() == len(shown) > 0
    for button, cell in zip(buttons.all(), shown, strict=True):
        button.click()
        assert page.evaluate("navigator.clipboard.readText()").rstrip("\n") == cell.source.rstrip("\n")
    # What a cell printed is no code to copy.
    assert page.locator(".stream button.copybtn, .text_plain button.copybtn").count() == 0


def test_the_landing_page_leads_to_every_page(site: Site) -> None:
    page = site.open("index")
    links = page.locator("article .sd-card a").evaluate_all("nodes => nodes.map(node => node.href)")
    assert links == [f"{site.address}/{name}.html" for name in NOTEBOOKS]
    assert page.locator("a.right-next").evaluate("node => node.href") == links[0]


def test_the_search_finds_the_pages(site: Site) -> None:
    page = site.open("search")
    page.goto(f"{site.address}/search.html?q=check", wait_until="networkidle")
    page.locator("ul.search a[href*='notebooks/']").first.wait_for()
    assert site.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_lines_of_a_diff_can_be_told_apart_and_read(site: Site, scheme: str) -> None:
    page = site.open("index", color_scheme=scheme)
    page.locator("main h1").first.evaluate(
        """node => node.insertAdjacentHTML("afterend", `<div class="highlight-diff"><div class="highlight"><pre>
        <span class="gi">+ added</span> <span class="gd">- removed</span></pre></div></div>`)"""
    )
    added, removed = page.locator(".highlight .gi"), page.locator(".highlight .gd")
    ground = "node => getComputedStyle(node).backgroundColor"
    assert len({line.evaluate(ground) for line in (added, removed, page.locator("body"))}) == 3
    assert added.evaluate(CONTRAST) >= READABLE
    assert removed.evaluate(CONTRAST) >= READABLE
