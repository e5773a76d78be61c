"""The codec on a processor of another family: cross-compiled, emulated, and the same bytes as here.

Speed is nobody's business here: an emulator has none.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from tests._native.emulated.machine import ISAS, NUMBERS, parts, sized
from tests._native.test_sprintz_mutants import assert_complete, mutant
from tests.codecs.sprintz.records_by_hand import SERIES, UNSIGNED, body_of, head, planar, series

from hasten._core import dispatch
from hasten._native import ext
from hasten.codecs.sprintz._lanes_head import Cursor, parse_head

pytestmark = [pytest.mark.slow, pytest.mark.skipif(ext is None, reason="no compiled module")]

DTYPES = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8")  # in the order of stats.hpp
HERE = (dispatch.isas() or ("reference",))[-1]
EFFORTS, PREDICTORS, ENTROPIES = (0, 1, 2), range(-1, 8), range(-1, 3)
ROWS = (1, 7, 8, 31, 32, 33, 63, 64, 65, 255, 256, 257, 300, 700)


def verdict(fault: tuple[int, str] | None, values: bytes) -> bytes:
    return b"\0" + values if fault is None else b"\1" + struct.pack("<I", fault[0]) + fault[1].encode()


def test_instruction_sets(machine):
    assert machine([b"i\0"]) == [" ".join(ISAS).encode() + b" crc32"]


# ---- columns


@dataclass
class Chunk:
    """Columns, how to encode them, and what becomes of them here."""

    columns: list[np.ndarray]
    effort: int = 2
    predictor: int = -1
    entropy: int = -1
    cross: bool = True

    @property
    def records(self) -> list[bytes]:
        return ext.tsz_encode(self.columns, self.effort, self.predictor, self.entropy, self.cross, HERE)

    @property
    def _shape(self) -> bytes:
        itemsizes = bytes(x.itemsize for x in self.columns)
        return struct.pack("<IB", len(self.columns[0]), len(itemsizes)) + itemsizes

    def encode(self, isa: int) -> bytes:
        how = struct.pack("BBBB", self.effort, self.predictor + 1, self.entropy + 1, self.cross)
        return bytes([ord("e"), isa]) + how + self._shape + self.values()

    def decode(self, isa: int, body: bytes) -> bytes:
        return bytes([ord("d"), isa]) + self._shape + sized(body)

    def values(self) -> bytes:
        return b"".join(x.tobytes() for x in self.columns)

    def decoded_here(self, body: bytes) -> bytes:
        rows = len(self.columns[0])
        out = [np.zeros(rows, x.dtype) for x in self.columns]
        found = ext.tsz_decode(body, rows, [x.itemsize for x in out], out, HERE)
        if found and isinstance(found, list):
            found = found[0], "a record of another kind"
        return verdict(found or None, b"".join(x.tobytes() for x in out))

    def __repr__(self) -> str:
        shape = f"{len(self.columns)} x {len(self.columns[0])} {self.columns[0].dtype}"
        return f"{shape}, effort {self.effort}, predictor {self.predictor}, entropy {self.entropy}"


def extremes(rows: int, dtype: np.dtype, seed: int) -> list[np.ndarray]:
    """Columns that overflow whatever can, and widths of blocks from none to all bits."""
    g, bits = np.random.default_rng(seed), 8 * dtype.itemsize
    top = 1 << (bits - 1)
    edges = np.array([0, 1, top - 1, top, top + 1, 2 * top - 1], np.uint64)
    width = g.integers(0, bits + 1, -(-rows // 32)).repeat(32)[:rows].astype(np.uint64)
    anything = g.integers(0, 1 << 64, rows, np.uint64)
    widths = np.where(width > 0, anything >> (np.uint64(64) - np.maximum(width, 1)), np.uint64(0))
    z = widths.astype(dtype)
    steps = (z >> 1) ^ (0 - (z & 1)).astype(dtype)  # differences of these widths
    return [
        g.choice(edges, rows).astype(dtype),
        np.resize(np.array([0, 2 * top - 1], np.uint64), rows).astype(dtype),
        np.full(rows, g.choice(edges)).astype(dtype),
        z,
        steps.cumsum(dtype=dtype),
        steps.cumsum(dtype=dtype).cumsum(dtype=dtype),
        np.where(g.random(rows) < 0.02, anything, np.uint64(top)).astype(dtype),
        (np.arange(rows, dtype=np.uint64) * np.uint64(3)).astype(dtype),
    ]


def tones(rows: int, dtype: np.dtype, count: int) -> np.ndarray:
    """What linear prediction of twice so many values predicts, all over the range of a quarter of the bits or more."""
    t = np.arange(rows)
    x = sum(np.sin(t * (0.3 + 0.37 * k) + k) for k in range(count)) / count
    return np.rint(x * (1 << min(8 * dtype.itemsize - 2, 40))).astype(np.int64).astype(dtype)


def chunks() -> list[Chunk]:
    """Every way to encode, with every size of a value; series and lengths take turns."""
    made = []
    for number, (effort, predictor, entropy, dtype) in enumerate(product(EFFORTS, PREDICTORS, ENTROPIES, UNSIGNED)):
        rows = ROWS[number % len(ROWS)]
        columns = [series(name, rows, dtype, number) for name in random.Random(number).sample([*SERIES], 2)]
        columns.append(columns[0] - columns[1])
        columns.append(extremes(rows, dtype, number)[number % 8])
        made.append(Chunk(columns, effort, predictor, entropy, number % 5 > 0))
    for dtype, effort, rows in product(UNSIGNED, EFFORTS, (*ROWS, 1023, 2500)):
        made.append(Chunk(extremes(rows, dtype, rows), effort))
    for predictor, dtype in product((0, 1, 2), UNSIGNED):
        made.append(Chunk(extremes(4000, dtype, 1), 0, predictor, 0))
    for name, dtype in product(SERIES, UNSIGNED):
        made.append(Chunk([series(name, 6000, dtype, 3)], 2))
    for count, rows, dtype, effort in product((1, 2, 4, 8), (200, 400, 1500), UNSIGNED[1:], (1, 2)):
        made.append(Chunk([tones(rows, dtype, count)], effort, 7))
    return made


def order_of(record: bytes, column: np.ndarray) -> int:
    """Of linear prediction; 0: it is not used."""
    return len(parse_head(Cursor(memoryview(record)[1:], 0), column.itemsize).coefficients) if record[0] == 3 else 0


def test_the_same_records(machine):
    every = chunks()
    here = [chunk.records for chunk in every]
    pairs = [
        pair for chunk, records in zip(every, here, strict=True) for pair in zip(records, chunk.columns, strict=True)
    ]
    assert_complete([record for record, _ in pairs])
    orders = {(record[3], order_of(record, column)) for record, column in pairs if record[0] == 3}
    assert orders >= set(product((16, 32, 64), (0, 2, 4, 8, 16)))
    asked = list(product(NUMBERS, zip(every, here, strict=True)))
    answers = machine([chunk.encode(isa) for isa, (chunk, _) in asked])
    for (isa, (chunk, records)), answer in zip(asked, answers, strict=True):
        there = list(parts(answer))
        assert there == records, (isa, chunk)
        assert chunk.decoded_here(body_of(there)) == b"\0" + chunk.values(), (isa, chunk)


def test_the_same_values(machine):
    asked = [(isa, chunk, body_of(chunk.records)) for isa, chunk in product(NUMBERS, chunks())]
    answers = machine([chunk.decode(isa, body) for isa, chunk, body in asked])
    for (isa, chunk, _), answer in zip(asked, answers, strict=True):
        assert answer == b"\0" + chunk.values(), (isa, chunk)


def test_the_same_refusals(machine):
    rng, asked = random.Random(5), []
    for chunk in chunks():
        body = body_of(chunk.records)
        if len(chunk.columns[0]) > 700:
            continue
        asked += [(isa, chunk, changed) for changed in (mutant(body, body, rng) for _ in range(8)) for isa in NUMBERS]
    answers = machine([chunk.decode(isa, body) for isa, chunk, body in asked])
    fine = 0
    for (isa, chunk, body), answer in zip(asked, answers, strict=True):
        assert answer == chunk.decoded_here(body), (isa, chunk)
        fine += answer[0] == 0
    assert len(asked) / 20 < fine < len(asked) / 1.1  # neither is rare


def test_any_residuals_and_coefficients(machine):
    asked, g = [], np.random.default_rng(6)
    for predictor, order, bits, steps in product(range(8), (2, 4, 8, 16), (16, 32, 64), (1, 15, 16, 17, 40)):
        dtype = np.dtype(f"u{bits // 8}")
        if (predictor != 7 and order > 2) or (predictor == 3 and bits > 16):
            continue
        anything = g.integers(0, 1 << bits, 8 * steps, np.uint64).astype(dtype)
        z = np.where(g.random(8 * steps) < 0.5, anything, extremes(8 * steps, dtype, steps)[0])
        linear = g.choice([-32768, -32767, -1, 0, 1, 32767, *g.integers(-9000, 9000, 6).tolist()], order).tolist()
        record = head(predictor, 0, bits, bits // 8, base=3, linear=linear) + planar(z.reshape(steps, 8), bits)
        asked += [(isa, Chunk([np.zeros(8 * steps, dtype)]), body_of([record])) for isa in NUMBERS]
    answers = machine([chunk.decode(isa, body) for isa, chunk, body in asked])
    for (isa, chunk, body), answer in zip(asked, answers, strict=True):
        assert answer[0] == 0
        assert answer == chunk.decoded_here(body), (isa, chunk, body[4:30])


# ---- what a container needs besides


def test_the_same_crc32c_and_checksum(machine):
    g, asked, expected = np.random.default_rng(1), [], []
    for size in [*range(70), 1023, 1024, 3071, 3072, 3073, 3079, 6144, 9999]:
        data = g.integers(0, 256, size, np.uint8)
        before = int(g.integers(0, 1 << 32))
        for isa in NUMBERS:
            asked.append(bytes([ord("c"), isa]) + struct.pack("<I", before) + sized(data.tobytes()))
            expected.append(struct.pack("<I", ext.crc32c(data, before, HERE)))
            asked.append(bytes([ord("k"), isa]) + sized(data.tobytes()))
            expected.append(struct.pack("<Q", ext.checksum(data, HERE)))
    assert machine(asked) == expected


def values_for_stats(rows: int, columns: int, dtype: str, seed: int) -> np.ndarray:
    g = np.random.default_rng(seed)
    if dtype[0] != "f":
        return g.integers(0, 256, rows * columns * int(dtype[1]), np.uint8).view(dtype).reshape(rows, columns)
    x = (g.normal(size=(rows, columns)) * 10.0 ** g.integers(-20, 20, (rows, columns))).astype(dtype)
    x[g.random(x.shape) < 0.1] = np.nan
    x[g.random(x.shape) < 0.02] = -0.0
    return x


def stats_here(x: np.ndarray) -> bytes:
    results = [np.zeros(x.shape[1], kind) for kind in (x.dtype, x.dtype, "u8", "i8", "u4")]
    ext.column_stats(x, *results, HERE)
    return b"".join(result.tobytes() for result in results)


def test_the_same_stats(machine):
    asked, expected = [], []
    shapes = ((1, 1), (2, 3), (255, 1), (256, 1), (257, 1), (100, 3), (33, 255), (5, 300), (2000, 5))
    for (kind, dtype), (rows, columns), far, isa in product(enumerate(DTYPES), shapes, (False, True), NUMBERS):
        x = values_for_stats(rows, columns, dtype, rows)
        x = np.asfortranarray(x) if far else x
        head = struct.pack("<BBIIB", kind, x.itemsize, rows, columns, far)
        asked.append(bytes([ord("s"), isa]) + head + x.tobytes("A"))
        expected.append(stats_here(x))
    assert machine(asked) == expected


# ---- published streams


def matrices() -> Iterator[tuple[np.ndarray, bool]]:
    shapes = ((0, 1), (1, 1), (7, 2), (8, 1), (40, 2), (97, 3), (200, 4), (64, 5), (80, 9), (33, 40), (16, 300))
    for (rows, columns), dtype, bits, fire in product(shapes, ("u1", "u2"), (0, 1, 3, 6, 8, 13, 16), (False, True)):
        g = np.random.default_rng(rows + bits)
        yield g.integers(0, 1 << min(bits, 8 * int(dtype[1])), (rows, columns)).cumsum(0).astype(dtype), fire


def stream_here(x: np.ndarray, fire: bool) -> bytes:
    out = np.zeros(ext.sprintz_v0_bound(*x.shape, x.itemsize), np.uint8)
    return out[: ext.sprintz_v0_encode(x, fire, out)].tobytes()


def stream_read_here(stream: bytes, fire: bool, like: np.ndarray) -> bytes:
    out = np.zeros(like.size, like.dtype)
    count, fault = ext.sprintz_v0_decode(np.frombuffer(stream, np.uint8), fire, out)
    return verdict(fault, out[:count].tobytes())


def test_the_same_published_streams(machine):
    rng, asked, expected = random.Random(3), [], []
    for x, fire in matrices():
        write, read = (b"1\0", b"3\0") if x.itemsize == 1 else (b"2\0", b"4\0")
        asked.append(write + struct.pack("<BII", fire, *x.shape) + x.tobytes())
        expected.append(stream_here(x, fire))
        for stream in (expected[-1], mutant(expected[-1], expected[-1], rng), mutant(expected[-1], b"123", rng)):
            asked.append(read + struct.pack("<BI", fire, x.size) + sized(stream))
            expected.append(stream_read_here(stream, fire, x))
    assert machine(asked) == expected


def test_the_same_huffman_blocks(machine):
    g, rng, asked, expected = np.random.default_rng(2), random.Random(4), [], []
    for size, few in product((0, 1, 2, 100, 1000, 131071, 131073), (1, 2, 17, 256)):
        data = (g.integers(0, few, size) * g.integers(0, 2, size)).astype(np.uint8)
        out = np.zeros(ext.sprintz_huffman_bound(size), np.uint8)
        coded = out[: ext.sprintz_huffman_encode(data, out)].tobytes()
        asked.append(b"h\0" + sized(data.tobytes()))
        expected.append(coded)
        for stream in (coded, mutant(coded, coded, rng)) if coded else ():
            decoded = np.zeros(size, np.uint8)
            fault = ext.sprintz_huffman_decode(np.frombuffer(stream, np.uint8), decoded)
            asked.append(b"H\0" + struct.pack("<I", size) + sized(stream))
            expected.append(verdict(fault, decoded.tobytes()))
    assert machine(asked) == expected
