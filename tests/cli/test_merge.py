"""`hasten merge`: what it says, and how it fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.bench.made import MACHINE, make
from tests.bench.test_merge import change

from hasten.bench.study import open_study, plan_study
from hasten.cli import main
from hasten.methods import label_smoothing

TINY = Path(__file__).parents[1] / "bench" / "tiny.py"


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the halves "a" and "b", "b" on another machine as "mac", and "a" with another result as "odd"."""
    folder = tmp_path_factory.mktemp("parts")
    plans = {
        seeds: plan_study(TINY, {"base": [], "smooth": [label_smoothing(0.1)]}, seeds=list(seeds))
        for seeds in ((0, 1), (2, 3))
    }
    make(folder / "a", plans[0, 1])
    make(folder / "b", plans[2, 3])
    make(folder / "mac", plans[2, 3], machine={**MACHINE, "processor": "Slide rule"})
    change(make(folder / "odd", plans[0, 1], pace=2.0), metric=0.1)
    return folder


def test_it_names_the_new_study_and_says_what_is_in_it(
    parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "both"
    assert main(["merge", str(parts / "a"), str(parts / "b"), "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert said.out == f"{out}\n"
    assert said.err.startswith("8 runs of 4 seeds, complete\n- Merged from 2 studies: seeds 0, 1 (begun ")
    study = open_study(out)
    assert study.data["study"]["seeds"] == [0, 1, 2, 3]
    assert study.data["study"]["command"].startswith("hasten merge ")


def test_different_machines_need_to_be_allowed(parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["merge", str(parts / "a"), str(parts / "mac"), "--out", str(tmp_path / "both")]
    assert main(words) == 2
    assert "processor Slide rule (not Abacus)" in capsys.readouterr().err
    assert main([*words, "--allow-mixed"]) == 0
    assert "- Measured on different machines" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["a", "--out", "both"], "at least two studies"),
        (["--out", "both"], "at least two studies"),
        (["a", "b"], "--out"),
        (["a", "absent", "--out", "both"], "found no study.sqlite"),
        (["a", "b", "--out", "a"], "an output outside the inputs"),
        (["a", "b", "--out", "mac"], "a folder that does not exist yet, or an empty one"),
    ],
)
def test_usage_errors(
    words: list[str], told: str, parts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(parts)
    assert main(["merge", *words]) == 2
    captured = capsys.readouterr()
    assert told in captured.out + captured.err
    assert not (parts / "both").exists()


def test_runs_that_contradict_each_other_are_no_matter_of_usage(
    parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["merge", str(parts / "a"), str(parts / "odd"), "--out", str(tmp_path / "both")]) == 1
    assert "The run is not deterministic" in capsys.readouterr().err
