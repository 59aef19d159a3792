"""What stands behind `make run` and `make test`: the page runner, and what they say when something is missing."""

import os
import subprocess
import sys
import time
from pathlib import Path
from shutil import copy

import nbformat
import psutil
import pytest

ROOT = Path(__file__).parent.parent
HEADER = """---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3 (ipykernel)
  language: python
  name: python3
---

# A page
"""


def write_page(directory: Path, *cells: str) -> Path:
    copy(ROOT / "notebooks" / "jupytext.toml", directory)
    source = directory / "01_a_page.md"
    source.write_text(HEADER + "".join(f"\n```{{code-cell}} ipython3\n{cell}\n```\n" for cell in cells))
    return source


def run_pages(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "run_pages.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment})


def test_a_page_is_stored_the_same_on_every_run_and_its_ray_is_gone_afterwards(tmp_path: Path) -> None:
    source = write_page(
        tmp_path,
        "import ipywidgets, os, sys\nprint(1)\nprint(2)",
        "print('chatter', file=sys.__stderr__)\nos.path.exists('01_a_page.md')",
        "ipywidgets.IntSlider(3)",
        ":tags: [raises-exception]\n\nopen(os.path.abspath('missing'))",
        "import ray\nfrom air_tutorials.cluster import local_cluster\nlocal_cluster(num_cpus=1)\n"
        "ray.get(ray.remote(lambda: 3).remote())",
    )
    written = source.read_text()
    # What the kernel starts inherits this, and nothing else on the machine has it.
    mark = f"AIR_TUTORIALS_TEST={tmp_path}"
    contents = []
    for _ in range(2):
        done = run_pages("--sync", source, AIR_TUTORIALS_TEST=str(tmp_path))
        assert done.returncode == 0, done.stderr
        assert "5/5 cells" in done.stdout
        assert done.stderr == ""
        contents.append(source.with_suffix(".ipynb").read_text())
    assert contents[0] == contents[1]
    assert source.read_text() == written
    outputs = [cell.outputs for cell in nbformat.reads(contents[0], as_version=4).cells if cell.cell_type == "code"]
    assert outputs[0][0].text == "1\n2\n"
    assert outputs[1][0].data == {"text/plain": "True"}
    assert outputs[2][0].data == {"text/plain": "IntSlider(value=3)"}
    assert len(outputs[3][0].traceback) == 1
    assert outputs[4][0].data == {"text/plain": "3"}
    deadline = time.monotonic() + 180  # Ray's agents notice late that their raylet is gone
    while (left := with_environment(mark)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == []


def with_environment(entry: str) -> list[str]:
    """Name the processes that were started with an entry of the environment, but for those that have ended."""
    found = []
    for process in psutil.process_iter():
        try:
            name, _, value = entry.partition("=")
            if process.environ().get(name) == value and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.name())
        except psutil.Error:
            continue
    return found


def test_a_page_that_fails_is_named_with_its_cell(tmp_path: Path) -> None:
    source = write_page(tmp_path, "print(1)", "assert 1 == 2, 'not equal'")
    done = run_pages("--into", tmp_path / "out", source)
    assert done.returncode == 1
    assert "1/2 cells" in done.stdout
    assert "01_a_page.md failed" in done.stderr
    assert "not equal" in done.stderr
    assert not (tmp_path / "out" / "01_a_page.ipynb").exists()


def test_make_refuses_an_old_python_and_says_what_to_do(tmp_path: Path) -> None:
    for file in ("Makefile", "pyproject.toml", "constraints.txt"):
        copy(ROOT / file, tmp_path)
    (tmp_path / "jupyter_config").mkdir()
    copy(ROOT / "jupyter_config" / "default_setting_overrides.json", tmp_path / "jupyter_config")
    old = tmp_path / "old-python"
    old.write_text("#!/bin/sh\necho Python 3.9.2\nexit 1\n")
    old.chmod(0o755)
    done = subprocess.run(["make", "run", f"PYTHON={old}"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0
    assert "needs Python 3.11 or newer" in done.stdout
    assert "Python 3.9.2" in done.stdout
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize(("name", "status"), [("no-such-browser", 1), ("sh", 0)])
def test_a_missing_browser_is_reported_before_the_tests(name: str, status: int) -> None:
    environment = {**os.environ, "CHROMIUM": name}
    command = [sys.executable, str(ROOT / "tests" / "browser.py")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == status
    assert ("apt-get install chromium" in done.stderr) == (status == 1)


def test_what_the_pages_wrote_is_no_test(tmp_path: Path) -> None:
    copy(ROOT / "pyproject.toml", tmp_path)
    pages = tmp_path / "notebooks"
    (pages / "results" / "tune").mkdir(parents=True)
    (pages / "results" / "tune" / "experiment.py").write_text("raise RuntimeError('imported')\n")
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")]), pages / "01_a_page.ipynb")
    command = [sys.executable, "-m", "pytest", "--nbval", "--collect-only", "-q", str(pages)]
    collected = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert collected.stdout.splitlines()[0] == "notebooks/01_a_page.ipynb::Cell 0", collected.stdout
    assert collected.returncode == 0, collected.stdout
