"""Models that several measurements train: of page 1, in double precision, and of other sizes."""

from typing import Any

import torch
from torch import nn

from air_tutorials.models import NeuralNetwork


def _cast(_model: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (inputs[0].double(),)


def make_double_model() -> nn.Module:
    """Build page 1's model in double precision, in which rounding can hide no difference between two programs."""
    model = NeuralNetwork().double()
    model.register_forward_pre_hook(_cast)
    return model


def make_mlp(width: int) -> nn.Module:
    """Build page 1's model with hidden layers of another width: 512 is its own."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )


def make_conv_net() -> nn.Module:
    """Build a network of convolutions: few weights to exchange, much to compute for each image."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def num_parameters(model: nn.Module) -> int:
    """Count what the processes of a training exchange at each step."""
    return sum(parameter.numel() for parameter in model.parameters())


def one_thread() -> None:
    """Give this process one thread for each operation, as Ray and ``torchrun`` give each worker."""
    torch.set_num_threads(1)
