"""FashionMNIST, CIFAR-10 and MNIST, embedded or downloaded, as torch datasets and as Ray Datasets.

``source="sample"``, the default, is the embedded sample: drawings that need no network. ``source="download"`` is the
real dataset. They lie in directories of their own, and neither ever stands in for the other.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import platformdirs
from torch import Tensor
from torch.utils.data import Subset, default_collate

from air_tutorials.dataset_files import Name, Source, prepare_files, read_files
from air_tutorials.errors import ConfigError
from air_tutorials.image_dataset import ImageDataset

if TYPE_CHECKING:
    import ray.data

__all__ = ["ImageDataset", "default_root", "load_cifar10", "load_fashion_mnist", "load_mnist", "to_ray_dataset"]

Root = str | os.PathLike[str] | None


def default_root() -> Path:
    """Return the directory of the datasets: the environment variable ``AIR_TUTORIALS_DATA``, or in the user's cache."""
    return Path(os.environ.get("AIR_TUTORIALS_DATA") or platformdirs.user_cache_dir("air_tutorials", appauthor=False))


def load_fashion_mnist(
    root: Root = None, *, train: bool = True, source: Source = "sample", timeout_s: float = 600.0
) -> ImageDataset:
    """Load FashionMNIST: grey 28 x 28 images of ten kinds of garments, in [0, 1].

    The first call of a machine draws or downloads the files. Others wait for it, also other processes.

    Args:
        root: a directory for all datasets; ``default_root()`` if left out.
        train: the training images (sample: 12,000, real: 60,000) or the test images (2,000 and 10,000).
        source: ``"sample"``, the embedded drawings, or ``"download"``, the real dataset.
        timeout_s: how long to wait for another process that prepares the files, in seconds.

    Returns:
        images: uint8 (count, 1, 28, 28), as ``dataset[i]`` float32 in [0, 1].

    Raises:
        ConfigError: the source is unknown.
        DownloadError: the server failed; try again later, or use ``source="sample"``.
        DamagedDataError: what was downloaded is damaged: try again. Or a prepared file is: delete its directory.
        DataNotWritableError: nothing can be written below root; choose another.
        DataLockTimeoutError: another process prepares the files and needs longer.

    Source: Xiao et al., 2017 (MIT), through torchvision; the sample is drawn by this package (Apache-2.0).
    """
    return _load("FashionMNIST", root, train, source, timeout_s)


def load_mnist(
    root: Root = None, *, train: bool = True, source: Source = "sample", timeout_s: float = 600.0
) -> ImageDataset:
    """Load MNIST: grey 28 x 28 images of handwritten digits, normalised with mean 0.1307 and deviation 0.3081.

    Args:
        root: see ``load_fashion_mnist``, which has the same arguments, sizes and errors.
        train: the training or the test images.
        source: ``"sample"``, the embedded drawings, or ``"download"``, the real dataset.
        timeout_s: how long to wait for another process that prepares the files, in seconds.

    Returns:
        images: uint8 (count, 1, 28, 28), as ``dataset[i]`` float32, normalised.

    Raises:
        DataError: see ``load_fashion_mnist``.

    Source: LeCun et al., 1998, through torchvision, with the mean and deviation of the real training images; the sample
    is drawn by this package (Apache-2.0).
    """
    return _load("MNIST", root, train, source, timeout_s, mean=[0.1307], std=[0.3081])


def load_cifar10(
    root: Root = None, *, train: bool = True, source: Source = "sample", timeout_s: float = 600.0
) -> ImageDataset:
    """Load CIFAR-10: colour 32 x 32 images of ten kinds of vehicles and animals, normalised to [-1, 1].

    Args:
        root: see ``load_fashion_mnist``, which has the same arguments and errors.
        train: the training images (sample: 12,000, real: 50,000) or the test images (2,000 and 10,000).
        source: ``"sample"``, the embedded drawings, or ``"download"``, the real dataset.
        timeout_s: how long to wait for another process that prepares the files, in seconds.

    Returns:
        images: uint8 (count, 3, 32, 32), as ``dataset[i]`` float32 in [-1, 1].

    Raises:
        DataError: see ``load_fashion_mnist``.

    Source: Krizhevsky, 2009, through torchvision; the sample is drawn by this package (Apache-2.0).
    """
    half = [0.5, 0.5, 0.5]
    return _load("CIFAR10", root, train, source, timeout_s, mean=half, std=half)


def to_ray_dataset(
    dataset: ImageDataset | Subset[Any], *, num_blocks: int = 8, as_stored: bool = False
) -> "ray.data.Dataset":
    """Put a dataset into Ray's object store, where 1,000 images of 1 x 28 x 28 take 3.1 MB.

    Args:
        dataset: an ``ImageDataset``, or a part of one such as ``random_split`` makes.
        num_blocks: into how many blocks it is cut: at most so many workers can read it at the same time.
        as_stored: leave the images as they are stored, mostly uint8 in [0, 255]: a quarter of the size, to be
            normalised by a step of Ray Data.

    Returns:
        A Ray Dataset with the columns ``id``: int64, the index in the dataset; ``image``: float32 (channels, height,
        width), exactly as ``dataset[id]`` has it, or as stored; ``label``: int64. Ray does not keep the order of
        rows: join by id.

    Raises:
        ConfigError: there are not between 1 and as many blocks as images; choose such a number.
    """
    # Importing these takes seconds, and a worker that only trains needs neither.
    import pyarrow
    import ray.data
    from ray.data.extensions import ArrowTensorArray

    if not 1 <= num_blocks <= len(dataset):
        raise ConfigError(f"num_blocks={num_blocks} must be between 1 and the number of images, {len(dataset)}.")
    blocks = []
    for ids in np.array_split(np.arange(len(dataset)), num_blocks):
        images, labels = _stored(dataset, ids) if as_stored else _normalised(dataset, ids)
        image = ArrowTensorArray.from_numpy(images.numpy())
        # One block after the other, so that this process never holds the whole dataset as floats.
        blocks.append(ray.put(pyarrow.table({"id": ids, "image": image, "label": labels.numpy()})))
    return ray.data.from_arrow_refs(blocks)


def _normalised(dataset: ImageDataset | Subset[Any], indices: np.ndarray) -> list[Tensor]:
    batch: Any = dataset.__getitems__(indices.tolist())
    return default_collate(batch)


def _stored(dataset: Any, indices: np.ndarray) -> list[Tensor]:
    while isinstance(dataset, Subset):
        dataset, indices = dataset.dataset, np.asarray(dataset.indices)[indices]
    return [dataset.images[indices], dataset.labels[indices]]


def _load(
    name: Name,
    root: Root,
    train: bool,
    source: Source,
    timeout_s: float,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> ImageDataset:
    root = default_root() if root is None else Path(root).expanduser()
    directory = prepare_files(name, root, source, timeout_s)
    return ImageDataset(*read_files(name, directory, train), mean=mean, std=std)
