"""Tables of Arrow."""

from __future__ import annotations

import itertools
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.codecs import sprintz


def test_a_matrix_with_missing_values():
    pytest.importorskip("pyarrow")
    x = np.ma.array(np.arange(200, dtype=np.int16).reshape(100, 2), mask=False)
    x[3, 1] = np.ma.masked
    table = sprintz.open(sprintz.compress(x, names=["a", "b"], chunk_rows=32)).to_arrow()
    assert table.column_names == ["a", "b"]
    assert [str(t) for t in table.schema.types] == ["int16", "int16"]
    assert table["a"].to_pylist() == x[:, 0].tolist()
    assert table["b"].to_pylist() == x[:, 1].tolist()
    assert table["b"].null_count == 1


def test_records_and_one_dimension():
    pytest.importorskip("pyarrow")
    rows = np.array([(1, 0.5, "2026-01-01"), (2, np.nan, "2026-01-02")], [("n", "i4"), ("v", "f8"), ("t", "M8[s]")])
    table = sprintz.open(sprintz.compress(rows)).to_arrow()
    assert [str(t) for t in table.schema.types] == ["int32", "double", "timestamp[s]"]
    assert table["n"].to_pylist() == [1, 2]
    assert table["t"].to_numpy().tolist() == rows["t"].tolist()
    flat = sprintz.open(sprintz.compress(np.arange(5, dtype=np.uint8))).to_arrow()
    assert flat.to_pydict() == {"0": [0, 1, 2, 3, 4]}


def test_units_that_arrow_has_not():
    pytest.importorskip("pyarrow")
    for dtype in ("M8[h]", "M8[25s]", "m8[D]", "m8"):
        reader = sprintz.open(sprintz.compress(np.zeros(4, dtype), names=["when"]))
        with pytest.raises(TypeError, match="one of the units s, ms.* in column 'when', got dtype"):
            reader.to_arrow()


def test_without_pyarrow(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"hasten\[arrow\]"):
        sprintz.open(sprintz.compress(np.arange(5))).to_arrow()
    with pytest.raises(ImportError, match=r"hasten\[arrow\]"):
        sprintz.from_arrow(None)


# In -------------------------------------------------------------------------------------------------------------------


class Foreign:
    """A table of another library: nothing but the C interface."""

    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


class ForeignBatch:
    def __init__(self, batch):
        self._batch = batch

    def __arrow_c_array__(self, requested_schema=None):
        return self._batch.__arrow_c_array__(requested_schema)


