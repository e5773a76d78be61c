"""Blocks: arrays whose dtype and shape stand elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.codecs.sprintz.container import arrays, same, sample, walk

from hasten.codecs.sprintz import CorruptError, VersionError, compress, decode_block, encode_block
from hasten.codecs.sprintz.crc import crc32c


@given(x=arrays(), chunk_rows=st.sampled_from((None, 32, 64)), threads=st.sampled_from((1, 3)))
def test_round_trip(x, chunk_rows, threads):
    buf = encode_block(x, chunk_rows=chunk_rows, threads=threads)
    assert same(x, decode_block(buf, x.dtype, x.shape, threads=threads))
    assert same(x[5::-2], decode_block(buf, x.dtype, x.shape, rows=slice(5, None, -2)))
    assert buf == compress(x.copy(), framing=False, chunk_rows=chunk_rows)


@pytest.mark.parametrize("shape", [(7, 2, 3), (100, 3, 1, 2), (0, 2, 2), (3, 0, 2)])
def test_more_dimensions(shape):
    x = sample("i4", shape)
    buf = encode_block(x, chunk_rows=32)
    assert same(x, decode_block(buf, "i4", shape))
    out = np.zeros(shape, "i4")
    assert decode_block(buf, "i4", shape, out=out) is out
    assert same(x, out)
    raw = bytearray(x.nbytes)
    decode_block(buf, "i4", shape, out=raw)
    assert raw == x.tobytes()


def test_masks(monkeypatch):
    x = np.ma.array(walk(100, 6), mask=walk(100, 6) % 3 == 0).reshape(100, 2, 3)
    assert same(x, decode_block(encode_block(x, chunk_rows=32), "i2", x.shape))


def test_records():
    x = np.array([(1, 2.5), (2, 0.5)], [("a", "i2"), ("b", "f8")])
    assert same(x, decode_block(encode_block(x), x.dtype, x.shape))


def test_a_block_of_one_chunk_costs_eight_bytes():
    x = np.random.default_rng(0).integers(-(1 << 15), 1 << 15, (1000, 2)).astype(np.int16)  # stored as it is
    sizes = [len(encode_block(x, chunk_rows=rows)) for rows in (1024, 512)]
    assert sizes[1] - sizes[0] == 8 + 4 * 2 + 2, "two lengths, and one more directory of two records with their kinds"
    assert encode_block(x)[:4] == bytes([0xAB, 1, 0, 15])
    assert encode_block(np.zeros((0, 2), "i2")) == bytes([0xAB, 1, 0, 15]) + crc32c(bytes([0xAB, 1, 0, 15])).to_bytes(
        4, "little"
    )


X = walk(100, 2)
BLOCK = encode_block(X, chunk_rows=32)


def sealed(data: bytes) -> bytes:
    return data[:4] + crc32c(data[8:], crc32c(data[:4])).to_bytes(4, "little") + data[8:]


def test_every_bit_and_every_cut():
    for at in range(8 * len(BLOCK)):
        damaged = bytearray(BLOCK)
        damaged[at // 8] ^= 1 << at % 8
        with pytest.raises(CorruptError):
            decode_block(damaged, "i2", X.shape)
    for size in range(len(BLOCK)):
        with pytest.raises(CorruptError):
            decode_block(BLOCK[:size], "i2", X.shape)
    with pytest.raises(CorruptError):
        decode_block(BLOCK + b"\0", "i2", X.shape)


def test_the_wrong_dtype_or_shape():
    for dtype in ("i1", "i4", "f8", "M8[s]"):
        for shape in ((100,), (50, 2), (100, 3), (1 << 40, 2), (1 << 62, 2), (0, 2)):
            with pytest.raises(CorruptError):
                decode_block(BLOCK, dtype, shape)


@pytest.mark.parametrize(
    ("at", "value", "error", "reason"),
    [
        (0, 0, CorruptError, "not a block"),
        (1, 2, VersionError, "the block has version 2"),
        (3, 4, CorruptError, "impossible size"),
        (3, 31, CorruptError, "impossible size"),
        (3, 6, CorruptError, "different lengths"),
        (8, 1, CorruptError, "different lengths"),
    ],
)
def test_heads_that_cannot_be(at, value, error, reason):
    damaged = bytearray(BLOCK)
    damaged[at] = value
    with pytest.raises(error, match=reason):
        decode_block(sealed(bytes(damaged)), "i2", X.shape)


def test_chunks_larger_than_allowed():
    big = sealed(bytes([0xAB, 1, 0, 30, 0, 0, 0, 0]))
    with pytest.raises(CorruptError, match="chunks of more than the 268435456 bytes allowed"):
        decode_block(big, "i8", (1 << 28, 4))
    with pytest.raises(CorruptError, match="more than the 100 bytes"):
        decode_block(BLOCK, "i2", X.shape, max_chunk_bytes=100)


def test_arguments_that_cannot_be():
    with pytest.raises(ValueError, match="chunk_rows a power of two from 32 on, got 96"):
        encode_block(X, chunk_rows=96)
    with pytest.raises(ValueError, match="chunks of at most"):
        encode_block(np.zeros((0, 4096), "i8"), chunk_rows=1 << 20)
    wide = np.zeros((100, 4, 3), "i2")[:, ::2]
    with pytest.raises(ValueError, match="whose columns can be told apart.*Pass a contiguous array"):
        decode_block(encode_block(wide), "i2", wide.shape, out=np.zeros((100, 4, 3), "i2")[:, ::2])
    with pytest.raises(ValueError, match="shape"):
        decode_block(BLOCK, "i2", X.shape, out=np.zeros((3, 2), "i2"))
