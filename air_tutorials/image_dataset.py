"""A torch dataset of images in memory whose batches are fast, with PyTorch's plain ``DataLoader``."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.utils.data import Dataset, default_collate
from torch.utils.data._utils.collate import default_collate_fn_map

from air_tutorials.errors import ConfigError


class Sample(NamedTuple):
    """One image of a ``Batch`` with its label.

    Attributes:
        image: float32 (channels, height, width).
        label: the number of its class.
    """

    image: Tensor
    label: int


class Batch:
    """A list of samples that lie in two tensors already, so that collating them copies nothing.

    Attributes:
        images: float32 (batch, channels, height, width).
        labels: int64 (batch,).
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images = images
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self.images[index], int(self.labels[index]))


def _collate(samples: Batch | Sequence[Sample], **_: Any) -> list[Tensor]:
    if isinstance(samples, Batch):
        return [samples.images, samples.labels]
    return default_collate([tuple(sample) for sample in samples])


# The documented way to teach `default_collate` a type. It holds wherever this module is imported, and so in the workers
# of a loader and where Ray builds a loader anew.
default_collate_fn_map[Sample] = _collate


class ImageDataset(Dataset[tuple[Tensor, int]]):
    """Images in memory, of which a whole batch is fetched by one indexing operation.

    Args:
        images: uint8 (count, [channels,] height, width) in [0, 255], or floats of that shape in [0, 1].
        labels: integers (count,), each the number of a class.
        classes: the names of the classes; their numbers if left out.
        mean: for each channel, subtracted from images in [0, 1].
        std: for each channel, by which the difference is divided.

    Attributes:
        images: uint8 or float32 (count, channels, height, width).
        labels: int64 (count,).
        classes: the names.

    Raises:
        ConfigError: the shapes do not fit each other, a label has no name, or ``mean`` and ``std`` do not fit; the
            message says which.

    ``dataset[i]`` is (image, label), the image as ``torchvision.transforms.ToTensor`` and ``Normalize`` make it:

    >>> ImageDataset(np.full((1, 1, 2), 255, np.uint8), [0], mean=[0.5], std=[0.5])[0]
    (tensor([[[1., 1.]]]), 0)
    """

    def __init__(
        self,
        images: ArrayLike | Tensor,
        labels: ArrayLike | Tensor,
        classes: Sequence[str] | None = None,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> None:
        self.images = images if isinstance(images, Tensor) else torch.from_numpy(np.array(images))
        self.labels = torch.as_tensor(labels, dtype=torch.int64)
        if self.images.dim() == 3:
            self.images = self.images[:, None]
        if self.images.dtype != torch.uint8:
            self.images = self.images.to(torch.float32)
        if self.images.dim() != 4 or self.labels.shape != self.images.shape[:1]:
            raise ConfigError(
                f"images {tuple(self.images.shape)} and labels {tuple(self.labels.shape)} must have the shapes "
                "(count, [channels,] height, width) and (count,)."
            )
        lowest, highest = (int(self.labels.min()), int(self.labels.max())) if len(self.labels) else (0, -1)
        self.classes = tuple(map(str, range(highest + 1))) if classes is None else tuple(classes)
        if lowest < 0 or highest >= len(self.classes):
            raise ConfigError(
                f"labels go from {lowest} to {highest}, but there are {len(self.classes)} classes, numbered from 0."
            )
        self._normalisation = _check_normalisation(mean, std, channels=self.images.shape[1])

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        # A copy, so that changing a sample in place does not change the dataset.
        return self._to_float(self.images[index].clone()), int(self.labels[index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Fetch many samples at once; ``DataLoader`` calls it with the indices of a batch."""
        chosen = torch.as_tensor(indices, dtype=torch.int64)
        return Batch(self._to_float(self.images[chosen]), self.labels[chosen])

    def _to_float(self, images: Tensor) -> Tensor:
        if images.dtype == torch.uint8:
            images = images.to(torch.float32).div_(255)
        if self._normalisation is None:
            return images
        mean, std = self._normalisation
        return (images - mean).div_(std)


def _check_normalisation(
    mean: Sequence[float] | None, std: Sequence[float] | None, channels: int
) -> tuple[Tensor, Tensor] | None:
    if mean is None and std is None:
        return None
    if mean is None or std is None or not len(mean) == len(std) == channels:
        raise ConfigError(f"mean={mean} and std={std} must both have a number for each of the {channels} channels.")
    if 0 in std:
        raise ConfigError(f"std={std} must not hold 0, by which no image can be divided.")
    return torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]
