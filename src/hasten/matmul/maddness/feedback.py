"""Output-aware cuts: each codebook is asked for its part of the product, and for what those before it got wrong.

The prototypes are made together in the end, so codebooks can correct one another. The published cuts know nothing of
that, nor of B: each tree describes its own columns. Here codebook c describes

    A[:, part c] @ B[part c] + error,    error = sum over c' < c of A[:, part c'] @ B[part c'] - best fit to this sum

where the best fit is a ridge regression on the codes of all c' < c. Each tree thus spends its leaves where the product
still needs them. Of many outputs the directions in which the product varies most are enough (`leading`).
"""

from __future__ import annotations

import numpy as np

from ..kmeans import exponent

__all__ = ["DIRECTIONS", "LEAST_RIDGE", "Feedback", "leading", "pair_counts"]

DIRECTIONS = 16  # of the product that cuts look at; 32 and 64 gained less than 0.5 % on a layer of 512 outputs
_STEPS = 8  # of subspace iteration
LEAST_RIDGE = 1e-12  # of the rows' weight: a smaller ridge is lost in the rounding of float64


def pair_counts(a: np.ndarray, b: np.ndarray, leaves: int, weight: np.ndarray | None) -> np.ndarray:
    """(K, K) float64: the weight of the rows with code i in `a` and j in `b`; both (N,) of an integer dtype."""
    pairs = np.bincount(a.astype(np.intp) * leaves + b, weight, leaves * leaves)
    return pairs.reshape(leaves, leaves).astype(np.float64)


class Feedback:
    """What codebooks learned so far leave undescribed of their parts together.

    The fit needs (counts + ridge I)^-1 = R'R. R, the inverse of a Cholesky factor, grows by K rows for each codebook,
    which takes far less time than a new one. (To grow the inverse itself loses three digits for each codebook.)

    Args:
        weight: (N,) float64.
        leaves: K.
        ridge: of the fit, in rows; at least `LEAST_RIDGE` of all of them.

    Attributes:
        error: (N, r) float64, or 0.0 before the first codebook.
    """

    def __init__(self, weight: np.ndarray, leaves: int, ridge: float = 1.0) -> None:
        self.weight, self.leaves = weight, leaves
        self.ridge = max(ridge, LEAST_RIDGE * float(weight.sum()))
        self.error: np.ndarray | float = 0.0
        self._codes: list[np.ndarray] = []
        self._described: np.ndarray | float = 0.0
        self._root = np.zeros((0, 0))

    def add(self, part: np.ndarray, codes: np.ndarray) -> None:
        """Take in a codebook: its part of the product, (N, r), and its codes, (N,)."""
        self._codes.append(codes.astype(np.intp))
        self._described = self._described + part
        self._grow_root()
        weighted = (self._described * self.weight[:, None]).T
        sums = [np.stack([np.bincount(c, column, self.leaves) for column in weighted], axis=1) for c in self._codes]
        fit = (self._root.T @ (self._root @ np.concatenate(sums))).reshape(len(sums), self.leaves, -1)
        error = self._described.copy()
        for values, own in zip(fit, self._codes, strict=True):
            error -= values[own]
        self.error = error

    def _grow_root(self) -> None:
        """The inverse R of the Cholesky factor of counts + ridge I, one block of rows longer."""
        *before, new = self._codes
        corner = pair_counts(new, new, self.leaves, self.weight) + self.ridge * np.eye(self.leaves)
        size = len(self._root)
        side = [pair_counts(old, new, self.leaves, self.weight) for old in before]
        across = self._root @ np.concatenate(side) if side else np.zeros((0, self.leaves))
        last = np.linalg.inv(np.linalg.cholesky(corner - across.T @ across))
        root = np.zeros((size + self.leaves, size + self.leaves))
        root[:size, :size] = self._root
        root[size:, :size] = -last @ (across.T @ self._root)
        root[size:, size:] = last
        self._root = root


def leading(A: np.ndarray, B: np.ndarray, weight: np.ndarray, seed: int) -> np.ndarray:
    """B in the few directions in which `A @ B` varies most: B V, with orthonormal V (M, r) found by subspace iteration.

    Args:
        A: (N, D).
        B: (D, M).
        weight: (N,) float64.
        seed: of the start.

    Returns:
        (D, r) float64 with r = min(M, DIRECTIONS).
    """
    B = B.astype(np.float64)
    if B.shape[1] <= DIRECTIONS:
        return B
    rows, factor = (np.ldexp(x, -exponent(x)) for x in (A.astype(np.float32), B))  # so that products fit in float32
    weight = weight / weight.max()
    mean = np.average(rows, axis=0, weights=weight)
    V = np.random.default_rng(seed).standard_normal((B.shape[1], DIRECTIONS))
    for _ in range(_STEPS):
        V, _ = np.linalg.qr(V)
        product = rows @ (factor @ V).astype(np.float32) - mean @ (factor @ V)  # (N, r)
        product *= weight[:, None]
        V = factor.T @ (rows.T @ product.astype(np.float32) - np.outer(mean, product.sum(axis=0)))
    return B @ np.linalg.qr(V)[0]
