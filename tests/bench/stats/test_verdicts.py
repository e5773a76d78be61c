from __future__ import annotations

import math

import numpy as np
import pytest

from hasten.bench.stats.curves import Bounds
from hasten.bench.stats.verdicts import Where, describe_arm, family, overall, read, verdicts

INF = math.inf


def bounds(lower: list[float], upper: list[float] | None = None) -> Bounds:
    column = np.array(lower, dtype=float)[:, None]
    return Bounds(column, column if upper is None else np.array(upper, dtype=float)[:, None])


def answer(given: Bounds, decide: bool = False) -> tuple[str, str]:
    readings = read(given, alpha=0.05, bounds_decide=decide)
    return readings.bound[0], verdicts(readings, family([readings.p])[0], alpha=0.05)[0]


def test_exact_values() -> None:
    assert answer(bounds([0.1, 0.11, 0.12])) == ("", "pays")
    assert answer(bounds([-0.1, -0.11, -0.12])) == ("", "costs")
    assert answer(bounds([-0.1, 0.11, 0.12])) == ("", "not proven")
    assert answer(bounds([0.0, 0.0, 0.0])) == ("", "tie")
    assert answer(bounds([0.1, 0.1])) == ("", "not proven")
    assert answer(bounds([0.0, 0.0])) == ("", "not proven")


def test_a_censored_seed_takes_the_verdict_of_a_target() -> None:
    assert answer(bounds([0.5, 0.51, 0.52], [0.5, 0.51, INF])) == (">=", "not proven")
    assert answer(bounds([-0.5, -0.51, -INF], [-0.5, -0.51, -0.52])) == ("<=", "not proven")
    assert answer(bounds([0.5, -INF, 0.52], [0.5, INF, 0.52])) == ("?", "not proven")
    assert answer(bounds([0.5, 0.51, -INF], [0.5, INF, 0.52])) == ("?", "not proven")


def test_a_bound_proves_only_its_safe_side() -> None:
    assert answer(bounds([0.5, 0.51, 0.52], [0.5, 0.51, INF]), decide=True) == (">=", "pays")
    assert answer(bounds([-0.5, -0.51, -0.52], [-0.5, -0.51, INF]), decide=True) == (">=", "not proven")
    assert answer(bounds([-0.5, -0.51, -INF], [-0.5, -0.51, -0.52]), decide=True) == ("<=", "costs")
    assert answer(bounds([0.5, 0.51, -INF], [0.5, 0.51, 0.52]), decide=True) == ("<=", "not proven")


def test_an_unanswered_question_enters_the_family_with_p_one() -> None:
    both = Bounds(np.array([[0.1, 0.5], [0.11, 0.5], [0.12, 0.5]]), np.array([[0.1, 0.5], [0.11, INF], [0.12, 0.5]]))
    readings = read(both, alpha=0.05)
    assert readings.p[1] == 1.0
    alone = read(bounds([0.1, 0.11, 0.12]), alpha=0.05)
    assert family([readings.p])[0][0] == pytest.approx(2 * float(alone.p[0]))


def test_a_further_arm_changes_a_verdict_only_through_the_size_of_the_family() -> None:
    one = np.array([0.001, 0.02])
    dominated = np.array([0.9, 1.0])
    adjusted = family([one, dominated])[0]
    assert adjusted.tolist() == pytest.approx([4 * 0.001, 3 * 0.02])


def test_metric_words() -> None:
    readings = read(bounds([0.1, 0.11, 0.12]), alpha=0.05)
    assert verdicts(readings, readings.p, alpha=0.05, kind="metric") == ["better"]


@pytest.mark.parametrize(
    ("answers", "word"),
    [
        (["pays", "not proven"], "pays"),
        (["costs", "tie", ""], "costs"),
        (["pays", "costs"], "mixed"),
        (["tie", "", "tie"], "tie"),
        (["tie", "not proven"], "not proven"),
        (["", ""], "not proven"),
        ([], "not proven"),
    ],
)
def test_one_word_for_an_arm(answers: list[str], word: str) -> None:
    assert overall(answers) == word


def where(name: str, *answers: str, descending: bool = False) -> Where:
    labels = {"target": ("0.72", "0.82", "0.84", "0.85"), "budget": ("3 epochs", "7 epochs", "15 epochs")}[name]
    return Where(name, labels[: len(answers)], answers, descending)


@pytest.mark.parametrize(
    ("axes", "sentence"),
    [
        (
            [where("target", "costs", "pays", "pays"), where("budget", "not proven", "pays", "pays")],
            "pays at targets ≥ 0.82 and at budgets ≥ 7 epochs; costs at target 0.72; elsewhere not proven.",
        ),
        ([where("target", "pays", "pays", ""), where("budget", "tie")],
         "pays at targets ≤ 0.82; elsewhere not proven."),
        ([where("target", "pays", "pays"), where("budget", "pays", "pays", "pays")],
         "pays at every target and at every budget."),
        ([where("target", "pays", "", "pays", "")], "pays at targets 0.72 and 0.84; elsewhere not proven."),
        ([where("target", "pays", "pays", "not proven", descending=True)],
         "pays at targets ≥ 0.82; elsewhere not proven."),
        ([where("target", ""), where("budget", "not proven")], "not proven at any of 2 budgets and targets."),
        ([where("target", "tie"), where("budget", "tie")],
         "tie: the same values in every run that could be compared."),
    ],
)  # fmt: skip
def test_sentences(axes: list[Where], sentence: str) -> None:
    assert describe_arm(axes, seeds=5)[2] == sentence


def test_never_a_plain_pays_when_inference_gets_dearer_or_runs_fail() -> None:
    axes = [where("budget", "pays", "pays")]
    verdict, plain, sentence = describe_arm(axes, seeds=5, inference_ratio=1.4)
    assert (verdict, plain) == ("pays", False)
    assert sentence == "pays in training time at every budget, but inference costs 1.40x."
    assert describe_arm(axes, seeds=5, inference_ratio=1.02) == ("pays", True, "pays at every budget.")
    verdict, plain, sentence = describe_arm(axes, seeds=5, failed=2)
    assert not plain
    assert sentence == "pays at every budget; 2 of its runs failed and are not in these numbers."
    lost = describe_arm([where("budget", "costs")], seeds=5, inference_ratio=1.4)[2]
    assert lost == "costs at the budget 3 epochs; inference costs 1.40x."


def test_two_seeds_prove_nothing() -> None:
    assert describe_arm([where("budget", "pays")], seeds=2)[::2] == (
        "not proven",
        "not proven (n = 2): a verdict needs 3 seed pairs.",
    )
