"""`hasten new workload`: an example that works as it stands, and that never takes the place of a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hasten.bench.plan import make_plan
from hasten.bench.workloads import load
from hasten.cli import main
from hasten.methods import label_smoothing


def test_it_writes_a_workload_that_can_be_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "workload"]) == 0
    assert capsys.readouterr().out == (
        "my_workload.py: edit its four functions, then: hasten compare my_workload.py --arms base,label_smoothing\n"
    )
    plan = make_plan(load("my_workload.py"), {"base": [], "soft": [label_smoothing()]})
    assert plan.workload.target is not None
    assert len(plan.jobs()) == 10


def test_its_text_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "workload", "spirals.py"]) == 0
    assert "hasten compare spirals.py --arms" in (tmp_path / "spirals.py").read_text()


def test_a_file_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.py"
    path.write_text("precious")
    assert main(["new", "workload", str(path)]) == 2
    assert path.read_text() == "precious"
    assert "mine.py exists; it is never overwritten. Pass another name." in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="symbolic links need rights elsewhere")
def test_not_even_through_a_link_to_nowhere(tmp_path: Path) -> None:
    (tmp_path / "link.py").symlink_to(tmp_path / "target.py")
    assert main(["new", "workload", str(tmp_path / "link.py")]) == 2
    assert not (tmp_path / "target.py").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["study"], "new: expected 'workload', got 'study'."),
        (["workload", "mine.txt"], "new: expected a name that ends in .py, got 'mine.txt'."),
        (["workload", "absent/mine.py"], "new: expected a folder that exists, got 'absent'."),
    ],
)
def test_usage_errors(
    words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", *words]) == 2
    assert told in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
