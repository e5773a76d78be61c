"""`hasten matmul`: every verb through `main`, what it prints, which files it leaves, its exit status, its numbers."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from hasten.cli import main, matmul_bench, matmul_methods, matmul_picture, matmul_timing
from hasten.cli.matmul_bench import Result, beaten_by, places
from hasten.cli.matmul_data import data_of, invented
from hasten.cli.matmul_error import by_row, exact_product, nmse_and_intervals, spread
from hasten.cli.matmul_timing import take_turns
from hasten.matmul import Maddness, nmse
from hasten.matmul.maddness import load

pytest.importorskip("cyclopts", reason="needs the extra bench")

Hasten = Callable[..., tuple[int, str, str]]
GUIDE = Path(__file__).parents[2] / "docs/guides/multiply_by_looking_up.md"
DATA = invented("bench", "600,24,5", 0)
ROWS = np.concatenate([DATA.learn, DATA.test])
SMALL = ("--ncodebooks", "4", "--leaves", "16", "--components", "2", "--rounds", "6")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matmul_timing, "SECONDS", 0.0)


@pytest.fixture
def hasten(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hasten:
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        status = main(["matmul", *words])
        out, err = capsys.readouterr()
        return status, out, err

    return run


@pytest.fixture
def files(hasten: Hasten) -> None:
    np.save("a.npy", ROWS)
    np.save("b.npy", DATA.factor)


def lines_of(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def names() -> set[str]:
    return {path.name for path in Path().iterdir()}


# Learn, keep, use -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("files")
def test_fit_and_apply(hasten: Hasten) -> None:
    status, out, err = hasten("fit", "a.npy", "b.npy", "--out", "m.safetensors", "--ncodebooks", "6")
    assert (status, err) == (0, "")
    assert "6 codebooks of 16 leaves, 24 columns to 5 outputs" in out
    assert "learned from 480 rows, ridge 1" in out
    assert re.search(r"NMSE 0\.\d+ on 120 other rows, 95 % interval 0\.\d+ \.\. 0\.\d+\n$", out)
    status, out, err = hasten("apply", "m.safetensors", "a.npy", "-o", "y.npy")
    assert (status, out, err) == (0, "y.npy: 600 rows of 5 outputs\n", "")
    products = np.load("y.npy")
    assert products.dtype == np.float32
    assert np.array_equal(products, load("m.safetensors").matmul(ROWS))
    assert 0 < nmse(ROWS @ DATA.factor, products) < 0.5


@pytest.mark.usefixtures("files")
def test_fit_reports_the_error_of_what_it_saves(hasten: Hasten) -> None:
    words = ("fit", "a.npy", "b.npy", "--out", "m.safetensors", "--ncodebooks", "6", "--seed", "3", "--held-out", "0.5")
    _, out, _ = hasten(*words, "--json")
    said = json.loads(out)
    data = data_of("fit", Path("a.npy"), Path("b.npy"), None, 0.5, 3)
    assert (said["learned"], said["tested"]) == (len(data.learn), len(data.test)) == (300, 300)
    exact = exact_product(data.test, data.factor)
    assert said["nmse"] == pytest.approx(nmse(exact, load("m.safetensors").matmul(data.test)), rel=1e-12)
    low, high = said["nmse_interval"]
    assert low < said["nmse"] < high
    assert hasten(*words, "--json", "--force")[1] == out  # the same seed, the same numbers


@pytest.mark.usefixtures("files")
def test_fit_passes_its_options_on(hasten: Hasten) -> None:
    words = "--leaves 32 --split-metric input --ridge cv --accumulate avg --candidates 2 --test a.npy --ncodebooks 3"
    status, out, err = hasten("fit", "a.npy", "b.npy", "--out", "m.safetensors", *shlex.split(words))
    assert (status, err) == (0, "")
    assert "learned from 600 rows" in out
    assert "on 600 other rows" in out
    model = load("m.safetensors")
    assert model.get_params() == Maddness(
        3, leaves=32, split_metric="input", ridge="cv", accumulate="avg", n_candidates=2, random_state=0
    ).get_params()  # fmt: skip


@pytest.mark.usefixtures("files")
def test_apply_takes_what_is_strange_and_says_so(hasten: Hasten, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hasten.cli.matmul_fit.BLOCK", 24 * 100)  # several blocks
    hasten("fit", "a.npy", "b.npy", "--out", "m.safetensors", "--ncodebooks", "6")
    rows = ROWS[:333].copy()
    rows[[5, 300], 2] = np.nan, np.inf
    np.save("odd.npy", rows)
    status, out, err = hasten("apply", "m.safetensors", "odd.npy", "--out", "y.npy", "--threads", "2")
    assert (status, out) == (0, "y.npy: 333 rows of 5 outputs\n")
    assert err == "odd.npy: 2 rows hold NaN or infinity; their products mean nothing\n"
    assert np.array_equal(np.load("y.npy"), load("m.safetensors").matmul(rows))
    np.save("none.npy", ROWS[:0])
    assert hasten("apply", "m.safetensors", "none.npy", "--out", "z.npy")[0] == 0
    assert np.load("z.npy").shape == (0, 5)
    np.save("half.npy", ROWS[:7].astype(np.float16))
    assert hasten("apply", "m.safetensors", "half.npy", "--out", "z.npy", "--force")[0] == 0
    assert np.load("z.npy").shape == (7, 5)


# What is refused ------------------------------------------------------------------------------------------------------


BAD = [
    ("fit none.npy b.npy", "a file that can be read, none.npy, got No such file"),
    ("fit text.npy b.npy", "a NumPy file (.npy), text.npy, got another kind of file"),
    ("fit objects.npy b.npy", "numbers in a NumPy file, objects.npy, got objects, which are pickled"),
    ("fit cut.npy b.npy", "numbers in a NumPy file, cut.npy, got a damaged one"),
    ("fit wide.npy b.npy", "float32, float16, int8 or uint8 in wide.npy, got shape (600, 24) and dtype float64"),
    ("fit flat.npy b.npy", "rows in flat.npy, (N, D), got shape (600,)"),
    ("fit nan.npy b.npy", "finite numbers in nan.npy, got NaN or infinity in row 17. Leave such rows out."),
    (
        "fit a.npy nan.npy",
        "24 rows in nan.npy, as a.npy has columns, got shape (600, 24) and dtype float32. Write numpy",
    ),
    ("fit a.npy turned.npy", "Write numpy.save('turned.npy', array.T)"),
    ("fit a.npy huge.npy", "numbers within float32 in huge.npy"),
    ("fit a.npy whole.npy", "floats in whole.npy, got shape (24, 5) and dtype int64"),
    ("fit a.npy badb.npy", "finite numbers in badb.npy, got NaN or infinity in row 0"),
    ("fit a.npy zero.npy", "products that differ"),
    ("fit few.npy b.npy", "at least 4 rows in few.npy, two of them to test on, got 3, 1 to test on"),
    ("fit empty.npy b.npy", "at least one row in empty.npy"),
    ("fit a.npy b.npy --ncodebooks 25", "--ncodebooks of at most 24, the columns of a.npy, got 25"),
    ("fit a.npy b.npy --ncodebooks 0", "a whole number of at least 1 for ncodebooks"),
    ("fit a.npy b.npy --leaves 17", "leaves among (16, 32, 64), got 17"),
    ("fit a.npy b.npy --ridge none", 'ridge to be a number or "cv"'),
    ("fit a.npy b.npy --held-out 1", "--held-out between 0 and 1, got 1"),
    ("fit a.npy b.npy --seed -1", "for random_state"),
    ("fit a.npy b.npy --test b.npy", "24 columns in b.npy, got shape (24, 5)"),
    ("fit a.npy b.npy --split-metric middle", "split-metric"),
    ("bench a.npy", "A.npy and B.npy, or --shape, got a.npy alone"),
    ("bench", "A.npy and B.npy, or --shape, got none"),
    ("bench a.npy b.npy --shape 10,2,3", "files or --shape, got both"),
    ("bench nan.npy b.npy", "finite numbers in nan.npy"),
    ("bench a.npy zero.npy", "products that differ"),
    ("bench --shape 10,2", "--shape as N,D,M, got '10,2'"),
    ("bench --shape 3,2,2", "--shape with at least 4 rows"),
    ("bench --shape 10,2,x", "--shape as N,D,M"),
    ("bench a.npy b.npy --methods float32,madness", "got 'madness'. Did you mean maddness?"),
    ("bench a.npy b.npy --ncodebooks 8,25", "--ncodebooks of at most 24, the columns of A, got 25"),
    ("bench a.npy b.npy --ncodebooks 8,", "--ncodebooks as whole numbers with commas between"),
    ("bench a.npy b.npy --components 25", "--components of at most 24"),
    ("bench a.npy b.npy --leaves 8", "--leaves among 16, 32, 64, got 8"),
    ("bench a.npy b.npy --rounds 5", "--rounds of at least 6"),
    ("bench a.npy b.npy --threads 0", "--threads of at least 1"),
    ("bench a.npy b.npy --seed -1", "--seed of at least 0"),
    ("bench a.npy b.npy --out a.npy", "a folder for --out, got the file a.npy"),
]


@pytest.fixture
def bad(files: None) -> None:
    nan = ROWS.copy()
    nan[17, 3] = np.nan
    Path("text.npy").write_text("1 2 3")
    np.save("objects.npy", np.array([{}], object))
    Path("cut.npy").write_bytes(Path("a.npy").read_bytes()[:-9])
    made = {
        "wide": ROWS.astype(np.float64), "flat": ROWS[:, 0], "nan": nan, "turned": DATA.factor.T, "few": ROWS[:3],
        "huge": DATA.factor.astype(np.float64) * 1e40, "whole": np.ones((24, 5), np.int64), "empty": ROWS[:0],
        "zero": np.zeros_like(DATA.factor), "badb": DATA.factor * np.float32(np.inf),
    }  # fmt: skip
    for name, array in made.items():
        np.save(f"{name}.npy", array)


@pytest.mark.usefixtures("bad")
def test_wrong_commands_are_refused_in_a_line(hasten: Hasten) -> None:
    before = names()
    for words, said in BAD:
        out = ("--out", "m.safetensors") if words.startswith("fit") else ()
        status, printed, err = hasten(*words.split(), *out)
        assert status == 2, words
        assert said in (printed + err), (words, err)
        if "split-metric" not in words:  # that one is cyclopts's
            assert err.startswith("hasten: matmul ")
            assert err.count("\n") == 1
            assert printed == ""
    assert names() == before


@pytest.mark.usefixtures("files")
def test_files_are_not_replaced_unasked(hasten: Hasten) -> None:
    words = ("fit", "a.npy", "b.npy", "--ncodebooks", "3", "--out")
    assert hasten(*words, "m.safetensors")[0] == 0
    status, _, err = hasten(*words, "m.safetensors")
    assert status == 2
    assert "a new file, got m.safetensors, which is there. Pass --force" in err
    assert hasten(*words, "m.safetensors", "--force")[0] == 0
    for out in ("nowhere/m.safetensors", "."):
        assert hasten(*words, out)[0] == 2
    status, _, err = hasten("apply", "m.safetensors", "a.npy", "--out", "b.npy")
    assert status == 2
    assert np.array_equal(np.load("b.npy"), DATA.factor)


@pytest.mark.usefixtures("files")
def test_apply_refuses(hasten: Hasten) -> None:
    hasten("fit", "a.npy", "b.npy", "--ncodebooks", "3", "--out", "m.safetensors")
    np.save("narrow.npy", ROWS[:, :7].copy())
    Path("cut.safetensors").write_bytes(Path("m.safetensors").read_bytes()[:-1])
    Maddness(3).fit(ROWS).save("without.safetensors")
    for words, status, said in (
        ("none.safetensors a.npy", 2, "a file that can be read, none.safetensors"),
        ("a.npy a.npy", 1, "a.npy: load: expected a safetensors file"),
        ("cut.safetensors a.npy", 1, "cut.safetensors: load: expected"),
        ("without.safetensors a.npy", 1, "without.safetensors: expected tables to multiply with"),
        ("m.safetensors narrow.npy", 2, "24 columns in narrow.npy, got shape (600, 7)"),
        ("m.safetensors a.npy --threads 0", 2, "--threads of at least 1"),
    ):
        found, out, err = hasten("apply", *words.split(), "--out", "y.npy")
        assert (found, out) == (status, ""), words
        assert said in err
    assert "y.npy" not in names()


# Compare --------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("files")
def test_bench_as_a_table_and_a_picture(hasten: Hasten) -> None:
    status, out, err = hasten("bench", "a.npy", "b.npy", *SMALL, "--out", "found")
    assert (status, err) == (0, "")
    assert out.startswith("a.npy: 300 rows, 24 columns to 5 outputs; learned from 300 others; 1 thread, ")
    for name in ("float32", "bfloat16", "int8 from float32", "PCA d=2", "SVD d=2", "PQ C=4", "Bolt C=4"):
        assert re.search(rf"^{re.escape(name)}( \*)? ", out, flags=re.M), name
    assert re.search(r"^MADDNESS C=4 K=16( \*)?  .* K?i?B$", out, flags=re.M)
    assert "Faster than all exact products here: " in out
    assert out.endswith("wrote found/matmul.jsonl\nwrote found/matmul.svg\n")
    svg = Path("found/matmul.svg").read_text(encoding="utf-8")
    assert svg.startswith("<svg")
    assert "MADDNESS K=16" in svg
    assert "http" not in svg.replace("http://www.w3.org", "")  # nothing is fetched
    lines = lines_of(Path("found/matmul.jsonl").read_text(encoding="utf-8"))
    assert len(lines) == 10
    hasten("bench", "a.npy", "b.npy", *SMALL, "--methods", "float32", "--out", "found")
    assert len(lines_of(Path("found/matmul.jsonl").read_text(encoding="utf-8"))) == 1


@pytest.mark.usefixtures("files")
def test_bench_as_json(hasten: Hasten) -> None:
    words = ("--methods", "all", "--leaves", "16,64", *SMALL[:2], *SMALL[4:], "--accumulate", "avg", "--json")
    status, out, err = hasten("bench", "a.npy", "b.npy", *words)
    assert (status, err) == (0, "")
    found = {line["method"]: line for line in lines_of(out)}
    assert {line["family"] for line in found.values()} == set(matmul_methods.ALL)
    assert {"MADDNESS C=4 K=16", "MADDNESS C=4 K=64", "OPQ C=4", "FastJL d=2", "CountSketch d=2"} <= set(found)
    for line in found.values():
        assert (line["rows"], line["columns"], line["outputs"], line["learned"]) == (300, 24, 5, 300)
        assert line["nmse_interval"][0] <= line["nmse"] <= line["nmse_interval"][1]
        assert line["ms_interval"][0] <= line["ms"] <= line["ms_interval"][1]
        assert line["speedup_interval"][0] <= line["speedup"] <= line["speedup_interval"][1]
        assert 1 <= line["place"][0] <= line["place"][1] <= len(found)
        assert len(line["runs"]) == 6
        assert line["table_bytes"] > 0
    assert found["float32"]["speedup_interval"] == [1.0, 1.0]
    errors = {name: line["nmse"] for name, line in found.items()}
    assert errors["float32"] < 1e-12 < errors["bfloat16"] < 1e-4
    assert errors["bfloat16"] == errors["bfloat16 from float32"]
    assert 1e-12 < errors["int8"] == errors["int8 from float32"] < 1e-3
    assert 1e-3 < errors["PQ C=4"] < errors["MADDNESS C=4 K=16"] < 1
    assert errors["SVD d=2"] < errors["PCA d=2"] < 1


@pytest.mark.usefixtures("files")
def test_bench_multiplies_what_it_says(hasten: Hasten) -> None:
    """The errors are those of the estimators on these halves."""
    _, out, _ = hasten("bench", "a.npy", "b.npy", "--methods", "maddness", *SMALL, "--seed", "5", "--json")
    data = data_of("bench", Path("a.npy"), Path("b.npy"), None, 0.5, 5)
    model = Maddness(4, split_metric="output", random_state=5).fit(data.learn, data.factor)
    expected = nmse(exact_product(data.test, data.factor), model.matmul(data.test))
    assert lines_of(out)[1]["nmse"] == pytest.approx(expected, rel=1e-12)


def test_bench_on_invented_numbers_and_other_dtypes(hasten: Hasten) -> None:
    words = ("--methods", "maddness,float32", *SMALL, "--json")
    _, out, _ = hasten("bench", "--shape", "101,9,1", *words)
    assert [(line["method"], line["rows"], line["learned"]) for line in lines_of(out)] == [
        ("float32", 50, 51), ("MADDNESS C=4 K=16", 50, 51)
    ]  # fmt: skip
    whole = np.random.default_rng(0).integers(-99, 99, (100, 9)).astype(np.int8)
    np.save("a.npy", whole)
    np.save("b.npy", np.ones((9, 2)))
    status, out, _ = hasten("bench", "a.npy", "b.npy", "--test", "a.npy", *words)
    assert status == 0
    assert lines_of(out)[1]["rows"] == lines_of(out)[1]["learned"] == 100


def test_bench_tells_what_a_method_refuses(hasten: Hasten) -> None:
    np.save("a.npy", ROWS * np.float32(1e16))
    np.save("b.npy", DATA.factor)
    status, out, _ = hasten("bench", "a.npy", "b.npy", "--methods", "pq,maddness", *SMALL, "--out", "found")
    assert status == 0
    assert "PQ C=4: refuses this: PQ.fit: expected A of magnitude at most 1e+15" in out
    assert "MADDNESS C=4 K=16" in out
    assert lines_of(Path("found/matmul.jsonl").read_text())[1]["problem"].startswith("refuses this")


def test_sizes_fit_the_matrix(hasten: Hasten) -> None:
    asked = matmul_bench.Asked(None, None, None, None, "exact", 1, 6, 0)
    for shape, ncodebooks, components in (("8,12,100", [8], [4, 8]), ("8,64,4", [8, 16, 32], [1]), ("8,3,9", [3], [1])):
        settings = matmul_bench._settings(asked, invented("bench", shape, 0))
        assert (settings.ncodebooks, settings.components) == (ncodebooks, components)


def test_threads_are_put_back(hasten: Hasten) -> None:
    before = torch.get_num_threads()
    assert hasten("bench", "--shape", "64,8,3", "--methods", "maddness", *SMALL, "--threads", "2")[0] == 0
    assert torch.get_num_threads() == before


def test_progress_is_for_terminals(hasten: Hasten, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    _, _, err = hasten("bench", "--shape", "64,8,3", "--methods", "float32", *SMALL)
    assert "learning float32 ..." in err
    assert "round 6 of 6 ..." in err
    assert err.endswith("\r\x1b[K")


# Numbers --------------------------------------------------------------------------------------------------------------


def test_the_error_is_that_of_the_library() -> None:
    rng = np.random.default_rng(0)
    exact, found = rng.normal(2.0, 1.0, (300, 4)), rng.normal(2.0, 1.0, (300, 4))
    [(value, low, high)] = nmse_and_intervals(by_row(exact, found)[None], spread(exact))
    assert value == pytest.approx(nmse(exact, found), rel=1e-12)
    assert low < value < high
    assert exact_product(DATA.test[:0], DATA.factor).shape == (0, 5)


def test_the_interval_of_the_error_covers() -> None:
    """Of 120 samples of rows about 114 intervals hold the true ratio; 3.5 standard deviations are allowed."""
    held, ratio = 0, 0.5 / 2.0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        spreads = rng.exponential(2.0, 100)
        errors = 0.25 * spreads * rng.uniform(0.5, 1.5, 100)
        [(_, low, high)] = nmse_and_intervals(errors[None], spreads, seed)
        held += low <= ratio <= high
    assert 105 <= held < 120


def test_methods_take_turns() -> None:
    said: list[str] = []
    take_turns([lambda: said.append("a"), lambda: said.append("b")], 3, clock=lambda: 0.0)
    assert "".join(said) == "aabb" + "ab" + "ba" + "ab"


def test_places_and_what_beats_what() -> None:
    assert places([(1, 3), (2, 5), (4, 6), (7, 8)]) == [(1, 2), (1, 3), (2, 3), (4, 4)]
    assert places([(1, 2), (2, 3)]) == [(1, 2), (1, 2)]

    def result(name: str, ms: tuple[float, float], error: tuple[float, float]) -> Result:
        return Result(name, name, name, "", ms_interval=ms, nmse_interval=error)

    good = result("good", (1, 2), (0.1, 0.2))
    worse, tie = result("worse", (3, 4), (0.3, 0.4)), result("tie", (3, 4), (0.2, 0.4))
    exact = result("exact", (9, 9), (0.0, 0.0))
    every = [good, worse, tie, exact]
    assert [beaten_by(each, every) for each in every] == [(), ("good",), (), ()]


def test_points_of_the_picture() -> None:
    made = [
        Result("float32", "float32", "float32", "", nmse=1e-14, speedup=1.0),
        Result("SVD d=5", "svd", "SVD", "d=5", nmse=1e-14, nmse_interval=(0.0, 1e-13), speedup=2.0),
        Result("MADDNESS C=8 K=64", "maddness", "MADDNESS", "C=8 K=64", nmse=0.1, nmse_interval=(0.05, 0.2)),
        Result("PQ C=8", "pq", "PQ", "C=8", problem="refuses this"),
    ]
    found = matmul_picture.points(made)
    assert [(point["arm"], point["label"]) for point in found] == [("SVD", "5"), ("MADDNESS K=64", "8")]
    assert found[0]["nmse"] == found[0]["low"] == found[0]["high"] == matmul_picture.LOWEST


# The guide ------------------------------------------------------------------------------------------------------------


def test_the_commands_of_the_guide_run(hasten: Hasten) -> None:
    """In order, after the block of Python that writes their files."""
    text = GUIDE.read_text(encoding="utf-8")
    first = re.search(r"^```python\n(.*?)^```$", text, flags=re.M | re.S)
    assert first is not None
    exec(compile(first[1], GUIDE.name, "exec"), {})
    commands = re.findall(r"^\$ hasten matmul (.+)$", text, flags=re.M)
    assert len(commands) >= 4
    for command in commands:
        words = shlex.split(command)
        if words[0] == "bench" and "--ncodebooks" not in words:
            words += ["--ncodebooks", "8", "--leaves", "16"]  # the same with fewer sizes
        status, _, err = hasten(*words)
        assert (status, err) == (0, ""), command
    assert {"bench", "layer.safetensors", "products.npy"} <= names()
