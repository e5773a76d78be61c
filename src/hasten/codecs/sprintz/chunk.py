"""The body of one chunk: a directory, then one record per column; every chunk decodes alone.

Body: for each column a little-endian u32 (where its record ends, counted from the end of the directory), then the
records (planar.py). Where values are missing, a record is `u8 2 | u32 length | the record of a mask | the record of the
values`. A mask is bytes of bits, lowest first, 1 where a value is missing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import CorruptError
from .planar import MASKED, decode_column, encode_column, predictor_of

__all__ = ["Options", "decode", "describe", "encode"]

_BYTE = np.dtype(np.uint8)
_MASKED = struct.Struct("<BI")  # kind, bytes of the mask's record


@dataclass(frozen=True)
class Options:
    """How to encode; see `hasten.codecs.sprintz.compress` for the meaning of each."""

    profile: str = "auto"
    predictor: str = "auto"
    entropy: str = "auto"
    cross: str | bool = "auto"
    max_error: float | None = None


def encode(columns: Sequence[np.ndarray], options: Options, masks: Sequence[np.ndarray | None] | None = None) -> bytes:
    """Encode the columns of one chunk.

    Args:
        columns: 1-D arrays of one length, any stride, native byte order, each of dtype (u)int8-64, float32/64 or
            bool (datetime64 and timedelta64 come as int64 views).
        options: How.
        masks: For each column None or a bool array, True where a value is missing; such values decode as zeros.
    """
    records = [_encode(c, options, None if masks is None else masks[i]) for i, c in enumerate(columns)]
    ends = np.cumsum([len(record) for record in records], dtype=np.int64)
    return ends.astype("<u4").tobytes() + b"".join(records)


def _encode(column: np.ndarray, options: Options, missing: np.ndarray | None) -> bytes:
    values, head = np.ascontiguousarray(column), b""
    if missing is not None and missing.any():
        mask = encode_column(np.packbits(missing, bitorder="little"), "none")
        head = _MASKED.pack(MASKED, len(mask)) + mask
        values = np.where(missing, np.zeros(1, values.dtype), values)
    return head + encode_column(values.view(f"u{values.dtype.itemsize}"), options.predictor)


def decode(
    body: Any,
    nrows: int,
    dtypes: Sequence[np.dtype],
    out: Sequence[np.ndarray | None],
    *,
    masks: Sequence[np.ndarray | None] | None = None,
) -> None:
    """Decode the wanted columns of a chunk into `out`.

    Args:
        body: The bytes of the body (any buffer).
        nrows: Rows of the chunk.
        dtypes: Of all columns.
        out: For each column of the chunk None (not wanted) or a writable 1-D array of `nrows`, any stride.
        masks: For each column None or a bool array of `nrows`, which becomes True where a value is missing.

    Raises:
        CorruptError: The body is not one of ours; offsets count from its start. `out` then holds anything.
    """
    view = memoryview(body).cast("B")
    for i, (at, record) in enumerate(_records(view, len(dtypes))):
        target, flags = out[i], None if masks is None else masks[i]
        skip, mask = _mask(at, record)
        if flags is not None:
            flags[...] = False if mask is None else _missing(mask, nrows, at + _MASKED.size)
        if target is not None:
            unsigned = np.dtype(f"u{dtypes[i].itemsize}")
            target[...] = decode_column(record[skip:], nrows, unsigned, at + skip).view(dtypes[i])


def describe(body: Any, ncols: int) -> list[dict[str, Any]]:
    """What each column's record says of itself: `predictor` ("stored" where there is none) and `bytes`."""
    found = []
    for at, record in _records(memoryview(body).cast("B"), ncols):
        skip, _ = _mask(at, record)
        found.append({"predictor": predictor_of(record[skip:]), "bytes": len(record)})
    return found


def _records(view: memoryview, ncols: int) -> Iterator[tuple[int, memoryview]]:
    head = 4 * ncols
    if len(view) < head:
        raise CorruptError(len(view), "the chunk ends inside its directory")
    start = head
    for i, end in enumerate(np.frombuffer(view[:head], "<u4").tolist()):
        stop = head + end
        if stop < start or stop > len(view):
            raise CorruptError(4 * i, "a record ends before it begins, or after the body")
        yield start, view[start:stop]
        start = stop
    if start != len(view):
        raise CorruptError(start, "bytes behind the last record")


def _mask(at: int, record: memoryview) -> tuple[int, memoryview | None]:
    """How many bytes of a record come before that of its values, and the record of its mask."""
    if not len(record) or record[0] != MASKED:
        return 0, None
    if len(record) < _MASKED.size:
        raise CorruptError(at + len(record), "a record ends inside the length of its mask")
    length = _MASKED.unpack(record[: _MASKED.size])[1]
    if length > len(record) - _MASKED.size:
        raise CorruptError(at + 1, "a mask is longer than its record")
    return _MASKED.size + length, record[_MASKED.size : _MASKED.size + length]


def _missing(mask: memoryview, nrows: int, at: int) -> np.ndarray:
    packed = decode_column(mask, -(-nrows // 8), _BYTE, at)
    return np.unpackbits(packed, count=nrows, bitorder="little").astype(bool)
