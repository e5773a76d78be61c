"""Streams that a microcontroller writes while it measures: read here, written by `tsz_encoder.h` (C99, < 1 KB of RAM).

A device knows neither how many rows will come nor whether its battery lasts, so its stream has no index and no lengths
ahead: it is a row of segments, each with a head that says all a reader needs, blocks of 8 rows, and a checksum at the
end. A reader that meets damage looks for the next head.

A segment, little-endian:

    head        magic 8 B | version u8 = 1 | bits u8 = 16 | predictor u8 | flags u8 | columns u16 | first row u32
                | state, if flags bit 0: per column p (and q, a with nLMS-1), 2 B each | crc u32
    blocks      nibble kind, then as the kind says
      1, 2        a nibble of width per column, padding to a byte; per column `width` bytes: 8 values, LSB first.
                  Nibble 15 is width 15 in kind 1 and width 16 in kind 2
      3           nibble 0, u8 how many blocks of zeros (1..255)
    tail
      4           nibble 0, u32 rows so far, crc u32; another segment follows
      5           nibble 0..7 rows left, these rows raw, u32 rows in all, crc u32; the end

The values of a block are residuals of a prediction, modulo 2^16 and zigzagged. With d = x - p and e = d - f, p the
value and q the d of the row before: delta has f = 0; nLMS-1 has f = floor((a q + 2^14) / 2^15), a fixed within a block
and then a += 128 sum(sgn(e) sgn(q)), kept in -2^14..2^15 - 1. All start at 0 and go on from segment to segment; a head
repeats them, so that a segment decodes alone. A crc is zlib's CRC-32; that of a tail goes on from that of its head,
neither counts itself. Rows are counted modulo 2^32.

Nothing is lost. Decoding is NumPy and, for nLMS-1, a Python loop over the values: made for reading logs in, not for
training from; recompress with `hasten.codecs.sprintz.compress` for that.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hasten._core.checks import check, near, refuse, refuse_type, whole

from .device_segment import (
    BLOCK,
    CHECKPOINT,
    END,
    MAX_COLUMNS,
    NARROW,
    NEXT,
    PREDICTORS,
    RUN,
    WIDE,
    find_heads,
    make_head,
    read_head,
    read_rows,
    scan,
    wrap,
)
from .errors import CorruptError

__all__ = ["DeviceRecording", "Gap", "decode", "encode", "header_path", "include_dir"]


@dataclass(frozen=True)
class Gap:
    """Bytes that could not be read, and the rows they held.

    Attributes:
        row: The gap lies before this row of the data returned.
        missing: How many rows are missing; None where nothing after the gap tells.
        start: Where the bytes begin.
        stop: Where they end.
        reason: What was wrong with them.
    """

    row: int
    missing: int | None
    start: int
    stop: int
    reason: str


@dataclass(frozen=True)
class DeviceRecording:
    """What a device recorded.

    Attributes:
        data: The rows whose checksum is right, (rows, columns) int16.
        predictor: "delta" or "nlms1".
        gaps: What is missing between them; empty for an undamaged stream.
        complete: The end block was read: the device finished the stream.
        end: Where reading stopped. Another recording (of a device that restarted) may begin there.
        unverified: The rows of a last segment without its end (power lost), (rows, columns) int16. They are right if
            the stream was only cut off; no checksum says so.
    """

    data: np.ndarray
    predictor: str
    gaps: tuple[Gap, ...]
    complete: bool
    end: int
    unverified: np.ndarray

    def row_numbers(self) -> np.ndarray:
        """The device's number of each row of `data`, (rows,) int64, counted from 0: times the period, its time."""
        numbers = np.arange(len(self.data))
        for gap in self.gaps:
            numbers[gap.row :] += gap.missing or 0
        return numbers


def include_dir() -> Path:
    """The folder of the C header, for a compiler's `-I`.

    Example:
        >>> (include_dir() / "tsz_encoder.h").is_file()
        True
    """
    return Path(__file__).parent / "include"


def header_path() -> Path:
    """The C header `tsz_encoder.h`, to copy into a firmware's source."""
    return include_dir() / "tsz_encoder.h"


