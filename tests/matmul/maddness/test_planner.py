"""Decisions from invented times."""

from __future__ import annotations

import math

import pytest

from hasten.matmul.maddness.planner import Budget, Candidate, Entry, Plan, Timing, as_budget, decide

MS = 1e-3


def candidate(name="a", tables=0.2, nmse=0.01, ncodebooks=16, kind="Linear", **dense) -> Candidate:
    times = {dtype: value * MS for dtype, value in (dense or {"float32": 0.8}).items()}
    return Candidate(name, kind, ncodebooks, 16, Timing(tables * MS, times), nmse)


def test_a_layer_is_kept_if_its_product_is_faster():
    plan = decide([candidate("layer4.0.conv1", tables=1.1, kind="Conv2d")])
    expected = "float32 convolution takes 0.8 ms, tables would take 1.1 ms (ncodebooks=16, leaves=16)"
    assert str(plan) == f"layer4.0.conv1: kept, {expected}"
    assert plan.converted == ()


def test_a_tie_is_kept():
    assert decide([candidate(tables=0.8)]).converted == ()


def test_the_fastest_dense_form_is_the_one_to_beat():
    three = candidate(tables=0.2, float32=0.8, bfloat16=0.3, int8=0.1)
    assert not decide([three])["a"].convert
    assert "int8 GEMM takes 0.1 ms" in decide([three])["a"].reason
    assert decide([three], against="bfloat16")["a"].convert
    assert decide([three], against="float32")["a"].reason.startswith("tables take 0.2 ms, float32 GEMM takes 0.8 ms")


def test_the_fastest_setting_within_the_budget_is_taken():
    settings = [
        candidate(tables=0.1, nmse=0.10, ncodebooks=8),
        candidate(tables=0.2, nmse=0.04, ncodebooks=16),
        candidate(tables=0.4, nmse=0.01, ncodebooks=32),
        candidate(tables=0.9, nmse=None, ncodebooks=64),  # does not pay, so it needs no error
    ]
    assert decide(settings, 0.2)["a"].ncodebooks == 8
    assert decide(settings, 0.05)["a"].ncodebooks == 16
    assert decide(settings, 0.01)["a"].ncodebooks == 32
    refused = decide(settings, 0.001)["a"]
    assert not refused.convert
    assert refused.reason.startswith("NMSE 0.01 is above the budget of 0.001")
    assert refused.nmse == 0.01


def test_entries_carry_what_was_decided():
    entry = decide([candidate()], 0.05)["a"]
    assert (entry.ncodebooks, entry.leaves, entry.nmse) == (16, 16, 0.01)
    assert entry.dense_seconds == pytest.approx(0.8 * MS)
    assert entry.tables_seconds == pytest.approx(0.2 * MS)


def test_a_target_of_time_takes_the_cheapest_errors_first():
    layers = [candidate("a", nmse=0.05), candidate("b", nmse=0.01), candidate("c", nmse=0.02)]
    plan = decide(layers, Budget(time=0.6))
    assert plan.converted == ("b", "c")
    assert plan["a"].reason.startswith("the target of time is met without it")
    assert decide(layers, Budget(time=0.8)).converted == ("b",)
    assert decide(layers, Budget(time=0.3)).converted == ("a", "b", "c")
    assert plan.note == ""


def test_a_target_of_time_moves_to_coarser_settings_when_it_must():
    layers = [candidate("a", 0.4, 0.01, 32), candidate("a", 0.1, 0.05, 8)]
    assert decide(layers, Budget(time=0.6))["a"].ncodebooks == 32
    assert decide(layers, Budget(time=0.2))["a"].ncodebooks == 8


def test_a_target_that_cannot_be_met_is_said():
    plan = decide([candidate("a"), candidate("b", tables=2.0)], Budget(time=0.1))
    assert plan.converted == ("a",)
    assert plan.note == "target not met: the layers take 62% of their dense time, 10% was wanted"
    assert plan.note in str(plan)


def test_a_limit_of_error_holds_with_a_target_of_time():
    plan = decide([candidate("a", nmse=0.5), candidate("b", nmse=0.01)], Budget(nmse=0.1, time=0.3))
    assert plan.converted == ("b",)
    assert plan.note.startswith("target not met")


def test_force_ignores_the_clock_but_not_the_error():
    slow = [candidate("a", tables=5.0), Candidate("b", "Linear", 16, 16, None, 0.01)]
    plan = decide(slow, force=True)
    assert plan.converted == ("a", "b")
    assert plan["b"].reason.startswith("forced, nothing was timed")
    assert decide(slow, 0.001, force=True).converted == ()


def test_refused_layers_come_with_their_reason():
    plan = decide([candidate("b")], refused={"a": "it is the first layer"})
    assert [entry.name for entry in plan.entries] == ["a", "b"]
    assert str(plan["a"]) == "a: kept, it is the first layer"


def test_no_candidates():
    assert decide([]) == Plan()


def test_a_budget_from_a_number():
    assert as_budget("f", None) == Budget(math.inf, None)
    assert as_budget("f", Budget(time=0.5)).time == 0.5
    with pytest.raises(TypeError, match="largest NMSE of a layer"):
        as_budget("f", "2 %")  # type: ignore[arg-type]


@pytest.mark.parametrize("values", [{"nmse": 0}, {"nmse": float("nan")}, {"time": 1.0}, {"time": 0.0}, {"nmse": True}])
def test_bad_budgets(values):
    with pytest.raises(ValueError, match="Budget: expected"):
        Budget(**values)


def test_bad_requests():
    with pytest.raises(ValueError, match="Did you mean float32"):
        decide([candidate()], against="flaot32")
    with pytest.raises(ValueError, match="time of the dense layer in int8"):
        decide([candidate()], against="int8")
    with pytest.raises(ValueError, match="both"):
        decide([candidate()], Budget(time=0.5), force=True)
    with pytest.raises(ValueError, match="an NMSE for 'a'"):
        decide([candidate(nmse=None)], 0.1)
    with pytest.raises(ValueError, match="times of 'a'"):
        decide([Candidate("a", "Linear", 16, 16)])
    with pytest.raises(KeyError, match="no layer 'fcc'"):
        Plan((Entry("fc", False, "x"),))["fcc"]
