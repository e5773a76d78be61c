"""Studies of a workload and its variants: planned, run, gone on with, read back; and what is said where that fails."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.bench.inline import inline
from tests.contract import images
from torch import nn

from hasten._core.surgery import Report, replace_modules
from hasten.bench import robustness as module
from hasten.bench.robustness import (
    INDEX,
    Plans,
    Robustness,
    _data,
    _left,
    _Shares,
    open_robustness,
    plan_robustness,
    robustness,
    run,
)
from hasten.bench.store import StoreError
from hasten.bench.study import plan_study, run_study
from hasten.bench.workloads import load
from hasten.methods import label_smoothing, sam
from hasten.program import Card, bind, method

WORKLOAD = images.__file__
ARMS: dict[str, Any] = {"base": [], "soft": [label_smoothing(0.2)]}
NAMES = "activation,batch"


def plans(**options: Any) -> Plans:
    return plan_robustness(WORKLOAD, ARMS, **{"names": NAMES, "seeds": 1, **options})


def ran(folder: Path, **options: Any) -> Robustness:
    return run(plans(**options), out=folder, workers=1, quiet=True, retry_drifted=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Robustness:
    with inline():
        return ran(tmp_path_factory.mktemp("robustness") / "all")


# Plans ----------------------------------------------------------------------------------------------------------------


def test_what_is_planned() -> None:
    found = plan_robustness(WORKLOAD, ARMS, seeds=3)
    assert list(found.every()) == ["original", "activation", "label_noise", "batch"]
    assert found.unavailable == {
        "width": "its model takes no whole number under a name such as width (it takes double, dropout, norm)",
        "norm": "its model has no batch norm and no layer norm modules",
    }
    lines = found.text().splitlines()
    assert lines[0] == "4 studies, 24 runs in all:"
    assert "  batch: batches of 16 instead of 8, learning rate 0.1 instead of 0.05 (linear rule)" in lines
    assert "  without norm: its model has no batch norm and no layer norm modules" in lines
    assert len({plan.identity() for plan in found.every().values()}) == 4
    assert (found.seconds() or 0) > 0


def test_the_original_is_the_study_that_compare_would_run() -> None:
    for options in ({}, {"duration": "12step", "points": 3, "baseline": "soft", "mult": 1.5}):
        assert plans(**options).original.identity() == plan_study(WORKLOAD, ARMS, **options).identity()


def test_a_duration_in_steps_is_the_originals() -> None:
    found = plans(duration="12step")
    assert {name: plan.curve.ends[-1] for name, plan in found.every().items()} == {
        "original": 12, "activation": 12, "batch": 6,
    }  # fmt: skip


def test_the_folder_depends_on_the_question_and_not_on_the_variants() -> None:
    assert plans().folder() == plans(names="batch", seeds=4).folder()
    assert plans().folder() != plans(points=1).folder()
    assert plans().folder().parts[0] == "runs"


def harden(model: nn.Module, *, generator: torch.Generator) -> Report:
    return replace_modules(model, lambda name, m: nn.Hardtanh() if type(m) is nn.ReLU else None, surgery="harden")


@method(Card(summary="Bound ReLU.", component="function", action="replace", touches={"surgery": "append"}))
def bounded(program: Any, name: str) -> Any:
    return program.append("surgery", name, bind(harden))


def test_variants_in_which_the_study_makes_no_sense_are_left_out_with_the_reason() -> None:
    arms = {"base": [], "hard": [bounded()]}
    found = plan_robustness(WORKLOAD, arms, seeds=1, points=3, mult=1.0, names="activation,label_noise,batch")
    assert list(found.variants) == ["label_noise"]
    assert "arm 'hard': bounded: expected something to change in this model" in found.unavailable["activation"]
    assert "total_steps that leave every cycle a whole update" in found.unavailable["batch"]  # 2 steps, 3 points


@pytest.mark.parametrize(
    ("arms", "options", "error", "told"),
    [
        (ARMS, {"names": "bach"}, ValueError, r"expected names among .*, got 'bach'\. Did you mean batch\?"),
        (
            ARMS,
            {"names": "width,norm"},
            ValueError,
            r"a variant that can be made, got none of 2 \(width: its model takes",
        ),
        ({"base": []}, {}, ValueError, "at least two arms"),
        (ARMS, {"duration": "soon"}, ValueError, "a length such as '10ep'"),
        (ARMS, {"curve": "cubic"}, ValueError, "got 'cubic'"),
        (ARMS, {"colour": 1}, TypeError, "colour"),
    ],
)
def test_what_makes_no_sense_is_refused(arms: Any, options: Any, error: Any, told: str) -> None:
    with pytest.raises(error, match=told):
        plan_robustness(WORKLOAD, arms, **options)


def test_a_program_belongs_to_its_workload() -> None:
    arms = {"base": [], "soft": load(WORKLOAD).program.then(label_smoothing(0.1))}
    with pytest.raises(TypeError, match=r"arm 'soft' as a list of methods.*Pass its methods: list\(program\.methods\)"):
        plan_robustness(WORKLOAD, arms, names="batch")


@method(Card(summary="Adam.", component="optimization", action="replace", touches={"optimizer": "replace"}))
def adam(program: Any, name: str) -> Any:
    return program.set(optimizer=bind(torch.optim.Adam, lr=1e-3))


def test_an_arm_with_a_learning_rate_of_its_own_is_named() -> None:
    arms = {"base": [], "adam": [adam()], "sam": [sam()]}  # sam wraps the baseline's optimizer, rate and all
    found = plan_robustness(WORKLOAD, arms, names="batch,activation", seeds=1)
    assert found.notes == ("batch: adam replaces the optimizer; its own learning rate does not follow the batch.",)
    assert plan_robustness(WORKLOAD, arms, names="activation", seeds=1).notes == ()


# Runs -----------------------------------------------------------------------------------------------------------------


def test_what_a_robustness_run_says(finished: Robustness) -> None:
    assert finished.status == "complete"
    assert list(finished.studies) == ["original", "activation", "batch"]
    assert finished.data["workload"] == "images"
    (arm,) = finished.data["arms"]
    assert arm == {
        "name": "soft",
        "original": "not proven",  # one seed proves nothing
        "variants": {"activation": "not proven", "batch": "not proven"},
        "confirmed": 0,
        "unproven": 2,
        "contradicted": 0,
        "sentence": "not proven on the original: nothing to confirm.",
    }
    assert finished.verdicts() == {"soft": arm["sentence"]}
    assert finished.data["unavailable"] == {}
    assert "SiLU instead of ReLU" in finished.table()
    assert json.loads(finished.to_json()) == finished.data
    assert "complete" in repr(finished)


def test_every_study_is_an_ordinary_one(finished: Robustness) -> None:
    names = {study.data["study"]["workload"] for study in finished.studies.values()}
    assert names == {"images", "images+activation", "images+batch"}
    for name, study in finished.studies.items():
        assert study.folder == finished.folder / name
        assert study.status == "complete"
    weights = [{run["weights"] for run in study.data["runs"]} for study in finished.studies.values()]
    assert len(set.union(*weights)) == 6  # no run of one is a run of another
    assert [path.parent for path in finished.reports()] == [finished.folder / name for name in finished.studies]


def test_the_same_call_trains_nothing_again(finished: Robustness) -> None:
    before = {name: study.rows() for name, study in finished.studies.items()}
    again = ran(finished.folder)
    assert {name: study.rows() for name, study in again.studies.items()} == before
    assert again.data == finished.data


def test_reading_back(finished: Robustness) -> None:
    found = open_robustness(finished.folder)
    assert found.data == finished.data
    assert list(found.studies) == list(finished.studies)


def test_further_variants_and_seeds_join_those_that_are_there(tmp_path: Path, no_processes: None) -> None:
    out = tmp_path / "all"
    first = robustness(
        WORKLOAD, ARMS, names=["batch"], seeds=1, out=out, workers=1, quiet=True, budget="1h", margin=0.1
    )
    assert [list(first.studies), first.status] == [["original", "batch"], "complete"]
    more = ran(out, names="activation", seeds=2)
    assert list(more.studies) == ["original", "activation", "batch"]
    assert more.studies["original"].data["study"]["seeds"] == [0, 1]
    assert list(more.data["arms"][0]["variants"]) == ["activation", "batch"]


def test_a_folder_of_one_study_is_refused(finished: Robustness) -> None:
    with pytest.raises(ValueError, match="expected a folder for several studies, got .*, a study's. Pass another one"):
        ran(finished.folder / "original")
    with pytest.raises(StoreError, match="holds another study"):
        ran(finished.folder, points=1)


def test_settings_are_checked_before_anything_runs(tmp_path: Path) -> None:
    for options in ({"budget": "soon"}, {"margin": -1.0}, {"workers": 0}):
        with pytest.raises(ValueError, match="expected"):
            run(plans(), out=tmp_path / "none", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """`run_study` does nothing but to remember what it was given; the second study is interrupted."""
    calls: list[dict[str, Any]] = []

    def fake(plan: Any, **options: Any) -> Any:
        calls.append(options)
        options["out"].mkdir(parents=True)
        return SimpleNamespace(status="interrupted" if len(calls) == 2 else "complete")

    monkeypatch.setattr(module, "run_study", fake)
    return calls


def test_ctrl_c_begins_no_further_study(tmp_path: Path, capsys: pytest.CaptureFixture[str], faked: Any) -> None:
    found = run(plans(), out=tmp_path / "all", workers=3, margin=0.1, command="hasten compare ...")
    assert capsys.readouterr().err.splitlines() == ["study 1 of 3: images", "study 2 of 3: images+activation"]
    assert faked[0] == {
        "budget": None, "margin": 0.1, "out": tmp_path / "all" / "original", "workers": 3, "quiet": False,
        "command": "hasten compare ...",
    }  # fmt: skip
    assert found.data["arms"] == []
    assert found.data["unavailable"]["batch"] == "not run yet. The same command goes on."


def test_a_budget_that_is_used_up_leaves_studies_out(tmp_path: Path, monkeypatch: Any, faked: Any) -> None:
    seconds = {"original": 60.0, "activation": 0.0, "batch": None}
    monkeypatch.setattr(_Shares, "of", lambda self, name: seconds[name])
    run(plans(), out=tmp_path / "all", quiet=True)
    assert [(call["out"].name, call["budget"]) for call in faked] == [("original", 60.0), ("batch", None)]


def test_a_variant_alone_is_the_same_study(finished: Robustness, tmp_path: Path, no_processes: None) -> None:
    alone = run_study(plans().variants["batch"], out=tmp_path / "alone", workers=1, quiet=True, retry_drifted=False)
    metrics = [sorted((r["arm"], r["metric"]) for r in each.rows()) for each in (alone, finished.studies["batch"])]
    assert metrics[0] == metrics[1]


# The budget -----------------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_each_study_gets_its_share_of_what_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "_work", lambda plans, folder: {"original": 1.0, "activation": 1.0, "batch": 2.0})
    clock = Clock()
    shares = _Shares(plans(), tmp_path, 400.0, clock=clock)
    assert shares.of("original") == 100.0
    clock.now += 40.0  # it took less: the rest goes to the others
    assert shares.of("activation") == 120.0
    clock.now += 200.0
    assert shares.of("batch") == 160.0
    clock.now += 160.0
    assert shares.of("batch") == 0.0


def test_no_budget_and_nothing_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert _Shares(plans(), tmp_path, None).of("batch") is None
    monkeypatch.setattr(module, "_work", lambda plans, folder: {"original": 0.0, "activation": 1.0, "batch": 1.0})
    shares = _Shares(plans(), tmp_path, 10.0, clock=Clock())
    assert (shares.of("original"), shares.of("activation")) == (None, 5.0)


def test_work_that_is_left(finished: Robustness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = plans(seeds=4)
    assert _left(plans().original, finished.folder / "original") == 0.0
    assert _left(more.original, finished.folder / "original") == 0.75
    assert _left(more.original, tmp_path) == 1.0
    monkeypatch.setattr(module, "estimate", lambda plan: None)  # then by steps: the larger batches take half of them
    assert module._work(more, finished.folder) == {"original": 36.0, "activation": 36.0, "batch": 18.0}
    monkeypatch.setattr(module, "estimate", lambda plan: SimpleNamespace(seconds=float(len(plan.jobs()))))
    assert module._work(more, tmp_path) == {"original": 8.0, "activation": 8.0, "batch": 8.0}


# Reading --------------------------------------------------------------------------------------------------------------


def study(status: str, verdicts: dict[str, str] | None, notes: tuple[str, ...] = ()) -> Any:
    arms = [{"name": "base", "verdict": "baseline"}]
    arms += [{"name": name, "verdict": verdict} for name, verdict in (verdicts or {}).items()]
    analysis = None if verdicts is None else {"arms": arms, "baseline": "base", "alpha": 0.05}
    return SimpleNamespace(status=status, analysis=analysis, data={"notes": list(notes)})


def index(*names: str, **more: Any) -> dict[str, Any]:
    changes = {name: f"another {name}" for name in names}
    return {"workload": "w", "changes": changes, "unavailable": {}, "notes": [], "version": 1, **more}


def test_verdicts_are_brought_together() -> None:
    studies = {
        "original": study("complete", {"a": "pays", "b": "costs"}),
        "width": study("complete", {"a": "pays", "b": "pays"}),
        "norm": study("complete", {"a": "not proven"}),  # b has no run there
    }
    found = _data(index("width", "norm", notes=["mind this"], unavailable={"batch": "no"}), studies)
    assert found["status"] == "complete"
    assert [(arm["name"], arm["confirmed"], arm["unproven"], arm["contradicted"]) for arm in found["arms"]] == [
        ("a", 1, 1, 0), ("b", 0, 1, 1),
    ]  # fmt: skip
    assert found["arms"][1]["variants"] == {"width": "pays", "norm": "not proven"}
    assert found["unavailable"] == {"batch": "no"}
    assert found["notes"][-1] == "mind this"
    assert "3 studies" in found["notes"][-2]


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (("complete", "complete"), "complete"),
        (("complete", "budget"), "budget"),
        (("interrupted", "budget"), "interrupted"),
        (("complete",), "budget"),
    ],
)
def test_the_status_of_all(statuses: tuple[str, ...], expected: str) -> None:
    studies = {
        name: study(status, {"a": "pays"}) for name, status in zip(("original", "width"), statuses, strict=False)
    }
    assert _data(index("width"), studies)["status"] == expected


def test_studies_without_a_verdict_say_why() -> None:
    studies = {"original": study("interrupted", None), "width": study("complete", None, ("base broke.",))}
    found = _data(index("width", "norm"), studies)
    assert found["unavailable"] == {
        "original": "no verdict (interrupted). The same command goes on.",
        "width": "no verdict (complete): base broke.",
        "norm": "not run yet. The same command goes on.",
    }
    assert (found["arms"], found["notes"]) == ([], [])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{}", "expected the index of several studies, got KeyError"),
        ("no json", "the index of several studies"),
        ("[]", "the index of several studies"),
        (json.dumps({**index("width"), "version": 2}), "expected version 1, got 2. Read it with a newer hasten"),
        (json.dumps(index("../elsewhere")), "names of subfolders"),
        (json.dumps({**index("width"), "notes": [1]}), "texts"),
    ],
)
def test_a_foreign_index_is_refused(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(ValueError, match=told):
        open_robustness(tmp_path)


def test_a_folder_without_an_index(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"expected a folder with {INDEX}, got .*Run `robustness` first"):
        open_robustness(tmp_path)
