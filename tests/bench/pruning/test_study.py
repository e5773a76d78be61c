"""Whole pruning studies: computed here, resumed after every kind of end, and what the store keeps of them."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.bench.inline import InlinePool, InlineWorker
from tests.bench.pruning.quick import quick
from tests.bench.robustness.tools import alive, children, environment, hasten, wait_for

from hasten.bench import driver as drivers
from hasten.bench.pruning import PruneStudy, open_prune_study, run_prune
from hasten.bench.pruning.plan import SMALLER, START, UNPRUNED
from hasten.bench.store import Store, StoreError
from hasten.bench.study import open_study

ARMS = ["global_magnitude"]


def ran(plan: Any, folder: Path) -> PruneStudy:
    with quick():
        return run_prune(plan, out=folder, workers=1, quiet=True)


def found(study: PruneStudy) -> dict[tuple[str, int, int], tuple[Any, ...]]:
    """What a study computed, without times."""
    return {
        (run["arm"], run["point"], run["seed"]): (run["metric"], run["before"], run["weights"]) for run in study.rows()
    }


def of_seed_0(study: PruneStudy) -> dict[tuple[str, int, int], tuple[Any, ...]]:
    return {job: result for job, result in found(study).items() if job[2] == 0}


@pytest.fixture(scope="module")
def whole(make_plan: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> PruneStudy:
    return ran(make_plan(), tmp_path_factory.mktemp("whole") / "study")


def test_every_job_has_its_result(whole: PruneStudy, make_plan: Callable[..., Any]) -> None:
    assert whole.status == "complete"
    assert set(found(whole)) == {(job.arm, job.first, job.seed) for job in make_plan().jobs()}
    assert all(run["status"] == "done" and run["counts"] for run in whole.data["runs"])


def test_all_runs_of_a_seed_begin_with_the_same_weights(whole: PruneStudy) -> None:
    runs = {(run["arm"], run["point"], run["seed"]): run for run in whole.rows()}
    for seed in (0, 1):
        assert runs[UNPRUNED, 0, seed]["before"] == runs[START, 0, seed]["metric"]
    assert len({run["weights"] for run in whole.rows()}) == len(whole.rows())


def test_sizes_are_those_that_were_asked_for(whole: PruneStudy) -> None:
    for run in whole.rows():
        cost = run["cost"]
        assert cost["compression"] == pytest.approx(run["ratio"], rel=0.02 if run["arm"] != SMALLER else 0.5)
        if run["arm"] in ("random", *ARMS):
            assert cost["parameters"] == 435
            assert abs(cost["nonzero"] - 435 / run["ratio"]) <= 1
            assert cost["macs"] > cost["macs_nonzero"]
            assert not cost["removed"]
    rows = {(row["arm"], row["point"]): row for row in whole.curves()}
    assert rows[UNPRUNED, 0]["compression"] == pytest.approx(1.0, rel=0.01)
    assert rows["global_magnitude", 2]["bytes"]["dense"] == 4 * 435


def test_channels_are_taken_out(finished: PruneStudy) -> None:
    rows = {(row["arm"], row["point"]): row for row in finished.curves()}
    row = rows["channel_l2@channel", 2]
    assert row["removed"]
    assert row["parameters"] == row["nonzero"] < 435 / 3.9
    assert row["compression"] >= 4.0
    assert row["macs"] == row["macs_nonzero"]


def test_the_same_call_repeats_nothing(whole: PruneStudy, make_plan: Callable[..., Any], monkeypatch) -> None:
    monkeypatch.setattr(InlineWorker, "send", lambda self, message: pytest.fail("nothing is left to do"))
    again = ran(make_plan(), whole.folder)
    assert found(again) == found(whole)


@pytest.mark.parametrize("after", [1, 5])
def test_a_study_that_was_cut_off_goes_on_to_the_same_bits(
    after: int, whole: PruneStudy, make_plan: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the driver were gone after so many results."""
    points, add_point = [], Store.add_point

    def count(self: Store, key: Any, point: dict[str, Any]) -> None:
        if len(points) == after:
            raise KeyboardInterrupt
        points.append(key)
        add_point(self, key, point)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "add_point", count)
        with pytest.raises(KeyboardInterrupt):
            ran(make_plan(seeds=1), tmp_path / "study")
    partial = open_prune_study(tmp_path / "study")
    assert partial.status == "interrupted"
    assert partial.table()
    given: list[dict[str, Any]] = []
    send = InlineWorker.send
    monkeypatch.setattr(InlineWorker, "send", lambda self, message: given.append(message) or send(self, message))
    assert found(ran(make_plan(seeds=1), tmp_path / "study")) == of_seed_0(whole)
    assert len(given) == len(make_plan(seeds=1).jobs()) - after  # no finished run is repeated


def test_more_seeds_add_to_the_study_and_start_weights_that_are_gone_are_made_again(
    whole: PruneStudy, make_plan: Callable[..., Any], tmp_path: Path
) -> None:
    one = ran(make_plan(seeds=1), tmp_path / "study")
    assert found(one) == of_seed_0(whole)
    (weights,) = (tmp_path / "study" / "weights").iterdir()
    before = weights.read_bytes()
    weights.unlink()
    two = ran(make_plan(seeds=2), tmp_path / "study")
    assert weights.read_bytes() == before
    assert found(two) == found(whole)


def test_start_weights_that_are_damaged_are_named(make_plan: Callable[..., Any], tmp_path: Path) -> None:
    ran(make_plan(seeds=1), tmp_path / "study")
    (weights,) = (tmp_path / "study" / "weights").iterdir()
    weights.write_bytes(weights.read_bytes()[:-100])
    with contextlib.closing(Store(tmp_path / "study")) as store:
        unpruned = next(run for run in store.runs() if run["key"].arm == UNPRUNED)
        store.put_run(unpruned["key"], "interrupted", {})
    with pytest.warns(RuntimeWarning, match="cannot use this checkpoint"):
        study = ran(make_plan(seeds=1), tmp_path / "study")
    assert any("expected the start weights, got no readable file" in note for note in study.data["notes"])


