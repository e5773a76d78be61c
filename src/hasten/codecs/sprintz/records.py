"""Records of integer columns: compiled (_native/sprintz/record.hpp), else in NumPy.

The NumPy reference reads every record. It writes planar ones only, as profile "fast" does: codes one bit after the
other are no work for an interpreter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hasten._core import dispatch
from hasten._native import ext

from .errors import CorruptError
from .lanes import LANES, decode_lanes, references_of
from .planar import PLANAR, PLANAR_PREDICTORS, decode_column, encode_column

__all__ = [
    "ENTROPIES", "PREDICTORS", "PROFILES", "decode_body", "decode_record", "describe", "encode_columns",
    "encode_record", "split",
]  # fmt: skip

PROFILES = ("fast", "balanced", "max")  # by how much is tried
PREDICTORS = ("none", "delta", "delta2", "fire", "nlms1", "nlms2", "nlms4", "lpc")  # by their numbers in a record
ENTROPIES = ("none", "rice", "classes")


def encode_columns(
    columns: Sequence[np.ndarray | None], profile: str, predictor: str, entropy: str, cross: bool
) -> list[bytes]:
    """The record of each column, b"" for None.

    Args:
        columns: (rows,) each, of an unsigned dtype, with any stride.
        profile: One of `PROFILES`.
        predictor, entropy: One of `PREDICTORS` and of `ENTROPIES`, or "auto": whatever is smallest.
        cross: Whether columns may be predicted from others, if the profile is "max".
    """
    if ext is not None:
        tried = PREDICTORS.index(predictor) if predictor != "auto" else -1
        code = ENTROPIES.index(entropy) if entropy != "auto" else -1
        return list(ext.tsz_encode(columns, PROFILES.index(profile), tried, code, cross, dispatch.isa()))
    name = predictor if predictor in PLANAR_PREDICTORS else "auto"
    return [b"" if column is None else encode_column(np.ascontiguousarray(column), name) for column in columns]


def encode_record(values: np.ndarray, profile: str, predictor: str, entropy: str) -> bytes:
    """The record of one column that refers to no other."""
    return encode_columns([values], profile, predictor, entropy, False)[0]


def decode_body(body: memoryview, nrows: int, out: Sequence[np.ndarray | None], itemsizes: Sequence[int]) -> list[int]:
    """Decode the wanted columns of a body whose records are of integers; returns the numbers of those that are not.

    Args:
        body: Its bytes.
        nrows: Rows of the chunk.
        out: For each column None (not wanted) or a writable (nrows,), any stride.
        itemsizes: Bytes of a value of each column.

    Raises:
        CorruptError: The body is damaged; the offset counts from its start.
    """
    if ext is None:
        return _decode_body(body, nrows, out, itemsizes)
    found = ext.tsz_decode(body, nrows, itemsizes, out, dispatch.isa())
    if isinstance(found, tuple):
        raise CorruptError(*found)
    return list(found)


def decode_record(record: memoryview, out: np.ndarray, at: int) -> None:
    """Decode one record that refers to no other into `out`, (rows,) of an unsigned dtype; offsets count from `at`."""
    if ext is None:
        out[...] = _values(record, len(out), out.dtype, at, [])
        return
    found = ext.tsz_decode_record(record, out, dispatch.isa())
    if found is not None:
        raise CorruptError(at + found[0], found[1])


def describe(record: memoryview) -> dict[str, Any]:
    """What a record says of itself: `predictor` and `entropy` ("stored" and "none" where there is none)."""
    found = {"predictor": "stored", "entropy": "none"}
    if len(record) > 1 and record[0] == PLANAR and record[1] < len(PLANAR_PREDICTORS):
        found["predictor"] = PREDICTORS[record[1]]
    elif len(record) > 5 and record[0] == LANES and record[1] < len(PREDICTORS) and record[2] < len(ENTROPIES):
        found = {"predictor": PREDICTORS[record[1]], "entropy": ENTROPIES[record[2]]}
        if record[5]:
            found["predictor"] += f" after {record[5]} other column" + "s" * (record[5] > 1)
    return found


def split(body: memoryview, ncols: int) -> list[tuple[int, memoryview]]:
    """Where each record of a body begins, and its bytes.

    Raises:
        CorruptError: The directory is damaged.
    """
    head = 4 * ncols
    if len(body) < head:
        raise CorruptError(len(body), "the chunk ends inside its directory")
    found, start = [], head
    for i, end in enumerate(np.frombuffer(body[:head], "<u4").tolist()):
        stop = head + end
        if stop < start or stop > len(body):
            raise CorruptError(4 * i, "a record ends before it begins, or after the body")
        found.append((start, body[start:stop]))
        start = stop
    if start != len(body):
        raise CorruptError(start, "bytes behind the last record")
    return found


def _decode_body(body: memoryview, nrows: int, out: Sequence[Any], itemsizes: Sequence[int]) -> list[int]:
    records = split(body, len(itemsizes))
    dtypes = [np.dtype(f"u{size}") for size in itemsizes]
    referred: set[int] = set()
    references: dict[int, list[int]] = {}  # of the columns that are needed
    for j in reversed(range(len(out))):  # those that a column refers to come before it, and may refer to others again
        if out[j] is None and j not in referred:
            continue
        at, record = records[j]
        references[j] = references_of(record, dtypes[j], at)
        if any(c >= j or itemsizes[c] != itemsizes[j] for c in references[j]):
            raise CorruptError(at, "a column that refers to a later one, or to one of another size")
        referred.update(references[j])
    others: list[int] = []
    known: dict[int, np.ndarray] = {}
    for j in sorted(references):
        (at, record), target = records[j], out[j]
        if len(record) and record[0] not in (0, 1, LANES) and j not in referred:
            others.append(j)
            continue
        values = _values(record, nrows, dtypes[j], at, [known[c] for c in references[j]])
        if j in referred:
            known[j] = values
        if target is not None:
            target.view(dtypes[j])[...] = values
    return others


def _values(record: memoryview, nrows: int, dtype: np.dtype, at: int, earlier: list[np.ndarray]) -> np.ndarray:
    if len(record) and record[0] == LANES:
        return decode_lanes(record, nrows, dtype, at, earlier)
    return decode_column(record, nrows, dtype, at)
