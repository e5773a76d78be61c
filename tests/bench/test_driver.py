"""The driver against workers that follow a script, so that every turn of events can be played."""

from __future__ import annotations

import io
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.bench.stage import Stage, done, point, whole

from hasten.bench import driver as module
from hasten.bench.driver import Driver, Settings, WorkerError, command
from hasten.bench.plan import Plan
from hasten.bench.pool import Pool
from hasten.bench.progress import Progress
from hasten.bench.store import Store, StoreError


@pytest.fixture
def play(tmp_path, tiny_plan, monkeypatch):
    """`play(script, ...)` runs a driver over two arms and two seeds; returns what happened."""

    class Played:
        def __init__(self, script, *, seeds=2, arms=None, stillborn=0, workers=1, raises=None, **settings) -> None:
            self.plan = tiny_plan(arms, seeds=seeds)
            self.stage = Stage(self.plan, script, stillborn=stillborn)
            monkeypatch.setattr(module, "Pool", self.stage)
            self.stream = io.StringIO()
            self.store = Store(tmp_path / "study")
            try:
                driver = Driver(self.plan, self.store, Settings(workers=workers, **settings), Progress(self.stream))
                if raises is None:
                    self.result = driver.run()
                else:
                    with pytest.raises(raises[0], match=raises[1]):
                        driver.run()
                self.status, self.notes = self.store.get("status"), self.store.get("notes")
                self.runs = [(*run["key"].values()[:1], run["key"].seed, run["status"]) for run in self.store.runs()]
                self.data = [run["data"] for run in self.store.runs()]
                self.points = [[point["point"] for point in run["points"]] for run in self.store.runs()]
            finally:
                self.store.close()
            self.text = self.stream.getvalue()

    return Played


def undisturbed(run, attempt):
    return None


EVERY = [("base", 0), ("smooth", 0), ("smooth", 1), ("base", 1)]
DONE = [(*run, "done") for run in EVERY]


def test_every_run_is_given_once_in_interleaved_order(play):
    played = play(undisturbed)
    assert played.result == played.status == "complete"
    assert played.stage.given == EVERY
    assert played.runs == DONE
    assert played.points == [[0, 1, 2]] * 4
    assert played.stage.ended
    assert play(undisturbed).stage.given == []  # no finished run is repeated


def test_the_first_runs_wait_until_every_process_has_started(play):
    def script(run, attempt):
        return [{"event": "died", "code": -9}] if (run, attempt) == (EVERY[0], 0) else None

    played = play(script, workers=2)
    assert played.status == "complete"
    assert played.stage.all_ready[:2] == [True, True]
    assert not all(played.stage.all_ready)  # a replaced one makes nobody wait


def test_more_seeds_add_runs_to_the_same_study(play):
    play(undisturbed)
    assert play(undisturbed, seeds=3).stage.given == [("base", 2), ("smooth", 2)]


def test_another_study_is_refused(play):
    play(undisturbed)
    with pytest.raises(StoreError, match=r"holds another study .*Pass another folder with --out, or delete this one"):
        play(undisturbed, arms={"base": []})


def test_a_dead_workers_run_goes_on_in_a_new_attempt(play):
    def script(run, attempt):
        if run == ("smooth", 0) and attempt == 0:
            return [point(run, 0), {"event": "died", "code": -9}]
        return None

    played = play(script)
    assert played.stage.given == [EVERY[0], EVERY[1], EVERY[1], *EVERY[2:]]
    assert played.runs == [DONE[0], ("smooth", 0, "interrupted"), *DONE[1:]]
    assert played.points[1:3] == [[0], [0, 1, 2]]
    assert "smooth, seed 0: its process died (killed, as the system does when memory runs out)" in played.text
    assert played.notes == []


def test_a_run_whose_process_dies_three_times_ends_its_arm_only(play):
    played = play(lambda run, attempt: [{"event": "died", "code": -11}] if run[0] == "smooth" else None)
    assert played.result == "complete"
    assert played.stage.given == [EVERY[0], *[EVERY[1]] * 3, EVERY[3]]
    assert played.runs[1:4] == [("smooth", 0, "interrupted")] * 2 + [("smooth", 0, "failed")]
    assert played.data[3]["error"].startswith("its process died 3 times (signal 11). Use fewer workers")
    assert len(played.notes) == 1
    assert "smooth, seed 0: its process died 3 times (signal 11)" in played.notes[0]
    assert played.notes[0].endswith("This arm ends here; the others go on.")


def test_code_that_raises_ends_its_arm_only_and_is_tried_again_on_demand(play):
    broken = {"event": "broken", "error": "ValueError: no", "log": "a.log"}
    played = play(lambda run, attempt: [broken] if run[0] == "smooth" else None)
    assert played.stage.given == [EVERY[0], EVERY[1], EVERY[3]]
    assert played.runs == [DONE[0], ("smooth", 0, "failed"), DONE[3]]
    assert played.data[1] == {"error": "ValueError: no", "again": True, "log": "a.log"}
    text = "smooth, seed 0: ValueError: no (log: a.log). This arm ends here; the others go on."
    assert played.notes == [text]
    assert text in played.text
    assert "[3/3] base, seed 1" in played.text
    repaired = play(undisturbed)
    assert repaired.stage.given == [EVERY[1], EVERY[2]]
    assert repaired.notes == []


