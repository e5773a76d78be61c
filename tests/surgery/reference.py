"""Slow, obvious versions of what surgery does, and the small models its tests share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

BINOMIAL = [[1, 2, 1], [2, 4, 2], [1, 2, 1]]


def blur(x: Tensor, stride: tuple[int, int] = (1, 1)) -> Tensor:
    """Pixel by pixel: the weighted sum of the neighbours that exist, over 16."""
    batch, channels, height, width = x.shape
    out = torch.zeros(batch, channels, -(-height // stride[0]), -(-width // stride[1]), dtype=x.dtype)
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            for a in (-1, 0, 1):
                for b in (-1, 0, 1):
                    row, column = i * stride[0] + a, j * stride[1] + b
                    if 0 <= row < height and 0 <= column < width:
                        out[:, :, i, j] += BINOMIAL[a + 1][b + 1] * x[:, :, row, column] / 16
    return out


class Residual(nn.Module):
    """`relu(shortcut(x) + branch(x))`, as the models of this project name the parts."""

    def __init__(self, channels: int, out: int, stride: int = 1, norm: bool = True) -> None:
        super().__init__()
        plain = stride == 1 and channels == out
        self.shortcut = nn.Identity() if plain else nn.Conv2d(channels, out, 1, stride, bias=False)
        self.branch = nn.Sequential(
            nn.Conv2d(channels, out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out) if norm else nn.Identity(),
            nn.ReLU(),
            nn.Conv2d(out, out, 3, 1, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.shortcut(x) + self.branch(x))


class TinyResNet(nn.Module):
    """A stem with stride, a max-pooling, three residual blocks, a head."""

    def __init__(self, norm: bool = True) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.blocks = nn.Sequential(
            Residual(16, 16, norm=norm), Residual(16, 24, 2, norm=norm), Residual(24, 24, norm=norm)
        )
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.pool(torch.relu(self.stem(x)))).mean((2, 3)))


def tiny(norm: bool = True) -> TinyResNet:
    """The tiny network with fixed weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TinyResNet(norm)


def images(batch: int = 4, size: int = 17, channels: int = 3) -> Tensor:
    """Fixed random images, of an odd size."""
    return torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(1))
