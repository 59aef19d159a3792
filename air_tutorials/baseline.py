"""BEFORE: the plain PyTorch program, in the shape that most training scripts have. ``trainer.py`` is its twin."""

from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from air_tutorials.checkpoints import save_checkpoint
from air_tutorials.datasets import load_fashion_mnist
from air_tutorials.loops import ignore_step, test_epoch, train_epoch
from air_tutorials.models import NeuralNetwork


def load_data() -> tuple[Any, Any]:
    """Load the embedded FashionMNIST sample as (training data, test data)."""
    return load_fashion_mnist(train=True), load_fashion_mnist(train=False)


def train_func(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Train a classifier in this process.

    Args:
        config: ``batch_size`` (images a step), ``lr``, ``epochs``; and if you like ``seed`` (0), ``shuffle`` (False),
            ``load_data`` (a function without arguments that returns training and test data), ``make_model`` (likewise
            a new model), ``on_step`` (called with epoch, step, number of steps and loss), ``save_to`` (a directory).

    Returns:
        The metrics of each epoch: ``epoch``, ``train_loss``, and on the test data ``loss``, ``accuracy``,
        ``num_correct`` and ``num_samples``.
    """
    batch_size = config["batch_size"]
    seed, shuffle = config.get("seed", 0), config.get("shuffle", False)
    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    training_data, test_data = config.get("load_data", load_data)()
    train_dataloader = DataLoader(training_data, batch_size=batch_size, shuffle=shuffle)
    test_dataloader = DataLoader(test_data, batch_size=batch_size)

    model = config.get("make_model", NeuralNetwork)().to(device)
    loss_fn = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=config["lr"])
    on_step = config.get("on_step", ignore_step)

    history = []
    for epoch in range(config["epochs"]):
        train_loss = train_epoch(train_dataloader, model, loss_fn, optimizer, partial(on_step, epoch))
        score = test_epoch(test_dataloader, model, loss_fn)
        metrics = {"epoch": epoch, "train_loss": train_loss, "loss": score.loss, "accuracy": score.accuracy}
        history.append(metrics | {"num_correct": score.num_correct, "num_samples": score.num_samples})
        if "save_to" in config:
            save_checkpoint(config["save_to"], model, optimizer, next_epoch=epoch + 1)
    return history
