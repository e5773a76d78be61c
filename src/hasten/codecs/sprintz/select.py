"""Which rows and columns a caller asks for, and the array that they go into."""

from __future__ import annotations

import math
import operator
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hasten._core.checks import describe, near, refuse, refuse_type

from .dtypes import stored_dtype
from .header import Header

__all__ = [
    "Rows",
    "as_target",
    "choose_columns",
    "choose_rows",
    "clear_mask",
    "dtype_of",
    "is_one",
    "shape_of",
    "target_columns",
]


@dataclass(frozen=True)
class Rows:
    """Rows `start`, `start + step`, ...: `count` of them, in this order or (`backwards`) the last one first."""

    start: int
    step: int
    count: int
    backwards: bool = False


def choose_rows(call: str, rows: slice | None, total: int) -> Rows:
    """A slice of `total` rows, as a slice of a list would be."""
    if rows is None:
        return Rows(0, 1, total)
    if not isinstance(rows, slice):
        raise refuse_type(call, "a slice for rows", describe(rows), "Pass rows=slice(first, last + 1).")
    found = range(total)[rows]
    if found.step > 0:
        return Rows(found.start, found.step, len(found))
    return Rows(found[-1] if found else 0, -found.step, len(found), backwards=True)


def choose_columns(call: str, columns: Any, header: Header) -> list[int]:
    """Columns by number or name as a list of numbers."""
    if columns is None:
        return list(range(header.ncols))
    if isinstance(columns, slice):
        return list(range(header.ncols))[columns]
    if is_one(columns):
        columns = [columns]
    return [choose_column(call, column, header) for column in columns]


def is_one(columns: Any) -> bool:
    """Is this one column, and not a list of them?"""
    return (
        columns is not None
        and not isinstance(columns, slice)
        and (isinstance(columns, str) or not hasattr(columns, "__iter__"))
    )


def choose_column(call: str, column: Any, header: Header) -> int:
    """One column by number or name."""
    if isinstance(column, str):
        if header.names is None or column not in header.names:
            raise refuse(call, "the name of a column", repr(column), near(column, header.names or ()))
        return header.names.index(column)
    try:
        if isinstance(column, (bool, np.bool_)):
            raise TypeError
        index = operator.index(column)
    except TypeError:
        what = "columns as numbers or names"
        raise refuse_type(call, what, describe(column), "Pass columns=[0, 2], or the names.") from None
    if not -header.ncols <= index < header.ncols:
        raise refuse(call, f"a column below {header.ncols}", index, "")
    return index % header.ncols


def shape_of(header: Header, rows: int, columns: Sequence[int]) -> tuple[int, ...]:
    """The shape of the array for some rows and columns."""
    return (rows, len(columns)) if header.layout == "matrix" else (rows,)


def dtype_of(call: str, header: Header, columns: Sequence[int]) -> np.dtype:
    """The dtype of the array for some columns."""
    if header.layout != "records":
        return header.dtypes[0]
    assert header.names is not None
    if len(set(columns)) < len(columns):
        raise refuse(call, "each field once", repr([header.names[j] for j in columns]), "Name each once in columns=.")
    return np.dtype([(header.names[j], header.column(j)) for j in columns])


def as_target(call: str, out: Any, shape: tuple[int, ...], dtype: np.dtype, missing: bool) -> np.ndarray:
    """A user's `out` as a writable array, without a copy: NumPy, a torch CPU tensor, or any writable buffer.

    Raises:
        ValueError: Another shape, size or place, or read-only. TypeError: Another dtype, or no buffer at all.
    """
    torch = sys.modules.get("torch")  # a tensor can only come from somebody who has imported torch
    target = out
    if torch is not None and isinstance(out, torch.Tensor):
        if out.device.type != "cpu" or out.layout != torch.strided:
            raise refuse(call, "out= a dense tensor on the CPU", f"one on {out.device}", "Pass out=tensor.cpu().")
        try:
            target = out.detach().numpy()
        except (TypeError, RuntimeError) as error:
            raise refuse_type(call, f"out= of dtype {dtype}", out, f"{error}") from None
    elif not isinstance(out, np.ndarray) and hasattr(out, "__array_interface__"):
        target = np.asarray(out)
    elif not isinstance(out, np.ndarray):
        target = _of_buffer(call, out, shape, dtype)
    if target.dtype != dtype:
        raise refuse_type(call, f"out= of dtype {dtype}", target, "Pass an array of that dtype.")
    if target.shape != shape:
        raise refuse(call, f"out= of shape {shape}", target, "Pass an array of that shape.")
    if not target.flags.writeable:
        raise refuse(call, "out= that can be written", "a read-only array", "Pass a copy of it.")
    if missing and not isinstance(target, np.ma.MaskedArray):
        fix = "Pass out=numpy.ma.masked_all(shape, dtype), since values may be missing."
        raise refuse(call, "out= a masked array", type(out).__name__, fix)
    return target


def _of_buffer(call: str, out: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array over a writable buffer: one of bytes, or one of just this dtype."""
    try:
        view = memoryview(out)
    except TypeError:
        what = "out= an array, a CPU tensor or a writable buffer"
        raise refuse_type(call, what, type(out).__name__, "Leave out= away to get a new array.") from None
    if view.readonly or not view.c_contiguous:
        raise refuse(call, "out= a contiguous buffer that can be written", type(out).__name__, "Pass a bytearray.")
    if view.format not in ("B", "b", "c"):
        return np.asarray(view)
    size = math.prod(shape) * dtype.itemsize
    if view.nbytes != size:
        raise refuse(call, f"out= of {size} bytes", f"{view.nbytes}", "Pass a buffer of that size.")
    return np.frombuffer(view, np.uint8).view(dtype).reshape(shape)


def clear_mask(target: np.ma.MaskedArray) -> Any:
    """The mask of an array, which from now on has one of its own; nothing is masked."""
    if np.ma.getmask(target) is np.ma.nomask:
        target.mask = np.zeros(target.shape, np.ma.make_mask_descr(target.dtype))
    mask: Any = np.ma.getmask(target)
    mask[...] = False
    return mask


def target_columns(target: np.ndarray, layout: str, count: int) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
    """The array's columns as the codec writes them, and their masks if it is a masked array."""
    mask: Any = None
    if isinstance(target, np.ma.MaskedArray):
        mask = clear_mask(target)
    data = np.ma.getdata(target)
    if layout == "records":
        names = data.dtype.names or ()
        columns = [data[name] for name in names]
        masks = None if mask is None else [mask[name] for name in names]
    else:
        wide = (slice(None), None) if data.ndim == 1 else ()
        columns = list(data[wide].T)
        masks = None if mask is None else list(mask[wide].T)
    return [c.view(stored_dtype(c.dtype)) for c in columns[:count]], None if masks is None else masks[:count]
