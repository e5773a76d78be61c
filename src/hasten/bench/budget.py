"""The wall time that a user allows, and whether another run fits into it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence

from .plan import Job

__all__ = ["Budget"]

CAREFUL = 1.1  # expect a seed to take this much longer than the runs so far say


class Budget:
    """Decides before each run whether it may start.

    Within the budget, a seed that has begun goes on, and the first one always begins; another seed must be expected to
    fit, because half a seed is of no use to a paired comparison. Past the budget nothing starts.

    Args:
        seconds: the budget, or None for no end.
        workers: how many runs go on at a time.
        clock: the time in seconds.
    """

    def __init__(self, seconds: float | None, workers: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self.workers, self.clock = seconds, workers, clock
        self.begun = clock()
        self.since: dict[Job, float] = {}
        self.took: dict[Job, float] = {}  # wall seconds of the runs that ended

    def started(self, job: Job) -> None:
        """A run starts, or goes on."""
        self.since[job] = self.clock()

    def ended(self, job: Job) -> None:
        """A run came to its own end: how long it took is an example for others."""
        self.took[job] = self.clock() - self.since[job]

    def fits(self, waiting: Sequence[Job], active: int) -> bool:
        """Whether the first of `waiting` may start while `active` runs go on."""
        if self.seconds is None or not self.since:
            return True
        spent = self.clock() - self.begun
        if spent >= self.seconds:
            return False
        seed = waiting[0].seed
        if not self.took or seed in {job.seed for job in self.since}:
            return True
        ahead = sum(job.seed == seed for job in waiting) + active
        per_run = statistics.mean(self.took.values())
        return spent + CAREFUL * per_run * ahead / self.workers <= self.seconds
