"""Page 1's program converted with Accelerate, for the processes that ``torchrun`` or ``accelerate launch`` starts."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from air_tutorials.baseline import load_data
from air_tutorials.checkpoints import load_checkpoint, save_checkpoint
from air_tutorials.loops import Score, ignore_step, test_epoch, train_epoch
from air_tutorials.models import NeuralNetwork


def train_func(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Train a classifier in this process, in step with the others.

    ``train_epoch`` calls ``loss.backward()`` and not ``accelerator.backward(loss)``, as Accelerate's guide asks for;
    without mixed precision and accumulated gradients the two are the same, and the loop is that of all twins.
    """
    accelerator = Accelerator()
    batch_size = config["batch_size"]
    batch_size_per_worker = batch_size // accelerator.num_processes
    seed, shuffle = config.get("seed", 0), config.get("shuffle", False)
    torch.manual_seed(seed)

    training_data, test_data = config.get("load_data", load_data)()
    train_dataloader = DataLoader(training_data, batch_size=batch_size_per_worker, shuffle=shuffle)
    test_dataloader = DataLoader(shard_without_padding(test_data, accelerator), batch_size=batch_size_per_worker)

    model = config.get("make_model", NeuralNetwork)()
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    model, optimizer, train_dataloader = accelerator.prepare(model, optimizer, train_dataloader)
    on_step = config.get("on_step", ignore_step)

    history = []
    for epoch in range(resume(config, accelerator, model, optimizer), config["epochs"]):
        seed_epoch(train_dataloader, seed, epoch, accelerator)
        train_loss = train_epoch(train_dataloader, model, loss_fn, optimizer, partial(on_step, epoch))
        score = test_epoch(test_dataloader, accelerator.unwrap_model(model), loss_fn)
        train_loss, score = reduce_over_workers(train_loss, score, accelerator)
        metrics = {"epoch": epoch, "train_loss": train_loss, "loss": score.loss, "accuracy": score.accuracy}
        history.append(metrics | {"num_correct": score.num_correct, "num_samples": score.num_samples})
        save(config, accelerator, model, optimizer, next_epoch=epoch + 1)
    return history


def shard_without_padding(dataset: Dataset, accelerator: Accelerator) -> Dataset:
    """Return this process's share of a test set: every sample goes to exactly one."""
    return Subset(dataset, range(accelerator.process_index, len(dataset), accelerator.num_processes))  # type: ignore[arg-type]


def resume(config: dict[str, Any], accelerator: Accelerator, model: nn.Module, optimizer: Any) -> int:
    """Load the latest checkpoint, if there is one."""
    if not Path(config["save_to"]).exists():
        return 0
    return load_checkpoint(config["save_to"], accelerator.unwrap_model(model), optimizer.optimizer)


def seed_epoch(dataloader: Any, seed: int, epoch: int, accelerator: Accelerator) -> None:
    """Let the order of the data and every random number depend on seed, epoch and rank alone."""
    dataloader.set_epoch(epoch)
    torch.manual_seed(hash((seed, epoch, accelerator.process_index)) % 2**32)


def reduce_over_workers(train_loss: float, score: Score, accelerator: Accelerator) -> tuple[float, Score]:
    """Combine what every process saw: the mean of the training losses, the sums of the scores."""
    mine = torch.tensor([train_loss, *score], dtype=torch.float64, device=accelerator.device)
    train_loss_sum, loss_sum, num_correct, num_samples = accelerator.reduce(mine, reduction="sum").tolist()
    return train_loss_sum / accelerator.num_processes, Score(loss_sum, int(num_correct), int(num_samples))


def save(config: dict[str, Any], accelerator: Accelerator, model: nn.Module, optimizer: Any, next_epoch: int) -> None:
    """Save in the main process, and let the others wait until it is done."""
    if accelerator.is_main_process:
        save_checkpoint(config["save_to"], accelerator.unwrap_model(model), optimizer.optimizer, next_epoch)
    accelerator.wait_for_everyone()
