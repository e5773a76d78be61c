from __future__ import annotations

import json
import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.bench.stats.studies import Change, same, study

from hasten.bench.stats import Table, analyse
from hasten.bench.stats.schema import Analysis, Effect


def halved(time: float, metric: float) -> tuple[float, float]:
    return time / 2, metric


def better(time: float, metric: float) -> tuple[float, float]:
    return time, metric + 0.02


def analysed(arms: dict[str, Change], **options: Any) -> Analysis:
    return analyse(Table.from_rows(study({"base": same, **arms})), baseline="base", **options)


def exact(effects: tuple[Effect, ...]) -> list[Effect]:
    return [effect for effect in effects if effect.bound == ""]


def test_halved_times_are_a_speedup_of_two_everywhere() -> None:
    arm = analysed({"fast": halved}).arm("fast")
    answered = exact(arm.targets)
    assert len(answered) == 2
    for effect in answered:
        assert (effect.value, effect.low, effect.high) == (pytest.approx(2.0, rel=1e-12),) * 3
        assert (effect.verdict, effect.p, effect.p_holm) == ("pays", 0.0, 0.0)
        assert effect.p_sign_flip == effect.p_sign_flip_smallest == 0.0625
    curve = arm.speedup_curve
    assert curve is not None
    known = [(s, lo, hi) for s, lo, hi in zip(curve.speedup, curve.low, curve.high, strict=True) if s is not None]
    assert len(known) > 20
    assert np.array(known) == pytest.approx(2.0, rel=1e-12)
    assert arm.overall is not None
    assert (arm.overall.speedup, arm.overall.low, arm.overall.high) == (pytest.approx(2.0, rel=1e-12),) * 3
    assert (arm.verdict, arm.plain) == ("pays", True)
    assert arm.sentence.startswith("pays at targets ≤ ")
    top = arm.targets[2]
    assert top.mean_curve is not None
    assert (top.mean_curve.speedup, top.mean_curve.low, top.mean_curve.high) == (pytest.approx(2.0, rel=1e-9),) * 3


def test_half_the_baseline_never_reaches_its_own_mean() -> None:
    top = analysed({"fast": halved}).arm("fast").targets[2]
    assert top.label.endswith("(100 % of the gain)")
    assert (top.bound, top.value, top.verdict, top.p, top.p_holm) == ("?", None, "not proven", None, 1.0)
    assert "baseline runs never reach" in top.reason
    assert [s is None for s in top.per_seed].count(True) in (1, 2, 3, 4)


def test_the_same_runs_are_a_tie() -> None:
    arm = analysed({"copy": same}).arm("copy")
    assert (arm.verdict, arm.sentence) == ("tie", "tie: the same values in every run that could be compared.")
    assert [e.verdict for e in arm.budgets + arm.targets + arm.accuracy] == ["tie"] * 11
    assert [e.value for e in arm.targets] == [1.0, 1.0, 1.0]
    assert [(e.value, e.low, e.high) for e in arm.budgets] == [(0.0, 0.0, 0.0)] * 4
    assert all(e.no_loss for e in arm.budgets + arm.accuracy)


def test_a_better_metric_pays_at_equal_time_and_is_better_at_equal_steps() -> None:
    arm = analysed({"good": better}).arm("good")
    assert [e.verdict for e in arm.budgets] == ["pays"] * 4
    assert [e.verdict for e in arm.accuracy] == ["better"] * 4
    assert [e.value for e in arm.accuracy] == pytest.approx([0.02] * 4)
    assert all(e.value is not None and e.value > 1 for e in exact(arm.targets))
    assert [e.label for e in arm.budgets] == ["96 steps", "224 steps", "480 steps", "992 steps"]