def test_a_run_that_is_not_finite_ends_alone_and_for_good(play):
    failed = {"event": "failed", "error": "the training loss became nan at step 3."}
    played = play(lambda run, attempt: [point(run, 0), failed] if run == ("smooth", 0) else None)
    assert played.stage.given == EVERY
    assert played.runs == [DONE[0], ("smooth", 0, "failed"), *DONE[2:]]
    assert played.points[1] == [0]
    assert played.notes == ["smooth, seed 0: failed: the training loss became nan at step 3."]
    assert play(undisturbed).stage.given == []


def test_a_point_that_changes_between_attempts_ends_its_arm_only(play):
    def script(run, attempt):
        if run != ("smooth", 0):
            return None
        return [point(run, 0, metric=0.1 * attempt), {"event": "died", "code": -9} if attempt == 0 else done()]

    played = play(script)
    assert played.result == "complete"
    assert played.runs == [DONE[0], ("smooth", 0, "interrupted"), ("smooth", 0, "failed"), DONE[3]]
    assert "was 0.0 in attempt 0 and is now 0.1. The run is not deterministic" in played.notes[0]


def test_workers_that_do_not_start_end_the_study_with_a_reason(play):
    match = r"worker processes do not start \(exit status 1\)\. See worker-2\.log"
    played = play(undisturbed, stillborn=3, raises=(WorkerError, match))
    assert played.status == "interrupted"
    assert played.stage.ended
    assert play(undisturbed, stillborn=2).result == "complete"


def test_a_worker_that_dies_between_two_runs_costs_an_attempt_and_nothing_else(play):
    def script(run, attempt):
        return [*whole(run), {"event": "died", "code": -9}] if run == EVERY[0] else None

    played = play(script)
    assert played.runs == [DONE[0], ("smooth", 0, "interrupted"), *DONE[1:]]
    assert played.points == [[0, 1, 2], [], [0, 1, 2], [0, 1, 2], [0, 1, 2]]


def test_the_process_of_code_that_raised_is_not_used_again(play):
    broken = {"event": "broken", "error": "ValueError: no", "log": "a.log"}
    played = play(lambda run, attempt: [broken] if run == EVERY[1] else None)
    assert [worker for worker, _ in played.stage.messages][1] is not [worker for worker, _ in played.stage.messages][2]
    assert played.stage.started == 2
    assert played.runs == [DONE[0], ("smooth", 0, "failed"), DONE[3]]


def test_what_a_replaced_worker_still_says_is_not_heard(play):
    def script(run, attempt):
        if run == ("base", 0) and attempt == 0:
            return [{"event": "died", "code": 1}, point(run, 0, metric=99.0), done(), {"event": "died", "code": 1}]
        return None

    played = play(script)
    assert played.runs == [("base", 0, "interrupted"), *DONE]
    assert played.points[0] == []


def test_unknown_events_and_a_ready_said_twice_change_nothing(play):
    played = play(
        lambda run, attempt: [{"event": "ready"}, {"event": "news"}, *whole(run), {"event": "progress", "step": 1}]
    )
    assert played.runs == DONE


def test_a_full_disk_ends_the_study_and_marks_what_was_going_on(play):
    full = {"event": "full", "error": "[Errno 28] No space left on device"}
    match = "base, seed 1: .Errno 28. No space left on device. The disk is full: free some space and run the same"
    played = play(lambda run, attempt: [full] if run == EVERY[3] else None, raises=(StoreError, match))
    assert played.runs == [*DONE[:3], ("base", 1, "interrupted")]
    assert played.status == "interrupted"
    assert play(undisturbed).stage.given == [EVERY[3]]


def test_notes_are_said_once(play):
    note = {"event": "note", "text": "cannot write checkpoints"}
    played = play(lambda run, attempt: [note, note, *whole(run)])
    assert played.notes == ["cannot write checkpoints"]
    assert played.text.count("cannot write checkpoints") == 1


def press() -> None:
    signal.raise_signal(signal.SIGINT)


def test_ctrl_c_once_stops_at_the_next_point(play):
    def script(run, attempt):
        if run == EVERY[1] and attempt == 0:
            return [press, point(run, 0), done(stopped=True)]
        return None

    before = signal.getsignal(signal.SIGINT)
    played = play(script)
    assert signal.getsignal(signal.SIGINT) is before
    assert played.result == played.status == "interrupted"
    assert played.runs == [DONE[0], ("smooth", 0, "stopped")]
    assert played.points[1] == [0]
    assert [message for _, message in played.stage.messages][-1] == {"do": "stop"}
    assert "finishing the points in progress; press Ctrl-C again to stop at once" in played.text
    resumed = play(undisturbed)
    assert resumed.stage.given == EVERY[1:]
    assert resumed.result == "complete"