def mixed(rows=100, seed=0, nulls=True):
    """A table with a column of each type that can be stored."""
    pa = pytest.importorskip("pyarrow")
    draw = np.random.default_rng(seed)
    columns = {}
    for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64"):
        kind = np.dtype(name)
        values = draw.integers(0, 256, rows * kind.itemsize, dtype=np.uint8).view(kind)
        columns[name] = pa.array(values, mask=(draw.random(rows) < 0.1) & nulls)
    columns["bool"] = pa.array(draw.random(rows) < 0.5, mask=(draw.random(rows) < 0.1) & nulls)
    times = draw.integers(-(10**12), 10**12, rows)
    for unit in ("s", "ms", "us", "ns"):
        columns[f"time {unit}"] = pa.array(times.view(f"M8[{unit}]"), mask=(draw.random(rows) < 0.1) & nulls)
        columns[f"zone {unit}"] = pa.array(times, pa.int64()).view(pa.timestamp(unit, "Europe/Berlin"))
        columns[f"took {unit}"] = pa.array(times.view(f"m8[{unit}]"), mask=(draw.random(rows) < 0.1) & nulls)
    columns["day"] = pa.array((times // 10**8).astype("M8[D]"), mask=(draw.random(rows) < 0.1) & nulls)
    return pa.table(columns)


def test_round_trip_of_every_type(tmp_path):
    table = mixed()
    buf = sprintz.from_arrow(table, chunk_rows=32)
    back = sprintz.open(buf).to_arrow()
    assert back.schema == table.schema
    assert_same(back, table)
    assert sum(column.null_count for column in back.columns) > 50
    assert sprintz.from_arrow(table, tmp_path / "x.tsz", chunk_rows=32, threads=3) is None
    assert (tmp_path / "x.tsz").read_bytes() == buf


def assert_same(back, table):
    """Equal, and NaN bit for bit."""
    for name in table.column_names:
        mine, other = (t[name].combine_chunks() for t in (back, table))
        if name in ("float32", "float64"):
            mine, other = (array.view(name.replace("float", "int")) for array in (mine, other))
        assert mine.equals(other), name


def test_whatever_speaks_arrow(tmp_path):
    pa = pytest.importorskip("pyarrow")
    table = mixed(nulls=False)
    buf = sprintz.from_arrow(table)
    batch = table.to_batches()[0]
    assert sprintz.from_arrow(batch) == buf
    assert sprintz.from_arrow(ForeignBatch(batch)) == buf
    assert not sprintz.info(buf).missing
    for source in (Foreign(table), pa.RecordBatchReader.from_batches(table.schema, table.to_batches(max_chunksize=7))):
        found = sprintz.from_arrow(source, missing=False)
        assert found == buf
    assert sprintz.info(sprintz.from_arrow(Foreign(table))).missing  # the schema allows nulls
    strict = pa.schema([field.with_nullable(False) for field in table.schema])
    assert not sprintz.info(sprintz.from_arrow(Foreign(table.cast(strict)))).missing


@given(cuts=st.lists(st.integers(0, 100), max_size=6), nulls=st.booleans())
def test_batches_of_any_size_and_offset(cuts, nulls):
    pa = pytest.importorskip("pyarrow")
    table = mixed(nulls=nulls).select(["bool", "int16", "day", "time ms"])
    ends = [0, *sorted(cuts), 100]
    batches = [table.to_batches()[0].slice(a, b - a) for a, b in itertools.pairwise(ends)]
    parts = pa.RecordBatchReader.from_batches(table.schema, batches)
    assert sprintz.from_arrow(parts, missing=nulls) == sprintz.from_arrow(table)


def test_one_type_is_a_matrix():
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"x": [1, 2, None], "y": [4, None, 6]})
    with sprintz.open(sprintz.from_arrow(table, units=["mV", None], rate=360.0, meta={"device": "A7"})) as reader:
        assert (reader.shape, reader.dtype, reader.names) == ((3, 2), np.int64, ("x", "y"))
        assert reader[:].tolist() == [[1, 4], [2, None], [None, 6]]
        assert (reader.header.units, reader.header.rate, reader.header.meta) == (("mV", None), 360.0, {"device": "A7"})
        assert reader.to_arrow().equals(table)
    zones = pa.table({"t": pa.array([0, 1]).view(pa.timestamp("s", "UTC"))})
    with sprintz.open(sprintz.from_arrow(zones, meta={"device": "A7"})) as reader:
        assert reader.header.meta == {"device": "A7", "arrow": {"timezones": {"t": "UTC"}}}
        assert reader.to_arrow().equals(zones)


@pytest.mark.parametrize("path", [False, True])
@pytest.mark.parametrize("chunks", [0, 1])
def test_tables_without_rows(tmp_path, path, chunks):
    pa = pytest.importorskip("pyarrow")
    schema = pa.schema([("n", pa.int16()), ("ok", pa.bool_())])
    table = pa.Table.from_batches([pa.RecordBatch.from_pylist([], schema)] * chunks, schema)
    found = sprintz.from_arrow(table, tmp_path / "x.tsz" if path else None)
    with sprintz.open(tmp_path / "x.tsz" if path else found) as reader:
        back = reader.to_arrow()
    assert back.schema == schema
    assert back.num_rows == 0


def test_a_stream_is_written_in_bounded_blocks(tmp_path, monkeypatch):
    """One batch of 100,000 rows: no block that is handed to the writer has more than a few chunks."""
    pa = pytest.importorskip("pyarrow")
    sizes, append = [], sprintz.Writer.append

    def watched(self, block):
        sizes.append(len(block))
        append(self, block)

    monkeypatch.setattr(sprintz.Writer, "append", watched)
    x = np.arange(100_000, dtype=np.int32)
    sprintz.from_arrow(pa.table({"x": x}), tmp_path / "x.tsz", chunk_rows=1024)
    assert sizes == [4096] * 24 + [1696]
    with sprintz.open(tmp_path / "x.tsz") as reader:
        assert np.array_equal(reader[:, 0], x)


