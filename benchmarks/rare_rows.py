"""An embedding most of whose rows are rarely seen: predict the next token of a Zipf language. Needs no download.

    hasten compare benchmarks/rare_rows.py --arms 'base,flash=flash_adamw'

Where 8-bit states could hurt: a row of a rare token has a gradient of zero for hundreds of steps, then one of full
size, so momentum and variance of neighbours in a group differ by orders of magnitude, and variances decay for long.

2048 tokens. Every token has four successors, drawn by Zipf's law (1 / (rank + 2)) once for the language. A token is
followed by one of its own (with 0.4, 0.2, 0.1, 0.1) or, with 0.2, by any token, by Zipf's law. So the rows of the most
frequent tokens are in every batch, and half of all rows in one of 85 or fewer. An embedding of 64, 256 tanh units, an
output layer; bits per token on a fixed test set.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hasten.bench.workloads.metrics import bits_per_token

METRIC = "bits per token"
MINIMIZE = True
ARMS = "base,flash=flash_adamw"
BATCH_SIZE, DURATION, POINTS = 256, "2ep", 1
OPTIMIZER, LEARNING_RATE, WEIGHT_DECAY, WARMUP = "adamw", 1e-2, 0.01, 20

TOKENS = 2048
CHANCES = (0.4, 0.2, 0.1, 0.1)  # of a token's successors
_TRAIN, _TEST = 65_536, 16_384


def model(width: int = 64, hidden: int = 256) -> nn.Module:
    """(batch, 1) tokens to logits (batch, 1, 2048); 0.67 million weights."""
    return nn.Sequential(nn.Embedding(TOKENS, width), nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, TOKENS))


def zipf(draw: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Tokens by Zipf's law; the smallest number is the most frequent."""
    chances = 1.0 / (np.arange(TOKENS) + 2.0)
    return draw.choice(TOKENS, size=shape, p=chances / chances.sum())


@functools.cache
def text(length: int, seed: int) -> Tensor:
    """So many tokens of the language; int64."""
    successors = zipf(np.random.default_rng(0), (TOKENS, len(CHANCES)))  # the language, the same for every seed
    draw = np.random.default_rng(seed)
    anywhere = zipf(draw, (length,)).tolist()
    which = draw.choice(len(CHANCES) + 1, size=length, p=[*CHANCES, 1 - sum(CHANCES)]).tolist()
    tokens = [0]
    for place in range(1, length):
        chosen = which[place]
        tokens.append(int(successors[tokens[-1], chosen]) if chosen < len(CHANCES) else anywhere[place])
    return torch.tensor(tokens)


def pairs(tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens (n, 1), and those after them (n, 1)."""
    return tokens[:-1, None], tokens[1:, None]


def train_data(seed: int) -> tuple[Tensor, Tensor]:
    """Training pairs; the same for every seed."""
    return pairs(text(_TRAIN + 1, 1))


def test_data() -> tuple[Tensor, Tensor]:
    """Test pairs."""
    return pairs(text(_TEST + 1, 2))


def data(seed: int) -> tuple[Any, Any]:
    """(train, test)."""
    return train_data(seed), test_data()


def loss(outputs: Tensor, batch: Any) -> Tensor:
    """Cross-entropy in nats per token."""
    return cross_entropy(outputs.flatten(0, 1), batch[1].flatten(), reduction="none")


def metric(model: nn.Module, test: tuple[Tensor, Tensor]) -> float:
    """Bits per token."""
    return bits_per_token(model, *test, chunk=1024)
