"""Every example runs from a folder of its own, as a reader would run it, prints a result, and stands in the gallery.

The gallery (docs/gallery.md) shows what an example printed. A comment before the block says how it is compared:

    <!-- prints: examples/05_own_logs.py -->         the same to the letter
    <!-- prints-like: examples/01_own_loop.py -->    the same words; numbers differ from machine to machine
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import hasten

ROOT = Path(__file__).parents[1]
EXAMPLES = {
    path.relative_to(ROOT / "examples").with_suffix("").as_posix(): path
    for path in sorted((ROOT / "examples").rglob("*.py"))
}
PRINTS = {  # what a reader is after, in each example's output
    "01_own_loop": r"averaged weights: 0\.\d+",
    "02_compare": r"blur: not proven \(n = 2\)[\s\S]*report\.html",
    "03_own_workload": r"^ema ",
    "04_write_a_method": r"^noise ",
    "05_own_logs": r"new pays at [\s\S]*times as fast",
    "06_flash_optimizer": r"^FlashAdamW: 7\.13 bytes [\s\S]*^FlashAdamW, released: 5\.[\s\S]*^total .* 5\.1258 per",
    # The first point of a cyclic curve is a separate run, and a branch curve shares its trunk.
    "bench/01_branch_curves": r"separate .* 517 steps\n  branch .* 354 steps\n  cyclic +0\.\d+ \+0\.000 .* 320 steps",
    # What was put in: smooth and mix overlap by 0.010.
    "bench/02_how_methods_combine": r"^  smooth\+mix +100%[\s\S]*pair +smooth and mix +-0\.0107 \[-0\.0136, -0\.0078\]",
    "bench/03_does_it_survive": r"^activation +SiLU instead of ReLU \(2\)[\s\S]*^ema: not proven .* nothing to confirm",
    # One large win decides the mean and not the interquartile mean; one miss makes the geometric mean 0.
    "bench/04_many_workloads": r"^lucky +speedup 1\.15, without extremes 0\.96[\s\S]*^fragile +speedup 0\.00",
    "bench/05_share_studies": r"-2\.html\nboth: seeds \[0, 1, 2, 3\], complete\nboth\.zip: the same verdicts",
    "bench/06_memory": r"^ema: .* hooks 71,[\s\S]*^microbatches of 64: 102 KiB .*\nmicrobatches of 16: 26 KiB",
    "bench/07_schedule_in_seconds": r"^\d\.\d\d s, update \d+: rate 0\.000, accuracy [01]\.\d+\n\d+ rates",
}
LONG = {  # whole studies, run among the longer tests: the test file named here covers what they show
    "bench/01_branch_curves": "bench/test_curves.py",
    "bench/03_does_it_survive": "bench/test_robustness.py",
    "bench/05_share_studies": "bench/test_merge.py",
}
NAMES = [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in EXAMPLES]
HASTEN = "import sys; from hasten.cli import main; sys.exit(main())"
SHOWN = re.compile(r"^<!-- (prints|prints-like): examples/(\S+)\.py -->\n```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)

Run = subprocess.CompletedProcess[str]


def run(arguments: list[str], folder: Path) -> Run:
    """A fresh Python in `folder` that finds the package under test, installed or not."""
    path = os.pathsep.join([str(Path(hasten.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path.strip(os.pathsep), "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, encoding="utf-8", timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def example(tmp_path_factory) -> Callable[[str], Run]:
    """Run an example by name, each once."""
    pytest.importorskip("sklearn", reason="needs the extra bench")

    @functools.cache
    def once(name: str) -> Run:
        return run([str(EXAMPLES[name])], tmp_path_factory.mktemp("example"))

    return once


def test_every_example_is_known_here():
    assert list(EXAMPLES) == list(PRINTS)


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_and_prints_a_result(name, example):
    done = example(name)
    assert done.returncode == 0, done.stderr
    assert re.search(PRINTS[name], done.stdout, flags=re.MULTILINE), done.stdout
    assert "Warning" not in done.stderr


@pytest.mark.slow  # cli/test_compare.py runs a workload file in the default run
@pytest.mark.parametrize("name", ["03_own_workload", "04_write_a_method"])
def test_a_workload_file_works_on_the_command_line(name, tmp_path):
    pytest.importorskip("cyclopts", reason="needs the extra bench")
    done = run(
        ["-c", HASTEN, "compare", str(EXAMPLES[name]), "--seeds", "1", "--duration", "1ep", "--points", "1"], tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{name}: base, ")
    assert len(list(tmp_path.glob("runs/*/report.html"))) == 1


def test_own_logs_give_the_same_answer_on_the_command_line(tmp_path):
    pytest.importorskip("cyclopts", reason="needs the extra bench")
    own = run([str(ROOT / "examples/05_own_logs.py")], tmp_path).stdout.splitlines()[0]
    table = run(["-c", HASTEN, "compare", "--from", "runs.csv"], tmp_path).stdout
    sentence = own.removeprefix("new ")
    assert " ".join(sentence.split()).lower() in " ".join(table.split()).lower()


# The gallery ----------------------------------------------------------------------------------------------------------


def gallery() -> str:
    return (ROOT / "docs/gallery.md").read_text(encoding="utf-8")


def words_of(text: str) -> list[str]:
    """The words of an output without what differs from run to run: numbers, bounds, and runs that were repeated."""
    text = re.sub(r"(runs finished): .*", r"\1", text)
    text = re.sub(r"([<>≤≥] )?[+\u2212-]?\d[\d.]*|\bunknown\b", "#", text)
    return text.split()


def test_the_gallery_shows_every_example_in_order():
    text = gallery()
    assert re.findall(r"literalinclude:: \.\./examples/(\S+)\.py\n", text) == list(EXAMPLES)
    assert [name for _, name, _ in SHOWN.findall(text)] == list(EXAMPLES)


@pytest.mark.parametrize("name", NAMES)
def test_the_gallery_shows_what_it_prints(name, example):
    (how, shown), *_ = [(how, shown) for how, other, shown in SHOWN.findall(gallery()) if other == name]
    printed = example(name).stdout
    if how == "prints":
        assert printed.rstrip() == shown.rstrip()
    else:
        assert words_of(printed) == words_of(shown)


def test_words_of_an_output():
    one = "blur   ○ ≥ \u22120.101  ○ unknown\n- 4 of 4 runs finished: 2 drifted, 1 of them repeated\n- n = 2"
    other = "blur ○ +0.1 ○ 1.25\n- 4 of 4 runs finished\n- n = 2"
    assert words_of(one) == words_of(other)
    assert words_of(one) != words_of(other.replace("○", "▲"))


def test_pictures_are_small():
    pictures = re.findall(r"\]\((images/\S+)\)", gallery())
    assert pictures
    for picture in pictures:
        assert (ROOT / "docs" / picture).stat().st_size < 60_000, picture
