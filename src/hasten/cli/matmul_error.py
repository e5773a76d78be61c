"""How wrong a product is, and how sure that is.

    NMSE = mean over rows of e / mean over rows of v,   e = mean (exact - found)^2 of a row,   v = mean (exact - m)^2

with m the mean of all exact elements: the same number as `hasten.matmul.nmse`. Rows are what varies, so the interval is
a percentile bootstrap over rows: each row counts Poisson(1) times, which is resampling for many rows and needs one
pass. All methods share the resamples.
"""

from __future__ import annotations

import numpy as np

from .matmul_data import blocks

__all__ = ["by_row", "exact_product", "nmse_and_intervals", "spread"]

DRAWS = 1000  # resamples: the ends of a 95 % interval are then known to a few percent of its width
BLOCK = 1 << 12  # rows that are resampled at once


def exact_product(rows: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """`rows @ factor` in float64, (N, M).

    >>> exact_product(np.eye(2, dtype=np.float32), np.array([[1.0], [2.0]], np.float32)).ravel()
    array([1., 2.])
    """
    wide = factor.astype(np.float64)
    parts = [block.astype(np.float64) @ wide for block in blocks(rows)]
    return np.concatenate(parts) if parts else np.empty((0, factor.shape[1]))


def by_row(exact: np.ndarray, found: np.ndarray) -> np.ndarray:
    """The mean squared error of each row, (N,) float64."""
    return np.mean((exact - found) ** 2, axis=1)


def spread(exact: np.ndarray) -> np.ndarray:
    """The mean squared distance of each row's elements from the mean of all elements, (N,) float64."""
    return np.mean((exact - exact.mean()) ** 2, axis=1)


def nmse_and_intervals(
    errors: np.ndarray,  # (methods, N)
    spreads: np.ndarray,  # (N,)
    seed: int = 0,
) -> list[tuple[float, float, float]]:
    """For each method the NMSE and the ends of its 95 % interval.

    Args:
        errors: `by_row` of each method.
        spreads: `spread` of the exact product, not all 0.
        seed: of the resamples.

    >>> found = nmse_and_intervals(np.array([[0.1, 0.3] * 200]), np.ones(400))
    >>> [round(number, 2) for number in found[0]]
    [0.2, 0.19, 0.21]
    """
    rng = np.random.default_rng(seed)
    columns = np.vstack([errors, spreads]).T  # (N, methods + 1)
    sums = np.zeros((DRAWS, columns.shape[1]))
    for start in range(0, len(columns), BLOCK):
        part = columns[start : start + BLOCK]
        sums += rng.poisson(1.0, (DRAWS, len(part))) @ part
    sums = sums[sums[:, -1] > 0]  # with few rows a resample may be empty
    ends = np.quantile(sums[:, :-1] / sums[:, -1:], [0.025, 0.975], axis=0)
    means = columns.mean(axis=0)
    return [(float(m / means[-1]), float(low), float(high)) for m, low, high in zip(means[:-1], *ends, strict=True)]
