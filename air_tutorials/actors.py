"""Models that live in actors: a class that trains one, and what averages the weights of many.

::

    RemoteNetwork = ray.remote(Network)
    networks = [RemoteNetwork.remote(seed=seed) for seed in range(4)]
    ray.get([network.train.remote() for network in networks])
    average = ray.put(average_weights(ray.get([network.get_weights.remote() for network in networks])))
    ray.get([network.set_weights.remote(average) for network in networks])
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from air_tutorials.averaging import Weights, average_weights, check_alike, copy_to_cpu
from air_tutorials.checkpoints import save_checkpoint
from air_tutorials.datasets import load_mnist
from air_tutorials.errors import ConfigError
from air_tutorials.loops import Score, test_epoch, train_epoch
from air_tutorials.models import DigitNet

__all__ = ["Network", "average_weights", "load_digits"]


def load_digits() -> tuple[Any, Any]:
    """Load the embedded MNIST sample as (training data, test data)."""
    return load_mnist(train=True), load_mnist(train=False)


class Network:
    """A model together with its data and its optimizer: in this process, or as an actor, ``ray.remote(Network)``.

    The arguments decide everything it will ever compute, in whichever process. For that it brings its own random
    numbers and number of threads, and leaves those of the process as they were.

    Args:
        lr: learning rate of plain SGD.
        momentum: of the same, in [0, 1).
        seed: of the first weights, and of the order of the images.
        num_threads: CPU threads to compute with; another number adds up in another order, and changes the last bits.
            For an actor it should be what it asks of Ray, ``num_cpus``.
        device: ``"cuda"`` for the GPU that an actor got from Ray with ``num_gpus``.
        make_model: returns a new model, whose output are log-probabilities, float32 (batch, classes).
        load_data: returns training and test data.

    Raises:
        ConfigError: ``num_threads`` is below 1.
    """

    def __init__(
        self,
        lr: float = 0.01,
        momentum: float = 0.5,
        *,
        seed: int = 0,
        num_threads: int = 1,
        device: str = "cpu",
        make_model: Callable[[], nn.Module] = DigitNet,
        load_data: Callable[[], tuple[Any, Any]] = load_digits,
    ) -> None:
        if num_threads < 1:
            raise ConfigError(f"num_threads is {num_threads}, and must be at least 1.")
        self.seed, self.num_threads, self.device = seed, num_threads, torch.device(device)
        self.rounds = 0
        self.training_data, self.test_data = load_data()
        with self._own_numbers_and_threads():
            self.model = make_model().to(self.device)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=lr, momentum=momentum)

    def train(self, num_images: int = 1024) -> float:
        """Train on so many images, drawn anew at each call; return the mean of the batches' losses.

        Raises:
            ConfigError: the training data does not have so many images, or the number is below 1.
        """
        if not 1 <= num_images <= len(self.training_data):
            raise ConfigError(
                f"num_images={num_images} must be between 1 and {len(self.training_data)}, which are all."
            )
        self.rounds += 1
        with self._own_numbers_and_threads():
            chosen = torch.randperm(len(self.training_data))[:num_images]
            dataloader = DataLoader(Subset(self.training_data, chosen.tolist()), batch_size=64)
            return train_epoch(dataloader, self.model, nn.NLLLoss(), self.optimizer)

    def test(self) -> Score:
        """Score the model on all test data."""
        with self._own_numbers_and_threads():
            return test_epoch(DataLoader(self.test_data, batch_size=256), self.model, nn.NLLLoss())

    def get_weights(self) -> Weights:
        """Copy the model's weights to the CPU: training goes on without changing the copy."""
        return copy_to_cpu(self.model.state_dict())

    def set_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Overwrite the model's weights.

        Raises:
            CheckpointMismatchError: they belong to another model; the message names what differs.
        """
        check_alike(weights, self.model.state_dict(), f"The weights do not fit {type(self.model).__name__}")
        self.model.load_state_dict(weights)

    def get_state(self) -> dict[str, Any]:
        """Copy all that training goes on from: ``weights``, ``optimizer`` (its momentum) and ``rounds`` trained."""
        optimizer = copy_to_cpu(self.optimizer.state_dict())
        return {"weights": self.get_weights(), "optimizer": optimizer, "rounds": self.rounds}

    def train_from(self, state: dict[str, Any], num_images: int = 1024) -> dict[str, Any]:
        """Go on from a state that ``get_state`` returned, and return the state after it.

        What comes out depends on what goes in alone, and not on what this actor did before. So Ray may repeat the call
        on an actor that it has started in the place of one that died.

        Raises:
            CheckpointMismatchError: the state belongs to another model.
        """
        self.set_weights(state["weights"])
        # The optimizer would keep these very tensors, and change them.
        self.optimizer.load_state_dict(copy_to_cpu(state["optimizer"]))
        self.rounds = state["rounds"]
        self.train(num_images)
        return self.get_state()

    def save(self, directory: str | os.PathLike[str]) -> Path:
        """Write a checkpoint, on the machine where this runs; ``checkpoints.load_weights`` reads it."""
        return save_checkpoint(directory, self.model, self.optimizer, next_epoch=self.rounds).absolute()

    @contextmanager
    def _own_numbers_and_threads(self) -> Iterator[None]:
        """Compute as this network alone decides, and then leave the process as it was."""
        kind = self.device.type
        num_threads_before = torch.get_num_threads()
        torch.set_num_threads(self.num_threads)
        try:
            with torch.random.fork_rng([] if kind == "cpu" else [self.device], device_type=kind):
                torch.manual_seed(1_000_000 * self.seed + self.rounds)
                yield
        finally:
            torch.set_num_threads(num_threads_before)
