from __future__ import annotations

import dataclasses

import pytest

from hasten.bench.pruning.smaller import FAR, _narrower, parameters_of, smaller
from hasten.bench.workloads import load
from hasten.bench.workloads.base import first_pass
from hasten.program import call


def test_narrower_models_come_close_to_what_pruning_leaves() -> None:
    workload = load("digits")
    total = parameters_of(workload.program)
    found, why = smaller(workload.program, [2, 4, 8, 16, 32], first_pass(workload).batch, total)
    assert why == ""
    for ratio, one in found.items():
        assert 1 / FAR < one.parameters * ratio / total < FAR
        assert parameters_of(workload.program.replace(model=one.model)) == one.parameters
    widths = [dict(one.model.args)["width"] for one in found.values()]
    assert widths == sorted(set(widths), reverse=True)  # each once
    assert found[2].change == f"width {widths[0]} instead of 8"


def test_every_width_is_scaled_alike_and_none_below_1() -> None:
    from hasten.bench.models.cnn import SmallCNN

    factory = call(SmallCNN, widths=(4, 8), strides=(1, 1))
    made = list(_narrower(factory, {"widths": (4, 8)}))
    assert [dict(model.args)["widths"] for model, _ in made] == [(4, 7), (3, 6), (2, 5), (2, 4), (2, 3), (1, 2), (1, 1)]
    assert made[0][1] == "widths 4-7 instead of 4-8"


def test_large_widths_are_tried_at_even_factors() -> None:
    from hasten.bench.models.mlp import MLP

    made = [dict(model.args)["widths"] for model, _ in _narrower(call(MLP, in_features=4, classes=3, widths=(4096,)),
                                                                 {"widths": (4096,)})]  # fmt: skip
    assert len(made) <= 64
    assert made[-1][0] == 1
    assert made == sorted(made, reverse=True)


def test_a_model_that_refuses_widths_is_left_out() -> None:
    """Heads divide the width of a transformer: only widths that they divide are candidates."""
    workload = load("charlm")
    total = parameters_of(workload.program)
    found, _ = smaller(workload.program, [2, 4], first_pass(workload).batch, total)
    for one in found.values():
        assert parameters_of(workload.program.replace(model=one.model)) == one.parameters


def test_no_width_is_said() -> None:
    program = load("digits").program
    bare = dataclasses.replace(program.model, args=())
    found, why = smaller(program.replace(model=bare), [2.0], None, 1000)
    assert (found, why) == ({}, "its model takes no whole number under a name such as width (it takes nothing)")


@pytest.mark.parametrize("ratio", [1e6])
def test_a_ratio_that_no_width_comes_near(ratio: float) -> None:
    workload = load("digits")
    found, why = smaller(workload.program, [ratio], first_pass(workload).batch, parameters_of(workload.program))
    assert (found, why) == ({}, "no narrower model comes near the parameters that pruning leaves")
