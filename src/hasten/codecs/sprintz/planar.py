"""One column of a chunk as bytes: subtract a prediction, then pack blocks of 32 differences, each block at its width.

A record is `u8 kind` and what follows from it (docs/formats.md):

- stored: the values as they are. It is what keeps random data from growing.
- planar: `u8 predictor | u8 bits | u64 base | widths | payload`. With `v = value - base` modulo 2^bits, predictor 0
  (none) packs `v`, 1 (delta) packs zigzag(v[t] - v[t-1]), 2 (delta2) packs zigzag of the difference of differences;
  `v` before the first row is 0. `bits` may be fewer than the column's: a range of 4,000 fits 16 bits, whatever the
  dtype. `widths` is one byte for each block of 32 values: the bits that its largest one needs. The payload is the
  blocks one after the other, 32 * width bits each, lowest bits first; the last block is filled up with zeros.

Unlike the published layout, which keeps the columns of a row together in blocks of 8 rows, a column stands alone: it
can be read alone, and its payload needs no padding between rows. All arithmetic wraps, so any value survives.
"""

from __future__ import annotations

import struct

import numpy as np

from .errors import CorruptError

__all__ = ["MASKED", "PLANAR", "PLANAR_PREDICTORS", "decode_column", "encode_column"]

PLANAR_PREDICTORS = ("none", "delta", "delta2")
STORED, PLANAR, MASKED = 0, 1, 2  # kinds of records
BLOCK = 32
_HEAD = struct.Struct("<BBBQ")
_SAMPLE = 2048  # rows, on which predictors are tried


def encode_column(values: np.ndarray, predictor: str) -> bytes:
    """The record of one column.

    Args:
        values: (rows,) of an unsigned dtype: the bits of the column.
        predictor: One of `PLANAR_PREDICTORS`, or "auto": the one that needs the fewest bits on a sample.
    """
    stored = bytes([STORED]) + values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
    if not len(values):
        return stored
    base, narrow = _narrow(values)
    number = _best(narrow) if predictor == "auto" else PLANAR_PREDICTORS.index(predictor)
    blocks = _blocks(_residuals(narrow, number))
    widths = _widths(blocks)
    if _HEAD.size + len(widths) + 4 * int(widths.sum(dtype=np.int64)) >= len(stored):
        return stored
    head = _HEAD.pack(PLANAR, number, 8 * narrow.dtype.itemsize, base)
    return head + widths.tobytes() + _pack(blocks, widths)


