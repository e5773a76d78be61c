"""Halves of one study become one: same question, environment and machine, equal results, inputs as they were."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.bench.made import ENVIRONMENT, MACHINE, contents, make, points_of, result

from hasten.bench.archive import archive
from hasten.bench.book import Book, log_name
from hasten.bench.merge import merge
from hasten.bench.store import FILE, NotDeterministicError, Store, StoreError
from hasten.bench.study import open_study, run_study


@pytest.fixture(scope="module")
def plans(tiny_plan) -> dict[str, Any]:
    low, high = tiny_plan(seeds=[0, 1, 2]), tiny_plan(seeds=[3, 4, 5])
    return {"low": low, "high": high, "overlap": tiny_plan(seeds=[2, 3]), "all": tiny_plan(seeds=6)}


@pytest.fixture
def halves(tmp_path, plans) -> list[Path]:
    return [
        make(tmp_path / "low", plans["low"]),
        make(tmp_path / "high", plans["high"], created="2026-01-01 00:00:00"),
    ]


def change(folder: Path, *, metric: float = 0.0, data: dict[str, Any] | None = None, seed: int = 0) -> None:
    """Change the last point, or the data, of every run of a seed."""
    store = Store(folder)
    for run in store.runs():
        if run["key"].seed == seed:
            point = {**run["points"][-1], "metric": run["points"][-1]["metric"] + metric}
            store.db.execute(
                "UPDATE point SET metric = ?, data = json_set(data, '$.metric', ?) "
                "WHERE arm = ? AND seed = ? AND point = ?",
                (point["metric"], point["metric"], run["key"].arm, seed, point["point"]),
            )
            store.put_run(run["key"], run["status"], {**run["data"], **(data or {})})
    store.close()


def facts_of(folder: Path) -> dict[str, Any]:
    store = Store(folder, read_only=True)
    found = store.facts()
    store.close()
    return found


def test_two_halves_are_the_study_that_ran_in_one_go(halves, tmp_path, plans):
    before = [contents(folder) for folder in halves]
    out = merge(halves, tmp_path / "both", command="hasten merge low high --out both")
    assert [contents(folder) for folder in halves] == before
    assert {path.name for path in tmp_path.iterdir()} == {"low", "high", "both"}
    merged = open_study(out)
    whole = open_study(make(tmp_path / "whole", plans["all"]))
    assert merged.verdicts() == whole.verdicts()
    assert sorted(map(str, merged.rows())) == sorted(map(str, whole.rows()))
    assert merged.analysis["arms"][1]["seeds"] == [0, 1, 2, 3, 4, 5]
    assert merged.status == "complete"
    assert merged.data["study"]["seeds"] == [0, 1, 2, 3, 4, 5]
    assert merged.data["study"]["created"] == "2026-01-01 00:00:00"
    assert merged.data["study"]["command"] == "hasten merge low high --out both"
    said = "Merged from 2 studies: seeds 0 to 2 (begun 2026-01-02 03:04:05), seeds 3 to 5 (begun 2026-01-01 00:00:00)."
    assert merged.data["notes"] == [said]


def test_logs_and_sources_come_along_and_checkpoints_do_not(halves, tmp_path):
    for number, folder in enumerate(halves):
        source = folder / "sources" / "abcd" / "tiny.py"
        source.parent.mkdir(parents=True)
        source.write_text("same")
        (folder / "sources" / f"{number}").mkdir()
        (folder / "sources" / f"{number}" / "own.py").write_text(str(number))
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "x.pt").write_text("")
    out = merge(halves, tmp_path / "both")
    names = set(contents(out))
    assert {"sources/abcd/tiny.py", "sources/0/own.py", "sources/1/own.py", "logs/0-worker-0.log"} <= names
    assert not [name for name in names if name.startswith(("checkpoints", "study.lock"))]
    store = Store(out, read_only=True)
    for run in store.runs():
        assert (out / "logs" / log_name(run["key"])).read_text().startswith(f"{run['key'].arm} {run['key'].seed} ")
    store.close()
    (halves[1] / "sources" / "abcd" / "tiny.py").write_text("other")
    with pytest.raises(StoreError, match="the same text as in another study under the same digest"):
        merge(halves, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_run_of_both_is_kept_twice_and_counts_once(halves, tmp_path, plans):
    other = make(tmp_path / "overlap", plans["overlap"], pace=2.0)
    merged = open_study(merge([*halves, other], tmp_path / "both"))
    tries = [(r["arm"], r["seed"], r["attempt"]) for r in merged.data["runs"]]
    assert len(tries) == len(set(tries)) == 12 + 4
    assert sorted({seed for _, seed, attempt in tries if attempt == 1}) == [2, 3]
    assert sum(run["counts"] for run in merged.data["runs"]) == 12
    assert merged.data["study"]["seeds"] == [0, 1, 2, 3, 4, 5]
    log = log_name(next(r["key"] for r in Store(tmp_path / "both", read_only=True).runs() if r["key"].attempt == 1))
    assert str(other) in (tmp_path / "both" / "logs" / log).read_text()


def test_a_copy_of_a_measurement_is_not_a_second_one(halves, tmp_path):
    copied = shutil.copytree(halves[0], tmp_path / "copied")
    merged = open_study(merge([*halves, copied], tmp_path / "both"))
    assert [run["attempt"] for run in merged.data["runs"]] == [0] * 12
    again = open_study(merge([tmp_path / "both", halves[1]], tmp_path / "again"))
    assert [run["attempt"] for run in again.data["runs"]] == [0] * 12
    assert again.data["notes"][0] == merged.data["notes"][0]  # what it once said it says for ever
    assert len(again.data["notes"]) == 2
    assert merged.data["notes"][0].startswith("Merged from 2 studies: ")
    assert merged.data["notes"][0].endswith(" 1 more held nothing that these do not.")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"metric": 1e-12}, r"point 2 of base, seed 2 is 0\.7.* in .*low and 0\.7\d+ in .*overlap. The run is not"),
        ({"data": {"weights": "f" * 16}}, "base, seed 2 ends with other weights in .*low than in .*overlap"),
    ],
)
def test_a_run_that_came_out_differently_is_an_error(halves, tmp_path, plans, changes, says):
    other = make(tmp_path / "overlap", plans["overlap"], pace=2.0)
    change(other, seed=2, **changes)
    with pytest.raises(NotDeterministicError, match=says):
        merge([*halves, other], tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_another_question_is_refused_with_what_differs(halves, tmp_path, tiny_plan):
    from hasten.methods import label_smoothing

    arms = make(tmp_path / "arms", tiny_plan({"base": [], "smooth": [label_smoothing(0.2)]}))
    curve = make(tmp_path / "curve", tiny_plan(points=2))
    other = make(tmp_path / "other", tiny_plan(), identity="0" * 16)
    for folder, what in ((arms, "another arms"), (curve, "another curve"), (other, "the code, the data or the metric")):
        with pytest.raises(ValueError, match=f"the question of .*low, got .*{what} in .*hasten report A B"):
            merge([halves[0], folder], tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_another_environment_is_refused(halves, tmp_path, plans):
    newer = make(tmp_path / "new", plans["high"], environment={**ENVIRONMENT, "torch": "2.7.0"}, digest="f" * 16)
    with pytest.raises(ValueError, match=r"environment of .*low, got torch 2\.7\.0 \(not 2\.6\.0\) in .*new"):
        merge([halves[0], newer], tmp_path / "both", allow_mixed=True)


MAC = {**MACHINE, "processor": "Slide rule", "load at start": 3.0}


def test_another_machine_is_refused_or_named_for_ever(halves, tmp_path, plans):
    other = make(tmp_path / "mac", plans["high"], machine=MAC, pace=3.0)
    with pytest.raises(
        ValueError, match=r"processor Slide rule \(not Abacus\) in .*mac.*--allow-mixed the report says"
    ):
        merge([halves[0], other], tmp_path / "both")
    out = merge([halves[0], other], tmp_path / "both", allow_mixed=True)
    merged = open_study(out)
    assert merged.data["environment"]["processor"] == "Abacus; Slide rule"
    assert merged.data["notes"][1].startswith(
        "Measured on different machines (Synthetic 1.0, Abacus, 2 cores: seeds 0 to 2; Synthetic 1.0, Slide rule, "
        "2 cores: seeds 3 to 5). Speedups and gains compare runs of one seed"
    )
    assert len(merged.data["notes"]) == 2
    assert not [run for run in merged.data["runs"] if "drifted" in run["flags"]]
    store = Store(out)
    store.put("notes", [])  # as the driver does when it goes on
    store.close()
    assert open_study(out).data["notes"] == merged.data["notes"]
    again = merge([out, halves[1]], tmp_path / "again", allow_mixed=True)
    assert merged.data["notes"][1] in open_study(again).data["notes"]


def test_seeds_whose_pairs_cross_machines_are_named(tmp_path, plans):
    low = make(tmp_path / "low", plans["low"], left=1, status="interrupted")  # smooth of seed 2 is missing
    other = make(tmp_path / "mac", plans["overlap"], machine=MAC)
    merged = open_study(merge([low, other], tmp_path / "both", allow_mixed=True))
    assert merged.data["notes"][-1] == "Times of different machines are compared with each other in seed 2."


def test_the_load_at_the_start_makes_no_other_machine(halves, tmp_path, plans):
    busy = make(tmp_path / "busy", plans["high"], machine={**MACHINE, "load at start": 9.0})
    assert open_study(merge([halves[0], busy], tmp_path / "both")).data["environment"]["load at start"] == "0.5; 9.0"


def test_a_half_that_met_a_slower_machine_is_marked(halves, tmp_path):
    for seed in (3, 4):
        change(halves[1], seed=seed, data={"calibration": {"before": 0.012, "after": 0.013, "ratio": 1.0}})
    merged = open_study(merge(halves, tmp_path / "both"))
    assert {run["seed"] for run in merged.data["runs"] if "drifted" in run["flags"]} == {3, 4}


@pytest.mark.parametrize(
    ("left", "said", "expected"),
    [
        (2, "budget", "budget"),
        (2, "interrupted", "interrupted"),
        (2, "running", "interrupted"),
        (0, "interrupted", "complete"),
        (2, "complete", "complete"),  # an arm has ended; its runs are not missing
    ],
)
def test_how_far_the_whole_has_come(halves, tmp_path, plans, left, said, expected):
    part = make(tmp_path / "part", plans["overlap"], left=left, status=said)
    assert open_study(merge([halves[0], part], tmp_path / "both")).status == expected


def test_what_a_killed_driver_left_running_is_interrupted(halves, tmp_path, plans):
    store = Store(halves[0])
    store.put_run(store.runs()[-1]["key"], "running", {})
    store.close()
    merged = open_study(merge(halves, tmp_path / "both"))
    assert [run["status"] for run in merged.data["runs"]].count("interrupted") == 1


def test_margins_that_differ_are_not_used_and_that_is_said(tmp_path, plans):
    parts = [make(tmp_path / "a", plans["low"], margin=0.01), make(tmp_path / "b", plans["high"], margin=0.02)]
    merged = open_study(merge(parts, tmp_path / "both"))
    assert facts_of(tmp_path / "both")["margin"] is None
    assert merged.data["notes"][-1].endswith("different margins, so none of them is used.")
    same = [parts[0], make(tmp_path / "c", plans["high"], margin=0.01)]
    assert facts_of(merge(same, tmp_path / "same"))["margin"] == 0.01


def test_notes_about_broken_runs_point_to_the_new_logs(halves, tmp_path, plans):
    store = Store(halves[1])
    key = store.runs()[0]["key"]
    log = str(halves[1] / "logs" / log_name(key))
    store.put_run(key, "failed", {"error": "RuntimeError: no", "again": True, "log": log})
    store.put("notes", [f"base, seed 3: RuntimeError: no (log: {log}). This arm ends here."])
    store.close()
    out = merge(halves, tmp_path / "both")
    new = out.resolve() / "logs" / log_name(key)
    assert new.is_file()
    assert open_study(out).data["notes"][-1] == f"base, seed 3: RuntimeError: no (log: {new}). This arm ends here."


def test_archives_can_be_merged_too(halves, tmp_path):
    packed = [archive(folder) for folder in halves]
    merged = open_study(merge(packed, tmp_path / "both"))
    assert merged.verdicts() == open_study(merge(halves, tmp_path / "plain")).verdicts()


def test_the_output_goes_on(tiny_plan, tmp_path, no_processes):
    """Seeds of two folders, merged, given to `compare` with one more: only the new one is trained."""
    for number in (0, 1):
        plan = tiny_plan(seeds=[number], duration="30step")
        run_study(plan, out=tmp_path / str(number), workers=1, quiet=True, retry_drifted=False)
    out = merge([tmp_path / "0", tmp_path / "1"], tmp_path / "both")
    before = open_study(out).rows()
    done = run_study(tiny_plan(seeds=3, duration="30step"), out=out, workers=1, quiet=True, retry_drifted=False)
    assert [row for row in done.rows() if row["seed"] < 2] == before
    assert {row["seed"] for row in done.rows()} == {0, 1, 2}
    assert done.status == "complete"
    assert done.data["notes"][0].startswith("Merged from 2 studies: seed 0 (begun ")


def test_what_cannot_be_merged(halves, tmp_path):
    with pytest.raises(ValueError, match="at least two studies"):
        merge(halves[:1], tmp_path / "both")
    with pytest.raises(ValueError, match="each study once"):
        merge([halves[0], tmp_path / "high" / ".." / "low"], tmp_path / "both")
    with pytest.raises(ValueError, match="an output outside the inputs"):
        merge(halves, halves[0] / "both")
    with pytest.raises(ValueError, match="a folder that does not exist yet, or an empty one"):
        merge(halves, halves[0].parent)
    with pytest.raises(StoreError, match=r"found no study\.sqlite"):
        merge([halves[0], tmp_path / "nothing"], tmp_path / "both")
    Store(tmp_path / "begun").close()
    with pytest.raises(ValueError, match="a study that has begun"):
        merge([halves[0], tmp_path / "begun"], tmp_path / "both")
    assert not (tmp_path / "both").exists()


KILLED = """
import os, signal, sys
from hasten.bench import merge as module
real, count = module.{place}, [0]
def killed(*words, **named):
    count[0] += 1
    if count[0] == {after}:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*words, **named)
