"""Small, plain models of the built-in workloads: multilayer perceptron, convnets, residual net, GPT, 1-D convnet.

Parameters are initialised by the constructors, which draw from torch's global generator as every `nn.Module` of torch
does; seed it before (`torch.manual_seed`), or build inside `hasten._core.rng.fork`. No model uses dropout, so a forward
pass draws nothing.
"""

from __future__ import annotations

from .cnn import SmallCNN
from .cnn1d import CNN1d
from .count import count_parameters
from .gpt import GPT
from .mlp import MLP
from .resnet import ResNet

__all__ = ["CNN1d", "GPT", "MLP", "ResNet", "SmallCNN", "count_parameters"]
