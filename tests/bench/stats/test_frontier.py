from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.bench.stats.studies import LENGTHS, Rows, same, study

from hasten.bench.stats import Table, analyse
from hasten.bench.stats.frontier import DRAWS
from hasten.bench.stats.schema import Frontier, FrontierArm, FrontierPoint

ARMS = {"base": same, "fast": lambda t, m: (0.6 * t, m - 0.004), "good": lambda t, m: (1.3 * t, m + 0.02)}


def found(rows: Rows, **options: Any) -> Frontier:
    frontier = analyse(Table.from_rows(rows), baseline="base", **options).frontier
    assert frontier is not None
    return frontier


def arms_of(frontier: Frontier) -> dict[str, FrontierArm]:
    return {arm.arm: arm for arm in frontier.arms}


def points_of(frontier: Frontier, arm: str) -> list[FrontierPoint]:
    return [point for point in frontier.points if point.arm == arm]


def ladder(arms: dict[str, list[tuple[float, float]]], seeds: int = 3) -> Rows:
    """The same (time, metric) points in every seed."""
    return [
        {"arm": arm, "seed": seed, "time": time, "metric": metric}
        for arm, points in arms.items()
        for seed in range(seeds)
        for time, metric in points
    ]


BASE = [(1.0, 0.5), (2.0, 0.6), (4.0, 0.7)]


def test_golden() -> None:
    # The box: times 1 to 8 s (one doubling beyond the last budget), qualities 0.5 to 1.
    frontier = found(ladder({"base": BASE, "arm": [(2.0, 0.8)], "slow": [(9.0, 0.9)]}))
    assert (frontier.ideal_time, frontier.reference_time) == (pytest.approx(1.0), pytest.approx(8.0))
    assert (frontier.ideal_metric, frontier.reference_metric) == (1.0, 0.5)
    arms = arms_of(frontier)
    assert arms["base"].hypervolume == pytest.approx((0 + 0.2 + 0.4) / 3)  # each budget weighs a third
    assert arms["arm"].hypervolume == pytest.approx(0.6 * 2 / 3)
    assert arms["slow"].hypervolume == 0.0  # beyond the reference
    assert frontier.hypervolume == pytest.approx(0.4)
    assert arms["base"].contribution == 0.0  # its only frontier point is worth as much as chance
    assert arms["arm"].contribution == pytest.approx(0.2)
    assert [p.on_frontier for p in frontier.points] == [True, False, False, True, True]
    assert [p.probability for p in frontier.points] == [1.0, 0.0, 0.0, 1.0, 1.0]
    assert [p.label for p in points_of(frontier, "base")] == ["1 s", "2 s", "4 s"]
    for arm in frontier.arms:
        assert (arm.low, arm.high) == (pytest.approx(arm.hypervolume), pytest.approx(arm.hypervolume))


def test_with_chance_the_baseline_is_the_mean_over_its_budgets() -> None:
    frontier = found(ladder({"base": BASE, "arm": [(1.0, 0.4)]}), chance=0.1)
    assert frontier.reference_metric == 0.1
    assert arms_of(frontier)["base"].hypervolume == pytest.approx((0.4 + 0.5 + 0.6) / 3 / 0.9)


def test_faster_than_the_first_budget_counts_as_just_that() -> None:
    one, two = (found(ladder({"base": BASE, "arm": [(time, 0.8)]})) for time in (1.0, 0.01))
    assert arms_of(one)["arm"].hypervolume == pytest.approx(0.6)
    assert arms_of(two)["arm"].hypervolume == pytest.approx(0.6)


def test_losses_keep_their_sign_and_have_zero_as_their_ideal() -> None:
    rows = [{**r, "metric": -2 * (1 - r["metric"])} for r in ladder({"base": BASE, "arm": [(2.0, 0.8)]})]
    frontier = found(rows, minimize=True)
    assert (frontier.ideal_metric, frontier.reference_metric) == (0.0, 1.0)
    assert math.copysign(1, frontier.ideal_metric) == 1
    assert [p.metric for p in frontier.points] == pytest.approx([1.0, 0.8, 0.6, 0.4])
    assert [p.on_frontier for p in frontier.points] == [True, False, False, True]
    assert arms_of(frontier)["arm"].hypervolume == pytest.approx(0.4)
    chance = found(rows, minimize=True, chance=2.0)
    assert chance.reference_metric == 2.0
    assert arms_of(chance)["arm"].hypervolume == pytest.approx(0.8 * 2 / 3)


