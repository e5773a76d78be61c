"""A whole study: run in processes, resumed without repeating anything, extended, read back, and refused elsewhere."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.contract.battery import IMAGES

import hasten
from hasten.bench.store import StoreError
from hasten.bench.study import Study, compare, default_folder, open_study, plan_study, power_of, run_study, workers_of
from hasten.bench.workloads import Workload
from hasten.methods import label_smoothing, layer_freezing

WORKLOAD = Path(__file__).parents[1] / "contract" / "images.py"
ARMS: dict[str, Any] = {"base": [], "soft": [label_smoothing(0.2)]}


def ran(folder: Path, *, workers: int = 1, **options: Any) -> Study:
    """`compare` without trying runs again that met a busy machine, which the tests cannot know."""
    plan = plan_study(WORKLOAD, ARMS, **options)
    return run_study(plan, out=folder, workers=workers, quiet=True, retry_drifted=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two arms, two seeds, two points of a tiny workload."""
    folder = tmp_path_factory.mktemp("study") / "one"
    return ran(folder, seeds=2, workers=2)


def facts(study: Study) -> list[tuple[Any, ...]]:
    return sorted((row["arm"], row["seed"], row["point"], row["metric"], row["train_loss"]) for row in study.rows())


def test_what_a_study_says(finished: Study) -> None:
    assert finished.status == "complete"
    assert [row[:3] for row in facts(finished)] == [
        (arm, seed, point) for arm in ("base", "soft") for seed in (0, 1) for point in (0, 1)
    ]
    assert set(finished.verdicts()) == {"base", "soft"}
    assert all(finished.verdicts().values())
    assert finished.analysis is not None
    assert "soft" in finished.table()
    assert "complete" in repr(finished)
    assert str(finished.folder) in repr(finished)
    runs = finished.data["runs"]
    assert all(run["counts"] and run["status"] == "done" and run["weights"] for run in runs)
    assert len({run["weights"] for run in runs}) == 4


def test_runs_in_processes_are_the_computation_in_this_one(finished: Study) -> None:
    """The worker gets JSON and the file by content; the numbers are those of the loop called here."""
    from tests.contract.battery import run

    program = IMAGES.program.then(label_smoothing(0.2))
    points = run(program, cycles=((0, 3, 0), (3, 6, 1)), seed=1).points
    mine = [(p.metric, p.train_loss) for p in points]
    assert [row[3:] for row in facts(finished) if row[:2] == ("soft", 1)] == mine


def test_the_report_is_one_file(finished: Study, tmp_path: Path) -> None:
    assert finished.report() == finished.folder / "report.html"
    page = finished.report(tmp_path / "elsewhere.html")
    assert list(tmp_path.iterdir()) == [page]
    assert "soft" in page.read_text(encoding="utf-8")


def test_the_folder_holds_the_study_and_nothing_that_is_done_with(finished: Study) -> None:
    names = {path.name for path in finished.folder.iterdir()} - {"report.html"}
    assert {"study.sqlite", "logs", "sources"} <= names
    assert not list((finished.folder / "checkpoints").glob("*"))
    (entry,) = (finished.folder / "sources").rglob("images.py")
    assert entry.read_text() == WORKLOAD.read_text()


