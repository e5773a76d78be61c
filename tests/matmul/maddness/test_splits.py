"""Cuts: exact, between distinct values, and never worse than not cutting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tests.matmul import reference

from hasten.matmul.maddness.splits import Buckets, best_cut, best_threshold, cut_buckets

FEW = st.integers(-3, 3).map(np.float32)  # many ties
ANY = st.floats(-1e6, 1e6, width=32).map(np.float32)


@st.composite
def buckets(draw):
    n, d = draw(st.integers(1, 24)), draw(st.integers(1, 3))
    x = draw(arrays(np.float32, n, elements=draw(st.sampled_from([FEW, ANY]))))
    targets = draw(arrays(np.float64, (n, d), elements=st.floats(-100, 100, width=32)))
    weight = draw(arrays(np.float64, n, elements=st.sampled_from([0.25, 1.0, 3.0])))
    return x, targets, weight


@given(buckets())
def test_the_best_threshold_is_that_of_brute_force(case):
    x, targets, weight = case
    threshold, left_over = best_threshold(x, targets, weight)
    expected = reference.best_sse(x, targets, weight)
    scale = 1e-9 * (1 + reference.sse(targets, weight))
    assert left_over == pytest.approx(expected, abs=scale)
    right = x > np.float32(threshold)
    sides = reference.sse(targets[right], weight[right]) + reference.sse(targets[~right], weight[~right])
    assert sides == pytest.approx(left_over, abs=scale)


@given(buckets())
def test_thresholds_cut_between_distinct_values(case):
    x, targets, weight = case
    threshold, _ = best_threshold(x, targets, weight)
    right = x > np.float32(threshold)
    if threshold == np.inf:
        assert not right.any()
    else:
        low, high = x[~right].max(), x[right].min()
        assert low <= np.float32(threshold) < high
        assert np.float32(threshold) == pytest.approx((float(low) + float(high)) / 2, rel=1e-6)


def test_two_clusters_are_cut_in_the_middle():
    x = np.array([0, 1, 0, 10, 11, 10], np.float32)
    assert best_threshold(x, x[:, None]) == (5.5, pytest.approx(4 / 3))


def test_a_weight_is_a_number_of_rows():
    generator = np.random.default_rng(0)
    x, targets = generator.standard_normal(30).astype(np.float32), generator.standard_normal((30, 2))
    times = generator.integers(1, 4, 30)
    repeated = best_threshold(np.repeat(x, times), np.repeat(targets, times, axis=0))
    assert best_threshold(x, targets, times) == pytest.approx(repeated, rel=1e-12)


@pytest.mark.parametrize("light", [1e-16, 1e-30])
def test_weights_that_rounding_loses_beside_others(light):
    x, targets = np.arange(4, dtype=np.float32), np.array([[0.0], [0.0], [1.0], [5.0]])
    threshold, left_over = best_threshold(x, targets, np.array([1.0, 1.0, 1.0, light]))
    assert (threshold, left_over) == (1.5, pytest.approx(0, abs=1e-14))


def test_neighbouring_floats_are_told_apart():
    low = np.float32(1)
    high = np.nextafter(low, np.float32(2))
    threshold, left_over = best_threshold(np.array([low, high]), np.array([[0.0], [1.0]]))
    assert (threshold, left_over) == (1.0, 0.0)  # the midpoint rounds to one of them: the lower one


def test_the_largest_floats_do_not_overflow():
    largest = np.finfo(np.float32).max
    assert best_threshold(np.array([-largest, largest], np.float32), np.array([[0.0], [1.0]])) == (0.0, 0.0)


@pytest.mark.parametrize("x", [[], [1.0], [2.0, 2.0, 2.0], [0.0, -0.0]], ids=str)
def test_without_two_distinct_values_everything_goes_left(x):
    x = np.array(x, np.float32)
    targets = np.arange(len(x), dtype=np.float64)[:, None]
    threshold, left_over = best_threshold(x, targets)
    assert threshold == np.inf
    assert left_over == pytest.approx(reference.sse(targets, np.ones(len(x))))


def test_a_cut_that_gains_nothing_is_not_made():
    assert best_threshold(np.array([1, 2], np.float32), np.zeros((2, 1))) == (np.inf, 0.0)


def test_zeros_of_relu_stay_together():
    x = np.concatenate([np.zeros(50), np.linspace(1, 2, 50)]).astype(np.float32)
    threshold, _ = best_threshold(x, x[:, None])
    assert threshold == 0.5


def test_buckets_are_cut_as_if_alone():
    generator = np.random.default_rng(1)
    x = generator.integers(0, 12, 200).astype(np.float32)
    targets, index = generator.standard_normal((200, 3)), generator.integers(0, 5, 200).astype(np.uint8)
    index[index == 3] = 2  # an empty bucket
    weight = generator.random(200) + 0.5
    found = Buckets.of(targets, index, weight, 5)
    thresholds, gains = cut_buckets(x, np.argsort(x, kind="stable"), found)
    for bucket in range(5):
        own = index == bucket
        threshold, left_over = best_threshold(x[own], targets[own], weight[own])
        assert thresholds[bucket] == np.float32(threshold)
        assert found.sse[bucket] - gains[bucket] == pytest.approx(left_over, abs=1e-9)


def test_targets_far_from_zero_keep_their_digits():
    x = np.array([1, 2, 3, 4], np.float32)
    threshold, left_over = best_threshold(x, np.array([[0.0], [0.0], [1.0], [1.0]]) + 2.0**40)
    assert (threshold, left_over) == (2.5, 0.0)


def test_the_better_column_is_taken_and_sorted_once():
    generator = np.random.default_rng(2)
    columns = generator.standard_normal((100, 3)).astype(np.float32)
    targets = (columns[:, [1]] > 0.3).astype(np.float64)
    found, orders = Buckets.of(targets, np.zeros(100, np.uint8), np.ones(100), 1), {}
    cut = best_cut(columns, [0, 1], orders, found)
    assert cut.column == 1
    assert cut.gain == pytest.approx(found.sse[0])
    assert set(orders) == {0, 1}
    assert best_cut(columns, [0, 1], orders, found).thresholds == cut.thresholds
