"""A tiny GPT on Python's own source: predict the next byte of the standard library. Needs no download.

Fourteen modules (about 1 MB) are for training, five others (about 140 kB) for the test. The text differs between Python
versions, so its digest is part of the workload's identity, and a target makes sense only relative to the baseline.
"""

from __future__ import annotations

import hashlib
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from hasten._core.checks import check

from ..models.gpt import GPT
from .metrics import bits_per_token
from .text import byte_tokens, sequence_cross_entropy, windows

__all__ = ["data", "identity", "loss", "metric", "model", "test_data", "train_data"]

NAME = "charlm"
SUMMARY = "a tiny GPT on the source of Python's standard library, bits per byte (lower is better)"
METRIC = "bits per byte"
MINIMIZE = True
TARGET = None  # relative to the baseline: the text differs between Python versions
BATCH_SIZE = 32
DURATION = "600step"
OPTIMIZER = "adamw"
LEARNING_RATE = 6e-3
WEIGHT_DECAY = 0.1
WARMUP = 30
POINTS = 4
MULT = 1.8
# What `hasten compare` takes when no arms are named.
ARMS = "base,clip=gradient_clipping(1.0),ema"

CONTEXT = 64  # bytes a prediction may look back at

# Single-file modules that every Python since 3.11 has, of many kinds of code; sorted, which is the order of the text.
_TRAIN_MODULES = (
    "argparse", "calendar", "configparser", "dataclasses", "difflib", "enum", "ftplib", "inspect", "ipaddress",
    "mailbox", "pickle", "pydoc", "statistics", "tarfile",
)  # fmt: skip
_TEST_MODULES = ("csv", "heapq", "random", "smtplib", "textwrap")


def model(width: int = 64, depth: int = 2, heads: int = 4, context: int = CONTEXT) -> nn.Module:
    """A GPT over bytes."""
    return GPT(vocabulary=256, context=context, width=width, depth=depth, heads=heads)


def data(seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """((inputs, targets) for training, the same for the test)."""
    return train_data(seed), test_data()


def train_data(seed: int) -> tuple[Tensor, Tensor]:
    """Inputs and targets, (about 16,000, 64) int64 each; the same for every seed."""
    return windows(byte_tokens(_source(_TRAIN_MODULES)), CONTEXT)


def test_data() -> tuple[Tensor, Tensor]:
    """Inputs and targets, (about 2,100, 64) int64 each."""
    return windows(byte_tokens(_source(_TEST_MODULES)), CONTEXT)


def loss(outputs: Tensor, batch: Any) -> Tensor:
    """Cross-entropy in nats per token, averaged over each sequence, shape (batch,)."""
    return sequence_cross_entropy(outputs, batch)


def metric(model: nn.Module, test: tuple[Tensor, Tensor]) -> float:
    """Bits per token: a byte here."""
    return bits_per_token(model, *test)


def identity() -> str:
    """`charlm:` and the first 16 hex digits of the SHA-256 of the whole text: results of other texts do not compare."""
    text = hashlib.sha256(_source(_TRAIN_MODULES) + b"\0" + _source(_TEST_MODULES))
    return f"charlm:{text.hexdigest()[:16]}"


def _source(modules: Sequence[str]) -> bytes:
    """The modules' source, one after the other; line ends are those of Unix on every system."""
    folder = Path(sysconfig.get_path("stdlib"))
    absent = [name for name in modules if not (folder / f"{name}.py").is_file()]
    fix = "This Python comes without its library's source; use a usual installation."
    check(not absent, "charlm", f"the standard library's source files in {folder}", f"without {absent}", fix)
    return b"".join((folder / f"{name}.py").read_bytes().replace(b"\r\n", b"\n") for name in modules)
