"""Records of one column: any values come back, smooth ones are small, and no bytes can do harm."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hasten.codecs.sprintz import CorruptError, chunk
from hasten.codecs.sprintz.planar import PLANAR_PREDICTORS, decode_column, encode_column

UNSIGNED = [np.dtype(f"u{size}") for size in (1, 2, 4, 8)]
RAMP = np.arange(1000, dtype=np.uint16) * 3 + 7


def slow_decode(record: bytes, nrows: int, dtype: np.dtype) -> list[int]:
    """The text of docs/formats.md, value by value."""
    if record[0] == 0:
        return np.frombuffer(record[1:], dtype).tolist()
    predictor, bits, base = struct.unpack("<BBQ", record[1:11])
    count = -(-nrows // 32)
    widths, payload = record[11 : 11 + count], record[11 + count :]
    z, at = [], 0
    for width in widths:
        block = int.from_bytes(payload[at : at + 4 * width], "little")
        z += [(block >> (k * width)) & ((1 << width) - 1) for k in range(32)]
        at += 4 * width
    values, before, slope = [], 0, 0
    for number in z[:nrows]:
        if predictor == 0:
            v = number
        else:
            e = (number >> 1) ^ -(number & 1)
            slope = e if predictor == 1 else slope + e
            before = v = (before + slope) % (1 << bits)
        values.append((base + v) % (1 << 8 * dtype.itemsize))
    return values


@given(st.data(), st.sampled_from(UNSIGNED), st.sampled_from(["auto", *PLANAR_PREDICTORS]))
def test_any_values_come_back(data, dtype, predictor):
    values = data.draw(hnp.arrays(dtype, st.integers(0, 100)))
    record = encode_column(values, predictor)
    assert decode_column(memoryview(record), len(values), dtype, 0).tolist() == values.tolist()
    assert slow_decode(record, len(values), dtype) == values.tolist()
    assert len(record) <= 1 + values.nbytes


@pytest.mark.parametrize("predictor", PLANAR_PREDICTORS)
@pytest.mark.parametrize("dtype", UNSIGNED)
def test_walks_against_the_text_of_the_format(dtype, predictor):
    steps = np.random.default_rng(3).integers(-3, 4, 500)
    values = np.cumsum(steps).astype(dtype)  # wraps below 0
    record = encode_column(values, predictor)
    assert record[0] == 1
    assert slow_decode(record, 500, dtype) == values.tolist()
    assert decode_column(memoryview(record), 500, dtype, 0).tolist() == values.tolist()


def test_sizes():
    head, blocks = 11, 32
    constant = encode_column(np.full(1000, 12345, np.uint64), "auto")
    assert len(constant) == head + blocks, "a constant costs a byte for 32 values"
    ramp = encode_column(RAMP, "delta")
    assert len(ramp) == head + blocks + 32 * 4 * 3, "steps of 3 are 6 after zigzag: 3 bits"
    smooth = (1e4 * np.sin(np.arange(4096) / 50)).astype(np.int16).view(np.uint16)
    sizes = {name: len(encode_column(smooth, name)) for name in PLANAR_PREDICTORS}
    assert len(encode_column(smooth, "auto")) == min(sizes.values()) == sizes["delta2"]
    narrow = encode_column(np.random.default_rng(0).integers(10**15, 10**15 + 200, 1024).astype(np.uint64), "auto")
    assert narrow[2] == 8, "a range of 200 is kept in 8 bits"
    noise = np.random.default_rng(0).integers(0, 1 << 16, 1000).astype(np.uint16)
    assert len(encode_column(noise, "auto")) == 1 + noise.nbytes, "random values are stored"


@pytest.mark.parametrize(
    ("change", "reason", "offset"),
    [
        (lambda r: b"", "an empty record", 5),
        (lambda r: r[:7], "inside its head", 12),
        (lambda r: r[:20], "inside its widths", 25),
        (lambda r: r[:-1], "a payload of another length", 48),
        (lambda r: r + b"0", "a payload of another length", 48),
        (lambda r: b"\x09" + r[1:], "unknown kind 9", 5),
        (lambda r: r[:1] + b"\x03" + r[2:], "unknown predictor 3", 6),
        (lambda r: r[:2] + b"\x20" + r[3:], "values of 32 bits in a column of 16", 7),
        (lambda r: r[:2] + b"\x0f" + r[3:], "values of 15 bits", 7),
        (lambda r: r[:13] + b"\x11" + r[14:], "a width of more than 16 bits", 18),
        (lambda r: b"\x00" + r[1:], "bytes of stored values, 2000 expected", 6),
    ],
)
def test_records_that_cannot_be(change, reason, offset):
    with pytest.raises(CorruptError, match=reason) as error:
        decode_column(memoryview(change(encode_column(RAMP, "delta"))), 1000, RAMP.dtype, 5)
    assert error.value.offset == offset


def test_every_bit_of_a_body():
    columns = [RAMP.view(np.int16)[:100], np.linspace(0, 1, 100)]
    hidden = np.zeros(100, bool)
    hidden[3:50] = True
    body = chunk.encode(columns, chunk.Options(), [hidden, None])
    dtypes = [c.dtype for c in columns]
    outcomes, offsets = set(), []
    for bit in range(8 * len(body)):
        changed = bytearray(body)
        changed[bit // 8] ^= 1 << bit % 8
        out, masks = [np.zeros(100, d) for d in dtypes], [np.zeros(100, bool) for _ in dtypes]
        try:
            chunk.decode(bytes(changed), 100, dtypes, out, masks=masks)
            outcomes.add("decoded")
        except CorruptError as error:
            offsets.append(error.offset)
            outcomes.add("refused")
    assert outcomes == {"decoded", "refused"}
    assert min(offsets) >= 0
    assert max(offsets) <= len(body)
    for size in range(len(body)):
        with pytest.raises(CorruptError):
            chunk.decode(body[:size], 100, dtypes, [np.zeros(100, d) for d in dtypes])


def test_describe():
    body = chunk.encode([RAMP, RAMP[::-1]], chunk.Options(predictor="delta"))
    assert [d["predictor"] for d in chunk.describe(body, 2)] == ["delta", "delta"]
    assert sum(d["bytes"] for d in chunk.describe(body, 2)) + 8 == len(body)