module.{place} = killed
module.merge(sys.argv[1:3], sys.argv[3])
"""


@pytest.mark.parametrize(("place", "after"), [("_copy", 3), ("Store", 3)])
def test_a_kill_leaves_nothing_that_looks_like_a_study(halves, tmp_path, place, after):
    out = tmp_path / "both"
    code = KILLED.format(place=place, after=after)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    before = [contents(folder) for folder in halves]
    killed = subprocess.run([sys.executable, "-c", code, *map(str, [*halves, out])], env=env, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not out.exists()
    (left,) = tmp_path.glob(".both.*.part")
    with pytest.raises(StoreError):
        open_study(left)
    assert [contents(folder) for folder in halves] == before
    assert open_study(merge(halves, out)).status == "complete"


def test_one_file_holds_it_in_one_transaction(tmp_path):
    """A disk that fills up in the middle of writing leaves an empty study, not half of one."""
    store = Store(tmp_path / "study")
    pages = store.db.execute("PRAGMA page_count").fetchone()[0]
    store.db.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StoreError, match="free some space"):
        store.fill({"plan": "x" * 3000, "title": "y" * 30_000}, [])
    assert store.facts() == {}
    store.close()
    assert (tmp_path / "study" / FILE).is_file()


def test_the_numbers_are_those_of_the_formula(halves, tmp_path, plans):
    out = merge(halves, tmp_path / "both")
    store = Store(out, read_only=True)
    book = Book(plans["all"], store, "e" * 16)
    assert book.pending() == []
    for run in store.runs():
        key = run["key"]
        assert run["points"] == points_of(plans["all"], key.arm, key.seed)
        assert run["data"]["weights"] == result(1.0)["weights"]
    store.close()