def test_the_same_call_repeats_nothing(finished: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hasten.bench.driver.Pool", lambda *a, **k: pytest.fail("a process was started"))
    again = compare(WORKLOAD, ARMS, seeds=2, out=finished.folder, quiet=True)
    assert facts(again) == facts(finished)
    assert again.status == "complete"


def test_more_seeds_extend_it(tmp_path: Path, no_processes: None) -> None:
    first = ran(tmp_path, seeds=1, points=1)
    both = ran(tmp_path, seeds=2, points=1)
    assert len(both.data["runs"]) == 4
    assert facts(first) == [row for row in facts(both) if row[1] == 0]


def test_another_studys_folder_is_refused(finished: Study) -> None:
    others: list[tuple[Any, dict[str, Any]]] = [
        ({"base": [], "soft": [label_smoothing(0.3)]}, {}), (ARMS, {"points": 1}), (ARMS, {"duration": "12step"}),
        ({"base": [], "frozen": [layer_freezing()]}, {}), (ARMS, {"baseline": "soft"}),
    ]  # fmt: skip
    for arms, options in others:
        with pytest.raises(StoreError, match="holds another study .*images: base, soft.*Pass another folder"):
            compare(WORKLOAD, arms, seeds=2, out=finished.folder, quiet=True, **options)
    assert facts(open_study(finished.folder)) == facts(finished)


def test_reading_it_back(finished: Study) -> None:
    again = open_study(finished.folder)
    assert facts(again) == facts(finished)
    assert again.verdicts() == finished.verdicts()
    assert open_study(finished.folder, margin=0.5).data["analysis"]["margin"] == 0.5
    json.dumps(again.data, allow_nan=False)


def test_reading_what_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="expected a study, found no study.sqlite"):
        open_study(tmp_path)
    from hasten.bench.store import Store

    Store(tmp_path / "begun").close()
    with pytest.raises(ValueError, match="report: expected a study that has begun, got .*Run `hasten compare` first"):
        open_study(tmp_path / "begun")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"budget": "soon"}, "time: expected a span such as '90s'"),
        ({"budget": -1}, "a positive time"),
        ({"margin": -0.1}, "compare: expected margin >= 0"),
        ({"margin": float("nan")}, "a finite number for margin"),
        ({"workers": 0}, "compare: expected workers >= 1"),
    ],
)
def test_bad_settings_leave_no_folder(options: dict[str, Any], reason: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=reason):
        compare(WORKLOAD, ARMS, out=tmp_path / "new", quiet=True, **options)
    assert not (tmp_path / "new").exists()


def test_the_default_folder_is_named_by_the_question(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, no_processes: None
) -> None:
    plan = plan_study(WORKLOAD, ARMS)
    assert default_folder(plan) == Path("runs") / f"images-{plan.identity()[:8]}"
    assert default_folder(plan_study(WORKLOAD, ARMS, seeds=2)) == default_folder(plan)
    monkeypatch.chdir(tmp_path)
    study = run_study(plan_study(WORKLOAD, ARMS, seeds=1, points=1), quiet=True, workers=1)
    assert study.folder.parent == Path("runs")
    assert (tmp_path / study.folder / "study.sqlite").is_file()


def test_an_edited_workload_is_another_question(tmp_path: Path) -> None:
    mine = tmp_path / "images.py"
    mine.write_text(WORKLOAD.read_text())
    before = plan_study(mine, ARMS).identity()
    mine.write_text(WORKLOAD.read_text() + "# another comment\n")
    assert plan_study(mine, ARMS).identity() != before


METHODS = """
from hasten.program import Card, bind, method

def doubled(loss):
    return lambda outputs, batch: FACTOR * loss(outputs, batch)

FACTOR = 2

@method(Card("Scale the loss.", "optimization", "retrofit", {"losses": "append"}))
def scaled(program, name):
    return program.append("losses", name, bind(doubled))
"""


