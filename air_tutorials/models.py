"""The models that the pages train: plain PyTorch, nothing of Ray."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class NeuralNetwork(nn.Module):
    """A multilayer perceptron for grey 28 x 28 images in ten classes (669,706 parameters).

    Source: the model of PyTorch's quickstart tutorial (BSD-3-Clause).
    """

    def __init__(self) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.linear_relu_stack = nn.Sequential(
            nn.Linear(28 * 28, 512),
            nn.ReLU(),
            nn.Linear(512, 512),
            nn.ReLU(),
            nn.Linear(512, 10),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Classify a batch.

        Args:
            images: float32 (batch, 1, 28, 28) in [0, 1].

        Returns:
            logits: float32 (batch, 10).
        """
        return self.linear_relu_stack(self.flatten(images))


class Net(nn.Module):
    """A LeNet for 32 x 32 colour images in ten classes, its two hidden widths free to tune.

    Args:
        l1: width of the first hidden layer, at least 1.
        l2: width of the second hidden layer, at least 1.

    Source: the model of PyTorch's CIFAR-10 tutorial (BSD-3-Clause), after LeCun et al., 1998.
    """

    def __init__(self, l1: int = 120, l2: int = 84) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.fc1 = nn.Linear(16 * 5 * 5, l1)
        self.fc2 = nn.Linear(l1, l2)
        self.fc3 = nn.Linear(l2, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Classify a batch.

        Args:
            images: float32 (batch, 3, 32, 32), normalised to about [-1, 1].

        Returns:
            logits: float32 (batch, 10).
        """
        hidden = self.pool(functional.relu(self.conv1(images)))
        hidden = self.pool(functional.relu(self.conv2(hidden)))
        hidden = torch.flatten(hidden, 1)
        hidden = functional.relu(self.fc1(hidden))
        hidden = functional.relu(self.fc2(hidden))
        return self.fc3(hidden)


class DigitNet(nn.Module):
    """A small convolutional network for grey 28 x 28 digits in ten classes.

    Source: the layout of PyTorch's MNIST example of 2018 (BSD-3-Clause).
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(4 * 4 * 50, 500)
        self.fc2 = nn.Linear(500, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Classify a batch.

        Args:
            images: float32 (batch, 1, 28, 28), normalised.

        Returns:
            log-probabilities: float32 (batch, 10), each row's exponentials sum to 1.
        """
        hidden = functional.max_pool2d(functional.relu(self.conv1(images)), 2)
        hidden = functional.max_pool2d(functional.relu(self.conv2(hidden)), 2)
        hidden = functional.relu(self.fc1(torch.flatten(hidden, 1)))
        return functional.log_softmax(self.fc2(hidden), dim=1)
