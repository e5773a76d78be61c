"""`hasten prune`: what it prints and where, what it refuses before anything runs, and its exit statuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.bench.pruning.quick import BLOBS, quick
from tests.bench.pruning.test_plan import HIDDEN

from hasten.bench import pruning
from hasten.cli import main
from hasten.cli.prune import _status

pytestmark = pytest.mark.usefixtures("figures_once")
Hasten = Callable[..., tuple[int, str, str]]


@pytest.fixture
def hasten(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hasten:
    """`hasten("digits", "--dry-run")` in an empty folder: (status, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str | Path) -> tuple[int, str, str]:
        with quick():
            status = main(["prune", *map(str, words)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


SMALL = ("--strategies", "global_magnitude", "--ratios", "2,4", "--seeds", "2", "--workers", "1")


def test_a_dry_run_says_what_would_happen_and_writes_nothing(hasten: Hasten, tmp_path: Path) -> None:
    status, out, err = hasten(BLOBS, *SMALL, "--train", "30step", "--budget", "10min", "--dry-run")
    assert (status, out) == (0, "")
    assert "  435 parameters, 352 of them prunable; unstructured\n" in err
    assert "  strategies: random, global_magnitude\n" in err
    assert "  compression ratios: 1, 2, 4 (1 is the unpruned control)\n" in err
    assert "  smaller dense controls: width 10 instead of 16 (" in err
    assert "16 runs over 2 seeds, 264 steps: 30 of training, 6 of training on after pruning" in err
    assert "the epoch is chosen on 32 held-out training samples by accuracy" in err
    assert "on 1 process, budget 10min, and some to start" in err
    assert list(tmp_path.iterdir()) == []


def test_a_model_whose_classifier_is_not_known_is_a_line_of_the_plan(hasten: Hasten, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(f"{BLOBS.read_text()}\n\nbare = model\n{HIDDEN}")
    status, _, err = hasten(mine, *SMALL, "--dry-run")
    assert (status, "Warning" in err) == (0, False)
    assert "  no classifier found: the last layer is pruned, too, unless it has is_classifier = True\n" in err
    assert "classifier" not in hasten(BLOBS, *SMALL, "--dry-run")[2]


def test_a_dry_run_as_json(hasten: Hasten) -> None:
    status, out, _ = hasten(BLOBS, *SMALL, "--dry-run", "--json")
    found = json.loads(out)
    assert (status, found["runs"], found["ratios"], found["strategies"]) == (
        0, 16, [1, 2, 4], ["random", "global_magnitude"])  # fmt: skip


def test_ratios_of_a_model_that_cannot_be_pruned_far(hasten: Hasten) -> None:
    assert "compression ratios: 1, 2, 4 (1 is" in hasten(BLOBS, "--dry-run")[2]  # 5.2 is the largest that it reaches


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "prune: expected a workload. For example: hasten prune digits"),
        (["digitz"], "workload: expected a name or a Python file, got 'digitz'. Did you mean digits?"),
        (["W", "--strategies", "global_magnitud"], "got 'global_magnitud'. Did you mean"),
        (["W", "--strategies", "lamp,lamp"], "hasten prune: expected each strategy once, got 'lamp'"),
        (["W", "--strategies", "wanda(owl=True"], "--strategies: expected closed parentheses and quotes"),
        (["W", "--strategies", "wanda(owls=True)"], "options that wanda has"),
        (["W", "--ratios", "2,x"], "--ratios: expected numbers such as 1,2,4,8, got '2,x'"),
        (["W", "--ratios", "0.5,2"], "compression ratios of at least 1 (size before / size after), got 0.5"),
        (["W", "--ratios", "2,64"], "compression that can be reached, at most 5.24096 here"),
        (["W", "--pattern", "2:4"], "a pattern that can have any density, for a curve, got '2:4'"),
        (["W", "--seeds", "0"], "hasten prune: expected seeds, each once, got 0"),
        (["W", "--train", "soon"], "a length such as '10ep'"),
        (["W", "--budget", "soon"], "expected a span such as '90s', '10min' or '2h', got 'soon'"),
        (["W", "--workers", "0"], "hasten prune: expected workers >= 1, got 0"),
        (["W", "--device", "tpu"], "hasten prune: expected device 'cpu' or 'cuda', got 'tpu'"),
    ],
)
def test_usage_errors_leave_nothing_behind(words: list[str], told: str, hasten: Hasten, tmp_path: Path) -> None:
    status, out, err = hasten(*(str(BLOBS) if word == "W" else word for word in words))
    assert (status, out) == (2, "")
    assert told in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_option_given_twice_is_refused(hasten: Hasten, tmp_path: Path) -> None:
    status, _, _ = hasten(BLOBS, "--strategies", "lamp", "--strategies", "snip", "--dry-run")
    assert status == 2
    assert list(tmp_path.iterdir()) == []