def test_golden_from_the_specification() -> None:
    rows = []
    for seed in range(3):
        for arm, add in (("base", 0), ("arm", 1)):
            rows += [{"arm": arm, "seed": seed, "time": t, "metric": m + add} for t, m in ((1, 70), (2, 72), (4, 74))]
    found = analyse(Table.from_rows(rows), baseline="base", targets=[72.0], margin=0.5)
    (target,) = found.arm("arm").targets
    assert target.value == pytest.approx(math.sqrt(2), rel=1e-12)
    assert (target.low, target.high, target.verdict) == (
        pytest.approx(math.sqrt(2)),
        pytest.approx(math.sqrt(2)),
        "pays",
    )
    assert [e.value for e in found.arm("arm").budgets] == [1.0, 1.0, 1.0]
    assert (found.margin, found.margin_source) == (0.5, "given")
    # the metric counts in whole steps of 1: three times +1 is not proof, see intervals.paired_t
    assert [e.verdict for e in found.arm("arm").budgets] == ["not proven"] * 3


def test_censoring_reports_a_bound_and_no_verdict() -> None:
    found = analysed({"good": better}, targets=[0.835, 0.78])
    assert [t.quality for t in found.targets] == [0.78, 0.835]
    easy, hard = found.arm("good").targets
    assert easy.bound == ""
    assert (hard.bound, hard.verdict, hard.low, hard.high) == (">=", "not proven", None, None)
    assert hard.value is not None
    assert hard.value > 1
    assert hard.reason.startswith("5 of 5 baseline runs never reach 0.835")


def test_a_faster_arm_has_bounds_at_the_last_budget_and_a_slower_one_at_the_first() -> None:
    found = analysed({"fast": halved, "slow": lambda t, m: (2 * t, m)})
    last = found.arm("fast").budgets[3]
    assert (last.bound, last.reason) == (">=", "a run of the arm ends before this time: at least this gain")
    first = found.arm("slow").budgets[0]
    assert (first.bound, first.verdict) == ("<=", "not proven")  # the same first value: no gain, no proven loss
    assert found.arm("slow").verdict == "costs"
    near = analysed({"near": lambda t, m: (1.1 * t, m)}).arm("near").budgets[0]
    assert near.bound == ""
    assert near.reason.startswith("read at ")


def test_minimized_metrics_keep_their_sign_in_print() -> None:
    rows = [{**row, "metric": row["metric"] - 1} for row in study({"base": same, "good": better})]
    found = analyse(Table.from_rows(rows), baseline="base", minimize=True)
    plain = analysed({"good": better})
    assert [t.quality for t in found.targets] == pytest.approx([1 - t.quality for t in plain.targets])
    assert [p.metric for p in found.arm("base").curve] == pytest.approx([1 - p.metric for p in plain.arm("base").curve])
    assert [e.value for e in found.arm("good").budgets] == pytest.approx([e.value for e in plain.arm("good").budgets])
    assert "targets ≥" in found.arm("good").sentence  # the easy ones: a larger loss
    assert found.margin_source == "0.25 sd of the baseline's seeds"
    given = analyse(Table.from_rows(rows), baseline="base", minimize=True, targets=[0.2, 0.25])
    assert [t.quality for t in given.targets] == [0.25, 0.2]


def test_dearer_inference_is_never_a_plain_pays() -> None:
    arm = analysed({"fast": halved}, inference={"fast": 1.4}).arm("fast")
    assert (arm.verdict, arm.plain, arm.inference_ratio) == ("pays", False, 1.4)
    assert arm.sentence.startswith("pays in training time at ")
    assert arm.sentence.endswith("but inference costs 1.40x.")


def test_failed_runs_are_misses_with_a_note() -> None:
    rows = study({"base": same, "fast": halved})
    for row in rows:
        if row["arm"] == "fast" and row["seed"] == 1 and row["point"] == 2:
            row["metric"] = math.nan
    found = analyse(Table.from_rows(rows), baseline="base")
    arm = found.arm("fast")
    assert (arm.seeds, arm.failed, arm.plain, arm.verdict) == ((0, 2, 3, 4), (1,), False, "pays")
    assert "1 of its runs failed" in arm.sentence
    assert "fast: 1 of 5 runs failed (seeds 1): misses, in no interval" in found.notes
    assert "n = 4: interval is rough; read the min-max band beside it" in found.notes


