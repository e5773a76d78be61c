from __future__ import annotations

import io

import pytest

from hasten.bench import progress as module
from hasten.bench.plan import Job
from hasten.bench.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module.time, "monotonic", clock)
    return clock


@pytest.fixture
def plan(tiny_plan):
    return tiny_plan()


def jobs(plan):
    found = plan.jobs()
    assert len(found) == 4
    return found


def test_elsewhere_than_on_a_terminal_one_plain_line_a_run(plan, clock):
    stream = io.StringIO()
    progress = Progress(stream)
    progress.start(plan, jobs(plan))
    for number, job in enumerate(jobs(plan)):
        progress.run_started(job)
        clock.now += 5
        progress.step(job, 100)
        clock.now += 5
        progress.run_ended(job, "failed" if number == 1 else "done")
    progress.note("a note")
    progress.end("complete")
    assert "\x1b" not in stream.getvalue()
    assert "\r" not in stream.getvalue()
    assert stream.getvalue().splitlines() == [
        "[1/4] base, seed 0; about 30 s left",
        "[2/4] smooth, seed 0 failed; about 20 s left",
        "[3/4] smooth, seed 1; about 10 s left",
        "[4/4] base, seed 1; done",
        "a note",
    ]


def test_on_a_terminal_one_line_that_is_drawn_again(plan, clock):
    stream = Terminal()
    progress = Progress(stream)
    progress.start(plan, jobs(plan))
    progress.run_started(jobs(plan)[0])
    clock.now = 60.0
    progress.step(jobs(plan)[0], 150)
    line = stream.getvalue()
    assert line.startswith("\r\x1b[K███░")
    assert line.endswith(" 12%  run 1 of 4  about 7 min left")
    progress.step(jobs(plan)[0], 151)  # too soon to draw again
    assert stream.getvalue() == line
    progress.note("a note")
    assert stream.getvalue() == f"{line}\r\x1b[Ka note\n"
    progress.end("complete")
    assert stream.getvalue().endswith("\r\x1b[K")


def test_quiet_says_notes_only(plan):
    stream = Terminal()
    progress = Progress(stream, quiet=True)
    progress.start(plan, jobs(plan))
    progress.run_started(jobs(plan)[0])
    progress.step(jobs(plan)[0], 10)
    progress.run_ended(jobs(plan)[0], "done")
    progress.note("a note")
    progress.end("complete")
    assert stream.getvalue() == "a note\n"


def test_runs_that_are_added_or_left_out_change_the_total(plan, clock):
    stream = io.StringIO()
    progress = Progress(stream)
    progress.start(plan, jobs(plan)[:1])
    progress.run_started(jobs(plan)[0])
    clock.now = 10.0
    progress.run_ended(jobs(plan)[0], "done")
    progress.more(jobs(plan)[:3])  # the first one again
    progress.fewer(jobs(plan)[2:3])
    progress.run_started(jobs(plan)[0])
    clock.now = 20.0
    progress.run_ended(jobs(plan)[0], "done")
    assert stream.getvalue().splitlines() == ["[1/1] base, seed 0; done", "[2/3] base, seed 0; about 40 s left"]


def test_a_run_that_starts_again_counts_once(plan, clock):
    stream = io.StringIO()
    progress = Progress(stream)
    progress.start(plan, jobs(plan)[:2])
    clock.now = 10.0
    for _ in range(3):
        progress.run_started(jobs(plan)[0])
        progress.step(jobs(plan)[0], 150)
    progress.run_ended(jobs(plan)[0], "done")
    assert stream.getvalue() == "[1/2] base, seed 0; about 10 s left\n"


def test_a_terminal_that_is_gone_does_not_end_the_study(plan):
    class Gone(Terminal):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    progress = Progress(Gone())
    progress.start(plan, jobs(plan))
    progress.step(Job("base", 0, (0, 1, 2), "cyclic"), 1)
    progress.note("a note")
    progress.end("complete")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.2, "1 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (36000, "10.0 h")],
)
def test_time_spans(seconds, text):
    assert module._span(seconds) == text
