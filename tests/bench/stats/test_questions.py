from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.bench.stats.questions import MAX_BUDGETS, Study, is_at, pair_up, plain_label, pose, seed_notes, thinned
from hasten.bench.stats.schema import Budget
from hasten.bench.stats.table import Row, Table

POINTS = ((1.0, 0.5), (2.0, 0.6), (4.0, 0.7))


def rows(arms: tuple[str, ...] = ("base", "arm"), seeds: int = 3, **more: Any) -> list[dict[str, Any]]:
    return [
        {"arm": arm, "seed": seed, "point": k, "time": t, "metric": m + 0.01 * seed, **more}
        for arm in arms
        for seed in range(seeds)
        for k, (t, m) in enumerate(POINTS)
    ]


def posed(given_rows: list[dict[str, Any]], **options: Any) -> tuple[Study, list[str]]:
    defaults: dict[str, Any] = {"baseline": "base", "margin": None, "minimize": False, "inference": {}, "alpha": 0.05,
                                "budgets_labels": None, "targets": None, "chance": None}  # fmt: skip
    return pose(Table.from_rows(given_rows), **{**defaults, **options})


def test_budgets_are_the_points_of_the_baseline() -> None:
    study, notes = posed(rows())
    assert [(b.index, b.point, b.label, b.step) for b in study.budgets] == [
        (0, 0, "1 s", None), (1, 1, "2 s", None), (2, 2, "4 s", None)
    ]  # fmt: skip
    assert [b.time for b in study.budgets] == pytest.approx([1.0, 2.0, 4.0])
    assert study.points == (0, 1, 2)
    assert notes == []
    steps = [{**r, "step": 10 * (r["point"] + 1)} for r in rows()]
    assert [b.label for b in posed(steps)[0].budgets] == ["10 steps", "20 steps", "30 steps"]
    assert [b.label for b in posed(steps, budgets_labels=["a", "b", "c", "d"])[0].budgets] == ["a", "b", "c"]


def test_budgets_are_those_that_every_run_of_the_baseline_has() -> None:
    short = [r for r in rows() if (r["arm"], r["seed"], r["point"]) != ("base", 1, 2)]
    study, notes = posed(short)
    assert len(study.budgets) == 2
    assert notes == ["runs of base differ in length: budgets are among the 2 points that all have"]
    other = [r for r in rows() if (r["arm"], r["seed"], r["point"]) != ("arm", 1, 2)]
    assert len(posed(other)[0].budgets) == 3


def test_steps_that_seeds_do_not_share_leave_seconds() -> None:
    uneven = [{**r, "step": 10 * (r["point"] + 1) + r["seed"] * (r["point"] == 1)} for r in rows()]
    assert [(b.step, b.label) for b in posed(uneven)[0].budgets] == [(10, "10 steps"), (None, "2 s"), (30, "30 steps")]


@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=60, unique=True).map(sorted))
def test_thinning_keeps_the_ends(times: list[float]) -> None:
    kept = thinned(times)
    assert kept == sorted(set(kept))
    assert len(kept) <= MAX_BUDGETS
    assert (kept[0], kept[-1]) == (0, len(times) - 1)
    assert len(kept) == len(times) or len(times) > MAX_BUDGETS


def test_thinning_is_even_in_log_time() -> None:
    assert thinned(np.arange(1.0, 101.0)) == [0, 2, 5, 15, 39, 99]
    assert thinned([2.0**k for k in range(11)]) == [0, 2, 4, 6, 8, 10]


def test_targets_go_from_easy_to_hard() -> None:
    study, _ = posed(rows())
    assert [t.fraction for t in study.targets] == [0.5, 0.9, 1.0]
    assert [t.quality for t in study.targets] == pytest.approx([0.61, 0.69, 0.71])
    assert [t.label for t in study.targets] == [
        "0.61 (50 % of the gain)", "0.69 (90 % of the gain)", "0.71 (100 % of the gain)"
    ]  # fmt: skip
    assert posed(rows(), chance=0.11)[0].qualities == pytest.approx((0.41, 0.65, 0.71))
    given_, _ = posed(rows(), targets=[0.7, 0.6])
    assert [(t.index, t.label, t.fraction) for t in given_.targets] == [(0, "0.6", None), (1, "0.7", None)]
    losses = [{**r, "metric": r["metric"] - 1} for r in rows()]
    study, _ = posed(losses, minimize=True, targets=[0.3, 0.4])
    assert ([t.quality for t in study.targets], study.qualities, study.sign) == ([0.4, 0.3], (-0.4, -0.3), -1.0)


