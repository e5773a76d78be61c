"""Hard digits: scikit-learn's 8x8 digits, warped, cluttered and noisy. Needs no download; a run takes seconds.

The 1,797 images are split once, by image, into 1,197 for training and 600 for the test, and each part is rendered at
16x16 into a fixed set: 2,048 training and 4,096 test images. A run's seed decides initialisation and order, not data.

Each image is `digit + .4 * piece + noise`:

- digit: rotated by up to ±.4 rad, shrunk by 1.05 to 1.55, moved by up to ±.2 (the image reaches from -1 to 1);
- piece: another image of the same part, warped alike but moved by .8 to 1.2 in any direction, so that most of it
  lies outside the frame; at .4 of the brightness;
- noise: Gaussian, standard deviation .25, on images in [0, 1].

The noise reaches the highest frequencies, so strided convolutions alias: a low-pass filter before them (BlurPool)
helps. Values are rounded to multiples of 1/256: the last bits of a sine differ between machines, the images do not.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hasten._core.checks import missing_extra

from ..models.cnn import SmallCNN
from .images import sample_cross_entropy
from .metrics import accuracy

__all__ = ["data", "loss", "metric", "model", "render", "test_data", "train_data"]

NAME = "digits"
SUMMARY = "scikit-learn's digits, warped, cluttered and noisy: 2,048 training and 4,096 test images of 16x16"
METRIC = "accuracy"
MINIMIZE = False
TARGET = 0.80  # what the baseline reaches in about half its default training length
BATCH_SIZE = 64
DURATION = "15ep"
OPTIMIZER = "sgd"
LEARNING_RATE = 0.15
WEIGHT_DECAY = 5e-4
MOMENTUM = 0.9
WARMUP = 8
POINTS = 4
MULT = 1.8
PAIRED_SD = 0.007  # of accuracy at 15 epochs, pooled over arms: benchmarks/records/2026-11-22_digits
# What `hasten compare` takes when no arms are named.
ARMS = "base,blur=blurpool,ls=label_smoothing(0.1),cl=channels_last"

_SIZE = 16  # pixels of a side
_TRAIN_BASE = 1197  # base images for training; the other 600 are for the test
_TRAIN, _TEST = 2048, 4096
_SPLIT, _TRAIN_DRAWS, _TEST_DRAWS = 0, 1, 2  # seeds of the three fixed draws


def model(width: int = 8) -> nn.Module:
    """Five 3x3 convolutions of `width` times 1, 2, 2, 4, 4 channels, two of them with stride 2."""
    widths = (width, 2 * width, 2 * width, 4 * width, 4 * width)
    return SmallCNN(in_channels=1, classes=10, widths=widths, strides=(1, 2, 1, 2, 1))


def data(seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """((inputs, targets) for training, the same for the test)."""
    return train_data(seed), test_data()


def train_data(seed: int) -> tuple[Tensor, Tensor]:
    """Inputs (2048, 1, 16, 16) float32 and targets (2048,) int64; the same for every seed."""
    images, labels = _base()[0]
    return render(images, labels, _TRAIN, np.random.default_rng(_TRAIN_DRAWS))


def test_data() -> tuple[Tensor, Tensor]:
    """Inputs (4096, 1, 16, 16) float32 and targets (4096,) int64."""
    images, labels = _base()[1]
    return render(images, labels, _TEST, np.random.default_rng(_TEST_DRAWS))


def loss(outputs: Tensor, batch: Any) -> Tensor:
    """Cross-entropy per sample, in nats, shape (batch,)."""
    return sample_cross_entropy(outputs, batch)


def metric(model: nn.Module, test: tuple[Tensor, Tensor]) -> float:
    """Accuracy in [0, 1]."""
    return accuracy(model, *test)


@functools.cache
def _base() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The 8x8 images in [0, 1] and their labels, split once."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise missing_extra("digits", "scikit-learn", "bench") from error
    pixels, labels = load_digits(return_X_y=True)  # 0 to 16
    images, labels = np.asarray(pixels).reshape(-1, 8, 8) / 16, np.asarray(labels, dtype=np.int64)
    order = np.random.default_rng(_SPLIT).permutation(len(images))
    train, test = order[:_TRAIN_BASE], order[_TRAIN_BASE:]
    return (images[train], labels[train]), (images[test], labels[test])


def render(
    images: np.ndarray,  # (base, 8, 8), in [0, 1]
    labels: np.ndarray,  # (base,)
    count: int,
    generator: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """`count` hard images from base images, each base image used equally often up to one.

    Args:
        images: base images.
        labels: their classes.
        count: images to make.
        generator: where every draw comes from.

    Returns:
        Inputs (count, 1, 16, 16) float32, multiples of 1/256, and targets (count,) int64.
    """
    rounds = -(-count // len(images))
    chosen = np.concatenate([generator.permutation(len(images)) for _ in range(rounds)])[:count]
    digit = _warp(images[chosen], generator.uniform(-0.2, 0.2, (count, 2)), generator)
    other = (chosen + generator.integers(1, len(images), count)) % len(images)  # never the image itself
    angle, distance = generator.uniform(0, 2 * np.pi, count), generator.uniform(0.8, 1.2, count)
    aside = distance[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    piece = _warp(images[other], aside, generator)
    noisy = digit + 0.4 * piece + 0.25 * generator.standard_normal(digit.shape)
    rounded = (np.round(256 * noisy) / 256).astype(np.float32)
    return torch.from_numpy(rounded[:, None]), torch.from_numpy(labels[chosen])


def _warp(images: np.ndarray, shift: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Images (n, 8, 8) at 16x16, rotated and shrunk at random and moved by `shift` (n, 2): bilinear, zero outside.

    Output pixel p, at coordinates in [-1, 1], takes the value of the base image at `scale * R(angle) p + shift`.
    """
    n, side = len(images), images.shape[-1]
    angle, scale = generator.uniform(-0.4, 0.4, n), generator.uniform(1.05, 1.55, n)
    axis = (2 * np.arange(_SIZE) + 1) / _SIZE - 1  # centres of the output pixels
    y, x = np.meshgrid(axis, axis, indexing="ij")
    cosine, sine = (scale * np.cos(angle))[:, None, None], (scale * np.sin(angle))[:, None, None]
    column = _to_pixels(cosine * x - sine * y + shift[:, 0, None, None], side)
    row = _to_pixels(sine * x + cosine * y + shift[:, 1, None, None], side)
    left, top = np.floor(column).astype(np.int64), np.floor(row).astype(np.int64)
    right_weight, bottom_weight = column - left, row - top
    padded = np.pad(images, ((0, 0), (1, 2), (1, 2)))  # a border of zeros: what lies outside the base image
    sample = np.arange(n)[:, None, None]
    upper = padded[sample, top, left] * (1 - right_weight) + padded[sample, top, left + 1] * right_weight
    lower = padded[sample, top + 1, left] * (1 - right_weight) + padded[sample, top + 1, left + 1] * right_weight
    return upper * (1 - bottom_weight) + lower * bottom_weight


def _to_pixels(coordinate: np.ndarray, side: int) -> np.ndarray:
    """Coordinates in [-1, 1] as positions in the image padded by one zero on the near side; far ones land on zeros."""
    return np.clip((coordinate + 1) * side / 2 + 0.5, 0, side + 1)
