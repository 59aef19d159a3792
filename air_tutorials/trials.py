"""A training function as it is and as a trial of Ray Tune: twins, with what is searched and what a trial needs."""

import math
import tempfile
from typing import Any

import numpy as np
import torch
from ray import tune
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset, random_split

from air_tutorials.checkpoints import load_checkpoint, save_checkpoint
from air_tutorials.datasets import load_cifar10
from air_tutorials.loops import test_epoch, train_epoch
from air_tutorials.models import Net

Metrics = dict[str, float]


def search_space() -> dict[str, Any]:
    """Return what ``train_cifar`` is tuned over: two widths, a learning rate, a batch size.

    Returns:
        ``l1`` and ``l2``: powers of two from 4 to 256; ``lr``: log-uniform in [1e-4, 1e-1]; ``batch_size``: images a
        step.
    """
    return {
        "l1": tune.choice([2**power for power in range(2, 9)]),
        # The same by a function of one's own, for what no distribution of Tune describes.
        "l2": tune.sample_from(lambda _: 2 ** np.random.randint(2, 9)),
        "lr": tune.loguniform(1e-4, 1e-1),
        "batch_size": tune.choice([16, 32, 64]),
    }


def load_split(source: str = "sample", *, num_images: int | None = None) -> tuple[Subset, Subset]:
    """Load CIFAR-10's training images, four fifths to train with and one fifth to choose the best trial by.

    Args:
        source: ``"sample"`` or ``"download"``, see ``load_cifar10``.
        num_images: take only so many; all if left out.

    Returns:
        Training and validation part, the same on every call.
    """
    dataset: Dataset = load_cifar10(train=True, source=source)  # type: ignore[arg-type]
    if num_images is not None:
        dataset = Subset(dataset, range(num_images))
    training, validation = random_split(dataset, [0.8, 0.2], torch.Generator().manual_seed(0))
    return training, validation


def train_alone(config: dict[str, Any], data: tuple[Dataset, Dataset]) -> list[Metrics]:
    """Train ``Net`` with one set of hyperparameters: plain PyTorch, nothing of Ray.

    Args:
        config: ``l1``, ``l2``, ``lr``, ``batch_size``, ``epochs``, and ``save_to``, a directory for the checkpoint.
        data: training and validation images.

    Returns:
        Validation loss and accuracy after each epoch.
    """
    training, validation = data
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    model = Net(config["l1"], config["l2"]).to(device)
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=0.9)

    history = []
    for epoch in range(config["epochs"]):
        train_epoch(shuffled(training, config["batch_size"], epoch), model, loss_fn, optimizer)
        score = test_epoch(DataLoader(validation, batch_size=256), model, loss_fn)
        history.append({"loss": score.loss, "accuracy": score.accuracy, "epoch": epoch})
        save_checkpoint(config["save_to"], model, optimizer, next_epoch=epoch + 1)
    return history


def train_cifar(config: dict[str, Any], data: tuple[Dataset, Dataset]) -> None:
    """Train ``Net`` as a trial of Ray Tune, which may stop it after any epoch, or go on with it from a checkpoint.

    Args:
        config: ``l1``, ``l2``, ``lr``, ``batch_size``, ``epochs``.
        data: training and validation images.
    """
    training, validation = data
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    model = Net(config["l1"], config["l2"]).to(device)
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"], momentum=0.9)

    for epoch in range(resume_trial(model, optimizer, config["lr"]), config["epochs"]):
        train_epoch(shuffled(training, config["batch_size"], epoch), model, loss_fn, optimizer)
        score = test_epoch(DataLoader(validation, batch_size=256), model, loss_fn)
        metrics = {"loss": score.loss, "accuracy": score.accuracy, "epoch": epoch}
        report_trial(metrics, model, optimizer, next_epoch=epoch + 1)


def shuffled(dataset: Dataset, batch_size: int, epoch: int) -> DataLoader:
    """Return a loader whose order depends on the epoch alone, so that a trial that resumes sees the same batches.

    Args:
        dataset: the training images.
        batch_size: images a step.
        epoch: counted from 0.
    """
    return DataLoader(dataset, batch_size, shuffle=True, generator=torch.Generator().manual_seed(epoch))


def resume_trial(model: nn.Module, optimizer: torch.optim.Optimizer, lr: float) -> int:
    """Load the trial's checkpoint, if Tune gave it one, and return the epoch to go on with.

    Args:
        model: receives the weights.
        optimizer: receives its state, but for the learning rate.
        lr: of the trial. The checkpoint may be another trial's, whose learning rate its optimizer brings along:
            population based training hands over weights, and tries them with other hyperparameters.
    """
    checkpoint = tune.get_checkpoint()
    if checkpoint is None:
        return 0
    next_epoch = load_checkpoint(checkpoint, model, optimizer)
    for group in optimizer.param_groups:
        group["lr"] = lr
    return next_epoch


def report_trial(metrics: Metrics, model: nn.Module, optimizer: torch.optim.Optimizer, next_epoch: int) -> None:
    """Report metrics with a checkpoint; Tune may end the trial right here.

    Args:
        metrics: what the scheduler and the choice of the best trial look at.
        model: saved without its wrappers.
        optimizer: saved beside it.
        next_epoch: the epoch to go on with, counted from 0.

    Raises:
        FloatingPointError: the loss is NaN or infinite. The trial ends; the others do not. Take smaller learning rates.
    """
    if not math.isfinite(metrics["loss"]):
        raise FloatingPointError(f"the loss is {metrics['loss']} after epoch {metrics['epoch']}")
    with tempfile.TemporaryDirectory() as directory:
        save_checkpoint(directory, model, optimizer, next_epoch)
        tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(directory))
