"""Statistics of pruning studies, by hand and by invariants."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.bench.pruning.fair import (
    UNSURE,
    difference,
    effects,
    flips,
    interval,
    mean_gap,
    orders,
    pairs,
    ranking,
)  # fmt: skip

SEEDS = range(4)


def curve(*points: tuple[float, float], noise: float = 1e-4) -> dict[int, list[tuple[float, float]]]:
    """The same line for every seed but for a little that the seed decides."""
    return {seed: [(1.0, 0.9), *((x, y + noise * seed) for x, y in points)] for seed in SEEDS}


def test_a_difference_by_hand() -> None:
    found = difference([1.0, 2.0, 3.0])
    assert (found.value, found.n) == (2.0, 3)
    assert found.low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-5)
    assert found.p == pytest.approx(0.0742, abs=1e-4)
    assert difference([1.0, 1.0]).p == 1.0  # two seeds prove nothing
    single = difference([0.5])
    assert (single.low, single.high, single.p) == (None, None, 1.0)


def test_an_interval_of_a_mean() -> None:
    mean, low, high = interval([1.0, 2.0, 3.0])
    assert (mean, high - mean) == (2.0, pytest.approx(4.302653 / math.sqrt(3), abs=1e-5))
    assert low == pytest.approx(2 * mean - high)
    assert interval([7.0]) == (7.0, None, None)


def test_effects_are_paired_over_shared_seeds_and_corrected() -> None:
    base = {1: {0: 0.50, 1: 0.60, 2: 0.70}, 2: {0: 0.1, 1: 0.2, 2: 0.3}}
    near = {1: {0: 0.5001, 1: 0.5999, 2: 0.7}, 2: {0: 0.4001, 1: 0.5002, 2: 0.5999, 3: 9.0}}
    found = effects({"random": base, "near": near}, "random")
    assert [(one["arm"], one["point"], one["n"], one["verdict"]) for one in found] == [
        ("near", 1, 3, UNSURE), ("near", 2, 3, "better")]  # fmt: skip
    assert found[1]["value"] == pytest.approx(0.3, abs=1e-3)
    assert all(one["p_holm"] >= one["p"] for one in found)


def test_the_mean_difference_of_lines_is_the_area_between_them() -> None:
    gap, reach = mean_gap(curve((4.0, 0.8), noise=0), curve((4.0, 0.7), noise=0))
    assert gap.value == pytest.approx(0.05)  # from 0 at 1 to 0.1 at 4, along a logarithmic axis
    assert reach == pytest.approx(4.0)
    gap, reach = mean_gap(curve((2.0, 0.8), noise=0), curve((16.0, 0.5), noise=0))
    assert (gap.value, reach) == (pytest.approx(0.0), pytest.approx(2.0))


def test_curves_that_share_no_range_or_no_seed_are_not_compared() -> None:
    near_one = {seed: [(1.0, 0.9), (1.02, 0.8)] for seed in SEEDS}
    assert mean_gap(near_one, curve((4.0, 0.8))) is None
    assert mean_gap({7: [(1.0, 0.9), (4.0, 0.8)]}, curve((4.0, 0.8))) is None
    assert mean_gap({}, curve((4.0, 0.8))) is None


@given(
    levels=st.lists(st.tuples(st.floats(1.1, 64), st.floats(-1, 1)), min_size=1, max_size=6),
    shift=st.floats(-2, 2),
    turn=st.randoms(use_true_random=False),
)
def test_invariants_of_the_mean_difference(levels: list, shift: float, turn) -> None:
    one, other = curve(*levels), curve((64.0, 0.0))
    found = mean_gap(one, other)
    if found is None:
        return
    gap, reach = found
    back, same_reach = mean_gap(other, one)
    assert (back.value, same_reach) == (pytest.approx(-gap.value, abs=1e-9), reach)
    mixed = {seed: turn.sample(points, len(points)) for seed, points in one.items()}
    assert mean_gap(mixed, other)[0].value == pytest.approx(gap.value, abs=1e-9)  # the order of points says nothing
    both = [{seed: [(x, y + shift) for x, y in points] for seed, points in side.items()} for side in (one, other)]
    assert mean_gap(*both)[0].value == pytest.approx(gap.value, abs=1e-9)


def test_orders_hold_only_arms_that_come_so_far() -> None:
    curves = {"a": curve((8.0, 0.8)), "b": curve((4.0, 0.5)), "c": curve((8.0, 0.8), noise=3e-4)}
    found = orders(curves, [2.0, 4.0, 8.0, 16.0])
    assert [place["at"] for place in found] == [2.0, 4.0, 8.0]
    assert found[1]["groups"] == [["c", "a"], ["b"]]
    assert found[2]["groups"] == [["c", "a"]]


def test_a_count_that_misses_the_asked_ratio_by_a_part_of_an_entry_is_there() -> None:
    curves = {"a": curve((7.998, 0.8)), "b": curve((7.997, 0.5))}
    assert [place["at"] for place in orders(curves, [8.0])] == [8.0]


def axes() -> dict[str, dict]:
    """By compression a is better than b, by speed-up b than a: a's layers that are used often stay."""
    return {
        "compression": {"a": curve((8.0, 0.8)), "b": curve((8.0, 0.7)), "c": curve((8.0, 0.7), noise=3e-4)},
        "speedup": {"a": curve((2.0, 0.8)), "b": curve((8.0, 0.7)), "c": curve((8.0, 0.7), noise=3e-4)},
        "latency": {"a": {}, "b": {}, "c": {}},
    }


