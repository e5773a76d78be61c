"""The driver: gives a plan's runs to workers, writes what comes back, and survives what goes wrong.

It alone writes the store. A killed worker costs the time since its last checkpoint; a killed driver too, because the
same command finds the study's folder and goes on. An arm that breaks ends, the others go on. Ctrl-C once finishes the
current points and reports; twice stops at once.
"""

from __future__ import annotations

import signal
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hasten._core import sources
from hasten._core.call import encode

from .book import Book
from .environment import digest, environment, machine
from .plan import Job, Plan
from .pool import Pool, Worker
from .progress import Progress
from .store import RunKey, Store, StoreError

__all__ = ["Driver", "Settings"]

POLL = 0.2  # seconds between looks at the clock
DEATHS = 3  # a run whose worker died this often ends its arm


@dataclass(frozen=True)
class Settings:
    """How to run a plan; none of it changes what is learned.

    Args:
        workers: processes; one per physical core.
        budget: seconds of wall time, or None.
        checkpoint_seconds: time between checkpoints of a run.
        retry_drifted: try drifted runs again, each once, at most a quarter of the runs.
        loader_workers: loader processes per run, for datasets.
    """

    workers: int = 1
    budget: float | None = None
    checkpoint_seconds: float = 20.0
    retry_drifted: bool = True
    loader_workers: int = 0


