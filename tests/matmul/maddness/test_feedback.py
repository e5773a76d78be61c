"""Feedback: the error that is left is that of a ridge regression on all codes so far."""

from __future__ import annotations

import numpy as np
import pytest
from tests.matmul import reference
from tests.matmul.maddness.data import rows_like_activations

from hasten.matmul.maddness import learn_trees
from hasten.matmul.maddness.feedback import DIRECTIONS, Feedback, leading, pair_counts


@pytest.mark.parametrize("weighted", [False, True])
def test_the_error_is_what_a_regression_leaves(weighted):
    generator = np.random.default_rng(0)
    weight = generator.random(300) + 0.5 if weighted else np.ones(300)
    feedback, codes, described = Feedback(weight, 16), np.zeros((300, 0), np.uint8), np.zeros((300, 3))
    for _ in range(12):
        part, own = generator.standard_normal((300, 3)), generator.integers(0, 16, (300, 1)).astype(np.uint8)
        feedback.add(part, own[:, 0])
        codes, described = np.hstack([codes, own]), described + part
        G = reference.one_hot(codes, 16)
        fit = np.linalg.solve(G.T @ (weight[:, None] * G) + np.eye(G.shape[1]), G.T @ (weight[:, None] * described))
        np.testing.assert_allclose(feedback.error, described - G @ fit, atol=1e-9)


def test_many_codebooks_lose_no_digits():
    A = rows_like_activations(600, 64)
    codes = learn_trees(A, 32).codes
    feedback = Feedback(np.ones(600), 16)
    for own, part in zip(codes.T, np.array_split(A.astype(np.float64), 32, axis=1), strict=True):
        feedback.add(part, own)
    counts = np.block([[pair_counts(a, b, 16, None) for b in codes.T] for a in codes.T]) + np.eye(512)
    np.testing.assert_allclose(feedback._root.T @ feedback._root @ counts, np.eye(512), atol=1e-9)


def test_pairs_are_counted():
    a, b = np.array([0, 1, 1], np.uint8), np.array([2, 3, 3], np.uint8)
    assert pair_counts(a, b, 4, None)[0, 2] == 1
    assert pair_counts(a, b, 4, np.array([1.0, 2.0, 0.5]))[1, 3] == 2.5


def test_leading_directions_hold_most_of_the_product():
    generator = np.random.default_rng(0)
    A = generator.standard_normal((500, 40)).astype(np.float32) + 3
    B = generator.standard_normal((40, 30)) @ np.diag(0.7 ** np.arange(30.0)) @ generator.standard_normal((30, 30))
    found = leading(A, B, np.ones(500), 0)
    assert found.shape == (40, DIRECTIONS)
    centred = A - A.mean(axis=0, dtype=np.float64)
    energies = np.linalg.svd(centred @ B, compute_uv=False) ** 2
    held = ((centred @ found) ** 2).sum()
    assert held <= energies.sum()
    assert held == pytest.approx(energies[:DIRECTIONS].sum(), rel=1e-3)
    assert (leading(A, B, np.ones(500), 0) == found).all()


@pytest.mark.parametrize("size", [1e-38, 1e-20, 1e20, 1e38])
def test_leading_directions_of_large_and_small_numbers(size):
    generator = np.random.default_rng(0)
    A, B = generator.standard_normal((50, 20)).astype(np.float32), generator.standard_normal((20, 18))
    expected = leading(A, B, np.ones(50), 0)
    for weight in (np.ones(50), np.full(50, 1e30)):
        found = leading(A / np.abs(A).max() * np.float32(size), B / size, weight, 0)
        np.testing.assert_allclose(found @ found.T * size**2, expected @ expected.T, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("weight", [1e-30, 1e18, 1e30])
def test_heavy_and_light_rows(weight):
    generator = np.random.default_rng(0)
    feedback = Feedback(np.full(60, weight), 16)
    for _ in range(3):
        feedback.add(generator.standard_normal((60, 2)), generator.integers(0, 16, 60).astype(np.uint8))
    assert np.isfinite(feedback.error).all()


def test_few_outputs_are_all_leading():
    B = np.random.default_rng(0).standard_normal((5, DIRECTIONS)).astype(np.float32)
    assert (leading(np.ones((3, 5), np.float32), B, np.ones(3), 0) == B).all()


def test_feedback_describes_the_product_better():
    A, B = rows_like_activations(2000, 32, rank=6), np.random.default_rng(1).standard_normal((32, 4))

    def left_over(**options):
        G = reference.one_hot(learn_trees(A, 8, **options).codes, 16)
        Y = A @ B
        return ((Y - G @ np.linalg.solve(G.T @ G + np.eye(128), G.T @ Y)) ** 2).sum()

    plain, aware, fed = left_over(), left_over(factor=B), left_over(factor=B, feedback=True)
    assert fed < 0.9 * aware
    assert fed < 0.9 * plain