def test_ctrl_c_twice_stops_at_once(play):
    played = play(lambda run, attempt: [press, press, *whole(run)] if run == EVERY[1] else None)
    assert played.result == "interrupted"
    assert played.runs == [DONE[0], ("smooth", 0, "interrupted")]
    assert played.stage.ended
    assert play(undisturbed).runs == [DONE[0], ("smooth", 0, "interrupted"), *DONE[1:]]


def test_elsewhere_than_in_the_main_thread_it_works_too(tmp_path, tiny_plan, monkeypatch):
    plan, found = tiny_plan(), []
    monkeypatch.setattr(module, "Pool", Stage(plan, undisturbed))

    def work() -> None:
        store = Store(tmp_path / "study")
        found.append(Driver(plan, store, Settings(), Progress(io.StringIO())).run())
        store.close()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == ["complete"]


def slow(*which: tuple[str, int]) -> Callable:
    def script(run, attempt):
        return [*whole(run)[:3], done(2.0 if run in which and attempt == 0 else 1.0)]

    return script


def test_drifted_runs_are_tried_again_once_at_most_a_quarter(play):
    played = play(slow(("base", 1), ("smooth", 1), ("base", 2)), seeds=4)
    again = played.stage.given[8:]
    assert len(again) == 2
    assert set(again) < {("base", 1), ("smooth", 1), ("base", 2)}
    assert "3 runs met a slower machine (drift); trying 2 of them again" in played.text
    drifted = [run[:2] for run, data in zip(played.runs, played.data, strict=True) if data["drifted"]]
    assert sorted(drifted) == [("base", 1), ("base", 2), ("smooth", 1)]
    assert len(played.runs) == 10
    assert play(undisturbed, seeds=4).stage.given == []


def test_a_second_try_that_drifts_too_is_marked_and_not_tried_again(play):
    played = play(lambda run, attempt: [*whole(run)[:3], done(2.0 if run == ("base", 1) else 1.0)])
    assert played.stage.given == [*EVERY, ("base", 1)]
    assert [data["drifted"] for data in played.data] == [False, False, False, True, True]


def test_drift_is_left_alone_when_asked(play):
    played = play(slow(("base", 1)), retry_drifted=False)
    assert played.stage.given == EVERY
    assert played.data[3]["drifted"] is True


class Clock:
    now = 0.0


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("hasten.bench.driver.Budget", lambda *args: _budget(*args, clock=lambda: clock.now))
    return clock


def _budget(*args, clock):
    from hasten.bench.budget import Budget

    return Budget(*args, clock=clock)


def test_a_seed_that_is_not_expected_to_fit_is_not_started(play, clock):
    def script(run, attempt):
        clock.now += 10.0
        return whole(run)

    played = play(script, budget=35.0)
    assert played.result == played.status == "budget"
    assert played.runs == DONE[:2]
    assert play(script, budget=45.0).result == "complete"


def test_second_tries_that_do_not_fit_are_left_out_quietly(play, clock):
    def script(run, attempt):
        clock.now += 10.0
        return slow(("base", 1))(run, attempt)

    played = play(script, budget=39.0, seeds=[0, 1])
    assert played.stage.given == EVERY[:2]
    clock.now = 0.0
    played = play(script, budget=20.0)  # the second seed fits, its second try does not
    assert played.stage.given == EVERY[2:]
    assert played.result == "complete"


def test_an_error_of_the_system_is_explained(play, monkeypatch):
    def fail(*args):
        raise OSError(28, "No space left on device", "runs/x/sources")

    monkeypatch.setattr(module, "write_sources", fail)
    play(undisturbed, raises=(StoreError, r"runs/x/sources: No space left on device\. The disk is full: free some"))


def test_an_unforeseen_error_leaves_no_worker_and_no_run_called_running(tmp_path, tiny_plan, monkeypatch):
    plan = tiny_plan()
    store = Store(tmp_path / "study")
    pools: list[Pool] = []

    class Watched(Pool):
        def __enter__(self) -> Pool:
            pools.append(self)
            return super().__enter__()

    monkeypatch.setattr(module, "Pool", Watched)
    driver = Driver(plan, store, Settings(), Progress(io.StringIO()))
    monkeypatch.setattr(driver, "_hear_run", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        driver.run()
    assert [worker.process.returncode is None for worker in pools[0].workers] == [False]
    assert [run["status"] for run in store.runs()] == ["interrupted"]
    assert store.get("status") == "interrupted"
    store.close()


def test_energy_is_measured_only_where_one_run_at_a_time_has_the_machine(
    tiny_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    plan = tiny_plan()
    for workers in (1, 2):
        sent = command(plan, plan.jobs()[0], Settings(workers=workers), [], tmp_path / "c.pt", tmp_path / "log")
        assert sent["energy"] is (workers == 1)