def test_failed_runs_of_the_baseline_take_their_partners_along() -> None:
    rows = [{**r, "metric": math.nan} if (r["arm"], r["seed"]) == ("base", 2) else r
            for r in study({"base": same, "fast": halved})]  # fmt: skip
    found = analyse(Table.from_rows(rows), baseline="base")
    assert found.arm("fast").seeds == (0, 1, 3, 4)
    assert found.arm("fast").failed == ()
    assert found.notes[:2] == (
        "base: 1 of 5 runs failed (seeds 2): misses, in no interval",
        "fast: seeds 2 have no finished run of base and are left out",
    )


def test_an_arm_that_always_fails_does_not_end_the_study() -> None:
    rows = study({"base": same, "broken": lambda t, m: (t, math.inf), "fast": halved})
    found = analyse(Table.from_rows(rows), baseline="base")
    assert found.arm("broken").verdict == "not proven"
    assert found.arm("broken").sentence == "not proven: no seed has a finished run of both arms."
    assert found.arm("fast").verdict == "pays"
    assert found.questions == 14
    assert [arm.name for arm in found.arms] == ["base", "broken", "fast"]
    json.dumps(found.to_json(), allow_nan=False)


def test_seeds_are_paired_with_a_note() -> None:
    rows = [r for r in study({"base": same, "fast": halved}) if (r["arm"], r["seed"]) not in {("fast", 0), ("base", 4)}]
    found = analyse(Table.from_rows(rows), baseline="base")
    assert found.arm("fast").seeds == (1, 2, 3)
    assert "fast: seeds 4 have no finished run of base and are left out" in found.notes
    assert "fast: seeds 0 of base were not run and are left out" in found.notes


def test_two_seeds_prove_nothing() -> None:
    found = analyse(Table.from_rows(study({"base": same, "fast": halved}, seeds=2)), baseline="base")
    arm = found.arm("fast")
    assert (arm.verdict, arm.sentence) == ("not proven", "not proven (n = 2): a verdict needs 3 seed pairs.")
    assert {e.verdict for e in arm.budgets + arm.targets + arm.accuracy} == {"not proven"}
    assert "n = 2: nothing is proven with fewer than 3 seeds; smoke only" in found.notes
    one = analyse(Table.from_rows(study({"base": same, "fast": halved}, seeds=1)), baseline="base")
    assert {e.verdict for e in one.arm("fast").budgets} == {"not proven"}
    for effect in (one.arm("fast").budgets[0], one.arm("fast").targets[0]):
        assert effect.value is not None
        assert (effect.low, effect.high, effect.p, effect.mde) == (None, None, None, None)
    assert arm.targets[0].p == 0.0  # known, but not a verdict
    assert arm.targets[0].p_holm == 1.0


def test_one_point_curves_compare_metrics_and_read_no_speedup() -> None:
    rows = [r for r in study({"base": same, "good": better}) if r["point"] == 0]
    found = analyse(Table.from_rows(rows), baseline="base")
    assert found.targets == ()
    assert "there is no target quality and no speedup to read" in found.notes[0]
    arm = found.arm("good")
    assert arm.accuracy[0].verdict == "better"
    assert (arm.overall, arm.targets) == (None, ())
    assert arm.speedup_curve is not None
    assert set(arm.speedup_curve.speedup) == {None}


def test_dense_logs_ask_six_budgets() -> None:
    rows = [
        {"arm": arm, "seed": seed, "time": (i + 1) * pace, "metric": math.log(i + 1) + 0.01 * seed}
        for arm, pace in (("base", 1.0), ("fast", 0.5))
        for seed in range(3)
        for i in range(100)
    ]
    found = analyse(Table.from_rows(rows), baseline="base")
    assert [b.label for b in found.budgets] == ["1 s", "3 s", "6 s", "16 s", "40 s", "100 s"]
    assert "has 100 points: 6 of them" in found.notes[0]
    assert found.arm("fast").verdict == "pays"


