"""What a half converted program computes: run it on simulated workers, and compare it with one process."""

import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

from air_tutorials.conversion import program
from air_tutorials.errors import ClusterError, ConfigError
from air_tutorials.simulated_ray import Run, run_as_workers

# Two, three or four workers can share 24 images evenly, and 49 not at all.
BATCH_SIZE, NUM_IMAGES, NUM_TEST_IMAGES, NUM_EPOCHS = 24, 144, 49, 2


class SmallModel(nn.Module):
    """A small classifier in double precision, with a buffer, as models with a normalisation have them.

    Args:
        num_features: of an image.
    """

    mean: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((1,), 0.5))
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(num_features, 32), nn.ReLU(), nn.Linear(32, 10)).double()

    def forward(self, images: Tensor) -> Tensor:
        """Turn images, float (batch, …) in [0, 1], into logits, float64 (batch, 10)."""
        return self.layers((images - self.mean).double())


class Watched(Dataset[tuple[Tensor, int]]):
    """A dataset that notes which of its rows are taken.

    Args:
        dataset: has images and labels.

    Attributes:
        taken: the rows, in their order.
    """

    def __init__(self, dataset: Dataset[tuple[Tensor, int]]) -> None:
        self.dataset = dataset
        self.taken: list[int] = []

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.taken.append(index)
        return self.dataset[index]


class Worker:
    """What one worker is given, and what is seen of it.

    Args:
        training_data: of which it may take rows.
        test_data: to score with.
        storage: where it may save.
        shuffle: whether it draws the order.

    Attributes:
        model: the one that it built.
        steps: for each step the epoch, the rows of its batch, and the loss.
    """

    def __init__(self, training_data: Dataset, test_data: Dataset, storage: Path, *, shuffle: bool) -> None:
        self.training_data, self.test_data = Watched(training_data), test_data
        self.storage, self.shuffle = storage, shuffle
        self.model: nn.Module = nn.Identity()
        self.steps: list[tuple[int, list[int], float]] = []

    def make_config(self) -> dict[str, Any]:
        """Return the argument of ``train_func``."""
        return {
            "batch_size": BATCH_SIZE,
            "lr": 0.1,
            "epochs": NUM_EPOCHS,
            "shuffle": self.shuffle,
            "load_data": lambda: (self.training_data, self.test_data),
            "make_model": self._make_model,
            "on_step": self._note,
            "save_to": self.storage / "saved by itself",
        }

    def _make_model(self) -> nn.Module:
        self.model = SmallModel(self.training_data.dataset[0][0].numel())
        return self.model

    def _note(self, epoch: int, _step: int, _num_steps: int, loss: Tensor) -> None:
        self.steps.append((epoch, self.training_data.taken, float(loss)))
        self.training_data.taken = []


@dataclass(frozen=True)
class Outcome:
    """What a program computed on several workers, in numbers.

    Attributes:
        num_workers: how many.
        difference: the largest difference of any weight of a worker to the same weight of one process.
        disagreement: the largest difference of any weight between two workers.
        num_steps: of an epoch, on worker 0.
        num_taken: images that all workers together take at the first step.
        num_different: how many of them are different images.
        num_scored: the test images that the reported score counts.
        loss_error: how far the reported training loss is from the mean over the workers.
        is_same_order: whether worker 0 takes its images in the same order in the first two epochs, shuffled.
        num_checkpoints: that Ray was given.
        num_saves: how often a worker saved by itself, to a directory that all of them share.
        num_epochs_again: how many epochs are trained when the run is killed after the first, and started again.
        stuck: for what the workers wait for ever if there is but one test image; empty if they do not.
    """

    num_workers: int
    difference: float
    disagreement: float
    num_steps: int
    num_taken: int
    num_different: int
    num_scored: int
    loss_error: float
    is_same_order: bool
    num_checkpoints: int
    num_saves: int
    num_epochs_again: int
    stuck: str


