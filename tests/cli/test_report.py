"""`hasten report`: the page of a study on disk, and its data as CSV, JSON and pictures."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from tests.bench.inline import inline

from hasten.bench.study import plan_study, run_study
from hasten.cli import main
from hasten.methods import label_smoothing

pytestmark = pytest.mark.usefixtures("figures_once")
WORKLOAD = Path(__file__).parents[1] / "contract" / "images.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "study"
    plan = plan_study(WORKLOAD, {"base": [], "soft": [label_smoothing()]}, seeds=1, points=2)
    with inline():
        run_study(plan, out=out, workers=1, quiet=True, retry_drifted=False)
    return out


def test_the_page_goes_into_the_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder / 'report.html'}\n"
    assert "soft" in (folder / "report.html").read_text(encoding="utf-8")


def test_every_file_is_named_as_it_is_written(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, table, data, charts = (tmp_path / name for name in ("p.html", "t.csv", "d.json", "charts"))
    words = ["--out", page, "--csv", table, "--json", data, "--charts", charts, "--margin", "0.1"]
    assert main(["report", str(folder), *map(str, words)]) == 0
    named = capsys.readouterr().out.splitlines()
    assert named[:3] == [str(page), str(table), str(data)]
    assert named[3:]
    assert all(Path(name).is_file() for name in named)
    assert {Path(name).suffix for name in named[3:]} == {".png", ".svg"}
    with table.open(encoding="utf-8") as file:
        assert {row["arm"] for row in csv.DictReader(file)} == {"base", "soft"}
    assert json.loads(data.read_text(encoding="utf-8"))["study"]["curve"] == "cyclic"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["absent"], "absent: expected a study, found no study.sqlite. Pass the folder of a study."),
        (["."], "expected a study, found no study.sqlite"),
        (["FOLDER", "--margin", "-1"], "margin >= 0"),
    ],
)
def test_usage_errors(
    words: list[str], told: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", *(str(folder) if word == "FOLDER" else word for word in words)]) == 2
    assert told in capsys.readouterr().err


def test_a_file_that_is_no_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "study.sqlite").write_text("no database at all, and long enough to be looked at " * 10)
    assert main(["report", str(tmp_path)]) == 2
    assert "file is not a database" in capsys.readouterr().err


# Several studies ------------------------------------------------------------------------------------------------------

GOLDEN = Path(__file__).parents[1] / "golden"


def test_several_studies_make_one_page(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["report", str(folder), str(GOLDEN / "report-version-1.json")]
    assert main(words) == 0
    assert main([*words, "--out", "other.html"]) == 0
    assert capsys.readouterr().out == "studies.html\nother.html\n"
    assert (tmp_path / "studies.html").read_bytes() == (tmp_path / "other.html").read_bytes()
    assert "2 studies: images and tiny" in (tmp_path / "studies.html").read_text(encoding="utf-8")


def test_a_report_as_json_goes_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "study.json"
    data.write_bytes((GOLDEN / "report-version-1.json").read_bytes())
    assert main(["report", str(data), "--csv", str(tmp_path / "points.csv")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'study.html'}\n{tmp_path / 'points.csv'}\n"


def test_publishing_says_what_it_did(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = tmp_path / "site"
    assert main(["report", str(folder), str(GOLDEN / "report-version-1.json"), "--publish", str(site)]) == 0
    named = [Path(line).name for line in capsys.readouterr().out.splitlines()]
    assert named == [
        "index.html", *(f"{name}.{kind}" for name in ("images", "tiny") for kind in ("html", "json", "csv"))
    ]  # fmt: skip
    (site / "tiny.csv").write_text("changed")
    assert main(["report", str(folder), "--publish", str(site)]) == 0
    err = capsys.readouterr().err
    assert f"removed {site / 'tiny.html'}\n" in err
    assert f"kept {site / 'tiny.csv'}: of an earlier time, and changed since\n" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "expected the folder of a study. For example: hasten report runs/demo"),
        (["OLD", "OLD"], "different studies, got tiny: base, smooth twice"),
        (["OLD", "FOLDER", "--csv", "x.csv"], "no --csv beside several studies, use --publish"),
        (["OLD", "--publish", "site", "--out", "x.html"], "no --out beside --publish"),
        (["OLD", "--margin", "0.1"], "whose analysis is done"),
        (["text"], "the folder of a study or its archive (.zip)"),
        (["OLD", "--publish", "taken"], "a folder without index.html"),
    ],
)
def test_usage_errors_with_several(
    words: list[str], told: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text").write_text("text")
    Path("taken").mkdir()
    Path("taken/index.html").write_text("mine")
    names = {"OLD": str(GOLDEN / "report-version-1.json"), "FOLDER": str(folder)}
    assert main(["report", *(names.get(word, word) for word in words)]) == 2
    assert told in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"text", "taken"}
