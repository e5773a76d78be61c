"""Prototypes: counting equals dense algebra, and ridge is what it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.matmul import reference
from tests.matmul.maddness.data import rows_like_activations

from hasten.matmul.maddness import learn_trees
from hasten.matmul.maddness.prototypes import (
    RIDGES,
    Statistics,
    _forward,
    choose_ridge,
    leaf_means,
    reachable,
    ridge_prototypes,
)
from hasten.matmul.spans import spans


def counted(A, codes, leaves=16, weight=None):
    return Statistics.zero(codes.shape[1], leaves, A.shape[1]).add(codes, A, weight)


@pytest.fixture(scope="module")
def learned():
    A = rows_like_activations(400, 12)
    return A, learn_trees(A, 3).codes, spans(12, 3)


@given(st.integers(0, 1000), st.integers(1, 40), st.integers(1, 4), st.booleans())
def test_counting_equals_dense_one_hot(seed, n, c, weighted):
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, 16, (n, c)).astype(np.uint8)
    A = generator.standard_normal((n, 5)).astype(np.float32)
    weight = generator.random(n) if weighted else None
    found, G = counted(A, codes, weight=weight), reference.one_hot(codes, 16)
    W = np.diag(np.ones(n) if weight is None else weight)
    np.testing.assert_allclose(found.counts, G.T @ W @ G, atol=1e-12)
    np.testing.assert_allclose(found.sums, G.T @ W @ A, atol=1e-12)


def test_parts_add_up(learned):
    A, codes, _ = learned
    whole, parts = counted(A, codes), Statistics.zero(3, 16, 12)
    for rows in np.array_split(np.arange(len(A)), 7):
        parts.add(codes[rows], A[rows])
    assert (parts.counts == whole.counts).all()
    np.testing.assert_allclose(parts.sums, whole.sums, rtol=1e-13)
    rest = whole.minus(counted(A[:100], codes[:100]))
    assert (rest.counts == counted(A[100:], codes[100:]).counts).all()


def test_a_copy_does_not_change(learned):
    A, codes, _ = learned
    found = counted(A, codes)
    found.copy().add(codes, A)
    assert (found.counts == counted(A, codes).counts).all()


def test_prototypes_equal_dense_algebra(learned):
    A, codes, columns = learned
    found = counted(A, codes)
    P0, P = reference.prototypes(A.astype(np.float64), codes, 16, columns, 2.0)
    means = leaf_means(found, columns)
    np.testing.assert_allclose(means, P0, atol=1e-12)
    np.testing.assert_allclose(ridge_prototypes(found, means, 2.0), P, atol=1e-9)


def test_prototypes_equal_ridge_of_scikit_learn(learned):
    linear_model = pytest.importorskip("sklearn.linear_model")
    A, codes, columns = learned
    found = counted(A, codes)
    means, G = leaf_means(found, columns), reference.one_hot(codes, 16)
    ridge = linear_model.Ridge(alpha=1.0, fit_intercept=False, solver="cholesky").fit(G, A - G @ means)
    np.testing.assert_allclose(ridge_prototypes(found, means, 1.0), means + ridge.coef_.T, atol=1e-9)


def test_tables_are_the_ridge_of_the_product(learned):
    A, codes, columns = learned
    B, G = np.random.default_rng(0).standard_normal((12, 4)), reference.one_hot(codes, 16)
    found = counted(A, codes)
    means = leaf_means(found, columns)
    directly = np.linalg.solve(found.counts + np.eye(48), G.T @ ((A - G @ means) @ B))
    np.testing.assert_allclose(ridge_prototypes(found, means, 1.0) @ B, means @ B + directly, atol=1e-10)


def test_a_large_ridge_leaves_the_means(learned):
    A, codes, columns = learned
    found = counted(A, codes)
    means = leaf_means(found, columns)
    far = [np.abs(ridge_prototypes(found, means, r) - means).max() for r in (1.0, 1e3, 1e6, 1e12)]
    assert far == sorted(far, reverse=True)
    assert far[-1] < 1e-8


def test_an_infinite_ridge_is_none(learned):
    A, codes, columns = learned
    found = counted(A, codes)
    means = leaf_means(found, columns)
    assert (ridge_prototypes(found, means, np.inf) == means).all()


@pytest.mark.parametrize(("ridge", "weight"), [(1e-300, 1.0), (1e-12, 1.0), (1.0, 1e18)])
def test_a_ridge_that_is_lost_beside_the_rows_is_refused(learned, ridge, weight):
    A, codes, columns = learned
    found = counted(A, codes, weight=np.full(len(A), weight))
    with pytest.raises(ValueError, match=r"Maddness: expected a ridge of at least .* Pass a larger ridge"):
        ridge_prototypes(found, leaf_means(found, columns), ridge)


@pytest.mark.parametrize("size", [1, 63, 64, 65, 200])
def test_triangles_are_solved_block_by_block(size):
    generator = np.random.default_rng(size)
    lower = np.tril(generator.standard_normal((size, size)), -1) / size + np.eye(size)
    right = generator.standard_normal((size, 3))
    np.testing.assert_allclose(lower @ _forward(lower, right), right, atol=1e-12)


def test_weights_that_were_taken_away_leave_nothing():
    weight = np.random.default_rng(0).random(50)
    codes, A = np.zeros((50, 1), np.uint8), np.ones((50, 2), np.float32)
    codes[:9] = 3  # a leaf of the first rows only
    part = counted(A[:9], codes[:9], weight=weight[:9])
    whole = counted(A[9:], codes[9:], weight=weight[9:]).add(codes[:9][::-1], A[:9], weight[:9][::-1])
    rest = whole.minus(part)
    assert rest.counts[3, 3] == 0
    assert not rest.sums[3].any()


def test_ridge_lowers_the_error_on_its_own_rows(learned):
    A, codes, columns = learned
    found, G = counted(A, codes), reference.one_hot(codes, 16)
    means = leaf_means(found, columns)
    errors = [((A - G @ P) ** 2).sum() for P in (ridge_prototypes(found, means, r) for r in (0.01, 1.0, 100.0))]
    assert errors == sorted(errors)
    assert errors[-1] < ((A - G @ means) ** 2).sum()


@pytest.mark.parametrize("aware", [False, True])
def test_cross_validation_finds_the_best_ridge(aware):
    A = rows_like_activations(300, 12, rank=12) + 0.1
    factor = np.random.default_rng(0).standard_normal((12, 2)) if aware else None
    codes, columns = learn_trees(A, 3).codes, spans(12, 3)
    parts = np.array_split(np.random.default_rng(0).permutation(300), 3)
    folds = [counted(A[rows], codes[rows]) for rows in parts]
    errors = []
    for ridge in RIDGES:
        error = 0.0
        for rows in parts:
            others = np.setdiff1d(np.arange(300), rows)
            _, P = reference.prototypes(A[others].astype(np.float64), codes[others], 16, columns, ridge)
            off = A[rows] - reference.one_hot(codes[rows], 16) @ P
            error += ((off if factor is None else off @ factor) ** 2).sum()
        errors.append(error)
    assert choose_ridge(counted(A, codes), folds, columns, factor) == RIDGES[int(np.argmin(errors))]


def test_leaves_without_rows_stand_for_their_neighbour():
    occurrences = np.zeros(32)
    occurrences[[0, 3, 12]] = 1  # of the first codebook
    occurrences[16 + 15] = 1  # of the second
    found = reachable(occurrences, 16)
    for leaf, other in enumerate(found[:16]):
        shared = max(4 - (leaf ^ k).bit_length() for k in (0, 3, 12))  # levels of the longest common path
        assert other in (0, 3, 12)
        assert 4 - (leaf ^ int(other)).bit_length() == shared
    assert (found[16:] == 31).all()
