"""One level of a hash tree: where each bucket of rows is cut, and which column they are all cut on.

A level sends the rows of 2^l buckets to 2^(l + 1): one column for the whole level, one threshold for each bucket, and
`x > threshold` goes right. The loss is the sum of squared errors (SSE) of *targets*, any columns Z that the leaves
shall describe, to the mean of their bucket. With targets centred in their bucket, a cut that puts the rows H on one
side lowers the SSE by

    gain = |sum over H of w z|^2 * W / (W_H (W - W_H)),    W = sum of weights w, W_H = that of H

so one prefix sum in the order of the column gives all cuts of all buckets. Cuts lie only between distinct values; a
bucket that has no such cut, or no gain, gets the threshold +inf: it passes everything left.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

__all__ = ["Buckets", "Cut", "best_cut", "best_threshold", "cut_buckets"]


@dataclass(frozen=True)
class Buckets:
    """Rows in buckets, and targets centred in them.

    Args:
        index: (N,) the bucket of each row, uint8.
        weight: (N,) float64.
        mass: (n_buckets,) float64, sum of weights.
        residual: (N, d) float64, targets less their bucket's mean, times the weight.
        sse: (n_buckets,) float64.
    """

    index: np.ndarray
    weight: np.ndarray
    mass: np.ndarray
    residual: np.ndarray
    sse: np.ndarray

    @classmethod
    def of(cls, targets: np.ndarray, index: np.ndarray, weight: np.ndarray, count: int) -> Buckets:
        """Centre `targets`, (N, d), in `count` buckets."""
        mass = np.bincount(index, weight, count)
        safe = np.where(mass > 0, mass, 1.0)
        means = np.stack([np.bincount(index, weight * column, count) for column in targets.T], axis=1) / safe[:, None]
        centred = targets - means[index]
        residual = centred * weight[:, None]
        sse = np.bincount(index, np.einsum("nd,nd->n", residual, centred), count)
        return cls(index, weight, mass, residual, sse)


@dataclass(frozen=True)
class Cut:
    """A level's column, the threshold of each bucket and by how much all of them lower the SSE."""

    column: int
    thresholds: np.ndarray  # (n_buckets,) float32
    gain: float


def _between(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The midpoint as float32, `low <= t < high`; float32 arrays with low < high."""
    middle = ((low.astype(np.float64) + high.astype(np.float64)) / 2).astype(np.float32)
    return np.where(middle < high, middle, low)


def _since(values: np.ndarray, first: np.ndarray, cuts: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Sums of `values` from the first row of a cut's bucket up to the cut."""
    sums = np.zeros((len(values) + 1, *values.shape[1:]))
    np.cumsum(values, axis=0, out=sums[1:])
    return sums[cuts + 1] - sums[first][at]


def cut_buckets(x: np.ndarray, order: np.ndarray, buckets: Buckets) -> tuple[np.ndarray, np.ndarray]:
    """The best cut of every bucket on one column.

    Args:
        x: (N,) float32, the column.
        order: (N,) that sorts it.
        buckets: the rows' buckets.

    Returns:
        Thresholds (n_buckets,) float32 and gains (n_buckets,) float64. Of equal gains the lowest threshold counts.
    """
    count = len(buckets.mass)
    thresholds, gains = np.full(count, np.inf, np.float32), np.zeros(count)
    rows = order[np.argsort(buckets.index[order], kind="stable")]
    value, where = x[rows], buckets.index[rows]
    cuts = np.flatnonzero((value[1:] > value[:-1]) & (where[1:] == where[:-1]))  # after these places
    if not len(cuts):
        return thresholds, gains
    at = where[cuts]
    first = np.searchsorted(where, np.arange(count))  # place of a bucket's first row
    head = _since(buckets.residual[rows], first, cuts, at)
    left = _since(buckets.weight[rows], first, cuts, at)
    whole = buckets.mass[at]
    right = whole - left  # 0 where rounding sees no weight on that side: no cut
    inverse = np.divide(whole, left * right, out=np.zeros_like(whole), where=right > 0)
    gain = np.einsum("nd,nd->n", head, head) * inverse
    edges = np.searchsorted(at, np.arange(count + 1))
    for bucket in np.flatnonzero(edges[1:] > edges[:-1]):
        best = edges[bucket] + int(np.argmax(gain[edges[bucket] : edges[bucket + 1]]))
        if gain[best] > 0:
            place = cuts[best]
            thresholds[bucket], gains[bucket] = _between(value[place], value[place + 1]), gain[best]
    return thresholds, gains


def best_cut(columns: np.ndarray, candidates: Iterable[int], orders: dict[int, np.ndarray], buckets: Buckets) -> Cut:
    """The candidate whose cuts lower the SSE most; the first one of equals.

    Args:
        columns: (N, D) float32, in Fortran order if it is to be fast.
        candidates: indices of columns, at least one.
        orders: what sorts a column, for those sorted so far; others are added.
        buckets: the rows' buckets.
    """
    best = None
    for column in candidates:
        x = columns[:, column]
        if column not in orders:
            orders[column] = np.argsort(x, kind="stable")
        thresholds, gains = cut_buckets(x, orders[column], buckets)
        if best is None or gains.sum() > best.gain:
            best = Cut(column, thresholds, float(gains.sum()))
    assert best is not None
    return best


def best_threshold(x: np.ndarray, targets: np.ndarray, weight: np.ndarray | None = None) -> tuple[float, float]:
    """The cut of one bucket that leaves the least SSE.

    Args:
        x: (n,) float32, the column that is cut, finite.
        targets: (n, d), what both sides are to describe by their means.
        weight: (n,), above 0; None: all 1.

    Returns:
        The threshold, halfway between two values of `x` (`x > threshold` goes right), and the SSE of both sides
        together. Without two distinct values, or where no cut lowers the SSE: infinity and the SSE of the whole.

    >>> x = np.array([5, 1, 2, 6], np.float32)
    >>> best_threshold(x, x[:, None])
    (3.5, 1.0)
    """
    x, targets = np.asarray(x, np.float32), np.asarray(targets, np.float64)
    weight = np.ones(len(x)) if weight is None else np.asarray(weight, np.float64)
    buckets = Buckets.of(targets, np.zeros(len(x), np.uint8), weight, 1)
    thresholds, gains = cut_buckets(x, np.argsort(x, kind="stable"), buckets)
    return float(thresholds[0]), float(max(buckets.sse[0] - gains[0], 0.0))
