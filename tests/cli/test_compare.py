"""`hasten compare`: what it prints and where, what it refuses before anything runs, and its exit statuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hasten.bench import study as studies
from hasten.bench.study import open_study
from hasten.cli import main
from hasten.cli.compare import _comparable, _complete_seeds

WORKLOAD = Path(__file__).parents[1] / "contract" / "images.py"
CSV = "arm,seed,time,metric\n" + "".join(
    f"{arm},{seed},{time},{level + 0.001 * seed * seed + 0.1 * time}\n"
    for arm, level in (("a", 0.1), ("b", 0.2))
    for seed in range(4)
    for time in (1.0, 2.0)
)

Hasten = Callable[..., tuple[int, str, str]]


@pytest.fixture
def hasten(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hasten:
    """`hasten("digits", "--dry-run")` in an empty folder: (status, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str | Path) -> tuple[int, str, str]:
        status = main(["compare", *map(str, words)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two arms and one seed, run by the command line."""
    out = tmp_path_factory.mktemp("compare") / "study"
    words = [str(WORKLOAD), "--arms", "base,soft=label_smoothing(0.2)", "--seeds", "1", "--out", str(out)]
    assert main(["compare", *words, "--workers", "1", "--points", "1"]) == 0
    return out


def test_a_dry_run_says_what_would_happen_and_writes_nothing(hasten: Hasten, tmp_path: Path) -> None:
    status, out, err = hasten(WORKLOAD, "--arms", "base,soft=label_smoothing(0.2)+ema", "--dry-run", "--workers", "2")
    assert (status, out) == (0, "")
    assert "\n  base: the baseline program\n  soft: ema(half_life=0.02, " in err
    assert " + label_smoothing(smoothing=0.2)\n" in err
    assert "10 runs over 5 seeds, 60 steps; one cyclic run per arm and seed yields every point" in err
    assert "budgets: 0.5 ep, 1 ep" in err
    assert "on 2 processes" in err
    assert "MB of disk" in err
    assert list(tmp_path.iterdir()) == []


def test_why_a_study_is_separate_is_said_before_it_starts(hasten: Hasten) -> None:
    words = ["--arms", "base,frozen=layer_freezing", "--dry-run", "--budget", "10min", "--workers", "1"]
    _, _, err = hasten(WORKLOAD, *words)
    assert "separate runs for every point, because layer_freezing in 'frozen' cannot be undone at the end of a" in err
    assert "on 1 process, budget 10min," in err


def test_arms_of_the_workload_when_none_are_named(hasten: Hasten, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(WORKLOAD.read_text() + "\nARMS = 'base,averaged=ema'\n")
    assert "averaged: ema(" in hasten(mine, "--dry-run")[2]
    status, _, err = hasten(WORKLOAD, "--dry-run")
    assert status == 2
    assert "expected --arms, or ARMS in the workload file, got neither. For example --arms 'base,ema'." in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "compare: expected a workload. For example: hasten compare digits"),
        (["digitz"], "workload: expected a name or a Python file, got 'digitz'. Did you mean digits?"),
        (["absent.py", "--arms", "base"], "workload: expected a Python file that exists, got absent.py. `hasten new"),
        (["W", "--arms", "base,blurpol"], "Did you mean blurpool? `hasten methods` lists them."),
        (["W", "--arms", "base,x=mixup+cutmix"], "arm 'x': Program.then: mixup conflicts with cutmix: both mix"),
        (["W", "--arms", "base,blur=blurpool"], "arm 'blur': blurpool: expected something to change in this"),
        (["W", "--arms", "base,c=gradient_clipping(kind='x')"], "gradient_clipping: expected kind among norm, value"),
        (["W", "--arms", "base", "--baseline", "bass"], "a baseline among the arms, got 'bass'. Did you mean base"),
        (["W", "--arms", "base", "--seeds", "0"], "compare: expected seeds, each once, got 0"),
        (["W", "--arms", "base", "--curve", "round"], "'separate', 'branch', got 'round'"),
        (
            ["W", "--arms", "f=layer_freezing", "--curve", "cyclic"],
            "cannot be undone at the end of a cycle. Use --curve",
        ),
        (["W", "--arms", "base", "--duration", "1tok"], "expected a unit this workload counts, got 'token'"),
        (["W", "--arms", "base", "--points", "50"], "Train longer, ask for fewer points, or lower mult"),
        (["W", "--arms", "base", "--budget", "soon"], "expected a span such as '90s', '10min' or '2h', got 'soon'"),
        (["W", "--arms", "base", "--margin", "-1"], "compare: expected margin >= 0, got -1.0"),
        (["W", "--arms", "base", "--margin", "nan"], "expected a finite number for margin, got nan"),
        (["W", "--arms", "base", "--workers", "0"], "compare: expected workers >= 1, got 0"),
        (["W", "--arms", "base", "--device", "tpu"], "compare: expected device 'cpu' or 'cuda', got 'tpu'"),
        (["W", "--arms", "base", "--minimize"], "--minimize with --from only. A workload says MINIMIZE = True"),
        (["--from", "absent.csv"], "absent.csv"),
        (["W", "--from", "runs.csv"], "compare: expected no workload beside --from, which only reads the file"),
        (["--from", "runs.csv", "--arms", "a"], "compare: expected no --arms beside --from"),
        (["--from", "runs.csv", "--dry-run"], "compare: expected no --dry-run beside --from"),
        (["--from", "runs.csv", "--budget", "1s"], "compare: expected no --budget beside --from"),
        (["--from", "runs.csv", "--out", "x"], "compare: expected no --out beside --from"),
    ],
)
def test_usage_errors_leave_nothing_behind(words: list[str], told: str, hasten: Hasten, tmp_path: Path) -> None:
    status, out, err = hasten(*(str(WORKLOAD) if word == "W" else word for word in words))
    assert (status, out) == (2, "")
    assert told in err
    assert len(err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_workload_without_metric(hasten: Hasten, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(WORKLOAD.read_text().replace("def metric(", "def metrics("))
    status, _, err = hasten(mine, "--arms", "base", "--dry-run")
    assert status == 2
    assert "workload 'mine': expected a function metric(model, test), got no metric. Did you mean metrics?" in err


def test_a_syntax_error_in_the_users_file_has_its_line(hasten: Hasten, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("def model():\n    return 1 +\n")
    status, _, err = hasten(mine, "--arms", "base")
    assert status == 2
    assert "mine.py, line 2: invalid syntax" in err


def test_test_data_that_depend_on_the_seed(hasten: Hasten, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    own = "\ndel train_data, test_data\ndef data(seed):\n    return sample(SAMPLES, 0), sample(SAMPLES, seed)\n"
    mine.write_text(WORKLOAD.read_text() + own)
    status, _, err = hasten(mine, "--arms", "base")
    assert status == 2
    assert "expected a test part that does not depend on the seed, got two. Split before using the seed" in err


def test_a_loss_that_is_reduced_is_refused_before_the_study(hasten: Hasten, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(WORKLOAD.read_text().replace('reduction="none"', 'reduction="mean"'))
    status, _, err = hasten(mine, "--arms", "base")
    assert status == 2
    assert "Do not average over the batch: use reduction='none'." in err
    assert list(tmp_path.iterdir()) == [mine]


def test_a_study_prints_a_table_and_names_its_page(folder: Path, hasten: Hasten) -> None:
    words = [WORKLOAD, "--arms", "base,soft=label_smoothing(0.2)", "--seeds", "1", "--points", "1", "--out", folder]
    status, out, err = hasten(*words)  # all is there: nothing runs again
    assert status == 0
    assert "soft" in out
    assert f"Report: {folder / 'report.html'}" in err
    assert (folder / "report.html").is_file()
    assert "\x1b" not in out  # no colours: this is no terminal
    status, out, err = hasten(*words, "--json")
    assert status == 0
    data = json.loads(out)
    assert [arm["name"] for arm in data["study"]["arms"]] == ["base", "soft"]
    assert data["study"]["command"].startswith(f"hasten compare {WORKLOAD} --arms ")


def test_another_study_in_the_folder_is_a_failure(folder: Path, hasten: Hasten) -> None:
    status, out, err = hasten(WORKLOAD, "--arms", "base,soft=label_smoothing(0.3)", "--seeds", "1", "--out", folder)
    assert (status, out) == (1, "")
    assert "holds another study" in err.splitlines()[-1]


def ends(monkeypatch: pytest.MonkeyPatch, folder: Path, status: str, seeds: dict[str, list[int]]) -> None:
    """The study ends in this way: with these seeds complete."""
    study = open_study(folder)
    study.data["study"]["status"] = status
    run = study.data["runs"][0]
    study.data["runs"] = [{**run, "arm": arm, "seed": seed} for arm, found in seeds.items() for seed in found]
    monkeypatch.setattr(study, "report", lambda: folder / "report.html")
    monkeypatch.setattr(studies, "run_study", lambda *a, **k: study)


@pytest.mark.parametrize(
    ("status", "seeds", "expected"),
    [
        ("complete", {"base": [0], "soft": [0]}, 0),
        ("budget", {"base": [0, 1], "soft": [0, 1, 2]}, 3),
        ("budget", {"base": [], "soft": []}, 3),
        ("budget", {"base": [0, 1, 2], "soft": [0, 1, 2]}, 0),
        ("interrupted", {"base": [0, 1, 2], "soft": [0, 1, 2]}, 130),
    ],
)
def test_exit_statuses(
    status: str, seeds: dict[str, list[int]], expected: int, folder: Path, hasten: Hasten, monkeypatch
) -> None:
    ends(monkeypatch, folder, status, seeds)
    found, out, _ = hasten(WORKLOAD, "--arms", "base,soft=label_smoothing(0.2)", "--seeds", "5")
    assert found == expected
    assert out.strip()  # also an interrupted study shows what it has


def test_options_reach_the_study(hasten: Hasten, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: dict[str, Any] = {}
    ends(monkeypatch, folder, "complete", {"base": [0], "soft": [0]})
    real = studies.run_study
    monkeypatch.setattr(studies, "run_study", lambda plan, **options: given.update(plan=plan, **options) or real())
    hasten(
        WORKLOAD, "--arms", "a=base,soft=label_smoothing", "--baseline", "soft", "--seeds", "2", "--curve", "separate",
        "--duration", "12step", "--points", "3", "--mult", "1.5", "--budget", "1h", "--margin", "0.01", "--out", "here",
        "--workers", "3",
    )  # fmt: skip
    plan = given["plan"]
    assert (plan.baseline, plan.seeds, plan.curve.kind) == ("soft", (0, 1), "separate")
    assert (len(plan.curve.ends), plan.curve.ends[-1]) == (3, 12)
    assert (given["budget"], given["margin"], given["workers"], given["out"]) == ("1h", 0.01, 3, Path("here"))


def test_statistics_on_somebodys_logs(hasten: Hasten, tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text(CSV)
    status, out, err = hasten("--from", path)
    assert (status, err) == (0, "")
    assert "b" in out
    status, out, _ = hasten("--from", path, "--json", "--baseline", "b", "--minimize", "--margin", "0.1")
    assert status == 0
    data = json.loads(out)
    assert (data["study"]["baseline"], data["study"]["minimize"], data["analysis"]["margin"]) == ("b", True, 0.1)
    status, _, err = hasten("--from", path, "--baseline", "c")
    assert status == 2
    path.write_text("arm,seed,time,metric\na,0,soon,1\n")
    status, _, err = hasten("--from", path)
    assert status == 2
    assert "soon" in err


def test_offline_reaches_the_data(hasten: Hasten, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HASTEN_DATA", str(tmp_path / "empty"))
    monkeypatch.setenv("HASTEN_OFFLINE", "0")
    status, _, err = hasten("cifar10", "--arms", "base", "--offline", "--dry-run")
    assert status in (1, 2)
    assert "offline" in err.lower() or "download" in err.lower()


def test_logs_that_are_no_csv_file(hasten: Hasten, tmp_path: Path) -> None:
    binary = tmp_path / "runs.csv"
    binary.write_bytes(b"arm,seed,time,metric\n\xff\xfe\x00\x01,0,1,1\n")
    for path, reason in ((tmp_path / "none.csv", "a CSV file that exists"), (binary, "in UTF-8")):
        status, out, err = hasten("--from", path)
        assert (status, out) == (2, "")
        assert reason in err


def test_a_study_in_which_nothing_could_be_compared_has_failed() -> None:
    def study(*done: str) -> SimpleNamespace:
        runs = [{"arm": arm, "status": "done" if arm in done else "failed"} for arm in ("base", "blur")]
        return SimpleNamespace(data={"runs": runs, "study": {"baseline": "base"}})

    assert _comparable(study("base", "blur"))
    assert not _comparable(study("base"))
    assert not _comparable(study("blur"))
    assert not _comparable(study())


# Branch curves, calibration, variants ---------------------------------------------------------------------------------

ARMS = ("--arms", "base,soft=label_smoothing(0.2)")


def test_a_branch_study_says_its_kind_and_its_steps(hasten: Hasten) -> None:
    _, _, err = hasten(WORKLOAD, *ARMS, "--curve", "branch", "--decay", "0.5", "--duration", "13step", "--dry-run")
    assert "10 runs over 5 seeds, 150 steps; one trunk per arm and seed yields every point, each after a decay" in err


def test_calibration_adds_the_baseline_in_the_other_kinds(hasten: Hasten, no_processes: None) -> None:
    words = (*ARMS, "--calibrate", "--decay", "0.5", "--duration", "13step", "--seeds", "2", "--workers", "1")
    _, _, err = hasten(WORKLOAD, *words, "--dry-run")
    assert "10 runs over 2 seeds" in err  # cyclic 2, branch 1, separate 2 a seed
    assert "\namong them to calibrate: base in separate and branch curves\n" in err
    status, out, _ = hasten(WORKLOAD, *words, "--out", "study", "--json")
    assert status == 0
    kinds = json.loads(out)["calibration"]["kinds"]
    assert [kind["kind"] for kind in kinds] == ["separate", "cyclic", "branch"]


@pytest.mark.parametrize(("words", "told"), [
    (("--decay", "0.5"), "no decay for a cyclic curve, got 0.5"),
    (("--curve", "branch", "--decay", "1.5"), "decay"),
    (("--curve", "branch"), "every budget has updates that decay"),
    (("--variants", "widht"), "Did you mean width?"),
])  # fmt: skip
def test_what_makes_no_sense_beside_them(hasten: Hasten, tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    status, _, err = hasten(WORKLOAD, *ARMS, *words)
    assert status == 2
    assert told in err
    assert list(tmp_path.iterdir()) == []


def test_variants_are_studies_of_their_own(hasten: Hasten, tmp_path: Path, no_processes: None) -> None:
    words = (*ARMS, "--variants", "label_noise,batch", "--seeds", "1", "--points", "1", "--workers", "1")
    _, _, err = hasten(WORKLOAD, *words, "--dry-run")
    assert "3 studies, 6 runs in all" in err
    assert "expected for all: about" in err
    status, out, err = hasten(WORKLOAD, *words, "--out", "all")
    assert status == 0
    assert "label_noise" in out
    for name in ("original", "label_noise", "batch"):
        assert str(Path("all") / name / "report.html") in err
        assert (tmp_path / "all" / name / "report.html").is_file()


def test_options_that_logs_cannot_follow(hasten: Hasten) -> None:
    more = [("--duration", "1ep"), ("--points", "2"), ("--mult", "2"), ("--workers", "1"), ("--seeds", "3")]
    more += [("--curve", "branch"), ("--device", "cuda")]
    for words in (("--variants",), ("--calibrate",), ("--decay", "0.1"), *more):
        status, _, err = hasten("--from", "runs.csv", *words)
        assert status == 2
        assert f"expected no {words[0]} beside --from" in err


def test_a_dry_run_as_json(hasten: Hasten) -> None:
    status, out, _ = hasten(WORKLOAD, *ARMS, "--dry-run", "--json", "--calibrate", "--decay", "0.5",
                            "--duration", "13step")  # fmt: skip
    (found,) = json.loads(out)
    assert (status, found["curve"], found["ends"], found["runs"]) == (0, "cyclic", [5, 13], 25)
    several = json.loads(hasten(WORKLOAD, *ARMS, "--dry-run", "--json", "--variants", "batch")[1])
    assert [study["workload"] for study in several] == ["images", "images+batch"]


def test_a_seed_of_a_separate_study_is_complete_when_all_its_runs_have_ended() -> None:
    asked = {"arms": [{"name": "a"}], "curve": "separate", "ends": [3, 6], "seeds": [0, 1]}
    runs = [{"arm": "a", "seed": seed, "counts": True} for seed in (0, 0, 1)]
    assert _complete_seeds(SimpleNamespace(data={"study": asked, "runs": runs})) == 1
    assert _complete_seeds(SimpleNamespace(data={"study": {**asked, "curve": "cyclic"}, "runs": runs})) == 2