class Laboratory:
    """Runs programs on a few images, as one process and as several workers.

    Args:
        training_data: has images in [0, 1] and the numbers of ten classes; the first 144 are trained on.
        test_data: likewise; the first 49 are scored.

    Raises:
        ConfigError: there are fewer images.
    """

    def __init__(self, training_data: Dataset, test_data: Dataset) -> None:
        for name, dataset, least in (("training", training_data, NUM_IMAGES), ("test", test_data, NUM_TEST_IMAGES)):
            if (length := len(dataset)) < least:  # type: ignore[arg-type]
                raise ConfigError(f"There are {length} {name} images. Give at least {least}.")
        self.data = Subset(training_data, range(NUM_IMAGES)), Subset(test_data, range(NUM_TEST_IMAGES))
        self._outcomes: dict[tuple[frozenset[str], int], Outcome] = {}
        with tempfile.TemporaryDirectory() as storage:
            _, (self.one_process,) = self._run((), 1, Path(storage))

    def outcome(self, changes: Collection[str], num_workers: int) -> Outcome:
        """Run the program with some of the changes made, as several workers.

        Args:
            changes: keys of ``CHANGES``.
            num_workers: from 1 to 4, of which each divides the batch of 24 images.

        Raises:
            ConfigError: a change is unknown, or there are too few or too many workers.
        """
        if not 1 <= num_workers <= 4:
            raise ConfigError(f"num_workers is {num_workers}. Give 1, 2, 3 or 4.")
        key = frozenset(changes), num_workers
        if key not in self._outcomes:
            with tempfile.TemporaryDirectory() as storage:
                self._outcomes[key] = self._measure(changes, num_workers, Path(storage))
        return self._outcomes[key]

    def _run(
        self,
        changes: Collection[str],
        num_workers: int,
        storage: Path,
        *,
        shuffle: bool = False,
        num_test_images: int = NUM_TEST_IMAGES,
        checkpoint: Path | None = None,
    ) -> tuple[Run, list[Worker]]:
        training_data, test_data = self.data[0], Subset(self.data[1], range(num_test_images))
        workers = [Worker(training_data, test_data, storage, shuffle=shuffle) for _ in range(num_workers)]
        storage.mkdir(exist_ok=True)
        source = program(changes)
        run = run_as_workers(source, lambda rank: workers[rank].make_config(), num_workers, storage, checkpoint)
        return run, workers

    def _measure(self, changes: Collection[str], num_workers: int, storage: Path) -> Outcome:
        run, workers = self._run(changes, num_workers, storage / "plain")
        _, (shuffled, *_) = self._run(changes, num_workers, storage / "shuffled", shuffle=True)
        again, _ = self._run(changes, num_workers, storage / "again", checkpoint=next(iter(run.checkpoints), None))
        stuck = ""
        try:
            self._run(changes, num_workers, storage / "one image", num_test_images=1)
        except ClusterError as error:
            stuck = str(error)
        first_step = [row for worker in workers for row in worker.steps[0][1]]
        losses = [loss for worker in workers for epoch, _, loss in worker.steps if epoch == NUM_EPOCHS - 1]
        reported = run.returned[0][-1]
        return Outcome(
            num_workers=num_workers,
            difference=max(largest_difference(worker.model, self.one_process.model) for worker in workers),
            disagreement=max(largest_difference(worker.model, workers[0].model) for worker in workers),
            num_steps=sum(epoch == 0 for epoch, _, _ in workers[0].steps),
            num_taken=len(first_step),
            num_different=len(set(first_step)),
            num_scored=reported["num_samples"],
            loss_error=abs(reported["train_loss"] - sum(losses) / len(losses)),
            is_same_order=_order(shuffled, 0) == _order(shuffled, 1),
            num_checkpoints=len(run.checkpoints),
            num_saves=run.num_saves,
            num_epochs_again=len(again.returned[0]),
            stuck=stuck,
        )


def largest_difference(first: nn.Module, second: nn.Module) -> float:
    """Return the largest absolute difference of any weight of two models with the same layers."""
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


def _order(worker: Worker, epoch: int) -> list[int]:
    return [row for its_epoch, rows, _ in worker.steps if its_epoch == epoch for row in rows]
