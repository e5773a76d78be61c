"""Lloyd's k-means with greedy k-means++ seeds: small, weighted, seeded, and sure to end. The quantisers learn with it.

    assign    each row to its nearest centroid, the first of equals
    update    each centroid to the weighted mean of its rows; one without rows moves to the row that is farthest from
              its own centroid (several: the farthest ones, each once)

The inertia, the weighted sum of squared distances, never increases from round to round; a round that would not lower
it (float32 distances can see a tie where there is none) is dropped, and ends the search.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Clusters", "biases", "exponent", "inertia", "kmeans", "nearest", "seeds"]

_ROWS = 4096  # rows whose distances are held at once


class Clusters(NamedTuple):
    """What `kmeans` found: centroids (K, d) float32, the codes (n,) of the rows, the inertia of each round."""

    centroids: np.ndarray
    codes: np.ndarray
    history: list[float]


def biases(centroids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions (d, K) and biases (K,), float32: the nearest centroid to x has the largest `x @ directions + bias`.

    `|x - p|^2 = |x|^2 - 2 x'p + |p|^2`, and |x|^2 is the same for all p. So is `x' m` with m the mean of the centroids,
    which is taken away too: data far from 0 would lose their differences to rounding. All is divided by a power of two
    near the size of the centroids, or scores of small rows, which are squares, would be too small for float32.

    >>> directions, bias = biases(np.array([[99.0], [101.0]], np.float32))
    >>> directions, bias
    (array([[-1.,  1.]], dtype=float32), array([  99.5, -100.5], dtype=float32))
    """
    wide = centroids.astype(np.float64)
    bias = -(wide**2).sum(axis=1) / 2
    mean = wide.mean(axis=0)
    bias += (mean @ mean) / 2  # the same for all: small numbers keep more digits
    directions = (wide - mean).T
    size = exponent(directions)
    return np.ascontiguousarray(np.ldexp(directions, -size), np.float32), np.ldexp(bias, -size).astype(np.float32)


def exponent(values: np.ndarray) -> int:
    """That of the power of two next below the largest magnitude; 0 for zeros.

    >>> exponent(np.array([-3.0, 1.0])), exponent(np.array([0.25])), exponent(np.zeros(2))
    (1, -2, 0)
    """
    largest = float(np.abs(values).max())
    return int(np.frexp(largest)[1]) - 1 if largest else 0


