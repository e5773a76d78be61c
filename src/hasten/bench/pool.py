"""A few worker processes and their messages: start, send, hear, replace the dead, end.

A worker holds nothing that matters (checkpoints are whole at any moment), so there is one way to end it: kill it, and
with it every process that the user's code started in it. The protocol is in `worker.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, TypeAlias

__all__ = ["Pool", "Worker", "parse_event"]

# One thread per process: two threads on a busy machine cost 3-30x in OpenMP barriers (measured: bench spec, section 3).
_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1")

COMMAND = ("-P", "-m", "hasten.bench.worker")  # -P: a user's random.py in the current folder is not Python's

Events: TypeAlias = "queue.SimpleQueue[tuple[Worker, dict[str, Any]]]"


class Worker:
    """One worker process. What it says, and at last {"event": "died", "code"}, arrives in `events`.

    Args:
        events: the queue that its events go to.
        log: file for what it prints outside runs.
    """

    def __init__(self, events: Events, log: Path) -> None:
        self.log = log
        self.ready = False  # until it has said so, it is given nothing: a pipe that nobody reads fills up
        with open(log, "ab") as file:
            self.process = subprocess.Popen(
                [sys.executable, *COMMAND],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                encoding="utf-8",
                errors="replace",
                env={**os.environ, **_THREADS, "PYTHONPATH": _python_path()},
                start_new_session=True,  # Ctrl-C in the terminal reaches the driver only; and it is a group to kill
            )
        self._listener = threading.Thread(target=self._listen, args=(events,), daemon=True)
        self._listener.start()

    def _listen(self, events: Events) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                event = parse_event(line)
                if event is not None:
                    events.put((self, event))
        self._kill()  # before it is reaped, while its number cannot be another's: what it left behind
        events.put((self, {"event": "died", "code": self.process.wait()}))

    def _kill(self) -> None:
        """Kill it and every process it started."""
        if self.process.returncode is not None:
            return
        with contextlib.suppress(OSError):  # it is gone already
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()

    def send(self, message: dict[str, Any]) -> None:
        """Send a command; a dead worker is noticed by its `died` event."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()

    def end(self) -> None:
        """Kill it and wait until it is gone."""
        self._kill()
        self._listener.join(timeout=10)
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):  # what was not sent
            self.process.stdin.close()


def parse_event(line: str) -> dict[str, Any] | None:
    """The event in a line, or None for anything else: a line cut short by a kill, a stray print."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return event if isinstance(event, dict) and "event" in event else None


class Pool:
    """`size` workers and one queue of their events. As a context manager it leaves no worker behind."""

    def __init__(self, size: int, logs: Path) -> None:
        self.size, self.logs = size, logs
        self.events: Events = queue.SimpleQueue()
        self.workers: list[Worker] = []

    def __enter__(self) -> Pool:
        try:
            for number in range(self.size):
                self.workers.append(self._start(number))
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *raised: object) -> None:
        self.end()

    def _start(self, number: int) -> Worker:
        return Worker(self.events, self.logs / f"worker-{number}.log")

    def replace(self, worker: Worker) -> None:
        """Start a new worker in the place of one that is dead, or of no more use."""
        worker.end()
        number = self.workers.index(worker)
        self.workers[number] = self._start(number)

    def next_event(self, timeout: float) -> tuple[Worker, dict[str, Any]] | None:
        """The next event, or None after `timeout` seconds."""
        try:
            return self.events.get(timeout=timeout)
        except queue.Empty:
            return None

    def end(self) -> None:
        """End every worker; none is left behind."""
        for worker in self.workers:
            worker.end()


def _python_path() -> str:
    """The driver's own import path, so that a worker finds the same packages; "" in it is the current folder."""
    return os.pathsep.join(entry or os.getcwd() for entry in sys.path)
