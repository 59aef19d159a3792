"""The browser that the site is tested in. As a command it says whether there is one, before the long tests start."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
APPLICATIONS = ("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",)
# Chromium has no sandbox as root, and on its own account it would look for updates and news.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
HOW_TO_INSTALL = (
    "The site is tested in a real browser, and no Chromium was found. Install one with `sudo apt-get install chromium`"
    " or `.venv/bin/playwright install chromium`, or name the one you have: `CHROMIUM=/path/to/it make test`."
)


def find_chromium() -> str | None:
    """Look for Chromium or Chrome: the one that $CHROMIUM names, the system's, or the one that playwright installed."""
    if named := os.environ.get("CHROMIUM"):
        return shutil.which(named)
    with sync_playwright() as playwright:
        candidates = [*map(shutil.which, NAMES), *APPLICATIONS, playwright.chromium.executable_path]
    return next((path for path in candidates if path and Path(path).is_file()), None)


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start a headless browser, and close it at the end."""
    path = find_chromium()
    if path is None:
        raise RuntimeError(HOW_TO_INSTALL)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, headless=True, args=list(FLAGS))
        yield browser
        browser.close()


if __name__ == "__main__":
    sys.exit(None if find_chromium() else HOW_TO_INSTALL)
