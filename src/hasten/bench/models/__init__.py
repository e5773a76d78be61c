"""Plain models: those of the built-in workloads, and the usual ones that published numbers are about.

Small: `MLP`, `SmallCNN`, `CNN1d`, `ResNet(8)`, `GPT`. Published shapes: `ResNet(56)`, `ImageNetResNet(18)` and `(50)`,
`ViT` (DeiT-Ti), `gpt_small` (GPT-2 small), `BERT` (BERT-tiny). Each takes its width and depth as arguments.

Parameters are initialised by the constructors, which draw from torch's global generator as every `nn.Module` of torch
does; seed it before (`torch.manual_seed`), or build inside `hasten._core.rng.fork`. No model uses dropout, so a forward
pass draws nothing.
"""

from __future__ import annotations

from .bert import BERT
from .cnn import SmallCNN
from .cnn1d import CNN1d
from .count import count_parameters
from .gpt import GPT, gpt_small
from .mlp import MLP
from .resnet import ImageNetResNet, ResNet
from .vit import ViT

__all__ = [
    "BERT", "CNN1d", "GPT", "ImageNetResNet", "MLP", "ResNet", "SmallCNN", "ViT", "count_parameters", "gpt_small",
]  # fmt: skip
