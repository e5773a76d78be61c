"""Small models of many kinds, with everything that can be random being so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hasten.bench.models import BERT, GPT, CNN1d, ResNet, SmallCNN, ViT

Made = tuple[nn.Module, Any]


def shaken(model: nn.Module, seed: int = 0) -> nn.Module:
    """The model in evaluation mode with random statistics, scales and shifts; no parameter is zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.is_floating_point():
                noise = torch.rand(tensor.shape, generator=generator) + 0.5
                if name.endswith("running_var"):
                    tensor.copy_(noise)
                elif tensor.ndim < 2:
                    tensor.copy_(noise * torch.randn(tensor.shape, generator=generator).sign())
    return model.eval()


def images(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class Inverted(nn.Module):
    """MobileNet's block: wide, depthwise, narrow, with a squeeze-and-excitation gate and a residual sum."""

    def __init__(self, width: int, wide: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(width, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(),
            nn.Conv2d(wide, wide, 3, padding=1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.Hardswish(),
        )  # fmt: skip
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(wide, wide // 4, 1), nn.ReLU(), nn.Conv2d(wide // 4, wide, 1),
            nn.Sigmoid(),
        )  # fmt: skip
        self.narrow = nn.Sequential(nn.Conv2d(wide, width, 1, bias=False), nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + self.narrow(y * self.gate(y))


class Dense(nn.Module):
    """DenseNet's block: each layer reads all before it."""

    def __init__(self, width: int, growth: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(width + i * growth), nn.ReLU(),
                nn.Conv2d(width + i * growth, growth, 3, padding=1, bias=False),
            )  # fmt: skip
            for i in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        return x


class Shuffle(nn.Module):
    """ShuffleNet's: convolutions of groups around a shuffle of channels, written with views."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 24, 1), nn.Conv2d(24, 24, 3, padding=1, groups=2)
        self.third, self.norm, self.head = nn.Conv2d(24, 24, 1, groups=2), nn.BatchNorm2d(24), nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.second(F.relu(self.first(x))))
        batch, _, *size = x.shape
        x = x.view(batch, 2, -1, *size).transpose(1, 2).reshape(batch, -1, *size)
        return self.head(F.relu(self.norm(self.third(x))).mean((2, 3)))


class Gated(nn.Module):
    """A transformer's feed-forward part with a gate, by two layers and by one that is split."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.gate, self.down = nn.Linear(6, 12), nn.Linear(6, 12), nn.Linear(12, 8)
        self.both, self.out = nn.Linear(8, 20, bias=False), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.down(F.silu(self.gate(x)) * self.up(x))
        one, other = self.both(x).chunk(2, -1)
        return self.out(F.gelu(one) * other)


class Grouped(nn.Module):
    """Attention whose queries share keys and values, by hand, with a scale of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads = 6, 3
        self.query, self.key, self.value = nn.Linear(10, 24), nn.Linear(10, 12), nn.Linear(10, 12)
        self.out = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, _ = x.shape
        q = self.query(x).view(batch, time, self.n_heads, -1).transpose(1, 2)
        k, v = (f(x).view(batch, time, self.n_kv_heads, -1).transpose(1, 2) for f in (self.key, self.value))
        k, v = (t.repeat_interleave(self.n_heads // self.n_kv_heads, 1) for t in (k, v))
        weights = (q @ k.transpose(-1, -2) / 2).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).reshape(batch, time, -1))


class Tied(nn.Module):
    """One layer that is used twice, and one whose weight is that of an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.up, self.down = nn.Embedding(9, 8), nn.Linear(8, 12), nn.Linear(12, 8)
        self.head = nn.Linear(8, 9, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(x)
        for _ in range(2):
            x = x + self.down(F.relu(self.up(x)))
        return self.head(x)


class TwoHeads(nn.Module):
    """A mapping of outputs, from inputs that are named."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(5, 8)
        self.first, self.second = nn.Linear(8, 2), nn.Linear(16, 3)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        x, y = self.a(x).tanh(), self.b(y).relu()
        return {"first": self.first(x * y), "second": self.second(torch.cat([x, y], -1))}


def _encoder() -> Made:
    layer = nn.TransformerEncoderLayer(16, 4, 24, dropout=0.1, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), images(2, 5, 16)


def _plain() -> Made:
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12), nn.LeakyReLU(0.1),
              nn.MaxPool2d(2), nn.Conv2d(12, 6, 1), nn.Flatten(), nn.Linear(54, 10), nn.GELU(), nn.Linear(10, 4)]  # fmt: skip
    return nn.Sequential(*layers), images(2, 3, 8, 8)


def _mobile() -> Made:
    stem = [nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.Hardswish()]
    ends = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)]
    return nn.Sequential(*stem, Inverted(8, 16), Inverted(8, 24), *ends), images(2, 3, 8, 8)


def _dense() -> Made:
    ends = [nn.BatchNorm2d(17), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(17, 4)]
    return nn.Sequential(nn.Conv2d(3, 8, 3), Dense(8, 3, 3), *ends), images(2, 3, 8, 8)


def _norms() -> Made:
    layers = [nn.Conv2d(3, 12, 3), nn.GroupNorm(4, 12), nn.PReLU(12), nn.Conv2d(12, 8, 3),
              nn.GroupNorm(8, 8, affine=False),
              nn.ConvTranspose2d(8, 10, 2, 2), nn.InstanceNorm2d(10, affine=True, track_running_stats=True), nn.SiLU(),
              nn.Upsample(scale_factor=2), nn.Conv2d(10, 16, 3, groups=2), nn.PixelShuffle(2), nn.Conv2d(4, 3, 1)]  # fmt: skip
    return nn.Sequential(*layers), images(2, 3, 8, 8)


def _groups() -> Made:
    layers = [nn.Conv2d(3, 16, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, groups=8), nn.BatchNorm2d(32), nn.ReLU(),
              nn.ConvTranspose2d(32, 16, 2, groups=16), nn.Conv2d(16, 18, 1), nn.Conv2d(18, 12, 1, groups=3),
              nn.ChannelShuffle(3), nn.Conv2d(12, 4, 1)]  # fmt: skip
    return nn.Sequential(*layers), images(2, 3, 6, 6)


def _tokens(*shape: int) -> Tensor:
    return torch.randint(1, 9, shape, generator=torch.Generator().manual_seed(2))


ZOO: dict[str, Callable[[], Made]] = {
    "plain": _plain,
    "small cnn": lambda: (SmallCNN(), images(2, 1, 8, 8)),
    "cnn 1-D": lambda: (CNN1d(2, 3, (8, 12, 10)), images(2, 2, 20)),
    "resnet": lambda: (ResNet(8, width=8), images(2, 3, 16, 16)),
    "mobile": _mobile,
    "dense": _dense,
    "shuffle": lambda: (Shuffle(), images(2, 3, 6, 6)),
    "norms": _norms,
    "groups": _groups,
    "gated": lambda: (Gated(), images(4, 6)),
    "tied": lambda: (Tied(), _tokens(2, 5)),
    "two heads": lambda: (TwoHeads(), {"x": images(3, 4), "y": images(3, 5)}),
    "vit": lambda: (ViT(16, 4, classes=5, width=24, depth=2, heads=4), images(2, 3, 16, 16)),
    "gpt": lambda: (GPT(11, 8, 24, 2, 4), _tokens(2, 7)),
    "gpt, tied": lambda: (GPT(11, 8, 24, 2, 4, tied=True), (_tokens(2, 7),)),
    "bert": lambda: (BERT(11, 8, 24, 2, 4), _tokens(2, 7)),
    "bert, tokens": lambda: (BERT(11, 8, 24, 2, 4, head="tokens"), _tokens(2, 7)),
    "encoder": _encoder,
    "grouped queries": lambda: (Grouped(), images(2, 5, 10)),
}
WITH_HEADS = ("vit", "gpt", "gpt, tied", "bert", "bert, tokens", "encoder", "grouped queries")


def make(name: str) -> Made:
    """A model of the zoo and inputs for it; the same every time."""
    torch.manual_seed(0)
    model, inputs = ZOO[name]()
    return shaken(model), inputs
