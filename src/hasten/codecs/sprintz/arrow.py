"""Tables of Apache Arrow, in and out; needs `pip install 'hasten[arrow]'`."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hasten._core.checks import missing_extra, near, refuse, refuse_type, whole
from hasten._core.files import replacing

from .oneshot import compress
from .writer import Writer

if TYPE_CHECKING:
    from .reader import Reader

__all__ = ["from_arrow", "to_arrow"]

BATCH = 4  # chunks for each thread that are handed over at once
UNITS = ("s", "ms", "us", "ns")
OPTIONS = frozenset(inspect.signature(compress).parameters) - {"x", "names", "checksum", "framing"}


def to_arrow(reader: Reader) -> Any:
    """All rows of a `tsz` file as a `pyarrow.Table`; missing values, and points in time that are NaT, become nulls.

    Args:
        reader: An open file. Columns without names are called "0", "1", and so on.

    Raises:
        ImportError: pyarrow is not there. TypeError: Points in time in a unit that Arrow has not, such as hours.
    """
    arrow = _pyarrow("to_arrow")
    names = reader.names or tuple(map(str, range(reader.header.ncols)))
    zones = _zones(reader.header.meta)
    for j, name in enumerate(names):
        dtype = reader.header.column(j)
        units = UNITS if dtype.kind == "m" else (*UNITS, "D")
        if dtype.kind in "Mm" and np.datetime_data(dtype) not in [(unit, 1) for unit in units]:
            what = f"one of the units {', '.join(units)} in column {name!r}"
            raise refuse_type("to_arrow", what, f"dtype {dtype}", "Read it as an array: reader[:].")
    rows: Any = reader[:]
    if rows.dtype.names:
        columns = [rows[name] for name in rows.dtype.names]
    else:
        columns = list(rows.T) if rows.ndim == 2 else [rows]
    arrays = []
    for name, column in zip(names, columns, strict=True):
        mask = np.ma.getmaskarray(column) if np.ma.isMA(column) else None
        array = arrow.array(np.ascontiguousarray(np.ma.getdata(column)), mask=mask)
        if name in zones and arrow.types.is_timestamp(array.type):
            array = array.view(arrow.timestamp(array.type.unit, zones[name]))
        arrays.append(array)
    return arrow.Table.from_arrays(arrays, names=list(names))


def from_arrow(
    source: Any, path: Any = None, *, missing: bool | None = None, threads: int = 1,
    meta: dict[str, Any] | None = None, **options: Any,
) -> bytes | None:  # fmt: skip
    """Compress a table of Apache Arrow, such as those of pyarrow, polars, pandas and DuckDB.

    Columns of one type become an array of shape (rows, columns), others a structured one; names are kept, metadata of
    the schema are not. Time zones are kept in `meta["arrow"]`, for `to_arrow`; the values are UTC, as in Arrow.

    Args:
        source: Whatever speaks Arrow's C interface (`__arrow_c_stream__` or `__arrow_c_array__`): a pyarrow `Table`,
            `RecordBatch` or `RecordBatchReader`, a data frame. Columns of integers, float32, float64, bool, date32,
            timestamp or duration.
        path: Of the file; None: in memory. A file is written batch by batch, so a stream of any length needs little
            memory, and appears when all is written.
        missing: Whether the file may have missing values, which makes it read as masked arrays. None: if the table has
            nulls; of a stream, whose end is not known, if its schema allows them.
        threads: How many encode at once, a chunk each.
        meta: A dict of your own, stored as JSON.
        options: profile, predictor, entropy, cross, max_error, chunk_rows, units and rate, as of `compress`.

    Returns:
        The compressed bytes; None if there is a path.

    Raises:
        ImportError: pyarrow is not there. TypeError: No table, or a column that cannot be stored, by name.
        ValueError: Nulls where `missing` is False; no columns, or names that are empty or the same.

    >>> import pyarrow
    >>> from hasten.codecs import sprintz
    >>> table = pyarrow.table({"pulse": [71, None, 74], "ok": [True, True, False]})
    >>> sprintz.open(sprintz.from_arrow(table)).to_arrow().equals(table)
    True
    """
    arrow = _pyarrow("from_arrow")
    for name in options:
        if name not in OPTIONS:
            raise refuse_type("from_arrow", "an option of compress", repr(name), near(name, OPTIONS))
    whole("from_arrow", "threads", threads, low=1)
    schema, batches, nulls = _batches(arrow, source)
    dtype = _dtype(arrow, schema)
    nulls = nulls if missing is None else missing
    options |= {"meta": _with_zones(schema, meta), "threads": threads}
    options |= {} if dtype.names else {"names": schema.names}
    if path is None:
        none = arrow.RecordBatch.from_pylist([], schema)
        parts = [_array(batch, dtype, nulls) for batch in (none, *batches)]
        return compress(np.ma.concatenate(parts) if nulls else np.concatenate(parts), **options)
    columns = None if dtype.names else len(schema)
    with replacing(Path(path)) as aside, Writer(aside, dtype, columns, missing=nulls, **options) as writer:
        step = BATCH * threads * writer.header.chunk_rows
        for batch in batches:
            for at in range(0, batch.num_rows, step):
                writer.append(_array(batch.slice(at, step), dtype, nulls))
    return None


def _pyarrow(call: str) -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise missing_extra(call, "pyarrow", "arrow") from error
    return pyarrow


def _batches(arrow: Any, source: Any) -> tuple[Any, Iterable[Any], bool]:
    """Schema and batches of rows, and whether there may be nulls."""
    try:
        if hasattr(source, "__arrow_c_array__") and not isinstance(source, arrow.Table):
            source = arrow.Table.from_batches([arrow.record_batch(source)])
        if isinstance(source, arrow.Table):
            return source.schema, source.to_batches(), any(column.null_count for column in source.columns)
        if hasattr(source, "__arrow_c_stream__"):
            reader = arrow.RecordBatchReader.from_stream(source)
            return reader.schema, reader, any(field.nullable for field in reader.schema)
    except arrow.ArrowInvalid as error:  # an array, which has no columns
        raise refuse_type("from_arrow", "a table", type(source).__name__, f"{error}.") from None
    fix = "Pass a pyarrow.Table, or a data frame."
    raise refuse_type("from_arrow", "a table of Arrow", type(source).__name__, fix)


def _dtype(arrow: Any, schema: Any) -> np.dtype:
    """The dtype of the file: that of all columns, or a structured one."""
    names = schema.names
    if not names:
        raise refuse("from_arrow", "one column or more", "none", "")
    if "" in names or len(set(names)) < len(names):
        raise refuse("from_arrow", "columns with names that differ", repr(names), "Use table.rename_columns([...]).")
    dtypes = [_column_dtype(arrow, field) for field in schema]
    return dtypes[0] if len(set(dtypes)) == 1 else np.dtype(list(zip(names, dtypes, strict=True)))


def _column_dtype(arrow: Any, field: Any) -> np.dtype:
    """NumPy's dtype for the values of a column."""
    types, found = arrow.types, field.type
    if types.is_boolean(found) or types.is_integer(found) or types.is_float32(found) or types.is_float64(found):
        return np.dtype(found.to_pandas_dtype())
    if types.is_timestamp(found) or types.is_duration(found):
        return np.dtype(f"{'M' if types.is_timestamp(found) else 'm'}8[{found.unit}]")
    if types.is_date32(found):
        return np.dtype("M8[D]")
    what = "columns of integers, float32, float64, bool, date32, timestamp or duration"
    fix = f"Leave it out, table.drop_columns([{field.name!r}]), or cast it."
    raise refuse_type("from_arrow", what, f"{found} in column {field.name!r}", fix)


