from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.bench.stats.studies import Change, Rows, same, study

from hasten.bench.stats import Analysis, Table, analyse
from hasten.bench.stats.intervals import paired_t
from hasten.bench.stats.schema import Interaction

METHODS = {"base": [], "a": ["x"], "b": ["y"], "both": ["x", "y"]}
TARGETS = [0.76, 0.80]


def shift(gain: float, speedup: float = 1.0) -> Change:
    return lambda time, metric: (time / speedup, metric + gain)


def cells(rows: Rows, methods: Any = METHODS, **options: Any) -> tuple[Interaction, ...]:
    return found(rows, methods, **options).interactions


def found(rows: Rows, methods: Any = METHODS, **options: Any) -> Analysis:
    return analyse(Table.from_rows(rows), baseline="base", methods=methods, targets=TARGETS, **options)


def of(records: tuple[Interaction, ...], kind: str, axis: str, method: str = "") -> list[Interaction]:
    return [r for r in records if (r.kind, r.axis, r.method) == (kind, axis, method)]


def test_gains_that_add_up_do_not_interact() -> None:
    rows = study({"base": same, "a": shift(0.01), "b": shift(0.02), "both": shift(0.03)})
    for record in of(cells(rows), "pair", "budget"):
        assert (record.value, record.low, record.high) == (pytest.approx(0, abs=1e-15),) * 3
        assert (record.bound, record.n, record.reason, record.arm, record.parts) == ("", 5, "", "both", ("a", "b"))


def test_a_planted_interaction_is_found_at_every_budget() -> None:
    rows = study({"base": same, "a": shift(0.01), "b": shift(0.02), "both": shift(0.034)}, noise=1e-4)
    records = of(cells(rows), "pair", "budget")
    assert [r.label for r in records] == ["96 steps", "224 steps", "480 steps", "992 steps"]
    assert [r.index for r in records] == [0, 1, 2, 3]
    for record in records:
        assert record.value == pytest.approx(0.004, abs=5e-4)
        assert record.low is not None
        assert record.p is not None
        assert record.low > 0
        assert record.p < 0.01


def test_speedups_that_multiply_have_the_factor_one() -> None:
    rows = study({"base": same, "a": shift(0, 1.3), "b": shift(0, 1.1), "both": shift(0, 1.43)})
    for record in of(cells(rows), "pair", "target"):
        assert (record.value, record.low, record.high) == (pytest.approx(1.0, rel=1e-12),) * 3
        assert (record.axis, record.bound) == ("target", "")
    rows = study({"base": same, "a": shift(0, 1.3), "b": shift(0, 1.1), "both": shift(0, 1.3)})
    for record in of(cells(rows), "pair", "target"):
        assert record.value == pytest.approx(1 / 1.1, rel=1e-12)  # the second method adds nothing to the first


def test_leaving_out_shows_the_effect_inside_the_recipe() -> None:
    rows = study({"base": same, "a": shift(0.01, 1.2), "b": shift(0.02), "both": shift(0.025, 1.2)})
    records = cells(rows)
    assert {(r.kind, r.method) for r in records} == {("pair", ""), ("left_out", "x"), ("left_out", "y")}
    for record in of(records, "left_out", "budget", "y"):
        assert record.value == pytest.approx(0.015)  # and not the 0.02 of y alone
        assert (record.arm, record.parts) == ("both", ("a",))
    rows = study({"base": same, "a": shift(0, 1.2), "b": shift(0, 1.5), "both": shift(0, 1.3)})
    assert [r.value for r in of(cells(rows), "left_out", "target", "x")] == pytest.approx([1.3 / 1.5] * 2)


def test_intervals_are_paired_over_the_common_seeds() -> None:
    rows = study({"base": same, "a": shift(0.01), "b": shift(0.02), "both": shift(0.03)}, noise=0.003)
    rows = [{**r, "time": float(r["step"])} for r in rows if (r["arm"], r["seed"]) not in {("a", 1), ("b", 3)}]
    at = {(r["arm"], r["seed"], r["point"]): r["metric"] for r in rows}
    expected = paired_t([at["both", s, 0] - at["a", s, 0] - at["b", s, 0] + at["base", s, 0] for s in (0, 2, 4)])
    record = of(cells(rows), "pair", "budget")[0]
    assert record.n == 3
    for name in ("low", "high", "p"):
        assert getattr(record, name) == pytest.approx(float(getattr(expected, name)))
    assert record.value == pytest.approx(float(expected.mean))


def test_with_one_clock_the_contrast_is_that_of_the_gains() -> None:
    rows = study({"base": same, "a": shift(0.01), "b": shift(0.02), "both": shift(0.03)}, noise=0.002)
    analysis = found(rows)
    gains = {name: [e.value for e in analysis.arm(name).budgets] for name in ("a", "b", "both")}
    for record in of(analysis.interactions, "pair", "budget"):
        both, a, b = (gains[name][record.index] for name in ("both", "a", "b"))
        assert both is not None
        assert a is not None
        assert b is not None
        assert record.value == pytest.approx(both - a - b)
    speedups = {name: [e.value for e in analysis.arm(name).targets] for name in ("a", "b", "both")}
    for record in of(analysis.interactions, "pair", "target"):
        both, a, b = (speedups[name][record.index] for name in ("both", "a", "b"))
        assert both is not None
        assert a is not None
        assert b is not None
        assert record.value == pytest.approx(both / a / b)


