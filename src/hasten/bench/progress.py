"""Progress of a study: one live line with the time left on a terminal, one plain line per run elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any, TextIO

from .plan import Job, Work

__all__ = ["Progress"]


class Progress:
    """Counts optimizer steps and estimates the time left from the speed so far.

    Args:
        stream: where to write; standard error by default, because standard output is for results.
        quiet: write notes only.
    """

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        self.stream = stream if stream is not None else sys.stderr
        self.quiet = quiet
        self.live = not quiet and self.stream.isatty()
        self.total = self.runs = self.ended = 0
        self.at: dict[Job, int] = {}
        self.drawn = 0.0

    def start(self, plan: Work, pending: list[Job]) -> None:
        """A study begins with these runs to do."""
        self.plan, self.begun = plan, time.monotonic()
        self.more(pending)

    def more(self, jobs: list[Job]) -> None:
        """Runs were added."""
        self.runs += len(jobs)
        self.total += sum(self._length(job) for job in jobs)
        for job in jobs:
            self.at.pop(job, None)

    def fewer(self, jobs: list[Job]) -> None:
        """Runs will not be done."""
        self.runs -= len(jobs)
        self.total -= sum(self._length(job) for job in jobs)

    def run_started(self, job: Job) -> None:
        """A run begins (or goes on)."""
        self.at[job] = 0

    def step(self, job: Job, step: int) -> None:
        """A run has done this many steps."""
        self.at[job] = step
        self._draw()

    def run_ended(self, job: Job, status: str) -> None:
        """A run came to its end."""
        self.ended += 1
        self.at[job] = self._length(job)
        if self.live:
            self._draw(force=True)
        elif not self.quiet:
            word = "" if status == "done" else f" {status}"
            self._line(f"[{self.ended}/{self.runs}] {job.arm}, seed {job.seed}{word}; {self._left()}")

    def note(self, text: str) -> None:
        """Say something that the reader must know."""
        if self.live:
            self._write("\r\x1b[K")
        self._line(text)

    def end(self, status: str) -> None:
        """The study is over."""
        if self.live:
            self._write("\r\x1b[K")

    def _length(self, job: Job) -> int:
        return self.plan.length(job, job.points)

    def _left(self) -> str:
        done = sum(self.at.values())
        if not done:
            return "estimating"
        left = (time.monotonic() - self.begun) * (self.total - done) / done
        return f"about {_span(left)} left" if left >= 1 else "done"

    def _draw(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if not self.live or (now - self.drawn < 0.1 and not force):
            return
        self.drawn = now
        share = min(1.0, sum(self.at.values()) / self.total) if self.total else 1.0
        bar = ("█" * round(24 * share)).ljust(24, "░")
        self._write(f"\r\x1b[K{bar} {share:4.0%}  run {min(self.ended + 1, self.runs)} of {self.runs}  {self._left()}")

    def _line(self, text: Any) -> None:
        self._write(f"{text}\n")

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the terminal is gone; the study goes on
            self.stream.write(text)
            self.stream.flush()


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
