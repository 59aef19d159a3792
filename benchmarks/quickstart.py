"""The program that page 1 starts from, as PyTorch's quickstart has it: torchvision's dataset, an image at a time.

Source: PyTorch's quickstart tutorial (BSD-3-Clause), the loop that the first page of this project began with.
"""

from typing import Any

from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets
from torchvision.transforms import ToTensor

from air_tutorials.dataset_files import prepare_files
from air_tutorials.datasets import default_root


def load_data() -> Any:
    """Load the same drawn images as ``load_fashion_mnist``, through torchvision's own class and transform."""
    directory = prepare_files("FashionMNIST", default_root(), "sample", timeout_s=600)
    return datasets.FashionMNIST(str(directory), train=True, transform=ToTensor())


def train_epoch(dataloader: DataLoader, model: nn.Module, loss_fn: nn.Module, optimizer: Any, device: str) -> float:
    """Train once over the data, and look at the loss every hundred steps."""
    model.train()
    seen = 0.0
    for batch, (X, y) in enumerate(dataloader):  # noqa: N806
        X, y = X.to(device), y.to(device)  # noqa: N806

        pred = model(X)
        loss = loss_fn(pred, y)

        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

        if batch % 100 == 0:
            seen = loss.item()
    return seen
