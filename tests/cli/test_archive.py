"""`hasten archive`: there and back."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.bench.made import make

from hasten.bench.study import open_study, plan_study
from hasten.cli import main
from hasten.methods import label_smoothing

pytestmark = pytest.mark.usefixtures("figures_once")
TINY = Path(__file__).parents[1] / "bench" / "tiny.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plan = plan_study(TINY, {"base": [], "smooth": [label_smoothing(0.1)]}, seeds=2)
    return make(tmp_path_factory.mktemp("archive") / "study", plan)


def test_there_and_back(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed, back = tmp_path / "study.zip", tmp_path / "back"
    assert main(["archive", str(folder), "--out", str(packed)]) == 0
    assert main(["archive", str(packed), "--extract", str(back)]) == 0
    assert main(["report", str(packed)]) == 0
    assert capsys.readouterr().out == f"{packed}\n{back}\n{packed.with_suffix('.html')}\n"
    assert open_study(back).verdicts() == open_study(folder).verdicts()


def test_the_file_lies_beside_the_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["archive", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder.resolve().with_name('study.zip')}\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["absent"], "found no study.sqlite"),
        (["FOLDER", "--out", "a.zip", "--extract", "b"], "--out or --extract, got both"),
        (["FOLDER", "--extract", "b"], "the folder of a study or its archive (.zip)"),
        (["text", "--extract", "b"], "the folder of a study or its archive (.zip)"),
        (["FOLDER", "--out", "text"], "a new file, or an archive of a study"),
    ],
)
def test_usage_errors(
    words: list[str], told: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text").write_text("text")
    assert main(["archive", *(str(folder) if word == "FOLDER" else word for word in words)]) == 2
    assert told in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"text"}
