"""The runs of one plan in one environment, as the store has them: which are finished, which count, which drifted."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from .plan import Job, Plan
from .store import RunKey, Store

__all__ = ["DRIFT", "Book", "counting"]

DRIFT = 1.10  # a run whose calibration is this much slower than the study's median is tried again
ENDED = ("done", "failed")  # a failed run is an end: the same program and seed would fail again


class Book:
    """Keys, attempts and outcomes of a plan's runs."""

    def __init__(self, plan: Plan, store: Store, environment: str) -> None:
        self.plan, self.store, self.environment = plan, store, environment
        self.curve = f"{plan.curve.kind}:{','.join(map(str, plan.curve.ends))}"
        self.prints = {name: program.fingerprint() for name, program in plan.arms.items()}

    def runs(self) -> list[dict[str, Any]]:
        """The stored attempts that belong to this plan in this environment."""
        return [
            run
            for run in self.store.runs()
            if (key := run["key"]).environment == self.environment
            and key.curve == self.curve
            and self.prints.get(key.arm) == key.fingerprint
        ]

    def finished(self) -> set[tuple[str, int, int]]:
        """(arm, seed, first point) of every run that came to its end."""
        return {_place(run["key"]) for run in self.runs() if run["status"] in ENDED}

    def next_key(self, job: Job) -> RunKey:
        """The key of the next attempt at a job."""
        place = (job.arm, job.seed, job.first)
        attempt = sum(_place(run["key"]) == place for run in self.runs())
        return RunKey(job.arm, self.prints[job.arm], self.environment, job.seed, self.curve, job.first, attempt)

    def bury_stale(self) -> None:
        """Runs that a killed driver left as running were interrupted; their checkpoints are picked up."""
        for run in self.store.runs():
            if run["status"] == "running":
                self.store.put_run(run["key"], "interrupted", run["data"])

    def checkpoint(self, job: Job) -> Path:
        """The checkpoint file of a job, the same for all its attempts."""
        name = safe_name(f"{job.arm}-seed{job.seed}-point{job.first}")
        return self.store.folder / "checkpoints" / f"{name}-{self.prints[job.arm][:8]}.pt"

    def log(self, key: RunKey) -> Path:
        """The log file of one attempt."""
        name = safe_name(f"{key.arm}-seed{key.seed}-point{key.first}-{key.attempt}")
        return self.store.folder / "logs" / f"{name}.log"

    def mark_drift(self) -> list[Job]:
        """Compare each run's calibration with the study's median, mark what drifted, return what was tried only once.

        The slowest first: if not all can be tried again, these matter most.
        """
        runs = [run for run in self.runs() if run["status"] == "done"]
        slow = {run["key"]: max(run["data"]["calibration"][when] for when in ("before", "after")) for run in runs}
        if len(slow) < 4:
            return []  # no usual speed to compare with
        usual = statistics.median(slow.values())
        for run in runs:
            data, ratio = run["data"], slow[run["key"]] / usual
            calibration = {**data["calibration"], "ratio": ratio}
            self.store.put_run(run["key"], "done", {**data, "calibration": calibration, "drifted": ratio > DRIFT})
        tries = [_place(run["key"]) for run in runs]
        again = sorted(
            (key for key, time in slow.items() if time / usual > DRIFT and tries.count(_place(key)) == 1),
            key=lambda key: -slow[key],
        )
        jobs = {(job.arm, job.seed, job.first): job for job in self.plan.jobs()}
        return [jobs[_place(key)] for key in again if _place(key) in jobs]


def _place(key: RunKey) -> tuple[str, int, int]:
    return key.arm, key.seed, key.first


def safe_name(text: str) -> str:
    """`text` as part of a file name."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in text)[:80]


def counting(runs: list[dict[str, Any]]) -> set[RunKey]:
    """Of several attempts at one run the one that counts: ended, undisturbed if any is, then the least drifted."""
    best: dict[tuple[str, int, int], tuple[Any, RunKey]] = {}
    for run in runs:
        if run["status"] not in ENDED:
            continue
        data, key = run["data"], run["key"]
        disturbed = bool(data.get("drifted")) + bool(data.get("resumed"))
        rank = (disturbed, data.get("calibration", {}).get("ratio", 1.0), key.attempt)
        if _place(key) not in best or rank < best[_place(key)][0]:
            best[_place(key)] = (rank, key)
    return {key for _, key in best.values()}
