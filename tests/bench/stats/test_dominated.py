"""What an arm that is worse than the baseline in every respect changes for the others: as little as can be.

Two cases. An arm that is *clearly* worse (every question answered "costs" or "worse" with a tiny p) leaves the
decisions of all other arms as they are. An arm that is worse but *not proven* so makes the family larger, so others
may lose a verdict and never gain or turn one.

What legitimately moves, and nothing else: the sizes of the families (`questions`, `accuracy_questions`), adjusted
p-values (`p_holm`: up only), effects detectable in the larger family (`mde_family`: up only), the non-inferiority
answer `no_loss` (True -> False only: the arm's own loss is one more that is not excluded), tie groups (the new arm
is in them), and the records and notes of the new arm itself.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.bench.stats.studies import Change, Rows, same, study

from hasten.bench.stats import Analysis, Table, analyse
from hasten.bench.stats.schema import Effect, Frontier

TARGETS = [0.74, 0.76]
METHODS = {"base": [], "fast": ["x"], "slow": ["y"], "both": ["x", "y"], "worse": ["z"]}
NOISY: dict[str, Change] = {
    "base": same,
    "fast": lambda t, m: (0.8 * t, m + 0.004),
    "slow": lambda t, m: (1.3 * t, m + 0.01),
    "both": lambda t, m: (t, m + 0.012),
}
EXACT: dict[str, Change] = {"base": same, "fast": lambda t, m: (0.8 * t, m), "copy": same}
STUDIES = {"noisy": (NOISY, 0.003), "noisier": (NOISY, 0.006), "exact": (EXACT, 0.0)}


def worse(rows: Rows, name: str = "worse", loss: float = 0.03, slow: float = 1.6, jitter: float = 1e-5) -> Rows:
    """Copies of the baseline's runs with a loss, slower; the jitter differs by seed and point."""
    return [
        {**r, "arm": name, "metric": r["metric"] - loss - jitter * ((7 * r["seed"] + 3 * r["point"]) % 5),
         "time": slow * r["time"] * (1 + jitter * (r["seed"] % 3))}
        for r in rows
        if r["arm"] == "base"
    ]  # fmt: skip


def analysed(rows: Rows) -> Analysis:
    names = {r["arm"] for r in rows}
    methods = {**{name: [name] for name in names}, **METHODS}
    return analyse(Table.from_rows(rows), baseline="base", targets=TARGETS, methods=methods)


def effects(found: Analysis, name: str) -> list[Effect]:
    arm = found.arm(name)
    return [*arm.budgets, *arm.targets, *arm.accuracy]


def assert_same_readings(before: Analysis, after: Analysis) -> None:
    """Everything about the other arms that is not a decision of a family."""
    for arm in before.arms:
        new = after.arm(arm.name)
        strip = {"budgets": (), "targets": (), "accuracy": (), "verdict": "", "sentence": ""}
        assert replace(arm, **strip) == replace(new, **strip)
        for a, b in zip(effects(before, arm.name), effects(after, arm.name), strict=True):
            moves = {"verdict": "", "p_holm": None, "mde_family": None, "no_loss": None}
            assert replace(a, **moves) == replace(b, **moves)
            assert a.p_holm is not None
            assert b.p_holm is not None
            assert b.p_holm >= a.p_holm
            assert a.mde_family is None or (b.mde_family is not None and b.mde_family >= a.mde_family)
            assert a.no_loss == b.no_loss or (a.no_loss, b.no_loss) == (True, False)
    for name in ("workload", "baseline", "minimize", "alpha", "margin", "margin_source", "budgets", "targets"):
        assert getattr(before, name) == getattr(after, name)
    assert before.interactions == after.interactions
    assert_same_frontier(before.frontier, after.frontier)


def assert_same_frontier(before: Frontier | None, after: Frontier | None) -> None:
    """To the bit: other arms' places, probabilities, volumes and intervals; nothing for the new arm."""
    assert before is not None
    assert after is not None
    old = {arm.arm for arm in before.arms}
    others = replace(
        after,
        points=tuple(p for p in after.points if p.arm in old),
        arms=tuple(a for a in after.arms if a.arm in old),
    )
    assert others == before
    for point in after.points:
        assert point.arm in old or (point.on_frontier, point.probability) == (False, 0.0)
    for arm in after.arms:
        assert arm.arm in old or (arm.probability, arm.contribution) == (0.0, 0.0)


def families(found: Analysis, name: str) -> tuple[list[Effect], list[Effect]]:
    arm = found.arm(name)
    return [*arm.budgets, *arm.targets], list(arm.accuracy)


