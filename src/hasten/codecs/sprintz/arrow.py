"""Tables of Apache Arrow, in and out; needs `pip install 'hasten[arrow]'`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .reader import Reader

__all__ = ["to_arrow"]


def to_arrow(reader: Reader) -> Any:
    """All rows of a `tsz` file as a `pyarrow.Table`; missing values become nulls.

    Args:
        reader: An open file. Columns without names are called "0", "1", and so on.

    Raises:
        ImportError: pyarrow is not there.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise ImportError("to_arrow needs pyarrow: pip install 'hasten[arrow]'") from error
    rows: Any = reader[:]
    if rows.dtype.names:
        columns = [rows[name] for name in rows.dtype.names]
    else:
        columns = list(rows.T) if rows.ndim == 2 else [rows]
    names = reader.names or tuple(map(str, range(len(columns))))
    arrays = [
        pyarrow.array(np.ascontiguousarray(np.ma.getdata(c)), mask=np.ma.getmaskarray(c) if np.ma.isMA(c) else None)
        for c in columns
    ]
    return pyarrow.Table.from_arrays(arrays, names=list(names))