def test_an_unbounded_metric_is_measured_by_the_best_mean() -> None:
    rows = [{**r, "metric": 100 * r["metric"]} for r in ladder({"base": BASE, "arm": [(2.0, 0.8)]})]
    frontier = found(rows)
    assert frontier.ideal_metric == pytest.approx(80.0)
    assert arms_of(frontier)["arm"].hypervolume == pytest.approx(2 / 3)
    flat = found([{**r, "metric": 7.0} for r in rows])
    assert [arm.hypervolume for arm in flat.arms] == [0.0, 0.0]
    json.dumps(analyse(Table.from_rows(rows), baseline="base").to_json(), allow_nan=False)


def test_a_single_budget_has_a_box_too() -> None:
    frontier = found(ladder({"base": [(3.0, 0.5)], "arm": [(3.0, 0.75)]}))
    assert frontier.reference_time == pytest.approx(6.0)
    assert arms_of(frontier)["arm"].hypervolume == pytest.approx(0.5)


def test_means_are_those_of_the_curves() -> None:
    analysis = analyse(Table.from_rows(study(ARMS, noise=0.003)), baseline="base")
    assert analysis.frontier is not None
    for arm in analysis.arms:
        for point, mean in zip(points_of(analysis.frontier, arm.name), arm.curve, strict=True):
            assert (point.point, point.time, point.metric) == (
                mean.point, pytest.approx(mean.time), pytest.approx(mean.metric)
            )  # fmt: skip
    labels = [f"{32 * n} steps" for n in LENGTHS]
    assert [p.label for p in points_of(analysis.frontier, "good")] == labels


def test_probabilities_are_shares_of_all_resamples() -> None:
    """By hand: every resample of three seeds, each point against all others."""
    rows = study(ARMS, seeds=3, noise=0.01)
    frontier = found(rows)
    assert frontier.draws == 27
    names = list(ARMS)
    x, y = (
        np.array([[r[key] for r in rows if (r["arm"], r["seed"]) == (arm, seed)] for arm in names for seed in range(3)])
        for key in ("time", "metric")
    )
    hits = np.zeros(12)
    some = np.zeros(3)
    for draw in np.ndindex(3, 3, 3):
        time, metric = (
            np.concatenate([values[3 * k + np.array(draw)].mean(axis=0) for k in range(3)]) for values in (np.log(x), y)
        )
        beaten = [
            any(time[j] <= time[i] and metric[j] >= metric[i] and (time[j], metric[j]) != (time[i], metric[i])
                for j in range(12))
            for i in range(12)
        ]  # fmt: skip
        hits += ~np.array(beaten)
        some += (~np.array(beaten)).reshape(3, 4).any(axis=1)
    assert [p.probability for p in frontier.points] == pytest.approx((hits / 27).tolist())
    assert [arm.probability for arm in frontier.arms] == pytest.approx((some / 27).tolist())


def test_the_same_resample_serves_all_arms() -> None:
    # The seeds differ by far more than the arms: unpaired, the better arm would not win in every resample.
    rows = [{**r, "metric": r["metric"] + 0.05 * r["seed"]} for r in
            study({"base": same, "better": lambda t, m: (t, m + 0.001)}, seeds=4)]  # fmt: skip
    frontier = found(rows)
    assert [p.probability for p in points_of(frontier, "base")] == [0.0] * 4
    assert [p.probability for p in points_of(frontier, "better")] == [1.0] * 4
    assert arms_of(frontier)["base"].contribution == 0.0


def test_noise_keeps_what_lies_close() -> None:
    rows = study({"base": same, "better": lambda t, m: (t, m + 0.001)})
    assert not any(p.on_frontier for p in points_of(found(rows, epsilon=0.0), "base"))
    close = found(rows, epsilon=0.002)
    assert all(p.on_frontier and p.probability == 1.0 for p in points_of(close, "base"))
    assert close.epsilon == 0.002
    assert arms_of(close)["base"].contribution == 0.0  # volume knows no noise
    with pytest.raises(ValueError, match="analyse: expected epsilon >= 0"):
        found(rows, epsilon=-0.1)


def test_few_seeds_are_said_so() -> None:
    for n, words in ((1, "that of one seed, without probabilities"), (2, "3 distinct"), (3, "10 distinct"),
                     (4, "35 distinct")):  # fmt: skip
        analysis = analyse(Table.from_rows(study(ARMS, seeds=n)), baseline="base")
        assert any(f"n = {n}: the frontier" in note and words in note for note in analysis.notes)
    five = analyse(Table.from_rows(study(ARMS, seeds=5)), baseline="base")
    assert not any("frontier" in note for note in five.notes)
    assert five.frontier is not None
    assert five.frontier.draws == 5**5
    assert found(study(ARMS, seeds=6)).draws == DRAWS


