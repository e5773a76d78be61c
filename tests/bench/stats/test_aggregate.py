from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from hasten.bench.stats.aggregate import (
    aggregate_interval,
    geometric_mean_speedup,
    iqm,
    performance_profile,
    performance_ratios,
    probability_of_improvement,
    profile_score,
)

Array = NDArray[np.float64]
INF = math.inf
LEVELS = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12)
RATIOS = st.lists(st.one_of(st.floats(1, 6), st.just(INF)), min_size=1, max_size=12)


def pooled(studies: list[Array]) -> Array:
    return iqm(np.concatenate(studies, axis=-1))


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=40))
def test_iqm_is_a_trimmed_mean(scores: list[float]) -> None:
    assert float(iqm(scores)) == pytest.approx(stats.trim_mean(scores, 0.25), rel=1e-9, abs=1e-6)


def test_iqm_goldens() -> None:
    assert float(iqm([1, 2, 3, 4, 5, 6, 7, 8])) == 4.5
    assert float(iqm([0.0, 1.0, 2.0, 3.0, 1000.0])) == 2.0
    assert float(iqm([0.0, 10.0, 2.0])) == 4.0  # nothing to trim
    assert iqm([[1.0, 2.0, 3.0, 100.0], [0.0, 1.0, 1.0, 1.0]]).tolist() == [2.5, 1.0]
    assert float(iqm([-INF, 1.0, 2.0, INF])) == 1.5  # misses among the trimmed


@given(LEVELS, LEVELS)
def test_probability_of_improvement_is_mann_whitney(arm: list[float], base: list[float]) -> None:
    u = stats.mannwhitneyu(arm, base).statistic
    assert probability_of_improvement([arm], [base]) == pytest.approx(u / (len(arm) * len(base)))
    assert probability_of_improvement([arm], [base]) == pytest.approx(1 - probability_of_improvement([base], [arm]))


def test_probability_of_improvement() -> None:
    assert probability_of_improvement([[1.0, 2.0]], [[1.0, 2.0]]) == 0.5
    assert probability_of_improvement([[1.0, 2.0]], [[1.0, 2.0]], paired=True) == 0.5
    # the seeds differ more than the arms: only pairs show that the arm wins in each
    assert probability_of_improvement([[1.1, 2.1, 3.1]], [[1.0, 2.0, 3.0]], paired=True) == 1.0
    assert probability_of_improvement([[1.1, 2.1, 3.1]], [[1.0, 2.0, 3.0]]) == pytest.approx(6 / 9)
    # studies weigh the same, however many seeds they have
    assert probability_of_improvement([[1.0], [0.0] * 9], [[0.0], [1.0] * 9]) == 0.5
    assert probability_of_improvement([[INF, INF]], [[INF, 1.0]], paired=True) == 0.75


def test_the_interval_resamples_seeds_within_studies() -> None:
    generator = np.random.default_rng(0)
    apart: list[Any] = [[0.0, 0.0, 0.0], [10.0, 10.0]]  # no spread within: none in the interval
    low, high = aggregate_interval(apart, lambda s: np.concatenate(s, axis=-1).mean(axis=-1), generator=generator)
    assert (float(low), float(high)) == (4.0, 4.0)


def test_five_studies_stand_for_others_and_four_do_not() -> None:
    def mean(studies: list[Array]) -> Array:
        return np.stack([each.mean(axis=-1) for each in studies]).mean(axis=0)

    levels = [[float(level)] * 3 for level in range(5)]
    for count, wide in ((4, False), (5, True)):
        low, high = aggregate_interval(levels[:count], mean, generator=np.random.default_rng(0), draws=500)
        assert bool(high > low) is wide
    low, high = aggregate_interval(levels, mean, generator=np.random.default_rng(0), draws=500, resample_studies=False)
    assert float(low) == float(high) == 2.0
    low, high = aggregate_interval(
        levels[:2], mean, generator=np.random.default_rng(0), draws=500, resample_studies=True
    )
    assert (float(low), float(high)) == (0.0, 1.0)


def test_the_interval_of_one_study_is_that_of_scipy() -> None:
    scores = np.random.default_rng(3).normal(0, 1, 12)
    low, high = aggregate_interval([scores], pooled, generator=np.random.default_rng(0), draws=20_000)
    oracle = stats.bootstrap(
        (scores,), lambda x, axis: stats.trim_mean(x, 0.25, axis=axis), method="percentile", n_resamples=20_000,
        rng=np.random.default_rng(1), vectorized=True,
    ).confidence_interval  # fmt: skip
    assert (float(low), float(high)) == pytest.approx((oracle.low, oracle.high), abs=0.02)


def test_rows_stay_together_and_the_statistic_may_have_axes() -> None:
    pairs = np.array([[0.0, 1.0], [10.0, 11.0], [20.0, 21.0]])  # (seeds, arm and baseline)
    low, high = aggregate_interval(
        [pairs], lambda s: (s[0][..., 1] - s[0][..., 0]).mean(axis=-1), generator=np.random.default_rng(0)
    )
    assert (float(low), float(high)) == (1.0, 1.0)
    band = aggregate_interval(
        [[1.0, 2.0, 3.0]], lambda s: performance_profile(s[0], [1.0, 2.0, 3.0]), generator=np.random.default_rng(0)
    )
    assert [edge.tolist() for edge in band] == [[0.0, 0.0, 1.0], [1.0, 1.0, 1.0]]


