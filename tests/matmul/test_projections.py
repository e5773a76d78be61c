"""PCA against scikit-learn, low-rank factors against the optimum that theory gives."""

from __future__ import annotations

import numpy as np
import pytest

from hasten.matmul.base import Cost, nmse
from hasten.matmul.projections import PCA, TruncatedSVD, leading, moments


def draw(n: int, columns: int = 12, seed: int = 0) -> np.ndarray:
    """Rows with a decaying spectrum and a mean."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(np.random.default_rng(5).standard_normal((columns, columns)))[0]
    scales = 2.0 ** -np.arange(columns)
    return (rng.standard_normal((n, columns)) * scales @ rotation + 3).astype(np.float32)


A, B = draw(300), np.random.default_rng(1).standard_normal((12, 7)).astype(np.float32)


def test_moments_are_those_of_numpy() -> None:
    weight = np.random.default_rng(0).integers(0, 4, len(A)).astype(np.float64)
    for given, w in ((A, None), (A, weight), (draw(3), np.array([0.0, 2.0, 0.0]))):
        mean, covariance = moments(given, w)
        np.testing.assert_allclose(mean, np.average(given.astype(np.float64), axis=0, weights=w), rtol=1e-12)
        centred = given - mean
        expected = (centred.T * (1 if w is None else w)) @ centred / (len(given) if w is None else w.sum())
        np.testing.assert_allclose(covariance, expected, atol=1e-12)


def test_moments_keep_a_small_variance_beside_a_large_mean() -> None:
    column = np.float32(2**20) + np.tile(np.array([0, 1], np.float32), 50)
    mean, covariance = moments(np.stack([column, column], axis=1))
    assert mean.tolist() == [2**20 + 0.5] * 2
    assert covariance.tolist() == [[0.25, 0.25]] * 2


def test_moments_go_by_blocks() -> None:
    wide = np.random.default_rng(0).standard_normal((300, 2000)).astype(np.float32)  # 131 rows to a block
    mean, covariance = moments(wide)
    np.testing.assert_allclose(mean, wide.mean(axis=0, dtype=np.float64), atol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(wide.T.astype(np.float64), bias=True), atol=1e-12)


def test_eigenvectors_have_a_sign_of_their_own() -> None:
    covariance = moments(A)[1]
    values, vectors = leading(covariance, 5)
    assert (np.diff(values) <= 0).all()
    np.testing.assert_allclose(covariance @ vectors, vectors * values, atol=1e-12)
    assert (vectors[np.abs(vectors).argmax(axis=0), range(5)] > 0).all()


@pytest.mark.parametrize("count", [1, 3, 7, 12])
def test_pca_is_that_of_scikit_learn(count: int) -> None:
    decomposition = pytest.importorskip("sklearn.decomposition", reason="needs the extra bench")
    theirs = decomposition.PCA(count).fit(A.astype(np.float64))
    ours = PCA(count).fit(A, B)
    clear = min(count, 9)  # beyond, variances of 2^-18 meet the rounding of float32 rows
    cosines = np.abs((theirs.components_ * ours.components_).sum(axis=1))
    np.testing.assert_allclose(cosines[:clear], 1, atol=1e-5)
    np.testing.assert_allclose(ours.explained_variance_ratio_, theirs.explained_variance_ratio_, rtol=1e-3, atol=1e-9)
    np.testing.assert_allclose(ours.mean_, theirs.mean_, rtol=1e-6)
    test = draw(50, seed=3)
    expected = theirs.inverse_transform(theirs.transform(test.astype(np.float64))) @ B
    np.testing.assert_allclose(ours.matmul(test), expected, atol=5e-5)


def test_pca_is_exact_on_its_subspace() -> None:
    rng = np.random.default_rng(0)
    flat = (rng.standard_normal((40, 3)) @ rng.standard_normal((3, 12)) + rng.standard_normal(12)).astype(np.float32)
    assert nmse(flat @ B, PCA(3).fit(flat, B).matmul(flat)) < 1e-12
    assert nmse(flat @ B, PCA(2).fit(flat, B).matmul(flat)) > 1e-3
    assert PCA(12).fit(A, B).score(A, B) == pytest.approx(1, abs=1e-10)


def test_pca_of_one_point_knows_its_mean() -> None:
    one = A[:1]
    found = PCA(2).fit(one, B)
    assert found.explained_variance_ratio_.tolist() == [0, 0]
    np.testing.assert_allclose(found.matmul(one), one @ B, rtol=1e-5)


def test_input_metric_is_the_nearest_matrix_to_the_factor() -> None:
    found = TruncatedSVD(3, metric="input").fit(A, B)
    singular = np.linalg.svd(B.astype(np.float64), compute_uv=False)
    error = np.linalg.norm(found.left_.astype(np.float64) @ found.right_ - B)
    assert error == pytest.approx(np.sqrt((singular[3:] ** 2).sum()), rel=1e-6)


def test_output_metric_is_the_best_of_its_rank() -> None:
    exact = A.astype(np.float64) @ B
    singular = np.linalg.svd(exact, compute_uv=False)
    for rank in (1, 2, 4):
        error = np.linalg.norm(TruncatedSVD(rank).fit(A, B).matmul(A) - exact)
        optimum = np.sqrt((singular[rank:] ** 2).sum())
        assert optimum * (1 - 1e-6) - 1e-5 <= error <= optimum * (1 + 1e-3) + 1e-3
        assert error <= np.linalg.norm(TruncatedSVD(rank, metric="input").fit(A, B).matmul(A) - exact) + 1e-3


def test_a_rank_above_that_of_the_factor_is_exact() -> None:
    for metric in ("input", "output"):
        found = TruncatedSVD(9, metric=metric).fit(A, B)
        assert found.left_.shape == (12, 7)
        np.testing.assert_allclose(found.matmul(A), A @ B, atol=1e-4)


@pytest.mark.parametrize("method", [PCA(3), TruncatedSVD(3)], ids=repr)
def test_weights_are_repetitions(method: PCA | TruncatedSVD) -> None:
    weight = np.random.default_rng(0).integers(0, 3, len(A))
    repeated = method.fit(np.repeat(A, weight, axis=0), B).matmul(A)
    np.testing.assert_allclose(method.fit(A, B, weight).matmul(A), repeated, atol=1e-4)
    assert np.abs(method.fit(A, B).matmul(A) - repeated).max() > 1e-4, "the test would notice weights that do nothing"


def test_costs_by_hand() -> None:
    # PCA, 10 rows, D = 12, d = 3, M = 7: 36 + 21 multiply-adds, and 7 additions of the mean's part
    assert PCA(3).fit(A, B).cost(10) == Cost(flops=10 * (2 * 57 + 7), lookups=0, bytes_read=480, table_bytes=4 * 64)
    assert TruncatedSVD(3).fit(A, B).cost(10) == Cost(flops=1140, lookups=0, bytes_read=480, table_bytes=228)
    assert TruncatedSVD(9).fit(A, B).cost(1).flops == 2 * 7 * 19, "a rank above M is M"
