"""Writers killed with SIGKILL, at random moments and at each line: the target is absent or whole, and its lock free."""

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from children import WHOLE, Start, build, children, contents, hear, left_beside, tell

from air_tutorials.data_lock import data_lock, prepare_once


@pytest.fixture
def start() -> Iterator[Start]:
    with children() as start:
        yield start


def test_a_writer_killed_at_random_leaves_nothing_or_everything(tmp_path: Path, start: Start) -> None:
    """The child forks a writer for each line of input, which is faster than to start Python each time."""
    directory = tmp_path / "data"
    child = start(
        """
for _ in sys.stdin:
    if os.fork() == 0:
        say(os.getpid())
        prepare_once(directory, build)
        say("done")
        time.sleep(20)
    os.wait()
    say("dead")
""",
        directory,
    )
    chance = random.Random(20)
    found = []
    # A writer says one word when it begins to build, one at each of 16 writes, and one when it is done.
    for words in [*range(1, 19)] * 2:
        tell(child)
        writer = int(hear(child))
        for _ in range(words):
            hear(child)
        time.sleep(chance.random() * 0.004)
        os.kill(writer, signal.SIGKILL)
        while hear(child) != "dead":
            pass
        found.append(contents(directory))
        assert found[-1] in (None, WHOLE)
        with data_lock(directory, timeout_s=0):
            pass
        assert contents(prepare_once(directory, build, timeout_s=0)) == WHOLE
        assert left_beside(directory) == []
        shutil.rmtree(directory)
    assert None in found
    assert WHOLE in found


def test_a_writer_killed_at_each_line_leaves_nothing_or_everything(tmp_path: Path, start: Start) -> None:
    """The child forks itself, and the n-th fork kills itself before the n-th line of the module that it comes to."""
    child = start(
        """
def small(temporary):
    (temporary / "part").write_bytes(b"whole")

def kill_at(countdown):
    def trace(frame, event, _):
        if frame.f_code.co_filename == module.__file__ and event == "line" and next(countdown, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace
    return trace

for number in range(1000):
    pid = os.fork()
    if pid == 0:
        sys.settrace(kill_at(iter(range(number))))
        prepare_once(directory / str(number) / "data", small)
        os._exit(0)
    if os.waitpid(pid, 0)[1] == 0:
        break
""",
        tmp_path,
    )
    assert child.wait(timeout=60) == 0
    *killed, last = sorted(tmp_path.iterdir(), key=lambda path: int(path.name))
    found = [contents(path / "data") for path in killed]
    assert contents(last / "data") == {"part": b"whole"}
    # Nothing up to some line, everything from there on.
    assert sorted(found, key=bool) == found
    assert [found[0], found[-1]] == [None, {"part": b"whole"}]
    for path in killed:
        prepare_once(path / "data", lambda temporary: (temporary / "part").touch(), timeout_s=0)
        assert left_beside(path / "data") == []
    assert len(killed) > 50