def test_steps_that_an_arm_does_not_have_give_no_accuracy_answer() -> None:
    rows = study({"base": same, "short": halved})
    for row in rows:
        if row["arm"] == "short":
            row["step"] = row["step"] // 2
    short = analyse(Table.from_rows(rows), baseline="base").arm("short")
    assert {(e.bound, e.verdict) for e in short.accuracy} == {("?", "not proven")}
    assert short.accuracy[0].reason == "a run of a pair has no point at this budget"
    assert short.accuracy[0].per_seed == (None,) * 5
    assert short.verdict == "pays"


def test_chance_moves_the_targets() -> None:
    found = analysed({"fast": halved}, chance=0.1)
    last = float(np.mean([max(run.metric) for run in found.arm("base").runs]))
    assert [t.quality for t in found.targets] == pytest.approx([0.1 + f * (last - 0.1) for f in (0.5, 0.9, 1.0)])
    half = found.arm("fast").targets[0]  # 0.46: every run is above it at its first point
    assert (half.bound, half.value) == ("?", None)
    assert "5 of 5 baseline runs are above" in half.reason


def test_sensitivity_is_the_slope_of_the_baseline() -> None:
    arm = analysed({"fast": halved}, margin=0.002).arm("fast")
    low, high = arm.targets[0].sensitivity, arm.targets[1].sensitivity
    assert low is not None
    assert high is not None
    assert 1.0 < low < high  # the same bias of the metric costs more near the plateau


def test_minimum_detectable_effects_are_printed_at_both_levels() -> None:
    found = analyse(Table.from_rows(study({"base": same, "copy": same}, noise=0.004)), baseline="base")
    for effect in found.arm("copy").budgets:
        assert effect.mde is not None
        assert effect.mde_family is not None
        assert 0 < effect.mde < effect.mde_family


