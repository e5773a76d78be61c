"""The body of one chunk: a directory, then one record per column; every chunk decodes alone.

Body: for each column a little-endian u32 (where its record ends, counted from the end of the directory), then the
records (records.py). Where values are missing, a record is `u8 2 | u32 length | the record of a mask | the record of
the values`. A mask is bytes of bits, lowest first, 1 where a value is missing.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from . import records
from .errors import CorruptError
from .lanes import references_of
from .lz import maybe_zstd
from .planar import MASKED
from .quantize import error_of
from .values import decode_values, encode_values, names_of

__all__ = ["Options", "decode", "describe", "encode"]

_MASKED = struct.Struct("<BI")  # kind, bytes of the mask's record
_LEVEL = 9  # of zstd, in profile "max"


@dataclass(frozen=True)
class Options:
    """How to encode; see `hasten.codecs.sprintz.compress` for the meaning of each."""

    profile: str = "auto"
    predictor: str = "auto"
    entropy: str = "auto"
    cross: str | bool = "auto"
    max_error: float | tuple[float | None, ...] | None = None

    @property
    def effort(self) -> str:
        """The profile that "auto" stands for, or the profile itself."""
        return "balanced" if self.profile == "auto" else self.profile


def encode(columns: Sequence[np.ndarray], options: Options, masks: Sequence[np.ndarray | None] | None = None) -> bytes:
    """Encode the columns of one chunk.

    Args:
        columns: 1-D arrays of one length, any stride, native byte order, each of dtype (u)int8-64, float32/64 or
            bool (datetime64 and timedelta64 come as int64 views).
        options: How.
        masks: For each column None or a bool array, True where a value is missing; such values decode as zeros.
    """
    missing = [None if masks is None else _some(masks[i]) for i in range(len(columns))]
    plain = [None if c.dtype.kind == "f" or m is not None else _bits(c) for c, m in zip(columns, missing, strict=True)]
    how = (options.effort, options.predictor, options.entropy)
    found = _plain(plain, how, options.cross is not False)
    for i, (column, mask) in enumerate(zip(columns, missing, strict=True)):
        if plain[i] is None:
            found[i] = _encode(column, mask, error_of(options.max_error, i), how)
    return struct.pack(f"<{len(found)}I", *accumulate(map(len, found))) + b"".join(found)


def _plain(columns: Sequence[np.ndarray | None], how: tuple[str, str, str], cross: bool) -> list[bytes]:
    """Records of integer columns; of those that repeat themselves through zstd, which no other column can refer to."""
    found = records.encode_columns(columns, *how, cross)
    if how[0] != "max" or how[2] != "auto":
        return found
    packed = {i: maybe_zstd(np.ascontiguousarray(values), len(found[i]), _LEVEL)
              for i, values in enumerate(columns) if values is not None}  # fmt: skip
    packed = {i: record for i, record in packed.items() if record is not None}
    if not packed:
        return found
    referred = {j for i, record in enumerate(found) if i not in packed for j in _references(record, columns[i])}
    if not referred.isdisjoint(packed):
        found = records.encode_columns([None if i in packed else c for i, c in enumerate(columns)], *how, cross)
    return [packed.get(i) or record for i, record in enumerate(found)]


def _references(record: bytes, values: np.ndarray | None) -> list[int]:
    """The columns that the record of a column refers to."""
    return [] if values is None else references_of(memoryview(record), values.dtype, 0)


def _some(mask: np.ndarray | None) -> np.ndarray | None:
    return mask if mask is not None and mask.any() else None


def _bits(column: np.ndarray) -> np.ndarray:
    return column.view(f"u{column.dtype.itemsize}")


def _encode(
    column: np.ndarray, missing: np.ndarray | None, max_error: float | None, how: tuple[str, str, str]
) -> bytes:
    """A record that refers to no other."""
    values, head = np.ascontiguousarray(column), b""
    if missing is not None:
        mask = records.encode_record(np.packbits(missing, bitorder="little"), "fast", "none", "none")
        head = _MASKED.pack(MASKED, len(mask)) + mask
        values = np.where(missing, np.zeros(1, values.dtype), values)
    level = _LEVEL if how[0] == "max" and how[2] == "auto" else None
    return head + encode_values(values, max_error, lambda integers: records.encode_record(integers, *how), level)


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
    others = records.decode_body(view, nrows, out, [dtype.itemsize for dtype in dtypes])
    flagged = [] if masks is None else [(i, flags) for i, flags in enumerate(masks) if flags is not None]
    if not others and not flagged:
        return
    found = records.split(view, len(dtypes))
    for i, flags in flagged:
        mask = _mask(*found[i])[1]
        flags[...] = False if mask is None else _missing(mask, nrows, found[i][0] + _MASKED.size)
    for i in others:
        (at, record), target = found[i], out[i]
        if target is not None:
            skip = _mask(at, record)[0]
            target[...] = decode_values(record[skip:], nrows, dtypes[i], at + skip, _integers)


def _integers(record: memoryview, nrows: int, dtype: np.dtype, at: int) -> np.ndarray:
    values = np.empty(nrows, dtype)
    records.decode_record(record, values, at)
    return values


def describe(body: Any, ncols: int) -> list[dict[str, Any]]:
    """What each column's record says of itself: `values`, `predictor`, `entropy` and `bytes`."""
    found = []
    for at, record in records.split(memoryview(body).cast("B"), ncols):
        skip, _ = _mask(at, record)
        names, inside = names_of(record[skip:])
        found.append({"values": "+".join(names) or "integers", **records.describe(inside), "bytes": len(record)})
    return found


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
    packed = np.empty(-(-nrows // 8), np.uint8)
    records.decode_record(mask, packed, at)
    return np.unpackbits(packed, count=nrows, bitorder="little").astype(bool)
