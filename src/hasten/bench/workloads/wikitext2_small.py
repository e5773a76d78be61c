"""A small GPT on some of WikiText-2 (arXiv 1609.07843): predict the next word of Wikipedia articles.

This is not WikiText-2, and results do not compare: only the validation and the test part are used, one after the other,
about 460,000 words and ends of lines. The articles that begin in the last tenth of that text are the test, the ones
before it are for training; no article is in both. Words are the tokens: the 4,096 most frequent ones of the training
part, cut at the spaces; all others become `<unk>`, which the text has already for rare words. So bits per word compare
within this workload only. The files are looked for as `wikitext2_valid_test/valid.txt` and `test.txt` (see `download`).
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor, nn

from hasten._core.checks import refuse

from ..models.gpt import GPT
from .download import DataFile, obtain
from .metrics import bits_per_token
from .text import frequent_words, sequence_cross_entropy, windows

__all__ = ["data", "loss", "metric", "model", "split", "test_data", "train_data"]

NAME = "wikitext2_small"
SUMMARY = "a small GPT on the validation and test text of WikiText-2, bits per word (lower is better)"
METRIC = "bits per word"
MINIMIZE = True
TARGET = 6.5  # what the baseline reaches in somewhat over half its default training length
BATCH_SIZE = 32
DURATION = "1000step"
OPTIMIZER = "adamw"
LEARNING_RATE = 3e-3
WEIGHT_DECAY = 0.1
WARMUP = 30
POINTS = 4
MULT = 1.8
# What `hasten compare` takes when no arms are named.
ARMS = "base,clip=gradient_clipping(1.0),ema"

CONTEXT = 32  # words a prediction may look back at
VOCABULARY = 4096
_UNKNOWN, _END = "<unk>", "<eos>"  # a rare word, in the text itself; the end of a line, as is usual for this text

_FOLDER = (
    "https://raw.githubusercontent.com/pytorch/examples/77f55b912142e11fcfdf5b530231fb9c52f181e8"
    "/word_language_model/data/wikitext-2/"
)
_FILES = (
    DataFile(
        path="wikitext2_valid_test/valid.txt",
        size=1_121_681,
        sha256="f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8",
        url=f"{_FOLDER}valid.txt",
    ),
    DataFile(
        path="wikitext2_valid_test/test.txt",
        size=1_256_449,
        sha256="d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0",
        url=f"{_FOLDER}test.txt",
    ),
)
_TITLE = re.compile(r"^ = [^=\n]+ = $", re.MULTILINE)  # an article's; titles of its sections have two = or more


def model(width: int = 64, depth: int = 2, heads: int = 4, context: int = CONTEXT) -> nn.Module:
    """A GPT over words."""
    return GPT(vocabulary=VOCABULARY, context=context, width=width, depth=depth, heads=heads)


def data(seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """((inputs, targets) for training, the same for the test)."""
    return train_data(seed), test_data()


def train_data(seed: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets, (13072, 32) int64 each; the same for every seed."""
    return windows(_tokens()[0], CONTEXT)


def test_data() -> tuple[Tensor, Tensor]:
    """Inputs and targets, (1402, 32) int64 each."""
    return windows(_tokens()[1], CONTEXT)


def loss(outputs: Tensor, batch: Any) -> Tensor:
    """Cross-entropy in nats per word, averaged over each sequence, shape (batch,)."""
    return sequence_cross_entropy(outputs, batch)


def metric(model: nn.Module, test: tuple[Tensor, Tensor]) -> float:
    """Bits per word; an end of a line counts as one."""
    return bits_per_token(model, *test)


def split(text: str) -> tuple[list[str], list[str]]:
    """The words of the training and of the test part; the test is the articles that begin in the text's last tenth.

    Raises:
        ValueError: no article begins there.
    """
    title = _TITLE.search(text, len(text) * 9 // 10)
    if title is None:
        raise refuse("wikitext2_small", "an article's title in the last tenth of the text", "none")
    return _words(text[: title.start()]), _words(text[title.start() :])


def _words(text: str) -> list[str]:
    return text.replace("\n", f" {_END} ").split()


def _tokens() -> tuple[Tensor, Tensor]:
    """The tokens of both parts, numbered by how frequent they are in the training part."""
    parts = split("".join(obtain(file).read_bytes().decode() for file in _FILES))
    known = frequent_words(parts[0], VOCABULARY)
    train, test = (torch.tensor([known.get(word, known[_UNKNOWN]) for word in part]) for part in parts)
    return train, test
