"""A tiny GPT on Shakespeare's plays: predict the next character of 1,115,394, of 65 kinds.

The usual split: the first 90 % of the text for training, the rest for the test. The file is looked for as
`tiny_shakespeare/input.txt` (see `download`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..models.gpt import GPT
from .charlm import CONTEXT, loss, metric
from .download import DataFile, obtain
from .text import windows

__all__ = ["data", "loss", "metric", "model", "test_data", "train_data"]

NAME = "shakespeare"
SUMMARY = "a tiny GPT on Shakespeare's plays, bits per character (lower is better)"
METRIC = "bits per character"
MINIMIZE = True
TARGET = 2.7
# The training is that of charlm, for longer.
BATCH_SIZE = 32
DURATION = "1000step"
OPTIMIZER = "adamw"
LEARNING_RATE = 6e-3
WEIGHT_DECAY = 0.1
WARMUP = 30
POINTS = 4
MULT = 1.8
# What `hasten compare` takes when no arms are named.
ARMS = "base,clip=gradient_clipping(1.0),ema"

_FILE = DataFile(
    path="tiny_shakespeare/input.txt",
    size=1_115_394,
    sha256="86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    url="https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
)


def model(width: int = 64, depth: int = 2, heads: int = 4, context: int = CONTEXT) -> nn.Module:
    """A GPT over the text's 65 characters."""
    return GPT(vocabulary=65, context=context, width=width, depth=depth, heads=heads)


def data(seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """((inputs, targets) for training, the same for the test)."""
    return train_data(seed), test_data()


def train_data(seed: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets, (15685, 64) int64 each; the same for every seed."""
    tokens = _tokens()
    return windows(tokens[: len(tokens) * 9 // 10], CONTEXT)


def test_data() -> tuple[Tensor, Tensor]:
    """Inputs and targets, (1742, 64) int64 each."""
    tokens = _tokens()
    return windows(tokens[len(tokens) * 9 // 10 :], CONTEXT)


def _tokens() -> Tensor:
    """The text as numbers 0..64, in the order of the character codes; the text is plain ASCII."""
    text = np.frombuffer(obtain(_FILE).read_bytes(), dtype=np.uint8)
    _, tokens = np.unique(text, return_inverse=True)
    return torch.from_numpy(tokens.astype(np.int64))
