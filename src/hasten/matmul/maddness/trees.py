"""Hash trees: what they are, and how they are learned from rows.

A codebook is a tree of L levels. All nodes of a level look at one column, `dims[c, l]`; each node has a threshold. A
row starts with prefix p = 0; at level l it goes to p = 2 p + (x[dims[c, l]] > threshold of node (l, p)), and the p
after the last level is its code. Level 0 is the most significant bit. NaN compares false and so goes left.

Each codebook has columns of its own, a contiguous part of all, and cuts on those (or on any of some columns that are
given, lines.py). What its leaves shall describe decides the cuts:

    input       those columns (the published rule)
    output      that part of the product, A[:, part] @ B[part]
    feedback    the same, and what the codebooks before it got wrong (feedback.py)
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..._core.checks import check
from ..spans import spans
from .feedback import Feedback
from .splits import Buckets, best_cut

__all__ = ["LEAVES", "Learned", "Trees", "grow", "learn_trees"]

LEAVES = (16, 32, 64)


@dataclass(frozen=True, eq=False)
class Trees:
    """The trees of C codebooks. The arrays are not copied, and must not change: kernels keep copies of their own.

    Args:
        dims: (C, L) int32, the column of each level, at least 0.
        thresholds: (C, K - 1) float32 with K = 2^L, not NaN, in heap order: the node of level l with prefix p is at
            2^l - 1 + p. +inf passes everything left.

    Raises:
        ValueError: shapes, dtypes or values that are no trees.

    >>> trees = Trees(np.zeros((1, 4), np.int32), np.full((1, 15), np.inf, np.float32))
    >>> trees.ncodebooks, trees.levels, trees.leaves
    (1, 4, 16)
    """

    dims: np.ndarray
    thresholds: np.ndarray

    def __post_init__(self) -> None:
        dims, thresholds, fix = self.dims, self.thresholds, "Pass what learn_trees returns."
        check(dims.dtype == np.int32 and dims.ndim == 2, "Trees", "dims (C, L) of dtype int32", dims, fix)
        check(len(dims) > 0 and bool((dims >= 0).all()), "Trees", "at least one codebook and columns >= 0", dims, fix)
        levels = [leaves.bit_length() - 1 for leaves in LEAVES]
        check(dims.shape[1] in levels, "Trees", f"levels among {levels}", dims, fix)
        shape = (len(dims), (1 << dims.shape[1]) - 1)
        good = thresholds.dtype == np.float32 and thresholds.shape == shape
        check(good, "Trees", f"thresholds of shape {shape} and dtype float32", thresholds, fix)
        check(not np.isnan(thresholds).any(), "Trees", "thresholds that are numbers", "NaN", fix)

    @property
    def ncodebooks(self) -> int:
        """C."""
        return len(self.dims)

    @property
    def levels(self) -> int:
        """L."""
        return self.dims.shape[1]

    @property
    def leaves(self) -> int:
        """K = 2^L."""
        return 1 << self.levels


@dataclass(frozen=True, eq=False)
class Learned:
    """Trees and what became of the rows they were learned from.

    Args:
        trees: the trees.
        codes: (N, C) uint8.
        sse: (C, L + 1), of a codebook's targets before the first and after each level.
    """

    trees: Trees
    codes: np.ndarray
    sse: np.ndarray


def learn_trees(
    A: np.ndarray,
    ncodebooks: int,
    leaves: int = 16,
    *,
    n_candidates: int = 4,
    weight: np.ndarray | None = None,
    factor: np.ndarray | None = None,
    feedback: bool = False,
    columns: np.ndarray | None = None,
) -> Learned:
    """Learn a tree for each codebook, greedily, level by level, with exact best cuts.

    Args:
        A: (N, D), finite.
        ncodebooks: C, from 1 to D.
        leaves: K, 16, 32 or 64.
        n_candidates: how many columns are tried for a level.
        weight: (N,) float64 above 0; None: all 1.
        factor: (D, M): trees shall describe a codebook's part of `A @ factor` instead of its part of A.
        feedback: with a factor, and also what the codebooks before it got wrong.
        columns: that any tree may look at; None: each those of its codebook.

    Source: arXiv 2106.10860, section 4; `factor`, `feedback` and `columns` are ours.
    """
    weight = np.ones(len(A)) if weight is None else weight
    errors = Feedback(weight, leaves) if feedback and factor is not None else None
    rank = _by_spread if factor is None else _by_slope
    shared = None if columns is None else _Columns.of(A, columns)
    grown = []
    for span in spans(A.shape[1], ncodebooks):
        own = shared or _Columns.of(A, np.arange(span.start, span.stop))
        part = np.asfortranarray(A[:, span], dtype=np.float32).astype(np.float64)
        part -= np.average(part, axis=0, weights=weight)
        if factor is not None:
            part = part @ _shortest(factor[span].astype(np.float64), keep=feedback)
        targets = part if errors is None else part + errors.error
        dims, *rest = grow(own, targets, weight, leaves, lambda c, b: rank(c, b)[:n_candidates].tolist())
        if errors is not None:
            errors.add(part, rest[1])
        grown.append((own.numbers[dims], *rest))
    dims, thresholds, codes, sse = (np.stack(part) for part in zip(*grown, strict=True))
    return Learned(Trees(dims.astype(np.int32), thresholds), np.ascontiguousarray(codes.T), sse)


def _shortest(factor: np.ndarray, keep: bool) -> np.ndarray:
    """With at most d columns what has the same lengths: products with it are as far apart as those with `factor`."""
    if keep or factor.shape[1] <= factor.shape[0]:
        return factor
    left, singular, _ = np.linalg.svd(factor, full_matrices=False)
    return left * singular


@dataclass(frozen=True, eq=False)
class _Columns:
    """Columns that trees may look at: their numbers, values (N, d) float32, and what sorts those sorted so far."""

    numbers: np.ndarray
    values: np.ndarray
    orders: dict[int, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, A: np.ndarray, numbers: np.ndarray) -> _Columns:
        return cls(numbers, np.asfortranarray(A[:, numbers], dtype=np.float32))


def grow(
    columns: _Columns,
    targets: np.ndarray,
    weight: np.ndarray,
    leaves: int,
    candidates: Callable[[np.ndarray, Buckets], list[int]],
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One tree on `columns` that describes `targets`, (N, r) float64.

    Returns:
        dims (L,), thresholds (K - 1,) float32, codes (N,) uint8, and the SSE before the first and after each level.
    """
    levels = leaves.bit_length() - 1
    values, index = columns.values, np.zeros(len(targets), np.uint8)
    dims, thresholds, sse = np.zeros(levels, np.int64), np.full(leaves - 1, np.inf, np.float32), np.zeros(levels + 1)
    for level in range(levels):
        count = 1 << level
        buckets = Buckets.of(targets, index, weight, count)
        sse[level] = buckets.sse.sum()
        cut = best_cut(values, candidates(values, buckets), columns.orders, buckets)
        dims[level], thresholds[count - 1 : 2 * count - 1] = cut.column, cut.thresholds
        index = 2 * index + (values[:, cut.column] > cut.thresholds[index])
    sse[levels] = Buckets.of(targets, index, weight, leaves).sse.sum()
    return dims, thresholds, index, sse


