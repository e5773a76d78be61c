"""Measuring: what is asked, what is remembered; never how long it took."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from hasten._native import ext
from hasten.matmul.maddness import kernels, measuring
from hasten.matmul.maddness.measuring import forget, interleave, measure, measure_conv2d
from hasten.matmul.maddness.patches import Geometry


@pytest.fixture(autouse=True)
def few_rounds(monkeypatch):
    monkeypatch.setattr(measuring, "ROUND", 1e-6)
    forget()
    yield
    forget()


def test_functions_take_turns_and_the_fastest_round_counts():
    order: list[str] = []
    now = 0.0
    costs = {"a": itertools.cycle([1.0, 1.0, 8.0, 9.0, 1.0]), "b": itertools.repeat(2.0)}

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


GEOMETRIES = [
    Geometry((3, 3), padding=(1, 1, 1, 1)),
    Geometry((3, 2), (2, 1), (1, 2), padding=(1, 0, 2, 0)),
    Geometry((3, 3)),
    Geometry((3, 3), padding=(1, 1, 1, 1), padding_mode="reflect"),
]


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_a_convolution_is_measured(geometry):
    timing = measure_conv2d((2, 3, 8, 8), 4, geometry, 3, 32, torch.bfloat16)
    assert {"float32", "bfloat16"} <= set(timing.dense) <= {"float32", "bfloat16", "int8"}
    assert timing.tables > 0


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_what_is_timed_in_int8_is_the_convolution(geometry):
    product = measuring._int8_conv2d((2, 3, 8, 8), 4, geometry)
    if product is None:
        pytest.skip("no int8 convolution in this torch")
    x = torch.full((2, 3, 8, 8), 100.0)
    if geometry.padding_mode == "constant" and geometry.padding[0] != geometry.padding[1]:
        x = F.pad(x, geometry.padding, value=100.0)  # this border is not made, but there
        geometry = geometry.unpadded()
    assert torch.equal(product(), measuring._convolve(x, torch.full((4, 3, *geometry.kernel), 3.0), geometry))


@pytest.mark.skipif(kernels.ext is None, reason="no compiled kernels")
def test_compiled_kernels_are_what_is_timed(monkeypatch):
    called = []

    class Watched:
        def __getattr__(self, name):
            called.append(name)
            return getattr(ext, name)

    monkeypatch.setattr(kernels, "ext", Watched())
    measure(64, 32, 16, 4)
    assert "maddness_multiply" in called
    measure_conv2d((1, 3, 8, 8), 4, GEOMETRIES[0], 3)
    assert "maddness_convolve" in called


def test_the_better_layout_counts(monkeypatch):
    seconds = {"tables": 1.0, "float32": 3.0, "float32, channels last": 2.0, "bfloat16": 4.0}
    seconds["bfloat16, channels last"] = 5.0
    monkeypatch.setattr(measuring, "interleave", lambda functions: {**dict.fromkeys(functions, 9.0), **seconds})
    dense = measure_conv2d((1, 3, 8, 8), 4, GEOMETRIES[0], 3).dense
    assert (dense["float32"], dense["bfloat16"], dense.get("int8", 9.0)) == (2.0, 4.0, 9.0)


def test_without_onednn_there_is_no_int8(monkeypatch):
    def refuse(*_):
        raise RuntimeError("no such operator")

    monkeypatch.setattr(torch.ops.onednn, "qlinear_prepack", refuse)
    monkeypatch.setattr(torch.ops.onednn, "qconv_prepack", refuse)
    assert set(measure(8, 8, 4, 2).dense) == {"float32", "bfloat16"}
    assert set(measure_conv2d((1, 3, 8, 8), 4, GEOMETRIES[0], 3).dense) == {"float32", "bfloat16"}


def test_bad_sizes():
    with pytest.raises(ValueError, match="at most 4 codebooks"):
        measure(10, 4, 4, 5)
    with pytest.raises(ValueError, match="at least 1 for rows"):
        measure(0, 4, 4, 2)
    with pytest.raises(ValueError, match="leaves among"):
        measure(10, 4, 4, 2, 8)
    with pytest.raises(ValueError, match="rounds"):
        interleave({}, rounds=0)
