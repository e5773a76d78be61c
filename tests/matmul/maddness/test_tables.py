"""Tables: rounding stays within its bound, whatever the numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.matmul.maddness import averaging, dequantise, make_tables
from hasten.matmul.maddness.tables import LUT_SCALES, Tables

BITS = pytest.mark.parametrize("bits", [8, 16])
SCALES = pytest.mark.parametrize("lut_scale", LUT_SCALES)


@given(
    st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 5), st.sampled_from([8, 16]), st.sampled_from(LUT_SCALES)
)
def test_entries_are_off_by_half_a_step(seed, m, c, bits, lut_scale):
    generator = np.random.default_rng(seed)
    T = generator.standard_normal((m, c, 16)) * 10.0 ** generator.integers(-6, 6, (m, 1, 1)) + generator.normal()
    tables = make_tables(T, bits, lut_scale)
    low = T.min(axis=2, keepdims=True) if lut_scale == "per_output" else T.min(axis=(0, 2), keepdims=True)
    off = np.abs(tables.luts * tables.scale.astype(np.float64)[:, None, None] + low - T)
    rounding = 1e-7 * (1 << bits)  # of the largest step, by a float32 scale
    assert (off <= tables.scale[:, None, None] * (0.5 + rounding)).all()
    if lut_scale == "per_output":
        assert (tables.luts.max(axis=(1, 2)) == (1 << bits) - 1).all()
    assert tables.luts.max() == (1 << bits) - 1
    assert tables.luts.min() == 0
    assert tables.bits == bits


@BITS
@SCALES
def test_sums_are_off_by_half_a_step_for_each_codebook(bits, lut_scale):
    generator = np.random.default_rng(0)
    T, codes = generator.standard_normal((6, 9, 16)), generator.integers(0, 16, (500, 9))
    tables = make_tables(T, bits, lut_scale)
    exact = sum(T[:, c, codes[:, c]] for c in range(9))
    found = sum(dequantise(tables)[:, c, codes[:, c]] for c in range(9))
    assert (np.abs(found - exact) <= 9 * 0.5001 * tables.scale[:, None] + 1e-6).all()


def test_an_output_of_its_own_scale_loses_nothing_to_a_larger_one():
    T = np.random.default_rng(0).standard_normal((2, 4, 16)) * np.array([1e-3, 1.0])[:, None, None]
    own, shared = make_tables(T), make_tables(T, lut_scale="shared")
    assert own.scale[0] < 2e-5
    assert shared.scale[0] == shared.scale[1] == pytest.approx(own.scale[1], rel=0.2)
    assert len(np.unique(own.luts[0])) > 5 * len(np.unique(shared.luts[0]))


@BITS
@SCALES
def test_constant_tables_are_exact(bits, lut_scale):
    tables = make_tables(np.full((3, 2, 16), 0.75), bits, lut_scale)
    assert (tables.luts == 0).all()
    assert (tables.scale == 0).all()
    assert (tables.offset == 1.5).all()


def test_negative_tables_have_a_scale():
    tables = make_tables(-1.0 - np.arange(16.0)[None, None])  # the published code starts its maxima at 0
    assert tables.scale[0] == np.float32(15 / 255)
    assert tables.offset[0] == -16
    assert tables.luts[0, 0, [0, 15]].tolist() == [255, 0]


def test_a_bias_goes_into_the_offset():
    T, bias = np.random.default_rng(0).standard_normal((3, 2, 16)), np.array([1.0, -2.0, 0.5])
    for bits in (8, 16, 32):
        plain, biased = make_tables(T, bits), make_tables(T, bits, bias=bias)
        assert (biased.luts == plain.luts).all()
        np.testing.assert_allclose(biased.offset - plain.offset, bias, atol=1e-6)


def test_32_bits_are_floats():
    T = np.random.default_rng(0).standard_normal((3, 2, 64))
    tables = make_tables(T, 32)
    assert (tables.luts == T.astype(np.float32)).all()
    assert (tables.scale == 1).all()
    assert (tables.offset == 0).all()
    assert (tables.n_outputs, tables.ncodebooks, tables.leaves, tables.bits) == (3, 2, 64, 32)


def test_a_gap_below_the_smallest_float_is_none():
    T = np.zeros((1, 1, 16))
    T[0, 0, 3] = 1e-44
    tables = make_tables(T)
    assert (tables.luts == 0).all()
    assert tables.scale[0] == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_tables_beyond_float32_are_refused(value):
    T = np.zeros((1, 2, 16))
    T[0, 0, 0] = value
    with pytest.raises(ValueError, match=r"make_tables: expected products that float32 can hold"):
        make_tables(T)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lut_bits": 4}, "lut_bits among"),
        ({"lut_scale": "own"}, "lut_scale among"),
        ({"bias": np.zeros(3)}, r"bias of shape \(2,\)"),
    ],
)
def test_arguments_that_make_no_sense(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_tables(np.zeros((2, 1, 16)), **arguments)


def test_what_are_no_tables():
    luts, one = np.zeros((2, 1, 16), np.uint8), np.ones(2, np.float32)
    Tables(luts, one, one)
    for bad in ((luts.astype(int), one, one), (luts[0], one, one), (luts[:0], one[:0], one[:0]),
                (luts, one[:1], one), (luts, one, one.astype(np.float64)), (luts, one * np.nan, one)):  # fmt: skip
        with pytest.raises(ValueError, match="Tables: expected"):
            Tables(*bad)


def test_how_averages_are_grouped():
    assert averaging(1) == (1, 1, 0.0)
    assert averaging(2) == (2, 2, 0.5)
    assert averaging(64, 64) == (64, 64, 96.0)
    assert averaging(24) == (16, 32, 6 + 6 + 6 + 8)  # of the second group only half is there
    assert averaging(17, 1) == (1, 17, 0.0)
    for wrong in (0, 3, -4, 2.0, None):
        with pytest.raises(ValueError, match="power of two"):
            averaging(16, wrong)