def test_code_of_loose_files_reaches_the_workers_and_is_part_of_the_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Methods in a script's own helper, a workload whose functions come from a file beside it."""
    (tmp_path / "my_own_methods.py").write_text(METHODS)
    folder = tmp_path / "workload"
    folder.mkdir()
    (folder / "parts.py").write_text(WORKLOAD.read_text())
    (folder / "mine.py").write_text("from parts import *\nfrom parts import model, data, loss, metric\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import my_own_methods

    arms = {"base": [], "twice": [my_own_methods.scaled()]}
    plan = plan_study(folder / "mine.py", arms, seeds=1, points=1, duration="6step")
    assert plan.arms["twice"].loss.target.endswith(":parts:loss")
    study = run_study(plan, out=tmp_path / "study", workers=1, quiet=True, retry_drifted=False)
    assert [run["status"] for run in study.data["runs"]] == ["done", "done"]
    losses = {row["arm"]: row["train_loss"] for row in study.rows()}
    assert losses["twice"] > 1.5 * losses["base"]
    (tmp_path / "my_own_methods.py").write_text(METHODS.replace("FACTOR = 2", "FACTOR = 3"))
    edited = plan_study(folder / "mine.py", {"base": [], "twice": [my_own_methods.scaled()]}, seeds=1, points=1)
    assert edited.identity() != plan.identity()
    monkeypatch.delitem(sys.modules, "my_own_methods")


def test_workers() -> None:
    assert workers_of(3, "cpu") == workers_of(3, "cuda") == 3
    assert workers_of(None, "cuda") == 1
    assert workers_of(None, "cpu") >= 1


def test_power_is_told_where_a_record_measured_the_spread() -> None:
    import dataclasses

    plan = plan_study(WORKLOAD, ARMS)
    assert power_of(plan) is None
    known: Workload = dataclasses.replace(plan.workload, paired_sd=0.01)
    told = power_of(dataclasses.replace(plan, workload=known))
    assert told is not None
    assert told["text"]
    assert 0 < told["mde"]["alone"] <= told["mde"]["metric"]
    assert power_of(dataclasses.replace(plan, workload=known, seeds=(0,))) is None


def test_hasten_compare_is_this_function() -> None:
    assert hasten.compare is compare


def test_a_study_of_one_arm_is_refused_before_it_runs() -> None:
    with pytest.raises(ValueError, match="expected at least two arms, got .'base'."):
        compare(WORKLOAD, {"base": []})


def test_the_margin_is_the_one_it_began_with(finished: Study) -> None:
    with pytest.raises(ValueError, match="expected the margin this study began with"):
        run_study(plan_study(WORKLOAD, ARMS, seeds=2), out=finished.folder, margin=0.5, quiet=True)
    assert open_study(finished.folder, margin=0.5).analysis["margin"] == 0.5  # looking is free
    assert open_study(finished.folder).analysis["margin"] != 0.5


def test_fewer_seeds_use_fewer_and_say_so(finished: Study) -> None:
    one = ran(finished.folder, seeds=1)
    assert {row["seed"] for row in one.rows()} == {0}
    assert any("other seeds" in note for note in one.data["notes"])
    assert {row["seed"] for row in ran(finished.folder, seeds=2).rows()} == {0, 1}


def test_somebody_elses_report_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("precious")
    with pytest.raises(ValueError, match="report.html of something else"):
        ran(tmp_path, seeds=1)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "precious"


def test_a_branch_study_with_the_baseline_in_every_kind(tmp_path: Path, no_processes: None) -> None:
    options = {"curve": "branch", "duration": "12step", "points": 2, "decay": 0.5}
    study = ran(tmp_path / "a", seeds=2, calibrate=True, **options)
    assert study.status == "complete"
    assert len(study.data["runs"]) == 4  # those of the verdicts; the controls have a place of their own
    assert study.data["study"]["curve"] == "branch"
    found = study.data["calibration"]
    assert (found["arm"], found["budgets"]) == ("base", ["0.833 epochs", "2 epochs"])
    ends = study.data["study"]["ends"]
    kinds = {kind["kind"]: kind for kind in found["kinds"]}
    assert list(kinds) == ["separate", "branch", "cyclic"]
    assert kinds["separate"]["steps"] == sum(ends)
    assert kinds["cyclic"]["steps"] == ends[-1] < kinds["branch"]["steps"] < sum(ends)
    assert all(kind["seconds"] > 0 and [level["n"] for level in kind["levels"]] == [2, 2] for kind in kinds.values())
    rows = [row["metric"] for row in study.rows() if (row["arm"], row["point"]) == ("base", 1)]
    assert kinds["branch"]["levels"][1]["metric"] == pytest.approx(sum(rows) / 2)
    first = kinds["cyclic"]["levels"][0]  # the same computation as the first separate run
    assert (first["bias"], first["bias_low"], first["bias_high"]) == (0.0, 0.0, 0.0)
    assert "branches" in study.data["study"]["clock_excludes"]

    plain = ran(tmp_path / "b", seeds=2, **options)
    assert plain.data["calibration"] is None
    assert facts(plain) == facts(study)
    later = ran(tmp_path / "b", seeds=2, calibrate=True, **options)  # controls may be added to a study
    assert later.data["calibration"]["kinds"][0]["levels"] == found["kinds"][0]["levels"]
    again = ran(tmp_path / "b", seeds=2, **options)  # and stay
    assert again.data["calibration"] == later.data["calibration"]