def test_what_a_curve_does_not_cover_is_a_bound_with_its_reason() -> None:
    rows = study({"base": same, "a": shift(0.0), "b": shift(0.0), "both": shift(0.05, 2.0)})
    first, *_, last = of(cells(rows), "pair", "budget")
    assert (last.bound, last.low, last.high, last.p) == (">=", None, None, None)
    assert last.value == pytest.approx(0.05)
    assert last.reason == "not covered by the curves of both (5 of 5 runs)"
    assert first.bound == ""
    # an arm that is left out of the sum with a minus turns the bound around
    rows = study({"base": same, "a": shift(0.05, 2.0), "b": shift(0.0), "both": shift(0.0)})
    last = of(cells(rows), "pair", "budget")[-1]
    assert (last.bound, last.value) == ("<=", pytest.approx(-0.05))
    # the plus and the minus of two open arms leave nothing known
    rows = study({"base": same, "a": shift(0.0, 2.0), "b": shift(0.0), "both": shift(0.0, 2.0)})
    last = of(cells(rows), "pair", "budget")[-1]
    assert (last.bound, last.value) == ("?", None)
    assert last.reason == "not covered by the curves of both (5 of 5 runs), a (5 of 5 runs)"


def test_a_target_that_one_arm_never_reaches() -> None:
    rows = study({"base": same, "a": shift(0.01), "b": shift(-0.05), "both": shift(0.02)})
    easy, hard = of(cells(rows), "pair", "target")
    assert easy.bound == ""
    assert hard.bound == ">="  # b is slower than can be said, so its speedup is smaller and the rest larger
    assert hard.reason == "not covered by the curves of b (5 of 5 runs)"
    assert hard.value is not None
    assert hard.value > 1


def test_few_seeds_and_none() -> None:
    arms = {"base": same, "a": shift(0.01), "b": shift(0.02), "both": shift(0.03)}
    two = of(cells(study(arms, seeds=2, noise=1e-3)), "pair", "budget")[0]
    assert (two.n, two.reason) == (2, "n = 2: fewer than 3 seeds")
    assert two.p is not None
    one = of(cells(study(arms, seeds=1)), "pair", "budget")[0]
    assert (one.n, one.low, one.high, one.p) == (1, None, None, None)
    rows = study(arms, seeds=4)
    rows = [r for r in rows if r["arm"] in ("base", "both") or (r["seed"] < 2) == (r["arm"] == "a")]
    nothing = of(cells(rows), "pair", "budget")
    assert [(r.value, r.bound, r.n) for r in nothing] == [(None, "?", 0)] * 4
    assert nothing[0].reason == "no seed has finished runs of all these arms"


def test_no_design_and_no_methods() -> None:
    rows = study({"base": same, "a": shift(0.01)})
    assert cells(rows, {"base": [], "a": ["x"]}) == ()
    assert cells(rows, None) == ()
    assert cells(rows, {**METHODS, "not run yet": ["z"]}) == ()
    with pytest.raises(ValueError, match="methods of every arm, got none of a. Write an empty list"):
        cells(rows, {"base": [], "aa": ["x"]})


def test_they_stand_outside_of_the_family() -> None:
    rows = study({"base": same, "a": shift(0.01), "b": shift(0.02), "both": shift(0.03)}, noise=0.002)
    one, two = found(rows).to_json(), found(rows, None).to_json()
    interactions = one.pop("interactions")
    assert two.pop("interactions") == []
    assert one == two
    assert "verdict" not in interactions[0]
    assert set(interactions[0]) == set(Interaction.__dataclass_fields__)
    json.dumps(interactions, allow_nan=False)


def test_a_metric_that_counts_has_a_floor_under_its_spread() -> None:
    rows = [
        {**r, "metric": round(r["metric"] * 100) / 100}
        for r in study({"base": same, "a": shift(0.0), "b": shift(0.0), "both": shift(0.01)}, noise=0.002)
    ]
    for record in of(cells(rows), "pair", "budget"):
        assert record.low is not None
        assert record.high is not None
        # four rounding errors of 0.01 / sqrt(12) each
        least = 2.776 * 0.01 / math.sqrt(3) / math.sqrt(5)
        assert (record.high - record.low) / 2 >= least - 1e-4


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.sampled_from([1e-3, 60.0]), st.permutations(range(5)))
def test_units_of_time_and_names_of_seeds_change_nothing(start: int, unit: float, names: list[int]) -> None:
    arms = {"base": same, "a": shift(0.01, 1.2), "b": shift(0.02, 0.9), "both": shift(0.02, 1.1)}
    rows = study(arms, noise=0.003, start=start)
    moved = [{**r, "time": unit * r["time"], "seed": names[r["seed"]]} for r in rows]
    for one, two in zip(cells(rows), cells(moved), strict=True):
        assert (one.bound, one.n, one.reason) == (two.bound, two.n, two.reason)
        for name in ("value", "low", "high", "p"):
            a, b = getattr(one, name), getattr(two, name)
            assert (a is None) == (b is None)
            assert a is None or a == pytest.approx(b, rel=1e-7, abs=1e-9)


def test_without_targets_there_are_budgets_only() -> None:
    rows = [r for r in study({"base": same, "a": shift(0.01), "b": shift(0.02), "both": shift(0.03)}) if not r["point"]]
    analysis = analyse(Table.from_rows(rows), baseline="base", methods=METHODS)
    assert analysis.targets == ()
    assert [(r.kind, r.axis, r.index) for r in analysis.interactions] == [
        ("pair", "budget", 0), ("left_out", "budget", 0), ("left_out", "budget", 0)
    ]  # fmt: skip