class Driver:
    """Runs one plan against one store.

    Raises:
        StoreError: the folder holds another study.
    """

    def __init__(self, plan: Plan, store: Store, settings: Settings, progress: Progress) -> None:
        self.plan, self.store, self.settings, self.progress = plan, store, settings, progress
        found = environment(plan.device)
        self.book = Book(plan, store, digest(found))
        self.status = "complete"
        self.stops = 0  # how often Ctrl-C was pressed
        self.broken: set[str] = set()  # arms that raised: no further runs
        self.deaths: Counter[Job] = Counter()
        self.active: dict[Worker, tuple[Job, RunKey]] = {}
        self.begun = time.monotonic()
        self.rounds: dict[int, list[float]] = {}  # seed -> wall seconds of its ended runs
        self.since: dict[Job, float] = {}
        identity = store.get("identity")
        if identity not in (None, plan.identity()):
            hint = "Pass another folder with --out, or delete this one."
            raise StoreError(f"{store.folder}: holds another study ({store.get('title')}). {hint}")
        if identity is None:
            store.put("machine", machine())
            store.put("created", time.strftime("%Y-%m-%d %H:%M:%S"))
        store.put("environment", found)
        self.book.bury_stale()

    def run(self) -> str:
        """Run what is missing; returns "complete", "budget" or "interrupted"."""
        done = self.book.finished()
        pending = [job for job in self.plan.jobs() if (job.arm, job.seed, job.first) not in done]
        self.store.put("status", "running")
        self.progress.start(self.plan, pending)
        if pending:
            pool = Pool(min(self.settings.workers, len(pending)), self.store.folder / "logs")
            try:
                with self._ctrl_c(pool):
                    self._serve(pool, pending)
                    self._serve(pool, self._drifted())
            finally:
                pool.end(at_once=bool(self.active))
        self.store.put("status", self.status)
        self.progress.end(self.status)
        return self.status

    def _serve(self, pool: Pool, pending: list[Job]) -> None:
        """Hand out jobs and hear events until nothing is left to do."""
        waiting = list(pending)
        while True:
            if waiting and self.status == "complete" and not self._fits(waiting):
                self.status = "budget"
            if self.status != "complete":
                waiting.clear()
            waiting = [job for job in waiting if job.arm not in self.broken]
            for worker in [worker for worker in pool.workers if worker not in self.active]:
                if waiting:
                    self._give(worker, waiting.pop(0))
            if (not self.active and not waiting) or self.stops > 1:
                return
            heard = pool.next_event(POLL)
            if heard is not None:
                waiting[:0] = self._hear(pool, *heard)

    def _give(self, worker: Worker, job: Job) -> None:
        key = self.book.next_key(job)
        checkpoint, log = self.book.checkpoint(job), self.book.log(key)
        checkpoint.parent.mkdir(exist_ok=True)
        self.store.put_run(key, "running", {})
        self.active[worker] = (job, key)
        self.since[job] = time.monotonic()
        self.progress.run_started(job)
        worker.send(
            {
                "do": "run",
                "id": [job.arm, job.seed, job.first],
                "program": self.plan.arms[job.arm].to_json(),
                "sources": self._sources(),
                "test": encode(self.plan.workload.test),
                "metric": encode(self.plan.workload.metric),
                "seed": job.seed,
                "cycles": self.plan.curve.cycles(job.points),
                "device": self.plan.device,
                "loader_workers": self.settings.loader_workers,
                "checkpoint": str(checkpoint.resolve()),
                "checkpoint_seconds": self.settings.checkpoint_seconds,
                "log": str(log.resolve()),
            }
        )

    def _sources(self) -> list[dict[str, Any]]:
        """The users' files that the programs name, written by content into the study's folder."""
        digests = {name for program in self.plan.arms.values() for name in program.digests()}
        folder = self.store.folder / "sources"
        return [
            {"files": [list(pair) for pair in source.files], "entry": str(source.write(folder).resolve())}
            for source in sources.sources_of(digests)
        ]

    def _hear(self, pool: Pool, worker: Worker, event: dict[str, Any]) -> list[Job]:
        """Handle one event; returns a job to be tried again, if any."""
        kind = event["event"]
        if worker not in self.active:
            if kind == "died" and worker in pool.workers:
                pool.replace(worker)
            return []
        job, key = self.active[worker]
        if kind == "progress":
            self.progress.step(job, event["step"])
        elif kind == "point":
            self.store.add_point(key, {name: event[name] for name in event if name not in ("event", "id")})
            self.progress.step(job, event["step"])
        elif kind == "died":
            del self.active[worker]
            return self._bury(pool, worker, job, key, event["code"])
        elif kind in ("done", "failed", "broken"):
            del self.active[worker]
            self._close(job, key, kind, {name: event[name] for name in event if name not in ("event", "id")})
        return []

    def _close(self, job: Job, key: RunKey, kind: str, data: dict[str, Any]) -> None:
        status = "stopped" if data.get("stopped") else "done" if kind == "done" else "failed"
        self.store.put_run(key, status, data)
        if status != "stopped":
            self.book.checkpoint(job).unlink(missing_ok=True)
            self.rounds.setdefault(job.seed, []).append(time.monotonic() - self.since[job])
        if kind == "broken":
            self._end_arm(job.arm, f"{data['error']} (log: {data['log']})")
        elif kind == "failed":
            self.progress.note(f"{job.arm}, seed {job.seed}: failed: {data['error']}")
        self.progress.run_ended(job, status)

    def _bury(self, pool: Pool, worker: Worker, job: Job, key: RunKey, code: int) -> list[Job]:
        """A worker died in the middle of a run: go on from the checkpoint, unless it keeps happening."""
        pool.replace(worker)
        self.deaths[job] += 1
        if self.deaths[job] < DEATHS:
            self.store.put_run(key, "interrupted", {})
            self.progress.note(f"{job.arm}, seed {job.seed}: its process died (exit {code}); going on from its checkpoint.")
            return [job]
        error = f"its process died {DEATHS} times (exit {code}): out of memory, perhaps"
        self.store.put_run(key, "failed", {"error": error})
        self._end_arm(job.arm, error)
        self.progress.run_ended(job, "failed")
        return []

    def _end_arm(self, arm: str, why: str) -> None:
        self.broken.add(arm)
        self.progress.note(f"{arm}: {why}. This arm ends here; the others go on.")

    def _drifted(self) -> list[Job]:
        again = self.book.mark_drift()
        if not again or not self.settings.retry_drifted or self.status != "complete":
            return []
        chosen = again[: max(1, len(self.plan.jobs()) // 4)]
        self.progress.note(f"{len(again)} runs met a slower machine (drift); trying {len(chosen)} of them again.")
        self.progress.more(chosen)
        return chosen

    def _fits(self, waiting: list[Job]) -> bool:
        """Whether the budget allows to go on. A seed that has begun is finished; a new one must be expected to fit."""
        if self.settings.budget is None:
            return True
        spent = time.monotonic() - self.begun
        running = {job.seed for job, _ in self.active.values()}
        if spent >= self.settings.budget and (self.rounds or running):
            return False
        if waiting[0].seed in running or waiting[0].seed in self.rounds or not self.rounds:
            return True
        per_run = statistics.mean(seconds for runs in self.rounds.values() for seconds in runs)
        ahead = sum(job.seed == waiting[0].seed for job in waiting) + len(self.active)
        return spent + 1.1 * per_run * ahead / self.settings.workers <= self.settings.budget

    @contextmanager
    def _ctrl_c(self, pool: Pool) -> Iterator[None]:
        """Ctrl-C once: finish the points in progress; twice: stop. Elsewhere than in the main thread: untouched."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def pressed(number: int, frame: Any) -> None:
            self.stops += 1
            self.status = "interrupted"
            if self.stops == 1:
                self.progress.note("finishing the points in progress; press Ctrl-C again to stop at once.")
                for worker in pool.workers:
                    worker.send({"do": "stop"})

        before = signal.signal(signal.SIGINT, pressed)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
