import os
import pty
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import ray

from air_tutorials.errors import ConfigError
from air_tutorials.monitor import TrainingMonitor, track

# Ray's workers do not have the tests on their path.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def train(on_step: Any, num_epochs: int = 2, num_steps: int = 5) -> None:
    for epoch in range(num_epochs):
        for step in range(num_steps):
            on_step(epoch, step, num_steps, 1.0)


def fail() -> None:
    raise ValueError("too bad")


def board_of(monitor: TrainingMonitor) -> Any:
    return monitor.remote_on_step.__reduce__()[1][0]


def is_dead(actor: Any) -> bool:
    """Wait for an actor to die: Ray kills it in its own time."""
    for _ in range(100):
        try:
            ray.get(actor.take.remote(), timeout=60)
        except ray.exceptions.RayActorError:
            return True
        time.sleep(0.1)
    return False


def monitor_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "TrainingMonitor"]


def test_outside_a_notebook_nothing_is_printed(cluster: Any, capfd: pytest.CaptureFixture[str]) -> None:
    with TrainingMonitor(num_epochs=2) as monitor:
        train(monitor.on_step)
    with TrainingMonitor(num_epochs=2) as remote_monitor:
        ray.get(ray.remote(train).remote(remote_monitor.remote_on_step))
    assert list(track(range(3), "Counting")) == [0, 1, 2]
    assert capfd.readouterr() == ("", "")
    assert monitor.history.places == remote_monitor.history.places == [(e, s) for e in range(2) for s in range(5)]


def test_thread_and_actor_end_with_the_block(cluster: Any) -> None:
    with TrainingMonitor(num_epochs=1) as monitor:
        board = board_of(monitor)
        assert monitor_threads()
    assert not monitor_threads()
    assert is_dead(board)


def test_thread_and_actor_end_with_a_training_that_fails(cluster: Any) -> None:
    with pytest.raises(ray.exceptions.RayTaskError, match="too bad"), TrainingMonitor(num_epochs=2) as monitor:  # noqa: PT012
        board = board_of(monitor)
        ray.get(ray.remote(train).remote(monitor.remote_on_step))
        ray.get(ray.remote(fail).remote())
    assert len(monitor.history.places) == 10, "what was sent before the failure is kept"
    assert not monitor_threads()
    assert is_dead(board)


def test_a_board_that_is_killed_ends_neither_the_training_nor_the_block(cluster: Any) -> None:
    with TrainingMonitor(num_epochs=2) as monitor:
        ray.kill(board_of(monitor))
        ray.get(ray.remote(train).remote(monitor.remote_on_step))
    assert monitor.history.places == []


def test_a_training_that_reports_nothing_ends_well() -> None:
    with TrainingMonitor(num_epochs=2):
        pass


def test_what_is_left_of_a_generator_that_is_not_exhausted() -> None:
    seen = []
    for item in track(range(10), "Counting"):
        seen.append(item)
        if item == 2:
            break
    assert seen == [0, 1, 2]


def test_misuse_is_told_clearly(cluster: Any) -> None:
    with pytest.raises(ConfigError, match="num_epochs is 0"):
        TrainingMonitor(num_epochs=0)
    monitor = TrainingMonitor(num_epochs=1)
    with pytest.raises(ConfigError, match="inside `with"):
        monitor.on_step(0, 0, 1, 0.5)
    with pytest.raises(ConfigError, match="inside `with"):
        _ = monitor.remote_on_step
    with monitor, pytest.raises(ConfigError, match=r"monitor\.remote_on_step"):
        ray.remote(train).remote(monitor.on_step)


def test_on_a_terminal_it_is_a_line_and_ray_is_not_started(tmp_path: Path) -> None:
    program = """
import ray
from air_tutorials.errors import ClusterError
from air_tutorials.monitor import TrainingMonitor, track
with TrainingMonitor(num_epochs=2) as monitor:
    monitor.on_step(0, 0, 1, 0.5)
    monitor.on_step(1, 0, 1, 0.25)
list(track(range(3), "Counting"))
try:
    with TrainingMonitor(num_epochs=2, title="No Ray") as monitor:
        monitor.remote_on_step
except ClusterError as error:
    assert "local_cluster()" in str(error) and not ray.is_initialized()
else:
    raise AssertionError
"""
    terminal, other_end = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", program], stderr=other_end, stdout=subprocess.PIPE, cwd=tmp_path)
    os.close(other_end)
    shown = b""
    try:
        while chunk := os.read(terminal, 4096):
            shown += chunk
    except OSError:  # Linux reports the end of a terminal as an error.
        pass
    assert process.communicate(timeout=60)[0] == b""
    assert process.returncode == 0, shown.decode()
    lines = shown.decode().strip().split("\n")
    assert [line.rsplit("\x1b[K", 1)[-1].strip() for line in lines] == [
        "Training: 2 epochs, 2 steps",
        "Counting: 3 of 3",
        "No Ray: no step was reported",
    ]
    assert "Training: epoch 1 of 2, step 1 of 1, loss 0.5" in shown.decode()


def test_however_fast_the_steps_come_four_frames_a_second_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    with TrainingMonitor(num_epochs=1) as monitor:
        frames = []
        draw = monitor._draw
        monkeypatch.setattr(monitor, "_draw", lambda: (frames.append(1), draw()))
        begin_s = time.monotonic()
        train(monitor.on_step, num_epochs=1, num_steps=100_000)
        assert len(frames) <= 1 + (time.monotonic() - begin_s) / 0.25
