"""CRC-32C: every version gives the number of a bit-by-bit reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten._native import ext
from hasten.codecs.sprintz import crc
from hasten.codecs.sprintz.crc import crc32c, crc32c_numpy

# RFC 3720, B.4
PUBLISHED = {
    b"": 0,
    b"123456789": 0xE3069283,
    bytes(32): 0x8A9136AA,
    b"\xff" * 32: 0x62A8AB43,
    bytes(range(32)): 0x46DD794E,
    bytes(range(31, -1, -1)): 0x113FDB5C,
}


def reference(data: bytes, value: int = 0) -> int:
    """The definition, bit by bit."""
    value ^= 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value ^ 0xFFFFFFFF


def test_published_values(each_isa):
    for data, value in PUBLISHED.items():
        assert crc32c(data) == value
        assert crc32c_numpy(np.frombuffer(data, np.uint8)) == value
        assert reference(data) == value


def test_every_length(each_isa):
    data = np.random.default_rng(0).integers(0, 256, 4096, dtype=np.uint8)
    value, values = 0xFFFFFFFF, [0]
    for byte in data.tobytes():  # the reference, all lengths in one go
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        values.append(value ^ 0xFFFFFFFF)
    for size in [*range(70), *range(1020, 1030), *range(2045, 2055), *range(3060, 3100), 4095, 4096]:
        assert crc32c(data[:size]) == values[size], size


@pytest.mark.parametrize("size", [2047, 2048, 2049, 5000, 70_001])
def test_numpy_version_of_long_data(size):
    data = np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)
    assert crc32c_numpy(data, 77) == crc32c(data, 77) == crc32c(data[9:], reference(data[:9].tobytes(), 77))


def test_three_streams_join(each_isa):
    # The instruction takes 3072 bytes as three streams; more than one round of it, and what is left over.
    data = np.random.default_rng(1).integers(0, 256, 10_000, dtype=np.uint8)
    halves = crc32c(data[5000:], crc32c(data[:5000]))
    assert crc32c(data) == halves == crc32c_numpy(data)


@given(data=st.binary(max_size=300), cut=st.integers(0, 300), offset=st.integers(0, 15))
def test_goes_on_from_any_place_at_any_alignment(data, cut, offset):
    view = memoryview(bytes(offset) + data)[offset:]
    assert crc32c(view[cut:], crc32c(view[:cut])) == crc32c(view) == reference(data)


def test_without_the_compiled_module(monkeypatch):
    data = np.random.default_rng(2).integers(0, 256, 9000, dtype=np.uint8)
    value = crc32c(data)
    monkeypatch.setattr(crc, "ext", None)
    assert crc32c(data) == value


@pytest.mark.skipif(ext is None, reason="no compiled module")
def test_other_arrays_are_refused():
    with pytest.raises(TypeError, match="bytes-like object"):
        ext.crc32c([1, 2], 0, "scalar")
    with pytest.raises((ValueError, BufferError), match="contiguous"):
        ext.crc32c(np.zeros(8, np.uint8)[::2], 0, "scalar")
    with pytest.raises(ValueError, match="unknown instruction set 'sse9'"):
        ext.crc32c(np.zeros(8, np.uint8), 0, "sse9")
