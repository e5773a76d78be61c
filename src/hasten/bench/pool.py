"""A few worker processes and their messages: start, send, hear, replace the dead, end."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

__all__ = ["Pool", "Worker"]

# One thread per process: two threads on a busy machine cost 3-30x in OpenMP barriers (measured: bench spec, section 3).
_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")


class Worker:
    """One worker process; `task` is what it is doing, by the driver's job id."""

    def __init__(self, events: queue.Queue[tuple[Worker, dict[str, Any]]], log: Path) -> None:
        self.task: Any = None
        self.log = log
        with open(log, "ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "hasten.bench.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env={**os.environ, **_THREADS, "PYTHONPATH": _python_path()},
                start_new_session=True,  # Ctrl-C in the terminal reaches the driver only
            )
        threading.Thread(target=self._listen, args=(events,), daemon=True).start()

    def _listen(self, events: queue.Queue[tuple[Worker, dict[str, Any]]]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with contextlib.suppress(json.JSONDecodeError):  # a line cut short by a kill
                events.put((self, json.loads(line)))
        events.put((self, {"event": "died", "code": self.process.wait()}))

    def send(self, message: dict[str, Any]) -> None:
        """Send a command; a dead worker is noticed by its `died` event."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError, OSError):
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()

    def end(self, *, at_once: bool = False) -> None:
        """Close its stdin, which ends it, and wait."""
        assert self.process.stdin is not None and self.process.stdout is not None
        if at_once:
            self.process.kill()
        with contextlib.suppress(BrokenPipeError, OSError):
            self.process.stdin.close()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Pool:
    """`size` workers and one queue of their events."""

    def __init__(self, size: int, logs: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self.logs = logs
        self.events: queue.Queue[tuple[Worker, dict[str, Any]]] = queue.Queue()
        self.workers = [self._start(number) for number in range(size)]

    def _start(self, number: int) -> Worker:
        return Worker(self.events, self.logs / f"worker-{number}.log")

    def replace(self, worker: Worker) -> None:
        """Start a new worker in the place of a dead one."""
        number = self.workers.index(worker)
        worker.end(at_once=True)
        self.workers[number] = self._start(number)

    def next_event(self, timeout: float) -> tuple[Worker, dict[str, Any]] | None:
        """The next event, or None after `timeout` seconds."""
        try:
            return self.events.get(timeout=timeout)
        except queue.Empty:
            return None

    def end(self, *, at_once: bool = False) -> None:
        """End every worker; none is left behind."""
        for worker in self.workers:
            worker.end(at_once=at_once)


def _python_path() -> str:
    """The driver's own import path, so that a worker finds the same packages (also from a source tree)."""
    return os.pathsep.join(entry for entry in sys.path if entry)
