"""Exceptions: which are few, what fills their places, and that they come back."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.codecs.sprintz.floats import integers

from hasten.codecs.sprintz.exceptions import affordable, fill, pack, skip, unpack
from hasten.codecs.sprintz.planar import decode_column


@given(st.lists(st.booleans(), min_size=1, max_size=200), st.sampled_from(("u4", "u8")))
def test_they_come_back(flags, dtype):
    bad = np.array(flags)
    bits = np.random.default_rng(0).integers(0, 1 << 32, len(bad)).astype(dtype)
    record = memoryview(b"abc" + pack(bits, bad, integers) + b"d")
    apart, end = unpack(record, 3, len(bad), bits.dtype, 0, decode_column)
    assert end == len(record) - 1 == skip(record, 3)
    assert (apart is None) == (not bad.any())
    if apart is not None:
        assert apart[0].tolist() == np.flatnonzero(bad).tolist()
        assert apart[1].tolist() == bits[bad].tolist()


def test_places_are_filled_with_the_value_before():
    numbers = np.array([9, 1, 9, 9, 2, 9])
    bad = numbers == 9
    assert fill(numbers, bad).tolist() == [1, 1, 1, 1, 2, 2]
    assert fill(numbers, np.zeros(6, bool)) is numbers
    assert fill(numbers, np.ones(6, bool)).tolist() == [0] * 6


def test_two_in_a_hundred():
    bits = np.arange(1000, dtype=np.uint64)
    bad = np.zeros(1000, bool)
    bad[:20] = True
    assert affordable(bits, bad)
    bad[20] = True
    assert not affordable(bits, bad)
    bits[:900] = 7  # the same again and again
    bad[:900] = True
    assert affordable(bits, bad)
    assert affordable(bits[:3], np.array([True, False, False]))
    assert not affordable(np.arange(3, dtype=np.uint64), np.array([True, True, False]))


def test_a_gap_costs_next_to_nothing():
    bits = np.full(5000, 0x7FF8 << 48, np.uint64)
    bad = np.zeros(5000, bool)
    bad[1000:3000] = True
    assert len(pack(bits, bad, integers)) < 400
