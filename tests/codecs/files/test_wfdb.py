"""WFDB records: every format, frames, skews, several files; and records that do not fit their header."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.codecs.files.real import FOLDER, real

from hasten.codecs import files
from hasten.codecs.files import Recording
from hasten.codecs.files.wfdb import FORMATS, decode, signed_16
from hasten.codecs.files.wfdb_header import format_header, parse_header


def packed(values: list[int], form: int) -> bytes:
    """Samples as the format describes them, one at a time."""
    if form == 212:
        values = [v & 0xFFF for v in values]
        pairs = zip(values[::2], [*values[1::2], *[0] * (len(values) % 2)], strict=True)
        data = b"".join(bytes([a & 255, a >> 8 | b >> 8 << 4, b & 255]) for a, b in pairs)
        return data[: -1 if len(values) % 2 else None]
    if form in (80, 160):
        return b"".join((v + (1 << form // 10 - 1 if form == 160 else 128)).to_bytes(form // 80, "little")
                        for v in values)  # fmt: skip
    order = "big" if form == 61 else "little"
    return b"".join(v.to_bytes(FORMATS[form][0] // 8, order, signed=True) for v in values)


def record(folder: Path, lines: list[str], **data: bytes) -> Path:
    """Write a record: its header, and files of samples by their names."""
    for name, content in data.items():
        (folder / f"{name}.dat").write_bytes(content)
    path = folder / "r.hea"
    path.write_text("\n".join(lines) + "\n")
    return path


@given(st.sampled_from(sorted(FORMATS)), st.lists(st.integers(-(1 << 31), (1 << 31) - 1), max_size=9), st.data())
def test_every_format_is_decoded(form: int, values: list[int], data: st.DataObject) -> None:
    half = 1 << FORMATS[form][0] - 1
    values = [(v + half) % (2 * half) - half for v in values]
    first = data.draw(st.integers(0, len(values)))
    stop = data.draw(st.integers(first, len(values)))
    raw = np.frombuffer(packed(values, form), np.uint8)
    found = decode(raw, form, first, stop)
    assert found.tolist() == values[first:stop]
    assert found.dtype == np.dtype(FORMATS[form][1])


@pytest.mark.parametrize("form", sorted(FORMATS))
def test_a_record_of_each_format(form: int, tmp_path: Path) -> None:
    values = [1, -2, 3, -4, 5, -6]
    path = record(tmp_path, ["r 2 100", f"r.dat {form}", f"r.dat {form}"], r=packed(values, form))
    found = files.read(path)
    assert found.data.tolist() == [[1, -2], [3, -4], [5, -6]]
    assert found.data.dtype == np.dtype(FORMATS[form][1])
    assert (found.rate, found.gain, found.baseline) == (100.0, (None, None), (0, 0))
    assert found.names == ("column_1", "column_2")


def test_an_odd_number_of_12_bit_samples(tmp_path: Path) -> None:
    path = record(tmp_path, ["r 1 100", "r.dat 212 200"], r=packed([7, -7, 2000], 212))
    assert files.read(path).data.tolist() == [[7], [-7], [2000]]
    (tmp_path / "r.dat").write_bytes(packed([7, -7, 2000, 0], 212))  # padded to whole bytes of a pair
    record(tmp_path, ["r 1 100 3", "r.dat 212 200"])
    assert files.read(path).data.tolist() == [[7], [-7], [2000]]


def test_frames_of_several_samples_and_several_files(tmp_path: Path) -> None:
    lines = [
        "# before", "r/1 3 125.5/500(-7.5) 2 17:27:45 15/08/1994".replace("/1", "", 1),
        "a.dat 212x2 2963.77/mV 12 0 1 6 0 MCL1", "a.dat 212 12.84(-1605)/mm_Hg 12 0 -9 -8 0 blood pressure",
        "b.dat 61 1e2 16 5 300 100 0 MCL1", "# after",
    ]  # fmt: skip
    path = record(tmp_path, lines, a=packed([1, 2, -9, 3, 0, 1], 212), b=packed([300, -200], 61))
    found = files.read(path)
    assert found.names == ("MCL1[0]", "MCL1[1]", "blood pressure", "MCL1")
    assert found.units == ("mV", "mV", "mm_Hg", "mV")
    assert found.gain == (2963.77, 2963.77, 12.84, 100.0)
    assert found.baseline == (0, 0, -1605, 5)
    assert found.rate == 125.5
    assert found.data.tolist() == [[1, 2, -9, 300], [3, 0, 1, -200]]
    said = found.meta["wfdb"]
    assert said["comments"] == ["before", "after"]
    assert (said["counter"], said["base"], said["time"], said["date"]) == ("500", "-7.5", "17:27:45", "15/08/1994")
    assert [block.tolist() for block in files.blocks(path, 1)] == [[[1, 2, -9, 300]], [[3, 0, 1, -200]]]


def test_a_byte_offset(tmp_path: Path) -> None:
    path = record(tmp_path, ["r 1 100", "r.dat 16+24 200"], r=bytes(24) + packed([5, 6], 16))
    assert files.read(path).data.tolist() == [[5], [6]]


def test_invalid_samples_are_missing(tmp_path: Path) -> None:
    path = record(tmp_path, ["r 1 100 3", "r.dat 212 200 12 0 5 -2041"], r=packed([5, -2048, 2], 212))
    found = files.read(path)
    assert found.missing
    assert found.data.tolist() == [[5], [None], [2]]


def test_a_skew_stays_unless_aligned(tmp_path: Path) -> None:
    path = record(tmp_path, ["r 2 100", "r.dat 16", "r.dat 16:2"], r=packed([1, 10, 2, 20, 3, 30, 4, 40], 16))
    found = files.read(path)
    assert found.data.tolist() == [[1, 10], [2, 20], [3, 30], [4, 40]]
    assert [signal["skew"] for signal in found.meta["wfdb"]["signals"]] == [0, 2]
    aligned = files.read(path, align=True)
    assert aligned.data.tolist() == [[1, 30], [2, 40], [3, None], [4, None]]
    assert [signal["skew"] for signal in aligned.meta["wfdb"]["signals"]] == [0, 0]
    blocks = list(files.blocks(path, 3, align=True))
    assert np.ma.concatenate(blocks).tolist() == aligned.data.tolist()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("r.dat 16 200 16 0 2 6", "first value 2 of signal 0, as .*r.hea says, got 1 .*--no-check"),
        ("r.dat 16 200 16 0 1 7 0 II", "checksum 7 of signal II, as .*r.hea says, got 6"),
    ],
)
def test_values_that_do_not_fit_the_header(line: str, told: str, tmp_path: Path) -> None:
    path = record(tmp_path, ["r 1 100 3", line], r=packed([1, 2, 3], 16))
    with pytest.raises(ValueError, match=told):
        files.read(path)
    assert files.read(path, check=False).data.tolist() == [[1], [2], [3]]


def test_a_checksum_may_be_written_unsigned(tmp_path: Path) -> None:
    path = record(tmp_path, ["r 1 100 1", "r.dat 16 200 16 0 -5 65531"], r=packed([-5], 16))
    assert files.read(path).data.tolist() == [[-5]]


def test_fewer_frames_than_the_header_says(tmp_path: Path) -> None:
    path = record(tmp_path, ["r 1 100 4", "r.dat 16"], r=packed([1, 2, 3], 16) + b"x")
    with pytest.raises(ValueError, match=r"4 frames, as .*r.hea says, got 3 in .*r.dat.*--no-check"):
        files.read(path)
    assert files.read(path, check=False).data.tolist() == [[1], [2], [3]]


def test_more_frames_than_the_header_says(tmp_path: Path) -> None:
    path = record(tmp_path, ["r 1 100 2", "r.dat 16 200 16 0 1 3"], r=packed([1, 2, 3], 16))
    assert files.read(path).data.tolist() == [[1], [2]]


def test_no_samples(tmp_path: Path) -> None:
    path = record(tmp_path, ["r 1 100", "r.dat 16"], r=b"")
    assert files.read(path).data.shape == (0, 1)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], "without one"),
        (["# only a comment"], "without one"),
        (["r"], "name, number of signals, rate and so on, got 'r' in line 1"),
        (["r one"], "in line 1"),
        (["r 0"], "some lines of signals, got 0"),
        (["r 2", "r.dat 16"], "2 lines of signals, got 1"),
        (["r/3 2 100", "r.dat 16", "r.dat 16"], "a record of one piece, got .* of 3 segments"),
        (["r 1 -5", "r.dat 16"], "a positive rate and possible numbers, got 'r 1 -5'"),
        (["r 1 1e999", "r.dat 16"], "a positive rate and possible numbers"),
        (["r 1 100 " + "9" * 5000, "r.dat 16"], "a positive rate and possible numbers"),
        (["r 1", "r.dat 16x" + "9" * 5000], "numbers of up to 18 digits, got a longer one in line 2"),
        (["r 1", "r.dat 16 1e999"], "a finite gain, got 1e999 in line 2"),
        (["r 1", "r.dat 16x99999999"], "frames of up to 2.20 samples"),
        (["# c", "", "r 1", "r.dat"], "a signal: file, format, gain and so on, got 'r.dat' in line 4"),
        (["r 1", "r.dat 16 mV"], "in line 2"),
        (["r 1", "r.dat 8"], "format 16, 24, 32, 61, 80, 160, 212, got 8"),
        (["r 1", "~ 0"], "got 0"),
        (["r 1", "../r.dat 16"], "a file beside the header, got '../r.dat' in line 2"),
        (["r 1", ".. 16"], "a file beside the header"),
        (["r 2", "r.dat 16", "r.dat 61"], "one format and offset"),
        (["r 2", "r.dat 16", "r.dat 16+2"], "one format and offset"),
        (["r 1", "r.dat 16x0"], "one format and offset"),
    ],
)
def test_headers_that_cannot_be(lines: list[str], told: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=told):
        files.read(record(tmp_path, lines, r=packed([1, 2], 16)))


def test_missing_samples(tmp_path: Path) -> None:
    path = record(tmp_path, ["r 1", "q.dat 16"], r=b"")
    with pytest.raises(FileNotFoundError, match=r"the samples in .*q.dat, which is no file"):
        files.read(path)


def test_a_record_by_its_name_or_its_samples(tmp_path: Path) -> None:
    record(tmp_path, ["r 1 100", "r.dat 16"], r=packed([1, 2], 16))
    for name in ("r", "r.dat", "r.hea"):
        assert files.read(tmp_path / name).data.tolist() == [[1], [2]]
    assert files.read(tmp_path / "r.dat", dtype="u1", columns=4).data.tolist() == [[1, 0, 2, 0]]


def test_writing_gives_the_record_back(tmp_path: Path) -> None:
    lines = [
        "r 3 125.5/500(-7.5) 2 17:27:45 15/08/1994", "r.dat 16x2:3 2963.77/mV 12 0 1 6 0 MCL1",
        "r.dat 16 12.84(-1605)/mm_Hg 12 0 -9 -8 0 blood pressure", "r.dat 16 0/mV 0 5 300 100 0", "# after",
    ]  # fmt: skip
    data = packed([1, 2, -9, 300, 3, 0, 1, -200], 16)
    found = files.read(record(tmp_path, lines, r=data))
    (tmp_path / "new").mkdir()
    files.write(tmp_path / "new" / "r.hea", found)
    assert (tmp_path / "new" / "r.dat").read_bytes() == data
    assert (tmp_path / "new" / "r.hea").read_text() == (tmp_path / "r.hea").read_text()
    with pytest.raises(FileExistsError, match="r.hea, which is there"):
        files.write(tmp_path / "new" / "r.hea", found)
    (tmp_path / "new" / "r.hea").unlink()
    with pytest.raises(FileExistsError, match="r.dat, which is there"):
        files.write(tmp_path / "new" / "r.hea", found)
    assert not (tmp_path / "new" / "r.hea").exists()


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4"])
def test_other_arrays_become_records(dtype: str, tmp_path: Path) -> None:
    x = np.array([[1, 2], [100, 90]], dtype)
    masked = np.ma.masked_array(x, [[False, True], [False, False]])
    files.write(tmp_path / "x.hea", Recording(masked, ("a b", "c\nd"), ("deg C", None), 10.0))
    found = files.read(tmp_path / "x.hea")
    assert found.data.tolist() == [[1, None], [100, 90]]
    assert found.names == ("a b", "c d")
    assert found.units == ("deg_C", None)
    files.write(tmp_path / "y.hea", Recording(x[:, 0], rate=1))
    assert files.read(tmp_path / "y").data.ravel().tolist() == [1, 100]
    files.write(tmp_path / "z.hea", Recording(x[:0], rate=1))
    assert files.read(tmp_path / "z").data.shape == (0, 2)


@pytest.mark.parametrize(
    ("data", "name", "error", "told"),
    [
        (np.zeros((2, 1)), "x", TypeError, "got dtype float64"),
        (np.zeros((2, 1), np.int64), "x", TypeError, "got dtype int64"),
        (np.zeros((2, 1), np.int16), "x y", ValueError, "a record's name"),
        (np.full((2, 1), -32768, np.int16), "x", ValueError, "above -32768"),
    ],
)
def test_what_no_record_can_hold(data: np.ndarray, name: str, error: type[Exception], told: str, tmp_path) -> None:
    with pytest.raises(error, match=told):
        files.write(tmp_path / f"{name}.hea", Recording(data, rate=1))
    assert list(tmp_path.iterdir()) == []


SIGNAL = {"name": "a", "samples_per_frame": 2, "skew": 0, "zero": 0, "bits": None}


@pytest.mark.parametrize(
    "said",
    [
        5, {"signals": 5}, {"signals": [5]}, {"signals": [{**SIGNAL, "name": 5}]},
        {"signals": [{**SIGNAL, "samples_per_frame": 0}]}, {"signals": [{**SIGNAL, "samples_per_frame": 3}]},
        {"signals": [{**SIGNAL, "skew": -1}]}, {"signals": [{**SIGNAL, "zero": True}]},
        {"signals": [{**SIGNAL, "bits": "x"}]}, {"time": "1\n2", "date": 5, "counter": "x", "comments": 5},
    ],
)  # fmt: skip
def test_metadata_that_makes_no_sense_are_not_followed(said: object, tmp_path: Path) -> None:
    x = np.array([[1, 2]], np.int16)
    files.write(tmp_path / "x.hea", Recording(x, ("p", "q"), rate=1, meta={"wfdb": said}))
    assert files.read(tmp_path / "x.hea").names == ("p", "q")


def test_comments_stay_on_their_lines(tmp_path: Path) -> None:
    said = {"signals": [SIGNAL], "comments": ["one\nr 1", 5]}
    files.write(tmp_path / "x.hea", Recording(np.array([[1, 2]], np.int16), rate=1, meta={"wfdb": said}))
    found = files.read(tmp_path / "x.hea")
    assert found.names == ("a[0]", "a[1]")
    assert found.meta["wfdb"]["comments"] == ["one r 1"]


def test_headers_there_and_back(tmp_path: Path) -> None:
    path = tmp_path / "x.hea"
    path.write_text("x 1 360/72(3.5) 650000 0:0:0.5\nx.dat 212x3:7 200(5)/uV 11 1024 995 -22131 0 MLII upper\n")
    header = parse_header(path)
    path.write_text(format_header(header))
    assert parse_header(path) == header
    assert header.signals[0].per_frame == 3


def test_sums_wrap_around() -> None:
    assert [signed_16(total) for total in (0, 32767, 32768, 65536, -32769)] == [0, 32767, -32768, 0, 32767]


@real("mitbih_record100/100.dat")
def test_mitbih_record_100() -> None:
    found = files.read(FOLDER / "mitbih_record100/100")
    assert found.data.shape == (650000, 2)
    assert found.data[0].tolist() == [995, 1011]
    assert [signed_16(int(total)) for total in found.data.sum(0, dtype=np.int64)] == [-22131, 20052]
    assert (found.names, found.units, found.rate) == (("MLII", "V5"), ("mV", "mV"), 360.0)
    assert (found.gain, found.baseline) == ((200.0, 200.0), (1024, 1024))
    assert found.physical()[0].tolist() == [-0.145, -0.065]
    assert found.meta["wfdb"]["comments"][1] == "69 M 1085 1629 x1"
    assert not found.missing


@real("wfdb_samples/s0010_re.xyz")
def test_ptb_s0010_in_two_files() -> None:
    found = files.read(FOLDER / "wfdb_samples/s0010_re.hea")
    assert found.data.shape == (38400, 15)
    assert found.data[0].tolist() == [-489, -458, 31, 474, -260, -214, -88, -241, -112, 212, 393, 390, -3, 120, -18]
    sums = [signed_16(int(total)) for total in found.data.sum(0, dtype=np.int64)]
    assert sums[:3] == [-8337, -16369, 6829]
    assert sums[-3:] == [-13009, 7109, -1992]
    assert found.names is not None
    assert found.names[11:13] == ("v6", "vx")


@real("wfdb_samples/03700181.dat")
def test_mimic_with_frames_and_a_skew() -> None:
    found = files.read(FOLDER / "wfdb_samples/03700181.hea")
    assert found.data.shape == (75000, 6)
    assert found.data[0].tolist() == [67, 67, 67, 23, -943, -304]
    assert signed_16(int(found.data[:, :4].sum(dtype=np.int64))) == -11266
    assert [signed_16(int(total)) for total in found.data[:, 4:].sum(0, dtype=np.int64)] == [-23651, 6310]
    assert found.units == ("mV", "mV", "mV", "mV", "mmHg", "mV")
    assert found.baseline == (0, 0, 0, 0, -1605, 0)
    aligned = files.read(FOLDER / "wfdb_samples/03700181.hea", align=True)
    assert aligned.data[:-4, 5].tolist() == found.data[4:, 5].tolist()
    assert np.ma.count_masked(aligned.data) == 4