# ---------------------------------------------------------------- encode, as the C header does


def encode(x: np.ndarray, predictor: str = "delta", *, checkpoint: int = CHECKPOINT) -> bytes:
    """Encode rows as `tsz_encoder.h` does, byte for byte: a slow and plain reference.

    Args:
        x: (rows,) or (rows, columns) int16, at most 1024 columns.
        predictor: "delta" (the last value) or "nlms1" (and a learned share of the last step).
        checkpoint: Blocks of 8 rows in a segment, 0..65535; 0 means one segment.

    Returns:
        The stream.

    Raises:
        ValueError: An argument out of range.
        TypeError: `x` is not int16.

    Example:
        >>> stream = encode(np.arange(800, dtype=np.int16), "nlms1")
        >>> len(stream), int(decode(stream).data.sum())
        (84, 319600)
    """
    rows = _int16(x)
    if predictor not in PREDICTORS:
        raise refuse("encode", "predictor 'delta' or 'nlms1'", repr(predictor), near(str(predictor), PREDICTORS))
    check(whole("encode", "checkpoint", checkpoint) < 2**16, "encode", "checkpoint below 65536", checkpoint)
    learn = predictor == "nlms1"
    state = [[0, 0, 0] for _ in range(rows.shape[1])]
    out, body, blocks, run = bytearray(), 0, 0, 0  # body: where the blocks of the segment begin; 0 before its head
    full = len(rows) - len(rows) % BLOCK
    for first in range(0, full, BLOCK):
        if not body:
            out += make_head(learn, first, state)
            body, blocks = len(out), 0
        block = rows[first : first + BLOCK].T.tolist()
        residuals = [_forecast(column, s, learn) for column, s in zip(block, state, strict=True)]
        blocks += 1
        zero = not any(map(any, residuals))
        run += zero
        if run == 255 or (run and (not zero or blocks == checkpoint)):
            out += bytes([RUN, run])
            run = 0
        out += b"" if zero else _block_bytes(residuals)
        if blocks == checkpoint:
            out += _tail_bytes(out, body, NEXT, b"", first + BLOCK)
            body = 0
    if not body:
        out += make_head(learn, full, state)
        body = len(out)
    out += bytes([RUN, run]) if run else b""
    out += _tail_bytes(out, body, END | len(rows) - full << 4, rows[full:].tobytes(), len(rows))
    return bytes(out)


def _int16(x: Any) -> np.ndarray:
    """`x` as C-contiguous little-endian (rows, columns)."""
    x = np.asarray(x)
    if x.dtype.kind != "i" or x.dtype.itemsize != 2:
        raise refuse_type("encode", "int16 values", x, "Use x.astype(np.int16) if all fit; view uint16 as np.int16.")
    if x.ndim not in (1, 2) or (x.ndim == 2 and not 1 <= x.shape[1] <= MAX_COLUMNS):
        raise refuse("encode", "shape (rows,) or (rows, columns) with 1..1024 columns", x, "Reshape or split x.")
    return np.ascontiguousarray(x if x.ndim == 2 else x[:, None], "<i2")


def _forecast(column: list[int], state: list[int], learn: bool) -> list[int]:
    """The zigzagged residuals of a block of one column; `state` moves on."""
    p, q, a = state
    out, signs = [], 0
    for x in column:
        d = wrap(x - p)
        e = d
        if learn:
            e = wrap(d - (a * q + 0x4000 >> 15))
            signs += (e > 0) - (e < 0) if q > 0 else (e < 0) - (e > 0) if q < 0 else 0
            q = d
        p = x
        out.append(2 * e if e >= 0 else -2 * e - 1)
    state[:] = p, q, min(max(a + 128 * signs, -(2**14)), 2**15 - 1)
    return out


def _block_bytes(residuals: list[list[int]]) -> bytes:
    widths = [max(z).bit_length() for z in residuals]
    kind = WIDE if 16 in widths else NARROW
    if kind == WIDE:
        widths = [16 if w == 15 else w for w in widths]
    nibbles = [kind, *(min(w, 15) for w in widths), 0]
    out = bytes(low | high << 4 for low, high in zip(nibbles[::2], nibbles[1::2], strict=False))
    for z, w in zip(residuals, widths, strict=True):
        out += sum(v << i * w for i, v in enumerate(z)).to_bytes(w, "little")
    return out