def nearest(x: np.ndarray, directions: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The nearest centroid of each row by squared distance, the first of equals.

    A NaN among a row's values makes the code 0; infinities give some code. In float32, so of two centroids at
    nearly the same distance either may win.

    Args:
        x: (n, d) float32, any strides.
        directions, bias: of `biases`.

    Returns:
        (n,) uint8 for K up to 256, else int32.

    >>> nearest(np.array([[99.5], [100.5]], np.float32), *biases(np.array([[99.0], [101.0]], np.float32)))
    array([0, 1], dtype=uint8)
    """
    codes = np.empty(len(x), np.uint8 if len(bias) <= 256 else np.int32)
    with np.errstate(invalid="ignore", over="ignore"):
        for start in range(0, len(x), _ROWS):
            scores = x[start : start + _ROWS] @ directions
            scores += bias
            codes[start : start + _ROWS] = scores.argmax(axis=1)  # NaN counts as the largest: all NaN gives 0
    return codes


def inertia(x: np.ndarray, centroids: np.ndarray, codes: np.ndarray, weight: np.ndarray) -> float:
    """The weighted sum of squared distances of rows to their centroids, in float64.

    >>> inertia(np.array([[1.0], [3.0]]), np.array([[0.0]]), np.array([0, 0]), np.array([1.0, 2.0]))
    19.0
    """
    return float(weight @ _squared(x, centroids[codes]))


def _squared(x: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Squared distances, row by row, (n,) float64."""
    difference = x.astype(np.float64) - other
    return np.einsum("nd,nd->n", difference, difference)


def seeds(x: np.ndarray, k: int, weight: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Greedy k-means++: each seed is the best of a few rows drawn by weight times squared distance to the seeds so far.

    The best of 2 + log k is the one that leaves the least inertia. Where there are fewer distinct rows than k (rows
    count as equal where float32 cannot tell their distance from 0), the last seeds repeat the first.

    Args:
        x: (n, d) float32, finite.
        k: at least 1.
        weight: (n,) float64, at least 0, not all 0.
        rng: is drawn from.

    Returns:
        (k, d) float32.

    >>> x = np.array([[0.0], [0.0], [5.0]], np.float32)
    >>> sorted(seeds(x, 2, np.ones(3), np.random.default_rng(0)).ravel().tolist())
    [0.0, 5.0]
    """
    centred = x - x.mean(axis=0, dtype=np.float64).astype(np.float32)  # small numbers keep more digits
    centred = np.ldexp(centred, -exponent(centred))  # and have squares
    norms = np.einsum("nd,nd->n", centred, centred)
    equal = np.float32(x.shape[1] + 8) * np.finfo(np.float32).eps

    def distances(rows: np.ndarray) -> np.ndarray:
        both = norms[:, None] + norms[rows]
        found = both - 2 * (centred @ centred[rows].T)
        found[found < equal * both] = 0
        return found

    trials = 2 + int(np.log(k))
    chosen = np.zeros(k, np.int64)
    chosen[:] = rng.choice(len(x), p=weight / weight.sum())
    distance = distances(chosen[:1])[:, 0]
    for i in range(1, k):
        mass = np.cumsum(weight * distance)
        if mass[-1] <= 0:
            break
        drawn = np.searchsorted(mass, rng.random(trials) * mass[-1], side="right")
        rows = np.minimum(drawn, mass.searchsorted(mass[-1]))  # the first row to reach the whole has mass of its own
        left = np.minimum(distance[:, None], distances(rows))
        best = int((weight @ left).argmin())
        chosen[i], distance = rows[best], left[:, best]
    return x[chosen]


def update(x: np.ndarray, centroids: np.ndarray, codes: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """The centroids of the next round: weighted means, and new places for those without rows."""
    k, d = centroids.shape
    mass = np.bincount(codes, weight, k)
    sums = np.empty((k, d))
    for j in range(d):
        sums[:, j] = np.bincount(codes, weight * x[:, j], k)
    empty = np.flatnonzero(mass == 0)
    mass[empty] = 1
    moved = (sums / mass[:, None]).astype(np.float32)
    if len(empty):
        distance = np.where(weight > 0, _squared(x, moved[codes]), 0.0)
        farthest = np.argsort(-distance, kind="stable")[: len(empty)]
        farthest = farthest[distance[farthest] > 0]
        moved[empty] = centroids[empty]  # where no row is off its centroid they stay
        moved[empty[: len(farthest)]] = x[farthest]
    return moved


def kmeans(
    x: np.ndarray,
    k: int,
    rng: np.random.Generator,
    weight: np.ndarray | None = None,
    max_iter: int = 25,
    start: np.ndarray | None = None,
) -> Clusters:
    """Cluster rows into k groups.

    Args:
        x: (n, d) float32, n at least 1, finite. With fewer distinct rows than k some centroids repeat, and have no
            rows.
        k: at least 1.
        rng: draws the seeds.
        weight: (n,) float64, at least 0, not all 0; None: all 1.
        max_iter: rounds at most, at least 0; it ends earlier when a round changes nothing or lowers the inertia by
            less than one part in 10^5.
        start: (k, d) float32 to start from, in place of seeds.

    Returns:
        Clusters; the codes are those of the last centroids.

    >>> x = np.array([[0.0], [1.0], [9.0], [11.0]], np.float32)
    >>> sorted(kmeans(x, 2, np.random.default_rng(0)).centroids.ravel().tolist())
    [0.5, 10.0]
    """
    weight = np.ones(len(x)) if weight is None else weight
    centroids = seeds(x, k, weight, rng) if start is None else start
    codes = nearest(x, *biases(centroids))
    history = [inertia(x, centroids, codes, weight)]
    for _ in range(max_iter):
        moved = update(x, centroids, codes, weight)
        changed = nearest(x, *biases(moved))
        found = inertia(x, moved, changed, weight)
        if found >= history[-1]:
            break
        small = history[-1] - found < 1e-5 * history[-1]
        centroids, codes = moved, changed
        history.append(found)
        if small:
            break
    return Clusters(centroids, codes, history)
