"""benchmarks/codec_table.py: its lines, its data, its verdicts. Nothing here looks at how fast anything is."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.codecs.files.real import FOLDER, real

from hasten._core import dispatch
from hasten.codecs.sprintz.encode import PROFILES

SCRIPTS = Path(__file__).parents[2] / "benchmarks"
pytestmark = pytest.mark.skipif(not SCRIPTS.is_dir(), reason="the benchmarks are not part of this distribution")

SHORT = ["--repeats", "2", "--seconds-per-figure", "0.0002", "--rows", "700"]
NUMBERS = ("ratio", "compress_gbps", "decompress_gbps")


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(SCRIPTS)
    return importlib.import_module("codec_table")


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_for_each_set_and_codec(table: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert table.main(["--json", "--sets", "switches_8", "timestamps_64", *SHORT]) == 0
    lines = lines_of(capsys.readouterr().out)
    codecs = table._codec_peers.catalogue()
    assert [(line["set"], line["arm"]) for line in lines] == [
        (name, codec) for name in ("switches_8", "timestamps_64") for codec in codecs
    ]
    raw = {"switches_8": 700 * 8, "timestamps_64": 700 * 8}
    for line in lines:
        assert line["raw_bytes"] == raw[line["set"]]
        assert (line["claim"], line["threads"], line["isa"]) == ("codec table", 1, dispatch.isa())
        assert {"host", "versions", "command", "settings", "data"} <= set(line)
        if "skipped" in line:
            assert line["n"] == 0
            assert [line[name] for name in NUMBERS] == [None] * 3
            continue
        assert line["n"] == 2
        assert line["ratio"] == line["value"] == line["raw_bytes"] / line["compressed_bytes"]
        for name in ("compress", "decompress"):
            low, high = line[f"{name}_interval"]
            assert 0 < low <= line[f"{name}_gbps"] <= high
            assert len(line[f"{name}_runs"]) == 2
    found = {(line["set"], line["arm"]): line for line in lines}
    assert found["switches_8", "memcpy"]["ratio"] == 1
    for name in PROFILES:
        if name != "auto":
            assert found["switches_8", f"tsz-{name}"]["settings"]["profile"] == name
    assert found["timestamps_64", "v0-delta"]["skipped"] == "integers of 8 and 16 bits only"
    if dispatch.native_available():
        assert found["switches_8", "v0-delta"]["layout"] == "row"
    for package, arm in (("zstandard", "zstd-3"), ("lz4", "lz4"), ("blosc2", "blosc2-shuffle+lz4-9"),
                         ("pcodec", "pcodec-8")):  # fmt: skip
        there = importlib.util.find_spec(package) is not None
        assert (found["switches_8", arm]["ratio"] is not None) == there
        assert (package in found["switches_8", arm]["versions"]) == there


def test_what_is_not_installed_is_a_line_with_a_reason(
    table: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lz4.block", None)
    assert table.main(["--json", "--sets", "switches_8", "--codecs", "lz4", "memcpy", *SHORT]) == 0
    out, err = capsys.readouterr()
    absent, copy = lines_of(out)
    assert (absent["arm"], absent["ratio"]) == ("lz4", None)
    assert absent["skipped"].startswith("lz4 is not there: ")
    assert copy["ratio"] == 1
    assert "left out: lz4 is not there" in err


def test_a_codec_that_changes_data_fails(
    table: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = table._codec_peers
    lossy = peers.Loaded(lambda piece, room: bytes(4), lambda packed, out, room: peers.flat(out).fill(0))
    monkeypatch.setattr(peers, "catalogue", lambda: {"lossy": peers.Codec("lossy", "numpy", lambda: lossy)})
    assert table.main(["--json", "--sets", "walk_16", *SHORT]) == 1
    out, err = capsys.readouterr()
    assert lines_of(out)[0]["skipped"] == "layout col: other bytes came back"
    assert "walk_16 lossy: layout col: other bytes came back" in err


def test_a_table_and_a_record_that_is_never_overwritten(
    table: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = ["--sets", "switches_8", "--codecs", "tsz-fast", "memcpy", "v0-fire+h", *SHORT, "--record", str(tmp_path)]
    assert table.main(asked) == 0
    text = capsys.readouterr().out.splitlines()
    recorded = lines_of((tmp_path / "codec_table.jsonl").read_text())
    assert [line["arm"] for line in recorded] == ["tsz-fast", "v0-fire+huffman", "memcpy"]
    assert "700x8 uint8" in text[1]
    assert [row.split()[0] for row in text[3:]] == [line["arm"] for line in recorded]
    for name in ("ratio", "compress GB/s", "decompress GB/s"):
        end = text[2].index(f"{name} ") + len(name)
        assert all(row[end - 1].isdigit() and row[end] == " " for row in text[3:] if "  -  " not in row)
    with pytest.raises(FileExistsError):
        table.main(asked)
    capsys.readouterr()
    assert table.main(["--claims", str(tmp_path / "codec_table.jsonl")]) == 0
    assert "not measured  walk_16" in capsys.readouterr().out


def test_names_are_checked(table: Any) -> None:
    with pytest.raises(ValueError, match=r"--sets: expected .*, got 'natve'\. Did you mean native\?"):
        table.main(["--sets", "natve"])
    with pytest.raises(ValueError, match="--codecs: expected beginnings of tsz-"):
        table.main(["--codecs", "zpaq"])


def test_sets_without_files_are_left_out(table: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    asked = ["--json", "--data", str(tmp_path), "--sets", "mitbih_100", "switches_8", "--codecs", "memcpy", *SHORT]
    assert table.main(asked) == 0
    out, err = capsys.readouterr()
    assert [line["set"] for line in lines_of(out)] == ["switches_8"]
    assert err.startswith("mitbih_100 is left out: there is no")


# ---- the best layout


def test_peers_get_the_layout_of_the_best_ratio(table: Any) -> None:
    measure = importlib.import_module("_codec_measure")
    codecs = table._codec_peers.catalogue()
    columns = np.arange(500, dtype=np.uint8)[:, None] // 100 * np.ones((1, 6), np.uint8) + np.arange(6, dtype=np.uint8)
    memory: dict[str, Any] = {}
    pytest.importorskip("zstandard")
    for arm in ("zstd-3", "delta+zstd-3"):
        found = measure.prepare(codecs[arm], [columns], memory)
        other = measure.Candidate(codecs[arm], found.loaded, "row", memory["row"])
        other.compress()
        assert found.size() <= other.size() * measure.SAME
        assert found.exact()
        assert other.exact()
    assert set(memory) == {"col", "row"}


def test_a_layout_that_a_codec_refuses_is_passed_over(table: Any) -> None:
    measure, peers = importlib.import_module("_codec_measure"), table._codec_peers

    def pack(piece: np.ndarray, room: np.ndarray) -> np.ndarray:
        if piece.flags.c_contiguous:
            raise ValueError("no rows")
        return piece

    loaded = peers.Loaded(pack, lambda packed, out, room: np.copyto(out, packed))
    array = np.arange(6, dtype=np.int16).reshape(3, 2)
    picky = peers.Codec("picky", "numpy", lambda: loaded, layouts=("row", "col"))
    assert measure.prepare(picky, [array], {}).layout == "col"
    picky = peers.Codec("picky", "numpy", lambda: loaded, layouts=("row",))
    assert measure.prepare(picky, [array], {}) == "layout row: ValueError: no rows"


def test_pieces_are_contiguous_and_along_time(table: Any) -> None:
    pieces = table._codec_peers.pieces
    array = np.arange(12).reshape(4, 3)
    col, row, columns = (pieces([array], layout) for layout in ("col", "row", "columns"))
    assert table._codec_peers.flat(col[0]).tolist() == array.T.ravel().tolist()
    assert table._codec_peers.flat(row[0]).tolist() == array.ravel().tolist()
    assert [one.tolist() for one in columns] == array.T.tolist()
    for one in (*col, *row):
        assert (one == array).all()
        assert np.shares_memory(table._codec_peers.flat(one), one)


@pytest.mark.parametrize(("n", "low", "high"), [(1, 0, 0), (5, 0, 4), (6, 0, 5), (7, 0, 6), (9, 1, 7), (15, 3, 11)])
def test_intervals_of_a_median_are_order_statistics(table: Any, n: int, low: int, high: int) -> None:
    middle, interval = table.median_interval([float(k) for k in reversed(range(n))])
    assert middle == (n - 1) / 2
    assert interval == [low, high]


# ---- the data


def test_series_are_joined_and_rounded_down(table: Any, tmp_path: Path) -> None:
    sets = table._codec_sets
    (tmp_path / "ucr_aeon").mkdir()
    head = "# text\n@problemName x\n@data\n"
    (tmp_path / "ucr_aeon" / "GunPoint_TRAIN.ts").write_text(f"{head}0,1.0:2\n")
    (tmp_path / "ucr_aeon" / "GunPoint_TEST.ts").write_text(f"{head}7,-5:1\n")
    found = sets.catalogue(tmp_path)["ucr_gunpoint_q8"]
    assert found.missing() is None
    (array,) = found.load()
    joined = [0, 1, 2, 3, 4, 5, 6, 7, -5]
    assert array.tolist() == [int((value + 5) * 255 / 12) for value in joined]
    assert array.dtype == np.uint8
    two = sets.joined([np.array([[0.0, 1.0]]), np.array([[6.0, 1.0]])])
    assert two.tolist() == [[float(k), 1.0] for k in range(7)]
    each = sets.quantised(np.array([[0.0, 3.0], [1.0, 3.0]]), 16, axis=0)
    assert each.tolist() == [[0, 0], [65535, 0]]


def test_made_up_sets_are_the_same_every_time(table: Any) -> None:
    known = table._codec_sets.catalogue(None)
    for one in table._codec_sets.choose(known, ["timestamps_64", "switches_8", "repeats_16"]):
        (first,), (second,) = one.load(), one.load()
        assert first.tobytes() == second.tobytes()
    (repeats,) = known["repeats_16"].load()
    assert (repeats[1000:] == repeats[:-1000]).all()
    assert known["walk_16"].load()[0].shape == (1 << 22,)


@real("mitbih_record100/100.hea")
@real("wfdb_samples/s0010_re.hea")
@real("ett_hourly/ETTh1.csv")
def test_the_real_sets(table: Any) -> None:
    known = table._codec_sets.catalogue(FOLDER)
    shapes = {name: [(one.shape, str(one.dtype)) for one in known[name].load()]
              for name in ("mitbih_100", "ptb_s0010", "ptb_s0010_frank", "mimic_03700181", "etth1_f32")}  # fmt: skip
    assert shapes == {
        "mitbih_100": [((650_000, 2), "int16")],
        "ptb_s0010": [((38_400, 12), "int16")],
        "ptb_s0010_frank": [((38_400, 3), "int16")],
        "mimic_03700181": [((300_000,), "int16"), ((75_000,), "int16"), ((75_000,), "int16")],
        "etth1_f32": [((17_420, 7), "float32")],
    }
    assert known["mitbih_100"].load()[0][0].tolist() == [995, 1011]


# ---- the claims


def line(name: str, arm: str, ratio: float, compress: list[float], decompress: list[float], isa: str = "avx512") -> Any:
    middle = {"compress_gbps": sorted(compress)[1], "decompress_gbps": sorted(decompress)[1]}
    spans = {"compress_interval": [min(compress), max(compress)],
             "decompress_interval": [min(decompress), max(decompress)]}  # fmt: skip
    runs = {"compress_runs": compress, "decompress_runs": decompress}
    return {"set": name, "arm": arm, "ratio": ratio, "isa": isa, **middle, **spans, **runs}


def verdicts(table: Any, lines: list[Any]) -> dict[tuple[str, str], Any]:
    return {(one.set, one.claim): one for one in table.judge(lines)}


def test_balanced_is_judged_round_by_round(table: Any) -> None:
    ours = line("ptb_s0010", "tsz-balanced", 2.45, [0.10, 0.20, 0.60], [0.5, 0.5, 0.5])
    theirs = line("ptb_s0010", "pcodec-8", 2.5, [0.02, 0.04, 0.10], [0.4, 0.6, 0.6])
    found = verdicts(table, [ours, theirs])
    ratio = found["ptb_s0010", "balanced against pcodec-8, ratio"]
    assert (ratio.verdict, ratio.found) == ("held", pytest.approx(0.98))
    fast = found["ptb_s0010", "balanced against pcodec-8, compress"]
    assert (fast.verdict, fast.found, fast.interval) == ("held", pytest.approx(5), [pytest.approx(5), pytest.approx(6)])
    slow = found["ptb_s0010", "balanced against pcodec-8, decompress"]
    assert (slow.verdict, slow.found, slow.clear) == ("missed", pytest.approx(5 / 6), False)
    assert "missed" in slow.text()
    assert "not clearly" in slow.text()
    assert found["mimic_03700181", "balanced against pcodec-8, ratio"].verdict == "not measured"
    assert ("ptb_s0010", "balanced against pcodec-8+conv32, ratio") not in found
    better = line("ptb_s0010", "pcodec-8+conv32", 2.64, [0.01] * 3, [0.1] * 3)
    found = verdicts(table, [ours, theirs, better])
    assert found["ptb_s0010", "balanced against pcodec-8+conv32, ratio"].verdict == "missed"


@pytest.mark.parametrize(
    ("decode", "copy", "verdict"), [(7.5, 30.0, "held"), (6.0, 8.0, "held"), (6.0, 12.0, "missed")]
)
def test_decoding_may_be_fast_or_near_memcpy(table: Any, decode: float, copy: float, verdict: str) -> None:
    lines = [line("walk_16", "tsz-planar-delta", 2.5, [1.9] * 3, [decode] * 3, "avx512vnni"),
             line("walk_16", "memcpy", 1.0, [copy] * 3, [copy] * 3, "avx512vnni")]  # fmt: skip
    found = verdicts(table, lines)
    assert found["walk_16", "planar delta, decode, AVX-512"].verdict == verdict
    assert found["walk_16", "planar delta, decode, AVX2"].verdict == "not measured"
    assert found["walk_16", "planar delta, encode"].verdict == "missed"


def test_avx2_has_a_target_of_its_own(table: Any) -> None:
    found = verdicts(table, [line("walk_16", "tsz-planar-delta", 2.5, [2.1] * 3, [3.1] * 3, "avx2")])
    assert found["walk_16", "planar delta, decode, AVX2"].verdict == "held"
    assert found["walk_16", "planar delta, decode, AVX-512"].verdict == "not measured"
    assert found["walk_16", "planar delta, encode"].verdict == "held"


def test_max_and_where_repetitions_win(table: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    ratios = {("ptb_s0010", "tsz-max"): 3.4, ("ptb_s0010", "zstd-9"): 1.6, ("repeats_16", "tsz-max"): 1.0,
              ("repeats_16", "lz4"): 90.0}  # fmt: skip
    lines = [line(name, arm, ratio, [0.1] * 3, [0.1] * 3) for (name, arm), ratio in ratios.items()]
    lines.append({"set": "repeats_16", "arm": "zstd-1", "ratio": None, "skipped": "zstandard is not there"})
    found = verdicts(table, lines)
    assert found["ptb_s0010", "max, ratio"].verdict == "missed"
    assert ("ptb_s0010", "LZ is ahead of us") not in found
    ahead = found["repeats_16", "LZ is ahead of us"]
    assert (ahead.verdict, ahead.found, ahead.note) == ("noted", 90, "lz4 90.000, tsz-max 1.000")
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    assert table.main(["--json", "--claims", str(path)]) == 0
    printed = {(one["set"], one["claim"]): one for one in lines_of(capsys.readouterr().out)}
    assert printed["ptb_s0010", "max, ratio"]["verdict"] == "missed"
