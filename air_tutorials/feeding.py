"""Compare two ways of feeding a model: datasets as many programs have them, and a checksum of what comes out of one."""

import csv
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from ray.exceptions import RayTaskError
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

Columns = Mapping[str, Tensor] | Sequence[Tensor]


def write_image_files(
    directory: Path, images: Iterable[np.ndarray] | Tensor, labels: Iterable[int] | Tensor, classes: Sequence[str]
) -> Path:
    """Write images as PNG files with their labels in their names, such as ``frog_0007.png``.

    Args:
        directory: is made if it is not there.
        images: uint8, each (channels, height, width) with 3 channels; they may differ in size.
        labels: for each image, the index of its class.
        classes: names without an underscore.

    Returns:
        The directory.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        pixels = np.moveaxis(np.asarray(image), 0, -1)
        Image.fromarray(pixels).save(directory / f"{classes[int(label)]}_{number:04}.png")
    return directory


class ImageFiles(Dataset[tuple[Tensor, int]]):
    """Images in a directory, each with its label in its name: ``frog_0007.png``.

    ``dataset[i]`` is (image, label): uint8 (3, height, width), and the index of its class.
    """

    def __init__(self, directory: Path, classes: Sequence[str]) -> None:
        self.paths = sorted(directory.glob("*.png"))
        self.classes = list(classes)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path = self.paths[index]
        pixels = np.array(Image.open(path).convert("RGB"))
        class_name, _, _ = path.stem.partition("_")
        return torch.from_numpy(pixels).permute(2, 0, 1), self.classes.index(class_name)


class CsvRows(IterableDataset[tuple[Tensor, int]]):
    """The rows of a CSV file, one after the other: float32 (number of features,), and the integer ``target``."""

    def __init__(self, path: Path, feature_columns: Sequence[str]) -> None:
        self.path = path
        self.feature_columns = list(feature_columns)

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        with self.path.open(newline="") as file:
            for row in csv.DictReader(file):
                features = [float(row[name]) for name in self.feature_columns]
                yield torch.tensor(features), int(row["target"])


class Epoch(NamedTuple):
    """What came out of an epoch.

    Attributes:
        num_batches: how many batches.
        num_rows: how many rows in all of them.
        checksum: 16 hexadecimal digits; the same for the same rows, in whatever order and batches they came.
    """

    num_batches: int
    num_rows: int
    checksum: str


def epoch_checksum(batches: Iterable[Columns], columns: Sequence[str] = ("image", "label")) -> Epoch:
    """Go through an epoch and sum up what it held: each row's values, shapes and dtypes.

    A row that is missing, comes twice, or has another label changes the sum; the order of the rows does not.

    Args:
        batches: pairs of tensors as a ``DataLoader`` yields them, or dictionaries of tensors as Ray Data does.
        columns: which tensors of a dictionary count, in the order in which a pair has them.

    >>> pairs, dictionary = [(torch.ones(2, 3), torch.arange(2))], {"image": torch.ones(2, 3), "label": torch.arange(2)}
    >>> epoch_checksum(pairs) == epoch_checksum([dictionary])
    True
    """
    num_batches = num_rows = total = 0
    for batch in batches:
        tensors = [batch[name] for name in columns] if isinstance(batch, Mapping) else batch
        for row in zip(*(tensor.cpu().numpy() for tensor in tensors), strict=True):
            digest = hashlib.blake2b(digest_size=8)
            for value in row:
                digest.update(f"{value.dtype} {value.shape} ".encode() + value.tobytes())
            # A sum, since two equal rows would cancel each other out in an exclusive or.
            total += int.from_bytes(digest.digest(), "big")
            num_rows += 1
        num_batches += 1
    return Epoch(num_batches, num_rows, f"{total % 2**64:016x}")


def cause_of(error: Exception) -> Exception:
    r"""Find the exception that a step of a Ray Dataset ended with, without what Ray adds to it.

    Ray raises a ``RayTaskError`` that prints the frames of its worker. Its ``cause`` is the step's own exception, to
    whose message Ray appends how often it tried, and advice. Paths below the working directory become relative.

    >>> cause_of(RayTaskError("f", "frames", ValueError("No image.\nFailed to read after 1/10 attempts. Advice.")))
    ValueError('No image.')
    """
    cause = error.cause if isinstance(error, RayTaskError) else error
    if cause.args and isinstance(cause.args[0], str):
        message, _, _ = cause.args[0].partition("\nFailed to ")
        cause.args = (message.replace(f"{Path.cwd()}/", ""), *cause.args[1:])
    return cause
