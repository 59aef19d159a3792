"""One process: the loader alone, the whole program, and what the data lock costs. No Ray in here."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from air_tutorials.data_lock import data_lock, prepare_once
from air_tutorials.datasets import load_fashion_mnist
from air_tutorials.loops import train_epoch
from air_tutorials.models import NeuralNetwork
from benchmarks import quickstart
from benchmarks.measure import Curve, Row, Settings, alternate, seconds

_BATCH_SIZE = 64


def measure(settings: Settings) -> tuple[list[Row], list[Curve]]:
    """Measure the three, with as many threads as PyTorch takes by itself: so do the programs as they stand."""
    datasets = {"ImageDataset": load_fashion_mnist(), "torchvision, an image at a time": quickstart.load_data()}
    loaders = {name: DataLoader(dataset, batch_size=_BATCH_SIZE) for name, dataset in datasets.items()}
    return [
        loader_row(loaders, settings),
        program_row(*loaders.values(), settings),
        *lock_rows(settings),
    ], []


def loader_row(loaders: dict[str, DataLoader], settings: Settings) -> Row:
    """Compare how fast two loaders hand out all their batches."""
    fast, slow = loaders.values()
    repeats = settings.pick(10, 1)  # of the fast one, for a time that can be measured
    runs = {
        "ImageDataset": lambda: images_per_second(lambda: drain(fast), repeats),
        "torchvision, an image at a time": lambda: images_per_second(lambda: drain(slow)),
    }
    ours, peers = alternate(runs, settings.pairs, lambda speed: f"{speed:,.0f} images/s").values()
    note = f"One epoch of the embedded FashionMNIST in batches of {_BATCH_SIZE}, read and thrown away; one process."
    peer = "PyTorch's quickstart: torchvision's dataset, an image at a time"
    return Row("the loader alone", peer, "images/s", ours, peers, at_least=10, note=note)


def program_row(ours: DataLoader, peer: DataLoader, settings: Settings) -> Row:
    """Compare the training loop of page 1 with the one that it came from, both with their own loader."""
    contenders = {
        "page 1's program": lambda: images_per_second(lambda: train(train_epoch, ours)),
        "PyTorch's quickstart": lambda: images_per_second(lambda: train(quickstart_epoch, peer)),
    }
    first, second = alternate(contenders, settings.pairs, lambda speed: f"{speed:,.0f} images/s").values()
    note = (
        f"One epoch of training in one process with {torch.get_num_threads()} threads, PyTorch's default here; "
        "the same images, model, batches and optimizer."
    )
    return Row("training, one process", "PyTorch's quickstart", "images/s", first, second, at_least=1.5, note=note)


def train(epoch: Callable[..., float], loader: DataLoader) -> int:
    """Train a new model for an epoch, and return the number of images."""
    torch.manual_seed(0)
    model = NeuralNetwork()
    epoch(loader, model, nn.CrossEntropyLoss(), torch.optim.SGD(model.parameters(), lr=0.1))
    return len(loader.dataset)  # type: ignore[arg-type]


def quickstart_epoch(loader: DataLoader, model: nn.Module, loss_fn: nn.Module, optimizer: Any) -> float:
    """Train as PyTorch's quickstart does, on the CPU."""
    return quickstart.train_epoch(loader, model, loss_fn, optimizer, "cpu")


def drain(loader: DataLoader) -> int:
    """Take every batch, and return how many images there were."""
    return sum(len(labels) for _, labels in loader)


def images_per_second(work: Callable[[], int], repeats: int = 1) -> float:
    """Return how many images a second a function gets through; it returns their number."""
    started = time.perf_counter()
    count = sum(work() for _ in range(repeats))
    return count / (time.perf_counter() - started)


def lock_rows(settings: Settings) -> list[Row]:
    """Measure a call of ``prepare_once`` on what is prepared, and of ``data_lock`` when nobody else wants it."""
    calls = settings.pick(2000, 50)
    with tempfile.TemporaryDirectory() as directory:
        prepared = prepare_once(Path(directory) / "data", lambda target: (target / "file").touch())

        def prepare() -> None:
            prepare_once(prepared, _refuse)

        def lock() -> None:
            with data_lock(prepared):
                pass

        def nothing() -> None:
            pass

        contenders = {"prepare_once": prepare, "data_lock": lock, "an empty function": nothing}
        runs: dict[str, Callable[[], float]] = {
            name: lambda call=call: 1000 * seconds(lambda: [call() for _ in range(calls)]) / calls
            for name, call in contenders.items()
        }
        once, locked, empty = alternate(runs, settings.pairs, lambda took: f"{took:.4f} ms").values()
    note = f"The mean of {calls:,} calls in one process."
    names = ["`prepare_once` on prepared data, a call", "`data_lock` that nobody else holds, a call"]
    return [
        Row(what, "an empty function", "ms", ours, empty, compare="difference", at_most=1.0, note=note)
        for what, ours in zip(names, [once, locked], strict=True)
    ]


def _refuse(_directory: Path) -> None:
    raise AssertionError("the data is prepared, and must not be built again")