class Killed(InlineWorker):
    """Dies in the middle of the first run of `random` at ratio 4; its replacement does not."""

    times = 0

    def send(self, message: dict[str, Any]) -> None:
        if message["strategy"] == "random" and message["ratio"] == 4.0 and Killed.times == 0:
            Killed.times += 1
            self._tell({"event": "died", "code": -9})
        else:
            super().send(message)


def test_a_killed_worker_costs_its_running_job_only(
    whole: PruneStudy, make_plan: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Killed.times = 0
    monkeypatch.setattr(InlinePool, "_start", lambda self, number: Killed(self.events, self.logs / "log"))
    study = ran(make_plan(seeds=1), tmp_path / "study")
    assert found(study) == of_seed_0(whole)
    assert [run["status"] for run in study.data["runs"]].count("interrupted") == 1
    assert len(study.data["runs"]) == len(found(study)) + 1


def test_what_begins_with_a_start_that_failed_is_left_out(
    make_plan: Callable[..., Any], tmp_path: Path, blobs: Path
) -> None:
    text = blobs.read_text().replace("    return part(320, 0), part(256, 1)\n", """    inputs, targets = part(320, 0)
    return (inputs * float("inf") if seed == 1 else inputs, targets), part(256, 1)
""")  # fmt: skip
    mine = tmp_path / "mine.py"
    mine.write_text(text)
    study = ran(make_plan(mine), tmp_path / "study")
    assert study.status == "complete"
    assert {seed for _, _, seed in found(study)} == {0, 1}
    assert {arm for arm, _, seed in found(study) if seed == 1} == {START, SMALLER}
    failed = [run for run in study.data["runs"] if run["status"] == "failed"]
    assert {(run["arm"], run["seed"]) for run in failed} == {(START, 1), (SMALLER, 1)}
    assert "5 runs are left out: they begin with weights of start, seed 1, which failed." in study.data["notes"]
    assert "start at 1" in study.table()


def test_code_that_breaks_in_the_start_ends_what_waits_for_it(
    make_plan: Callable[..., Any], tmp_path: Path, blobs: Path
) -> None:
    mine = tmp_path / "mine.py"
    broken = "def loss(outputs, batch):\n    if outputs.requires_grad:\n        raise RuntimeError('no loss')\n"
    mine.write_text(blobs.read_text().replace("def loss(outputs, batch):\n", broken))
    study = ran(make_plan(mine), tmp_path / "study")
    assert [run["status"] for run in study.data["runs"]] == ["failed"] * 2  # the start and a smaller model, no others
    assert any("no loss" in note for note in study.data["notes"])
    assert study.sentences() == ["No strategy has a whole curve yet."]
    assert study.report().is_file()


def test_a_folder_of_another_study_is_refused(whole: PruneStudy, make_plan: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="holds another study .*Pass another folder with --out"):
        ran(make_plan(ratios=[3]), whole.folder)
    with pytest.raises(ValueError, match="expected a study that has begun, got .*, a study of hasten prune"):
        open_study(whole.folder)
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(ValueError, match=r"with a report\.html of something else"):
        ran(make_plan(), tmp_path)
    with pytest.raises(StoreError, match="expected a study"):
        open_prune_study(tmp_path)


def test_rows_and_words_of_a_study(finished: PruneStudy) -> None:
    assert "PruneStudy" in repr(finished)
    assert "complete" in repr(finished)
    assert json.loads(finished.json())["kind"] == "prune"
    assert all(isinstance(text, str) and text.endswith(".") for text in finished.sentences())


SLOW = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


@pytest.mark.slow
@SLOW
def test_a_driver_and_its_workers_killed_in_the_middle_go_on_to_the_same_bits(
    make_plan: Callable[..., Any], tmp_path: Path, blobs: Path
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(blobs.read_text().replace("SECONDS_PER_STEP = 0.0", "SECONDS_PER_STEP = 0.01"))
    words = (mine, "--strategies", "global_magnitude", "--ratios", "2,4", "--seeds", "2", "--workers", "2")
    expected = found(ran(make_plan(mine), tmp_path / "undisturbed"))
    folder = tmp_path / "study"
    for wanted in (2, 5):  # results after which the driver is killed
        command, silent = hasten("prune", *words, "--out", folder), subprocess.DEVNULL
        with subprocess.Popen(command, env=environment(), stdout=silent, stderr=silent) as process:
            wait_for(lambda wanted=wanted: done(folder) >= wanted, seconds=120)
            workers = children(process.pid)
            process.send_signal(signal.SIGKILL)
        wait_for(lambda workers=workers: not any(map(alive, workers)))
    assert done(folder) < len(expected)
    study = ran(make_plan(mine), folder)
    assert study.status == "complete"
    assert found(study) == expected


def done(folder: Path) -> int:
    """Runs that have ended."""
    if not (folder / "study.sqlite").is_file():
        return 0
    try:
        store = Store(folder, read_only=True)
    except StoreError:
        return 0
    with_done = sum(run["status"] == "done" for run in store.runs())
    store.close()
    return with_done


def test_a_worker_process_runs_the_tasks_by_name(make_plan: Callable[..., Any]) -> None:
    from hasten._core.call import resolve

    plan = make_plan()
    assert {resolve(plan.task(job)["function"]).__name__ for job in plan.jobs()} == {"train_dense", "fine_tune"}
    assert drivers.command.__kwdefaults__ == {"weights": None, "start": None}
