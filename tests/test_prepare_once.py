"""What prepare_once makes of builds that fail, of a full disk, and of odd places and names."""

import errno
import os
import socket
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from air_tutorials.data_lock import data_lock, prepare_once
from air_tutorials.errors import DamagedDataError, DataNotWritableError


def build(temporary: Path) -> None:
    (temporary / "part").write_text("whole")


def assert_whole_at_next_try(directory: Path) -> None:
    """Nothing lies about, the lock is free, and the next try succeeds."""
    assert [path.name for path in directory.parent.iterdir()] == [f".{directory.name}.lock"]
    assert (prepare_once(directory, build, timeout_s=0) / "part").read_text() == "whole"


def test_a_full_disk_is_named_with_its_free_bytes(tmp_path: Path) -> None:
    def fill(temporary: Path) -> None:
        # The kernel answers each write to this device as a full disk does.
        (temporary / "part").symlink_to("/dev/full")
        (temporary / "part").write_bytes(b"does not fit")

    directory = tmp_path / "data"
    with pytest.raises(DataNotWritableError, match=rf"{directory}: No space left on device \([\d,]+ bytes free\)"):
        prepare_once(directory, fill)
    assert_whole_at_next_try(directory)


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EDQUOT, errno.EROFS])
def test_other_ways_in_which_a_disk_refuses(tmp_path: Path, number: int) -> None:
    """A mount point, a quota and a read-only disk; to have them for real takes a mount, which not every user may."""

    def fail(temporary: Path) -> None:
        raise OSError(number, os.strerror(number), str(temporary))

    with pytest.raises(DataNotWritableError, match=f"Cannot prepare {tmp_path / 'data'}: {os.strerror(number)}"):
        prepare_once(tmp_path / "data", fail)
    assert_whole_at_next_try(tmp_path / "data")


@pytest.mark.parametrize("error", [ValueError("its own fault"), KeyboardInterrupt(), PermissionError(13, "", "/x")])
def test_a_build_that_raises(tmp_path: Path, error: BaseException) -> None:
    def fail(temporary: Path) -> None:
        build(temporary)
        raise error

    with pytest.raises(type(error)) as caught:
        prepare_once(tmp_path / "data", fail)
    assert caught.value is error
    assert_whole_at_next_try(tmp_path / "data")


def test_a_build_that_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(DamagedDataError, match="build wrote nothing"):
        prepare_once(tmp_path / "data", lambda _: None)
    assert_whole_at_next_try(tmp_path / "data")


def test_what_dead_builders_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    here = socket.gethostname()
    names = [f".data.building-{here}-1", ".data.building-there-1", ".data.building-there-2", f".d.building-{here}-1"]
    names.append(f".data.building-{here}-2-1")  # of a machine whose name begins with this one's
    for name in [*names, "data.building-1"]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "part").write_text("half")
    # Another machine's builder may be alive, unless its directory is days old.
    long_ago = time.time() - 2 * 24 * 3600
    os.utime(tmp_path / names[1], (long_ago, long_ago))
    prepare_once(tmp_path / "data", build)
    assert {path.name for path in tmp_path.iterdir()} == {*names[2:], "data.building-1", "data", ".data.lock"}


def test_another_machine_was_first(tmp_path: Path) -> None:
    def build_while_another_does(temporary: Path) -> None:
        (temporary / "part").write_text("mine")
        (tmp_path / "data").mkdir()
        build(tmp_path / "data")

    assert (prepare_once(tmp_path / "data", build_while_another_does) / "part").read_text() == "whole"
    assert {path.name for path in tmp_path.iterdir()} == {"data", ".data.lock"}


def test_an_empty_directory_is_replaced_and_a_filled_one_kept(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert (prepare_once(tmp_path / "empty", build) / "part").read_text() == "whole"
    (tmp_path / "filled").mkdir()
    (tmp_path / "filled" / "own").write_text("mine")
    assert [path.name for path in prepare_once(tmp_path / "filled", build).iterdir()] == ["own"]


@pytest.mark.parametrize("name", ["file", "file/data"])
def test_a_file_in_the_way(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DamagedDataError, match="it or a part of its path is a file"):
        prepare_once(tmp_path / name, build)
    with pytest.raises(DataNotWritableError), data_lock(tmp_path / "file" / "data"):
        pass
    assert (tmp_path / "file").read_text() == "mine"


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "disk" / "data")
    assert prepare_once(tmp_path / "link", build) == tmp_path / "link"
    assert (tmp_path / "disk" / "data" / "part").read_text() == "whole"
    assert (tmp_path / "link").is_symlink()


def test_home_and_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert prepare_once("~/data", build) == tmp_path / "data"
    assert prepare_once("relative", build) == Path("relative")
    assert (tmp_path / "relative" / "part").read_text() == "whole"


def test_others_may_read_it_as_the_umask_says(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    assert prepare_once(tmp_path / "data", build).stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_all_is_on_the_disk_before_it_appears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[tuple[int, bool]] = []
    fsync = os.fsync

    def recording_fsync(descriptor: int) -> None:
        fsync(descriptor)
        flushed.append((os.fstat(descriptor).st_ino, (tmp_path / "data").exists()))

    def build_deep(temporary: Path) -> None:
        (temporary / "raw").mkdir()
        build(temporary / "raw")

    monkeypatch.setattr(os, "fsync", recording_fsync)
    data = prepare_once(tmp_path / "data", build_deep)
    inside = [(path.stat().st_ino, False) for path in (data / "raw" / "part", data / "raw", data)]
    assert flushed == [*inside, (tmp_path.stat().st_ino, True)]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_a_disk_that_cannot_flush_will_do_and_one_that_fails_will_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def failing_fsync(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing_fsync)
        if number == errno.EINVAL:
            prepare_once(tmp_path / "flushed by nobody", build)
            return
        with pytest.raises(OSError, match="Input/output error"):
            prepare_once(tmp_path / "data", build)
    assert_whole_at_next_try(tmp_path / "data")


@given(name=st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=50))
@settings(max_examples=30, deadline=None)
def test_any_name_will_do(name: str) -> None:
    name = f"d{name}"
    with tempfile.TemporaryDirectory() as parent:
        left = Path(parent) / f".{name}.building-{socket.gethostname()}-1"
        left.mkdir()
        assert os.listdir(prepare_once(Path(parent) / name, build)) == ["part"]
        assert set(os.listdir(parent)) == {name, f".{name}.lock"}