def test_nothing_is_written_if_something_fails(tmp_path):
    pa = pytest.importorskip("pyarrow")
    path = tmp_path / "x.tsz"
    path.write_bytes(b"old")
    schema = pa.schema([("x", pa.int16())])

    def batches():
        yield pa.record_batch({"x": pa.array([1, 2], pa.int16())})
        yield pa.record_batch({"x": pa.array([3, None], pa.int16())})

    with pytest.raises(ValueError, match="got 1 in column 'x'"):
        sprintz.from_arrow(pa.RecordBatchReader.from_batches(schema, batches()), path, missing=False)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


UNSUPPORTED = {
    "string": lambda pa: pa.array(["a"]),
    "dictionary<values=string": lambda pa: pa.array(["a"]).dictionary_encode(),
    "list<": lambda pa: pa.array([[1]]),
    "struct<": lambda pa: pa.array([{"a": 1}]),
    "halffloat": lambda pa: pa.array(np.zeros(1, np.float16)),
    "decimal128": lambda pa: pa.array([1]).cast(pa.decimal128(20)),
    "null": lambda pa: pa.nulls(1),
    "date64": lambda pa: pa.array([0], pa.date64()),
    "time32": lambda pa: pa.array([0], pa.time32("s")),
    "binary": lambda pa: pa.array([b"a"]),
    "extension": lambda pa: pa.array([1], pa.int8()).cast(pa.bool8()),
}


@pytest.mark.parametrize("kind", UNSUPPORTED)
def test_columns_that_cannot_be_stored(kind):
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"fine": [1], "odd one": UNSUPPORTED[kind](pa)})
    with pytest.raises(TypeError, match=rf"got {kind}.* in column 'odd one'. Leave it out, table.drop_columns"):
        sprintz.from_arrow(table)


def test_bad_arguments(tmp_path):
    pa = pytest.importorskip("pyarrow")
    table = pa.table({"x": [1, None]})
    with pytest.raises(TypeError, match="expected a table of Arrow, got ndarray"):
        sprintz.from_arrow(np.zeros(3))
    for source in (table["x"], table["x"].chunk(0)):
        with pytest.raises(TypeError, match="expected a table, got .*Array.* non-struct type"):
            sprintz.from_arrow(source)
    with pytest.raises(ValueError, match="one column or more"):
        sprintz.from_arrow(table.select([]))
    for names in (["x", "x"], ["x", ""]):
        with pytest.raises(ValueError, match="columns with names that differ"):
            sprintz.from_arrow(pa.Table.from_arrays([pa.array([1])] * 2, names=names))
    with pytest.raises(TypeError, match="Did you mean predictor"):
        sprintz.from_arrow(table, predictr="none")
    with pytest.raises(TypeError, match="an option of compress, got 'framing'"):
        sprintz.from_arrow(table, framing=False)
    with pytest.raises(ValueError, match="at least 1 for threads"):
        sprintz.from_arrow(table, threads=0)
    with pytest.raises(ValueError, match="without nulls, as missing=False asks for, got 1 in column 'x'"):
        sprintz.from_arrow(table, missing=False)
    zones = pa.table({"t": pa.array([0, 1]).view(pa.timestamp("s", "UTC"))})
    with pytest.raises(ValueError, match='meta without the key "arrow"'):
        sprintz.from_arrow(zones, meta={"arrow": 1})
    with pytest.raises(TypeError, match="meta a dict"):
        sprintz.from_arrow(zones, tmp_path / "x.tsz", meta=[1])
    assert not list(tmp_path.iterdir())
    odd = sprintz.compress(np.zeros(2, "M8[s]"), names=["t"], meta={"arrow": {"timezones": {"t": 5, "u": "UTC"}}})
    assert str(sprintz.open(odd).to_arrow().schema.types[0]) == "timestamp[s]"
