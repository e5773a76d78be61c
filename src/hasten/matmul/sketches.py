"""Random sketches: `(A @ S) @ (S' B)` with a random S of D rows and n_components columns, E[S S'] = I.

They learn nothing of A (row sampling: its column norms), and are right on average whatever A and B are: the expected
output is A @ B. The price is variance. For rows a of A and columns b of B, of one element of the output:

    GaussianSketch    (|a|^2 |b|^2 + (a'b)^2) / d
    CountSketch       (|a|^2 |b|^2 + (a'b)^2 - 2 sum_j a_j^2 b_j^2) / d
    OSNAP             the same; its tails are lighter
    FastJL            the same times (1 - d / P) P / (P - 1), P = D rounded up to a power of two
    RowSampling       (sum_j a_j^2 b_j^2 / p_j - (a'b)^2) / d

So the error shrinks as 1 / sqrt(d), and is large: an output that is small beside |a| |b| drowns. What they cost is in
each class; a method that learns a subspace (projections.py) has a smaller error at the same width on any data with a
decaying spectrum. They are here as baselines, and where no training rows exist.

S is drawn by NumPy's default generator from random_state, so the same seed gives the same S everywhere. Scales are
folded into S' B, so FastJL, CountSketch, OSNAP and RowSampling do not multiply while they encode.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .._core.checks import fraction, refuse, whole
from .base import ApproxMatmul, Cost, Encoded
from .exact import factor32, product, rows32
from .projections import check_width

__all__ = ["CountSketch", "FastJL", "GaussianSketch", "OSNAP", "RowSampling"]

_BLOCK = 1 << 17  # elements of A that are transposed at once, 512 KB


# Pure functions -------------------------------------------------------------------------------------------------------


def transposed_blocks(A: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of rows, each as a contiguous (D, rows) float32 array: then a column is a vector of many rows."""
    step = max(16, _BLOCK // A.shape[1])
    for start in range(0, len(A), step):
        rows = slice(start, min(start + step, len(A)))
        yield rows, np.ascontiguousarray(A[rows].T, np.float32)


def hadamard(x: np.ndarray) -> None:
    """The Walsh-Hadamard transform along the first axis, in place: `x = H x`, H of entries 1 and -1, H H = P I.

    Args:
        x: (P, n) float32, contiguous, P a power of two.

    >>> x = np.array([[1.0], [2.0], [3.0], [4.0]], np.float32)
    >>> hadamard(x)
    >>> x.ravel()
    array([10., -2., -4.,  0.], dtype=float32)
    """
    size, half = len(x), 1
    while half < size:
        pairs = x.reshape(size // (2 * half), 2, half, -1)
        difference = pairs[:, 0] - pairs[:, 1]
        pairs[:, 0] += pairs[:, 1]
        pairs[:, 1] = difference
        half *= 2


def signed_sums(A: np.ndarray, buckets: np.ndarray, signs: np.ndarray, width: int) -> np.ndarray:
    """Add each column of A, with a sign, to the columns of the result that it is assigned to.

    Args:
        A: (N, D).
        buckets: (D, s) int, in 0..width - 1.
        signs: (D, s) bool; True adds, False subtracts.
        width: columns of the result.

    Returns:
        (N, width) float32, `out[:, buckets[j, k]] += A[:, j] or -A[:, j]`, summed in the order of j.

    >>> buckets, signs = np.array([[0], [1], [0]]), np.array([[True], [True], [False]])
    >>> signed_sums(np.array([[1.0, 2.0, 4.0]], np.float32), buckets, signs, 2)
    array([[-3.,  2.]], dtype=float32)
    """
    out = np.zeros((width, len(A)), np.float32)
    with np.errstate(invalid="ignore"):
        for rows, columns in transposed_blocks(A):
            part = out[:, rows]
            for column, places, plus in zip(columns, buckets.tolist(), signs.tolist(), strict=True):
                for place, add in zip(places, plus, strict=True):
                    (np.add if add else np.subtract)(part[place], column, out=part[place])
    return out.T


def draw_buckets(rng: np.random.Generator, D: int, width: int, nonzeros: int) -> tuple[np.ndarray, np.ndarray]:
    """For each of D columns `nonzeros` distinct places out of `width`, and a sign for each; (D, nonzeros) both."""
    if nonzeros == 1:
        buckets = rng.integers(width, size=(D, 1))
    else:
        buckets = rng.random((D, width)).argsort(axis=1)[:, :nonzeros]
    return buckets, rng.random((D, nonzeros)) < 0.5


def sampling_probabilities(
    A: np.ndarray, B: np.ndarray | None, weight: np.ndarray | None, uniform: float
) -> np.ndarray:
    """The probability of each column of A: its norm times the norm of its row of B, blended with the uniform one.

    Norm times norm has the least variance of `A @ B` as a whole; without B it is the squared norm.

    Args:
        A: (N, D); B: (D, M) or None; weight: (N,) or None.
        uniform: the share of the uniform distribution. Where all norms are 0 it is uniform whatever this says.

    Returns:
        (D,) float64 that sum to 1.

    >>> sampling_probabilities(np.array([[1.0, 3.0]], np.float32), np.ones((2, 1), np.float32), None, 0.0)
    array([0.25, 0.75])
    """
    weight = np.ones(len(A)) if weight is None else weight
    squares = np.zeros(A.shape[1])
    for rows, columns in transposed_blocks(A):
        squares += np.square(columns, dtype=np.float64) @ weight[rows]
    norms = squares if B is None else np.sqrt(squares * np.square(B, dtype=np.float64).sum(axis=1))
    flat, total = np.full(len(norms), 1 / len(norms)), norms.sum()
    return (1 - uniform) * norms / total + uniform * flat if total > 0 else flat


# Methods --------------------------------------------------------------------------------------------------------------


class _Sketch(ApproxMatmul):
    """What the sketches share: the width, the seed, and the product of the two narrow factors."""

    n_components: int
    random_state: int
    _right: np.ndarray  # S' B, (n_components, M)

    def _store(self, n_components: int, random_state: int) -> None:
        self.n_components, self.random_state = n_components, random_state
        whole(type(self).__name__, "n_components", n_components, low=1)
        whole(type(self).__name__, "random_state", random_state)

    def _fit(self, A: np.ndarray, B: np.ndarray | None, weight: np.ndarray | None) -> None:
        check_width(f"{type(self).__name__}.fit", self.n_components, A.shape[1])
        self._draw(np.random.default_rng(self.random_state), A, B, weight)

    def _draw(self, rng: np.random.Generator, A: np.ndarray, B: Any, weight: Any) -> None:
        raise NotImplementedError

    def _factor(self, B: np.ndarray) -> np.ndarray:
        return factor32(f"{type(self).__name__}.set_B", B)

    def _multiply(self, codes: Encoded) -> np.ndarray:
        return product(codes.values, self._right)

    def _sketch_cost(self, n: int, encode_flops: int, kept: int) -> Cost:
        """The cost with `encode_flops` a row, all of A read, `kept` bytes besides S' B."""
        d, M = self._right.shape
        return Cost(n * (encode_flops + 2 * d * M), 0, 4 * n * self.n_features_in_, 4 * d * M + kept)


class GaussianSketch(_Sketch):
    """S of independent normal numbers: `(A @ S) @ (S' B) / n_components`.

    Encoding is a dense product, so it costs as much as PCA's and has a larger error; the yardstick of the others.

    Args:
        n_components: d, at least 1, at most D.
        random_state: the seed, at least 0.

    >>> A, B = np.ones((1, 64), np.float32), np.ones((64, 1), np.float32)
    >>> outputs = [GaussianSketch(16, random_state=seed).fit(A, B).matmul(A).item() for seed in range(200)]
    >>> bool(abs(np.mean(outputs) - 64) < 5 * 64 * (2 / 16 / 200) ** 0.5)
    True
    """

    sketch_: np.ndarray  # (D, n_components) float32

    def __init__(self, n_components: int = 64, random_state: int = 0) -> None:
        self._store(n_components, random_state)

    def _draw(self, rng: np.random.Generator, A: np.ndarray, B: Any, weight: Any) -> None:
        self.sketch_ = rng.standard_normal((A.shape[1], self.n_components), dtype=np.float32)

    def _set_B(self, B: np.ndarray) -> None:
        d = self.sketch_.shape[1]
        self._right = (self.sketch_.T.astype(np.float64) @ self._factor(B) / d).astype(np.float32)

    def _encode(self, A: np.ndarray) -> Encoded:
        return Encoded(product(rows32(A), self.sketch_), len(A))

    def _cost(self, n: int) -> Cost:
        return self._sketch_cost(n, 2 * self.sketch_.size, self.sketch_.nbytes)


class FastJL(_Sketch):
    """Random signs, a fast Walsh-Hadamard transform, and a sample of its outputs without replacement.

    D is padded with zeros to P, a power of two; encoding costs D sign flips and P log2 P additions a row. With
    n_components = P it is exact but for rounding.

    Args:
        n_components: d, at least 1, at most D.
        random_state: the seed, at least 0.

    >>> A, B = np.arange(8, dtype=np.float32)[None], np.ones((8, 1), np.float32)
    >>> FastJL(8, random_state=1).fit(A, B).matmul(A)
    array([[28.]], dtype=float32)
    """

    signs_: np.ndarray  # (D,) float32, 1 or -1
    sample_: np.ndarray  # (n_components,) int64, increasing, in 0..P - 1

    def __init__(self, n_components: int = 64, random_state: int = 0) -> None:
        self._store(n_components, random_state)

    @property
    def _padded(self) -> int:
        return 1 << (len(self.signs_) - 1).bit_length()

    def _draw(self, rng: np.random.Generator, A: np.ndarray, B: Any, weight: Any) -> None:
        self.signs_ = np.where(rng.random(A.shape[1]) < 0.5, np.float32(1), np.float32(-1))
        self.sample_ = np.sort(rng.choice(self._padded, self.n_components, replace=False))

    def _transform(self, A: np.ndarray) -> np.ndarray:
        """The sampled outputs for each row, (N, n_components), before any scale."""
        out = np.empty((len(self.sample_), len(A)), np.float32)
        D = len(self.signs_)
        with np.errstate(invalid="ignore"):
            for rows, columns in transposed_blocks(A):
                padded = np.zeros((self._padded, columns.shape[1]), np.float32)
                np.multiply(columns, self.signs_[:, None], out=padded[:D])
                hadamard(padded)
                out[:, rows] = padded[self.sample_]
        return out.T

    def _set_B(self, B: np.ndarray) -> None:
        scale = np.float32(len(self.sample_))  # (P / d) of the sample times 1 / P of the two transforms
        self._right = np.ascontiguousarray(self._transform(self._factor(B).T).T / scale)

    def _encode(self, A: np.ndarray) -> Encoded:
        return Encoded(self._transform(A), len(A))

    def _cost(self, n: int) -> Cost:
        D, P = len(self.signs_), self._padded
        return self._sketch_cost(n, D + P * (P.bit_length() - 1), 4 * D + 8 * len(self.sample_))


class CountSketch(_Sketch):
    """Each column of A is added to one of n_components sums, with a random sign (also called HashJL).

    Encoding costs D additions a row, the least of all. The sums run in the order of the columns, so a row's code does
    not depend on the rows beside it.

    Args:
        n_components: d, at least 1, at most D.
        random_state: the seed, at least 0.

    >>> A = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 3.0]], np.float32)
    >>> CountSketch(1).fit(A, A.T.copy()).matmul(A).diagonal()  # one column each: no error
    array([1., 9.], dtype=float32)
    """

    buckets_: np.ndarray  # (D, s) int64
    signs_: np.ndarray  # (D, s) bool, True for 1

    def __init__(self, n_components: int = 64, random_state: int = 0) -> None:
        self._store(n_components, random_state)

    def _nonzeros(self) -> int:
        return 1

    def _draw(self, rng: np.random.Generator, A: np.ndarray, B: Any, weight: Any) -> None:
        self._width = self.n_components
        self.buckets_, self.signs_ = draw_buckets(rng, A.shape[1], self.n_components, self._nonzeros())

    def _set_B(self, B: np.ndarray) -> None:
        sums = signed_sums(self._factor(B).T, self.buckets_, self.signs_, self._width).T
        self._right = np.ascontiguousarray(sums / np.float32(self.buckets_.shape[1]))

    def _encode(self, A: np.ndarray) -> Encoded:
        return Encoded(signed_sums(A, self.buckets_, self.signs_, self._width), len(A))

    def _cost(self, n: int) -> Cost:
        return self._sketch_cost(n, self.buckets_.size, self.buckets_.nbytes + self.signs_.nbytes)


class OSNAP(CountSketch):
    """Each column of A is added to `nonzeros` different sums, with random signs; a count sketch has one.

    Encoding costs nonzeros D additions a row. The variance of an output is that of a count sketch: more nonzeros make
    large errors rarer, and the error on a whole subspace smaller.

    Args:
        n_components: d, at least 1, at most D.
        nonzeros: s, at least 1, at most n_components.
        random_state: the seed, at least 0.

    Raises:
        ValueError: more nonzeros than components.

    >>> A, B = np.ones((1, 8), np.float32), np.ones((8, 1), np.float32)
    >>> OSNAP(4, nonzeros=2).fit(A, B).cost(1)
    Cost(flops=24, lookups=0, bytes_read=32, table_bytes=160)
    """

    def __init__(self, n_components: int = 64, nonzeros: int = 4, random_state: int = 0) -> None:
        self._store(n_components, random_state)
        self.nonzeros = nonzeros
        whole("OSNAP", "nonzeros", nonzeros, low=1)
        if nonzeros > n_components:
            raise refuse("OSNAP", f"nonzeros of at most n_components = {n_components}", nonzeros, "Pass fewer.")

    def _nonzeros(self) -> int:
        return self.nonzeros


class RowSampling(_Sketch):
    """The product of a sample of the columns of A and the same rows of B, drawn with replacement.

    Column j is drawn with a probability that grows with the norm of A's column times that of B's row (without B: the
    squared norm of the column) over the training rows, and counts 1 / (d p_j). Columns drawn twice are kept once with
    twice the factor. Encoding picks columns and computes nothing. `set_B` keeps the columns that `fit` drew.

    Args:
        n_components: d, the number of draws, at least 1, at most D.
        uniform: the share of the draws that are uniform, in [0, 1]. Above 0 no column is out of reach, so the output
            is right on average for any rows and any B; with 0 a column that was all zero in training never counts.
        random_state: the seed, at least 0.

    >>> A, B = np.array([[0.0, 2.0, 0.0]], np.float32), np.ones((3, 1), np.float32)
    >>> RowSampling(2, uniform=0.0).fit(A, B).matmul(A)
    array([[2.]], dtype=float32)
    """

    sample_: np.ndarray  # (n,) int64, the distinct columns, increasing
    scales_: np.ndarray  # (n,) float64, times drawn / (d p)

    def __init__(self, n_components: int = 64, uniform: float = 0.1, random_state: int = 0) -> None:
        self._store(n_components, random_state)
        self.uniform = uniform
        fraction("RowSampling", "uniform", uniform)

    def _draw(self, rng: np.random.Generator, A: np.ndarray, B: Any, weight: Any) -> None:
        p = sampling_probabilities(A, B, weight, self.uniform)
        drawn = rng.choice(len(p), self.n_components, p=p / p.sum())
        self.sample_, times = np.unique(drawn, return_counts=True)
        self.scales_ = times / (self.n_components * p[self.sample_])

    def _set_B(self, B: np.ndarray) -> None:
        self._right = (self._factor(B)[self.sample_] * self.scales_[:, None]).astype(np.float32)

    def _encode(self, A: np.ndarray) -> Encoded:
        return Encoded(rows32(A[:, self.sample_]), len(A))

    def _cost(self, n: int) -> Cost:
        d, M = self._right.shape
        return Cost(2 * n * d * M, 0, 4 * n * d, 4 * d * M + self.sample_.nbytes)
