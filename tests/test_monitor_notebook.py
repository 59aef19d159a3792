"""What the displays leave in an executed notebook, and what they show while it runs."""

import base64
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
import ray

# The remote training is held until a frame has been drawn, however slow the machine is.
CELLS = {
    "start": """
import time
import ray
from air_tutorials import display
from air_tutorials.cluster import local_cluster
from air_tutorials.monitor import TrainingMonitor, track
local_cluster()
def train(on_step, epochs, num_steps=20, pause_s=0.0):
    for epoch in epochs:
        for step in range(num_steps):
            time.sleep(pause_s)
            on_step(epoch, step, num_steps, 1.0 / (1 + epoch * num_steps + step))
""",
    "local": """
with TrainingMonitor(num_epochs=2, title="Here") as monitor:
    train(monitor.on_step, [0, 1], pause_s=0.03)
""",
    "remote": """
with TrainingMonitor(num_epochs=2, title="There") as monitor:
    on_step = monitor.remote_on_step
    ray.get(ray.remote(train).remote(on_step, [0]))
    while not monitor.history.places:
        time.sleep(0.1)
    time.sleep(1)
    ray.get(ray.remote(train).remote(on_step, [1]))
""",
    "track": """
for item in track(range(10), "Counting"):
    time.sleep(0.1)
""",
    "track unknown": """
total = sum(track(iter(range(10)), "Adding"))
""",
    "source": "display.show_source(display.show_diff, drop_docstring=True)",
    "diff": "display.show_diff(display.show_source, display.show_diff)",
    "failure": """
with TrainingMonitor(num_epochs=2, title="In vain") as monitor:
    train(monitor.on_step, [0])
    raise ValueError("too bad")
""",
}


class FrameCollector(nbclient.NotebookClient):
    """Executes a notebook and keeps what was shown in passing."""

    def process_message(self, msg: dict[str, Any], cell: nbformat.NotebookNode, cell_index: int) -> Any:
        if msg["msg_type"] == "update_display_data":
            self.frames.setdefault(cell_index, []).append(msg["content"]["data"])
        return super().process_message(msg, cell, cell_index)


def execute(environment: dict[str, str]) -> tuple[nbformat.NotebookNode, dict[str, list[dict[str, str]]]]:
    cells = [nbformat.v4.new_code_cell(source.strip(), id=name.replace(" ", "-")) for name, source in CELLS.items()]
    cells[-1].metadata["tags"] = ["raises-exception"]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = FrameCollector(notebook, timeout=120, record_timing=False)
    client.frames = {}
    client.execute(env=environment)
    return notebook, {name: client.frames.get(index, []) for index, name in enumerate(CELLS)}


@pytest.fixture(scope="module")
def environment(cluster: dict[str, float]) -> dict[str, str]:
    """What a notebook needs to join the Ray of the tests instead of starting one of its own."""
    return {**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address}


@pytest.fixture(scope="module")
def executed(environment: dict[str, str]) -> tuple[nbformat.NotebookNode, dict[str, list[dict[str, str]]]]:
    return execute(environment)


def outputs_of(notebook: nbformat.NotebookNode, name: str) -> list[nbformat.NotebookNode]:
    return notebook.cells[list(CELLS).index(name)].outputs


@pytest.mark.parametrize(("name", "title"), [("local", "Here"), ("remote", "There")])
def test_a_notebook_keeps_a_picture_and_a_line_of_a_training(executed: Any, name: str, title: str) -> None:
    picture, line = outputs_of(executed[0], name)
    assert base64.b64decode(picture.data["image/png"]).startswith(b"\x89PNG")
    assert set(picture.data) == {"image/png", "text/plain"}
    assert picture.data["text/plain"] == f"{title}: the loss of each step"
    assert line.text == f"{title}: 2 epochs, 40 steps\n"


@pytest.mark.parametrize(("name", "title"), [("local", "Here"), ("remote", "There")])
def test_while_it_trains_a_bar_and_a_curve_are_shown(executed: Any, name: str, title: str) -> None:
    frames = [frame["text/html"] for frame in executed[1][name] if "text/html" in frame]
    assert f"<strong>{title}</strong>: waiting for the first step" in frames[0]
    assert "value=" not in frames[0]
    under_way = [frame for frame in frames if f"<strong>{title}</strong>: epoch 1 of 2, step " in frame]
    assert under_way, "a frame from the middle of the training"
    assert " of 20, loss " in under_way[-1]
    assert 'value="0.' in under_way[-1]
    assert "<polyline points=" in under_way[-1]


def test_a_notebook_keeps_a_line_of_what_was_gone_through(executed: Any) -> None:
    notebook, frames = executed
    assert [output.data for output in outputs_of(notebook, "track")] == [{"text/plain": "Counting: 10 of 10"}]
    assert [output.data for output in outputs_of(notebook, "track unknown")] == [{"text/plain": "Adding"}]
    assert "<strong>Counting</strong>: 0 of 10" in frames["track"][0]["text/html"]
    assert len(frames["track"]) >= 3


def test_a_notebook_keeps_the_picture_of_a_training_that_failed_without_a_line(executed: Any) -> None:
    picture, error = outputs_of(executed[0], "failure")
    assert "image/png" in picture.data
    assert error.ename == "ValueError"


def test_source_and_diff_are_markdown_that_needs_no_style_sheet(executed: Any) -> None:
    (source,) = outputs_of(executed[0], "source")
    assert source.data["text/markdown"].startswith("From `air_tutorials.display`:\n\n```python\ndef show_diff(")
    assert source.data["text/markdown"].endswith("\n```")
    (diff,) = outputs_of(executed[0], "diff")
    markdown = diff.data["text/markdown"]
    assert "<pre " in markdown
    assert markdown.endswith("</pre>")
    assert markdown.count("<del ") == sum(line.startswith("-") for line in diff.data["text/plain"].splitlines()) > 0
    assert markdown.count("<ins ") == sum(line.startswith("+") for line in diff.data["text/plain"].splitlines()) > 0


def test_a_second_execution_leaves_the_same(executed: Any, environment: dict[str, str]) -> None:
    again, _ = execute(environment)
    for name in list(CELLS)[:-1]:
        assert outputs_of(again, name) == outputs_of(executed[0], name), name


def test_nbval_finds_the_same(executed: Any, environment: dict[str, str], tmp_path: Path) -> None:
    nbformat.write(executed[0], tmp_path / "page.ipynb")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--nbval",
        "--nbval-cell-timeout=100",
        "-p",
        "no:cacheprovider",
        tmp_path,
    ]
    result = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert result.returncode == 0, result.stdout
    assert f"{len(CELLS)} passed" in result.stdout
