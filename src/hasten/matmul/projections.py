"""Linear methods that learn a subspace: A @ B through a narrow product, `A @ left`, then `@ right`.

Strong wherever rows of A, or what of them B lets through, are close to a subspace: those of a last layer often are.
They save nothing once n_components reaches D M / (D + M), which is below M: then A @ B itself costs as much.

- `PCA`: the subspace of A of least squared error, so it serves any B.
- `TruncatedSVD`: the subspace for one B: of B alone ("input"), or the best for A @ B on the training rows ("output").

Both come from eigenvectors of float64 moment matrices, D by D: the time is O(N D^2 + D^3), the memory O(D^2).
"""

from __future__ import annotations

import numpy as np

from .._core.checks import check, near, refuse, whole
from .base import ApproxMatmul, Cost, Encoded
from .exact import factor32, product, rows32

__all__ = ["PCA", "TruncatedSVD", "leading", "moments"]

_BLOCK = 1 << 18  # elements of A that are widened to float64 at once


def moments(A: np.ndarray, weight: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The weighted mean of the rows, and the mean of the outer products of what is left, `(A - mean)' (A - mean)`.

    Args:
        A: (N, D) with N at least 1, finite.
        weight: (N,) float64 of at least 0, not all 0; None: all 1.

    Returns:
        mean (D,) and covariance (D, D), float64, divided by the sum of the weights.

    >>> moments(np.array([[1.0], [3.0]], np.float32))
    (array([2.]), array([[1.]]))
    """
    n, width = A.shape
    weight = np.ones(n) if weight is None else weight
    total = weight.sum()
    step = max(1, _BLOCK // width)
    blocks = [slice(start, start + step) for start in range(0, n, step)]
    mean = sum((weight[b] @ A[b].astype(np.float64) for b in blocks), start=np.zeros(width)) / total
    covariance = np.zeros((width, width))
    for b in blocks:  # centred before the products, or a large mean would swallow a small variance
        centred = A[b].astype(np.float64) - mean
        covariance += (centred * weight[b, None]).T @ centred
    return mean, covariance / total


def leading(symmetric: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The `count` largest eigenvalues, decreasing, and their eigenvectors as columns; the largest entry is positive.

    Args:
        symmetric: (D, D) float64, positive semidefinite.
        count: at most D.

    Returns:
        values (count,), at least 0, and vectors (D, count), float64, orthonormal.

    >>> leading(np.diag([1.0, 4.0]), 1)[0]
    array([4.])
    """
    values, vectors = np.linalg.eigh(symmetric)
    values, vectors = values[::-1][:count], vectors[:, ::-1][:, :count]
    largest = np.abs(vectors).argmax(axis=0)
    return np.maximum(values, 0.0), vectors * np.where(vectors[largest, np.arange(count)] < 0, -1.0, 1.0)


def check_width(call: str, n_components: int, width: int) -> None:
    """Refuse more components than columns, which would cost more than the product itself."""
    fix = "Pass fewer, or use Exact."
    check(n_components <= width, call, f"n_components of at most {width}, the columns of A", n_components, fix)


class PCA(ApproxMatmul):
    """Rows projected on their principal components: `(A @ V) @ (V' B)`, plus what the mean contributes.

    With V the (D, n_components) leading eigenvectors of the covariance of the training rows, and c their mean:
    `out = (A @ V) @ (V' B) + (c - V V' c)' B`. The last term is one number for each output, so centring costs an
    addition; it is what a layer's bias does.

    Args:
        n_components: at least 1, at most D.

    Attributes:
        components_: (n_components, D) float32, orthonormal rows.
        mean_: (D,) float32.
        explained_variance_ratio_: (n_components,) float64, the share of the variance along each.

    >>> A = np.outer([1.0, 2.0, -1.0], [3.0, 4.0]).astype(np.float32)
    >>> PCA(1).fit(A, np.eye(2, dtype=np.float32)).matmul(A).round(4)
    array([[ 3.,  4.],
           [ 6.,  8.],
           [-3., -4.]], dtype=float32)
    """

    components_: np.ndarray
    mean_: np.ndarray
    explained_variance_ratio_: np.ndarray
    _right: np.ndarray
    _offset: np.ndarray

    def __init__(self, n_components: int = 16) -> None:
        self.n_components = n_components
        whole("PCA", "n_components", n_components, low=1)

    def _fit(self, A: np.ndarray, B: np.ndarray | None, weight: np.ndarray | None) -> None:
        check_width("PCA.fit", self.n_components, A.shape[1])
        mean, covariance = moments(A, weight)
        values, vectors = leading(covariance, self.n_components)
        variance = float(np.trace(covariance))
        self.mean_, self.components_ = mean.astype(np.float32), np.ascontiguousarray(vectors.T, np.float32)
        self.explained_variance_ratio_ = values / variance if variance > 0 else np.zeros(len(values))

    def _set_B(self, B: np.ndarray) -> None:
        components, mean = self.components_.astype(np.float64), self.mean_.astype(np.float64)
        factor = factor32("PCA.set_B", B).astype(np.float64)
        self._right = (components @ factor).astype(np.float32)
        self._offset = ((mean - (components @ mean) @ components) @ factor).astype(np.float32)

    def _encode(self, A: np.ndarray) -> Encoded:
        return Encoded(product(rows32(A), self.components_.T), len(A))

    def _multiply(self, codes: Encoded) -> np.ndarray:
        out = product(codes.values, self._right)
        out += self._offset
        return out

    def _cost(self, n: int) -> Cost:
        d, D = self.components_.shape
        M = self.n_outputs_
        return Cost(n * (2 * D * d + 2 * d * M + M), 0, 4 * n * D, 4 * (D * d + d * M + M))


class TruncatedSVD(ApproxMatmul):
    """B replaced by a matrix of low rank: `(A @ left) @ right`, left (D, n_components), right (n_components, M).

    - metric "input": left @ right is the nearest such matrix to B, by its singular values. A is not looked at.
    - metric "output": `A @ left @ right` is the nearest to A @ B over the training rows. With Q the leading
      eigenvectors of `B' A'A B`: left = B Q, right = Q'.

    The factors depend on B, so `encode` only keeps the rows (it does not copy them), and each `set_B` decomposes anew.

    Args:
        n_components: at least 1, at most D. Above min(D, M) it has no further effect.
        metric: "output" or "input".

    Attributes:
        left_: the first factor, float32.
        right_: the second one.

    >>> A, B = np.eye(3, dtype=np.float32), np.diag([3.0, 2.0, 1.0]).astype(np.float32)
    >>> TruncatedSVD(2).fit(A, B).matmul(A).diagonal().round(4)
    array([3., 2., 0.], dtype=float32)
    """

    left_: np.ndarray
    right_: np.ndarray
    _gram: np.ndarray | None  # A'A / N, for the metric "output"

    def __init__(self, n_components: int = 16, metric: str = "output") -> None:
        self.n_components, self.metric = n_components, metric
        whole("TruncatedSVD", "n_components", n_components, low=1)
        if metric not in ("input", "output"):
            raise refuse("TruncatedSVD", "metric input or output", metric, near(str(metric), ("input", "output")))

    def _fit(self, A: np.ndarray, B: np.ndarray | None, weight: np.ndarray | None) -> None:
        check_width("TruncatedSVD.fit", self.n_components, A.shape[1])
        self._rank, self._gram = self.n_components, None
        if self.metric == "output":
            mean, covariance = moments(A, weight)
            self._gram = covariance + np.outer(mean, mean)

    def _set_B(self, B: np.ndarray) -> None:
        factor = factor32("TruncatedSVD.set_B", B).astype(np.float64)
        count = min(self._rank, *factor.shape)
        if self._gram is None:
            u, s, vt = np.linalg.svd(factor, full_matrices=False)
            left, right = u[:, :count] * s[:count], vt[:count]
        else:
            directions = leading(factor.T @ self._gram @ factor, count)[1]
            left, right = factor @ directions, directions.T
        self.left_, self.right_ = left.astype(np.float32), np.ascontiguousarray(right, np.float32)

    def _encode(self, A: np.ndarray) -> Encoded:
        return Encoded(rows32(A), len(A))

    def _multiply(self, codes: Encoded) -> np.ndarray:
        return product(product(codes.values, self.left_), self.right_)

    def _cost(self, n: int) -> Cost:
        d, D, M = self.left_.shape[1], self.n_features_in_, self.n_outputs_
        return Cost(2 * n * d * (D + M), 0, 4 * n * D, 4 * d * (D + M))
