"""The data lock and prepare_once between real processes and threads."""

import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from children import HOLD, PREPARE, WHOLE, Start, build, children, contents, hear, left_beside, tell

from air_tutorials.data_lock import data_lock, prepare_once
from air_tutorials.errors import ConfigError, DataLockTimeoutError


@pytest.fixture
def start() -> Iterator[Start]:
    with children() as start:
        yield start


def test_a_lock_excludes_processes(tmp_path: Path, start: Start) -> None:
    (tmp_path / "counter").write_text("0")
    count = """
for _ in range(20):
    with data_lock(directory) as root:
        number = int((root.parent / "counter").read_text())
        time.sleep(0.001)
        (root.parent / "counter").write_text(str(number + 1))
"""
    children = [start(count, tmp_path / "data") for _ in range(4)]
    assert [child.wait(timeout=60) for child in children] == [0] * 4
    assert (tmp_path / "counter").read_text() == "80"


def test_a_timeout_names_the_directory_the_seconds_and_the_holder(tmp_path: Path, start: Start) -> None:
    directory = tmp_path / "data"
    (tmp_path / ".data.lock").write_text("process 4194304 on a machine with a name longer than that of any other")
    child = start(HOLD, directory)
    assert hear(child) == "held"
    expected = f"lock of {directory} was not free within 0.2 s, process {child.pid} on {socket.gethostname()} holds it"
    with pytest.raises(DataLockTimeoutError, match=expected), data_lock(directory, timeout_s=0.2):
        pass
    with pytest.raises(TimeoutError, match=expected):
        prepare_once(directory, build, timeout_s=0.2)
    child.kill()
    child.wait()
    assert contents(prepare_once(directory, build, timeout_s=0)) == WHOLE


def test_a_whole_directory_needs_no_lock(tmp_path: Path, start: Start) -> None:
    directory = prepare_once(tmp_path / "data", build)
    child = start(HOLD, directory)
    assert hear(child) == "held"
    assert prepare_once(directory, build, timeout_s=0) == directory


def test_a_killed_holders_own_children_do_not_keep_its_lock(tmp_path: Path, start: Start) -> None:
    child = start("with data_lock(directory): os.fork() or say(os.getpid()); time.sleep(60)", tmp_path / "data")
    grandchild = int(hear(child))
    child.kill()
    child.wait()
    with data_lock(tmp_path / "data", timeout_s=0):
        os.kill(grandchild, signal.SIGKILL)


def test_a_link_and_its_directory_share_a_lock(tmp_path: Path, start: Start) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "data")
    child = start(HOLD, tmp_path / "link")
    assert hear(child) == "held"
    with pytest.raises(DataLockTimeoutError), data_lock(tmp_path / "disk" / "data", timeout_s=0):
        pass


def test_threads_exclude_each_other_and_one_thread_does_not_exclude_itself(tmp_path: Path) -> None:
    inside = []
    most = []

    def work() -> None:
        for _ in range(5):
            with data_lock(tmp_path / "data"), data_lock(tmp_path / "data", timeout_s=0):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 40


@pytest.mark.parametrize("timeout_s", [-1.0, float("nan")])
def test_a_wrong_timeout_is_refused(tmp_path: Path, timeout_s: float) -> None:
    with pytest.raises(ConfigError, match=f"timeout_s={timeout_s} must be"), data_lock(tmp_path, timeout_s=timeout_s):
        pass


def test_sixteen_processes_build_once_and_find_it_whole(tmp_path: Path, start: Start) -> None:
    directory = tmp_path / "missing" / "parents" / "data"
    builders = [start("say('ready'); input()\n" + PREPARE, directory) for _ in range(16)]
    for child in builders:
        assert hear(child) == "ready"
    for child in builders:
        tell(child)
    said = [child.communicate(timeout=60)[0].split() for child in builders]
    assert [words[-1] for words in said] == ["done"] * 16
    assert sum(words.count("building") for words in said) == 1
    assert contents(directory) == WHOLE
    assert left_beside(directory) == []


def test_a_directory_without_the_right_to_write(start: Start) -> None:
    """The child gives up being root, whom permissions do not bind; pytest's own directory would be closed to it."""
    attempt = """
if os.geteuid() == 0:
    os.setgroups([])
    os.setuid(65534)
try:
    prepare_once(directory, build)
except DataNotWritableError as error:
    say(error)
"""
    with tempfile.TemporaryDirectory() as parent:
        directory = Path(parent) / "data"
        os.chmod(parent, 0o555)
        said = start(attempt, directory).communicate(timeout=60)[0]
        assert said.startswith(f"Cannot prepare {directory}: Permission denied (")
        os.chmod(parent, 0o777)
        start(attempt, directory).communicate(timeout=60)
        assert contents(directory) == WHOLE
        os.chmod(parent, 0o555)
        assert start(attempt, directory).communicate(timeout=60)[0] == ""
        os.chmod(parent, 0o777)
