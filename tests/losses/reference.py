"""The slow way: dense targets, written out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from hasten._core.batch import get_targets


def per_sample_cross_entropy(outputs: Tensor, batch: object) -> Tensor:
    """Cross entropy of class indices (batch,) or dense targets (batch, classes), one value per sample."""
    return cross_entropy(outputs, get_targets(batch), reduction="none")


def per_sequence_cross_entropy(outputs: Tensor, batch: object) -> Tensor:
    """Mean cross entropy over the positions of each sequence that are not -100."""
    targets = get_targets(batch)
    losses = cross_entropy(outputs.transpose(1, 2), targets, reduction="none")
    return losses.sum(1) / (targets != -100).sum(1).clamp(min=1)


def smoothed_one_hot(targets: Tensor, classes: int, smoothing: float) -> Tensor:
    """`(1 - s) * one_hot + s / classes`."""
    dense = torch.full((len(targets), classes), smoothing / classes, dtype=torch.float64)
    for row, target in enumerate(targets.tolist()):
        dense[row, target] += 1 - smoothing
    return dense


def dense_cross_entropy(logits: Tensor, dense: Tensor) -> Tensor:
    """`-sum_k p_k log q_k` per sample, in float64."""
    z = logits.double()
    return -(dense * (z - z.exp().sum(-1, keepdim=True).log())).sum(-1)
