"""`hasten new workload`: writes a file that runs, never over another."""

from __future__ import annotations

from pathlib import Path

import pytest

from hasten.bench.workloads import load, probe
from hasten.cli import UsageError
from hasten.cli.new import new


def test_the_file_is_a_workload(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.py"
    assert new("workload", path) == 0
    assert f"hasten compare {path}" in capsys.readouterr().out
    workload = load(path)
    assert workload.name == "mine"
    assert "float_inputs" in probe(workload)


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("precious")
    with pytest.raises(UsageError, match="never overwritten"):
        new("workload", path)
    assert path.read_text() == "precious"


def test_only_workloads_can_be_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected 'workload'"):
        new("method", tmp_path / "x.py")
    assert not (tmp_path / "x.py").exists()
