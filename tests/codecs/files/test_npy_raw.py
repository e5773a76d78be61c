"""NPY and raw files: mapped into memory, written row by row, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from hasten.codecs import files
from hasten.codecs.files import Recording, npy, raw

ARRAYS = {
    "flat": np.arange(10, dtype=np.int32),
    "matrix": np.arange(20, dtype=np.uint8).reshape(10, 2),
    "columns first": np.asfortranarray(np.arange(20.0).reshape(10, 2)),
    "big-endian": np.arange(20).reshape(10, 2).astype(">i2"),
    "dates": np.arange(3).astype("M8[ms]"),
    "records": np.array([(1, 0.5), (2, 1.5)], [("n", "i8"), ("температура", "f4")]),
    "empty": np.empty((0, 3), np.int16),
    "true": np.array([True, False]),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_npy_there_and_back(name: str, tmp_path: Path) -> None:
    x, path = ARRAYS[name], tmp_path / "x.npy"
    np.save(path, x) if name != "records" else path.write_bytes(_saved(x))
    read = files.read(path)
    assert read.data.dtype == x.dtype
    assert np.array_equal(read.data, x)
    files.write(tmp_path / "y.npy", read)
    again = np.load(tmp_path / "y.npy")
    assert again.dtype == x.dtype.newbyteorder("=")
    assert again.shape == x.shape
    assert np.array_equal(again, x)


def _saved(x: np.ndarray) -> bytes:
    file = io.BytesIO()
    with pytest.warns(UserWarning, match="format 3.0"):
        np.save(file, x)
    return file.getvalue()


def test_npy_rows_stay_on_disk(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((100, 2)))
    assert isinstance(files.read(tmp_path / "x.npy").data, np.memmap)
    assert [len(block) for block in files.blocks(tmp_path / "x.npy", 40)] == [40, 40, 20]


def test_npy_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    whole = _bytes(np.zeros(100))
    for data, told in (
        (b"", "it begins otherwise"), (b"text, no array", "got .*x.npy .it begins otherwise"),
        (whole[:-1], "it ends after 799 of 800 bytes"), (whole[:50], "its header is broken"),
        (whole.replace(b"(100,)", b"(-10,)"), "its header is broken"),
        (whole.replace(b"(100,)", b"(True,"), "its header is broken"),
        (whole.replace(b"(100,)", b"9*9999"), "its header is broken"),
        (whole.replace(b"'<f8'", b"'<x8'"), "its header is broken"),
        (whole.replace(b"(100,)", b"(9**9)"), "its header is broken"),
        (whole.replace(b"\x93NUMPY\x01", b"\x93NUMPY\x09"), "it begins otherwise"),
        (_bytes(np.zeros((2, 2, 2))), r"\(2, 2, 2\)"), (_bytes(np.array(1)), r"\(\)"),
    ):  # fmt: skip
        path.write_bytes(data)
        with pytest.raises(ValueError, match=told):
            files.read(path)
    np.save(path, np.array([{}]), allow_pickle=True)
    with pytest.raises(ValueError, match="dtype object is none of numbers"):
        files.read(path)
    with open(path, "wb") as file:
        np.savez(file, a=np.zeros(1))
    with pytest.raises(ValueError, match="an archive of arrays"):
        files.read(path)


def _bytes(x: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, x)
    return file.getvalue()


def test_a_sink_wants_all_rows_and_no_gaps() -> None:
    like = Recording(np.ma.masked_array(np.zeros((0, 1)), np.zeros((0, 1), bool)))
    for sink in (npy.Sink(io.BytesIO(), like, 2), raw.Sink(io.BytesIO(), like, 2)):
        sink.append(np.ma.masked_array(np.zeros((1, 1)), False))
        with pytest.raises(ValueError, match="expected 2 rows, got 1"):
            sink.close()
        with pytest.raises(ValueError, match="no missing values.*--fill nan"):
            sink.append(np.ma.masked_array(np.zeros((1, 1)), True))


def test_raw_there_and_back(tmp_path: Path) -> None:
    x = np.arange(24).reshape(8, 3).astype(">i2")
    path = tmp_path / "x.dat"
    path.write_bytes(x.tobytes())
    read = files.read(path, dtype=">i2", columns=3)
    assert isinstance(read.data, np.memmap)
    assert np.array_equal(read.data, x)
    files.write(tmp_path / "y.bin", read)
    assert (tmp_path / "y.bin").read_bytes() == path.read_bytes()
    files.write(tmp_path / "z.raw", Recording(x.astype(np.float32)[::-1]))
    assert np.array_equal(np.fromfile(tmp_path / "z.raw", np.float32), x[::-1].ravel())


def test_raw_records_have_no_padding(tmp_path: Path) -> None:
    x = np.zeros(2, np.dtype([("a", "u1"), ("b", "f8")], align=True))
    files.write(tmp_path / "x.raw", Recording(x))
    assert (tmp_path / "x.raw").stat().st_size == 18


def test_raw_without_rows(tmp_path: Path) -> None:
    (tmp_path / "x.raw").write_bytes(b"")
    assert files.read(tmp_path / "x.raw", dtype="i2", columns=3).data.shape == (0, 3)


@pytest.mark.parametrize(
    ("options", "error", "told"),
    [
        ({}, ValueError, "dtype='int16' and columns=12"),
        ({"dtype": "i2", "columns": 2}, ValueError, "a whole number of rows of 4 bytes, got .* of 7 bytes, 3 too many"),
        ({"dtype": "u1", "columns": 0}, ValueError, "columns"),
        ({"dtype": "number"}, TypeError, "a dtype of numbers"),
        ({"dtype": "i2,i2"}, TypeError, "a dtype of numbers"),
        ({"dtype": "O"}, TypeError, "a dtype of numbers"),
        ({"dtype": "S1"}, TypeError, "a dtype of numbers"),
        ({"dtype": "M8[s]"}, TypeError, "a dtype of numbers"),
        ({"dtype": "u1", "header": True}, TypeError, "the options dtype, columns for a file of format raw, got header"),
    ],
)
def test_raw_that_cannot_be(options: dict, error: type[Exception], told: str, tmp_path: Path) -> None:
    (tmp_path / "x.raw").write_bytes(bytes(7))
    with pytest.raises(error, match=told):
        files.read(tmp_path / "x.raw", **options)
