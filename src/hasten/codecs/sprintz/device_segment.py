"""One segment of a device stream: its head, the walk over its blocks to its checksum, and their rows.

The format stands in `device.py`. What is read here is untrusted: a segment's rows are made after its checksum is right
(or where the caller asks for rows that none covers), and never more of them than the caller allows.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np

from .errors import CorruptError, VersionError

MAGIC = b"\x89TSZD\r\n\x1a"
VERSION = 1
PREDICTORS = ("delta", "nlms1")  # by their number in the stream
MAX_COLUMNS = 1024  # a device is no server; keeps 22 B per column within 16 bits of size_t
MAX_VALUES = 2**28  # decoded at most, unless the caller says otherwise
CHECKPOINT = 256  # blocks in a segment
BLOCK = 8  # rows
NARROW, WIDE, RUN, NEXT, END = 1, 2, 3, 4, 5  # kinds
BATCH = 1 << 15  # blocks of one column unpacked at a time, which bounds the memory in use
FIXED = struct.Struct("<8sBBBBHI")  # the head before the state
_NARROW = bytes((b & 15) + (b >> 4) for b in range(256))  # sum of the two widths in a byte
_WIDE = bytes(sum(n + (n == 15) for n in (b & 15, b >> 4)) for b in range(256))


@dataclass(frozen=True)
class Head:
    """The head of a segment: where it starts, where its blocks do, and what it says."""

    start: int
    body: int
    predictor: str
    columns: int
    first: int
    kept: bytes  # the state as it stands there; empty if all is 0
    crc: int

    @property
    def state(self) -> list[tuple[int, ...]]:
        """Per column p, or p, q, a."""
        words = 1 if self.predictor == "delta" else 3
        state = np.frombuffer(self.kept or bytes(2 * words * self.columns), "<i2").reshape(-1, words)
        return [tuple(s) for s in state.tolist()]

    def follows(self, other: Head, rows: int, *, gap: bool = True) -> bool:
        """Whether this is a later head of the same recording: at row `rows`, or with a gap after it."""
        ahead = (self.first - rows) % 2**32
        return (self.columns, self.predictor) == (other.columns, other.predictor) and ahead < (2**31 if gap else 1)


def make_head(learn: bool, first: int, state: list[list[int]]) -> bytes:
    """The head of the segment that begins with row `first`; `state`: per column p, q, a."""
    known = any(map(any, state))
    head = FIXED.pack(MAGIC, VERSION, 16, learn, known, len(state), first % 2**32)
    head += np.array([s if learn else s[:1] for s in state], "<i2").tobytes() if known else b""
    return head + struct.pack("<I", zlib.crc32(head))


def read_head(data: bytes, at: int) -> Head:
    """The head at `at`; CorruptError where there is none."""
    if data[at : at + 8] != MAGIC:
        raise CorruptError(at, "no head of a device stream")
    if len(data) < at + FIXED.size:
        raise CorruptError(len(data), "the stream ends inside a head")
    _, version, bits, predictor, flags, columns, first = FIXED.unpack_from(data, at)
    if version != VERSION:
        raise VersionError(at + 8, f"version {version} of the device stream; this hasten reads {VERSION}")
    if bits != 16 or predictor >= len(PREDICTORS) or flags > 1 or not 1 <= columns <= MAX_COLUMNS:
        raise CorruptError(at + 9, "the head names a predictor, width, flag or number of columns that is not known")
    words = (3 if predictor else 1) * flags * columns
    body = at + FIXED.size + 2 * words + 4
    if len(data) < body:
        raise CorruptError(len(data), "the stream ends inside a head")
    (crc,) = struct.unpack_from("<I", data, body - 4)
    if crc != zlib.crc32(data[at : body - 4]):
        raise CorruptError(body - 4, "the checksum of the head is wrong")
    return Head(at, body, PREDICTORS[predictor], columns, first, data[at + FIXED.size : body - 4], crc)


def find_heads(data: bytes) -> list[Head]:
    """All heads whose checksum is right; an error if there is none."""
    found, error, at = [], CorruptError(0, "no head of a device stream"), data.find(MAGIC)
    while at >= 0:
        try:
            found.append(read_head(data, at))
        except CorruptError as fault:
            error = fault
        at = data.find(MAGIC, at + 1)
    if not found:
        raise error
    return found


@dataclass
class Segment:
    """What the bytes of a segment hold: how many blocks, where the coded ones stand, the rows left, the fault."""

    head: Head
    blocks: int
    index: list[int]  # of each coded block among the blocks
    places: list[int]  # and where its bytes begin
    left: bytes
    end: int
    last: bool = False
    fault: CorruptError | None = None
    cut: bool = False  # the fault is that the bytes end


def scan(data: bytes, head: Head, stop: int) -> Segment:
    """Walk the blocks from `head` to its tail, which must come before `stop`; check the tail."""
    size = (head.columns + 2) // 2  # bytes of kind and widths
    padded = head.columns % 2 == 0
    segment = Segment(head, 0, [], [], b"", stop)
    at = head.body
    while at < stop:
        byte = data[at]
        kind = byte & 15
        if kind in (NARROW, WIDE):
            widths = data[at : at + size]
            end = at + size + sum(map((_NARROW if kind == NARROW else _WIDE).__getitem__, widths)) - kind
            if end > stop:
                break
            if padded and widths[-1] > 15:
                return _faulty(segment, at + size - 1, "the padding after the widths is not zero")
            segment.index.append(segment.blocks)
            segment.places.append(at)
            segment.blocks += 1
        elif byte == RUN:
            end = at + 2
            if end > stop:
                break
            if not data[at + 1]:
                return _faulty(segment, at + 1, "a run of no blocks")
            segment.blocks += data[at + 1]
        elif byte == NEXT or (kind == END and byte >> 4 < BLOCK):
            return _tail(data, segment, at, stop)
        else:
            return _faulty(segment, at, f"no block begins with 0x{byte:02x}")
        at = end
    segment.cut = True
    return _faulty(segment, stop, "the bytes end inside a segment")


def _tail(data: bytes, segment: Segment, at: int, stop: int) -> Segment:
    head, left = segment.head, data[at] >> 4
    counted = at + 1 + 2 * left * head.columns
    if counted + 8 > stop:
        segment.cut = True
        return _faulty(segment, stop, "the bytes end inside a segment")
    rows, crc = struct.unpack_from("<II", data, counted)
    if crc != zlib.crc32(memoryview(data)[head.body : counted + 4], head.crc):
        return _faulty(segment, counted + 4, "the checksum of the segment is wrong")
    if rows != (head.first + BLOCK * segment.blocks + left) % 2**32:
        return _faulty(segment, counted, "the number of rows is wrong")
    segment.left, segment.end, segment.last = data[at + 1 : counted], counted + 8, data[at] != NEXT
    return segment


def _faulty(segment: Segment, at: int, reason: str) -> Segment:
    segment.fault = CorruptError(at, reason)
    return segment


def read_rows(data: bytes, segment: Segment, before: int, max_rows: int | None) -> tuple[np.ndarray, list]:
    """The rows of a segment, (rows, columns) int16, and the state after its blocks."""
    columns = segment.head.columns
    left = np.frombuffer(segment.left, "<i2").reshape(-1, columns)
    limit = MAX_VALUES // columns if max_rows is None else max_rows
    if before + BLOCK * segment.blocks + len(left) > limit:
        raise CorruptError(segment.head.start, f"more than {limit} rows; pass max_rows= to read them")
    body = segment.head.body
    # 3 bytes are read for a value, also for one of 0 bits at the end.
    raw = np.frombuffer(data[body : segment.end] + bytes(3), np.uint8)
    index, places = np.array(segment.index, np.int64), np.array(segment.places, np.int64) - body
    z = np.zeros((segment.blocks, columns, BLOCK), np.uint16)
    step = max(1, BATCH // columns)
    for i in range(0, len(index), step):
        z[index[i : i + step]] = _unpack(raw, places[i : i + step], columns)
    residuals = ((z >> 1) ^ -(z & 1)).transpose(0, 2, 1).reshape(-1, columns)
    if segment.head.predictor == "delta":
        state = np.array(segment.head.state, np.int16)[:, 0]
        rows = (np.cumsum(residuals, axis=0, dtype=np.uint16) + state.view(np.uint16)).view(np.int16)
        after = [(p,) for p in (rows[-1] if len(rows) else state).tolist()]
    else:
        rows, after = np.empty(residuals.shape, np.int16), []
        for c, state in enumerate(segment.head.state):
            rows[:, c], state = _learned(residuals[:, c].view(np.int16).tolist(), *state)
            after.append(state)
    return np.concatenate([rows, left], dtype=np.int16), after


def wrap(v: int) -> int:
    """`v` modulo 2^16, as a signed number."""
    return (v + 0x8000 & 0xFFFF) - 0x8000


def _unpack(raw: np.ndarray, places: np.ndarray, columns: int) -> np.ndarray:
    """The zigzagged residuals of the blocks at `places`, (blocks, columns, 8)."""
    size = (columns + 2) // 2
    packed = raw[places[:, None] + np.arange(size)]
    nibbles = np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(places), -1)
    widths = nibbles[:, 1 : columns + 1].astype(np.int64)
    widths += (widths == 15) & (nibbles[:, :1] == WIDE)
    starts = places[:, None] + size + np.cumsum(widths, axis=1) - widths
    bits = widths[..., None] * np.arange(BLOCK)
    at = starts[..., None] + (bits >> 3)
    window = raw[at] | raw[at + 1].astype(np.uint32) << 8 | raw[at + 2].astype(np.uint32) << 16
    return window >> (bits & 7) & (1 << widths[..., None]) - 1


def _learned(residuals: list[int], p: int, q: int, a: int) -> tuple[np.ndarray, tuple[int, int, int]]:
    """The values of one column predicted by nLMS-1, and the state after them."""
    out = []
    for start in range(0, len(residuals), BLOCK):
        signs = 0
        for e in residuals[start : start + BLOCK]:
            if e and q:
                signs += 1 if (e ^ q) >= 0 else -1
            q = wrap(e + (a * q + 0x4000 >> 15))
            p += q
            out.append(p)
        a = min(max(a + 128 * signs, -(2**14)), 2**15 - 1)
    return np.array(out, np.int64).astype(np.int16), (wrap(p), q, a)
