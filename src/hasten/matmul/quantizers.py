"""Product quantisation and its relatives: rows become codes of a few prototypes, products become sums of table entries.

The columns of A are cut into C contiguous codebooks (the first D mod C have one column more). In each, k-means finds K
prototypes; a row's code is the nearest one. The table of an output m holds the product of each prototype with B's rows:

    T[c, k, m] = P[c, k, :] @ B[columns of c, m]            out[n, m] = sum over c of T[c, codes[n, c], m]

- `PQ`: K = 256, float32 tables (Jégou, Douze, Schmid 2011).
- `OPQ`: PQ after a learned rotation, so that codebooks share the variance and are little correlated (Ge et al. 2013).
- `Bolt`: K = 16 and 8-bit tables, made for byte shuffles (arXiv 1706.10283).

Encoding costs K multiply-adds for each element of A, more than the exact product where M is at most K: these pay where
codes are used many times, as in search. MADDNESS replaces that search by a few comparisons.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .._core.checks import check, whole
from .base import ApproxMatmul, Cost, Encoded
from .exact import factor32, product, rows32
from .kmeans import Clusters, biases, exponent, kmeans, nearest
from .projections import leading, moments
from .spans import spans

__all__ = ["OPQ", "PQ", "Bolt", "ClippedTables", "clip_tables", "reconstruct", "rotate_by_variance"]

# The shares of entries that may be clipped at either end, of arXiv 1706.10283. 0 is ours, and mostly wins: what is
# clipped costs its excess squared, finer steps save 1 / (12 * 255^2) of the range squared for each entry.
ALPHAS = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
SMALLEST_GAP = 1e-36  # below it 255 / gap is near the largest float32, or beyond; such tables count as constant
LARGEST = 1e15  # of training rows: sums of D squared differences stay far below the largest float32, 3.4e38
ROTATION_ROUNDS = 10  # alternations of OPQ; each is one round of k-means and one singular value decomposition


# Pure functions -------------------------------------------------------------------------------------------------------


def reconstruct(prototypes: list[np.ndarray], codes: np.ndarray) -> np.ndarray:
    """Rows as their codes see them: the prototypes side by side, (N, D) float32.

    >>> reconstruct([np.array([[1.0], [2.0]], np.float32)], np.array([[1], [0]], np.uint8)).ravel()
    array([2., 1.], dtype=float32)
    """
    return np.concatenate([p[codes[:, c]] for c, p in enumerate(prototypes)], axis=1)


def tables(prototypes: list[np.ndarray], B: np.ndarray) -> np.ndarray:
    """The products of the prototypes with their rows of B, (C, K, M) float32, summed in float64."""
    parts = spans(len(B), len(prototypes))
    wide = B.astype(np.float64)
    entries = [p.astype(np.float64) @ wide[part] for p, part in zip(prototypes, parts, strict=True)]
    return np.stack(entries).astype(np.float32)


class ClippedTables(NamedTuple):
    """8-bit tables: `T ≈ codes / scale + floors[c]`; codes (C, K, M) uint8, floors (C,) float32."""

    codes: np.ndarray
    floors: np.ndarray
    scale: np.float32
    alpha: float


def clip_tables(T: np.ndarray) -> ClippedTables:
    """Quantise tables to 8 bits, all with one scale, clipped where that costs the least squared error.

    For each alpha of a list: the floor of a codebook is the alpha-quantile of its entries; the scale is 255 over the
    largest distance, of any codebook, from its floor to its (1 - alpha)-quantile; entries beyond are clipped. The alpha
    with the least sum of squared errors is kept, the first of equals. A distance below 1e-36 makes the scale 1.

    Args:
        T: (C, K, M) float32, finite.

    >>> found = clip_tables(np.arange(16, dtype=np.float32).reshape(1, 16, 1))
    >>> found.alpha, found.codes.min().item(), found.codes.max().item()
    (0.0, 0, 255)
    """
    flat = T.reshape(len(T), -1).astype(np.float64)
    best: tuple[float, ClippedTables] | None = None
    for alpha in ALPHAS:
        floors = np.quantile(flat, alpha, axis=1).astype(np.float32)
        gap = float((np.quantile(flat, 1 - alpha, axis=1) - floors).max())
        scale = np.float32(255 / gap) if gap > SMALLEST_GAP else np.float32(1)
        shifted = flat - floors[:, None]
        codes = np.floor(shifted * np.float64(scale) + 0.5).clip(0, 255)
        error = float(((codes / np.float64(scale) - shifted) ** 2).sum())
        if best is None or error < best[0]:
            best = error, ClippedTables(codes.astype(np.uint8).reshape(T.shape), floors, scale, alpha)
    assert best is not None
    return best[1]


def rotate_by_variance(covariance: np.ndarray, C: int) -> np.ndarray:
    """A rotation on principal axes that gives each codebook the same share of the variance, as nearly as it can.

    The axes go, by decreasing variance, to the codebook with room whose product of variances is the least so far.

    Args:
        covariance: (D, D) float64.
        C: codebooks, at most D.

    Returns:
        (D, D) float64, orthogonal: rows of A are multiplied by it.

    >>> rotate_by_variance(np.diag([4.0, 3.0, 2.0, 1.0]), 2).astype(int)
    array([[1, 0, 0, 0],
           [0, 0, 1, 0],
           [0, 0, 0, 1],
           [0, 1, 0, 0]])
    """
    values, vectors = leading(covariance, len(covariance))
    logs = np.log(np.maximum(values, max(float(values[0]), 1e-280) * 1e-12))  # axes without variance count a little
    room = [part.stop - part.start for part in spans(len(values), C)]
    axes: list[list[int]] = [[] for _ in range(C)]
    sums = np.zeros(C)
    shift = logs[-1]  # all terms positive: more axes, larger product
    for i, value in enumerate(logs):
        c = min((c for c in range(C) if len(axes[c]) < room[c]), key=lambda c: (sums[c], c))
        axes[c].append(i)
        sums[c] += value - shift
    return vectors[:, [i for group in axes for i in group]]


# Methods --------------------------------------------------------------------------------------------------------------


class PQ(ApproxMatmul):
    """Product quantisation: k-means in C groups of columns, float32 tables.

    Args:
        ncodebooks: C, at least 1, at most D.
        leaves: K, prototypes for each codebook, 2 to 256.
        max_iter: rounds of k-means at most, at least 1.
        random_state: the seed, at least 0.

    Attributes:
        prototypes_: a list of C arrays (K, d_c) float32.
        inertia_: the squared error of the training rows.

    >>> A = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], np.float32)
    >>> pq = PQ(ncodebooks=2, leaves=2).fit(A, np.array([[1.0], [10.0]], np.float32))
    >>> pq.matmul(A).ravel()
    array([ 0., 10.,  1., 11.], dtype=float32)
    """

    prototypes_: list[np.ndarray]
    inertia_: float
    _nearest: list[tuple[np.ndarray, np.ndarray]]
    _tables: np.ndarray  # (C, K, M) float32

    def __init__(self, ncodebooks: int = 16, leaves: int = 256, max_iter: int = 25, random_state: int = 0) -> None:
        self.leaves = leaves
        self._store(ncodebooks, max_iter, random_state)
        check(whole("PQ", "leaves", leaves, low=2) <= 256, "PQ", "leaves of at most 256", leaves, "Codes are bytes.")

    def _store(self, ncodebooks: int, max_iter: int, random_state: int) -> None:
        self.ncodebooks, self.max_iter, self.random_state = ncodebooks, max_iter, random_state
        name = type(self).__name__
        whole(name, "ncodebooks", ncodebooks, low=1)
        whole(name, "max_iter", max_iter, low=1)
        whole(name, "random_state", random_state)

    def _k(self) -> int:
        return self.leaves

    def _fit(self, A: np.ndarray, B: np.ndarray | None, weight: np.ndarray | None) -> None:
        self._keep(self._cluster(self._checked(A), weight))

    def _checked(self, A: np.ndarray) -> np.ndarray:
        call, rows, D = f"{type(self).__name__}.fit", np.ascontiguousarray(rows32(A)), A.shape[1]
        expected = f"ncodebooks of at most {D}, the columns of A"
        check(self.ncodebooks <= D, call, expected, self.ncodebooks, "Pass fewer codebooks.")
        largest = max(float(rows.max()), -float(rows.min()))
        fix = "Scale A down: squared distances must be float32 numbers."
        check(largest <= LARGEST, call, f"A of magnitude at most {LARGEST:g}", largest, fix)
        return rows

    def _cluster(self, rows: np.ndarray, weight: np.ndarray | None) -> list[Clusters]:
        """k-means in each codebook; the seed of one does not depend on how many there are."""
        parts = spans(rows.shape[1], self.ncodebooks)
        streams = [np.random.default_rng((self.random_state, c)) for c in range(len(parts))]
        return [
            kmeans(np.ascontiguousarray(rows[:, part]), self._k(), rng, weight, self.max_iter)
            for part, rng in zip(parts, streams, strict=True)
        ]

    def _keep(self, found: list[Clusters]) -> None:
        self.prototypes_ = [clusters.centroids for clusters in found]
        self.inertia_ = sum(clusters.history[-1] for clusters in found)
        self._nearest = [biases(p) for p in self.prototypes_]

    def _set_B(self, B: np.ndarray) -> None:
        self._tables = tables(self.prototypes_, factor32(f"{type(self).__name__}.set_B", B))

    def _encode(self, A: np.ndarray) -> Encoded:
        return self._codes(rows32(A))

    def _codes(self, rows: np.ndarray) -> Encoded:
        codes = np.empty((len(rows), len(self._nearest)), np.uint8)
        for c, part in enumerate(spans(rows.shape[1], len(self._nearest))):
            codes[:, c] = nearest(rows[:, part], *self._nearest[c])
        return Encoded(codes, len(rows))

    def _multiply(self, codes: Encoded) -> np.ndarray:
        out = np.zeros((codes.n, self.n_outputs_), np.float32)
        for c, table in enumerate(self._tables):
            out += table[codes.values[:, c]]
        return out

    def _encode_cost(self, n: int) -> tuple[int, int]:
        """Operations of encoding, and the bytes that it keeps."""
        C, D, K = len(self.prototypes_), self.n_features_in_, len(self.prototypes_[0])
        return n * (2 * D * K + C * (K - 1)), 4 * K * (D + C)

    def _cost(self, n: int) -> Cost:
        flops, kept = self._encode_cost(n)
        C = len(self.prototypes_)
        return Cost(flops, n * C * self.n_outputs_, 4 * n * self.n_features_in_, kept + self._tables.nbytes)


class OPQ(PQ):
    """Product quantisation of rotated rows: `A @ R` is quantised, the tables are those of `R' B`.

    R starts as the better of two, by the squared error after k-means: the identity (PQ itself), and principal axes
    dealt out so that codebooks share the variance. Then R and the prototypes are improved in turn: `R = U V'` from the
    singular value decomposition of `A' Y` is the best rotation for the reconstruction Y, and one more round of k-means
    the better prototypes for R. The error never increases, so on the training rows OPQ is at most PQ of the same seed.
    Encoding costs D^2 multiply-adds a row more than PQ's.

    Args:
        ncodebooks: C, at least 1, at most D.
        leaves: K, prototypes for each codebook, 2 to 256.
        max_iter: rounds of k-means at most before the rotation is improved, at least 1.
        random_state: the seed, at least 0.

    Attributes:
        rotation_: (D, D) float32, orthogonal. The others are those of PQ, in rotated columns.

    >>> A = np.random.default_rng(0).standard_normal((200, 4), dtype=np.float32) @ np.diag([4, 2, 0.1, 0.1]).astype("f")
    >>> OPQ(2, leaves=4).fit(A).inertia_ < PQ(2, leaves=4).fit(A).inertia_
    True
    """

    rotation_: np.ndarray

    def _fit(self, A: np.ndarray, B: np.ndarray | None, weight: np.ndarray | None) -> None:
        rows = self._checked(A)
        axes = rotate_by_variance(moments(rows, weight)[1], self.ncodebooks).astype(np.float32)
        starts = [np.eye(A.shape[1], dtype=np.float32), axes]
        errors = [self._cluster(product(rows, R), weight) for R in starts]
        best = int(np.argmin([sum(found.history[-1] for found in each) for each in errors]))
        self.rotation_, found = self._alternate(rows, starts[best], errors[best], weight)
        self._keep(found)

    def _alternate(
        self, rows: np.ndarray, R: np.ndarray, found: list[Clusters], weight: np.ndarray | None
    ) -> tuple[np.ndarray, list[Clusters]]:
        """Rotation and prototypes in turn, until a turn does not lower the error."""
        weighted = np.ldexp(rows, -exponent(rows)).T  # so that products with Y fit in float32
        weighted = weighted if weight is None else weighted * (weight / weight.max())
        parts = spans(rows.shape[1], self.ncodebooks)
        unused = np.random.default_rng(0)  # nothing is drawn: each search starts from what the last one found
        for _ in range(ROTATION_ROUNDS):
            codes = np.stack([each.codes for each in found], axis=1)
            Y = reconstruct([each.centroids for each in found], codes)
            u, _, vt = np.linalg.svd((weighted @ Y).astype(np.float64))
            turned = (u @ vt).astype(np.float32)
            rotated = product(rows, turned)
            better = [
                kmeans(np.ascontiguousarray(rotated[:, part]), self._k(), unused, weight, 1, each.centroids)
                for part, each in zip(parts, found, strict=True)
            ]
            before, after = (sum(each.history[-1] for each in clusters) for clusters in (found, better))
            if after >= before:
                break
            R, found = turned, better
        return R, found

    def _set_B(self, B: np.ndarray) -> None:
        factor = factor32("OPQ.set_B", B).astype(np.float64)
        self._tables = tables(self.prototypes_, self.rotation_.T.astype(np.float64) @ factor)

    def _encode(self, A: np.ndarray) -> Encoded:
        return self._codes(product(rows32(A), self.rotation_))

    def _encode_cost(self, n: int) -> tuple[int, int]:
        flops, kept = super()._encode_cost(n)
        return flops + 2 * n * self.rotation_.size, kept + self.rotation_.nbytes


class Bolt(PQ):
    """Product quantisation with 16 prototypes and 8-bit tables, clipped where that costs the least (arXiv 1706.10283).

    `out = float32(sum over c of codes of the tables) / scale + sum of floors`. The sums are exact integers. The
    published kernel adds in 16 bits with saturation, which is the same up to 257 codebooks: 257 * 255 = 65535.

    Args:
        ncodebooks: C, at least 1, at most D.
        max_iter: rounds of k-means at most, at least 1.
        random_state: the seed, at least 0.

    Attributes:
        tables_: `ClippedTables`. The others are those of PQ.

    >>> A = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)
    >>> Bolt(ncodebooks=2).fit(A, np.array([[0.0], [51.0], [0.0], [255.0]], np.float32)).matmul(A[::5]).ravel().round()
    array([  0.,  51.,   0., 255.], dtype=float32)
    """

    tables_: ClippedTables

    def __init__(self, ncodebooks: int = 16, max_iter: int = 25, random_state: int = 0) -> None:
        self._store(ncodebooks, max_iter, random_state)

    def _k(self) -> int:
        return 16

    def _set_B(self, B: np.ndarray) -> None:
        self.tables_ = clip_tables(tables(self.prototypes_, factor32("Bolt.set_B", B)))

    def _multiply(self, codes: Encoded) -> np.ndarray:
        found = self.tables_
        small = len(found.codes) <= 257
        sums = np.zeros((codes.n, self.n_outputs_), np.uint16 if small else np.int32)
        for c, table in enumerate(found.codes):
            sums += table[codes.values[:, c]]
        out = sums.astype(np.float32)
        out /= found.scale
        out += np.float32(found.floors.sum(dtype=np.float64))
        return out

    def _cost(self, n: int) -> Cost:
        flops, kept = self._encode_cost(n)
        C, M = len(self.prototypes_), self.n_outputs_
        return Cost(flops + 2 * n * M, n * C * M, 4 * n * self.n_features_in_, kept + self.tables_.codes.nbytes + 8)