def _array(batch: Any, dtype: np.dtype, nulls: bool) -> np.ndarray:
    """The rows of a batch as the file's kind of array."""
    shape = (batch.num_rows,) if dtype.names else (batch.num_rows, batch.num_columns)
    data, mask = np.empty(shape, dtype), np.zeros(shape, np.ma.make_mask_descr(dtype))
    for j, name in enumerate(batch.schema.names):
        column, place = batch.column(j), name if dtype.names else (slice(None), j)
        data[place] = _values(column, dtype[name] if dtype.names else dtype)
        if column.null_count:
            if not nulls:
                got = f"{column.null_count} in column {name!r}"
                raise refuse("from_arrow", "a table without nulls, as missing=False asks for", got, "Leave it away.")
            mask[place] = column.is_null().to_numpy(zero_copy_only=False)
    return np.ma.array(data, mask=mask, copy=False) if nulls else data


def _values(column: Any, dtype: np.dtype) -> np.ndarray:
    """The values of an Arrow array, without a copy where there is a way; anything where one is null."""
    at, count, buffer = column.offset, len(column), column.buffers()[1]
    if not count:
        return np.empty(0, dtype)
    if dtype.kind == "b":
        bits = np.frombuffer(buffer, np.uint8)[at // 8 : (at + count + 7) // 8]
        return np.unpackbits(bits, bitorder="little")[at % 8 :][:count].astype(bool)
    if dtype.kind not in "Mm":
        return np.frombuffer(buffer, dtype, at + count)[at:]
    counts = np.frombuffer(buffer, f"i{column.type.bit_width // 8}", at + count)[at:]
    return counts.astype(np.int64, copy=False).view(dtype)


def _with_zones(schema: Any, meta: dict[str, Any] | None) -> dict[str, Any] | None:
    """The metadata of a file, with the time zones of its columns."""
    zones = {field.name: field.type.tz for field in schema if getattr(field.type, "tz", None)}
    if not zones or not isinstance(meta, (dict, type(None))):
        return meta
    if meta and "arrow" in meta:
        raise refuse("from_arrow", 'meta without the key "arrow"', "one with it", "Time zones are kept there.")
    return {**(meta or {}), "arrow": {"timezones": zones}}


def _zones(meta: dict[str, Any]) -> dict[str, str]:
    """The time zones that `from_arrow` kept, by column."""
    held = meta.get("arrow")
    zones = held.get("timezones") if isinstance(held, dict) else None
    zones = zones if isinstance(zones, dict) else {}
    return {name: zone for name, zone in zones.items() if isinstance(zone, str)}
