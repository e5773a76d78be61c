"""Tables of Arrow."""

from __future__ import annotations

import sys

import numpy as np
import pytest

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


def test_without_pyarrow(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"hasten\[arrow\]"):
        sprintz.open(sprintz.compress(np.arange(5))).to_arrow()
