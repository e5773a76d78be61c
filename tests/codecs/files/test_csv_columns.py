"""What cells are, and that their text comes back."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.codecs.files.csv_columns import BadCellError, Column, looks_like, texts


def seen(*blocks: list[str]) -> Column:
    column = Column("x")
    for block in blocks:
        column.see(block)
    return column


def back(cells: list[str], *, spec: str | None = "as seen") -> list[str]:
    """The cells after they were read and written."""
    column = seen(cells)
    values, mask = column.convert(cells, column.dtype())
    found = values if mask is None else np.ma.masked_array(values, mask)
    return texts(found, column.spec if spec == "as seen" else spec)


KEPT = [
    ["1", "-20", "300"],
    ["+1", "+20", "-3"],
    ["007", "-07", "120"],
    ["18446744073709551615", "0"],
    ["-9223372036854775808", "9223372036854775807"],
    ["0.1", "0.30000000000000004", "1e-05", "1e+16", "5e-324", "-0.0", "nan", "inf", "-inf"],
    ["1", "2.5", "-3"],
    ["1.50", "0.25", "-12.00"],
    ["1.0000000e+00", "-1.1252183e-01"],
    ["1.5E+00", "2.5E-10"],
    ["2016-07-01", "1999-12-31"],
    ["2016-07-01 00:00", "2016-07-01 23:59"],
    ["2016-07-01 00:00:00", "2016-07-01 23:59:59"],
    ["2016-07-01T00:00:00.123", "0001-01-01T00:00:00.000"],
    ["2016-07-01T00:00:00.123456Z", "9999-12-31T23:59:59.999999Z"],
    ["2016-07-01T00:00:00.123456789", "1678-01-01T00:00:00.000000000"],
    ["2016-07-01", "NaT"],
    ["true", "false"],
    ["True", "False"],
    ["FALSE", "TRUE"],
    ["", "1", ""],
    ["", "1.50", "2.25"],
    ["", "2016-07-01", ""],
    ["true", ""],
    ["", ""],
]  # fmt: skip


@pytest.mark.parametrize("cells", KEPT, ids=lambda cells: "|".join(cells))
def test_text_that_comes_back(cells: list[str]) -> None:
    assert back(cells) == cells


LOST = [
    (["1.50", "0.1"], ["1.5", "0.1"]),
    ([" 1", "2 "], ["1", "2"]),
    (["1", "02"], ["1", "2"]),
    (["1e5", "2.5"], ["100000.0", "2.5"]),
    ([".5", "1."], ["0.5", "1.0"]),
    (["5.", "7."], ["5.0", "7.0"]),
    (["-0", "1"], ["0", "1"]),
    (["1.50", "01.50"], ["1.5", "1.5"]),
    (["NaN", "0.5"], ["nan", "0.5"]),
    (["2016-07-01", "2016-07-01 12:00"], ["2016-07-01T00:00", "2016-07-01T12:00"]),
    (["2016-07-01T00:00:00.5", "2016-07-01T00:00:00.25"], ["2016-07-01T00:00:00.500", "2016-07-01T00:00:00.250"]),
    (["true", "False"], ["True", "False"]),
    ([" ", "1"], ["", "1"]),
]


@pytest.mark.parametrize(("cells", "found"), LOST, ids=lambda cells: "|".join(cells))
def test_text_that_changes_and_values_that_do_not(cells: list[str], found: list[str]) -> None:
    assert back(cells) == found
    assert back(found) == found
    first, second = seen(cells), seen(found)
    assert first.dtype() == second.dtype()
    a, b = first.convert(cells, first.dtype()), second.convert(found, second.dtype())
    assert np.array_equal(a[0], b[0], equal_nan=a[0].dtype.kind == "f")


@pytest.mark.parametrize(
    ("blocks", "dtype", "spec"),
    [
        ([["1"], ["2.5"]], "f8", "s"),
        ([["01"], ["2.5"]], "f8", None),
        ([["10000000000000000"], ["2.5"]], "f8", None),
        ([["2.5"], ["1"]], "f8", "s"),
        ([["2.50"], ["1.25"]], "f8", ".2f"),
        ([["", ""], ["127"], ["-128"]], "i1", "d"),
        ([["128"], ["-1"]], "i2", "d"),
        ([["2016-07-01"], ["2016-07-02"]], "M8[D]", "T"),
        ([["2016-07-01 10:00:00"], ["2016-07-02 10:00:00.5"]], "M8[ms]", None),
        ([["true"], ["false"]], "?", "true"),
        ([["true"], ["FALSE"]], "?", None),
        ([["NaT"], ["2016-07-02 10:00:00"]], "M8[s]", None),
    ],
)
def test_blocks_make_one_column(blocks: list[list[str]], dtype: str, spec: str | None) -> None:
    column = seen(*blocks)
    assert column.dtype() == np.dtype(dtype)
    assert column.spec == spec


@pytest.mark.parametrize(
    ("blocks", "place", "cell", "expected"),
    [
        ([["1", "2", "x"]], 2, "x", "numbers"),
        ([["x"]], 0, "x", "integers, decimals, ISO dates, or true and false"),
        ([["1"], ["2", "2016-07-01"]], 1, "2016-07-01", "numbers"),
        ([["0.5"], ["true"]], 0, "true", "numbers"),
        ([["2016-07-01"], ["", "7"]], 1, "7", "ISO dates"),
        ([["2016-07-01", "2016-13-01"]], 1, "2016-13-01", "ISO dates"),
        ([["2016-02-30"]], 0, "2016-02-30", "integers, decimals, ISO dates, or true and false"),
        ([["2016-07-01 25:00"]], 0, "2016-07-01 25:00", "integers, decimals, ISO dates, or true and false"),
        ([["1500-01-01"], ["2000-01-01T00:00:00.000000001"]], 0, "2000-01-01T00:00:00.000000001", "ISO dates"),
        ([["true"], ["1"]], 0, "1", "true and false"),
        ([["1_000"]], 0, "1_000", "integers, decimals, ISO dates, or true and false"),
        ([["1", "٣"]], 1, "٣", "numbers"),
        ([["1,5"]], 0, "1,5", "integers, decimals, ISO dates, or true and false"),
        ([["0x10"]], 0, "0x10", "integers, decimals, ISO dates, or true and false"),
        ([["2016-07-01T00:00:00+02:00"]], 0, "2016-07-01T00:00:00+02:00",
         "integers, decimals, ISO dates, or true and false"),
        ([["1", "\udcff"]], 1, "\udcff", "numbers"),
    ],
)  # fmt: skip
def test_a_cell_that_does_not_fit_is_named(blocks: list[list[str]], place: int, cell: str, expected: str) -> None:
    with pytest.raises(BadCellError) as caught:
        seen(*blocks)
    assert (caught.value.place, caught.value.cell, caught.value.expected) == (place, cell, expected)


def test_integers_of_more_than_64_bits_are_refused() -> None:
    for cells in (["18446744073709551616"], ["-9223372036854775809"], ["-1", "9223372036854775808"]):
        with pytest.raises(ValueError, match=f"up to 64 bits in column 'x', got {cells[-1]}"):
            seen(cells).dtype()
    with pytest.raises(ValueError, match="one of 50 digits"):
        seen(["9" * 50]).dtype()


def test_a_number_too_long_for_an_integer_is_infinite_as_python_has_it() -> None:
    column = seen(["9" * 5000])
    assert column.convert(["9" * 5000], column.dtype())[0].tolist() == [math.inf]


@pytest.mark.parametrize("spec", ["%d", "99999999d", ".999f", "x", "", 7, None, "d", "T", "{}", "True"])
def test_a_spec_that_makes_no_sense_is_not_followed(spec: object) -> None:
    assert texts(np.array([0.5, 2.0]), spec) == ["0.5", "2.0"]


@pytest.mark.parametrize(
    ("values", "cells"),
    [
        (np.array([0.1, 1e30], np.float32), ["0.1", "1e+30"]),
        (np.array([3, -1], ">i2"), ["3", "-1"]),
        (np.array([90, -1], "m8[s]"), ["90", "-1"]),
        (np.array([0, 13], "M8[h]"), ["1970-01-01T00:00", "1970-01-01T13:00"]),
        (np.array([0, 13], "M8[M]"), ["1970-01-01", "1971-02-01"]),
        (np.array([2], "M8[25s]"), ["1970-01-01T00:00:50"]),
        (np.ma.masked_array([1, 2], [False, True]), ["1", ""]),
        (np.array([True, False]), ["True", "False"]),
    ],
)
def test_texts_of_other_dtypes(values: np.ndarray, cells: list[str]) -> None:
    assert texts(values) == cells


def test_a_format_of_few_decimals_never_rounds() -> None:
    assert texts(np.array([1.5, 0.125, -0.0, -0.001, np.nan]), ".2f") == ["1.50", "0.125", "-0.00", "-0.001", "nan"]


def test_kinds_of_single_cells() -> None:
    kinds = {"12": "i", "-1.5e3": "f", "inf": "f", "2016-07-01T10:00Z": "M", "TRUE": "b", "": "", "a": "text"}
    assert {cell: looks_like(cell) for cell in kinds} == kinds


any_float = st.integers(0, (1 << 64) - 1).map(lambda bits: struct.unpack("<d", bits.to_bytes(8, "little"))[0])


@given(st.lists(any_float | st.floats() | st.integers(-1000, 1000).map(float), min_size=1))
def test_every_float_comes_back_bit_for_bit(values: list[float]) -> None:
    cells = list(map(repr, values))
    column = seen(cells)
    assert column.spec == "r"
    found, mask = column.convert(cells, column.dtype())
    assert mask is None
    assert [math.isnan(v) or v for v in found.tolist()] == [math.isnan(v) or v for v in values]
    assert [math.copysign(1, v) for v in found.tolist() if v == 0] == [math.copysign(1, v) for v in values if v == 0]
    assert texts(found, column.spec) == cells


@given(st.lists(st.floats(-1e300, 1e300), min_size=1), st.integers(0, 9), st.sampled_from("fe"))
def test_fixed_decimals_come_back_as_text(values: list[float], decimals: int, form: str) -> None:
    cells = [f"{value:.{decimals}{form}}" for value in values]
    if form == "f" and decimals == 0 and any(abs(v) > 1e18 for v in values):
        return  # integers too large
    assert "-0" in cells or back(cells) == cells
    column = seen(cells)
    assert column.convert(cells, column.dtype())[0].tolist() == list(map(float, cells))


@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), min_size=1), st.integers(0, 20))
def test_every_integer_comes_back(values: list[int], width: int) -> None:
    cells = [f"{value:0{width}d}" for value in values]
    column = seen(cells)
    assert column.convert(cells, column.dtype())[0].tolist() == values
    assert back(list(map(str, values))) == list(map(str, values))


@given(st.lists(st.text(alphabet="0123456789.eE+-_ nfaiT:Zx", max_size=12), max_size=4))
def test_any_text_is_read_as_python_reads_it_or_refused(cells: list[str]) -> None:
    try:
        column = seen(cells)
        dtype = column.dtype()
    except ValueError:
        return
    values, mask = column.convert(cells, dtype)
    if column.kind in ("i", "f"):
        wanted = [float(cell) if cell.strip() else 0.0 for cell in cells]
        assert np.array_equal(values.astype(float), wanted, equal_nan=True)
    assert mask is None or mask.tolist() == [not cell.strip() for cell in cells]


@given(st.lists(st.integers(-(10**15) + 1, 10**15 - 1), min_size=1), st.integers(1, 15))
def test_decimals_of_up_to_15_digits_come_back_as_text(values: list[int], decimals: int) -> None:
    """The quick look at the text and the slow one at the values agree."""
    cells = [f"{'-' * (v < 0)}{abs(v) // 10**decimals}.{abs(v) % 10**decimals:0{decimals}d}" for v in values]
    column = seen(cells)
    assert f".{decimals}f" in column.specs
    assert [f"{float(cell):.{decimals}f}" for cell in cells] == cells
    assert back(cells) == cells
