"""Lloyd's search: assignment against brute force, an inertia that never grows, clusters that run empty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hasten.matmul.kmeans import biases, inertia, kmeans, nearest, seeds, update


def draw(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def distances(x: np.ndarray, centroids: np.ndarray) -> np.ndarray:
    return ((x[:, None].astype(np.float64) - centroids) ** 2).sum(axis=2)


@pytest.mark.parametrize(("offset", "slack"), [(0.0, 1e-5), (1e4, 0.05)])
def test_nearest_is_that_of_brute_force(offset: float, slack: float) -> None:
    x, centroids = draw(5000, 6) + np.float32(offset), draw(40, 6, 1) + np.float32(offset)
    codes = nearest(x, *biases(centroids))
    found = distances(x, centroids)
    assert codes.dtype == np.uint8
    assert (found[np.arange(5000), codes] <= found.min(axis=1) + slack).all()
    assert np.mean(codes == found.argmin(axis=1)) > (0.999 if offset == 0 else 0.98)


@given(
    x=arrays.arrays(np.float32, st.tuples(st.integers(1, 12), st.just(2)), elements=st.integers(-8, 8)),
    p=arrays.arrays(np.float32, st.tuples(st.integers(1, 6), st.just(2)), elements=st.integers(-8, 8)),
)
def test_on_small_integers_nearest_is_as_near_as_can_be(x: np.ndarray, p: np.ndarray) -> None:
    found = distances(x, p)
    codes = nearest(x, *biases(p))
    np.testing.assert_allclose(found[np.arange(len(x)), codes], found.min(axis=1), atol=1e-4)


def test_equal_centroids_give_the_first_code() -> None:
    assert nearest(draw(50, 3), *biases(np.ones((7, 3), np.float32))).max() == 0


def test_rows_that_are_not_finite_get_a_code() -> None:
    x = draw(4, 3)
    x[0, 1], x[1, 0], x[2] = np.nan, np.inf, [np.inf, -np.inf, 0]
    codes = nearest(x, *biases(draw(9, 3, 1)))
    assert codes[0] == 0
    assert codes.max() < 9
    assert nearest(x[3:], *biases(draw(300, 3, 1))).dtype == np.int32


@given(n=st.integers(1, 60), k=st.integers(1, 12), seed=st.integers(0, 99), levels=st.integers(1, 9))
def test_inertia_never_grows(n: int, k: int, seed: int, levels: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, levels, (n, 2)).astype(np.float32)  # with ties and repeated rows
    weight = rng.integers(0, 3, n).astype(np.float64)
    weight[0] = 1
    found = kmeans(x, k, rng, weight)
    assert found.centroids.shape == (k, 2)
    assert np.isfinite(found.centroids).all()
    assert (np.diff(found.history) < 0).all()
    assert found.history[-1] == inertia(x, found.centroids, found.codes, weight)
    assert np.array_equal(found.codes, nearest(x, *biases(found.centroids)))
    if k >= len(np.unique(x[weight > 0], axis=0)):
        assert found.history[-1] == 0, "a centroid for each distinct row"


def test_it_is_as_good_as_that_of_scikit_learn() -> None:
    cluster = pytest.importorskip("sklearn.cluster", reason="needs the extra bench")
    x = draw(600, 4) + np.repeat(4 * draw(12, 4, 1), 50, axis=0)
    theirs = [cluster.KMeans(12, n_init=1, random_state=s, algorithm="lloyd").fit(x).inertia_ for s in range(40)]
    ours = [kmeans(x, 12, np.random.default_rng(s), max_iter=300).history[-1] for s in range(40)]
    assert np.mean(ours) <= 1.05 * np.mean(theirs)
    assert min(ours) == pytest.approx(min(theirs), rel=1e-3)
    start = seeds(x, 12, np.ones(600), np.random.default_rng(3))
    one = cluster.KMeans(12, init=start, n_init=1, max_iter=300, tol=0, algorithm="lloyd").fit(x)
    assert kmeans(x, 12, np.random.default_rng(0), max_iter=300, start=start).history[-1] == pytest.approx(
        one.inertia_, rel=1e-3
    )


def test_seeds_are_rows_and_spread() -> None:
    x = np.repeat(np.arange(6, dtype=np.float32) * 100, 30)[:, None]
    found = seeds(x, 6, np.ones(180), np.random.default_rng(0))
    assert sorted(found.ravel().tolist()) == [0, 100, 200, 300, 400, 500], "rows on a seed are never drawn again"
    assert seeds(x[:30], 3, np.ones(30), np.random.default_rng(0)).tolist() == [[0], [0], [0]]
    weight = np.zeros(180)
    weight[[3, 95]] = 1
    assert sorted(seeds(x, 2, weight, np.random.default_rng(0)).ravel().tolist()) == [0, 300]


def test_empty_clusters_move_to_the_farthest_rows() -> None:
    x = np.array([[0], [1], [2], [50], [90]], np.float32)
    start = np.array([[10], [500], [600]], np.float32)
    moved = update(x, start, np.zeros(5, np.uint8), np.ones(5))
    assert moved.ravel().tolist() == [np.float32(143 / 5), 90, 0]
    stay = update(x[:1], np.array([[0], [7]], np.float32), np.zeros(1, np.uint8), np.ones(1))
    assert stay.ravel().tolist() == [0, 7], "no row is off its centroid"
    unseen = update(x, start, np.zeros(5, np.uint8), np.array([1.0, 1, 1, 1, 0]))
    assert unseen.ravel().tolist() == [13.25, 50, 0], "a row of no weight draws nobody"


def test_weights_are_repetitions() -> None:
    x, weight = draw(80, 3), np.random.default_rng(0).integers(0, 4, 80)
    start = x[weight > 0][:5].copy()
    left = kmeans(x, 5, np.random.default_rng(0), weight.astype(np.float64), start=start)
    right = kmeans(np.repeat(x, weight, axis=0), 5, np.random.default_rng(0), start=start)
    np.testing.assert_allclose(left.centroids, right.centroids, atol=1e-6)
    assert left.history == pytest.approx(right.history, rel=1e-9)