def _by_spread(columns: np.ndarray, buckets: Buckets) -> np.ndarray:
    """Columns, those first that differ most inside the buckets."""
    own = Buckets.of(columns.astype(np.float64), buckets.index, buckets.weight, len(buckets.mass))
    score = np.einsum("nd,nd->d", own.residual, own.residual / own.weight[:, None])
    return np.argsort(-score, kind="stable")


def _by_slope(columns: np.ndarray, buckets: Buckets) -> np.ndarray:
    """Columns, those first with which a line in each bucket would describe most of the targets."""
    own = Buckets.of(columns.astype(np.float64), buckets.index, buckets.weight, len(buckets.mass))
    rows = np.argsort(buckets.index, kind="stable")
    edges = np.searchsorted(buckets.index[rows], np.arange(len(buckets.mass) + 1))
    centred, weighted = own.residual[rows] / own.weight[rows, None], own.residual[rows]
    targets, score = buckets.residual[rows], np.zeros(columns.shape[1])
    for low, high in itertools.pairwise(edges.tolist()):
        part = slice(low, high)
        spread = np.einsum("nd,nd->d", weighted[part], centred[part])
        together = np.einsum("dr,dr->d", *[centred[part].T @ targets[part]] * 2)
        score += together / np.where(spread > 0, spread, np.inf)
    return np.argsort(-score, kind="stable")
