"""Slow, obvious versions of the weight controllers and gradient transforms, in float64 with Python loops."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def ema(snapshots: list[Tensor], decay: float) -> Tensor:
    """Average of successive weights: the first is taken whole, each later one with weight `1 - decay`."""
    average = snapshots[0].double()
    for weights in snapshots[1:]:
        average = decay * average + (1 - decay) * weights.double()
    return average


def adaptive_clip(weight: Tensor, gradient: Tensor, clipping: float, floor: float) -> Tensor:
    """Unit by unit, entry by entry."""
    if weight.ndim <= 1:
        units = [(weight.reshape(-1), gradient.reshape(-1))]
    else:
        units = [(weight[i].reshape(-1), gradient[i].reshape(-1)) for i in range(len(weight))]
    rows = []
    for w, g in units:
        w_norm = math.sqrt(sum(value**2 for value in w.tolist()))
        g_norm = math.sqrt(sum(value**2 for value in g.tolist()))
        limit = clipping * max(w_norm, floor)
        rows.append(g if g_norm <= limit else g * (limit / g_norm))
    return torch.cat(rows).reshape(gradient.shape)


def sam_step(weights: list[Tensor], gradient_at: object, rho: float, epsilon: float, lr: float) -> list[Tensor]:
    """One SAM step of plain SGD: `w - lr * grad(w + rho * g / (norm(g) + epsilon))`."""
    g = gradient_at(weights)
    norm = math.sqrt(sum(float((part**2).sum()) for part in g))
    uphill = gradient_at([w + rho * part / (norm + epsilon) for w, part in zip(weights, g, strict=True)])
    return [w - lr * part for w, part in zip(weights, uphill, strict=True)]


def network() -> nn.Module:
    """Two layers with a batch norm between."""
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))
