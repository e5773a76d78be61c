"""CSV files: how they are written is found out, values are exact, and a bad line is named."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.codecs.files.real import FOLDER, real

from hasten.codecs import files
from hasten.codecs.files import Recording, csv


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.csv"


def read(path: Path, text: str, **options) -> Recording:
    path.write_bytes(text.encode())
    return files.read(path, **options)


def written(recording: Recording, **options) -> str:
    file = io.BytesIO()
    sink = csv.Sink(file, recording.like(), **options)
    sink.append(recording.data)
    sink.close()
    return file.getvalue().decode()


def test_integers_share_the_smallest_dtype(path: Path) -> None:
    found = read(path, "a,b\n1,300\n-2,4\n")
    assert found.names == ("a", "b")
    assert found.data.dtype == np.int16
    assert found.data.tolist() == [[1, 300], [-2, 4]]


def test_mixed_columns_make_records(path: Path) -> None:
    found = read(path, "time,count,x,on\n2016-07-01 00:00:00,1,0.5,true\n2016-07-01 01:00:00,200,1.5,false\n")
    assert found.data.dtype == [("time", "M8[s]"), ("count", "i2"), ("x", "f8"), ("on", "?")]
    assert found.data[1].item()[1:] == (200, 1.5, False)
    assert found.data["time"][1] == np.datetime64("2016-07-01T01")


def test_empty_cells_are_missing(path: Path) -> None:
    found = read(path, "a,b\n1,\n,2\n")
    assert found.data.tolist() == [[1, None], [None, 2]]
    assert read(path, "a,b\n1,0.5\n,2.5\n").data.tolist() == [(1, 0.5), (None, 2.5)]
    assert read(path, "a,b,c\n1,,0\n2,,0\n").data.dtype == np.int8, "a column without values takes the others' kind"
    assert read(path, "a,b\n,\n").data.dtype == np.float64


SAME = [
    "a,b\n1,2\n3,4\n",
    "1,2\n3,4\n",
    "1;2\r\n3;4\r\n",
    "a\tb\n0.5\t-1.0\n",
    "a\n1\n\"\"\n2\n",
    "t,x\n2016-07-01,0.10\n2016-07-02,0.25\n",
    ",x\n0,1.5\n1,2.5\n",
    "x,x\n1,2\n",
    " a,b\n1,2\n",
    '"a,b","c""d"\n1,2\n',
    "a,b\n",
    "1\r2\r",
    "größe,温度\n1,2\n",
    "a,b,c\n1,,true\n,0.25,\n",
    "x\ntrue\n",
    "x\n2016-07-01T10:00Z\n",
]  # fmt: skip


@pytest.mark.parametrize("text", SAME)
def test_text_that_comes_back(text: str, path: Path) -> None:
    found = read(path, text)
    assert written(found) == text
    files.write(path.with_name("y.csv"), found)
    assert path.with_name("y.csv").read_bytes() == text.encode()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('"1","2"\n', "1,2\n"),
        ("\ufeffa,b\n1,2\n", "a,b\n1,2\n"),
        ("a,b\n\n1,2\n\n", "a,b\n1,2\n"),
        ("1,2", "1,2\n"),
        ("a,b\n 1,2 \n", "a,b\n1,2\n"),
    ],
)
def test_text_that_is_not_kept(text: str, found: str, path: Path) -> None:
    assert written(read(path, text)) == found


def test_titles_are_stripped_and_made_different(path: Path) -> None:
    assert read(path, "x, x,,y \n1,2,3,4\n").names == ("x", "x_2", "column_3", "y")


@pytest.mark.parametrize(
    ("text", "titles"),
    [
        ("1,2\n3,4\n", None),
        ("a,b\n1,2\n", ("a", "b")),
        ("a,2\n1,2\n", ("a", "2")),
        ("time,nan\n2016-07-01,1\n", ("time", "nan")),
        ("2016-07-01,1\n2016-07-02,2\n", None),
        ("a,b\n", ("a", "b")),
        ("a,b\n,\n", ("a", "b")),
        ("true,false\n", None),
    ],
)
def test_a_header_is_seen(text: str, titles: tuple[str, ...] | None, path: Path) -> None:
    found = read(path, text)
    assert found.meta["csv"].get("header", found.names) == titles


def test_a_header_that_is_said(path: Path) -> None:
    assert read(path, "1,2\n3,4\n", header=True).names == ("1", "2")
    assert len(read(path, "1,2\n3,4\n", header=True).data) == 1
    with pytest.raises(ValueError, match="in column 'column_1', got 'a' in line 1"):
        read(path, "a,b\n3,4\n", header=False)


def test_text_columns_do_not_hide_a_row(path: Path) -> None:
    text = "5.1,3.5,setosa\n4.9,3.0,setosa\n"
    with pytest.raises(ValueError, match="'column_3', got 'setosa' in line 1 of .*choose others with --columns"):
        read(path, text)
    assert read(path, text, columns=[0, 1]).data.tolist() == [[5.1, 3.5], [4.9, 3.0]]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_is_found(delimiter: str, path: Path) -> None:
    text = f"a{delimiter}b\n" + "".join(f"{i}{delimiter}0.5\n" for i in range(300))
    found = read(path, text)
    assert found.meta["csv"]["delimiter"] == delimiter
    assert len(found.data) == 300
    assert written(found) == text


def test_another_delimiter(path: Path) -> None:
    assert read(path, "1|2\n3|4\n", delimiter="|").data.tolist() == [[1, 2], [3, 4]]
    for mark in ("", "ab", '"', "\n"):
        with pytest.raises(ValueError, match="a delimiter of one character"):
            read(path, "1|2\n", delimiter=mark)


def test_decimal_commas_are_refused(path: Path) -> None:
    with pytest.raises(ValueError, match="got '2,5' in line 2 of .* Write decimal points"):
        read(path, "1,5;2,5\n2,5;3,5\n")


def test_columns_are_chosen_by_name_and_number(path: Path) -> None:
    text = "a,b,1\n1,0.50,x\n2,0.25,7\n"
    found = read(path, text, columns=["b", "0"])
    assert found.data.dtype == [("b", "f8"), ("a", "i1")]
    assert found.meta["csv"]["formats"] == [".2f", "d"]
    assert written(found) == "b,a\n0.50,1\n0.25,2\n"
    with pytest.raises(ValueError, match="in column '1', got 'x' in line 2"):
        read(path, text, columns=["1"])
    with pytest.raises(ValueError, match="the name of a column, got 'c'"):
        read(path, text, columns=["c"])


def lines_of(*bad: str, before: int = 3, blank: bool = False) -> str:
    good = "".join(f"{i},{i}.5\n" + "\n" * blank for i in range(before))
    return "a,b\n" + good + "".join(f"{line}\n" for line in bad) + "9,9.5\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (lines_of("1,x"), "numbers in column 'b', got 'x' in line 5 of .*x.csv"),
        (lines_of("1,x", blank=True), "got 'x' in line 8"),
        (lines_of("1"), "2 cells, as in the first row, got 1 in line 5"),
        (lines_of("1,2,3"), "got 3 in line 5"),
        (lines_of("1,2,3", before=200), "got 3 in line 202"),
        (lines_of('"1,2'), "unexpected end of data in line 6"),
        (lines_of("1," + "x" * 200_000), "got 'x{37}...' in line 5"),
        (lines_of('"1",2', "1,2", "x,1"), "got 'x' in line 7"),
        (lines_of('"1"2,3'), "cells that can be told apart, .* in line 5"),
        (lines_of('1,"' + "9" * 200_000 + '"'), "field larger than field limit .* in line 5"),
        ("", "expected rows, got none"),
        ("\n\n", "expected rows, got none"),
        ("a,b\n1,99999999999999999999\n", "up to 64 bits in column 'b'"),
        ("a,b\n-1,9223372036854775808\n", "up to 64 bits in column 'b'"),
    ],
)
def test_a_bad_line_is_named(text: str, told: str, path: Path) -> None:
    with pytest.raises(ValueError, match=told):
        read(path, text)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("a,b\n1,2\n".encode("utf-16"), "UTF-16 in"),
        (b"\x89TSZ\r\n\x1a\n\x00\x00", "binary data in"),
        ("größe,b\n1,2\n".encode("latin-1"), "other bytes in the titles"),
        (b"a,b\n1,\xff\n", "in column 'b', got '.udcff' in line 2"),
        (b"1,2\n" * 20000 + b"1,\x00\n", "line 20001"),
    ],
)
def test_what_is_no_text(data: bytes, told: str, path: Path) -> None:
    path.write_bytes(data)
    with pytest.raises(ValueError, match=told):
        files.read(path)


def test_a_file_that_changes_between_both_looks(path: Path) -> None:
    path.write_text("a\n1\n2\n")
    with files.open(path) as opened:
        path.write_text("a\n1\nx\n")
        with pytest.raises(ValueError, match="as it was a moment ago, got another"):
            opened.read()
        path.write_text("a\n1\n500\n")
        with pytest.raises(ValueError, match="as it was a moment ago"):
            opened.read()


def test_blocks(path: Path) -> None:
    text = "a,b\n" + "".join(f"{i},\n" for i in range(10))
    path.write_text(text)
    with files.open(path) as opened:
        assert opened.rows == 10
        assert opened.like.missing
        blocks = list(opened.blocks(4))
    assert [len(block) for block in blocks] == [4, 4, 2]
    assert np.ma.concatenate(blocks)[:, 0].tolist() == list(range(10))


def test_blocks_hold_a_bounded_number_of_cells(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv, "CELLS", 1000)
    path.write_text("0,1\n" * 1800)
    with files.open(path) as opened:
        assert [len(block) for block in opened.blocks()] == [500, 500, 500, 300]
    path.write_text("0,1\n" * 1800 + "\n" * 1200 + "0,1\n0,x\n")
    with pytest.raises(ValueError, match="got 'x' in line 3002"):
        files.read(path)


def test_the_sink_follows_no_nonsense() -> None:
    data = np.array([[1, 2]])
    for said in (None, 3, {"delimiter": "ab"}, {"delimiter": ""}, {"delimiter": 5}, {"newline": "\n\n"},
                 {"formats": "dd"}, {"formats": ["d"]}, {"formats": [1, {}]}, {"header": ["a"]}, {"header": 7},
                 {"header": [1, 2]}):  # fmt: skip
        assert written(Recording(data, meta={"csv": said})) == "1,2\n"
    assert written(Recording(data, meta={"csv": {"header": ["p", "q"]}})) == "p,q\n1,2\n"
    assert written(Recording(data, ("a", "b"), meta={"csv": {"header": None}})) == "1,2\n"


def test_the_sink_without_rows_or_columns() -> None:
    assert written(Recording(np.zeros((0, 2)), ("a", "b"))) == "a,b\n"
    assert written(Recording(np.zeros((3, 0)))) == ""
    assert written(Recording(np.array([1.5, 2.5]))) == "1.5\n2.5\n"


def test_tabs_for_tsv(tmp_path: Path) -> None:
    files.write(tmp_path / "x.tsv", Recording(np.array([[1, 2]]), ("a", "b")))
    assert (tmp_path / "x.tsv").read_bytes() == b"a\tb\n1\t2\n"


@real("ett_hourly/ETTh1.csv")
def test_etth1(tmp_path: Path) -> None:
    source = FOLDER / "ett_hourly/ETTh1.csv"
    found = files.read(source)
    assert found.data.shape == (17420,)
    assert found.data["date"][[0, -1]].tolist() == np.array(["2016-07-01T00", "2018-06-26T19"], "M8[s]").tolist()
    assert found.data["HUFL"][0] == 5.827000141143799
    assert found.data["OT"][-1] == float(source.read_text().split(",")[-1])
    files.write(tmp_path / "x.csv", found)
    assert (tmp_path / "x.csv").read_bytes() == source.read_bytes()


@real("ucr_aeon/135_UCR_Anomaly_InternalBleeding16_TEST.csv")
def test_a_real_file_of_mixed_columns(tmp_path: Path) -> None:
    source = FOLDER / "ucr_aeon/135_UCR_Anomaly_InternalBleeding16_TEST.csv"
    found = files.read(source)
    assert found.data.dtype == [("timestamp", "i2"), ("value", "f8"), ("is_anomaly", "i1")]
    assert found.data[0].item() == (0, 63.73215, 0)
    files.write(tmp_path / "x.csv", found)
    assert (tmp_path / "x.csv").read_bytes() == source.read_bytes()


columns = st.one_of(
    st.lists(st.floats(width=64) | st.none(), min_size=5, max_size=5),
    st.lists(st.integers(-(1 << 63), (1 << 63) - 1) | st.none(), min_size=5, max_size=5),
    st.lists(st.booleans() | st.none(), min_size=5, max_size=5),
    st.lists(st.datetimes() | st.none(), min_size=5, max_size=5),
)


@given(st.lists(columns, min_size=1, max_size=4), st.sampled_from(",;\t"), st.booleans())
def test_numbers_survive_two_rounds(tmp_path_factory, table: list[list], delimiter: str, titled: bool) -> None:
    """CSV by Python's own rules, read and written: the same cells, and twice gives the same bytes."""
    folder = tmp_path_factory.mktemp("csv")
    rows = [[_cell(value) for value in row] for row in zip(*table, strict=True)]
    head = [[f"c{k}" for k in range(len(table))]] if titled else []
    alone = len(table) == 1
    text = "".join(delimiter.join(c or '""' * alone for c in row) + "\n" for row in head + rows)
    (folder / "x.csv").write_text(text)
    found = files.read(folder / "x.csv", delimiter=delimiter, header=titled)
    assert len(found.data) == 5
    for values, column in zip(table, found.columns_of(), strict=True):
        got = np.ma.getmaskarray(column)
        assert got.tolist() == [value is None for value in values]
    files.write(folder / "y.csv", found)
    again = files.read(folder / "y.csv", delimiter=delimiter, header=titled)
    assert again.data.dtype == found.data.dtype
    assert again.data.tobytes() == found.data.tobytes()
    assert (folder / "y.csv").read_text() == text


def _cell(value: object) -> str:
    if value is None:
        return ""
    return value.isoformat(timespec="microseconds") if hasattr(value, "isoformat") else repr(value)
