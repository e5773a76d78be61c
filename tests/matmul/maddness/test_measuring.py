"""Measuring: what is asked, what is remembered; never how long it took."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from hasten.matmul.maddness import measuring
from hasten.matmul.maddness.measuring import forget, interleave, measure, measure_conv2d
from hasten.matmul.maddness.patches import Geometry


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch):
    monkeypatch.setattr(measuring, "ROUND", 1e-6)
    forget()
    yield
    forget()


def test_functions_take_turns_and_the_median_counts():
    order: list[str] = []
    now = 0.0
    costs = {"a": itertools.cycle([1.0, 1.0, 1.0, 9.0, 1.0]), "b": itertools.repeat(2.0)}

    def function(name: str):
        def run() -> None:
            nonlocal now
            order.append(name)
            now += next(costs[name])

        return run

    seconds = interleave({name: function(name) for name in costs}, rounds=3, clock=lambda: now)
    assert seconds == {"a": 1.0, "b": 2.0}
    assert order == ["a", "a", "b", "b"] + ["a", "b"] * 3


def test_a_linear_layer_is_measured_once():
    timing = measure(64, 32, 16, 4)
    assert {"float32", "bfloat16"} <= set(timing.dense)
    assert all(0 < s < math.inf for s in [timing.tables, *timing.dense.values()])
    assert measure(64, 32, 16, 4) is timing
    assert measure(64, 32, 16, 8) is not timing
    assert measure(64, 32, 16, 4, accumulate="avg") is not timing
    forget()
    assert measure(64, 32, 16, 4) is not timing


def test_many_rows_are_scaled_up(monkeypatch):
    monkeypatch.setattr(measuring, "interleave", lambda functions: dict.fromkeys(functions, 1.0))
    assert measure(4 * 4096, 32, 16, 4).tables == 4.0
    assert measure(8 * 4096, 32, 16, 4).dense["float32"] == 8.0
    assert measure_conv2d((8, 3, 66, 66), 4, Geometry((3, 3)), 3).tables == 8.0


@pytest.mark.parametrize("padding", [(1, 1, 1, 1), (1, 0, 2, 0), (0, 0, 0, 0)])
def test_a_convolution_is_measured(padding):
    timing = measure_conv2d((2, 3, 8, 8), 4, Geometry((3, 3), padding=padding), 3, 32, torch.bfloat16)
    assert set(timing.dense) == {"float32", "bfloat16"}
    assert timing.tables > 0


def test_bad_sizes():
    with pytest.raises(ValueError, match="at most 4 codebooks"):
        measure(10, 4, 4, 5)
    with pytest.raises(ValueError, match="at least 1 for rows"):
        measure(0, 4, 4, 2)
    with pytest.raises(ValueError, match="leaves among"):
        measure(10, 4, 4, 2, 8)
    with pytest.raises(ValueError, match="rounds"):
        interleave({}, rounds=0)