def _tail_bytes(out: bytearray, body: int, kind: int, left: bytes, rows: int) -> bytes:
    tail = bytes([kind]) + left + struct.pack("<I", rows % 2**32)
    (crc,) = struct.unpack_from("<I", out, body - 4)
    return tail + struct.pack("<I", zlib.crc32(tail, zlib.crc32(out[body:], crc)))


# ---------------------------------------------------------------- decode


def decode(buf: Any, *, strict: bool = True, max_rows: int | None = None) -> DeviceRecording:
    """Decode the stream of a device.

    Args:
        buf: The bytes (any buffer).
        strict: True refuses a stream with any fault. False returns the segments that are whole and says what lies
            between them; it ends where another recording begins, as after a restart (`DeviceRecording.end`).
        max_rows: Most rows to return; None means as many as make 2^28 values (512 MiB).

    Returns:
        Rows, gaps, and whether the device finished the stream.

    Raises:
        CorruptError: With `strict`, any byte is damaged or missing; without, no head of a segment is left.
        VersionError: A format of a newer hasten.

    Example:
        >>> stream = encode(np.arange(100, dtype=np.int16).reshape(50, 2), checkpoint=2)
        >>> decode(stream).data.shape
        (50, 2)
        >>> damaged = decode(stream[:80] + stream[81:], strict=False)
        >>> damaged.data.shape, damaged.gaps[0].missing
        ((34, 2), 16)
    """
    data = bytes(memoryview(buf).cast("B"))
    if max_rows is not None:
        whole("decode", "max_rows", max_rows)
    return (_strict if strict else _lenient)(data, max_rows)


def _strict(data: bytes, max_rows: int | None) -> DeviceRecording:
    head = read_head(data, 0)
    if head.first:
        raise CorruptError(0, f"the stream begins at row {head.first}")
    parts, rows = [], 0
    while True:
        segment = scan(data, head, len(data))
        if segment.fault:
            raise segment.fault
        part, state = read_rows(data, segment, rows, max_rows)
        parts.append(part)
        rows += len(part)
        if segment.last:
            break
        following = read_head(data, segment.end)
        if not following.follows(head, rows, gap=False) or following.state != state:
            raise CorruptError(segment.end, "this segment does not go on from the one before")
        head = following
    if segment.end != len(data):
        raise CorruptError(segment.end, "bytes after the end block")
    return DeviceRecording(np.concatenate(parts), head.predictor, (), True, segment.end, parts[0][:0])


def _lenient(data: bytes, max_rows: int | None) -> DeviceRecording:
    heads = find_heads(data)
    end = len(data)
    parts, gaps, segment = [np.empty((0, heads[0].columns), np.int16)], [], None
    rows = expected = at = 0  # rows returned; the device's number of the next one; bytes accounted for
    reason = "bytes that belong to no segment"
    floor = heads[0].first
    for head, stop in zip(heads, [*(h.start for h in heads[1:]), len(data)], strict=True):
        if not head.follows(heads[0], floor):
            end = head.start  # another recording
            break
        segment = scan(data, head, stop)
        if segment.fault:
            reason, floor = segment.fault.reason, head.first
            continue
        missing = (head.first - expected) % 2**32
        if missing or head.start != at:
            gaps.append(Gap(rows, missing, at, head.start, reason))
        part, _ = read_rows(data, segment, rows, max_rows)
        parts.append(part)
        rows, expected, at = rows + len(part), expected + missing + len(part), segment.end
        reason, floor = "bytes that belong to no segment", expected
        if segment.last:
            break
    complete = segment is not None and segment.last
    unverified = parts[0]
    if not complete and segment is not None and segment.cut:
        unverified, _ = read_rows(data, segment, rows, max_rows)
    if not complete and at != end:
        gaps.append(Gap(rows, None, at, end, reason))
    end = at if complete else end
    return DeviceRecording(np.concatenate(parts), heads[0].predictor, tuple(gaps), complete, end, unverified)
