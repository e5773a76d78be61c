"""Lines: which are taken, that trees look at no others, and what that costs."""

from __future__ import annotations

import numpy as np
import pytest
from tests.matmul.maddness.data import has_images, images, least_squares, rows_like_activations

from hasten.matmul import Maddness, nmse
from hasten.matmul.maddness import learn_trees
from hasten.matmul.maddness.lines import LINE, best_lines, columns_of, count_lines

D = 70  # four lines and a short one
A = rows_like_activations(1500, D, rank=5)
B = np.random.default_rng(0).standard_normal((D, 3)).astype(np.float32)


def covariance(rows):
    return np.cov(rows.astype(np.float64), rowvar=False, bias=True)


def left_over(rows, targets, columns):
    """Squared error of a linear regression of targets on some columns."""
    X, Y = rows[:, columns].astype(np.float64), targets - targets.mean(axis=0)
    X = X - X.mean(axis=0)
    ridge = 1e-3 * np.trace(covariance(rows)) / rows.shape[1] * len(rows)
    found = np.linalg.solve(X.T @ X + ridge * np.eye(len(columns)), X.T @ Y)
    return float(((Y - X @ found) ** 2).sum() + ridge * (found**2).sum())


@pytest.mark.parametrize("factor", [None, B])
def test_each_line_is_the_best_beside_those_before(factor):
    targets = A.astype(np.float64) if factor is None else A @ factor.astype(np.float64)
    found = best_lines(covariance(A), factor, 3)
    for i in range(3):
        rest = [line for line in range(5) if line not in found[:i]]
        errors = [left_over(A, targets, columns_of([*found[:i], line], D)) for line in rest]
        assert rest[int(np.argmin(errors))] == found[i]


def test_columns_of_lines():
    assert count_lines(D) == 5
    assert columns_of([4, 0], D).tolist() == [*range(LINE), *range(64, 70)]
    assert sorted(best_lines(covariance(A), None, 99)) == [0, 1, 2, 3, 4]


def test_columns_without_variance():
    assert best_lines(np.zeros((40, 40)), None, 2) == [0, 1]
    Maddness(4, split_lines=1).fit(np.ones((9, D), np.float32), B)


@pytest.mark.parametrize("options", [{}, {"split_metric": "input"}, {"leaves": 64, "sample_weight": True}], ids=str)
@pytest.mark.parametrize("lines", [1, 3])
def test_trees_look_at_no_other_line(lines, options):
    weight = np.random.default_rng(0).random(len(A)) if options.get("sample_weight") else None
    options = {name: value for name, value in options.items() if name != "sample_weight"}
    model = Maddness(12, split_lines=lines, **options).fit(A, B, sample_weight=weight)
    assert len(np.unique(model.split_dims_ // LINE)) <= lines
    assert model.score(A, B) > 0.7


@pytest.mark.parametrize("lines", [5, 100])
def test_as_many_lines_as_there_are_is_no_limit(lines):
    free, limited = Maddness(6).fit(A, B), Maddness(6, split_lines=lines).fit(A, B)
    assert (free.split_dims_ == limited.split_dims_).all()
    assert (free.thresholds_ == limited.thresholds_).all()


def test_codes_are_what_encoding_gives():
    columns = np.array([3, 17, 18, 60])
    learned = learn_trees(A, 5, factor=B, feedback=True, columns=columns)
    assert set(learned.trees.dims.ravel().tolist()) <= set(columns.tolist())
    model = Maddness(5, split_lines=2).fit(A, B)
    assert (model.encode(A).array().max(axis=0) > 0).all()
    assert (np.diff(learned.sse, axis=1) <= 1e-9 * learned.sse[:, :1]).all()


@pytest.mark.parametrize("lines", [0, 1.5, True, "4"])
def test_numbers_of_lines_that_make_no_sense(lines):
    with pytest.raises(ValueError, match="split_lines"):
        Maddness(split_lines=lines)
    with pytest.raises(ValueError, match="dense=True with split_lines"):
        Maddness(split_lines=4, dense=False)


@has_images
def test_few_lines_of_real_rows_cost_little():
    train, test, *_ = images()
    factor = least_squares()
    exact = test.astype(np.float64) @ factor

    def loss(lines):
        return nmse(exact, Maddness(16, split_lines=lines).fit(train, factor).matmul(test))

    assert count_lines(784) == 49
    assert loss(12) < 1.15 * loss(None)
