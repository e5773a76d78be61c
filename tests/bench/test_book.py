from __future__ import annotations

import pytest

from hasten.bench.book import Book, counting
from hasten.bench.plan import Job
from hasten.bench.store import RunKey, Store
from hasten.methods import label_smoothing


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "study")
    (opened.folder / "checkpoints").mkdir()
    yield opened
    opened.close()


@pytest.fixture
def book(store, tiny_plan):
    return Book(tiny_plan(seeds=3), store, "here")


def end(book: Book, job: Job, status: str = "done", seconds: float = 1.0, **data) -> RunKey:
    key = book.next_key(job)
    book.store.put_run(key, status, {"calibration": {"before": seconds, "after": seconds}, **data})
    return key


def test_every_run_is_pending_until_it_has_come_to_its_end(book):
    jobs = book.plan.jobs()
    assert book.pending() == jobs
    end(book, jobs[0], "done")
    end(book, jobs[1], "failed", error="the loss became nan")
    end(book, jobs[2], "failed", error="it raised", again=True)
    end(book, jobs[3], "stopped")
    end(book, jobs[4], "interrupted")
    end(book, jobs[5], "running")
    assert book.pending() == jobs[2:]


def test_each_attempt_has_a_key_of_its_own(book):
    job = book.plan.jobs()[0]
    keys = [end(book, job, "interrupted") for _ in range(3)]
    assert [key.attempt for key in keys] == [0, 1, 2]
    assert len({key.values()[:-1] for key in keys}) == 1
    assert book.next_key(book.plan.jobs()[1]).attempt == 0


def test_runs_of_another_environment_or_curve_or_program_are_not_ours(book, store, tiny_plan):
    job = book.plan.jobs()[0]
    end(book, job)
    for other in (
        Book(book.plan, store, "there"),
        Book(tiny_plan(seeds=3, points=2), store, "here"),
        Book(tiny_plan({"base": [label_smoothing(0.2)], "smooth": [label_smoothing(0.1)]}, seeds=3), store, "here"),
    ):
        assert other.runs() == []
        assert len(other.pending()) == 6
        assert other.checkpoint(job) != book.checkpoint(job)
    assert len(book.runs()) == 1


def test_files_of_different_runs_have_different_names(store, tiny_plan):
    plan = tiny_plan({"a b": [], "a_b": [], "A_B": [], "x" * 100: [], "x" * 101: []})
    book = Book(plan, store, "here")
    for names in (
        [book.checkpoint(job).name.lower() for job in plan.jobs()],
        [book.log(book.next_key(job)).name.lower() for job in plan.jobs()],
    ):
        assert len(set(names)) == len(plan.jobs()) == 10
        assert all(len(name) < 130 and "/" not in name for name in names)
    key = book.next_key(plan.jobs()[0])
    assert book.log(key).name.startswith("a_b-seed0-point0-")
    assert book.log(key) != book.log(RunKey(*key.values()[:-1], 1))


def test_tidying_after_a_killed_driver(book):
    jobs = book.plan.jobs()
    end(book, jobs[0], "running", kept=1)
    end(book, jobs[1], "done")
    for job in jobs[:3]:
        book.checkpoint(job).write_bytes(b"state")
    half = book.checkpoint(jobs[0]).with_name(f".{book.checkpoint(jobs[0]).name}.123")
    half.write_bytes(b"half")
    book.tidy()
    assert [run["status"] for run in book.runs()] == ["interrupted", "done"]
    assert book.runs()[0]["data"]["kept"] == 1
    left = {path.name for path in book.checkpoint(jobs[0]).parent.iterdir()}
    assert left == {book.checkpoint(jobs[0]).name, book.checkpoint(jobs[2]).name}


def test_tidying_keeps_the_checkpoints_of_seeds_that_are_not_asked_for_now(book, store, tiny_plan):
    path = book.checkpoint(book.plan.jobs()[-1])
    path.write_bytes(b"state")
    Book(tiny_plan(seeds=2), store, "here").tidy()
    assert path.exists()


def test_drift_is_marked_against_the_median_and_the_slowest_come_first(book):
    jobs = book.plan.jobs()
    for job, seconds in zip(jobs, (1.0, 1.0, 1.0, 1.2, 1.5, 1.09), strict=True):
        end(book, job, seconds=seconds)
    assert book.mark_drift() == [jobs[4], jobs[3]]
    assert [run["data"]["drifted"] for run in book.runs()] == [False, False, False, True, True, False]
    assert book.runs()[4]["data"]["calibration"]["ratio"] == pytest.approx(1.5 / 1.045)


def test_the_worse_of_the_two_calibrations_counts(book):
    jobs = book.plan.jobs()
    for job in jobs[:4]:
        end(book, job)
    key = end(book, jobs[4])
    book.store.put_run(key, "done", {"calibration": {"before": 1.0, "after": 2.0}})
    assert book.mark_drift() == [jobs[4]]


def test_each_run_is_tried_again_once_only(book):
    jobs = book.plan.jobs()
    for job in jobs[:5]:
        end(book, job)
    end(book, jobs[5], seconds=2.0)
    assert book.mark_drift() == [jobs[5]]
    end(book, jobs[5], "interrupted", seconds=2.0)
    assert book.mark_drift() == [jobs[5]]  # the second try did not come to its end
    end(book, jobs[5], seconds=3.0)
    assert book.mark_drift() == []
    assert [run["data"].get("drifted") for run in book.runs()] == [False] * 5 + [True, None, True]


def test_without_a_usual_speed_nothing_has_drifted(book):
    for job, seconds in zip(book.plan.jobs(), (1.0, 5.0, 9.0), strict=False):
        end(book, job, seconds=seconds)
    assert book.mark_drift() == []
    assert all("drifted" not in run["data"] for run in book.runs())


def attempt(number: int, status: str = "done", ratio: float = 1.0, **data) -> dict:
    key = RunKey("base", "f", "e", 0, "cyclic:1", 0, number)
    return {"key": key, "status": status, "data": {"calibration": {"ratio": ratio}, **data}, "points": []}


@pytest.mark.parametrize(
    ("runs", "chosen"),
    [
        ([attempt(0, "running"), attempt(1, "interrupted"), attempt(2, "stopped")], None),
        ([attempt(0, "interrupted"), attempt(1)], 1),
        ([attempt(0), attempt(1)], 0),
        ([attempt(0, resumed=True), attempt(1)], 1),
        ([attempt(0, drifted=True, ratio=1.5), attempt(1, ratio=1.05)], 1),
        ([attempt(0, drifted=True, ratio=1.5), attempt(1, drifted=True, ratio=1.2)], 1),
        ([attempt(0, drifted=True, ratio=1.2), attempt(1, drifted=True, ratio=1.5)], 0),
        ([attempt(0, drifted=True, ratio=1.5), attempt(1, drifted=True, resumed=True, ratio=1.2)], 0),
        ([attempt(0, drifted=True, ratio=1.5), attempt(1, "failed")], 0),
        ([attempt(0, "failed"), attempt(1)], 1),
        ([attempt(0, "failed"), attempt(1, "failed")], 0),
    ],
)
def test_the_attempt_that_counts(runs, chosen):
    assert counting(runs) == ({runs[chosen]["key"]} if chosen is not None else set())
    assert counting(runs[::-1]) == counting(runs)


def test_other_runs_count_for_themselves():
    other = {**attempt(0), "key": RunKey("base", "f", "e", 1, "cyclic:1", 0, 0)}
    assert len(counting([attempt(0), attempt(1), other])) == 2
