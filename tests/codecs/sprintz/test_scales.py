"""Guesses: how many decimals, which step, which lattice, and that they are right to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.codecs.sprintz.floats import back, names, pack

from hasten.codecs.sprintz.decimals import places
from hasten.codecs.sprintz.lattice import lattice
from hasten.codecs.sprintz.multiples import rules
from hasten.codecs.sprintz.scaled import Rule

COUNTS = np.random.default_rng(2).integers(-3000, 3000, 600)


@given(st.integers(1, 15), st.integers(0, 15), st.integers(0, 99))
def test_decimals_of_up_to_15_digits(digits, behind, seed):
    whole = np.random.default_rng(seed).integers(-(10**digits), 10**digits, 200)
    column = np.array([float(f"{n}e-{behind}") for n in whole.tolist()])  # as a reader of text has it
    assert (places(column) or 0) <= behind
    assert (Rule(divisor=10.0**behind).values(whole, column.dtype) == column).all()
    assert back(column).tobytes() == column.tobytes()
    if digits < 12:
        assert names(pack(column))[-1:] == ["scaled"]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("behind", [0, 1, 2, 3, 4])
def test_how_many_digits(dtype, behind):
    column = (COUNTS / 10**behind).astype(dtype)
    assert places(column) == behind
    column[:5] += 0.123  # some have more
    assert places(column) == behind


def test_no_decimals():
    noise = np.random.default_rng(0).normal(size=300)
    assert places(noise) is None
    assert places(noise * 1e300) is None
    assert places(np.array([])) is None
    assert places(np.zeros(2)) == 0


@given(st.floats(1e-9, 1e9), st.booleans(), st.sampled_from(("f4", "f8")), st.integers(0, 30))
def test_any_gain(gain, over, dtype, seed):
    counts = np.random.default_rng(seed).integers(-2000, 2000, 600)
    column = (counts / gain if over else counts * gain).astype(dtype)
    record = pack(column)
    assert back(column).tobytes() == column.tobytes()
    assert names(record)[-1] == "scaled"
    assert len(record) < 1150  # 12 bits for each; float32 of large steps would take 23


@pytest.mark.parametrize("gain", [81.92, 0.3, 255.0, 1 / 3, 2.0**-15, 7e-8])
def test_which_factor(gain):
    for column in (COUNTS * gain, COUNTS / gain):
        good = [(rule.values(rule.numbers(column), column.dtype) == column).all() for rule in rules(column)]
        assert any(good)
    assert next(rules(COUNTS / 81.92)) == Rule(divisor=81.92)
    assert [*rules(COUNTS * 0.3)][1] == Rule(factor=0.3)


def test_no_step():
    assert not [*rules(np.random.default_rng(0).normal(size=300))]
    assert not [*rules(np.random.default_rng(0).normal(size=300).astype("f4"))]
    assert not [*rules(np.zeros(5))]
    assert not [*rules(np.array([1e-320, 2e-320, 5e-320, -1e-320]))]


@given(st.floats(8.0, 5000.0), st.floats(-1e4, 1e4), st.integers(0, 50))
def test_any_lattice(factor, offset, seed):
    assume(abs(factor % 1 - 0.5) > 0.01 and factor % 1 > 0.01)  # or ties decide
    counts = np.unique(np.random.default_rng(seed).integers(-300, 300, 250))
    numbers = np.rint(counts * factor + offset)
    found = lattice(numbers)
    assert found is not None
    rule = Rule(*found, rounded=True)
    assert (rule.values(rule.numbers(numbers), numbers.dtype) == numbers).mean() > 0.9  # the rest are exceptions


def test_no_lattice():
    rng = np.random.default_rng(0)
    assert lattice(np.arange(300.0)) is None  # dense
    assert lattice(np.unique(rng.integers(0, 100_000, 300)).astype(float)) is None
    assert lattice(np.array([0.0, 35.0])) is None