def test_a_baseline_that_gains_nothing_asks_for_no_target() -> None:
    study, notes = posed([{**r, "metric": 0.5} for r in rows()])
    assert (study.targets, study.questions) == ((), 3)
    assert notes == ["base gains nothing along its curve: there is no target quality and no speedup to read"]


def test_the_family_counts_every_question() -> None:
    assert posed(rows(("base", "a", "b")))[0].questions == 2 * (3 + 3)
    assert posed(rows(("base", "a", "b")), targets=[0.6])[0].questions == 2 * (3 + 1)


@pytest.mark.parametrize(
    ("change", "options", "margin", "source"),
    [
        (lambda m: m, {}, 0.002, "default 0.002"),
        (lambda m: m, {"margin": 0.0}, 0.0, "given"),
        (lambda m: 100 * m, {}, 0.25, "0.25 sd of the baseline's seeds"),  # sd of 70, 71, 72 is 1
        (lambda m: m - 1, {"minimize": True}, 0.0025, "0.25 sd of the baseline's seeds"),
    ],
)
def test_margin(change: Any, options: dict[str, Any], margin: float, source: str) -> None:
    study, _ = posed([{**r, "metric": change(r["metric"])} for r in rows()], **options)
    assert (study.margin, study.margin_source) == (pytest.approx(margin), source)


def test_margin_is_the_baselines_business() -> None:
    wild = [{**r, "metric": 7.0 if r["arm"] == "arm" else r["metric"]} for r in rows()]
    assert posed(wild)[0].margin == 0.002
    one = [{**r, "metric": 100 * r["metric"]} for r in rows(seeds=1)]
    assert (posed(one)[0].margin, posed(one)[0].margin_source) == (None, "none: one baseline seed has no sd")


def test_a_failed_run_is_named_and_counts_as_none() -> None:
    bad = [{**r, "metric": math.nan if (r["arm"], r["seed"], r["point"]) == ("base", 1, 2) else r["metric"]}
           for r in rows()]  # fmt: skip
    study, notes = posed(bad)
    assert (list(study.base.finished), study.base.failed) == ([0, 2], (1,))
    assert notes == ["base: 1 of 3 runs failed (seeds 1): misses, in no interval"]


def test_pairs_share_seeds() -> None:
    table = [r for r in rows() if (r["arm"], r["seed"]) != ("arm", 1)]
    study, notes = posed(table)
    pair = pair_up(study, study.others[0], notes)
    assert pair is not None
    assert pair.seeds == (0, 2)
    assert pair.base.best.shape == pair.curves.best.shape == (2, 3)
    assert pair.steps.lower.tolist() == [[0.0] * 3] * 2
    assert notes == ["arm: seeds 1 of base were not run and are left out"]


def test_equal_steps_are_unknown_where_a_run_lacks_the_point() -> None:
    table = [r for r in rows() if (r["arm"], r["seed"], r["point"]) != ("arm", 1, 2)]
    study, notes = posed(table)
    pair = pair_up(study, study.others[0], notes)
    assert pair is not None
    assert pair.steps.lower[1, 2] == -math.inf
    assert pair.steps.upper[1, 2] == math.inf
    assert np.isfinite(pair.steps.lower[[0, 2]]).all()


def test_the_step_of_the_metric_is_that_of_the_pair() -> None:
    table = [{**r, "metric": round(r["metric"], 1)} for r in rows(("base", "a", "b"))]
    table = [{**r, "metric": r["metric"] + 0.001 * r["seed"] * (r["arm"] == "b")} for r in table]
    study, notes = posed(table)
    steps = [pair_up(study, arm, notes) for arm in study.others]
    assert [s.resolution if s else None for s in steps] == [pytest.approx(0.1), pytest.approx(0.001)]


def test_points_of_a_budget() -> None:
    row = Row("base", 0, 2, 1.0, 0.5, step=30.0)
    assert is_at(row, Budget(0, 9, "", 30.0, 1.0))
    assert not is_at(row, Budget(0, 2, "", 20.0, 1.0))
    assert is_at(row, Budget(0, 2, "", None, 1.0))
    assert (plain_label(448.0, 3.14159), plain_label(None, 3.14159)) == ("448 steps", "3.14 s")


def test_notes_on_few_seeds() -> None:
    assert seed_notes([6, 10]) == []
    assert seed_notes([5, 5]) == ["n = 5: the smallest possible sign-flip p is 0.0625"]
    assert seed_notes([3, 2]) == [
        "n = 2: nothing is proven with fewer than 3 seeds; smoke only",
        "n = 3: interval is rough; read the min-max band beside it",
        "n = 3: the smallest possible sign-flip p is 0.25",
    ]
