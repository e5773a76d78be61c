"""Rows as the container handles them: columns of native numbers, with a mask where values may be missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hasten._core.checks import refuse, refuse_type

from .dtypes import column_dtype, stored_dtype
from .header import MAX_COLUMNS, Header

__all__ = ["Table", "as_array", "as_table", "describe_dtype"]

Part = np.ndarray  # (rows, columns) of one dtype: all columns of a file whose columns share it, else one


class Table:
    """Some rows of a file: `parts` hold the values and `masks` are True where one is missing (None: none is)."""

    def __init__(self, parts: Sequence[Part], masks: Sequence[Part | None]) -> None:
        self.parts, self.masks = list(parts), list(masks)

    def __len__(self) -> int:
        return self.parts[0].shape[0]

    def rows(self, start: int, stop: int) -> Table:
        """A view of some rows."""
        return Table([p[start:stop] for p in self.parts], [m if m is None else m[start:stop] for m in self.masks])

    def columns(self) -> list[np.ndarray]:
        """One array per column."""
        return [column for part in self.parts for column in part.T]

    def column_masks(self) -> list[np.ndarray | None] | None:
        """One mask per column, or None where nothing is missing."""
        if not self.has_mask():
            return None
        found: list[np.ndarray | None] = []
        for part, mask in zip(self.parts, self.masks, strict=True):
            found += [None] * part.shape[1] if mask is None else [m if m.any() else None for m in mask.T]
        return found

    def has_mask(self) -> bool:
        """Is any value missing?"""
        return any(mask is not None and mask.any() for mask in self.masks)

    @staticmethod
    def empty(header: Header, rows: int) -> Table:
        """Room for some rows."""
        widths = [header.ncols] if len(header.dtypes) == 1 else [1] * header.ncols
        shapes = [(rows, width) for width in widths]
        masks = [np.zeros(shape, bool) if header.missing else None for shape in shapes]
        return Table([np.empty(s, stored_dtype(d)) for s, d in zip(shapes, header.dtypes, strict=True)], masks)

    def put(self, at: int, other: Table) -> None:
        """Copy the rows of `other` to `at` and on."""
        stop = at + len(other)
        for mine, part in zip(self.parts, other.parts, strict=True):
            mine[at:stop] = part
        for held, mask in zip(self.masks, other.masks, strict=True):
            if held is not None:
                held[at:stop] = False if mask is None else mask


def describe_dtype(call: str, dtype: Any, ndim: int) -> dict[str, Any]:
    """The fields of a `Header` that follow from an array's dtype and number of dimensions.

    Raises:
        TypeError: Columns cannot have this dtype. ValueError: Arrays cannot have so many dimensions.
    """
    found = np.dtype(dtype)
    if found.names is None:
        if ndim not in (1, 2):
            raise refuse(call, "an array of shape (rows,) or (rows, columns)", f"{ndim} dimensions", "Reshape it.")
        return {"dtypes": (column_dtype(call, found),), "layout": "flat" if ndim == 1 else "matrix"}
    if ndim != 1:
        raise refuse(call, "a structured array of shape (rows,)", f"{ndim} dimensions", "Use x.ravel().")
    if not 1 <= len(found.names) <= MAX_COLUMNS:
        raise refuse(call, "a structured array with 1 to 2^20 fields", f"{len(found.names)}", "")
    dtypes = tuple(column_dtype(call, found[name]) for name in found.names)
    dtypes = dtypes[:1] if len(set(dtypes)) == 1 else dtypes
    return {"dtypes": dtypes, "layout": "records", "names": found.names, "ncols": len(found.names)}


def as_array(call: str, x: Any) -> np.ndarray:
    """What a user passed as an array, without a copy where there is a way."""
    if isinstance(x, np.ndarray):
        return x
    try:
        return np.asarray(x)
    except Exception as error:
        raise refuse_type(call, "an array", type(x).__name__, f"NumPy cannot convert it: {error}.") from None


def as_table(call: str, x: np.ndarray, header: Header) -> Table:
    """An array as a `Table` of the file described by `header`.

    Raises:
        TypeError: Another dtype. ValueError: Another shape, or a masked array where nothing may be missing.
    """
    mask: Any = np.ma.getmask(x) if isinstance(x, np.ma.MaskedArray) else np.ma.nomask
    _check(call, x, header)
    data = np.asarray(np.ma.getdata(x))
    if header.layout == "records":
        fields = data.dtype.names
        assert fields is not None
        parts = [_native(data[name], header.column(j))[:, None] for j, name in enumerate(fields)]
        masks = [None if mask is np.ma.nomask else np.asarray(mask[name])[:, None] for name in fields]
        if len(header.dtypes) == 1:
            parts = [np.concatenate(parts, axis=1)]
            masks = [None if mask is np.ma.nomask else np.concatenate(masks, axis=1)]  # type: ignore[arg-type]
    else:
        wide = (slice(None), None) if header.layout == "flat" else ()
        parts = [_native(data, header.dtypes[0])[wide]]
        masks = [None if mask is np.ma.nomask else np.asarray(mask)[wide]]
    table = Table(parts, masks)
    if not header.missing and table.has_mask():
        fix = "Open the writer with missing=True, or fill them: x.filled(0)."
        raise refuse(call, "an array without missing values", f"{int(np.sum(np.ma.count_masked(x)))} of them", fix)
    return table


def _native(data: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The values in native byte order, datetimes as integers."""
    return data.astype(dtype, copy=False).view(stored_dtype(dtype))


def _check(call: str, x: np.ndarray, header: Header) -> None:
    """Refuse what is not of the file's dtype and shape."""
    expected = header.dtype
    same = x.dtype.names == expected.names and x.dtype.newbyteorder("=") == expected
    if x.dtype.names is not None and x.dtype.names == expected.names:  # other padding is no other dtype
        same = all(x.dtype[name].newbyteorder("=") == expected[name] for name in x.dtype.names)
    if not same:
        raise refuse_type(call, f"dtype {expected}", x, "Convert it with x.astype(...), or write another file.")
    wanted = 2 if header.layout == "matrix" else 1
    if x.ndim != wanted or (wanted == 2 and x.shape[1] != header.ncols):
        shape = f"(rows, {header.ncols})" if wanted == 2 else "(rows,)"
        raise refuse(call, f"shape {shape}", x, "Reshape it, or write another file.")
