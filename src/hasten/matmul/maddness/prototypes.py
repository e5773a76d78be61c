"""Prototypes: what a leaf stands for, from counts that add up over any number of rows.

With G (N, KC) holding a 1 for the leaf of each row in each codebook, all that is needed of the rows is

    counts = G'WG  (KC, KC)     how often two leaves occur together; the diagonal: how often a leaf occurs
    sums   = G'WA  (KC, D)      sums of the rows of each leaf

Both are sums over rows, so they are collected in parts (`Statistics.add`), and G is never formed. P0 is a leaf's mean
on its codebook's own columns, and zero elsewhere. What P0 leaves over is described once more, by all codebooks together
and on all columns, by ridge regression:

    P = P0 + (G'WG + ridge I)^-1 G'W (A - G P0),    where G'W (A - G P0) = sums - counts P0

G has at most C (K - 1) + 1 independent columns, so it takes a ridge above 0; 1 is as much as one more row. A ridge of
infinity gives P0. The matrix is symmetric and positive definite, and is solved by its Cholesky factor. Ridge is linear
in its target: the tables P @ B are the ridge regression of A @ B.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ..._core.checks import check
from .feedback import LEAST_RIDGE, pair_counts

__all__ = ["RIDGES", "Statistics", "choose_ridge", "leaf_means", "reachable", "ridge_prototypes"]

RIDGES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
ROUNDING = 1e-12  # of a sum of weights
BLOCK = 64  # rows of a triangle that are solved at once


@dataclass
class Statistics:
    """Counts (KC, KC) and sums (KC, D), float64; leaf k of codebook c is at K c + k."""

    leaves: int
    counts: np.ndarray
    sums: np.ndarray

    @classmethod
    def zero(cls, ncodebooks: int, leaves: int, n_features: int) -> Statistics:
        """Those of no rows."""
        size = ncodebooks * leaves
        return cls(leaves, np.zeros((size, size)), np.zeros((size, n_features)))

    def add(self, codes: np.ndarray, A: np.ndarray, weight: np.ndarray | None = None) -> Statistics:
        """Count more rows; returns self.

        Args:
            codes: (N, C) uint8.
            A: (N, D).
            weight: (N,); None: all 1.
        """
        columns = np.ascontiguousarray(codes.T, dtype=np.intp)
        for c, own in enumerate(columns):
            for other in range(c + 1):
                pairs = pair_counts(own, columns[other], self.leaves, weight)
                self._block(c, other)[:] += pairs
                if other < c:
                    self._block(other, c)[:] += pairs.T
            self._add_sums(c, own, A, weight)
        return self

    def _block(self, c: int, other: int) -> np.ndarray:
        K = self.leaves
        return self.counts[c * K : c * K + K, other * K : other * K + K]

    def _add_sums(self, c: int, own: np.ndarray, A: np.ndarray, weight: np.ndarray | None) -> None:
        for leaf in np.unique(own):
            rows = np.flatnonzero(own == leaf)
            part = A[rows].astype(np.float64)
            self.sums[c * self.leaves + leaf] += part.sum(axis=0) if weight is None else weight[rows] @ part

    def copy(self) -> Statistics:
        """One that does not change with this one."""
        return Statistics(self.leaves, self.counts.copy(), self.sums.copy())

    def minus(self, other: Statistics) -> Statistics:
        """Those of the rows that `other` did not count."""
        counts, sums = self.counts - other.counts, self.sums - other.sums
        none = np.abs(counts) <= ROUNDING * self.counts  # weights that were all taken away, but for rounding
        counts[none], sums[np.diagonal(none)] = 0, 0
        return Statistics(self.leaves, counts, sums)

    @property
    def occurrences(self) -> np.ndarray:
        """(KC,) how often each leaf occurs."""
        return np.diagonal(self.counts)


def leaf_means(statistics: Statistics, columns: Sequence[slice]) -> np.ndarray:
    """P0, (KC, D) float64: the mean of a leaf's rows on its codebook's columns, zero elsewhere and for empty leaves."""
    K, found = statistics.leaves, np.zeros_like(statistics.sums)
    safe = np.where(statistics.occurrences > 0, statistics.occurrences, 1.0)
    for c, span in enumerate(columns):
        rows = slice(c * K, c * K + K)
        found[rows, span] = statistics.sums[rows, span] / safe[rows, None]
    return found


def ridge_prototypes(statistics: Statistics, means: np.ndarray, ridge: float) -> np.ndarray:
    """P, (KC, D) float64.

    Args:
        statistics: of the rows.
        means: P0.
        ridge: above 0, in rows; infinity gives P0.

    Raises:
        ValueError: a ridge that is lost in rounding beside the number of rows.
    """
    if np.isinf(ridge):
        return means
    least = LEAST_RIDGE * float(statistics.occurrences[: statistics.leaves].sum())
    fix = "Pass a larger ridge, or smaller weights."
    check(ridge >= least, "Maddness", f"a ridge of at least {least:g} for so many rows", ridge, fix)
    left_over = statistics.sums - statistics.counts @ means
    root = np.linalg.cholesky(statistics.counts + ridge * np.eye(len(means)))
    return means + _forward(root.T[::-1, ::-1], _forward(root, left_over)[::-1])[::-1]


def _forward(lower: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The solution of a lower triangular system, block by block."""
    found = np.empty_like(right)
    for low in range(0, len(lower), BLOCK):
        block = slice(low, low + BLOCK)
        found[block] = np.linalg.solve(lower[block, block], right[block] - lower[block, :low] @ found[:low])
    return found


def choose_ridge(
    total: Statistics, folds: Iterable[Statistics], columns: Sequence[slice], factor: np.ndarray | None = None
) -> float:
    """The one of `RIDGES` with the least squared error on rows that were held out, summed over all folds.

    With codes G and rows A of a fold, |A - G P|^2 = |A|^2 - 2 <P, G'A> + <P, G'G P>: statistics are all it takes.

    Args:
        total: of all rows.
        folds: of disjoint parts of them.
        columns: of each codebook.
        factor: (D, M): the error is that of `A @ factor` instead of A.
    """
    errors = np.zeros(len(RIDGES))
    for fold in folds:
        rest = total.minus(fold)
        means = leaf_means(rest, columns)
        for i, ridge in enumerate(RIDGES):
            found, sums = ridge_prototypes(rest, means, ridge), fold.sums
            if factor is not None:
                found, sums = found @ factor, sums @ factor
            errors[i] += np.vdot(found, fold.counts @ found) - 2 * np.vdot(found, sums)
    return RIDGES[int(np.argmin(errors))]


def reachable(occurrences: np.ndarray, leaves: int) -> np.ndarray:
    """(KC,) for each leaf itself, or for one without rows the leaf with rows that shares the longest path with it.

    No row can reach a leaf without rows (its bucket passed everything left), but an entry of its own would stretch the
    range of a table.
    """
    K = np.arange(leaves)
    unlike = K[:, None] ^ K  # the longer the common path, the smaller
    found = [np.argmin(np.where(own > 0, unlike, leaves), axis=1) for own in occurrences.reshape(-1, leaves)]
    return (np.stack(found) + leaves * np.arange(len(found))[:, None]).reshape(-1)
