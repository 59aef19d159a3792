"""prepare_once around torchvision's real downloader, and a real server that misbehaves."""

import gzip
import hashlib
import os
import socket
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest
from mirror import Fault, Mirror

from air_tutorials.data_lock import prepare_once
from air_tutorials.errors import DamagedDataError, DownloadError

EXPECTED: dict[Fault, type[Exception] | None] = {
    "truncated": DamagedDataError,
    "flipped": DamagedDataError,
    "reset": DownloadError,
    "stalled": DownloadError,
    "error": DownloadError,
    "closed": DownloadError,
    "slow": None,
}


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    """Serves one archive and one gzipped file, each of 100 kB that do not compress."""
    served = tmp_path / "served"
    served.mkdir()
    (served / "part").write_bytes(os.urandom(100_000))
    with tarfile.open(served / "archive.tar.gz", "w:gz") as archive:
        archive.add(served / "part", "part")
    (served / "part.gz").write_bytes(gzip.compress((served / "part").read_bytes()))
    with Mirror(served) as mirror:
        yield mirror


def downloader(mirror: Mirror, name: str, *, checked: bool = True) -> Callable[[Path], None]:
    from torchvision.datasets.utils import download_and_extract_archive

    md5 = hashlib.md5((mirror.directory / name).read_bytes()).hexdigest() if checked else None
    return lambda temporary: download_and_extract_archive(mirror.url + name, temporary, md5=md5)


def test_every_fault_is_tried() -> None:
    assert set(EXPECTED) == set(get_args(Fault))


@pytest.mark.parametrize(("fault", "expected"), EXPECTED.items())
@pytest.mark.parametrize("name", ["archive.tar.gz", "part.gz"])
def test_a_download_that_fails_says_so_and_the_next_one_succeeds(
    tmp_path: Path, mirror: Mirror, name: str, fault: Fault, expected: type[Exception] | None
) -> None:
    directory = tmp_path / "root" / "data"
    download = downloader(mirror, name)
    mirror.misbehave(name, fault, times=1)
    if expected is not None:
        # Torchvision itself would wait for a silent server for ever.
        socket.setdefaulttimeout(1.0 if fault == "stalled" else None)
        with pytest.raises(expected, match=f"{directory} was not prepared, and nothing was kept: "):
            prepare_once(directory, download)
        socket.setdefaulttimeout(None)
        assert [path.name for path in directory.parent.iterdir()] == [".data.lock"]
    prepare_once(directory, download, timeout_s=0)
    assert (directory / "part").read_bytes() == (mirror.directory / "part").read_bytes()
    assert mirror.downloads[name] == (1 if expected is None else 2)


@pytest.mark.parametrize("name", ["archive.tar.gz", "part.gz"])
def test_half_an_archive_without_a_checksum_is_damaged_too(tmp_path: Path, mirror: Mirror, name: str) -> None:
    mirror.misbehave(name, "truncated")
    with pytest.raises(DamagedDataError, match="The next try downloads it anew"):
        prepare_once(tmp_path / "root" / "data", downloader(mirror, name, checked=False))


@pytest.mark.parametrize(("fault", "expected"), [("flipped", DamagedDataError), ("error", DownloadError)])
def test_what_torchvisions_mnist_makes_of_it(
    tmp_path: Path, mirror: Mirror, fault: Fault, expected: type[Exception]
) -> None:
    """After it has tried all its mirrors, MNIST reports damage and failed requests alike as a RuntimeError."""
    from torchvision.datasets import MNIST

    class OneFile(MNIST):
        mirrors = [mirror.url]  # noqa: RUF012 - as torchvision declares it
        resources = [("part.gz", hashlib.md5((mirror.directory / "part.gz").read_bytes()).hexdigest())]  # noqa: RUF012

        def _load_data(self) -> tuple[None, None]:
            return None, None

    def download(temporary: Path) -> None:
        OneFile(temporary, download=True)

    mirror.misbehave("part.gz", fault, times=1)
    with pytest.raises(expected, match=r"Error downloading part\.gz: Tried http://127"):
        prepare_once(tmp_path / "root" / "data", download)
    raw = prepare_once(tmp_path / "root" / "data", download, timeout_s=0) / "OneFile" / "raw"
    assert (raw / "part").read_bytes() == (mirror.directory / "part").read_bytes()


def test_a_server_that_is_not_there(tmp_path: Path, mirror: Mirror) -> None:
    download = downloader(mirror, "part.gz")
    mirror.__exit__(None, None, None)
    with pytest.raises(ConnectionError, match="Connection refused"):
        prepare_once(tmp_path / "root" / "data", download)
    assert [path.name for path in (tmp_path / "root").iterdir()] == [".data.lock"]
