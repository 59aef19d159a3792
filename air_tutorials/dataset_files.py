"""The files of FashionMNIST, MNIST and CIFAR-10: drawn or downloaded once, checked and read by torchvision."""

import hashlib
import socket
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from air_tutorials import sample_data
from air_tutorials.data_lock import prepare_once
from air_tutorials.errors import ConfigError, DamagedDataError

Name = Literal["FashionMNIST", "MNIST", "CIFAR10"]
Source = Literal["sample", "download"]

_WRITERS = {
    "FashionMNIST": sample_data.write_fashion_mnist,
    "MNIST": sample_data.write_mnist,
    "CIFAR10": sample_data.write_cifar10,
}
# Torchvision itself waits for ever for a server that falls silent.
_SILENCE_S = 60.0
# Of all files, in the format of the program `sha256sum`.
_CHECKSUMS = "SHA256SUMS"


def prepare_files(name: Name, root: Path, source: Source, timeout_s: float) -> Path:
    """Return the directory of a dataset's files, which are drawn or downloaded first if they are not there.

    Args:
        name: of torchvision's class.
        root: of all datasets.
        source: ``"sample"`` or ``"download"``; each has a directory of its own.
        timeout_s: how long to wait for another process that prepares the files, in seconds.

    Raises:
        ConfigError: the source is unknown.
        DamagedDataError: a file is not as it was prepared; delete its directory.
        DataError: see ``prepare_once``.
    """
    if source not in ("sample", "download"):
        raise ConfigError(f"source={source!r} must be 'sample' (embedded drawings) or 'download' (the real dataset).")

    def build(temporary: Path) -> None:
        if source == "sample":
            _WRITERS[name](temporary)
        else:
            _download(name, temporary)
        files = sorted(path for path in temporary.rglob("*") if path.is_file())
        lines = [f"{_digest(path)}  {path.relative_to(temporary).as_posix()}\n" for path in files]
        (temporary / _CHECKSUMS).write_text("".join(lines))

    # With the version in its name, a sample that other drawings made is not taken for this one.
    version = f"-{sample_data.VERSION}" if source == "sample" else ""
    directory = prepare_once(root / source / (name + version), build, timeout_s=timeout_s)
    _check(directory)
    return directory


def read_files(name: Name, directory: Path, train: bool) -> tuple[Tensor, Tensor, list[str]]:
    """Read a dataset with torchvision's own class.

    Args:
        name: of torchvision's class.
        directory: what torchvision calls root.
        train: the training images or the test images.

    Returns:
        images: uint8 (count, channels, height, width); labels: int64 (count,); the names of the classes.
    """
    data = _torchvision_class(name)(directory, train=train)
    images = torch.as_tensor(data.data)
    # CIFAR's are (count, height, width, channels), as PIL wants them.
    images = images[:, None] if images.dim() == 3 else images.permute(0, 3, 1, 2).contiguous()
    return images, torch.as_tensor(data.targets), list(data.classes)


def _torchvision_class(name: Name) -> Any:
    # Importing it takes seconds.
    from torchvision import datasets

    if name != "CIFAR10":
        return getattr(datasets, name)

    class CIFAR10(datasets.CIFAR10):
        """Without torchvision's own checksums, which are of the real files; ours are checked instead."""

        train_list: ClassVar = [[file, None] for file, _ in datasets.CIFAR10.train_list]
        test_list: ClassVar = [[file, None] for file, _ in datasets.CIFAR10.test_list]
        meta: ClassVar = datasets.CIFAR10.meta | {"md5": None}

    return CIFAR10


def _download(name: Name, directory: Path) -> None:
    previous = socket.getdefaulttimeout()
    socket.setdefaulttimeout(previous or _SILENCE_S)
    try:
        _torchvision_class(name)(directory, download=True)
    finally:
        socket.setdefaulttimeout(previous)
    for archive in directory.rglob("*.gz"):
        archive.unlink()


def _check(directory: Path) -> None:
    """Compare all files with the checksums that were written when they were prepared."""
    try:
        text = (directory / _CHECKSUMS).read_text()
        expected = {Path(name): digest for digest, name in (line.split("  ", 1) for line in text.splitlines())}
    except (FileNotFoundError, ValueError):
        text = ""
    if text.endswith("\n"):
        damaged = [path for path, digest in expected.items() if _digest(directory / path) != digest]
    else:
        damaged = [Path(_CHECKSUMS)]
    if damaged:
        raise DamagedDataError(
            f"{directory / damaged[0]} is missing or not as it was prepared. "
            f"Delete the directory {directory} and load again: it is then prepared anew."
        )


def _digest(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
