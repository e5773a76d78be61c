"""Fashion-MNIST (arXiv 1708.07747): 60,000 training and 10,000 test images, 28x28 grey, of ten kinds of clothes.

The data are looked for as `fashion_mnist/fashion_mnist.npz` (uint8 arrays x_train, y_train, x_test, y_test), then as
the four original IDX files in `fashion_mnist/` (see `download`). Both forms give the same tensors: images are put into
one canonical order, because different copies keep them in different orders. The official split is kept.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hasten._core.checks import check, refuse

from ..models.cnn import SmallCNN
from .download import DataFile, find, obtain
from .images import check_labels, normalise, read_npz, sample_cross_entropy
from .metrics import accuracy

__all__ = ["canonical", "data", "loss", "metric", "model", "read_idx", "test_data", "train_data"]

NAME = "fashion_mnist"
SUMMARY = "Fashion-MNIST with a small CNN: 60,000 training and 10,000 test images of 28x28"
METRIC = "accuracy"
MINIMIZE = False
TARGET = 0.91
BATCH_SIZE = 128
DURATION = "5ep"
OPTIMIZER = "sgd"
LEARNING_RATE = 0.1
WEIGHT_DECAY = 5e-4
MOMENTUM = 0.9
WARMUP = 50
POINTS = 4
MULT = 1.8
PAIRED_SD = 0.0029  # of accuracy at 5 epochs, pooled over arms: benchmarks/records/2026-11-22_fashion_mnist
# Of `hasten prune`: six strategies, six ratios and three seeds then take about ten minutes on two cores.
PRUNE_DURATION, PRUNE_FINETUNE = "3ep", "1ep"
# What `hasten compare` takes when no arms are named.
ARMS = "base,blur=blurpool,ls=label_smoothing(0.1),mix=mixup"

_MEAN, _STD = (0.2860,), (0.3530,)  # of the training images in [0, 1]

_FOLDER = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"


# Size and SHA-256 of the original files.
_ORIGINAL = {
    "train-images-idx3-ubyte.gz": (26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
    "train-labels-idx1-ubyte.gz": (29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
    "t10k-images-idx3-ubyte.gz": (4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
    "t10k-labels-idx1-ubyte.gz": (5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
}
_PREFIX, _COUNT = {"train": "train", "test": "t10k"}, {"train": 60_000, "test": 10_000}

# SHA-256 of the images and labels in canonical order; holds npz files, which have no official digest, to the data set.
_CONTENT = {
    "train": "4bc58f5926b1420d49344d02d6e71205a6644e54f0d302bc45b3918681b3998e",
    "test": "81875622ad6afb3e0bbaab6b5725f6f1d7759c18ac59f6306006d04c25bd7d29",
}


def model(width: int = 16) -> nn.Module:
    """Four 3x3 convolutions of `width` times 1, 2, 4, 4 channels with strides 2, 2, 1, 2."""
    return SmallCNN(in_channels=1, classes=10, widths=(width, 2 * width, 4 * width, 4 * width), strides=(2, 2, 1, 2))


def data(seed: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """((inputs, targets) for training, the same for the test)."""
    return train_data(seed), test_data()


def train_data(seed: int) -> tuple[Tensor, Tensor]:
    """Inputs (60000, 1, 28, 28) float32, normalised, and targets (60000,) int64; the same for every seed."""
    return _part("train")


def test_data() -> tuple[Tensor, Tensor]:
    """Inputs (10000, 1, 28, 28) float32, normalised, and targets (10000,) int64."""
    return _part("test")


def loss(outputs: Tensor, batch: Any) -> Tensor:
    """Cross-entropy per sample, in nats, shape (batch,)."""
    return sample_cross_entropy(outputs, batch)


def metric(model: nn.Module, test: tuple[Tensor, Tensor]) -> float:
    """Accuracy in [0, 1]."""
    return accuracy(model, *test)


def _part(part: str) -> tuple[Tensor, Tensor]:
    count = _COUNT[part]
    npz = find("fashion_mnist/fashion_mnist.npz")
    if npz is not None:
        expected = {f"x_{part}": ((count, 28, 28), np.uint8), f"y_{part}": ((count,), np.uint8)}
        images, labels = read_npz(npz, expected).values()
    else:
        images = read_idx(obtain(_original(f"{_PREFIX[part]}-images-idx3-ubyte.gz")), (count, 28, 28))
        labels = read_idx(obtain(_original(f"{_PREFIX[part]}-labels-idx1-ubyte.gz")), (count,))
    check_labels(f"fashion_mnist, {part}", labels, count // 10)
    images, labels, digest = canonical(images, labels)
    if npz is not None:
        fix = "It holds other images: replace it."
        check(digest == _CONTENT[part], str(npz), f"Fashion-MNIST (content {_CONTENT[part]})", digest, fix)
    return normalise(images[:, None], _MEAN, _STD), torch.from_numpy(labels.astype(np.int64))


def _original(name: str) -> DataFile:
    size, sha256 = _ORIGINAL[name]
    return DataFile(f"fashion_mnist/{name}", size, sha256, f"{_FOLDER}/{name}")


def canonical(
    images: np.ndarray,  # (n, 28, 28) uint8
    labels: np.ndarray,  # (n,) uint8
) -> tuple[np.ndarray, np.ndarray, str]:
    """The samples in an order that does not depend on the order given: sorted by their bytes, then mixed once.

    Returns:
        Images and labels in that order, and the SHA-256 of the sorted samples.
    """
    rows = np.concatenate([images.reshape(len(images), -1), labels[:, None]], axis=1)
    order = np.argsort(rows.view(f"V{rows.shape[1]}")[:, 0], kind="stable")
    digest = hashlib.sha256(rows[order].tobytes()).hexdigest()
    mixed = order[np.random.default_rng(0).permutation(len(order))]
    return images[mixed], labels[mixed], digest


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The uint8 array of a gzipped IDX file, which must have exactly this shape.

    The format: two zero bytes, 8 (for uint8), the number of dimensions, each dimension as a big-endian uint32, then the
    values. No more is unpacked than the shape asks for.

    Raises:
        ValueError: not gzip, another type or shape, or too few or too many bytes.
    """
    header = bytes([0, 0, 8, len(shape)]) + np.array(shape, dtype=">u4").tobytes()
    size = int(np.prod(shape))
    try:
        with gzip.open(path) as stream:
            content = stream.read(len(header) + size + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise refuse(str(path), "a whole gzip file", str(error), "Fetch it again.") from error
    if not content.startswith(header) or len(content) != len(header) + size:
        got = f"{len(content)} bytes that begin with {content[: len(header)].hex()}"
        raise refuse(str(path), f"an IDX file of uint8 with shape {shape}", got, "Fetch it again.")
    return np.frombuffer(content, dtype=np.uint8, offset=len(header)).reshape(shape)