def test_a_flip_is_resolved_where_both_tests_reject() -> None:
    found = pairs(axes())
    assert [(pair["one"], pair["other"]) for pair in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert found[0]["compression"]["verdict"] == "better"
    assert found[0]["speedup"]["verdict"] == "worse"
    assert found[0]["speedup"]["reach"] == pytest.approx(2.0, rel=1e-3)
    assert found[0]["latency"] is None
    turned = flips(found)
    assert {(flip["better"], flip["worse"], flip["axis"], flip["resolved"]) for flip in turned} == {
        ("a", "b", "speedup", True), ("a", "c", "speedup", True)}  # fmt: skip


def test_noise_makes_no_flip() -> None:
    generator = np.random.default_rng(0)
    false = 0
    for _ in range(60):
        both = {
            axis: {
                arm: {s: [(1.0, 0.9), (8.0, 0.7 + 0.05 * generator.standard_normal())] for s in SEEDS} for arm in "abc"
            }
            for axis in ("compression", "speedup")
        }
        false += any(flip["resolved"] for flip in flips(pairs(both)))
    assert false <= 1


def test_a_ranking_has_groups_where_arms_cannot_be_told_apart() -> None:
    assert ranking(pairs(axes()), ["a", "b", "c"]) == [["a"], ["c", "b"]]
    assert ranking([], []) == []
    alone = {"compression": {"a": curve((8.0, 0.8)), "b": {}}}
    assert ranking(pairs(alone), ["a", "b"]) == []  # b has no whole curve


def test_seeds_that_agree_by_luck_prove_little() -> None:
    """Of 50 examples one more is right in every seed, at every place: that is not certain as an equal time would be."""
    levels = {seed: [0.50 + 0.02 * seed, 0.30 + 0.04 * seed] for seed in range(3)}
    one, other = (
        {s: [(1.0, 0.9), *zip((2.0, 4.0), (y + gain for y in ys), strict=True)] for s, ys in levels.items()}
        for gain in (0.02, 0.0)
    )
    gap, _ = mean_gap(one, other)
    assert gap.value == pytest.approx(0.015)
    assert 0.01 < gap.p < 0.2
    (place,) = orders({"one": one, "other": other}, [3.0])  # between the points, where values are on no lattice
    assert place["groups"] == [["one", "other"]]
