"""Whatever bytes come: the right rows or a `CorruptError`, no other error, no large allocation."""

from __future__ import annotations

import contextlib
import struct
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from tests.codecs.sprintz.container import same, sealed, walk

from hasten._native import ext
from hasten.codecs import sprintz
from hasten.codecs.sprintz import CorruptError, compress, decompress, info, verify

X = walk(40, 2)
BUF = compress(X, chunk_rows=32, names=["a", "b"], rate=1.0)
RECORDS = np.array([(k, k / 3, k % 2, k) for k in range(70)], [("a", "i8"), ("b", "f4"), ("c", "?"), ("t", "M8[s]")])
CODED = [  # arrays of which codes are made, references, a palette, a mask, integers of decimals
    (walk(300, 3), {"profile": "max"}),
    (walk(300, 1, "i8").cumsum(axis=0), {"profile": "balanced"}),
    (np.cumsum(walk(300, 2), axis=1), {"profile": "max", "predictor": "nlms2", "entropy": "rice"}),
    (walk(300, 2, "u1") % 16 * 14, {"profile": "max", "entropy": "classes"}),
    (np.ma.array(walk(300, 2), mask=walk(300, 2) % 3 == 0), {"profile": "max", "predictor": "lpc"}),
    (np.round(walk(300, 2) * 0.01, 2), {"profile": "balanced"}),
    (np.sin(walk(300, 2).astype("f4")), {"profile": "max"}),
]
MUTANTS = 10_000  # of whole files; 80,000 bodies in tests/_native/test_sprintz_mutants.py


def harmless(data: bytes, x: np.ndarray) -> bool:
    """Read in every way; whether `decompress` gave the rows."""
    try:
        y = decompress(data)
    except CorruptError as error:
        offset, whole = error.offset, False
        assert 0 <= offset <= len(data)
    else:
        assert same(x, y)
        whole = True
    try:
        r = sprintz.open(data)
    except CorruptError:
        assert not whole
        return whole
    try:
        found = r[:]
        assert same(found, x[: len(found)])
    except CorruptError:
        assert not whole
    return whole


def test_every_bit():
    for at in range(8 * len(BUF)):
        damaged = bytearray(BUF)
        damaged[at // 8] ^= 1 << at % 8
        assert not harmless(bytes(damaged), X), at
        assert verify(damaged) != []


def test_every_length():
    for size in range(len(BUF)):
        assert not harmless(BUF[:size], X)
        assert verify(BUF[:size]) != []
    assert harmless(BUF, X)


def mutant(data: bytes, generator: np.random.Generator) -> bytes:
    """A copy with one or a few things done to it."""
    out = bytearray(data)
    for _ in range(generator.integers(1, 4)):
        kind, at = generator.integers(7), int(generator.integers(len(out) + 1))
        size = int(generator.integers(1, 40))
        if kind == 0 and at < len(out):
            out[at] = generator.integers(256)
        elif kind == 1:
            out[at : at + size] = generator.bytes(len(out[at : at + size]))
        elif kind == 2:
            del out[at : at + size]
        elif kind == 3:
            out[at:at] = out[at : at + size]
        elif kind == 4:
            other = int(generator.integers(len(out) + 1))
            out[at : at + size] = out[other : other + size]
        elif kind == 5 and at + 4 <= len(out):
            number = int(generator.choice([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, len(out)]))
            struct.pack_into("<I", out, at, number)
        elif kind == 6:
            out = out[:at] if generator.random() < 0.5 else out + generator.bytes(size)
        out = out or bytearray(1)
    return bytes(out)


def test_mutants():
    generator = np.random.default_rng(0)
    files = [(BUF, X), (compress(RECORDS, chunk_rows=32), RECORDS), *((compress(x, **how), x) for x, how in CODED)]
    with peak(1 << 20):
        for k in range(MUTANTS // 100):
            data, x = files[k % len(files)]
            harmless(mutant(data, generator), x)
    for k in range(MUTANTS):
        data, x = files[k % len(files)]
        harmless(mutant(data, generator), x)


@contextlib.contextmanager
def peak(limit: int) -> Iterator[None]:
    """Refuse that more memory is in use at any moment; slow."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


def test_mutants_whose_checksums_fit(monkeypatch):
    # Now anything may come out: these are files that somebody made on purpose. But nothing else may happen.
    generator = np.random.default_rng(1)
    masked = np.ma.array(X, mask=X % 3 == 0)
    files = [BUF, compress(RECORDS, chunk_rows=32), compress(masked, chunk_rows=32), compress(X[:3], meta={"a": [1]})]
    seen = {"rows": 0, "error": 0}
    for k in range(800):
        data = sealed_or_not(mutant(files[k % 4], generator))
        with peak(128 << 20) if k % 40 == 0 else contextlib.nullcontext():  # lists of 2^20 columns, for example
            for read in READS:
                try:
                    read(data)
                    seen["rows"] += 1
                except CorruptError:
                    seen["error"] += 1
    assert min(seen.values()) > 400


@pytest.mark.skipif(ext is None, reason="no compiled module")
def test_codes_that_somebody_made_on_purpose():
    generator = np.random.default_rng(2)
    seen, outside = {"rows": 0, "error": 0}, []
    for x, how in CODED:
        data = compress(x, **how)
        first = data.index(b"\xabTSC") + 32  # the body of the only chunk
        end = first + struct.unpack_from("<I", data, first - 12)[0]
        for _ in range(400):
            changed = bytearray(data)
            for _ in range(generator.integers(1, 4)):
                at = int(generator.integers(first, end if generator.random() < 0.5 else min(end, first + 80)))
                changed[at] = generator.integers(256)
            try:
                decompress(sealed(bytes(changed)))
                seen["rows"] += 1
            except CorruptError as error:
                outside += [] if first <= error.offset <= end else [error.offset]
                seen["error"] += 1
    assert min(seen.values()) > 200
    assert not outside


READS = (
    lambda data: decompress(data, max_chunk_bytes=1 << 20),
    lambda data: sprintz.open(data, max_chunk_bytes=1 << 20)[-50:],
    lambda data: verify(data, max_chunk_bytes=1 << 20),
    lambda data: info(data, details=True, max_chunk_bytes=1 << 20).to_dict(),
)


def sealed_or_not(data: bytes) -> bytes:
    try:
        return sealed(data)
    except struct.error:
        return data


@pytest.mark.parametrize("rows", [1 << 31, 1 << 62, (1 << 64) - 1])
def test_a_trailer_that_promises_the_sky(rows):
    data = bytearray(compress(np.zeros((64, 0), "i2")))
    struct.pack_into("<Q", data, len(data) - 24, rows)
    with pytest.raises(CorruptError, match="the index does not fit the chunks"):
        decompress(sealed(bytes(data)))
