"""The built site, served on loopback and opened in a real browser: what its tests share."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from playwright.sync_api import Browser, BrowserContext, Page, Request

ROOT = Path(__file__).parent.parent
# For whoever reads the repository.
NO_PAGES = {"README", "CONTRIBUTING", "CHANGELOG"}
NOTEBOOKS = [f"notebooks/{file.stem}" for file in sorted((ROOT / "notebooks").glob("*.ipynb"))]
PROSE = sorted(file.stem for file in ROOT.glob("*.md") if file.stem not in NO_PAGES)
PAGES = [*PROSE, "search", *NOTEBOOKS]
PHONE = {"width": 390, "height": 844}


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files without a line for each request."""

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def build(directory: Path) -> Path:
    """Build the site as `make site` does, with warnings as errors."""
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", directory / "doctrees"]
    done = subprocess.run([*command, ROOT, directory / "html"], capture_output=True, text=True, cwd=ROOT)
    if done.returncode != 0:
        raise RuntimeError(f"the site does not build without warnings:\n{done.stderr}")
    return directory / "html"


@contextmanager
def serve(directory: Path) -> Iterator[str]:
    """Serve files on a free port of loopback, and give the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=directory))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@dataclass
class Site:
    """The built site, where it is served, and what a browser complained about."""

    directory: Path
    address: str
    browser: Browser
    complaints: list[str] = field(default_factory=list)
    _contexts: dict[str, BrowserContext] = field(default_factory=dict)

    def open(self, name: str, scheme: str = "light") -> Page:
        """Open one page, wait until it is loaded, and note what goes wrong.

        The profile is shared by all tests of a colour scheme: what the browser has fetched, it has.
        """
        if scheme not in self._contexts:
            self._contexts[scheme] = self.new_context(color_scheme=scheme)
        return self.watch(self._contexts[scheme].new_page(), name)

    def new_context(self, **options: object) -> BrowserContext:
        """Make a profile of its own, in which pages may use the clipboard."""
        return self.browser.new_context(permissions=["clipboard-read", "clipboard-write"], **options)

    def watch(self, page: Page, name: str) -> Page:
        """Go to a page of the site, and note every error and every request that leaves it."""
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("requestfailed", self._note_failure)
        page.on("request", self._note_request)
        page.goto(self.url(name))
        page.evaluate("document.getAnimations().forEach(animation => animation.finish())")
        return page

    def url(self, name: str) -> str:
        """Give the address of a page."""
        return f"{self.address}/{name}.html"

    def close_pages(self) -> None:
        """Close what a test has opened, and forget what went wrong there."""
        for context in self.browser.contexts:
            if context not in self._contexts.values():
                context.close()
            for page in context.pages:
                page.close()
        self.complaints.clear()

    def _note_failure(self, request: Request) -> None:
        # The search fetches its results' pages for their summaries; a reader who has already clicked one ends the rest.
        left_by_the_reader = request.failure == "net::ERR_ABORTED" and request.resource_type == "fetch"
        if not left_by_the_reader:
            self.complaints.append(f"failed: {request.url} ({request.failure})")

    def _note_request(self, request: Request) -> None:
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.complaints.append(f"leaves the site: {request.url}")


def read(name: str) -> NotebookNode:
    """Read an executed page."""
    return nbformat.read(ROOT / f"{name}.ipynb", as_version=4)


def shown_cells(name: str) -> list[NotebookNode]:
    """List the cells of code that the site shows."""
    return [
        cell
        for cell in read(name).cells
        if cell.cell_type == "code" and "remove-cell" not in cell.metadata.get("tags", [])
    ]


def copied(page: Page) -> str:
    """Read the clipboard, without the line break at the end."""
    return page.evaluate("navigator.clipboard.readText()").rstrip("\n")
