"""Which format a file has, files that appear whole or not at all, and compressed files as one of the formats."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.codecs.files.real import FOLDER, real

from hasten.codecs import files, sprintz
from hasten.codecs.files import Recording
from hasten.codecs.files.sink import fill_missing
from hasten.codecs.sprintz import CorruptError

X = np.arange(4000, dtype=np.int16).reshape(1000, 4)
ECG = Recording(
    X, ("a", "b", "c", "d"), ("mV", "mV", "mV", None), 360.0, (200.0, 200.0, 0.5, None), (1024, 0, None, 3),
    {"device": "A7", "csv": {"delimiter": ";", "newline": "\n", "formats": ["d", "03d", "d", None]}},
)  # fmt: skip


def test_the_suffix_says_the_format(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a suffix among .csv, .*, got 'x.mat'"):
        files.write(tmp_path / "x.mat", ECG)
    with pytest.raises(ValueError, match="a format among csv, npy, raw, tsz, wav, wfdb, got 'cvs'.*mean csv"):
        files.write(tmp_path / "x", ECG, format="cvs")
    files.write(tmp_path / "x.mat", ECG, format="npy")
    assert np.array_equal(files.read(tmp_path / "x.mat", format="npy").data, X)
    files.write(tmp_path / "X.CSV", ECG)
    assert files.read(tmp_path / "X.CSV").names == ECG.names


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "ecg_1.csv").write_text("1\n")
    with pytest.raises(FileNotFoundError, match=r"got .*ecg1.csv, which is none. Did you mean ecg_1.csv\?"):
        files.read(tmp_path / "ecg1.csv")
    with pytest.raises(FileNotFoundError, match="which is a folder"):
        files.read(tmp_path)
    with pytest.raises(FileNotFoundError, match="which is none"):
        files.read(tmp_path / "no" / "such" / "file.csv")


def test_options_of_another_format(tmp_path: Path) -> None:
    files.write(tmp_path / "x.npy", ECG)
    with pytest.raises(TypeError, match="no options for a file of format npy, got columns"):
        files.read(tmp_path / "x.npy", columns=["a"])


def test_nothing_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(b"old")
    with pytest.raises(FileExistsError, match="x.npy, which is there. Pass --force"):
        files.write(path, ECG)
    assert path.read_bytes() == b"old"
    files.write(path, ECG, force=True)
    assert np.array_equal(np.load(path), X)
    with pytest.raises(IsADirectoryError, match="which is a folder"):
        files.write(tmp_path, ECG, format="npy", force=True)
    with pytest.raises(FileNotFoundError, match="a folder that is there"):
        files.write(tmp_path / "no" / "x.npy", ECG)


@pytest.mark.parametrize("name", ["x.csv", "x.npy", "x.raw", "x.wav", "x.hea", "x.tsz"])
def test_an_error_leaves_what_was_there(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"old")

    def stop() -> None:
        with files.create(path, ECG.like(), 1000, force=True) as sink:
            sink.append(X[:10])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    assert [found.name for found in tmp_path.iterdir()] == [name]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize(
    "recording",
    [
        ECG,
        Recording(X[:, 0]),
        Recording(np.array([(1, 0.5)], [("n", "i4"), ("x", "f8")]), units=("s", None)),
        Recording(np.arange(6).astype("M8[us]").reshape(3, 2)),
        Recording(X[:0], ("a", "b", "c", "d")),
        Recording(np.ma.masked_array(X, X % 7 == 0)),
    ],
    ids=["matrix", "flat", "records", "dates", "no rows", "missing"],
)
def test_tsz_keeps_everything(recording: Recording, tmp_path: Path) -> None:
    files.write(tmp_path / "x.tsz", recording, chunk_rows=64)
    found = files.read(tmp_path / "x.tsz")
    assert found.data.dtype == recording.data.dtype
    assert found.data.shape == recording.data.shape
    assert found.data.tolist() == recording.data.tolist()
    for name in ("names", "units", "rate", "gain", "baseline", "meta"):
        assert getattr(found, name) == getattr(recording, name), name
    assert np.ma.concatenate([*files.blocks(tmp_path / "x.tsz", 7), X[:0, 0] if X.ndim < 2 else found.data[:0]]).tolist(
    ) == recording.data.tolist()  # fmt: skip


def test_rows_and_columns_of_tsz(tmp_path: Path) -> None:
    files.write(tmp_path / "x.tsz", ECG, chunk_rows=64)
    found = files.read(tmp_path / "x.tsz", rows=slice(500, 10, -7), columns=["d", 0])
    assert found.data.tolist() == X[500:10:-7, [3, 0]].tolist()
    assert (found.names, found.units, found.gain, found.baseline) == (
        ("d", "a"), (None, "mV"), (None, 200.0), (3, 1024),
    )  # fmt: skip
    assert found.meta["csv"]["formats"] == [None, "d"]
    with files.open(tmp_path / "x.tsz", rows=slice(900, None), threads=2) as opened:
        assert opened.rows == 100
        assert np.array_equal(np.concatenate(list(opened.blocks(33))), X[900:])
        assert [len(block) for block in opened.blocks()] == [100]
    assert files.read(tmp_path / "x.tsz", rows=slice(5, 5)).data.shape == (0, 4)
    assert files.read(tmp_path / "x.tsz", rows=slice(None, None, -1)).data.tolist() == X[::-1].tolist()


def test_only_the_chunks_that_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write(tmp_path / "x.tsz", ECG, chunk_rows=64)
    opened: list[sprintz.Reader] = []
    inner = sprintz.open

    def watched(path: Path) -> sprintz.Reader:
        opened.append(inner(path))
        return opened[-1]

    monkeypatch.setattr(files.tsz, "open_tsz", watched)
    files.read(tmp_path / "x.tsz", rows=slice(100, 110))
    assert opened[0].chunks_decoded == 1


@pytest.mark.parametrize("gain", [5, [1, 2], [1, 2, 3, "x"], [1, 2, 3, 0], [1, 2, 3, True]])
def test_metadata_of_others_stay_metadata(gain: object, tmp_path: Path) -> None:
    (tmp_path / "x.tsz").write_bytes(sprintz.compress(X, meta={"gain": gain}))
    found = files.read(tmp_path / "x.tsz")
    assert found.gain is None
    assert found.meta == {"gain": gain}
    assert files.read(tmp_path / "x.tsz", columns=[1]).data.shape == (1000, 1)


def test_a_cut_file_is_refused_unless_recovered(tmp_path: Path) -> None:
    path = tmp_path / "x.tsz"
    files.write(path, ECG, chunk_rows=64)
    with sprintz.open(path) as reader:
        cut = int(reader.index.offsets[10]) + 1
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(CorruptError, match="rows in good chunks are left: use `hasten codec repair`, or --recover"):
        files.read(path)
    found = files.read(path, recover=True)
    assert np.array_equal(found.data, X[:640])
    path.write_bytes(b"no tsz file")
    with pytest.raises(CorruptError, match="not a tsz file"):
        files.read(path)


MASKED = np.ma.masked_array(np.array([[1.5, 2.5]]), [[True, False]])


def test_filling() -> None:
    assert fill_missing(X, 5.0) is X
    assert fill_missing(MASKED, None) is MASKED
    assert fill_missing(MASKED, -1).tolist() == [[-1.0, 2.5]]
    assert np.isnan(fill_missing(MASKED, float("nan"))[0, 0])
    counts = np.ma.masked_array(np.array([3, 4], np.uint8), [True, False])
    assert fill_missing(counts, 255.0).tolist() == [255, 4]
    mixed = np.ma.masked_array(np.array([(1, 2.0)], [("a", "i2"), ("b", "f4")]), [(True, False)])
    assert fill_missing(mixed, -7).tolist() == [(-7, 2.0)]
    for value in (256, -1, 0.5, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="a value that uint8 can hold"):
            fill_missing(counts, value)
    for column in (np.ma.masked_array(np.zeros(1, "M8[s]"), True), np.ma.masked_array(np.zeros(1, np.float32), True)):
        with pytest.raises(ValueError, match="can hold"):
            fill_missing(column, 1e300)


def test_streams_are_of_one_file(tmp_path: Path) -> None:
    with open(tmp_path / "x", "wb") as file, pytest.raises(ValueError, match="a format among csv, npy, raw, wav"):
        files.formats.sink(file, ECG.like(), 0, "wfdb")


def test_no_torch_and_nothing_optional() -> None:
    code = "import sys, hasten.codecs.files; sys.exit(bool({'torch', 'pandas', 'wfdb', 'cyclopts'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@real("wfdb_samples/03700181.dat")
def test_a_real_record_through_tsz(tmp_path: Path) -> None:
    found = files.read(FOLDER / "wfdb_samples/03700181")
    files.write(tmp_path / "x.tsz", found)
    back = files.read(tmp_path / "x.tsz")
    files.write(tmp_path / "new.hea", back)
    again = files.read(tmp_path / "new.hea")
    assert np.array_equal(again.data, found.data)
    assert (again.names, again.units, again.gain, again.baseline, again.rate) == (
        found.names, found.units, found.gain, found.baseline, found.rate,
    )  # fmt: skip
