"""The commented example that `hasten new workload` writes."""

from __future__ import annotations

__all__ = ["template"]

_TEXT = '''\
"""My workload: which of two spirals does a point lie on? Replace each part with your own.

Four functions are needed: model, data, loss, metric. Try it with:

    hasten compare {name} --arms base,label_smoothing
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

# Optional settings of the baseline; tune them first, with the same care as the arms you compare it with.
METRIC = "accuracy"  # what reports call it
MINIMIZE = False  # True if a lower metric is better
TARGET = 0.95  # a value of the metric worth reaching, for time to target; None if there is none
BATCH_SIZE = 64
DURATION = "20ep"  # also "500step" or "2e6tok"
OPTIMIZER = "adamw"  # or "sgd"
LEARNING_RATE = 3e-3
ARMS = "base,label_smoothing"  # what `hasten compare` takes when --arms names none


def model(width=32):
    """A new model. The random numbers of its initialisation are seeded for you."""
    return nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))


def spirals(count, generator):
    """`count` noisy points (count, 2) and which spiral each is on (count,)."""
    labels = torch.arange(count) % 2
    angle = 3 * math.pi * torch.rand(count, generator=generator).sqrt()
    turned = angle + math.pi * labels
    points = angle[:, None] / 10 * torch.stack([turned.cos(), turned.sin()], dim=1)
    return points + 0.03 * torch.randn(count, 2, generator=generator), labels


def data(seed):
    """(train, test): each (inputs, targets), or a dict of tensors, or a dataset with __len__ and __getitem__.

    The seed may decide the training data (here it does not); the test data must not depend on it.
    """
    train = spirals(2048, torch.Generator().manual_seed(0))
    test = spirals(1024, torch.Generator().manual_seed(1))
    return train, test


def loss(outputs, batch):
    """One value per sample, shape (batch,): no mean over the batch here."""
    inputs, targets = batch
    return F.cross_entropy(outputs, targets, reduction="none")


@torch.no_grad()
def metric(model, test):
    """One number for the whole test set. Never choose anything by it: that is what makes it honest."""
    inputs, targets = test
    model.eval()
    return (model(inputs).argmax(1) == targets).float().mean().item()
'''


def template(name: str = "my_workload.py") -> str:
    """The text of a small, complete workload file, with a comment for each part.

    Args:
        name: the file name its usage line shows.
    """
    return _TEXT.format(name=name)
