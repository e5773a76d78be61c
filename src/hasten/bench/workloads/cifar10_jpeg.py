"""CIFAR-10 re-encoded as JPEG, with ResNet-8. Not CIFAR-10: the images are lossy, and results do not compare.

One npz file, `cifar10_jpeg/cifar10_jpeg.npz`, holds the JPEG images one after the other, where each begins, and their
classes. It cannot be downloaded. Decoding needs pillow; pixels may differ by a level between versions of libjpeg, so
compare runs of one machine. No augmentation: that is a method's business. The training tensors take 614 MB.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from torch import Tensor

from hasten._core.checks import check, refuse

from .cifar10 import MEAN, STD, loss, metric, model
from .download import DataFile, obtain
from .images import check_labels, normalise, read_npz

__all__ = ["data", "decode", "loss", "metric", "model", "test_data", "train_data"]

NAME = "cifar10_jpeg"
SUMMARY = "CIFAR-10 re-encoded as (lossy) JPEG, with ResNet-8: 50,000 training and 10,000 test images of 32x32"
# The model and the training are those of cifar10.
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

_FILE = DataFile(
    path="cifar10_jpeg/cifar10_jpeg.npz",
    size=55_793_111,
    sha256="912008008dea1d94f85abf0eff258ee45381394e93930d5a28129470f072f457",
)


def data(seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """((inputs, targets) for training, the same for the test)."""
    return train_data(seed), test_data()


def train_data(seed: int) -> tuple[Tensor, Tensor]:
    """Inputs (50000, 3, 32, 32) float32, normalised, and targets (50000,) int64; the same for every seed."""
    return _part("train", 50_000)


def test_data() -> tuple[Tensor, Tensor]:
    """Inputs (10000, 3, 32, 32) float32, normalised, and targets (10000,) int64."""
    return _part("test", 10_000)


def _part(part: str, count: int) -> tuple[Tensor, Tensor]:
    expected = {
        f"jpeg_{part}": ((-1,), np.uint8),
        f"offsets_{part}": ((count + 1,), np.int64),
        f"y_{part}": ((count,), np.uint8),
    }
    content, offsets, labels = read_npz(obtain(_FILE), expected).values()
    check_labels(f"cifar10_jpeg, {part}", labels, count // 10)
    return normalise(decode(content, offsets), MEAN, STD), torch.from_numpy(labels.astype(np.int64))


def decode(
    content: np.ndarray,  # (bytes,) uint8
    offsets: np.ndarray,  # (n + 1,) int64
) -> np.ndarray:  # (n, 3, 32, 32) uint8
    """The 32x32 colour images of JPEG files lying one after the other, image i in `content[offsets[i]:offsets[i + 1]]`.

    Raises:
        ImportError: pillow is not installed.
        ValueError: offsets that do not cover the content in order, or an image that is not a JPEG of that size.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise ImportError("cifar10_jpeg: needs pillow to decode images. Install it with: pip install pillow") from error
    covers = offsets[0] == 0 and offsets[-1] == len(content) and bool((np.diff(offsets) > 0).all())
    check(covers, "decode", f"rising offsets from 0 to {len(content)}", offsets)
    stored = content.tobytes()
    images = np.empty((len(offsets) - 1, 3, 32, 32), dtype=np.uint8)
    for i, (start, end) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
        try:
            with Image.open(io.BytesIO(stored[start:end]), formats=("JPEG",)) as image:
                check(image.size == (32, 32), "decode", "images of 32x32", image.size)
                images[i] = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
        except (UnidentifiedImageError, OSError) as error:
            raise refuse("decode", f"a JPEG file as image {i}", str(error)) from error
    return images
