"""Columns through zstd: taken where stretches repeat, left where they do not, and no frame can do harm."""

from __future__ import annotations

import contextlib
import sys

import numpy as np
import pytest
from tests.codecs.sprintz.floats import WALK, back, integers, names, pack

from hasten.codecs.sprintz import CorruptError
from hasten.codecs.sprintz.lz import decode_zstd, maybe_zstd

zstandard = pytest.importorskip("zstandard", reason="zstandard is not installed")

REPEATED = np.tile(np.random.default_rng(0).integers(0, 60000, 300), 30).astype(np.uint16)
U2 = np.dtype("u2")


def test_repeated_stretches():
    record = maybe_zstd(REPEATED, len(integers(REPEATED)), 9)
    assert record is not None
    assert record[0] == 7
    assert len(record) < 1000
    assert (decode_zstd(memoryview(record), len(REPEATED), U2, 0) == REPEATED).all()


def test_bytes_are_put_together_where_that_is_smaller():
    high = np.repeat(np.arange(90), 100).astype(np.uint16) << 8
    values = high | np.random.default_rng(0).integers(0, 256, 9000).astype(np.uint16)
    record = maybe_zstd(values, 16000, 9)
    assert record is not None
    assert record[1] == 1
    assert (decode_zstd(memoryview(record), 9000, U2, 0) == values).all()


def test_not_where_it_gains_little():
    walk = WALK.astype(np.uint16)
    assert maybe_zstd(walk, len(integers(walk)), 9) is None
    assert maybe_zstd(REPEATED, 63, 9) is None
    size = len(maybe_zstd(REPEATED, 10**6, 9) or b"")
    assert maybe_zstd(REPEATED, int(size / 0.9) - 2, 9) is None


def test_long_columns_are_tried_on_their_beginning():
    head = np.random.default_rng(0).integers(0, 1 << 16, 1 << 15).astype(np.uint16)
    values = np.concatenate([head, np.zeros(1 << 17, np.uint16)])
    assert maybe_zstd(values, 70_000, 3) is None  # its 64 KiB do not repeat
    values = np.resize(REPEATED, 100_000)
    record = maybe_zstd(values, 50_000, 3)
    assert record is not None
    assert (decode_zstd(memoryview(record), 100_000, U2, 0) == values).all()


def test_columns_of_every_dtype():
    for dtype in ("u1", "i2", "u4", "i8", "f4", "f8", "?"):
        column = np.tile(np.random.default_rng(0).normal(size=200) * 100, 20).astype(dtype)
        record = pack(column, None, 9)
        assert names(record)[-1:] == ["zstd"]
        assert back(column, None, 9).tobytes() == column.tobytes()
        assert pack(column, None, 9) == record
    column = np.tile(np.random.default_rng(0).normal(size=200), 20)
    assert names(pack(column, 0.01, 9)) == ["quantised", "zstd"]
    assert np.abs(back(column, 0.01, 9) - column).max() < 0.01


@pytest.mark.parametrize("size", [0, 1 << 40])
def test_a_frame_of_another_size_is_not_decoded(size):
    frame = bytearray(zstandard.ZstdCompressor().compress(bytes(4000)))
    said = zstandard.get_frame_parameters(bytes(frame)).content_size
    assert said == 4000
    if size:
        frame[4:7] = b"\xc0" + bytes(2)  # a content size of 8 bytes
        frame[5:7] = b""
        frame[5:5] = b"\x50" + (1 << 40).to_bytes(8, "little")
    else:
        frame = bytearray(zstandard.ZstdCompressor(write_content_size=False).compress(bytes(4000)))
    with pytest.raises(CorruptError, match="at byte 7: a zstd frame of another size than the 4000 bytes"):
        decode_zstd(memoryview(bytes([7, 0]) + bytes(frame)), 2000, U2, 5)


def test_broken_frames():
    record = maybe_zstd(REPEATED, 10**6, 9)
    assert record is not None
    rows = len(REPEATED)
    for broken, reason in (
        (record[:1], "inside its head"), (bytes([7, 2]) + record[2:], "the unknown order 2"),
        (record[:2], "a broken zstd frame"), (record[:-1], "a broken zstd frame"),
        (record + b"x", "a broken zstd frame"), (record[:2] + b"nonsense", "a broken zstd frame"),
    ):  # fmt: skip
        with pytest.raises(CorruptError, match=reason):
            decode_zstd(memoryview(broken), rows, U2, 0)
    rng = np.random.default_rng(0)
    for _ in range(500):
        mutant = bytearray(record)
        mutant[rng.integers(len(record))] = rng.integers(256)
        with contextlib.suppress(CorruptError):
            assert decode_zstd(memoryview(bytes(mutant)), rows, U2, 0).shape == (rows,)


def test_without_the_package(monkeypatch):
    record = pack(REPEATED, None, 9)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert maybe_zstd(REPEATED, 10**6, 9) is None
    with pytest.raises(ImportError, match=r"pip install 'hasten\[zstd\]'"):
        decode_zstd(memoryview(record), len(REPEATED), U2, 0)
