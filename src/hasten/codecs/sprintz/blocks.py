"""Blocks: compressed arrays whose dtype and shape are known elsewhere, as chunks of Zarr and HDF5 are.

A block is 8 bytes and the bodies of its chunks:

    u8 0xAB | u8 version (1) | u8 flags (1: values may be missing) | u8 log2 of the rows of a chunk | u32 CRC-32C
    u32 x chunks: bytes of each body, if there is more than one chunk
    the bodies

The CRC is that of the first four bytes and everything behind itself.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hasten._core.checks import refuse, whole

from .chunk import Options
from .crc import crc32c
from .decode import Decoder, in_threads
from .encode import default_chunk_rows, encode_body, finish_header, make_options
from .errors import CorruptError, VersionError
from .format import CHUNK_HEAD
from .header import MAX_CHUNK_BYTES, Header
from .scan import Index
from .select import as_target, choose_rows, clear_mask
from .source import as_source
from .table import as_array, as_table, describe_dtype

__all__ = ["decode_block", "encode_block"]

MAGIC, VERSION, HAS_MASK = 0xAB, 1, 1
HEAD = 8


def encode_block(
    x: Any, *, profile: str = "auto", predictor: str = "auto", entropy: str = "auto", cross: str | bool = "auto",
    chunk_rows: int | None = None, max_error: Any = None, threads: int = 1,
) -> bytes:  # fmt: skip
    """Compress an array without its dtype and shape; `decode_block` must be told them.

    Args:
        x: As for `compress`, with one dimension or more: rows are along the first, all others together are columns.
        chunk_rows: A power of two from 32 on; None: about 64 KiB of each column.
        profile, predictor, entropy, cross, max_error, threads: As of `compress`.

    >>> x = np.arange(24, dtype=np.int16).reshape(4, 3, 2)
    >>> decode_block(encode_block(x), "int16", (4, 3, 2))[1].tolist()
    [[6, 7], [8, 9], [10, 11]]
    """
    whole("encode_block", "threads", threads, low=1)
    x = as_array("encode_block", x)
    options = make_options("encode_block", profile, predictor, entropy, cross, max_error)
    missing = isinstance(x, np.ma.MaskedArray)
    header = _header("encode_block", x.dtype, x.shape, options, missing)
    step = _chunk_rows(header, chunk_rows)
    table = as_table("encode_block", x.reshape(len(x), header.ncols) if header.layout == "matrix" else x, header)
    starts = range(0, len(table), step)
    bodies = in_threads(lambda first: encode_body(options, table.rows(first, first + step)), starts, threads)
    lengths = np.array([len(body) for body in bodies], "<u4").tobytes() if len(bodies) > 1 else b""
    head = bytes([MAGIC, VERSION, HAS_MASK * missing, step.bit_length() - 1])
    rest = b"".join([lengths, *bodies])
    return head + crc32c(rest, crc32c(head)).to_bytes(4, "little") + rest


def decode_block(
    buf: Any, dtype: Any, shape: tuple[int, ...], *, out: Any = None, rows: slice | None = None, threads: int = 1,
    max_chunk_bytes: int = MAX_CHUNK_BYTES,
) -> np.ndarray:  # fmt: skip
    """The array that `encode_block` compressed, or some rows of it.

    Args:
        buf: The block.
        dtype: Of the array. The result has native byte order.
        shape: Of the array, one dimension or more.
        out: As for `decompress`, with the shape of the result.
        rows: A slice of the first dimension; None for all.
        threads: How many decode at once.
        max_chunk_bytes: Refuse chunks that are larger after decoding.

    Returns:
        An array of this shape (or with fewer rows); a masked array if one was compressed.

    Raises:
        CorruptError: The block is damaged, or is not one of such an array. ValueError, TypeError: `out` does not fit.
    """
    whole("decode_block", "threads", threads, low=1)
    block = _Block(as_source("decode_block", buf).some(0, 1 << 62), np.dtype(dtype), tuple(shape), max_chunk_bytes)
    header = block.header
    wanted = choose_rows("decode_block", rows, shape[0])
    full = (wanted.count, *shape[1:])
    if out is None:
        make = np.ma.empty if header.missing else np.empty
        out = target = make(full, header.dtype)
    else:
        target = as_target("decode_block", out, full, header.dtype, header.missing)
    if isinstance(target, np.ma.MaskedArray):
        clear_mask(target)  # so that what is reshaped shares it
    flat = target if len(full) <= 2 else target.reshape(wanted.count, header.ncols)
    if not np.may_share_memory(flat, target) and target.size:
        raise refuse("decode_block", "out= whose columns can be told apart", target, "Pass a contiguous array.")
    block.read(rows, out=flat, threads=threads)
    return out if isinstance(out, np.ndarray) else target


def _header(call: str, dtype: Any, shape: tuple[int, ...], options: Options, missing: bool) -> Header:
    """The header that a file of such an array would have."""
    if len(shape) > 1 and np.dtype(dtype).names is None:
        found = {**describe_dtype(call, dtype, 2), "ncols": math.prod(shape[1:])}
    else:
        found = {"ncols": 1, **describe_dtype(call, dtype, len(shape))}
    return finish_header(call, found, options=options, missing=missing)[0]


def _chunk_rows(header: Header, asked: int | None) -> int:
    """Rows of a chunk: a power of two."""
    if asked is None:
        return 1 << default_chunk_rows(header.row_bytes, header.ncols).bit_length() - 1
    if isinstance(asked, bool) or not isinstance(asked, int) or asked < 32 or asked & (asked - 1) or asked >= 1 << 31:
        raise refuse("encode_block", "chunk_rows a power of two from 32 on", repr(asked), "Pass chunk_rows=8192, say.")
    if asked * header.row_bytes > MAX_CHUNK_BYTES:
        what = f"chunks of at most {MAX_CHUNK_BYTES} bytes"
        raise refuse("encode_block", what, f"{asked} rows of {header.row_bytes} bytes", "Pass fewer chunk_rows=.")
    return asked


class _Block(Decoder):
    """A block that was checked."""

    def __init__(self, data: Any, dtype: np.dtype, shape: tuple[int, ...], limit: int) -> None:
        if len(data) < HEAD:
            raise CorruptError(len(data), "the block ends inside its head")
        magic, version, flags, log2_rows = bytes(data[:4])
        if magic != MAGIC:
            raise CorruptError(0, "this is not a block")
        if version != VERSION:
            raise VersionError(1, f"the block has version {version}; this version of hasten reads {VERSION}")
        if crc32c(data[HEAD:], crc32c(data[:4])) != int.from_bytes(data[4:HEAD], "little"):
            raise CorruptError(4, "the block does not fit its checksum")
        if not 5 <= log2_rows <= 30:
            raise CorruptError(3, "chunks of an impossible size")
        self.header = _header("decode_block", dtype, shape, Options(), bool(flags & HAS_MASK))
        self._data, step, total = data, 1 << log2_rows, shape[0]
        if min(step, total) * self.header.row_bytes > limit:
            raise CorruptError(3, f"chunks of more than the {limit} bytes allowed")
        count = -(-total // step)
        first = HEAD + (4 * count if count > 1 else 0)
        if first > len(data):
            raise CorruptError(len(data), "the block ends inside its list of chunks")
        lengths = np.array([len(data) - HEAD] * count, np.int64)
        if count > 1:
            lengths = np.frombuffer(data[HEAD:first], "<u4").astype(np.int64)
        ends = first + np.cumsum(lengths)
        if (int(ends[-1]) if count else HEAD) != len(data):
            raise CorruptError(HEAD, "the chunks and the block have different lengths")
        rows = np.minimum(np.arange(count + 1, dtype=np.int64) * step, total)
        self.index = Index(ends - lengths - CHUNK_HEAD.size, rows, lengths, None)  # no heads, but places as if

    def body(self, number: int) -> tuple[Any, bool]:
        """The body of a chunk, and whether values may be missing in it."""
        at = int(self.index.offsets[number]) + CHUNK_HEAD.size
        return self._data[at : at + int(self.index.lengths[number])], self.header.missing
