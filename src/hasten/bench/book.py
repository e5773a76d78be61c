"""The runs of one plan in one environment, as the store has them: which are finished, which count, which drifted."""

from __future__ import annotations

import hashlib
import statistics
from pathlib import Path
from typing import Any

from .plan import Job, Plan
from .store import RunKey, Store

__all__ = ["DRIFT", "Book", "counting", "log_name", "with_drift"]

DRIFT = 1.10  # a run whose calibration is this much slower than the study's median is tried again
ENOUGH = 4  # calibrated runs from which on there is a usual speed to compare with
ENDED = ("done", "failed")

Place = tuple[str, int, str, int]  # (arm, seed, curve, first point): what all attempts at one run share


class Book:
    """Keys, attempts and outcomes of a plan's runs."""

    def __init__(self, plan: Plan, store: Store, environment: str) -> None:
        self.plan, self.store, self.environment = plan, store, environment
        self.prints = {(name, plan.curve.label): program.fingerprint() for name, program in plan.arms.items()}
        for control in plan.controls:
            self.prints[plan.baseline, control.curve.label] = control.program.fingerprint()

    def runs(self) -> list[dict[str, Any]]:
        """The stored attempts that belong to this plan in this environment."""
        return [
            run
            for run in self.store.runs()
            if (key := run["key"]).environment == self.environment
            and self.prints.get((key.arm, key.curve)) == key.fingerprint
        ]

    def pending(self) -> list[Job]:
        """The plan's runs that have not come to their end.

        A run that failed by its numbers has: the same program and seed would fail again. One that raised or lost its
        process is tried again when the same command is given again; its cause may be gone.
        """
        finished = {
            _place(run["key"])
            for run in self.runs()
            if run["status"] == "done" or (run["status"] == "failed" and not run["data"].get("again"))
        }
        return [job for job in self.plan.jobs() if self._place(job) not in finished]

    def _place(self, job: Job) -> Place:
        return job.arm, job.seed, self.plan.curve_of(job).label, job.first

    def next_key(self, job: Job) -> RunKey:
        """The key of the next attempt at a job."""
        place = self._place(job)
        attempt = sum(_place(run["key"]) == place for run in self.runs())
        curve = self.plan.curve_of(job).label
        return RunKey(job.arm, self.prints[job.arm, curve], self.environment, job.seed, curve, job.first, attempt)

    def tidy(self) -> None:
        """Put in order what a killed driver left: runs called running, files half-written or needed no more."""
        for run in self.store.runs():
            if run["status"] == "running":
                self.store.put_run(run["key"], "interrupted", run["data"])
        pending = self.pending()
        for job in self.plan.jobs():
            if job not in pending:
                self.checkpoint(job).unlink(missing_ok=True)
        for aside in self._checkpoints.glob(".*.pt.*"):  # of `durable.write_atomically`
            aside.unlink(missing_ok=True)

    @property
    def _checkpoints(self) -> Path:
        return self.store.folder / "checkpoints"

    def checkpoint(self, job: Job) -> Path:
        """The checkpoint file of a job, the same for all its attempts."""
        place = self._place(job)
        stem = _stem(place, self.prints[job.arm, place[2]], self.environment)
        return self._checkpoints / f"{stem}.pt"

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
