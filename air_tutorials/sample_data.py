"""The embedded samples of FashionMNIST, CIFAR-10 and MNIST: drawn by code, in the datasets' own on-disk formats.

The pictures are drawings and not the real images: they need no network and no licence, and are the same bytes on every
machine. Training and test pictures are all different.
"""

import io
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from air_tutorials.drawing import Dice, Pixels
from air_tutorials.outlines import Kind, Layer, parse_kinds
from air_tutorials.pictures import draw_digits, draw_garments, draw_scenes

# Of the drawings. Raise it whenever a byte of a file changes.
VERSION = "v1"
TRAIN_PER_CLASS = 1_200
TEST_PER_CLASS = 200

# So many pictures fit into a processor's cache while they are drawn.
_CHUNK = 200

Draw = Callable[[Dice, Kind, list[Layer], int], Pixels]


class Split(NamedTuple):
    """One half of a dataset.

    Attributes:
        images: uint8 (count, channels, height, width).
        labels: int64 (count,), the same number of each class, in random order.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


def write_fashion_mnist(root: Path) -> None:
    """Draw ten kinds of garments and write them as torchvision's ``FashionMNIST`` has them.

    Args:
        root: receives ``FashionMNIST/raw/…-ubyte``: IDX files of uint8 (28, 28) images.

    Source: drawn by this package (Apache-2.0). The classes and the format are those of Xiao et al., 2017.
    """
    _write_idx(root / "FashionMNIST" / "raw", *_draw("fashion_mnist", draw_garments, seed=12)[1:])


def write_mnist(root: Path) -> None:
    """Draw the ten digits and write them as torchvision's ``MNIST`` has them.

    Args:
        root: receives ``MNIST/raw/…-ubyte``: IDX files of uint8 (28, 28) images.

    Source: drawn by this package (Apache-2.0). The format is that of LeCun et al., 1998.
    """
    _write_idx(root / "MNIST" / "raw", *_draw("mnist", draw_digits, seed=2)[1:])


def write_cifar10(root: Path) -> None:
    """Draw vehicles and animals and write them as torchvision's ``CIFAR10`` has them.

    Args:
        root: receives ``cifar-10-batches-py``: pickled batches of uint8 rows of 3 × 32 × 32.

    Source: drawn by this package (Apache-2.0). The classes and the format are those of Krizhevsky, 2009.
    """
    directory = root / "cifar-10-batches-py"
    directory.mkdir(parents=True)
    names, train, test = _draw("cifar10", draw_scenes, seed=5)
    size = len(train.labels) // 5
    for i in range(5):
        part = Split(train.images[i * size : (i + 1) * size], train.labels[i * size : (i + 1) * size])
        _write_batch(directory / f"data_batch_{i + 1}", f"training batch {i + 1} of 5", names, part)
    _write_batch(directory / "test_batch", "testing batch 1 of 1", names, test)
    meta = {"num_cases_per_batch": size, "label_names": names, "num_vis": 3 * 32 * 32}
    (directory / "batches.meta").write_bytes(_pickled(meta))


def _draw(name: str, draw: Draw, seed: int) -> tuple[list[str], Split, Split]:
    """Return the classes' names, the training split and the test split.

    The callers' seeds were picked from a few for a learning curve that rises evenly, also unshuffled.
    """
    kinds = parse_kinds((resources.files("air_tutorials") / "drawings" / f"{name}.txt").read_text("utf-8"))
    # Each class has chances of its own, so that it does not matter which one a thread draws first.
    with ThreadPoolExecutor() as pool:
        classes = list(pool.map(lambda i: _draw_class(Dice(seed, i), kinds[i], draw), range(len(kinds))))
    images = np.stack(classes, axis=1)
    dice = Dice(seed, len(kinds))
    train, test = (_shuffled(dice, part) for part in (images[:TRAIN_PER_CLASS], images[TRAIN_PER_CLASS:]))
    return [kind.name for kind in kinds], train, test


def _draw_class(dice: Dice, kind: Kind, draw: Draw) -> NDArray[np.uint8]:
    count = TRAIN_PER_CLASS + TEST_PER_CLASS
    bounds = [count * i // len(kind.poses) for i in range(len(kind.poses) + 1)]
    chunks = []
    for i, pose in enumerate(kind.poses):
        for start in range(bounds[i], bounds[i + 1], _CHUNK):
            pixels = draw(dice, kind, pose, min(_CHUNK, bounds[i + 1] - start))
            chunks.append(np.floor(np.clip(pixels, 0, 255) + np.float32(0.5)).astype(np.uint8))
    return np.concatenate(chunks)[dice.permutation(count)]


def _shuffled(dice: Dice, images: NDArray[np.uint8]) -> Split:
    """Mix (pictures of a class, classes, channels, height, width) into one row of pictures with labels."""
    labels = np.tile(np.arange(images.shape[1]), len(images))
    order = dice.permutation(len(labels))
    return Split(images.reshape(-1, *images.shape[2:])[order], labels[order])


def _write_idx(directory: Path, train: Split, test: Split) -> None:
    """Write IDX files: two zero bytes, type 8 (uint8), the number of dimensions, their sizes (big-endian), the data."""
    directory.mkdir(parents=True)
    for prefix, split in (("train", train), ("t10k", test)):
        for name, array in (("images-idx3", split.images[:, 0]), ("labels-idx1", split.labels.astype(np.uint8))):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (directory / f"{prefix}-{name}-ubyte").write_bytes(header + array.tobytes())


def _write_batch(path: Path, title: str, names: list[str], split: Split) -> None:
    labels = split.labels.tolist()
    filenames = [f"{names[label]}_{i:06}.png" for i, label in enumerate(labels)]
    data = split.images.reshape(len(labels), -1)
    path.write_bytes(_pickled({"batch_label": title, "labels": labels, "data": data, "filenames": filenames}))


class _ArrayPickler(pickle.Pickler):
    """Pickles arrays of bytes in a way that does not change with NumPy's version."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return np.ndarray, (value.shape, "u1", value.tobytes())
        return NotImplemented


def _pickled(value: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    _ArrayPickler(file, protocol=4).dump(value)
    return file.getvalue()