def test_labels_and_workload() -> None:
    labels = ["3 epochs", "7 epochs", "15 epochs", "31 epochs"]
    found = analysed({"fast": halved}, budgets_labels=labels)
    assert [b.label for b in found.budgets] == labels
    assert [e.label for e in found.arm("fast").budgets] == labels


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"baseline": "bas"}, "Did you mean base"),
        ({"budgets_labels": ["3 epochs"]}, "4 budgets_labels, one per point of base"),
        ({"inference": {"fsat": 1.2}}, "Did you mean fast"),
        ({"inference": {"fast": 0.0}}, r"inference\['fast'\] > 0"),
        ({"margin": -0.1}, "margin >= 0"),
        ({"targets": [math.nan]}, "a finite number for targets"),
        ({"alpha": 2.0}, "alpha in"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        analyse(Table.from_rows(study({"base": same, "fast": halved})), **{"baseline": "base", **options})


def test_bad_tables() -> None:
    rows = study({"base": same, "fast": halved})
    with pytest.raises(ValueError, match="an arm besides the baseline"):
        analyse(Table.from_rows([r for r in rows if r["arm"] == "base"]), baseline="base")
    with pytest.raises(ValueError, match="a table of one workload, got a, b"):
        analyse(Table.from_rows([{**r, "workload": "ab"[r["seed"] % 2]} for r in rows]), baseline="base")
    apart = [{**r, "seed": r["seed"] + 10 * (r["arm"] == "fast")} for r in rows]
    with pytest.raises(
        ValueError, match="seeds that 'base' and 'fast' share, got none. Pairs are runs with the same seed"
    ):
        analyse(Table.from_rows(apart), baseline="base")
    failed = [{**r, "metric": math.nan if r["arm"] == "base" else 1.0} for r in rows]
    with pytest.raises(ValueError, match="a finished run of 'base', got only failed runs"):
        analyse(Table.from_rows(failed), baseline="base")


NOISY = {"base": same, "fast": lambda t, m: (0.8 * t, m + 0.004), "slow": lambda t, m: (1.3 * t, m + 0.01)}


def verdicts_of(found: Analysis) -> list[tuple[str, str, list[str]]]:
    return [(a.name, a.verdict, [e.verdict for e in a.budgets + a.targets + a.accuracy]) for a in found.arms]


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.sampled_from([1e-3, 7.0, 1e5]))
def test_the_unit_of_time_changes_nothing(start: int, unit: float) -> None:
    rows = study(NOISY, noise=0.003, start=start)
    one = analyse(Table.from_rows(rows), baseline="base")
    two = analyse(Table.from_rows([{**r, "time": r["time"] * unit} for r in rows]), baseline="base")
    assert verdicts_of(one) == verdicts_of(two)
    for name in ("fast", "slow"):
        for a, b in zip(one.arm(name).targets, two.arm(name).targets, strict=True):
            assert (a.bound, a.value) == (b.bound, None if b.value is None else pytest.approx(b.value, rel=1e-9))


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.floats(0.5, 200), st.floats(-5, 5))
def test_the_unit_of_the_metric_changes_no_speedup(start: int, scale: float, shift: float) -> None:
    rows = study(NOISY, noise=0.003, start=start)
    one = analyse(Table.from_rows(rows), baseline="base", margin=0.002)
    moved = [{**r, "metric": scale * r["metric"] + shift} for r in rows]
    two = analyse(Table.from_rows(moved), baseline="base", margin=0.002 * scale)
    assert verdicts_of(one) == verdicts_of(two)
    for a, b in zip(one.arm("fast").targets, two.arm("fast").targets, strict=True):
        assert (a.bound, a.value) == (b.bound, None if b.value is None else pytest.approx(b.value, rel=1e-6))


@settings(max_examples=10)
@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(start: int, order: random.Random) -> None:
    rows = study(NOISY, noise=0.003, start=start)
    shuffled = rows[1:]
    order.shuffle(shuffled)
    arms = ["base", "fast", "slow"]
    one = analyse(Table.from_rows(rows), baseline="base")
    two = analyse(Table.from_rows(sorted([rows[0], *shuffled], key=lambda r: arms.index(r["arm"]))), baseline="base")
    assert one.to_json() == two.to_json()


@settings(max_examples=10)
@given(st.integers(0, 10_000), st.permutations(range(5)))
def test_renaming_seeds_jointly_changes_no_verdict(start: int, names: list[int]) -> None:
    rows = study(NOISY, noise=0.003, start=start)
    renamed = [{**r, "seed": names[r["seed"]]} for r in rows]
    one, two = (analyse(Table.from_rows(r), baseline="base") for r in (rows, renamed))
    assert verdicts_of(one) == verdicts_of(two)
    for a, b in zip(one.arm("fast").budgets, two.arm("fast").budgets, strict=True):
        assert (a.value, a.p) == (pytest.approx(b.value), pytest.approx(b.p))


def test_json_is_plain_and_says_the_same_every_time() -> None:
    rows = study(NOISY, noise=0.003)
    one, two = (json.dumps(analyse(Table.from_rows(rows), baseline="base").to_json(), allow_nan=False) for _ in "ab")
    assert one == two
    found = json.loads(one)
    assert found["version"] == 2
    assert set(found["arms"][1]["targets"][0]) == set(Effect.__dataclass_fields__)
    assert found["ties"][0][0][0] == "slow"
    curve = found["arms"][0]["curve"][1]
    runs = [run["metric"][1] for run in found["arms"][0]["runs"]]
    assert curve["metric"] == pytest.approx(np.mean(runs))
    assert (curve["minimum"], curve["maximum"], curve["n"], curve["step"]) == (min(runs), max(runs), 5, 224.0)
