"""`hasten report`: the page of a study on disk, and its data as CSV, JSON and pictures."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from hasten.bench.study import plan_study, run_study
from hasten.cli import main
from hasten.methods import label_smoothing

WORKLOAD = Path(__file__).parents[1] / "contract" / "images.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "study"
    plan = plan_study(WORKLOAD, {"base": [], "soft": [label_smoothing()]}, seeds=1, points=2)
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