def test_profile_golden() -> None:
    assert float(profile_score([1.0, 2.0, INF])) == pytest.approx(5 / 9)
    assert performance_profile([1.0, 2.0, INF], [1.0, 1.5, 2.0, 100.0]).tolist() == [1 / 3, 1 / 3, 2 / 3, 2 / 3]
    assert float(profile_score([0.5, 1.0])) == 1.0
    assert float(profile_score([4.0, 5.0, INF])) == 0.0
    assert float(profile_score([2.0], r_max=3.0)) == 0.5


@given(RATIOS, st.sampled_from([1.5, 4.0, 10.0]))
def test_the_closed_form_is_the_integral(ratios: list[float], r_max: float) -> None:
    knots = np.unique(np.clip([1.0, r_max, *ratios], 1.0, r_max))
    middles = (knots[1:] + knots[:-1]) / 2  # the profile is constant between its steps
    integral = float(np.sum(performance_profile(ratios, middles) * np.diff(knots))) if len(middles) else 0.0
    assert float(profile_score(ratios, r_max=r_max)) == pytest.approx(integral / (r_max - 1), abs=1e-12)


@given(RATIOS)
def test_a_profile_is_a_distribution(ratios: list[float]) -> None:
    profile = performance_profile(ratios, np.linspace(1, 7, 50))
    assert (np.diff(profile) >= 0).all()
    assert profile.min() >= 0
    assert profile[-1] == np.isfinite(ratios).mean()
    assert 0 <= float(profile_score(ratios)) <= 1


def test_ratios_to_the_fastest_and_to_a_reference() -> None:
    times = [[10.0, 30.0, INF], [20.0, 15.0, INF]]
    assert performance_ratios(times).tolist() == [[1.0, 2.0, INF], [2.0, 1.0, INF]]
    assert performance_ratios(times, [20.0, 30.0, 5.0]).tolist() == [[0.5, 1.0, INF], [1.0, 0.5, INF]]
    # a third arm moves the first kind and not the second
    more = [*times, [5.0, 5.0, 5.0]]
    assert performance_ratios(more)[0].tolist() == [2.0, 6.0, INF]
    assert performance_ratios(more, [20.0, 30.0, 5.0])[0].tolist() == [0.5, 1.0, INF]


@given(st.lists(st.floats(0.1, 100), min_size=3, max_size=3), st.floats(0.01, 100))
def test_the_unit_of_time_changes_no_score(times: list[float], unit: float) -> None:
    table = np.array([times, times[::-1]])
    assert profile_score(performance_ratios(unit * table)) == pytest.approx(profile_score(performance_ratios(table)))
    assert float(geometric_mean_speedup(unit * table[0], unit * table[1])) == pytest.approx(
        float(geometric_mean_speedup(table[0], table[1]))
    )


def test_geometric_mean_speedup() -> None:
    assert float(geometric_mean_speedup([1.0, 4.0], [2.0, 2.0])) == pytest.approx(1.0)
    assert float(geometric_mean_speedup([1.0, INF], [8.0, 2.0])) == 0.0
    assert geometric_mean_speedup([[1.0, 1.0], [2.0, 2.0]], [4.0, 1.0]).tolist() == pytest.approx([2.0, 1.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: iqm([]), "at least one number in scores"),
        (lambda: iqm([1.0, math.nan]), "no NaN in scores.*a miss"),
        (lambda: probability_of_improvement([[1.0]], []), "the same studies for both"),
        (lambda: probability_of_improvement([1.0], [1.0]), "at least one number in arm|a list of scores per study"),
        (lambda: probability_of_improvement([[1.0, 2.0]], [[1.0]], paired=True), "pairs of runs"),
        (lambda: aggregate_interval([], pooled, generator=np.random.default_rng(0)), "at least one study"),
        (lambda: aggregate_interval([[1.0]], pooled, generator=np.random.default_rng(0), alpha=2.0), "alpha in"),
        (lambda: aggregate_interval([[1.0]], pooled, generator=np.random.default_rng(0), draws=0), "draws"),
        (lambda: aggregate_interval([[1.0, 2.0]], lambda s: s[0].mean(axis=0), generator=np.random.default_rng(0)),
         "one value of the statistic per draw"),
        (lambda: performance_ratios([1.0, 2.0]), r"times of shape \(arms, workloads\)"),
        (lambda: performance_ratios([[0.0, 2.0]]), "times above 0 in times.*inf for a run that never arrives"),
        (lambda: performance_ratios([[1.0, 2.0]], [1.0]), "2 finite reference times"),
        (lambda: performance_ratios([[1.0, 2.0]], [1.0, INF]), "2 finite reference times"),
        (lambda: profile_score([1.0], r_max=1.0), "r_max above 1"),
        (lambda: geometric_mean_speedup([1.0, 2.0], [1.0]), "2 finite reference times"),
    ],
)  # fmt: skip
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
