"""`hasten codec`: every verb through `main`, what it prints, which files it leaves, and its exit status."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tests.codecs.files.real import FOLDER, real

from hasten.cli import codec_bench, codec_files, main
from hasten.cli.codec_files import parse_rows
from hasten.cli.codec_state import describe
from hasten.codecs import files, sprintz
from hasten.codecs.files import Recording

Hasten = Callable[..., tuple[int, str, str]]
ROWS = "t,x\n" + "".join(f"{i},{i / 4:.2f}\n" for i in range(200))
X = np.arange(2000, dtype=np.int16).reshape(1000, 2)


@pytest.fixture
def hasten(capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hasten:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*words: str, stdin: bytes | None = None, raw: bool = False) -> tuple:
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(stdin)))
        status = main(["codec", *words])
        sys.stdout.flush()
        out, err = capfdbinary.readouterr()
        return status, out if raw else out.decode(), err.decode()

    return run


@pytest.fixture
def tsz(hasten: Hasten) -> Path:
    """A file of several chunks."""
    files.write("x.tsz", Recording(X, ("a", "b"), ("mV", None), 100.0), chunk_rows=64)
    return Path("x.tsz")


def names() -> set[str]:
    return {path.name for path in Path().iterdir()}


def place_of(chunk: int) -> int:
    with sprintz.open("x.tsz") as reader:
        return int(reader.index.offsets[chunk])


# There and back -------------------------------------------------------------------------------------------------------


def test_csv_there_and_back(hasten: Hasten) -> None:
    Path("ecg.csv").write_text(ROWS)
    status, out, err = hasten("compress", "ecg.csv")
    assert (status, err) == (0, "")
    size = Path("ecg.tsz").stat().st_size
    assert out == f"ecg.tsz: 3,200 bytes in 200 rows became {size:,}, ratio {3200 / size:.2f}\n" or "200 rows" in out
    assert hasten("decompress", "ecg.tsz", "-o", "new.csv") == (0, "new.csv: 200 rows\n", "")
    assert Path("new.csv").read_text() == ROWS
    Path("ecg.csv").unlink()
    assert hasten("decompress", "ecg.tsz") == (0, "ecg.csv: 200 rows\n", "")
    assert Path("ecg.csv").read_text() == ROWS
    assert names() == {"ecg.csv", "ecg.tsz", "new.csv"}


def test_options_reach_the_encoder(hasten: Hasten) -> None:
    Path("x.csv").write_text(ROWS)
    assert hasten("compress", "x.csv", "--profile", "fast", "--chunk-rows", "64", "--rate", "8",
                  "--columns", "x", "--threads", "2")[0] == 0  # fmt: skip
    found = sprintz.info("x.tsz")
    assert found.options["profile"] == "fast"
    assert (found.chunk_rows, found.chunks, found.rate, found.names) == (64, 4, 8.0, ("x",))
    assert found.meta["format"] == "csv"


@pytest.mark.parametrize("name", ["x.npy", "x.wav", "x.tsv", "x.hea", "x.raw"])
def test_every_format_there_and_back(name: str, hasten: Hasten) -> None:
    files.write(name, Recording(X, rate=100.0))
    old = Path(name).read_bytes()
    raw = ["--dtype", "int16", "--columns", "2"] if name == "x.raw" else []
    assert hasten("compress", name, "--out", "y.tsz", *raw)[0] == 0
    assert hasten("decompress", "y.tsz")[:2] == (0, f"y{Path(name).suffix}: 1,000 rows\n")
    new = Path("y").with_suffix(Path(name).suffix).read_bytes()
    assert (new.replace(b"y", b"x") if name == "x.hea" else new) == old


def test_other_formats_are_chosen_by_the_suffix(hasten: Hasten, tsz: Path) -> None:
    for out in ("y.csv", "y.npy", "y.wav", "y.hea", "y.raw"):
        assert hasten("decompress", "x.tsz", "-o", out)[0] == 0
    assert np.array_equal(np.load("y.npy"), X)
    assert np.array_equal(np.fromfile("y.raw", np.int16), X.ravel())
    assert files.read("y.wav").rate == 100.0
    assert files.read("y.hea").names == ("a", "b")
    assert Path("y.csv").read_text().startswith("a,b\n0,1\n2,3\n")
    assert hasten("decompress", "x.tsz", "-o", "y.unknown", "--format", "npy")[0] == 0
    assert np.array_equal(np.load("y.unknown"), X)


def test_a_compressed_file_is_compressed_anew(hasten: Hasten) -> None:
    Path("x.csv").write_text(ROWS)
    hasten("compress", "x.csv")
    assert hasten("compress", "x.tsz", "--profile", "fast", "-o", "y.tsz")[0] == 0
    found = sprintz.info("y.tsz")
    assert found.options["profile"] == "fast"
    assert found.meta == sprintz.info("x.tsz").meta


def test_standard_input_and_output(hasten: Hasten) -> None:
    status, packed, err = hasten("compress", "-", "--format", "csv", stdin=ROWS.encode(), raw=True)
    assert (status, err) == (0, "")
    assert sprintz.info(packed).shape == (200,)
    assert hasten("decompress", "-", stdin=packed) == (0, ROWS, "")
    status, out, _ = hasten("decompress", "-", "--format", "npy", stdin=packed, raw=True)
    assert np.load(io.BytesIO(out))["x"].tolist() == [i / 4 for i in range(200)]
    Path("x.csv").write_text(ROWS)
    assert hasten("compress", "x.csv", "-o", "-", raw=True)[1] == packed
    assert hasten("cat", "-", "--rows", "1", stdin=packed) == (0, "t,x\n1,0.25\n", "")
    assert "200" in hasten("info", "-", stdin=packed)[1]
    assert hasten("verify", "-", stdin=packed)[:2] == (0, "-: good, 200 rows in 1 chunks\n")
    assert names() == {"x.csv"}


def test_missing_values(hasten: Hasten, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("x.csv").write_text("a,b\n1.5,\n,2.5\n")
    assert hasten("compress", "x.csv")[0] == 0
    assert hasten("cat", "x.tsz")[1] == "a,b\n1.5,\n,2.5\n"
    status, _, err = hasten("decompress", "x.tsz", "-o", "x.npy")
    assert status == hasten("cat", "x.tsz", "--format", "npy", raw=True)[0] == 1
    assert "no missing values, which this format cannot hold" in err
    assert hasten("decompress", "x.tsz", "-o", "x.npy", "--fill", "nan")[0] == 0
    assert np.array_equal(np.load("x.npy"), [[1.5, np.nan], [np.nan, 2.5]], equal_nan=True)
    assert hasten("cat", "x.tsz", "--fill", "-1")[1] == "a,b\n1.5,-1.0\n-1.0,2.5\n"
    assert "values may be missing" in hasten("info", "x.tsz")[1]


def test_wav_needs_a_rate(hasten: Hasten) -> None:
    files.write("x.tsz", Recording(X))
    status, _, err = hasten("decompress", "x.tsz", "-o", "x.wav")
    assert (status, "Pass --rate" in err) == (2, True)
    assert hasten("decompress", "x.tsz", "-o", "x.wav", "--rate", "44100")[0] == 0
    assert files.read("x.wav").rate == 44100.0


# What is refused ------------------------------------------------------------------------------------------------------

USAGE = [
    (["compress", "none.csv"], "files: expected a file, got none.csv, which is none."),
    (["compress", "ecg.cvs"], "Did you mean ecg.csv?"),
    (["compress", "x.mat"], "files: expected a suffix among"),
    (["compress", "."], "which is a folder"),
    (["compress", "-"], "codec: expected the format of standard input, got none. Pass --format csv, say."),
    (["compress", "ecg.csv", "--out", "old.tsz"], "old.tsz, which is there. Pass --force to replace it."),
    (["compress", "ecg.csv", "--out", "no/new.tsz"], "a folder that is there, got no"),
    (["compress", "ecg.csv", "--out", os.devnull, "--force"], "which is a device or a pipe"),
    (["compress", "ecg.csv", "--chunk-rows", "7"], "chunk_rows a multiple of 32"),
    (["compress", "ecg.csv", "--max-error", "-1"], "max_error > 0"),
    (["compress", "ecg.csv", "--max-error", "0.1,none,1"], "max_error for 2 columns, got 3 numbers"),
    (["compress", "ecg.csv", "--max-error", "0.1,none"], "max_error only for floats, got 0.1 for column 0"),
    (["compress", "ecg.csv", "--max-error", "small"], "a number, or one for each column, got 'small'"),
    (["compress", "ecg.csv", "--threads", "0"], "threads"),
    (["compress", "ecg.csv", "--rate", "0"], "rate"),
    (["compress", "ecg.csv", "--dtype", "int16"], "got dtype"),
    (["compress", "ecg.csv", "--align"], "got align"),
    (["compress", "x.raw"], "--dtype"),
    (["compress", "x.raw", "--dtype", "number"], "a dtype of numbers"),
    (["compress", "x.raw", "--dtype", "u1", "--columns", "a,b"], "how many columns, got 'a,b'"),
    (["decompress", "none.tsz"], "none.tsz, which is none"),
    (["decompress", "x.tsz"], "x.csv, which is there"),
    (["decompress", "x.tsz", "-o", "y.tsz"], "another format than tsz"),
    (["decompress", "x.tsz", "-o", "y.wav", "--rate", "0.5"], "a whole number of samples per second"),
    (["decompress", "floats.tsz", "-o", "y.hea"], "got dtype float64"),
    (["decompress", "x.tsz", "--format", "wfdb", "-o", "-"], "expected a format among csv, npy, raw, wav"),
    (["cat", "none.tsz"], "none.tsz, which is none"),
    (["cat", "x.tsz", "--columns", "c"], "the name of a column, got 'c'"),
    (["cat", "x.tsz", "--columns", "a,0"], "columns that differ"),
    (["cat", "x.tsz", "--rows", "1-2"], "rows as 1000:2000"),
    (["cat", "x.tsz", "--rows", "::0"], "rows as 1000:2000"),
    (["cat", "x.tsz", "--format", "xml"], "xml"),
    (["info", "none.tsz"], "none.tsz"),
    (["verify"], "expected files, got none"),
    (["verify", "none.tsz"], "none.tsz"),
    (["repair", "none.tsz"], "none.tsz"),
    (["repair", "x.tsz", "-o", "old.tsz"], "old.tsz, which is there"),
    (["bench", "none.csv"], "none.csv"),
    (["bench", "ecg.csv", "--codecs", "arithmetic"], "names of codecs, got 'arithmetic'"),
    (["bench", "ecg.csv", "--rows", "5:5"], "expected rows, got none"),
    (["verfiy", "x.tsz"], "verify"),
    (["compress", "ecg.csv", "--profile", "best"], "best"),
    (["compress", "ecg.csv", "--forse"], "Did you mean --force?"),
    (["compress", "ecg.csv", "-o", "--force"], "--force is not an option of this command"),
    (["info", "--jsn"], "--jsn is not an option of this command"),
]


@pytest.mark.parametrize(("words", "told"), USAGE, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_usage_errors(words: list[str], told: str, hasten: Hasten, tsz: Path) -> None:
    Path("ecg.csv").write_text(ROWS)
    Path("x.csv").write_text("old")
    Path("old.tsz").write_bytes(b"old")
    Path("x.mat").write_bytes(b"")
    Path("x.raw").write_bytes(bytes(10))
    files.write("floats.tsz", Recording(X / 2))
    before = names()
    status, out, err = hasten(*words)
    assert status == 2
    assert told in " ".join((out + err).replace("│", " ").split())
    assert names() == before
    assert Path("old.tsz").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("x.csv", b"a,b\n1,2\n1,x\n", "hasten: csv: expected numbers in column 'b', got 'x' in line 3 of x.csv."),
        ("x.csv", b"a,b\n1,2\n1\n", "got 1 in line 3 of x.csv"),
        ("x.npy", b"nothing", "hasten: npy: expected an NPY file"),
        ("x.wav", b"nothing", "hasten: wav: expected a WAV file"),
        ("x.hea", b"x 1 100 5\nx.dat 16\n", "hasten: wfdb: expected 5 frames, as x.hea says, got 1 in x.dat"),
        ("x.tsz", b"nothing", "hasten: x.tsz: corrupt data: at byte 0: this is not a tsz file"),
    ],
)
def test_files_that_cannot_be_read(name: str, data: bytes, told: str, hasten: Hasten) -> None:
    Path("x.dat").write_bytes(b"12")
    Path(name).write_bytes(data)
    status, out, err = hasten("compress", name, "-o", "new.tsz")
    assert (status, out) == (1, "")
    assert told in err
    assert err.count("\n") == 1
    assert "new.tsz" not in names()


def test_a_record_is_read_unchecked(hasten: Hasten) -> None:
    Path("x.dat").write_bytes(b"1234")
    Path("x.hea").write_text("x 1 100 2\nx.dat 16 200 16 0 7 7\n")
    assert hasten("compress", "x")[0] == 1
    assert hasten("compress", "x", "--no-check")[0] == 0
    assert sprintz.info("x.tsz").shape == (2, 1)


def test_force_replaces(hasten: Hasten) -> None:
    Path("x.csv").write_text(ROWS)
    Path("x.tsz").write_bytes(b"old")
    assert hasten("compress", "x.csv", "--force")[0] == 0
    Path("x.csv").write_text("old")
    assert hasten("decompress", "x.tsz", "--force")[0] == 0
    assert Path("x.csv").read_text() == ROWS


def test_ctrl_c_leaves_nothing(hasten: Hasten, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("x.csv").write_text(ROWS)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(codec_files.Progress, "add", stop)
    with pytest.raises(SystemExit, match="130"):
        hasten("compress", "x.csv")
    assert names() == {"x.csv"}


def test_bytes_do_not_go_to_a_terminal(hasten: Hasten, tsz: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda self: True, raising=False)
    Path("x.csv").write_text(ROWS)
    for words in (("compress", "x.csv", "-o", "-"), ("cat", "x.tsz", "--format", "npy")):
        status, out, err = hasten(*words)
        assert (status, out) == (2, "")
        assert "a file or a pipe for bytes, got a terminal" in err
    assert hasten("cat", "x.tsz", "--rows", "0")[1] == "a,b\n0,1\n"


def test_progress_on_a_terminal_only(hasten: Hasten, monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(said, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", said)
    clock = iter(range(100))
    monkeypatch.setattr(codec_files.time, "monotonic", lambda: float(next(clock)))
    progress = codec_files.Progress(200)
    progress.add(50)
    progress.add(150)
    progress.end()
    assert said.getvalue() == "\r 25 %  50 rows/s \r100 %  100 rows/s \r\x1b[K"
    monkeypatch.setattr(said, "isatty", lambda: False, raising=False)
    said.truncate(0)
    codec_files.Progress(1).add(1)
    assert said.getvalue() == ""


# Looking in -----------------------------------------------------------------------------------------------------------


def test_cat(hasten: Hasten, tsz: Path) -> None:
    assert hasten("cat", "x.tsz", "--rows", "500:502", "--columns", "b,a") == (0, "b,a\n1001,1000\n1003,1002\n", "")
    assert hasten("cat", "x.tsz", "--rows", "-1:", "--columns", "1")[1] == "b\n1999\n"
    assert hasten("cat", "x.tsz", "--rows", "998::-499")[1] == "a,b\n1996,1997\n998,999\n0,1\n"
    assert hasten("cat", "x.tsz", "--rows", "5000:")[:2] == (0, "a,b\n")
    assert hasten("cat", "x.tsz")[1].count("\n") == 1001
    _, out, _ = hasten("cat", "x.tsz", "--rows", ":3", "--format", "npy", raw=True)
    assert np.array_equal(np.load(io.BytesIO(out)), X[:3])
    _, out, _ = hasten("cat", "x.tsz", "--format", "raw", raw=True)
    assert out == X.tobytes()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, slice(None)), ("7", slice(7, 8)), ("-1", slice(-1, None)), ("-2", slice(-2, -1)), (":", slice(None)),
        ("1:", slice(1, None)), (":-1", slice(None, -1)), (" 1 : 2 : 3 ", slice(1, 2, 3)),
        ("::-1", slice(None, None, -1)),
    ],
)  # fmt: skip
def test_rows_as_slices(text: str | None, found: slice) -> None:
    assert parse_rows(text) == found


def test_info(hasten: Hasten, tsz: Path) -> None:
    size = tsz.stat().st_size
    assert hasten("info", "x.tsz")[1].splitlines() == [
        "x.tsz",
        "  rows     1,000",
        "  columns  2 of int16: a (mV), b",
        "  rate     100 per second, 10 s",
        f"  bytes    {size:,} for 4,000, ratio {4000 / size:.2f}",
        "  chunks   16 of up to 64 rows",
        "  loss     none",
    ]
    out = hasten("info", "x.tsz", "--json")[1]
    said = json.loads(out)
    assert (said["file"], said["shape"], said["dtype"], said["names"]) == ("x.tsz", [1000, 2], "int16", ["a", "b"])
    assert "columns" in said
    lines = hasten("info", "x.tsz", "--details")[1].splitlines()
    assert lines[-2].startswith("  column a: int16, 0 to 1998")


def test_loss(hasten: Hasten) -> None:
    Path("ecg.csv").write_text(ROWS)
    for text, loss in (
        ("0.5", "floats differ by less than 0.5"),
        ("none,0.5", "less than none, 0.5, column by column"),
    ):
        assert hasten("compress", "ecg.csv", "--force", "--max-error", text)[0] == 0
        assert loss in hasten("info", "ecg.tsz")[1]
        back = files.read("ecg.tsz").data
        assert back["t"].tolist() == [*range(200)]
        assert np.abs(back["x"] - np.arange(200) / 4).max() < 0.5


def test_info_of_other_files(hasten: Hasten) -> None:
    files.write("x.tsz", Recording(np.zeros(20000, [(f"c{k}", "f4" if k else "M8[s]") for k in range(20)])))
    out = hasten("info", "x.tsz", "--details")[1]
    assert "columns  20: c0 datetime64[s], c1 float32, " in out
    assert "c15 float32 and 4 more" in out
    assert "column c0: datetime64[s], 1970-01-01T00:00:00 to 1970-01-01T00:00:00" in out
    Path("y.tsz").write_bytes(sprintz.compress(X / 4, checksum=False, rate=0.001))
    out = hasten("info", "y.tsz")[1]
    assert ", no checksums" in out
    assert "0.001 per second, 11.6 d" in out
    assert "2 of float64\n" in out
    Path("z.tsz").write_bytes(sprintz.compress(X, names=["\x1b[31m", "b"], units=["\a", "größe"]))
    assert r"2 of int16: '\x1b[31m' ('\x07'), b (größe)" in hasten("info", "z.tsz")[1]


def test_a_healthy_file(hasten: Hasten, tsz: Path) -> None:
    assert hasten("verify", "x.tsz", "x.tsz") == (0, "x.tsz: good, 1,000 rows in 16 chunks\n" * 2, "")
    assert hasten("repair", "x.tsz") == (0, "x.tsz: was whole, 1,000 rows in 16 chunks\n", "")
    assert hasten("repair", "x.tsz", "-o", "y.tsz")[:2] == (0, "y.tsz: was whole, 1,000 rows in 16 chunks\n")
    assert np.array_equal(files.read("y.tsz").data, X)


def test_a_cut_file(hasten: Hasten, tsz: Path) -> None:
    tsz.write_bytes(tsz.read_bytes()[: place_of(10) + 1])
    status, out, _ = hasten("verify", "x.tsz")
    assert status == 1
    assert out.startswith("x.tsz: at byte ")
    status, _, err = hasten("decompress", "x.tsz", "-o", "y.npy")
    assert status == 1
    assert err.startswith("hasten: x.tsz: corrupt data: at byte ")
    assert "or --recover" in err
    assert names() == {"x.tsz"}
    assert hasten("decompress", "x.tsz", "-o", "y.npy", "--recover")[0] == 0
    kept = len(np.load("y.npy"))
    assert kept % 64 == 0, "whole chunks"
    assert 64 <= kept < 1000
    assert "the rows are those in good chunks" in hasten("info", "x.tsz")[1]
    status, out, err = hasten("cat", "x.tsz", "--rows", "-1")
    assert (status, out) == (0, f"a,b\n{2 * kept - 2},{2 * kept - 1}\n")
    assert err.startswith("x.tsz: the index is lost")
    status, out, err = hasten("repair", "x.tsz")
    assert (status, out) == (0, f"x.tsz: made whole, {kept:,} rows in {kept // 64} chunks\n")
    assert err.startswith("at byte ")
    assert hasten("verify", "x.tsz")[0] == 0


def test_a_bad_chunk(hasten: Hasten, tsz: Path) -> None:
    data = bytearray(tsz.read_bytes())
    data[place_of(5) + 12] ^= 255
    tsz.write_bytes(data)
    assert hasten("verify", "x.tsz")[0] == 1
    status, _, err = hasten("decompress", "x.tsz", "-o", "y.npy")
    assert status == 1
    assert "hasten: x.tsz: corrupt data: at byte" in err
    status, _, err = hasten("repair", "x.tsz")
    assert status == 1
    assert "10 good chunks with 616 rows lie behind it: pass --skip-bad to keep them" in err
    status, out, err = hasten("repair", "x.tsz", "-o", "first.tsz")
    assert (status, out) == (0, "first.tsz: made whole, 320 rows in 5 chunks\n")
    assert "10 good chunks with 616 rows behind a bad one were left out: pass --skip-bad to keep them\n" in err
    status, out, err = hasten("repair", "x.tsz", "--skip-bad")
    assert (status, out) == (0, "x.tsz: made whole, 936 rows in 15 chunks\n")
    assert "64 rows lost" in err
    assert "64 rows were lost" in hasten("info", "x.tsz")[1]
    assert hasten("verify", "x.tsz")[0] == 0


def test_a_gap_of_unknown_length() -> None:
    found = sprintz.info(sprintz.compress(X))
    said = describe("x", type(found)(**{**found.__dict__, "gaps": ((5, 0),)}))
    assert "gap at 5" in said
    assert "rows were lost" in said


# Comparing ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_bench, "SECONDS", 0.0)
    monkeypatch.setattr(codec_bench, "RUNS", 1)


@pytest.mark.usefixtures("hurried")
def test_bench_as_json(hasten: Hasten) -> None:
    Path("x.csv").write_text(ROWS)
    status, out, err = hasten("bench", "x.csv", "--json")
    assert (status, err) == (0, "")
    lines = list(map(json.loads, out.splitlines()))
    found = {line["codec"]: line for line in lines}
    assert {"tsz-fast", "zlib-6", "bz2-9", "xz-6"} <= set(found)
    for line in lines:
        assert line["problem"] is None or line["codec"].startswith("pcodec"), line
        assert (line["file"], line["rows"], line["columns"], line["raw_bytes"]) == ("x.csv", 200, 2, 2000)
        if line["problem"] is None:
            assert line["ratio"] == pytest.approx(2000 / line["bytes"])
            assert line["compress_gbps"] > 0
            assert line["decompress_gbps"] > 0


@pytest.mark.usefixtures("hurried")
def test_bench_as_a_table(hasten: Hasten, tsz: Path) -> None:
    _, out, _ = hasten("bench", "x.tsz", "--codecs", "tsz,zlib", "--rows", "0:100")
    lines = out.splitlines()
    assert lines[0] == "x.tsz: 100x2 values, 400 bytes"
    assert [line.split()[0] for line in lines[2:]] == ["codec", "tsz-fast", "tsz-balanced", "tsz-max", "zlib-6"]


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    "data",
    [
        X, X.astype(">i4"), X[:, 0], X / 3, (X / 3).astype(np.float32), X.astype("M8[s]"), X > 100, X.astype(np.uint8),
        np.array([(1, 0.5, True)] * 50, [("a", "i2"), ("b", "f8"), ("c", "?")]),
        np.ma.masked_array(X, X % 7 == 0), np.zeros((50, 3), np.int64),
    ],
    ids=["i2", ">i4", "flat", "f8", "f4", "dates", "true", "u1", "records", "missing", "zeros"],
)  # fmt: skip
def test_every_codec_gives_every_kind_of_data_back(data: np.ndarray) -> None:
    recording = Recording(data)
    size = sum(part.nbytes for part in codec_bench.arrays(recording))
    for candidate in codec_bench.candidates(recording):
        problem = codec_bench.measure(candidate, size).problem
        assert problem is None or (candidate.name.startswith("pcodec") and problem.startswith("refuses this: ")), (
            problem
        )


@pytest.mark.usefixtures("hurried")
def test_a_codec_that_lies_is_told() -> None:
    candidate = next(codec_bench.candidates(Recording(X)))
    wrong = type(candidate)("x", "1", candidate.compress, lambda packed: X + 1, candidate.check)
    assert codec_bench.measure(wrong, 4000).problem == "gives other values back"
    assert "gives other values back" in codec_bench._line(codec_bench.measure(wrong, 4000))


def test_what_is_the_same() -> None:
    a = np.array([[0.0, np.nan, np.inf]])
    assert codec_bench._same(a, a.copy())
    assert not codec_bench._same(a, a + 0.5)
    assert not codec_bench._same(np.ma.masked_array(a, False), np.ma.masked_array(a, a == 0))


@pytest.mark.usefixtures("hurried")
def test_the_first_16_mib(hasten: Hasten, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec_bench, "SAMPLE_BYTES", 400)
    np.save("x.npy", X)
    _, out, _ = hasten("bench", "x.npy", "--codecs", "zlib")
    assert out.startswith("x.npy: 100x2 values, 400 bytes")


# Real files -----------------------------------------------------------------------------------------------------------


@real("mitbih_record100/100.dat")
def test_a_real_record(hasten: Hasten) -> None:
    assert hasten("compress", str(FOLDER / "mitbih_record100/100"), "-o", "100.tsz")[0] == 0
    out = hasten("info", "100.tsz")[1]
    assert "650,000" in out
    assert "2 of int16: MLII (mV), V5 (mV)" in out
    assert "360 per second, 30.1 min" in out
    assert hasten("cat", "100.tsz", "--rows", "0:2")[1] == "MLII,V5\n995,1011\n995,1011\n"
    assert hasten("decompress", "100.tsz", "-o", "new.hea")[0] == 0
    assert Path("new.hea").read_text().splitlines()[1] == "new.dat 16 200/mV 11 1024 995 -22131 0 MLII"
    assert np.array_equal(files.read("new").data, files.read(FOLDER / "mitbih_record100/100").data)


@real("ett_hourly/ETTh1.csv")
def test_a_real_table(hasten: Hasten) -> None:
    source = FOLDER / "ett_hourly/ETTh1.csv"
    assert hasten("compress", str(source), "-o", "e.tsz", "--threads", "2")[0] == 0
    assert hasten("decompress", "e.tsz", "--threads", "2")[0] == 0
    assert Path("e.csv").read_bytes() == source.read_bytes()
    assert hasten("cat", "e.tsz", "--rows", "0", "--columns", "date,OT")[1] == (
        "date,OT\n2016-07-01 00:00:00,30.5310001373291\n"
    )
