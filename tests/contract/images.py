"""A tiny image workload: which third of an 8x8 image is bright? Milliseconds a step, learnable in a few."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

BATCH_SIZE, DURATION, OPTIMIZER, LEARNING_RATE, WARMUP, POINTS = 8, "6step", "sgd", 0.05, 1, 2
CLASSES, SAMPLES = 3, 48


class Residual(nn.Module):
    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def layer(inside: int, outside: int, stride: int, norm: str) -> nn.Sequential:
    norms = {"batch": nn.BatchNorm2d(outside), "group": nn.GroupNorm(2, outside)}
    return nn.Sequential(nn.Conv2d(inside, outside, 3, stride, padding=1, bias=False), norms[norm], nn.ReLU())


def model(norm: str = "group", dropout: float = 0.0, double: bool = False) -> nn.Module:
    blocks = [Residual(layer(4, 4, 1, norm)), layer(4, 8, 2, norm), Residual(layer(8, 8, 1, norm))]
    ends = [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(dropout), nn.Linear(32, CLASSES)]
    made = nn.Sequential(layer(1, 4, 1, norm), *blocks, *ends)
    return made.double() if double else made


def sample(count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(count) % CLASSES
    images = 0.5 * torch.randn(count, 1, 8, 8, generator=generator)
    for position, target in enumerate(targets.tolist()):
        images[position, :, 3 * target : 3 * target + 2] += 1.0
    return images, targets


def train_data(seed: int) -> tuple[Tensor, Tensor]:
    return sample(SAMPLES, 0)


def test_data() -> tuple[Tensor, Tensor]:
    return sample(SAMPLES, 1)


def data(seed: int) -> tuple[Any, Any]:
    return train_data(seed), test_data()


def double_data(seed: int) -> tuple[Tensor, Tensor]:
    images, targets = train_data(seed)
    return images.double(), targets


class Augmented(Dataset):
    """A map-style dataset with random augmentation, of torch's and of Python's global generators."""

    def __init__(self) -> None:
        self.images, self.targets = sample(SAMPLES, 0)

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        import random

        noise = 0.1 * torch.randn(1, 8, 8)
        turned = self.images[index].flip(-1) if random.random() < 0.5 else self.images[index]
        return turned + noise, self.targets[index]


def dataset(seed: int) -> Dataset:
    return Augmented()


def loss(outputs: Tensor, batch: Any) -> Tensor:
    return F.cross_entropy(outputs, batch[1], reduction="none")


@torch.no_grad()
def metric(model: nn.Module, test: Any) -> float:
    """Minus the cross-entropy: it moves with every weight, unlike accuracy."""
    model.eval()
    inputs, targets = test
    first = next(model.parameters())
    return -float(F.cross_entropy(model(inputs.to(first.dtype)).float(), targets))


for _part in (train_data, test_data):
    _part.__test__ = False  # type: ignore[attr-defined]  # not tests, for pytest


def odd_data(seed: int) -> tuple[Tensor, Tensor]:
    """Images of 7 by 5."""
    images, targets = sample(SAMPLES, 0)
    return images[:, :, :7, :5].contiguous(), targets
