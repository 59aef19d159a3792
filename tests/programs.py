"""Small training programs that several test modules give to the trainer: data, models, and accidents."""

import os
import signal
import sys
from pathlib import Path

import ray
import ray.train
import torch
from ray.train.torch import prepare_data_loader
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from air_tutorials import trainer

# Ray's workers do not have the tests on their path.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


def load_blobs(train_count: int = 256, test_count: int = 101) -> tuple[TensorDataset, TensorDataset]:
    """Four overlapping clouds in ten dimensions. The test set divides by neither 2 nor 4 workers."""
    generator = torch.Generator().manual_seed(1)
    centres = torch.randn(4, 10, generator=generator)
    labels = torch.arange(train_count + test_count) % 4
    features = centres[labels] + torch.randn(len(labels), 10, generator=generator)
    train, test = slice(train_count), slice(train_count, None)
    return TensorDataset(features[train], labels[train]), TensorDataset(features[test], labels[test])


def make_blob_model() -> nn.Module:
    return nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 4))


def make_dropout_model() -> nn.Module:
    return nn.Sequential(nn.Linear(10, 32), nn.BatchNorm1d(32), nn.Dropout(0.5), nn.ReLU(), nn.Linear(32, 4))


def make_small_classifier() -> nn.Module:
    """Two classes of (2, 3) images: small enough for requests that are drawn at random."""
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 2))


def load_handwritten_digits() -> tuple[TensorDataset, TensorDataset]:
    """scikit-learn's 1,797 scanned digits, enlarged to 28 x 28; every fifth is held out."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    images = functional.interpolate(images, size=(28, 28), mode="bilinear")
    labels = torch.tensor(digits.target)
    held_out = torch.arange(len(labels)) % 5 == 4
    return TensorDataset(images[~held_out], labels[~held_out]), TensorDataset(images[held_out], labels[held_out])


def load_colour_blobs(train_count: int = 320, test_count: int = 100) -> tuple[TensorDataset, TensorDataset]:
    """Four kinds of noisy (3, 32, 32) images that ``Net`` learns in a few epochs."""
    generator = torch.Generator().manual_seed(2)
    patterns = torch.randn(4, 3, 8, 8, generator=generator).repeat(1, 1, 4, 4)
    labels = torch.arange(train_count + test_count) % 4
    images = patterns[labels] + 0.5 * torch.randn(len(labels), 3, 32, 32, generator=generator)
    train, test = slice(train_count), slice(train_count, None)
    return TensorDataset(images[train], labels[train]), TensorDataset(images[test], labels[test])


class KillOnce:
    """An ``on_step`` that ends its own process with SIGKILL, at one step, the first time only, on one rank."""

    def __init__(self, marker: Path, epoch: int, step: int, rank: int) -> None:
        self.marker, self.epoch, self.step, self.rank = marker, epoch, step, rank

    def __call__(self, epoch: int, step: int, _num_steps: int, _loss: object) -> None:
        here = (epoch, step, ray.train.get_context().get_world_rank())
        if here == (self.epoch, self.step, self.rank) and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def look_at_shards(config: dict) -> dict:
    """Collect, over all workers, which samples each epoch and the test shards hold, and some reduced sums."""
    context = ray.train.get_context()
    indices = torch.arange(20)
    dataloader = prepare_data_loader(DataLoader(indices, batch_size=2, shuffle=True))
    epochs = []
    for epoch in (0, 1, 0):
        trainer.seed_epoch(dataloader, seed=config["seed"], epoch=epoch)
        random_number = float(torch.rand(()))
        epochs.append(([int(i) for batch in dataloader for i in batch], random_number))
    shard = [int(i) for i in trainer.shard_without_padding(indices[:7])]
    rank = context.get_world_rank()
    reduced = trainer.reduce_over_workers(1.0 + rank, trainer.Score(10.0 * (rank + 1), rank, 3 + rank))
    gathered = [None] * context.get_world_size()
    torch.distributed.all_gather_object(gathered, {"epochs": epochs, "shard": shard, "reduced": reduced})
    return {"workers": gathered}
