"""One training loop and one test loop, used unchanged before and after the conversion to Ray."""

from collections.abc import Callable, Iterable, Sized
from typing import NamedTuple

import torch
from torch import Tensor, nn

Batches = Iterable[tuple[Tensor, Tensor]]
OnStep = Callable[[int, int, Tensor], None]


def ignore_step(*_step: object) -> None:
    """Do nothing: the ``on_step`` of a training that nobody watches."""


class Score(NamedTuple):
    """What a model scored on some samples, as sums: sums of several workers can be added, means cannot.

    Attributes:
        loss_sum: the loss summed over samples.
        num_correct: how many samples were classified correctly.
        num_samples: how many samples were seen.

    >>> Score(loss_sum=6.0, num_correct=9, num_samples=12).accuracy
    0.75
    """

    loss_sum: float
    num_correct: int
    num_samples: int

    @property
    def loss(self) -> float:
        """Mean loss per sample; NaN when no sample was seen."""
        return self.loss_sum / self.num_samples if self.num_samples else float("nan")

    @property
    def accuracy(self) -> float:
        """Share of correct samples in [0, 1]; NaN when no sample was seen."""
        return self.num_correct / self.num_samples if self.num_samples else float("nan")


def train_epoch(
    dataloader: Batches,
    model: nn.Module,
    loss_fn: nn.Module,
    optimizer: torch.optim.Optimizer,
    on_step: OnStep = ignore_step,
) -> float:
    """Train once over the data.

    Args:
        dataloader: yields (images, targets): float32 (batch, …) and int64 (batch,).
        model: returns logits, float32 (batch, classes); the batches go to the device it lies on.
        loss_fn: mean loss of a batch.
        optimizer: holds the model's parameters.
        on_step: called after each step with (step, number of steps or 0 if unknown, loss). The loss is a tensor,
            since turning it into a number makes a GPU wait: do that only as often as you show it.

    Returns:
        The mean of the batches' losses on this process; NaN when there was no batch.
    """
    device = next(model.parameters()).device
    num_steps = len(dataloader) if isinstance(dataloader, Sized) else 0
    total, step = torch.zeros((), device=device), -1
    model.train()
    for step, (images, targets) in enumerate(dataloader):
        images, targets = images.to(device), targets.to(device)

        loss = loss_fn(model(images), targets)

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        total += loss.detach()
        on_step(step, num_steps, loss.detach())
    return total.item() / (step + 1) if step >= 0 else float("nan")


def test_epoch(dataloader: Batches, model: nn.Module, loss_fn: nn.Module) -> Score:
    """Score a model over the data, without changing it.

    Args:
        dataloader: yields (images, targets): float32 (batch, …) and int64 (batch,).
        model: returns logits, float32 (batch, classes).
        loss_fn: mean loss of a batch; it is weighted by the batch's size, so that a smaller last batch counts less.

    Returns:
        The sums over every sample that the loader yields.
    """
    device = next(model.parameters()).device
    loss_sum, num_correct, num_samples = torch.zeros((), dtype=torch.float64), 0, 0
    model.eval()
    with torch.inference_mode():
        for images, targets in dataloader:
            images, targets = images.to(device), targets.to(device)
            logits = model(images)
            loss_sum += loss_fn(logits, targets).cpu() * len(targets)
            num_correct += int((logits.argmax(dim=1) == targets).sum())
            num_samples += len(targets)
    return Score(float(loss_sum), num_correct, num_samples)


# pytest would otherwise collect it in every test module that imports it.
test_epoch.__test__ = False  # type: ignore[attr-defined]
