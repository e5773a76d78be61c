"""One form of error: call, expectation, what came, and the line that fixes it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hasten._core import checks


def test_describe():
    assert checks.describe(torch.zeros(2, 3)) == "Tensor of shape (2, 3) and dtype torch.float32"
    assert checks.describe(np.zeros(4)) == "ndarray of shape (4,) and dtype float64"
    assert checks.describe("a") == "'a'"
    assert checks.describe(0.5) == "0.5"


@given(st.text() | st.lists(st.integers()) | st.binary())
def test_describe_is_short(value):
    text = checks.describe(value)
    assert len(text) <= 120
    assert text == repr(value) or (text.endswith("...") and repr(value).startswith(text[:-3]))


def test_form():
    error = checks.refuse("smooth", "alpha in [0, 1]", 2, "Pass alpha=0.1.")
    assert isinstance(error, ValueError)
    assert str(error) == "smooth: expected alpha in [0, 1], got 2. Pass alpha=0.1."
    assert str(checks.refuse("f", "x", "as it stands")) == "f: expected x, got as it stands."
    error = checks.refuse_type("f", "a module", torch.ones(1))
    assert isinstance(error, TypeError)
    assert str(error) == "f: expected a module, got Tensor of shape (1,) and dtype torch.float32."


def test_check():
    checks.check(True, "f", "x", 1)
    with pytest.raises(ValueError, match=r"^f: expected x > 1, got 1\. Pass 2\.$"):
        checks.check(False, "f", "x > 1", 1, "Pass 2.")


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53))
def test_finite_keeps_numbers(value):
    assert checks.finite("f", "x", value) == value
    assert type(checks.finite("f", "x", value)) is float


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, True, None, "1", torch.ones(1)])
def test_finite_refuses(value):
    with pytest.raises(ValueError, match=r"^f: expected a finite number for x, got .*\. Pass x= a finite number\.$"):
        checks.finite("f", "x", value)


@given(st.floats(-10, 10))
def test_positive(value):
    if value > 0:
        assert checks.positive("f", "x", value) == value
    else:
        with pytest.raises(ValueError, match="^f: expected x > 0, got "):
            checks.positive("f", "x", value)


@given(st.floats(-3, 3))
def test_fraction(value):
    if 0 <= value <= 1:
        assert checks.fraction("f", "x", value) == value
    else:
        with pytest.raises(ValueError, match=r"^f: expected x in \[0, 1\], got "):
            checks.fraction("f", "x", value)


def test_below_one():
    assert checks.below_one("f", "x", 0) == 0.0
    assert checks.below_one("f", "x", 0.999) == 0.999
    for value in (1, 1.0):
        with pytest.raises(ValueError, match=r"f: expected x < 1, got 1.*Pass x= a value below 1\."):
            checks.below_one("f", "x", value)
    with pytest.raises(ValueError, match="Leave it out"):
        checks.below_one("f", "x", 1, "Leave it out.")
    for value in (-0.1, 2, float("nan"), "0.5"):
        with pytest.raises(ValueError, match="f: expected"):
            checks.below_one("f", "x", value)


def test_fraction_bounds():
    assert checks.fraction("f", "x", -0.5, low=-1, high=0) == -0.5
    with pytest.raises(ValueError, match=r"x in \[-1, 0\]"):
        checks.fraction("f", "x", 0.5, low=-1, high=0)


def test_near():
    known = ["blurpool", "mixup", "cutmix"]
    assert checks.near("blurpol", known) == "Did you mean blurpool?"
    assert checks.near("mix", known) == "Did you mean mixup or cutmix?"
    assert checks.near("zzz", known) == "Known: blurpool, cutmix, mixup."
    assert checks.near("zzz", []) == "None is known."


@given(st.lists(st.text(st.characters(categories=["L"]), min_size=1), min_size=1, unique=True))
def test_near_always_finds_the_name_itself(names):
    assert names[0] in checks.near(names[0], names)


def test_missing_extra():
    error = checks.missing_extra("report", "altair", "bench")
    assert isinstance(error, ImportError)
    assert str(error) == ("report: needs altair, which is not installed. Install it with: pip install 'hasten[bench]'")
