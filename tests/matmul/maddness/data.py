"""Rows, trees and real images for the tests."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from hasten.matmul.maddness import Trees

FOLDER = Path(os.environ.get("HASTEN_DATA", ""))
IMAGES = FOLDER / "fashion_mnist/fashion_mnist.npz"
has_images = pytest.mark.skipif(
    "HASTEN_DATA" not in os.environ or not IMAGES.is_file(), reason="HASTEN_DATA has no fashion_mnist"
)


def rows_like_activations(n, d, rank=4, seed=0):
    """Non-negative rows of low rank, half of them zeros: (n, d) float32."""
    generator = np.random.default_rng(seed)
    mix = np.random.default_rng(99).standard_normal((rank, d))
    return np.maximum(generator.standard_normal((n, rank)) @ mix, 0).astype(np.float32)


def random_trees(ncodebooks, leaves, n_features, seed=0):
    generator = np.random.default_rng(seed)
    levels = leaves.bit_length() - 1
    dims = generator.integers(0, n_features, (ncodebooks, levels)).astype(np.int32)
    return Trees(dims, generator.standard_normal((ncodebooks, leaves - 1)).astype(np.float32))


@cache
def images():
    """2500 training and 1000 test images of Fashion-MNIST, (N, 784) float32 in [0, 1], and their labels."""
    with np.load(IMAGES) as found:
        parts = (found["x_train"][:2500], found["x_test"][:1000], found["y_train"][:2500], found["y_test"][:1000])
    train, test, *labels = parts
    return (train.reshape(-1, 784) / np.float32(255), test.reshape(-1, 784) / np.float32(255), *labels)


@cache
def least_squares():
    """B (784, 10) of a least-squares classifier on the training images."""
    train, _, labels, _ = images()
    A = train.astype(np.float64)
    return np.linalg.solve(A.T @ A + 10 * np.eye(784), A.T @ (np.eye(10)[labels] - 0.1))