def test_a_study_prints_a_table_names_its_page_and_resumes(hasten: Hasten, tmp_path: Path, capsys) -> None:
    status, out, err = hasten(BLOBS, *SMALL, "--out", "study")
    assert status == 0
    assert "global_magnitude" in out
    assert "\x1b" not in out  # no colours: this is no terminal
    assert f"Report: {Path('study') / 'report.html'}" in err
    assert (tmp_path / "study" / "report.html").is_file()
    status, out, err = hasten(BLOBS, *SMALL, "--out", "study", "--json")
    assert (status, "[1/" in err) == (0, False)  # nothing ran again
    data = json.loads(out)
    assert data["study"]["command"].startswith(f"hasten prune {BLOBS} --strategies global_magnitude")
    status, out, err = hasten(BLOBS, *SMALL, "--rate", "0.5", "--out", "study")
    assert (status, out) == (1, "")
    assert "holds another study" in err.splitlines()[-1]
    _the_page_is_written_again(tmp_path, capsys)


def _the_page_is_written_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "study" / "report.html").unlink()
    page, data = tmp_path / "page.html", tmp_path / "data.json"
    assert main(["report", "study", "--out", str(page), "--json", str(data)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(page), str(data)]
    assert "global_magnitude" in page.read_text(encoding="utf-8")
    assert json.loads(data.read_text(encoding="utf-8"))["kind"] == "prune"
    assert main(["report", "study", "--csv", "x.csv"]) == 2
    assert "expected no --csv beside a study of hasten prune" in capsys.readouterr().err
    assert main(["compare", str(BLOBS), "--arms", "base,a=ema", "--out", "study", "--seeds", "1"]) == 1
    assert "holds another study" in capsys.readouterr().err
    assert main(["merge", "study", "study", "--out", "both"]) in (1, 2)


def study(status: str, seeds: dict[int, int]) -> SimpleNamespace:
    """Two strategies at two ratios, of each seed so many runs done."""
    runs = [{"seed": seed, "status": "done", "arm": "lamp"} for seed, count in seeds.items() for _ in range(count)]
    asked = {"strategies": ["random", "lamp"], "ratios": [1, 2, 4]}
    return SimpleNamespace(status=status, data={"study": asked}, rows=lambda: runs)


@pytest.mark.parametrize(
    ("status", "seeds", "expected"),
    [
        ("complete", {0: 4}, 0),
        ("complete", {}, 1),
        ("budget", {0: 4, 1: 4, 2: 3}, 3),
        ("budget", {0: 4, 1: 4, 2: 4, 3: 1}, 0),
    ],
)
def test_exit_statuses(status: str, seeds: dict[int, int], expected: int) -> None:
    assert _status(study(status, seeds)) == expected


def test_options_reach_the_plan(hasten: Hasten, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}

    def ran(plan: object, **options: object) -> object:
        given.update(plan=plan, **options)
        raise RuntimeError("seen")

    monkeypatch.setattr(pruning, "run_prune", ran)
    hasten(
        BLOBS, "--strategies", "wanda(propagate=False),channel_l2@channel", "--ratios", "1,3", "--seeds", "4",
        "--train", "20step", "--finetune", "5step", "--rate", "0.7", "--budget", "1h",
        "--out", "here", "--workers", "3",
    )  # fmt: skip
    plan = given["plan"]
    assert plan.strategies == ("random", "wanda(propagate=False)", "channel_l2@channel")
    assert (plan.ratios, plan.seeds, plan.steps, plan.rate) == ((1.0, 3.0), (0, 1, 2, 3), (20, 5), 0.7)
    assert (given["budget"], given["workers"], given["out"]) == ("1h", 3, Path("here"))
