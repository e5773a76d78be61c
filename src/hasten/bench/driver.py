"""The driver: gives a plan's runs to workers, writes what comes back, and survives what goes wrong.

It alone writes the store. A killed worker costs the time since its last checkpoint; a killed driver too, because the
same command finds the study's folder and goes on. An arm that breaks ends, the others go on. Ctrl-C once finishes the
current points and reports; twice stops at once.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hasten._core import sources

from . import durable
from .book import Book
from .budget import Budget
from .environment import digest, environment, machine
from .plan import Job, Work
from .pool import Pool, Worker
from .progress import Progress
from .store import NotDeterministicError, RunKey, Store, StoreError

__all__ = ["Driver", "Settings", "WorkerError", "command", "write_sources"]

POLL = 0.2  # seconds between looks at the clock and at Ctrl-C
DEATHS = 3  # a run whose process died this often ends its arm; as many processes that do not start end the study


class WorkerError(RuntimeError):
    """Worker processes do not start; the message says what the last one printed."""


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

    def __init__(self, plan: Work, store: Store, settings: Settings, progress: Progress) -> None:
        self.plan, self.store, self.settings, self.progress = plan, store, settings, progress
        self._claim()
        self.book = Book(plan, store, digest(environment(plan.device)))
        self.budget = Budget(settings.budget, settings.workers)
        self.status = "complete"
        self.stops = 0  # how often Ctrl-C was pressed
        self.active: dict[Worker, tuple[Job, RunKey]] = {}
        self.broken: set[str] = set()  # arms that have ended: no further runs
        self.settled: set[Job] = set()  # jobs that others need and that are done
        self.deaths: Counter[Job] = Counter()
        self.stillborn = 0  # processes that died before they were ready, since one was
        self.started = False  # whether all processes have been ready at the same time
        self.said: list[str] = []  # what the report must say, too

    def _claim(self) -> None:
        """Make the folder this plan's, or refuse it."""
        identity = self.store.get("identity")
        if identity not in (None, self.plan.identity()):
            hint = "Pass another folder with --out, or delete this one."
            raise StoreError(f"{self.store.folder}: holds another study ({self.store.get('title')}). {hint}")
        if identity is None:
            self.store.put("machine", machine())
            self.store.put("created", time.strftime("%Y-%m-%d %H:%M:%S"))
            self.store.put("identity", self.plan.identity())
        self.store.put("environment", environment(self.plan.device))

    def run(self) -> str:
        """Run what is missing; returns "complete", "budget" or "interrupted".

        Raises:
            StoreError: the folder can no longer be written. What was stored stays; the same command goes on.
            WorkerError: worker processes do not start.
        """
        try:
            self.book.tidy()
            pending = self.book.pending()
            self.settled = {job for job in self.book.wanted - set(pending) if self.book.done(job)}
            self.store.put("status", "running")
            self.progress.start(self.plan, pending)
            if pending:
                self.store.put("notes", [])
                self._work(pending)
            self.book.tidy()
        except BaseException as error:
            self.status = "interrupted"
            with contextlib.suppress(StoreError):
                self._leave()
            if isinstance(error, OSError):
                raise StoreError(durable.explain(error)) from error
            raise
        self._leave()
        return self.status

    def _leave(self) -> None:
        for _, key in self.active.values():
            self.store.put_run(key, "interrupted", {})
        self.store.put("status", self.status)
        self.progress.end(self.status)

    def _work(self, pending: list[Job]) -> None:
        for name in ("logs", "checkpoints", *(["weights"] if self.book.wanted else [])):
            (self.store.folder / name).mkdir(exist_ok=True)
        self.sources = write_sources(self.plan, self.store.folder / "sources")
        size = min(self.settings.workers, len(pending))
        with self._ctrl_c(), Pool(size, self.store.folder / "logs") as pool:
            self._serve(pool, pending)
            self._serve(pool, self._drifted())
        self.book.mark_drift()
        if self.status == "budget" and not [job for job in self.book.pending() if job.arm not in self.broken]:
            self.status = "complete"  # only second tries were left out

    def _serve(self, pool: Pool, pending: list[Job]) -> None:
        """Hand out jobs and hear events until nothing is left to do."""
        waiting, told = list(pending), False
        while True:
            self._drop_broken(waiting)
            self._drop_lost(waiting)
            if self.stops:
                self.status = "interrupted"
            elif waiting and self.status == "complete" and not self.budget.fits(waiting, len(self.active)):
                self.status = "budget"
            if self.status != "complete":
                waiting.clear()
            if (not self.active and not waiting) or self.stops > 1:
                return
            if self.stops and not told:
                told = True
                self.progress.note("finishing the points in progress; press Ctrl-C again to stop at once.")
                for worker in self.active:
                    worker.send({"do": "stop"})
            # A process that starts slows its neighbours down: the first runs wait until all have started.
            self.started = self.started or all(worker.ready for worker in pool.workers)
            for worker in pool.workers if self.started else ():
                if worker.ready and worker not in self.active and (job := self._next(waiting)) is not None:
                    self._give(worker, job)
            heard = pool.next_event(POLL)
            if heard is not None:
                waiting[:0] = self._hear(pool, *heard)

    def _drop_broken(self, waiting: list[Job]) -> None:
        dropped = [job for job in waiting if job.arm in self.broken]
        if dropped:
            self.progress.fewer(dropped)
            waiting[:] = [job for job in waiting if job.arm not in self.broken]

    def _drop_lost(self, waiting: list[Job]) -> None:
        """Leave out what begins with weights that will not come: their run has failed."""
        alive = self.settled | {*waiting, *(job for job, _ in self.active.values())}
        lost = [job for job in waiting if (need := self.plan.needs(job)) is not None and need not in alive]
        if lost:
            self.progress.fewer(lost)
            waiting[:] = [job for job in waiting if job not in lost]
            names = dict.fromkeys(f"{need.arm}, seed {need.seed}" for job in lost if (need := self.plan.needs(job)))
            self._say(f"{len(lost)} runs are left out: they begin with weights of {'; '.join(names)}, which failed.")

    def _next(self, waiting: list[Job]) -> Job | None:
        """Take the first job that can begin now."""
        for job in waiting:
            if (need := self.plan.needs(job)) is None or need in self.settled:
                waiting.remove(job)
                return job
        return None

    def _give(self, worker: Worker, job: Job) -> None:
        key = self.book.next_key(job)
        self.store.put_run(key, "running", {})
        self.active[worker] = (job, key)
        self.budget.started(job)
        self.progress.run_started(job)
        need = self.plan.needs(job)
        places = {
            "checkpoint": self.book.checkpoint(job),
            "log": self.book.log(key),
            "weights": self.book.weights(job) if job in self.book.wanted else None,
            "start": None if need is None else self.book.weights(need),
        }
        worker.send(command(self.plan, job, self.settings, self.sources, **places))

    def _hear(self, pool: Pool, worker: Worker, event: dict[str, Any]) -> list[Job]:
        """Handle one event; returns a job to be tried again, if any."""
        data = {name: event[name] for name in event if name != "event"}
        if worker not in pool.workers:
            return []  # replaced: what it still had to say is of no use
        if event["event"] == "ready":
            worker.ready, self.stillborn = True, 0
        elif event["event"] == "died":
            return self._bury(pool, worker, data["code"])
        elif worker in self.active:
            self._hear_run(pool, worker, event["event"], data)
        return []

    def _hear_run(self, pool: Pool, worker: Worker, kind: str, data: dict[str, Any]) -> None:
        job, key = self.active[worker]
        if kind == "progress":
            self.progress.step(job, data["step"])
        elif kind == "note":
            self._say(data["text"])
        elif kind == "point":
            reached = job.points[: job.points.index(data["point"]) + 1]
            self.progress.step(job, self.plan.length(job, reached))
            try:
                self.store.add_point(key, data)
            except NotDeterministicError as error:
                pool.replace(worker)
                self._break(worker, str(error))
        elif kind == "broken":
            pool.replace(worker)  # whatever state that code left it in
            self._break(worker, data["error"], log=data["log"])
        elif kind == "full":
            raise StoreError(f"{job.arm}, seed {job.seed}: {data['error']}. {durable.FREE_SPACE}")
        elif kind in ("done", "failed"):
            self._close(worker, "stopped" if data.get("stopped") else kind, data)

    def _close(self, worker: Worker, status: str, data: dict[str, Any]) -> None:
        """A run has come to its end, or to the point where it was asked to stop."""
        job, key = self.active[worker]
        self.store.put_run(key, status, data)
        del self.active[worker]
        if status == "failed":
            self._say(f"{job.arm}, seed {job.seed}: failed: {data['error']}")
        if status == "done":
            self.settled.add(job)
        if status != "stopped":
            self.budget.ended(job)
            self.book.checkpoint(job).unlink(missing_ok=True)
        self.progress.run_ended(job, status)

    def _break(self, worker: Worker, error: str, **data: Any) -> None:
        """A run has ended its arm. Its checkpoint stays: given again, the same command tries it again."""
        job, key = self.active[worker]
        self.store.put_run(key, "failed", {"error": error, "again": True, **data})
        del self.active[worker]
        log = f" (log: {data['log']})" if "log" in data else ""
        end = "" if job.arm in self.broken else " This arm ends here; the others go on."
        self.broken.add(job.arm)
        self._say(f"{job.arm}, seed {job.seed}: {error}{log}.{end}")
        self.progress.run_ended(job, "failed")

    def _bury(self, pool: Pool, worker: Worker, code: int) -> list[Job]:
        """A worker died: go on from the run's checkpoint with a new one, unless it keeps happening."""
        self.stillborn += not worker.ready
        if self.stillborn >= DEATHS:
            raise WorkerError(f"worker processes do not start ({_cause(code)}). See {worker.log}.")
        pool.replace(worker)
        if worker not in self.active:
            return []
        job, key = self.active[worker]
        self.deaths[job] += 1
        if self.deaths[job] >= DEATHS:
            fix = "Use fewer workers, a smaller batch, or more memory"
            self._break(worker, f"its process died {DEATHS} times ({_cause(code)}). {fix}", log=str(self.book.log(key)))
            return []
        self.store.put_run(key, "interrupted", {})
        del self.active[worker]
        self.progress.note(
            f"{job.arm}, seed {job.seed}: its process died ({_cause(code)}); going on from its checkpoint."
        )
        return [job]

    def _say(self, text: str) -> None:
        """Tell the reader now and in the report, once."""
        if text not in self.said:
            self.said.append(text)
            self.progress.note(text)
            self.store.put("notes", self.said)

    def _drifted(self) -> list[Job]:
        again = self.book.mark_drift()
        if not again or not self.settings.retry_drifted or self.status != "complete":
            return []
        chosen = again[: max(1, len(self.plan.jobs()) // 4)]
        met = f"{len(again)} {'run' if len(again) == 1 else 'runs'} met a slower machine (drift)"
        self.progress.note(f"{met}; trying {len(chosen)} of them again.")
        self.progress.more(chosen)
        return chosen

    @contextlib.contextmanager
    def _ctrl_c(self) -> Iterator[None]:
        """Count Ctrl-C instead of raising; elsewhere than in the main thread Python allows no such thing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def pressed(number: int, frame: Any) -> None:
            self.stops += 1  # and nothing else: the loop may be in the middle of a write

        before = signal.signal(signal.SIGINT, pressed)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def command(
    plan: Work,
    job: Job,
    settings: Settings,
    stored: list[dict[str, Any]],
    checkpoint: Path,
    log: Path,
    *,
    weights: Path | None = None,
    start: Path | None = None,
) -> dict[str, Any]:
    """What a worker needs to know to run a job.

    Args:
        plan: what it is a job of.
        job: the job.
        settings: how to run it.
        stored: the users' files that the programs name.
        checkpoint: where it may write what it needs to go on after a crash.
        log: where what it prints goes.
        weights: where it may leave weights for other jobs.
        start: where the job that it needs has left them.
    """
    return {
        "do": "run",
        **plan.task(job),
        "sources": stored,
        "seed": job.seed,
        "energy": settings.workers == 1,  # counters are the machine's: with two runs at a time nobody could divide them
        "device": plan.device,
        "loader_workers": settings.loader_workers,
        "checkpoint": str(checkpoint.resolve()),
        "checkpoint_seconds": settings.checkpoint_seconds,
        "log": str(log.resolve()),
        "weights": None if weights is None else str(weights.resolve()),
        "start": None if start is None else str(start.resolve()),
    }


def write_sources(plan: Work, folder: Path) -> list[dict[str, Any]]:
    """Write the users' files that the programs name into the study's folder, by content; returns what workers need."""
    digests = {name for program in plan.programs() for name in program.digests()}
    return [
        {"files": [list(pair) for pair in source.files], "entry": str(source.write(folder).resolve())}
        for source in sources.sources_of(digests)
    ]


def _cause(code: int) -> str:
    """An exit status in words."""
    if code == -9:
        return "killed, as the system does when memory runs out"
    return f"signal {-code}" if code < 0 else f"exit status {code}"
