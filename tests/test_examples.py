"""Every example runs from a folder of its own, as a reader would run it, and prints a result."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hasten

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PRINTS = {  # what a reader is after, in each example's output
    "01_own_loop": r"averaged weights: 0\.\d+",
    "02_compare": r"blur: not proven \(n = 2\)[\s\S]*report\.html",
    "03_own_workload": r"^ema ",
    "04_write_a_method": r"^noise ",
    "05_own_logs": r"new pays at [\s\S]*times as fast",
}
HASTEN = "import sys; from hasten.cli import main; sys.exit(main())"


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """A fresh Python in `folder` that finds the package under test, installed or not."""
    path = os.pathsep.join([str(Path(hasten.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path.strip(os.pathsep), "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=300, check=False,
    )  # fmt: skip


def test_every_example_is_known_here():
    assert [path.stem for path in EXAMPLES] == sorted(PRINTS)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_runs_and_prints_a_result(path, tmp_path):
    pytest.importorskip("sklearn", reason="needs the extra bench")
    done = run([str(path)], tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(PRINTS[path.stem], done.stdout, flags=re.MULTILINE), done.stdout
    assert "Warning" not in done.stderr


@pytest.mark.parametrize("name", ["03_own_workload", "04_write_a_method"])
def test_a_workload_file_works_on_the_command_line(name, tmp_path):
    pytest.importorskip("cyclopts", reason="needs the extra bench")
    file = str(ROOT / "examples" / f"{name}.py")
    done = run(["-c", HASTEN, "compare", file, "--seeds", "1", "--duration", "1ep", "--points", "1"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{name}: base, ")
    assert len(list(tmp_path.glob("runs/*/report.html"))) == 1


def test_own_logs_give_the_same_answer_on_the_command_line(tmp_path):
    pytest.importorskip("cyclopts", reason="needs the extra bench")
    example = run([str(ROOT / "examples/05_own_logs.py")], tmp_path).stdout.splitlines()[0]
    table = run(["-c", HASTEN, "compare", "--from", "runs.csv"], tmp_path).stdout
    sentence = example.removeprefix("new ")
    assert " ".join(sentence.split()).lower() in " ".join(table.split()).lower()