def test_one_seed_has_no_probabilities() -> None:
    frontier = found(study(ARMS, seeds=1))
    assert {p.probability for p in frontier.points} == {None}
    assert {(a.probability, a.low, a.high) for a in frontier.arms} == {(None, None, None)}
    assert frontier.draws == 0


def test_an_arm_takes_part_with_the_seeds_it_has() -> None:
    rows = [r for r in study(ARMS, noise=0.002) if r["arm"] != "good" or r["seed"] in (0, 1, 2)]
    analysis = analyse(Table.from_rows(rows), baseline="base")
    assert "good: its points on the frontier are means of 3 of 5 seeds" in analysis.notes
    assert analysis.frontier is not None
    assert analysis.frontier.seeds == (0, 1, 2, 3, 4)
    arm = arms_of(analysis.frontier)["good"]
    assert arm.probability == pytest.approx(1 - (2 / 5) ** 5)  # it is best wherever it is drawn at all
    assert arm.low is not None
    assert arm.low > 0
    assert points_of(analysis.frontier, "good")[0].time == pytest.approx(analysis.arm("good").curve[0].time)


def test_an_arm_with_one_seed_or_none_is_left_out() -> None:
    rows = study({**ARMS, "broken": lambda t, m: (t, math.nan)})
    rows = [r for r in rows if r["arm"] != "good" or r["seed"] == 3]
    analysis = analyse(Table.from_rows(rows), baseline="base")
    assert analysis.frontier is not None
    assert [arm.arm for arm in analysis.frontier.arms] == ["base", "fast"]
    assert "good is not on the frontier: 1 finished runs with seeds of base" in analysis.notes
    assert "broken is not on the frontier: 0 finished runs with seeds of base" in analysis.notes


def test_dense_logs_are_thinned() -> None:
    rows = ladder({arm: [(pace * (i + 1), math.log(i + 1)) for i in range(100)] for arm, pace in
                   (("base", 1.0), ("fast", 0.5))})  # fmt: skip
    frontier = found(rows)
    assert [p.label for p in points_of(frontier, "base")] == ["1 s", "3 s", "6 s", "16 s", "40 s", "100 s"]
    assert [p.label for p in points_of(frontier, "fast")] == [p.label for p in points_of(frontier, "base")]
    assert points_of(frontier, "fast")[-1].time == pytest.approx(50.0)


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.sampled_from([1e-3, 7.0, 1e5]))
def test_the_unit_of_time_changes_nothing(start: int, unit: float) -> None:
    rows = study(ARMS, noise=0.004, start=start, seeds=4)
    one, two = found(rows), found([{**r, "time": unit * r["time"]} for r in rows])
    assert two.reference_time == pytest.approx(unit * one.reference_time)
    assert two.hypervolume == pytest.approx(one.hypervolume)
    assert [p.probability for p in one.points] == [p.probability for p in two.points]
    for a, b in zip(one.arms, two.arms, strict=True):
        assert (a.probability, a.hypervolume, a.low, a.high, a.contribution) == pytest.approx(
            (b.probability, b.hypervolume, b.low, b.high, b.contribution), abs=1e-12
        )


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.permutations(range(5)))
def test_names_of_seeds_change_nothing(start: int, names: list[int]) -> None:
    rows = study(ARMS, noise=0.004, start=start)
    one, two = found(rows), found([{**r, "seed": names[r["seed"]]} for r in rows])
    assert [p.probability for p in one.points] == pytest.approx([p.probability for p in two.points])
    for a, b in zip(one.arms, two.arms, strict=True):
        assert (a.hypervolume, a.low, a.high, a.contribution) == pytest.approx(
            (b.hypervolume, b.low, b.high, b.contribution)
        )


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_everything_stays_in_its_range(start: int) -> None:
    frontier = found(study(ARMS, noise=0.02, start=start))
    assert any(p.on_frontier for p in frontier.points)
    for arm in frontier.arms:
        assert arm.probability is not None
        assert arm.low is not None
        assert arm.high is not None
        assert 0 <= arm.low <= arm.high <= 1
        assert 0 <= arm.contribution <= frontier.hypervolume <= 1
        assert arm.hypervolume <= frontier.hypervolume + 1e-12
        own = [p.probability or 0.0 for p in points_of(frontier, arm.arm)]
        assert max(own) <= arm.probability <= min(1.0, sum(own) + 1e-12)
