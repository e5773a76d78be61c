"""Bodies of tsz chunks that changed: each is refused with an offset or decodes, alike with every instruction set.

NumPy only, and arrays that end where their allocation ends: a sanitizer sees each byte read or written too many. What
records mean is checked in tests/codecs/sprintz/; fuzz/ does the same for longer, and bounds memory and time.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import pytest

from hasten._core import dispatch
from hasten._native import ext

pytestmark = pytest.mark.skipif(ext is None, reason="no compiled module")
ISAS = dispatch.isas()
MUTANTS = 80_000
EFFORTS = {"fast": 0, "balanced": 1, "max": 2}
EXTREMES = (0, 1, 255, 256, 65535, 65536, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def at_the_end(size: int) -> np.ndarray:
    """Bytes at the very end of an allocation."""
    return np.zeros(64 + size, np.uint8)[64:]


@dataclass
class Body:
    """A good body, or a good record, and room for its columns."""

    data: bytes
    columns: list[np.ndarray]
    single: bool = False
    out: list[np.ndarray] = field(init=False)

    def __post_init__(self) -> None:
        self.out = [at_the_end(x.nbytes).view(x.dtype) for x in self.columns]

    def decode(self, data: bytes, isa: str) -> tuple[int, str] | None:
        """The fault that is found; None: `out` holds the values."""
        exact = at_the_end(len(data))
        exact[:] = np.frombuffer(data, np.uint8)
        if self.single:
            return ext.tsz_decode_record(exact, self.out[0], isa)
        found = ext.tsz_decode(exact, len(self.out[0]), [x.itemsize for x in self.out], self.out, isa)
        return None if isinstance(found, list) else found


def series(kind: str, rows: int, dtype: str, rng: np.random.Generator) -> np.ndarray:
    """(rows,) of an unsigned dtype: what takes the different paths of the encoder."""
    wide = np.dtype(dtype).itemsize > 1
    if kind == "walk":
        x = rng.integers(-7, 8, rows).cumsum() + int(rng.integers(0, 200))
    elif kind == "wide":
        step = 1 << 5 * min(np.dtype(dtype).itemsize, 8)
        x = rng.integers(-step, step, rows).cumsum()
    elif kind == "smooth":
        x = np.rint((3000 if wide else 90) * np.sin(np.arange(rows) / 9)).astype(np.int64) + rng.integers(0, 3, rows)
    elif kind == "multiples":
        x = 7 + 12 * rng.integers(0, 900 if wide else 20, rows)
    elif kind == "few":
        x = rng.choice(rng.integers(0, 6000 if wide else 200, 24), rows)
    else:
        x = 50 + (rng.random(rows) < 0.02) * rng.integers(0, 100, rows)
    return x.astype(np.int64).astype(dtype)


def records(columns: list[np.ndarray], effort: str, predictor: int, entropy: int) -> list[bytes]:
    return ext.tsz_encode(columns, EFFORTS[effort], predictor, entropy, True, "scalar")


def joined(found: list[bytes]) -> bytes:
    return np.cumsum([len(record) for record in found]).astype("<u4").tobytes() + b"".join(found)


def bodies() -> list[Body]:
    """All predictors, codes, mappings, sizes of values, references and contexts; asserts that none is missing."""
    rng = np.random.default_rng(4)
    kinds = ("walk", "wide", "smooth", "multiples", "few", "sparse")
    made: list[tuple[list[np.ndarray], list[bytes]]] = []
    for i, (predictor, entropy, dtype) in enumerate(product(range(-1, 8), range(-1, 3), ("u1", "u2", "u4", "u8"))):
        rows = int(rng.integers(20, 300))
        x = [series(str(rng.choice(kinds)), rows, dtype, rng) for _ in range(1 + i % 3)]
        made.append((x, records(x, ("fast", "balanced", "max")[i // 4 % 3], predictor, entropy)))
    for dtype in ("u2", "u4") * 3:
        a, b = series("walk", 300, dtype, rng), series("walk", 300, dtype, rng)
        noise = rng.integers(0, 3, 300).astype(dtype)
        x = [a, b, a + noise, 2 * a - b + noise]
        made.append((x, records(x, "max", -1, -1)))
    for kind, dtype in product(kinds, ("u2", "u8")):
        x = [series(kind, 2300, dtype, rng)]
        made.append((x, records(x, "max", -1, 2)))
    assert_complete([record for _, found in made for record in found])
    found = [Body(joined(r), x) for x, r in made]
    found += [Body(r[0], x, single=True) for x, r in made if len(x) == 1]
    for body in found:
        for isa in ISAS:
            assert body.decode(body.data, isa) is None
            assert all(np.array_equal(x, y) for x, y in zip(body.columns, body.out, strict=True))
    return found


def assert_complete(every: list[bytes]) -> None:
    lanes = [record for record in every if record[0] == 3]
    assert {record[0] for record in every} == {0, 1, 3}
    assert {record[1] for record in lanes} == set(range(8))  # predictors
    assert {record[2] for record in lanes} == set(range(3))  # codes
    assert {record[3] for record in lanes} == {16, 32, 64}
    assert {record[4] for record in lanes} == set(range(3))  # mappings
    assert {record[5] for record in lanes} == set(range(3))  # references


def mutant(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """Changed in one place or a few, more often near the beginning, where the heads are."""
    out = bytearray(data)
    for _ in range(1 if rng.random() < 0.6 else rng.randint(2, 4)):
        how, size = rng.randrange(8), rng.randint(1, 12)
        at = int(rng.random() * (len(out) if rng.random() < 0.5 else min(len(out), 60)))
        if how == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            out[at] = rng.randrange(256)
        elif how == 2:
            out[at : at + 4] = struct.pack("<I", rng.choice(EXTREMES))
        elif how == 3:
            out[at : at + size] = rng.randbytes(len(out[at : at + size]))
        elif how == 4:
            del out[at : at + size]
        elif how == 5:
            out[at:at] = rng.randbytes(size)
        elif how == 6:
            start = rng.randrange(len(other))
            out[at : at + size] = other[start : start + rng.randint(0, 40)]
        else:
            del out[at if rng.random() < 0.7 else len(out) - size :]
        out = out or bytearray(1)
    return bytes(out)


def mended(data: bytes, columns: int) -> bytes:
    """With a directory whose last record ends where the body does."""
    head = 4 * columns
    return data if len(data) < head else data[: head - 4] + struct.pack("<I", len(data) - head) + data[head:]


def is_refused(body: Body, changed: bytes, isas: tuple[str, str]) -> bool:
    fault = body.decode(changed, isas[0])
    first = None if fault else [x.tobytes() for x in body.out]
    assert body.decode(changed, isas[1]) == fault
    if fault is not None:
        assert 0 <= fault[0] <= len(changed)
        assert fault[1]
        return True
    assert [x.tobytes() for x in body.out] == first
    return False


def test_mutants_of_bodies() -> None:
    every, rng = bodies(), random.Random(0)
    refused = 0
    for i in range(MUTANTS):
        body = every[i % len(every)]
        changed = mutant(body.data, every[rng.randrange(len(every))].data, rng)
        if not body.single and i % 4 < 3:
            changed = mended(changed, len(body.columns))
        refused += is_refused(body, changed, (ISAS[0], ISAS[i // len(every) % len(ISAS)]))
    assert 0.5 * MUTANTS < refused < 0.95 * MUTANTS


def test_every_truncation_is_refused() -> None:
    for body in bodies():
        columns = len(body.columns)
        for length in range(0, len(body.data), 1 + len(body.data) // 60):
            assert is_refused(body, body.data[:length], (ISAS[-1], ISAS[0]))
            if not body.single and 4 * columns < length:
                assert body.decode(mended(body.data[:length], columns), ISAS[-1]) is not None
        assert is_refused(body, body.data + b"\0", (ISAS[-1], ISAS[0]))
