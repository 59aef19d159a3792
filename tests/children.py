"""Python processes that share nothing with the test but the file system, for the tests of the data lock.

::

    with children() as start:
        child = start(HOLD, tmp_path / "data")      # killed at the end of the block, if it still lives
        assert hear(child) == "held"
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# What every child begins with. It imports as little as possible, so that a round of killing takes milliseconds.
CHILD = """
import os, signal, sys, time
from pathlib import Path
from air_tutorials import data_lock as module
from air_tutorials.data_lock import data_lock, prepare_once
from air_tutorials.errors import DataNotWritableError

directory = Path(sys.argv[1])

def say(word):
    print(word, flush=True)

def build(temporary):
    say("building")
    for number in range(2):
        with open(temporary / f"part-{number}", "wb") as file:
            for _ in range(8):
                file.write(bytes([number]) * 4096)
                file.flush()
                say("wrote")
                time.sleep(0.002)
"""
HOLD = "with data_lock(directory): say('held'); time.sleep(60)"
PREPARE = "prepare_once(directory, build); say('done')"
# What `build` makes, in the child and here.
WHOLE = {f"part-{number}": bytes([number]) * 8 * 4096 for number in range(2)}
Start = Callable[[str, Path], "subprocess.Popen[str]"]


def build(temporary: Path) -> None:
    for name, content in WHOLE.items():
        (temporary / name).write_bytes(content)


def contents(directory: Path) -> dict[str, bytes] | None:
    return {path.name: path.read_bytes() for path in directory.iterdir()} if directory.exists() else None


def left_beside(directory: Path) -> list[str]:
    expected = {directory.name, f".{directory.name}.lock"}
    return [path.name for path in directory.parent.iterdir() if path.name not in expected]


@contextmanager
def children() -> Iterator[Start]:
    """Yield a function that starts a process with a program, ``CHILD`` and then the given code, and a directory."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, directory: Path) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", CHILD + code, str(directory)]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    try:
        yield start
    finally:
        for child in started:
            child.kill()
            child.communicate()


def hear(child: "subprocess.Popen[str]") -> str:
    """Wait for the next line that a child says."""
    line = child.stdout.readline()
    assert line, "the child died"
    return line.strip()


def tell(child: "subprocess.Popen[str]") -> None:
    """Send a child one empty line."""
    child.stdin.write("\n")
    child.stdin.flush()
