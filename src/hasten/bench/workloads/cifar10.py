"""CIFAR-10 (Krizhevsky 2009): 50,000 training and 10,000 test images, 32x32 in colour, of ten classes, with ResNet-8.

Read from the official binary version, never from its pickles: `data_batch_1.bin` to `data_batch_5.bin` and
`test_batch.bin` in `cifar10/cifar-10-batches-bin/`, else the archive `cifar10/cifar-10-binary.tar.gz`, which is
unpacked into the cache folder (see `download`). Results do not compare with those of `cifar10_jpeg`, whose images are
not the same. No augmentation: that is a method's business. The training tensors take 614 MB.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hasten._core.checks import check

from ..models.resnet import ResNet
from .archive import extract
from .download import DataFile, cache_folder, find, obtain
from .images import check_labels, normalise, sample_cross_entropy
from .metrics import accuracy

__all__ = ["MEAN", "STD", "data", "loss", "metric", "model", "read_batch", "test_data", "train_data"]

NAME = "cifar10"
SUMMARY = "CIFAR-10 with ResNet-8: 50,000 training and 10,000 test images of 32x32"
METRIC = "accuracy"
MINIMIZE = False
TARGET = None
BATCH_SIZE = 128
DURATION = "10ep"
OPTIMIZER = "sgd"
LEARNING_RATE = 0.1
WEIGHT_DECAY = 5e-4
MOMENTUM = 0.9
WARMUP = 200
POINTS = 4
MULT = 1.8
# What `hasten compare` takes when no arms are named.
ARMS = "base,blur=blurpool,ls=label_smoothing(0.1),mix=mixup"

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of the training images in [0, 1], per channel

_ARCHIVE = DataFile(
    path="cifar10/cifar-10-binary.tar.gz",
    size=170_052_171,
    sha256="c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
)
_UNPACKED = "cifar-10-batches-bin"  # the folder inside the archive
_TRAIN_FILES = tuple(f"data_batch_{k}.bin" for k in range(1, 6))
_TEST_FILES = ("test_batch.bin",)
_IMAGES, _RECORD = 10_000, 1 + 3 * 32 * 32  # images per file; bytes per image: its label, then red, green, blue


def model(depth: int = 8, width: int = 16) -> nn.Module:
    """A residual net of depth 6n+2."""
    return ResNet(depth=depth, width=width)


def data(seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """((inputs, targets) for training, the same for the test)."""
    return train_data(seed), test_data()


def train_data(seed: int) -> tuple[Tensor, Tensor]:
    """Inputs (50000, 3, 32, 32) float32, normalised, and targets (50000,) int64; the same for every seed."""
    return _part(_TRAIN_FILES)


def test_data() -> tuple[Tensor, Tensor]:
    """Inputs (10000, 3, 32, 32) float32, normalised, and targets (10000,) int64."""
    return _part(_TEST_FILES)


def loss(outputs: Tensor, batch: Any) -> Tensor:
    """Cross-entropy per sample, in nats, shape (batch,)."""
    return sample_cross_entropy(outputs, batch)


def metric(model: nn.Module, test: tuple[Tensor, Tensor]) -> float:
    """Accuracy in [0, 1]."""
    return accuracy(model, *test)


def _part(names: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    parts = [read_batch(path) for path in _files(names)]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    check_labels("cifar10", labels, len(names) * _IMAGES // 10)
    return normalise(images, MEAN, STD), torch.from_numpy(labels.astype(np.int64))


def _files(names: tuple[str, ...]) -> list[Path]:
    """The files, unpacked into the cache folder first where there is only the archive."""
    found = [find(f"cifar10/{_UNPACKED}/{name}") for name in names]
    present = [path for path in found if path is not None]
    if len(present) == len(names):
        return present
    members = [f"{_UNPACKED}/{name}" for name in names]
    return extract(obtain(_ARCHIVE), cache_folder() / "cifar10", members, limit=len(names) * _IMAGES * _RECORD)


def read_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images (10000, 3, 32, 32) uint8 and labels (10000,) uint8 of one binary file.

    Raises:
        ValueError: another size, or a label above 9.
    """
    size = _IMAGES * _RECORD
    fix = "Take it from the official binary version."
    check(path.stat().st_size == size, str(path), f"{size} bytes", path.stat().st_size, fix)
    records = np.fromfile(path, dtype=np.uint8).reshape(_IMAGES, _RECORD)
    labels = records[:, 0]
    check(int(labels.max()) <= 9, str(path), "labels 0 to 9", int(labels.max()), fix)
    return records[:, 1:].reshape(_IMAGES, 3, 32, 32), labels
