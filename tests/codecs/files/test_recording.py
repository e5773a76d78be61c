"""What a recording may be, blocks of one, and names."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.codecs.files import Opened, Recording
from hasten.codecs.files.recording import block_rows, choose, distinct

MIXED = np.zeros(3, [("t", "M8[s]"), ("x", "f8")])


def test_a_structured_array_names_its_columns() -> None:
    assert Recording(MIXED).names == ("t", "x")
    assert Recording(MIXED).columns == 2
    assert Recording(np.zeros((3, 4))).columns == 4
    assert Recording(np.zeros(3)).columns == 1


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        ({"data": [1, 2]}, TypeError, "data as a NumPy array"),
        ({"data": np.zeros((2, 2, 2))}, ValueError, r"shape \(rows,\) or \(rows, columns\)"),
        ({"data": MIXED[:, None]}, ValueError, "shape"),
        ({"data": MIXED, "names": ("a", "b")}, ValueError, "as the fields"),
        ({"data": np.zeros((2, 2)), "names": ("a",)}, ValueError, "names for 2 columns"),
        ({"data": np.zeros((2, 2)), "names": ("a", "a")}, ValueError, "names that differ"),
        ({"data": np.zeros((2, 2)), "units": ("mV",)}, ValueError, "units for 2 columns"),
        ({"data": np.zeros((2, 2)), "gain": (1, 2, 3)}, ValueError, "gain for 2 columns"),
    ],
)
def test_what_cannot_be(arguments: dict, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        Recording(**arguments)


def test_physical_values() -> None:
    found = Recording(np.array([[0, 10], [200, -10]], np.int16), gain=(100, 2), baseline=(100, None)).physical()
    assert found.tolist() == [[-1.0, 5.0], [1.0, -5.0]]
    masked = np.ma.masked_array(np.array([[0], [200]], np.int16), [[True], [False]])
    assert Recording(masked, gain=(100,)).physical().tolist() == [[None], [2.0]]
    records = np.array([(1, 2.0)], [("a", "i2"), ("b", "f4")])
    assert Recording(records, gain=(2, 4)).physical().tolist() == [[0.5, 0.5]]
    for gain in (None, (1, None)):
        with pytest.raises(ValueError, match="a gain for each column"):
            Recording(np.zeros((1, 2)), gain=gain).physical()


def test_blocks_are_the_rows_in_order() -> None:
    data = np.arange(20).reshape(10, 2)
    with Opened.of(Recording(data, ("a", "b"))) as opened:
        assert [len(block) for block in opened.blocks(4)] == [4, 4, 2]
        assert np.array_equal(np.concatenate(list(opened.blocks(3))), data)
        assert [len(block) for block in opened.blocks()] == [10]
        assert opened.read().data is not data
        assert np.array_equal(opened.read().data, data)
        assert opened.like.names == ("a", "b")
        assert opened.like.data.shape == (0, 2)
        with pytest.raises(ValueError, match="rows"):
            next(opened.blocks(0))
    assert list(Opened.of(Recording(data[:0])).blocks()) == []


def test_a_block_is_about_8_mib() -> None:
    assert block_rows(Recording(np.zeros((0, 4), np.int16))) == 1 << 20
    assert block_rows(Recording(MIXED[:0])) == 1 << 19
    assert block_rows(Recording(np.zeros((0, 1 << 24)))) == 1
    assert block_rows(Recording(np.zeros((0, 0)))) == 1 << 23


@given(st.lists(st.sampled_from(["", "a", "a_2", "a_3", "column_1", "column_2"]), max_size=8))
def test_distinct_names_differ_and_keep_what_was_distinct(names: list[str]) -> None:
    found = distinct(names)
    assert len(set(found)) == len(found) == len(names)
    assert "" not in found
    assert all(new == old for old, new in zip(names, found, strict=True) if old and names.count(old) == 1) or (
        "" in names  # an empty title may get the name of a later column
    )


def test_choosing_columns() -> None:
    assert choose("csv", None, 3, None) == [0, 1, 2]
    assert choose("csv", ("a", "1"), 2, ["1", "a"]) == [1, 0]
    assert choose("csv", ("a", "b"), 2, "1") == [1]
    assert choose("csv", None, 3, 2) == [2]
    for columns, told in (("c", "Known: a, b"), ([2], "a column below 2"), ([-1], "below 2"), ([], "differ"),
                          (["a", 0], "differ")):  # fmt: skip
        with pytest.raises(ValueError, match=told):
            choose("csv", ("a", "b"), 2, columns)
    for columns in ([True], [1.5]):
        with pytest.raises(TypeError, match="names or numbers"):
            choose("csv", ("a", "b"), 2, columns)