def decode_column(record: memoryview, nrows: int, dtype: np.dtype, at: int) -> np.ndarray:
    """The values of a record, (nrows,) of the unsigned `dtype`.

    Raises:
        CorruptError: Not a record of so many values; offsets count from `at`, where the record begins.
    """
    if not len(record):
        raise CorruptError(at, "an empty record")
    if record[0] == STORED:
        if len(record) != 1 + nrows * dtype.itemsize:
            raise CorruptError(at + 1, f"{len(record) - 1} bytes of stored values, {nrows * dtype.itemsize} expected")
        return np.frombuffer(record[1:], dtype.newbyteorder("<")).astype(dtype, copy=False)
    number, bits, base = _parse_head(record, dtype, at)
    count = -(-nrows // BLOCK)
    payload = record[_HEAD.size + count :]
    widths = np.frombuffer(record[_HEAD.size : _HEAD.size + count], np.uint8)
    if len(widths) < count:
        raise CorruptError(at + len(record), "a record ends inside its widths")
    if count and widths.max() > bits:
        raise CorruptError(at + _HEAD.size + int(np.argmax(widths > bits)), f"a width of more than {bits} bits")
    if len(payload) != 4 * int(widths.sum(dtype=np.int64)):
        raise CorruptError(at + _HEAD.size + count, "a payload of another length than its widths say")
    residuals = _unpack(payload, widths).reshape(-1)[:nrows].astype(f"u{bits // 8}")
    narrow = _values(residuals, number)
    return narrow.astype(dtype) + np.array(base & ((1 << 8 * dtype.itemsize) - 1), np.uint64).astype(dtype)


def _parse_head(record: memoryview, dtype: np.dtype, at: int) -> tuple[int, int, int]:
    if record[0] != PLANAR:
        raise CorruptError(at, f"a record of the unknown kind {record[0]}")
    if len(record) < _HEAD.size:
        raise CorruptError(at + len(record), "a record ends inside its head")
    _, number, bits, base = _HEAD.unpack(record[: _HEAD.size])
    if number >= len(PLANAR_PREDICTORS):
        raise CorruptError(at + 1, f"the unknown predictor {number}")
    if bits not in (8, 16, 32, 64) or bits > 8 * dtype.itemsize:
        raise CorruptError(at + 2, f"values of {bits} bits in a column of {8 * dtype.itemsize}")
    return number, bits, base


def _narrow(values: np.ndarray) -> tuple[int, np.ndarray]:
    """Values less a base, in the fewest bytes that hold their range; signed or unsigned, whichever range is smaller."""
    signed = values.view(f"i{values.dtype.itemsize}")
    every = (1 << 8 * values.dtype.itemsize) - 1
    span, base = min((int(v.max()) - int(v.min()), int(v.min()) & every) for v in (values, signed))
    size = next(size for size in (1, 2, 4, 8) if span < 1 << 8 * size)
    return base, (values - np.array(base, np.uint64).astype(values.dtype)).astype(f"u{size}")


def _residuals(v: np.ndarray, number: int) -> np.ndarray:
    if number == 0:
        return v
    for _ in range(number):
        v = np.diff(v, prepend=v.dtype.type(0))
    sign = v.view(f"i{v.dtype.itemsize}") >> (8 * v.dtype.itemsize - 1)
    return (v << np.uint8(1)) ^ sign.view(v.dtype)


def _values(z: np.ndarray, number: int) -> np.ndarray:
    if number == 0:
        return z
    v = (z >> np.uint8(1)) ^ (np.zeros(1, z.dtype) - (z & np.uint8(1)))
    for _ in range(number):
        v = np.cumsum(v, dtype=v.dtype)
    return v


def _best(v: np.ndarray) -> int:
    sample = v[:_SAMPLE]
    sizes = [
        int(_widths(_blocks(_residuals(sample, number))).sum(dtype=np.int64))
        for number in range(len(PLANAR_PREDICTORS))
    ]
    return sizes.index(min(sizes))


def _blocks(z: np.ndarray) -> np.ndarray:
    return np.pad(z, (0, -len(z) % BLOCK)).reshape(-1, BLOCK)


def _widths(blocks: np.ndarray) -> np.ndarray:
    """Bits that the largest value of each block needs."""
    every = np.bitwise_or.reduce(blocks, axis=1)
    powers = np.array([1 << bit for bit in range(8 * blocks.dtype.itemsize)], blocks.dtype)
    return np.searchsorted(powers, every, side="right").astype(np.uint8)


def _places(widths: np.ndarray) -> np.ndarray:
    return 4 * np.concatenate([[0], np.cumsum(widths, dtype=np.int64)])


def _pack(blocks: np.ndarray, widths: np.ndarray) -> bytes:
    places = _places(widths)
    out = np.zeros(places[-1], np.uint8)
    for width in np.unique(widths[widths > 0]).tolist():
        chosen = np.flatnonzero(widths == width)
        bits = (blocks[chosen][:, :, None] >> np.arange(width, dtype=blocks.dtype)) & np.uint8(1)
        packed = np.packbits(bits.astype(np.uint8).reshape(len(chosen), -1), axis=1, bitorder="little")
        out[places[chosen][:, None] + np.arange(4 * width)] = packed
    return out.tobytes()


def _unpack(payload: memoryview, widths: np.ndarray) -> np.ndarray:
    """(blocks, 32) of uint64."""
    places, data = _places(widths), np.frombuffer(payload, np.uint8)
    out = np.zeros((len(widths), BLOCK), np.uint64)
    for width in np.unique(widths[widths > 0]).tolist():
        chosen = np.flatnonzero(widths == width)
        packed = data[places[chosen][:, None] + np.arange(4 * width)]
        bits = np.unpackbits(packed, axis=1, bitorder="little").reshape(len(chosen), BLOCK, width)
        weights = np.array([1 << bit for bit in range(width)], np.uint64)
        out[chosen] = (bits * weights).sum(axis=2, dtype=np.uint64)
    return out
