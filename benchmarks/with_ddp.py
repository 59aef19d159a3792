"""Page 1's program converted by hand: DistributedDataParallel, for the processes that ``torchrun`` starts.

It does what ``air_tutorials/trainer.py`` does: the same share of every batch, every test sample counted once, metrics
of all processes, a checkpoint an epoch, and a start from the latest one.
"""

import os
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Subset

from air_tutorials.baseline import load_data
from air_tutorials.checkpoints import load_checkpoint, save_checkpoint
from air_tutorials.loops import Score, ignore_step, test_epoch, train_epoch
from air_tutorials.models import NeuralNetwork


def train_func(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Train a classifier in this process, in step with the others that ``torchrun`` started."""
    torch.distributed.init_process_group()
    batch_size = config["batch_size"]
    batch_size_per_worker = batch_size // torch.distributed.get_world_size()
    seed, shuffle = config.get("seed", 0), config.get("shuffle", False)
    torch.manual_seed(seed)
    device = f"cuda:{os.environ['LOCAL_RANK']}" if torch.cuda.is_available() else "cpu"

    training_data, test_data = config.get("load_data", load_data)()
    sampler = DistributedSampler(training_data, shuffle=shuffle, seed=seed)
    train_dataloader = DataLoader(training_data, batch_size=batch_size_per_worker, sampler=sampler)
    test_dataloader = DataLoader(shard_without_padding(test_data), batch_size=batch_size_per_worker)

    model = config.get("make_model", NeuralNetwork)().to(device)
    model = DistributedDataParallel(model)
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    on_step = config.get("on_step", ignore_step)

    history = []
    for epoch in range(resume(config, model.module, optimizer), config["epochs"]):
        seed_epoch(sampler, seed, epoch)
        train_loss = train_epoch(train_dataloader, model, loss_fn, optimizer, partial(on_step, epoch))
        score = test_epoch(test_dataloader, model.module, loss_fn)
        train_loss, score = reduce_over_workers(train_loss, score, device)
        metrics = {"epoch": epoch, "train_loss": train_loss, "loss": score.loss, "accuracy": score.accuracy}
        history.append(metrics | {"num_correct": score.num_correct, "num_samples": score.num_samples})
        save(config, model.module, optimizer, next_epoch=epoch + 1)
    torch.distributed.destroy_process_group()
    return history


def shard_without_padding(dataset: Dataset) -> Dataset:
    """Return this process's share of a test set: every sample goes to exactly one."""
    rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    return Subset(dataset, range(rank, len(dataset), world_size))  # type: ignore[arg-type]


def resume(config: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Load the latest checkpoint, if there is one: ``torchrun`` starts all processes again when one has died."""
    return load_checkpoint(config["save_to"], model, optimizer) if Path(config["save_to"]).exists() else 0


def seed_epoch(sampler: DistributedSampler, seed: int, epoch: int) -> None:
    """Let the order of the data and every random number depend on seed, epoch and rank alone."""
    sampler.set_epoch(epoch)
    torch.manual_seed(hash((seed, epoch, torch.distributed.get_rank())) % 2**32)


def reduce_over_workers(train_loss: float, score: Score, device: str) -> tuple[float, Score]:
    """Combine what every process saw: the mean of the training losses, the sums of the scores."""
    world_size = torch.distributed.get_world_size()
    sums = torch.tensor([train_loss / world_size, *score], dtype=torch.float64, device=device)
    torch.distributed.all_reduce(sums)
    mean_train_loss, loss_sum, num_correct, num_samples = sums.tolist()
    return mean_train_loss, Score(loss_sum, int(num_correct), int(num_samples))


def save(config: dict[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer, next_epoch: int) -> None:
    """Save on rank 0, and let the others wait until it is done."""
    if torch.distributed.get_rank() == 0:
        save_checkpoint(config["save_to"], model, optimizer, next_epoch)
    torch.distributed.barrier()
