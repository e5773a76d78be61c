"""Two kinds of curve beside each other: known numbers, scipy's numbers, and what must not matter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from hasten.bench.stats.agreement import agreement, kendall_tau

LEVELS = np.random.default_rng(3).normal([0.5, 0.7, 0.8], 0.02, size=(4, 5, 3))
NOISE = np.random.default_rng(4).normal(0, 0.01, size=LEVELS.shape)


def test_numbers_by_hand() -> None:
    reference = np.array([[[0.50], [0.52]], [[0.60], [0.58]], [[0.45], [0.47]]])
    other = np.array([[[0.51], [0.53]], [[0.63], [0.57]], [[0.47], [0.52]]])
    found = agreement(reference, other)
    assert (found.effects, found.seeds) == (2, 2)
    assert found.bias[0].mean == pytest.approx((0.01 + 0.01 + 0.03 - 0.01 + 0.02 + 0.05) / 6)
    assert found.mean_abs_level == pytest.approx(0.13 / 6)
    # mean effects: reference 0.08, -0.05; other 0.08, -0.025
    assert found.error == pytest.approx(0.0125)
    assert found.error_single == pytest.approx((0.02 + 0.02 + 0.01 + 0.04) / 4)
    assert (found.r, found.same_sign, found.tau) == (pytest.approx(1.0), 1.0, (1.0,))


def test_correlation_and_order_are_those_of_scipy() -> None:
    found = agreement(LEVELS, LEVELS + NOISE)
    effects = [(levels[1:] - levels[:1]) for levels in (LEVELS, LEVELS + NOISE)]
    means = [values.mean(axis=1).ravel() for values in effects]
    assert found.r == pytest.approx(scipy_stats.pearsonr(*means).statistic)
    assert found.r_single == pytest.approx(scipy_stats.pearsonr(*(values.ravel() for values in effects)).statistic)
    assert found.r_low < found.r < found.r_high
    for k in range(3):
        orders = [levels.mean(axis=1)[:, k] for levels in (LEVELS, LEVELS + NOISE)]
        assert found.tau[k] == pytest.approx(scipy_stats.kendalltau(*orders).statistic)
        own = scipy_stats.t.interval(
            0.95, 4, NOISE.mean(axis=0)[:, k].mean(), scipy_stats.sem(NOISE.mean(axis=0)[:, k])
        )
        assert (found.bias[k].low, found.bias[k].high) == pytest.approx(own)


@given(st.lists(st.integers(0, 4), min_size=2, max_size=7), st.randoms(use_true_random=False))
def test_ties_are_counted_as_scipy_counts_them(x: list[int], draw) -> None:
    y = [draw.randint(0, 4) for _ in x]
    expected = scipy_stats.kendalltau(x, y).statistic if len(set(x)) > 1 and len(set(y)) > 1 else None
    assert kendall_tau(x, y) == (None if expected is None else pytest.approx(expected))


@given(st.floats(-1, 1), st.permutations(range(5)))
def test_a_bias_that_all_arms_share_changes_no_effect(shift: float, order: list[int]) -> None:
    found, plain = agreement(LEVELS, LEVELS + NOISE + shift), agreement(LEVELS, LEVELS + NOISE)
    for name in ("r", "r_single", "error", "error_single"):
        assert getattr(found, name) == pytest.approx(getattr(plain, name), abs=1e-9)
    assert [bias.mean - shift for bias in found.bias] == pytest.approx([bias.mean for bias in plain.bias])
    shuffled = agreement(LEVELS[:, order], (LEVELS + NOISE)[:, order])
    assert shuffled.r == pytest.approx(plain.r)


def test_one_seed_has_no_intervals_and_equal_effects_no_correlation() -> None:
    found = agreement(LEVELS[:, :1], LEVELS[:, :1])
    assert (found.r_low, found.r_high, found.bias[0].low) == (None, None, None)
    same = np.ones((2, 3, 2))
    assert (agreement(same, same).r, agreement(same, same).r_low, agreement(same, same).tau) == (
        None,
        None,
        (None, None),
    )


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="two equal shapes"):
        agreement(LEVELS, LEVELS[:, :3])
    with pytest.raises(ValueError, match="a baseline and another arm"):
        agreement(LEVELS[:1], LEVELS[:1])
    with pytest.raises(ValueError, match="finite levels"):
        agreement(LEVELS, LEVELS * np.nan)
