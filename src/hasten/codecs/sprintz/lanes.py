"""Records in eight lanes, read in NumPy: the reference of _native/sprintz/record_decode.cpp.

It is written from docs/formats.md, which says what each field means. Whatever does not depend on the value before is
done for all rows at once; predictors go step by step, with the eight lanes as a vector, and codes value by value. It is
for machines without the compiled module, and for tests.
"""

from __future__ import annotations

import numpy as np

from ._lanes_codes import take_planar, take_rice, take_tokens
from ._lanes_head import AFFINE, COUNT, PALETTE, Cursor, Head, parse_head
from ._lanes_predict import undo_prediction

__all__ = ["LANES", "decode_lanes", "references_of"]

LANES = 3  # the kind of record
_TAKE = (take_planar, take_rice, take_tokens)


def references_of(record: memoryview, dtype: np.dtype, at: int) -> list[int]:
    """The columns that a record refers to.

    Raises:
        CorruptError: Its head is damaged; offsets count from `at`, where the record begins.
    """
    return _open(record, dtype, at)[1].columns if len(record) and record[0] == LANES else []


def decode_lanes(record: memoryview, nrows: int, dtype: np.dtype, at: int, earlier: list[np.ndarray]) -> np.ndarray:
    """The values of a record, (nrows,) of the unsigned `dtype`.

    Args:
        earlier: The columns that it refers to, decoded.

    Raises:
        CorruptError: Not a record of so many values; offsets count from `at`, where the record begins.
    """
    cursor, head = _open(record, dtype, at)
    if len(earlier) != len(head.columns):
        cursor.fail("a record that refers to others, where it may not", cursor.place)
    if nrows == 0:
        cursor.fail("codes for a column without rows")
    steps = -(-nrows // COUNT)
    z = _TAKE[head.entropy](cursor, steps, head.bits)
    x = _from_lanes(cursor, head, undo_prediction(z, head), nrows, dtype)
    return _add_columns(head, x, earlier) if earlier else x


def _open(record: memoryview, dtype: np.dtype, at: int) -> tuple[Cursor, Head]:
    cursor = Cursor(record, at)
    if cursor.number(reason="an empty record") != LANES:
        cursor.fail("a record of an unknown kind", 1)
    return cursor, parse_head(cursor, dtype.itemsize)


def _from_lanes(cursor: Cursor, head: Head, v: np.ndarray, nrows: int, dtype: np.dtype) -> np.ndarray:
    if head.mapping == PALETTE:
        if v.view(np.uint64).max() >= len(head.palette):
            cursor.fail("a value that is not in the palette")
        v = np.array(head.palette, np.uint64)[v]
    else:
        unit = head.unit if head.mapping == AFFINE else 1
        v = v.view(np.uint64) * np.array([unit], np.uint64) + np.array([head.base], np.uint64)
    return v.T.reshape(-1)[:nrows].astype(dtype)


def _add_columns(head: Head, x: np.ndarray, earlier: list[np.ndarray]) -> np.ndarray:
    total = np.full(len(x), 2048, np.int64)
    for share, column in zip(head.shares, earlier, strict=True):
        total += share * column.view(f"i{column.dtype.itemsize}").astype(np.int64)
    return x + (total >> 12).astype(x.dtype)
