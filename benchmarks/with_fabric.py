"""Page 1's program converted with Lightning Fabric, for the processes that ``torchrun`` or ``fabric run`` starts."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Subset

from air_tutorials.baseline import load_data
from air_tutorials.checkpoints import load_checkpoint, save_checkpoint
from air_tutorials.loops import Score, ignore_step, test_epoch, train_epoch
from air_tutorials.models import NeuralNetwork


def train_func(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Train a classifier in this process, in step with the others.

    ``train_epoch`` calls ``loss.backward()`` and not ``fabric.backward(loss)``, as Fabric's guide asks for; in full
    precision the two are the same, and the loop is that of all twins.
    """
    fabric = Fabric(devices=int(os.environ["WORLD_SIZE"]), strategy="ddp")
    fabric.launch()
    batch_size = config["batch_size"]
    batch_size_per_worker = batch_size // fabric.world_size
    seed, shuffle = config.get("seed", 0), config.get("shuffle", False)
    torch.manual_seed(seed)

    training_data, test_data = config.get("load_data", load_data)()
    train_dataloader = DataLoader(training_data, batch_size=batch_size_per_worker, shuffle=shuffle)
    train_dataloader = fabric.setup_dataloaders(train_dataloader)
    test_dataloader = DataLoader(shard_without_padding(test_data, fabric), batch_size=batch_size_per_worker)

    model = config.get("make_model", NeuralNetwork)()
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    model, optimizer = fabric.setup(model, optimizer)
    on_step = config.get("on_step", ignore_step)

    history = []
    for epoch in range(resume(config, model.module, optimizer), config["epochs"]):
        seed_epoch(train_dataloader, seed, epoch, fabric)
        train_loss = train_epoch(train_dataloader, model, loss_fn, optimizer, partial(on_step, epoch))
        score = test_epoch(test_dataloader, model.module, loss_fn)
        train_loss, score = reduce_over_workers(train_loss, score, fabric)
        metrics = {"epoch": epoch, "train_loss": train_loss, "loss": score.loss, "accuracy": score.accuracy}
        history.append(metrics | {"num_correct": score.num_correct, "num_samples": score.num_samples})
        save(config, fabric, model.module, optimizer, next_epoch=epoch + 1)
    return history


def shard_without_padding(dataset: Dataset, fabric: Fabric) -> Dataset:
    """Return this process's share of a test set: every sample goes to exactly one."""
    return Subset(dataset, range(fabric.global_rank, len(dataset), fabric.world_size))  # type: ignore[arg-type]


def resume(config: dict[str, Any], module: nn.Module, optimizer: Any) -> int:
    """Load the latest checkpoint, if there is one."""
    return load_checkpoint(config["save_to"], module, optimizer.optimizer) if Path(config["save_to"]).exists() else 0


def seed_epoch(dataloader: Any, seed: int, epoch: int, fabric: Fabric) -> None:
    """Let the order of the data and every random number depend on seed, epoch and rank alone."""
    if isinstance(dataloader.sampler, DistributedSampler):
        dataloader.sampler.set_epoch(epoch)
    torch.manual_seed(hash((seed, epoch, fabric.global_rank)) % 2**32)


def reduce_over_workers(train_loss: float, score: Score, fabric: Fabric) -> tuple[float, Score]:
    """Combine what every process saw: the mean of the training losses, the sums of the scores."""
    mine = torch.tensor([train_loss, *score], dtype=torch.float64, device=fabric.device)
    train_loss_sum, loss_sum, num_correct, num_samples = fabric.all_reduce(mine, reduce_op="sum").tolist()
    return train_loss_sum / fabric.world_size, Score(loss_sum, int(num_correct), int(num_samples))


def save(config: dict[str, Any], fabric: Fabric, module: nn.Module, optimizer: Any, next_epoch: int) -> None:
    """Save on rank 0, and let the others wait until it is done."""
    if fabric.is_global_zero:
        save_checkpoint(config["save_to"], module, optimizer.optimizer, next_epoch)
    fabric.barrier()
