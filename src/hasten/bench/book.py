"""The runs of one plan in one environment, as the store has them: which are finished, which count, which drifted."""

from __future__ import annotations

import hashlib
import statistics
from pathlib import Path
from typing import Any

from .plan import Job, Work
from .store import RunKey, Store

__all__ = ["DRIFT", "Book", "counting", "log_name", "with_drift"]

DRIFT = 1.10  # a run whose calibration is this much slower than the study's median is tried again
ENOUGH = 4  # calibrated runs from which on there is a usual speed to compare with
ENDED = ("done", "failed")

Place = tuple[str, int, str, int]  # (arm, seed, curve, first point): what all attempts at one run share


class Book:
    """Keys, attempts and outcomes of a plan's runs."""

    def __init__(self, plan: Work, store: Store, environment: str) -> None:
        self.plan, self.store, self.environment = plan, store, environment
        self.prints: dict[tuple[str, str, int], str] = {}  # (arm, curve, first point) -> fingerprint
        self.wanted = {need for job in plan.jobs() if (need := plan.needs(job)) is not None}  # others begin with theirs
        for job in plan.jobs():
            arm, _, curve, first = self._place(job)
            if (arm, curve, first) not in self.prints:
                self.prints[arm, curve, first] = plan.fingerprint(job)

    def runs(self) -> list[dict[str, Any]]:
        """The stored attempts that belong to this plan in this environment."""
        return [
            run
            for run in self.store.runs()
            if (key := run["key"]).environment == self.environment
            and self.prints.get((key.arm, key.curve, key.first)) == key.fingerprint
        ]

    def pending(self) -> list[Job]:
        """The plan's runs that have not come to their end.

        A run that failed by its numbers has: the same program and seed would fail again. One that raised or lost its
        process is tried again when the same command is given again; its cause may be gone. One whose weights others
        begin with is done as long as they are there.
        """
        finished = {
            _place(run["key"])
            for run in self.runs()
            if run["status"] == "done" or (run["status"] == "failed" and not run["data"].get("again"))
        }
        return [
            job
            for job in self.plan.jobs()
            if self._place(job) not in finished or (job in self.wanted and not self._settled(job))
        ]

    def _settled(self, job: Job) -> bool:
        """Whether a run that has ended needs no second try for its weights; a failed one would fail again."""
        return self.weights(job).is_file() or not self.done(job)

    def done(self, job: Job) -> bool:
        """Whether some attempt at it was completed."""
        place = self._place(job)
        return any(run["status"] == "done" and _place(run["key"]) == place for run in self.runs())

    def _place(self, job: Job) -> Place:
        return job.arm, job.seed, self.plan.label(job), job.first

    def next_key(self, job: Job) -> RunKey:
        """The key of the next attempt at a job."""
        place = self._place(job)
        attempt = sum(_place(run["key"]) == place for run in self.runs())
        arm, seed, curve, first = place
        return RunKey(arm, self.prints[arm, curve, first], self.environment, seed, curve, first, attempt)

    def tidy(self) -> None:
        """Put in order what a killed driver left: runs called running, files half-written or needed no more."""
        for run in self.store.runs():
            if run["status"] == "running":
                self.store.put_run(run["key"], "interrupted", run["data"])
        pending = self.pending()
        for job in self.plan.jobs():
            if job not in pending:
                self.checkpoint(job).unlink(missing_ok=True)
        for folder in (self._checkpoints, self.store.folder / "weights"):
            for aside in folder.glob(".*.pt.*"):  # of `durable.write_atomically`
                aside.unlink(missing_ok=True)

    @property
    def _checkpoints(self) -> Path:
        return self.store.folder / "checkpoints"

    def checkpoint(self, job: Job) -> Path:
        """The checkpoint file of a job, the same for all its attempts."""
        return self._checkpoints / f"{self._file_stem(job)}.pt"

    def weights(self, job: Job) -> Path:
        """The file in which a job leaves its weights for others, by what it computes and its seed."""
        return self.store.folder / "weights" / f"{self._file_stem(job)}.pt"

    def _file_stem(self, job: Job) -> str:
        arm, _, curve, first = place = self._place(job)
        return _stem(place, self.prints[arm, curve, first], self.environment)

    def log(self, key: RunKey) -> Path:
        """The log file of one attempt."""
        return self.store.folder / "logs" / log_name(key)

    def mark_drift(self) -> list[Job]:
        """Compare each run's calibration with the study's median, mark what drifted, return what was tried only once.

        The slowest first: if not all can be tried again, these matter most.
        """
        runs = [run for run in self.runs() if run["status"] == "done"]
        if len(runs) < ENOUGH:
            return []
        tries = [_place(run["key"]) for run in runs]
        again: list[tuple[float, Place]] = []
        for run, marked, place in zip(runs, with_drift(runs), tries, strict=True):
            if marked != run:
                self.store.put_run(run["key"], "done", marked["data"])
            if marked["data"].get("drifted") and tries.count(place) == 1:
                again.append((marked["data"]["calibration"]["ratio"], place))
        jobs = {self._place(job): job for job in self.plan.jobs()}
        return [jobs[place] for _, place in sorted(again, reverse=True) if place in jobs]


def with_drift(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same runs; those that are done say how slow the machine was, over the median, and whether it had drifted."""
    done = [run for run in runs if run["status"] == "done"]
    if len(done) < ENOUGH:
        return runs
    slow = [max(run["data"]["calibration"][when] for when in ("before", "after")) for run in done]
    usual, found = statistics.median(slow), {}
    for run, seconds in zip(done, slow, strict=True):
        ratio = seconds / usual
        calibration = {**run["data"]["calibration"], "ratio": ratio}
        found[run["key"]] = {**run["data"], "calibration": calibration, "drifted": ratio > DRIFT}
    return [{**run, "data": found.get(run["key"], run["data"])} for run in runs]


def log_name(key: RunKey) -> str:
    """The name of the log file of one attempt."""
    return f"{_stem(_place(key), key.fingerprint, key.environment)}-{key.attempt}.log"


def _stem(place: Place, fingerprint: str, environment: str) -> str:
    """A file name for people, and eight digits that keep apart what it does not show (arms "a b" and "a_b")."""
    arm, seed, curve, first = place
    digest = hashlib.sha256(repr((arm, fingerprint, environment, curve)).encode()).hexdigest()[:8]
    return f"{_safe(arm)}-seed{seed}-point{first}-{digest}"


def _place(key: RunKey) -> Place:
    return key.arm, key.seed, key.curve, key.first


def _safe(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in text)[:80]


def counting(runs: list[dict[str, Any]]) -> set[RunKey]:
    """Of several attempts at one run the one that counts: done if any is, undisturbed if any is, the least drifted."""
    best: dict[Place, tuple[Any, RunKey]] = {}
    for run in runs:
        if run["status"] not in ENDED:
            continue
        data, key = run["data"], run["key"]
        disturbed = bool(data.get("drifted")) + bool(data.get("resumed"))
        ratio = data.get("calibration", {}).get("ratio", 1.0)
        rank = (run["status"] != "done", disturbed, ratio, key.attempt)
        if _place(key) not in best or rank < best[_place(key)][0]:
            best[_place(key)] = (rank, key)
    return {key for _, key in best.values()}
