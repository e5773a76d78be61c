"""SST-2 (Socher et al. 2013): is a piece of a film review positive? With a small BERT, trained from scratch.

The parts are those of GLUE (arXiv 1804.07461): 67,349 phrases and sentences for training, and the 872 sentences of the
validation part as the test, because GLUE keeps the labels of its test part. They are looked for as `sst2/train.tsv` and
`sst2/dev.tsv` (see `download`): a header, then a label, a tab and a text on each line.

Words are the tokens: the 8,189 most frequent ones of the training part, cut at the spaces, and one for all others.

Nothing is pretrained here. So results do not compare with published ones of GLUE, where a model that was pretrained on
a large text is fine-tuned, nor with those of SST-5, which has five classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from hasten._core.checks import check

from ..models.bert import BERT
from .download import DataFile, obtain
from .images import sample_cross_entropy
from .metrics import accuracy
from .text import frequent_words

__all__ = ["data", "encode", "loss", "metric", "model", "read_tsv", "test_data", "train_data"]

NAME = "sst2"
SUMMARY = "sentiment of film reviews (SST-2) with a small BERT from scratch: 67,349 training and 872 test texts"
METRIC = "accuracy"
MINIMIZE = False
TARGET = 0.80  # what the baseline reaches in about half its default training length
BATCH_SIZE = 64
DURATION = "1ep"
OPTIMIZER = "adamw"
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.01
WARMUP = 50
POINTS = 4
MULT = 1.8
# What `hasten compare` takes when no arms are named.
ARMS = "base,ls=label_smoothing(0.1),clip=gradient_clipping(1.0),sd=stochastic_depth(drop_rate=0.1)"

CONTEXT = 48  # tokens of a sample: the class token and 47 words, which is the longest test sentence
VOCABULARY = 8192
_PADDING, _CLASS, _UNKNOWN, _FIRST = range(4)  # tokens that are no words, and the first that is one

_FOLDER = "https://raw.githubusercontent.com/nlpaueb/nlp-optimizers/9f573468d63730ec394391837dc02d94583eec8b/data/SST2/"
_FILES = {
    "train": DataFile(
        path="sst2/train.tsv",
        size=3_738_731,
        sha256="dc4a10637729af71aeb11f573482b10031ba7ffe53159403599d06759e484e30",
        url=f"{_FOLDER}train.tsv",
    ),
    "test": DataFile(
        path="sst2/dev.tsv",
        size=94_414,
        sha256="84207e6be5873fb18db798cc6faec86871f5a426554650ff64a1c34e87665f6f",
        url=f"{_FOLDER}dev.tsv",
    ),
}


def model(width: int = 64, depth: int = 2, heads: int = 2, context: int = CONTEXT) -> nn.Module:
    """A BERT over words with two classes, half as wide as BERT-tiny."""
    return BERT(vocabulary=VOCABULARY, context=context, width=width, depth=depth, heads=heads, segments=0)


def data(seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """((inputs, targets) for training, the same for the test)."""
    return train_data(seed), test_data()


def train_data(seed: int) -> tuple[Tensor, Tensor]:
    """Inputs (67349, 48) int64 and targets (67349,) int64, 1 for positive; the same for every seed."""
    texts, labels = _part("train")
    return encode(texts, _words(texts)), labels


def test_data() -> tuple[Tensor, Tensor]:
    """Inputs (872, 48) int64 and targets (872,) int64; the words are numbered by the training part."""
    texts, labels = _part("test")
    return encode(texts, _words(_part("train")[0])), labels


def loss(outputs: Tensor, batch: Any) -> Tensor:
    """Cross-entropy per sample, in nats, shape (batch,)."""
    return sample_cross_entropy(outputs, batch)


def metric(model: nn.Module, test: tuple[Tensor, Tensor]) -> float:
    """Accuracy in [0, 1]."""
    return accuracy(model, *test)


def encode(texts: list[list[str]], words: dict[str, int]) -> Tensor:  # (samples, 48)
    """Each text as the class token, its first 47 words, and padding.

    Args:
        texts: the words of each text.
        words: the token of each known word; others become one token of their own.
    """
    tokens = torch.full((len(texts), CONTEXT), _PADDING)
    tokens[:, 0] = _CLASS
    for row, text in zip(tokens, texts, strict=True):
        numbers = [words.get(word, _UNKNOWN) for word in text[: CONTEXT - 1]]
        row[1 : 1 + len(numbers)] = torch.tensor(numbers)
    return tokens


def read_tsv(content: bytes) -> tuple[list[list[str]], Tensor]:
    """The words of each text and the labels of a file: a header, then on each line 0 or 1, a tab, the text.

    Raises:
        ValueError: a line of another form.
    """
    texts, labels = [], []
    for number, line in enumerate(content.decode().removesuffix("\n").split("\n")[1:], start=2):
        label, _, text = line.partition("\t")
        words = text.split()
        check(label in ("0", "1") and bool(words), f"sst2, line {number}", "0 or 1, a tab and a text", repr(line))
        texts.append(words)
        labels.append(int(label))
    return texts, torch.tensor(labels)


def _part(part: str) -> tuple[list[list[str]], Tensor]:
    return read_tsv(obtain(_FILES[part]).read_bytes())


def _words(texts: list[list[str]]) -> dict[str, int]:
    return frequent_words((word for text in texts for word in text), VOCABULARY - _FIRST, first=_FIRST)
