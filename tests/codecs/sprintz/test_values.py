"""Columns of floats: every bit comes back, what is regular is small, and no bytes can do harm."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from tests.codecs.files.real import FOLDER
from tests.codecs.sprintz.floats import WALK, back, columns, floats, integers, names, pack, slow_decode, unpack

from hasten.codecs.sprintz import CorruptError, planar
from hasten.codecs.sprintz.values import encode_values

DOUBLE, SINGLE = np.dtype("f8"), np.dtype("f4")


@given(floats())
def test_every_bit_comes_back(column):
    record = pack(column)
    assert unpack(record, len(column), column.dtype).tobytes() == column.tobytes()
    assert len(record) <= column.nbytes + 1


@pytest.mark.parametrize("name", columns())
def test_columns_of_every_kind(name):
    column = columns()[name]
    record = pack(column)
    found = unpack(record, len(column), column.dtype)
    assert (found.dtype, found.shape, found.tobytes()) == (column.dtype, column.shape, column.tobytes())
    if not np.isnan(column).any():  # Python's own conversion of NaN is its own business
        assert slow_decode(record, len(column), column.dtype) == column.view(f"u{column.itemsize}").tolist()
    assert encode_values(column, None, integers) == record  # and the same bytes again


@pytest.mark.parametrize(
    ("name", "how", "ratio"),
    [
        ("decimals", ["scaled"], 10), ("whole", ["scaled"], 10), ("quarters", ["scaled"], 10),
        ("gain", ["scaled"], 10), ("times", ["scaled"], 10), ("pi", ["scaled"], 10),
        ("offset", ["corrected", "scaled"], 8), ("sum", ["corrected", "scaled"], 7), ("lattice", ["scaled"], 10),
        ("widened", ["float32", "scaled"], 10), ("printed", ["corrected", "float32", "ordered"], 1.8),
        ("decimals f4", ["scaled"], 5), ("gain f4", ["scaled"], 5), ("times f4", ["scaled"], 5),
        ("lattice f4", ["scaled"], 5), ("offset f4", ["corrected", "scaled"], 4), ("zeros", ["ordered"], 100),
        ("constant", ["ordered"], 100), ("float16", ["float32", "ordered"], 3), ("float16 f4", ["ordered"], 1.6),
    ],
)  # fmt: skip
def test_what_is_regular_is_small(name, how, ratio):
    column = columns()[name]
    record = pack(column)
    assert names(record) == how
    assert column.nbytes / len(record) > ratio


def test_noise_does_not_grow():
    for dtype in (DOUBLE, SINGLE):
        column = np.random.default_rng(0).integers(0, 256, 2000 * dtype.itemsize, np.uint8).view(dtype)
        assert len(pack(column)) <= column.nbytes + 1


def test_a_few_odd_values_cost_little():
    column = np.resize(columns()["decimals"], 8000)
    odd = column.copy()
    odd[::100] = np.nan
    odd[57:6000:111] = -0.0
    assert back(odd).tobytes() == odd.tobytes()
    assert len(pack(odd)) < len(pack(column)) + 1100  # 133 of them
    gap = column.copy()
    gap[1000:5000] = np.nan  # a sensor that was off
    assert len(pack(gap)) < len(pack(column)) + 600


def test_many_odd_values_turn_the_rule_down():
    column = columns()["decimals"].copy()
    column[::7] = np.random.default_rng(3).normal(size=100)
    assert "scaled" not in names(pack(column))
    assert back(column).tobytes() == column.tobytes()


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"])
def test_other_dtypes_are_integers(dtype):
    column = (WALK % 2 if dtype == "?" else WALK).astype(dtype)
    assert pack(column, 0.5) == planar.encode_column(column.view(f"u{column.itemsize}"), "auto")
    assert (back(column) == column).all()


@pytest.mark.parametrize("rows", [0, 1, 2, 31, 32, 33])
@pytest.mark.parametrize("dtype", [DOUBLE, SINGLE])
def test_few_rows(rows, dtype):
    for column in (np.zeros(rows), np.full(rows, np.nan), np.arange(rows) / 10, np.full(rows, 1e-40)):
        column = column.astype(dtype)
        assert back(column).tobytes() == column.tobytes()
        assert back(column, 0.25).shape == (rows,)


def test_float32_that_are_not_normal_stay_float64():
    column = (np.arange(1, 300) * 1e-40).astype("f4").astype("f8")
    assert "float32" not in names(pack(column))
    assert back(column).tobytes() == column.tobytes()


# Damage ---------------------------------------------------------------------------------------------------------------


def decodes_or_refuses(record: bytes, rows: int, dtype: np.dtype) -> bool:
    """A column of the right form, or a `CorruptError` within the record."""
    fault = None
    try:
        found = unpack(record, rows, dtype, 1000)
    except CorruptError as error:
        fault = error
    else:
        assert (found.dtype, found.shape) == (dtype, (rows,))
    assert fault is None or 1000 <= fault.offset <= 1000 + len(record)
    return fault is None


@pytest.mark.parametrize("name", columns())
def test_damaged_records(name):
    column = columns()[name][:200]
    rng = np.random.default_rng(7)
    for record in (pack(column), pack(column, 1e-3)):
        for length in range(min(len(record), 120)):
            assert not decodes_or_refuses(record[:length], 200, column.dtype)
        assert not decodes_or_refuses(record + b"\0", 200, column.dtype)
        assert not decodes_or_refuses(record, 400, column.dtype)
        for _ in range(150):
            mutant = bytearray(record)
            for place in rng.integers(0, min(len(record), 90), rng.integers(1, 4)):
                mutant[place] = rng.integers(0, 256)
            decodes_or_refuses(bytes(mutant), 200, column.dtype)


def test_records_that_cannot_be():
    double, single = pack(columns()["decimals"]), pack(columns()["decimals f4"])
    offset, ordered = pack(columns()["offset"]), pack(columns()["constant"])
    odd = pack(columns()["decimals, odd"])
    lengths, gaps = struct.unpack("<II", odd[47:55]), planar.encode_column(np.full(5, 200, "u4"), "none")
    far = struct.pack("<II", len(gaps), lengths[1]) + gaps

    def changed(record: bytes, at: int, new: bytes) -> bytes:
        return record[:at] + new + record[at + len(new) :]

    for record, dtype, reason in (
        (b"", DOUBLE, "an empty record"),
        (bytes([99]) + double[1:], DOUBLE, "the unknown kind 99"),
        (bytes([8]) + single, SINGLE, "float32 in a column that is none of float64"),
        (bytes([8, 8]) + single, DOUBLE, "float32 in a column that is none of float64"),
        (double[:20], DOUBLE, "a record ends inside its head"),
        (changed(double, 1, b"\2"), DOUBLE, "the unknown rule 2"),
        (changed(double, 2, b"\7"), DOUBLE, "integers of 7 bits"),
        (changed(double, 3, np.float64(-1).tobytes()), DOUBLE, "a rule whose factor"),
        (changed(double, 11, np.float64(np.nan).tobytes()), DOUBLE, "whose offset is no number"),
        (changed(double, 19, np.float64(np.inf).tobytes()), DOUBLE, "a rule whose factor or divisor"),
        (changed(ordered, 1, b"\x40"), DOUBLE, "floats of 64 bits shifted by 64"),
        (changed(odd, 43, b"\xff\xff\xff\xff"), DOUBLE, "4294967295 exceptions in 700 rows"),
        (changed(odd, 47, b"\xff\xff\xff\xff"), DOUBLE, "exceptions are longer than their record"),
        (odd[:47] + far + odd[55 + lengths[0] :], DOUBLE, "an exception in row 1004 of 700"),
        (changed(offset, 5, b"\xff\xff\xff\xff"), DOUBLE, "a record within is longer than its record"),
        (changed(offset, 9, b"\x06"), DOUBLE, "not a rule for floats"),
        (changed(offset, 9, b"\x09"), DOUBLE, "not a rule for floats"),
    ):  # fmt: skip
        with pytest.raises(CorruptError, match=reason):
            unpack(record, 700, dtype)


# Real data ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(FOLDER is None, reason="HASTEN_DATA names no folder")
def test_transformer_temperatures():
    path = FOLDER / "ett_hourly" / "ETTh1.csv"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    table = np.loadtxt(path, delimiter=",", skiprows=1, usecols=range(1, 8))
    sizes = 0
    for column in np.ascontiguousarray(table[:8192].T):
        record = pack(column)
        assert names(record) == ["corrected", "float32", "scaled"]
        assert back(column).tobytes() == column.tobytes()
        sizes += len(record)
    assert table[:8192].nbytes / sizes > 5.5  # 1.1 by differences of bits