@pytest.mark.parametrize("kind", STUDIES)
@settings(max_examples=8)
@given(start=st.integers(0, 10_000))
def test_a_clearly_worse_arm_changes_no_decision(kind: str, start: int) -> None:
    arms, noise = STUDIES[kind]
    rows = study(arms, noise=noise, start=start)
    before, after = analysed(rows), analysed([*rows, *worse(rows)])
    confirmed, described = families(after, "worse")
    assume({e.verdict for e in confirmed} == {"costs"} and all(e.p is not None for e in confirmed))
    assume({e.verdict for e in described} == {"worse"})
    assert_same_readings(before, after)
    for arm in before.arms:
        new = after.arm(arm.name)
        assert (arm.verdict, arm.plain, arm.sentence) == (new.verdict, new.plain, new.sentence)
        assert [e.verdict for e in effects(before, arm.name)] == [e.verdict for e in effects(after, arm.name)]
    assert_step_down(before, after)


def assert_step_down(before: Analysis, after: Analysis) -> None:
    """What Holm's step-down does with extra hypotheses that are all rejected.

    Questions whose p is above all of the new arm's: the new arm was done with before their turn came, their factor is
    what it was, so p_holm = max(p_holm before, the new arm's largest p_holm). The others (p as small as the new
    arm's) are multiplied by at most the size of the larger family, and stay rejected.
    """
    alpha = after.alpha
    for k, size in enumerate((after.questions, after.accuracy_questions)):
        extra = families(after, "worse")[k]
        raw = [e.p for e in extra if e.p is not None]
        assert len(raw) == len(extra)
        largest = max(raw)
        assert largest <= alpha / size
        done = max(e.p_holm for e in extra if e.p_holm is not None)
        for arm in before.arms[1:]:
            for a, b in zip(families(before, arm.name)[k], families(after, arm.name)[k], strict=True):
                entered = 1.0 if a.p is None else a.p
                assert a.p_holm is not None
                assert b.p_holm is not None
                if entered > largest:
                    assert b.p_holm == pytest.approx(max(a.p_holm, done), rel=1e-12)
                else:
                    assert a.p_holm <= b.p_holm <= size * largest <= alpha


@pytest.mark.parametrize("kind", STUDIES)
@settings(max_examples=8)
@given(start=st.integers(0, 10_000))
def test_an_arm_that_is_not_proven_worse_only_weakens_others(kind: str, start: int) -> None:
    arms, noise = STUDIES[kind]
    rows = study(arms, noise=noise, start=start)
    # the loss varies by far more than it is: no question about this arm has a verdict
    vague = [
        {**r, "metric": r["metric"] - 0.3 * (r["seed"] == 2)} for r in worse(rows, name="vague", loss=0.05, jitter=0.02)
    ]
    before, after = analysed(rows), analysed([*rows, *vague])
    assert after.arm("vague").verdict != "pays"
    assert_same_readings(before, after)
    for arm in before.arms[1:]:
        for a, b in zip(effects(before, arm.name), effects(after, arm.name), strict=True):
            assert b.verdict in (a.verdict, "not proven")
        weaker = ("pays", "costs") if arm.verdict == "mixed" else ()
        assert after.arm(arm.name).verdict in (arm.verdict, "not proven", *weaker)


def test_some_verdict_is_lost_to_the_larger_family() -> None:
    """The second property is not empty: a study in which an unproven arm takes a verdict away."""
    lost = 0
    for start in range(20):
        rows = study(NOISY, noise=0.003, start=start)
        more = [*rows, *worse(rows, name="vague", loss=0.0, slow=1.0, jitter=0.02)]
        before, after = analysed(rows), analysed(more)
        lost += sum(
            a.verdict != b.verdict
            for arm in before.arms[1:]
            for a, b in zip(effects(before, arm.name), effects(after, arm.name), strict=True)
        )
    assert lost > 0


def test_the_families_grow_by_the_questions_of_the_new_arm() -> None:
    rows = study(NOISY, noise=0.003)
    before, after = analysed(rows), analysed([*rows, *worse(rows)])
    assert (before.questions, after.questions) == (18, 24)
    assert (before.accuracy_questions, after.accuracy_questions) == (12, 16)
    assert before.notes == after.notes


def test_a_third_arm_does_not_move_the_step_of_the_metric() -> None:
    """Two arms on a coarse lattice; the third has every value in between. Their tests see their own step."""
    coarse = [{**r, "metric": round(r["metric"] * 50) / 50} for r in study(EXACT | {"good": NOISY["both"]}, noise=0.01)]
    fine = worse(coarse, loss=0.1037, jitter=0.001)
    assert_same_readings(analysed(coarse), analysed([*coarse, *fine]))


def test_a_third_arm_does_not_move_the_margin() -> None:
    rows = study(NOISY, noise=0.003)
    below = [{**r, "metric": r["metric"] - 2} for r in worse(rows)]  # a score outside of [0, 1]
    before, after = analysed(rows), analysed([*rows, *below])
    assert before.margin == after.margin == 0.002
    assert_same_readings(before, after)
