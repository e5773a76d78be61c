"""Levels of one arm in every kind of curve: known numbers, pairs, and what is missing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from hasten.bench.stats.calibration import calibrate

SEPARATE = {0: [0.50, 0.80], 1: [0.52, 0.82], 2: [0.48, 0.81]}


def test_known_numbers() -> None:
    cyclic = {0: [0.50, 0.82], 1: [0.52, 0.83], 2: [0.48, 0.84]}
    found = calibrate({"cyclic": cyclic, "separate": SEPARATE})
    assert list(found) == ["separate", "cyclic"]
    first, second = found["cyclic"]
    assert (first.bias, first.bias_low, first.bias_high, first.n) == (0.0, 0.0, 0.0, 3)
    assert second.bias == pytest.approx(0.02)
    oracle = scipy_stats.ttest_rel([0.82, 0.83, 0.84], [0.80, 0.82, 0.81]).confidence_interval(0.95)
    assert (second.bias_low, second.bias_high) == pytest.approx((oracle.low, oracle.high))
    level = scipy_stats.t.interval(0.95, 2, 0.81, 0.01 / math.sqrt(3))
    assert (found["separate"][1].low, found["separate"][1].high) == pytest.approx(level)
    assert [level.bias for level in found["separate"]] == [None, None]


def test_only_common_seeds_make_the_bias() -> None:
    found = calibrate({"separate": SEPARATE, "branch": {2: [0.58, 0.91], 7: [9.0, 9.0]}})["branch"]
    assert (found[0].bias, found[0].n) == (pytest.approx(0.10), 1)
    assert (found[0].bias_low, found[0].bias_high) == (None, None)
    assert found[0].metric == pytest.approx((0.58 + 9.0) / 2)


def test_without_common_seeds_there_is_no_bias() -> None:
    found = calibrate({"separate": SEPARATE, "branch": {7: [0.5, 0.6]}})["branch"][0]
    assert (found.metric, found.bias, found.bias_low, found.n) == (0.5, None, None, 0)


def test_a_kind_that_has_no_run_yet_is_left_out() -> None:
    assert list(calibrate({"cyclic": {}, "separate": SEPARATE})) == ["separate"]


def test_bad_input() -> None:
    with pytest.raises(ValueError, match=r"calibrate: expected separate runs, got \['cyclic'\]"):
        calibrate({"cyclic": SEPARATE})
    with pytest.raises(ValueError, match="as many budgets in every run"):
        calibrate({"separate": SEPARATE, "cyclic": {0: [0.5]}})


@given(st.floats(-5, 5), st.lists(st.floats(-1, 1), min_size=2, max_size=6))
def test_a_constant_shift_is_the_bias(shift: float, levels: list[float]) -> None:
    separate = {seed: [level] for seed, level in enumerate(levels)}
    shifted = {seed: [level + shift] for seed, level in enumerate(levels)}
    found = calibrate({"separate": separate, "cyclic": shifted})
    assert found["cyclic"][0].bias == pytest.approx(shift, abs=1e-12)
    assert found["cyclic"][0].metric == pytest.approx(np.mean(levels) + shift)
