"""OWL: layers with more outliers are pruned less.

An outlier is an entry whose score `|w_ij| ||x_j||` is more than `threshold` times the mean of its matrix. With D_l the
share of outliers in matrix l, the density of l is that of the whole plus `2 spread (D_l - min D) / (max D - min D)`,
shifted so that the whole keeps its density: matrices count by their entries, and none exceeds 0 or 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from .._core.checks import fraction, positive

__all__ = ["densities", "outliers"]


def outliers(score: Tensor, threshold: float = 5.0) -> float:
    """The share of entries above `threshold` times the mean; 0 where all are 0.

    >>> import torch
    >>> outliers(torch.tensor([1.0, 1.0, 1.0, 9.0]), threshold=2.0)
    0.25

    Source: arXiv 2310.05175, layerwise outlier distribution.
    """
    positive("prune.owl", "threshold", threshold)
    return int((score > threshold * score.float().mean()).sum()) / max(1, score.numel())


def densities(
    shares: Mapping[str, float], shapes: Mapping[str, Sequence[int]], density: float, spread: float = 0.08
) -> dict[str, float]:
    """The density of each matrix, from its share of outliers.

    Args:
        shares: of `outliers`, by name.
        shapes: by name.
        density: of all together, in [0, 1].
        spread: densities differ by at most twice that; 0: all are the same.

    Returns:
        Densities in [0, 1]; `sum(density_l * n_l)` is `density * sum(n_l)`.

    >>> densities({"a": 0.0, "b": 0.1}, {"a": (10, 10), "b": (10, 10)}, 0.5, spread=0.125)
    {'a': 0.375, 'b': 0.625}

    Source: arXiv 2310.05175; there all matrices of a block share one density, and all count alike.
    """
    fraction("prune.owl", "density", density)
    fraction("prune.owl", "spread", spread)
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    least, most = min(shares.values()), max(shares.values())
    unit = 2 * spread / (most - least) if most > least else 0.0
    above = {name: unit * (share - least) for name, share in shares.items()}
    budget = density * sum(sizes.values())

    def clipped(shift: float) -> dict[str, float]:
        return {name: min(1.0, max(0.0, more + shift)) for name, more in above.items()}

    def kept(shift: float) -> float:
        return math.fsum(sizes[name] * value for name, value in clipped(shift).items())

    mean = math.fsum(sizes[name] * more for name, more in above.items()) / sum(sizes.values())
    if all(0 <= more + density - mean <= 1 for more in above.values()):  # as a rule
        return clipped(density - mean)
    low, high = -2 * spread, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if kept(middle) < budget else (low, middle)
    return clipped(high)
