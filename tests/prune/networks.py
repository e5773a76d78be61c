"""The published networks that the MAC counts are known for, written for the tests: shapes as in their papers."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["Block", "mnist_net", "mobilenet_v2", "resnet18"]


def mnist_net() -> nn.Sequential:
    """Two convolutions and two linear layers for (1, 28, 28) images (arXiv 2003.03033)."""
    return nn.Sequential(
        nn.Conv2d(1, 20, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(20, 50, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(800, 500), nn.ReLU(), nn.Linear(500, 10),
    )  # fmt: skip


def _conv(inner: int, outer: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inner, outer, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outer)]


class Residual(nn.Module):
    """`act(body(x) + shortcut(x))`."""

    def __init__(self, body: nn.Module, shortcut: nn.Module, act: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut, self.act = body, shortcut, act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.body(x) + self.shortcut(x))


def _basic(inner: int, outer: int, stride: int) -> Residual:
    body = nn.Sequential(*_conv(inner, outer, 3, stride), nn.ReLU(), *_conv(outer, outer, 3))
    same = inner == outer and stride == 1
    return Residual(body, nn.Identity() if same else nn.Sequential(*_conv(inner, outer, 1, stride)), nn.ReLU())


def resnet18() -> nn.Sequential:
    """For (3, 224, 224) images and 1000 classes: 11,689,512 parameters (arXiv 1512.03385)."""
    blocks = [
        _basic(inner if i == 0 else outer, outer, stride if i == 0 else 1)
        for inner, outer, stride in ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2))
        for i in range(2)
    ]
    stem = [*_conv(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


def _inverted(inner: int, outer: int, stride: int, expand: int) -> nn.Module:
    wide = inner * expand
    widen = [] if expand == 1 else [*_conv(inner, wide, 1), nn.ReLU6()]
    body = nn.Sequential(*widen, *_conv(wide, wide, 3, stride, groups=wide), nn.ReLU6(), *_conv(wide, outer, 1))
    return Residual(body, nn.Identity(), nn.Identity()) if inner == outer and stride == 1 else body


def mobilenet_v2() -> nn.Sequential:
    """For (3, 224, 224) images and 1000 classes: 3,504,872 parameters (arXiv 1801.04381)."""
    settings = (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    )  # fmt: skip
    layers, inner = [*_conv(3, 32, 3, 2), nn.ReLU6()], 32
    for expand, outer, repeats, stride in settings:
        for i in range(repeats):
            layers.append(_inverted(inner, outer, stride if i == 0 else 1, expand))
            inner = outer
    head = [*_conv(inner, 1280, 1), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)]
    return nn.Sequential(*layers, *head)


class Block(nn.Module):
    """A transformer block of a ViT: attention and a four times wider layer, both around a residual."""

    def __init__(self, width: int = 64, heads: int = 4, *, need_weights: bool = False) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.wide = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.need_weights = need_weights

    def forward(self, x: Tensor) -> Tensor:  # (batch, tokens, width)
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=self.need_weights)[0]
        return x + self.wide(self.norm2(x))
