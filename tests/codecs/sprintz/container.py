"""What the tests of the container share: arrays of every kind, a codec that keeps masks, CRCs put right again."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hasten.codecs.sprintz.crc import crc32c

INTEGERS = ("i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")
DTYPES = (*INTEGERS, "f4", "f8", "?", "M8[ns]", "M8[25s]", "m8[us]", "m8")
ROWS = (0, 1, 2, 31, 32, 33, 63, 64, 65, 100, 129, 300)


def sample(dtype: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Any values that the dtype has, NaN of every payload among them."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    data = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
    return (data & 1).astype(bool).reshape(shape) if dtype == "?" else data.view(dtype).reshape(shape)


def walk(rows: int, columns: int, dtype: str = "i2", seed: int = 0) -> np.ndarray:
    """What sensors give."""
    steps = np.random.default_rng(seed).integers(-9, 10, (rows, columns))
    return steps.cumsum(axis=0).astype(dtype)


def same(x: np.ndarray, y: np.ndarray) -> bool:
    """The same bits in the same places, whatever the byte order; of a masked array only what is not masked."""
    if x.shape != y.shape or isinstance(x, np.ma.MaskedArray) != isinstance(y, np.ma.MaskedArray):
        return False
    if x.dtype.names is not None:
        return x.dtype.names == y.dtype.names and all(same(x[name], y[name]) for name in x.dtype.names)
    if isinstance(x, np.ma.MaskedArray):
        hidden = np.ma.getmaskarray(x)
        return bool((hidden == np.ma.getmaskarray(y)).all()) and same(x.filled(0)[~hidden], y.filled(0)[~hidden])
    native = x.dtype.newbyteorder("=")
    return native == y.dtype.newbyteorder("=") and x.astype(native).tobytes() == y.astype(native).tobytes()


@st.composite
def arrays(draw: st.DrawFn, *, dims: Sequence[int] = (1, 2)) -> np.ndarray:
    """Arrays of every dtype, with any strides and byte order, small and with special values."""
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    rows = draw(st.sampled_from(ROWS))
    columns = draw(st.sampled_from((0, 1, 2, 3, 9, 33)))
    ndim = draw(st.sampled_from(dims))
    x = sample(dtype.str[1:] if dtype.kind != "b" else "?", (rows, columns)[:ndim], draw(st.integers(0, 99)))
    if draw(st.booleans()) and x.size and dtype.kind in "iuf":
        x = x.copy()
        x[draw(st.integers(0, rows - 1)) :] = draw(hnp.from_dtype(dtype))
    layout = draw(st.sampled_from(("plain", "fortran", "strided", "backwards", "swapped", "read-only", "unaligned")))
    return laid_out(x, layout)


def laid_out(x: np.ndarray, layout: str) -> np.ndarray:
    """The same values, otherwise in memory."""
    if layout == "fortran":
        return np.asfortranarray(x)
    if layout == "strided":
        return np.repeat(x, 3, axis=-1)[..., ::3]
    if layout == "backwards":
        return x[::-1].copy()[::-1]
    if layout == "swapped":
        return x.astype(x.dtype.newbyteorder())
    if layout == "read-only":
        x = x.copy()
        x.flags.writeable = False
    if layout == "unaligned":
        return np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape)
    return x


def sealed(data: bytes) -> bytes:
    """A file of one's own making with its checksums put right: header, heads and bodies of chunks, index, trailer."""
    out = bytearray(data)
    tlvs = struct.unpack_from("<I", out, 28)[0]
    at = 64 + tlvs
    seed = crc32c(out[64:at], crc32c(out[:60]))
    struct.pack_into("<I", out, 60, seed)
    while bytes(out[at : at + 4]) == b"\xabTSC" and at + 32 <= len(out):
        struct.pack_into("<I", out, at + 28, crc32c(out[at : at + 28], seed))
        length = struct.unpack_from("<I", out, at + 20)[0]
        if at + 36 + length > len(out):
            return bytes(out)
        struct.pack_into("<I", out, at + 32 + length, crc32c(out[at + 32 : at + 32 + length]))
        at += 36 + length
    end = len(out) - 32
    if end >= at + 12:
        struct.pack_into("<I", out, end - 4, crc32c(out[at : end - 4], seed))
        struct.pack_into("<I", out, end + 20, crc32c(out[end : end + 20], seed))
    return bytes(out)
