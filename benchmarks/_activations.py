"""Rows to multiply: activations of a small network, or numbers that look like some."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Rows", "fashion", "invented"]


@dataclass(frozen=True)
class Rows:
    """Rows to learn from and others to test on, the right factor, and (of a classifier) bias and classes."""

    train: np.ndarray  # (n, D) float32
    test: np.ndarray  # (N, D) float32
    factor: np.ndarray  # (D, M) float32
    bias: np.ndarray | None = None  # (M,)
    classes: np.ndarray | None = None  # (N,) of the test rows

    def accuracy(self, products: np.ndarray) -> float | None:
        """Share of test rows whose largest logit is that of their class."""
        if self.classes is None or self.bias is None:
            return None
        return float(((products + self.bias).argmax(axis=1) == self.classes).mean())


def invented(n: int, dims: int, outputs: int, seed: int = 0, rank: int = 32) -> Rows:
    """ReLU of mixtures of `rank` normal variables with some noise; a random right factor."""
    rng = np.random.default_rng(seed)
    mix = rng.normal(size=(rank, dims)) / np.sqrt(rank)

    def rows(count: int) -> np.ndarray:
        noise = 0.2 * rng.normal(size=(count, dims))
        return np.maximum(rng.normal(size=(count, rank)) @ mix + noise, 0).astype(np.float32)

    return Rows(rows(min(n, 10_000)), rows(n), rng.normal(size=(dims, outputs)).astype(np.float32))


def fashion(seed: int = 0, images: int = 12_000, epochs: int = 3) -> Rows:
    """The 512 inputs of the last layer of a small convolutional network after 3 epochs on Fashion-MNIST."""
    import torch
    from torch import nn

    from hasten.bench.workloads import fashion_mnist

    torch.manual_seed(seed)
    (x_train, y_train), (x_test, y_test) = fashion_mnist.data(seed)
    body = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 7 * 7, 512), nn.ReLU(),
    )  # fmt: skip
    head = nn.Linear(512, 10)
    model = nn.Sequential(body, head)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        for part in torch.randperm(images).split(64):
            loss = nn.functional.cross_entropy(model(x_train[part]), y_train[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        train, test = body(x_train[:10_000]), body(x_test)
        factor, bias = head.weight.T.contiguous().numpy(), head.bias.numpy()
    return Rows(train.numpy(), test.numpy(), factor, bias, y_test.numpy())
