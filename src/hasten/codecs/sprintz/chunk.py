"""The body of one chunk: a directory, then one record per column; every chunk decodes alone.

Body: `ncols` little-endian uint32 (where each record ends, counted from the end of the directory), then the records.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import CorruptError

__all__ = ["Options", "decode", "describe", "encode"]


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
    records = [np.ascontiguousarray(c).tobytes() for c in columns]
    ends = np.cumsum([len(r) for r in records], dtype=np.uint32)
    return ends.astype("<u4").tobytes() + b"".join(records)


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
    head = 4 * len(dtypes)
    if len(view) < head:
        raise CorruptError(len(view), "the chunk ends inside its directory")
    ends = np.frombuffer(view[:head], "<u4")
    start = head
    for end, dtype, target in zip(ends.tolist(), dtypes, out, strict=True):
        stop = head + end
        if stop < start or stop > len(view) or stop - start != nrows * dtype.itemsize:
            raise CorruptError(start, "a record's length does not fit")
        if target is not None:
            target[...] = np.frombuffer(view[start:stop], dtype)
        start = stop


def describe(body: Any, ncols: int) -> list[dict[str, Any]]:
    """What each column's record says of itself: `predictor`, `entropy`, `mapping`, `bytes`."""
    return [{} for _ in range(ncols)]
