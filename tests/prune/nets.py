"""Small networks that the tests prune."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MnistNet(nn.Module):
    """The network of the published fraction table: 431,080 parameters, the classifier is `fc2`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5)
        self.fc1, self.fc2 = nn.Linear(800, 500), nn.Linear(500, 10)
        self.fc2.is_classifier = True  # type: ignore[assignment]

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


class Tied(nn.Module):
    """One weight in two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, 4), nn.Linear(4, 4)
        self.down.weight = self.up.weight
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.down(F.relu(self.up(x))))


def small(seed: int = 0) -> nn.Sequential:
    """A convolution, batch norm, two linear layers, of which the last is the classifier."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)
    )


def inputs(seed: int = 1) -> Tensor:
    """A batch for `small`."""
    return torch.randn(6, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
