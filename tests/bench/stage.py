"""A pool of workers that follow a script, for tests of the driver: every turn of events can be played."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

Event = dict[str, Any]


class Worker:
    def __init__(self, number: int) -> None:
        self.ready, self.log, self.task = False, Path(f"worker-{number}.log"), None


class Stage:
    """A pool of workers that do what `script(run, attempt)` says; a run is (arm, seed).

    The script returns events, or None for what an undisturbed worker says. Callables among the events are called when
    their turn comes.
    """

    def __init__(self, plan: Any, script: Callable[[tuple[str, int], int], list | None], *, stillborn: int = 0) -> None:
        self.plan, self.script, self.stillborn = plan, script, stillborn
        self.programs = {json.dumps(program.to_json()): name for name, program in plan.arms.items()}
        self.given: list[tuple[str, int]] = []
        self.all_ready: list[bool] = []  # when each run was given
        self.messages: list[tuple[Worker, dict]] = []
        self.ended = False

    def __call__(self, size: int, logs: Path) -> Stage:
        self.events: deque[tuple[Worker, Any]] = deque()
        self.started = 0
        self.workers = [self._start() for _ in range(size)]
        return self

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *raised: object) -> None:
        self.ended = True

    def _start(self) -> Worker:
        worker = Worker(self.started)
        worker.send = lambda message: self._send(worker, message)
        self.started += 1
        alive = self.started > self.stillborn
        self.events.append((worker, {"event": "ready"} if alive else {"event": "died", "code": 1}))
        return worker

    def replace(self, worker: Worker) -> None:
        self.workers[self.workers.index(worker)] = self._start()

    def next_event(self, timeout: float) -> tuple[Worker, Event] | None:
        if not self.events:
            return None
        worker, event = self.events.popleft()
        if callable(event):
            event()
            return None
        return worker, event

    def _send(self, worker: Worker, message: dict) -> None:
        assert worker.ready, "a worker that has not said so is not given anything"
        self.messages.append((worker, message))
        if message["do"] == "stop":
            return
        run = self.programs[json.dumps(message["program"])], message["seed"]
        self.given.append(run)
        self.all_ready.append(all(other.ready for other in self.workers))
        said = self.script(run, self.given.count(run) - 1)
        for event in whole(run) if said is None else said:
            self.events.append((worker, event))


def point(run: tuple[str, int], number: int, **data) -> Event:
    metric = 0.5 + 0.1 * run[1] + 0.01 * number
    return {"event": "point", "point": number, "step": 100 * (number + 1), "metric": metric, "seconds": 1.0, **data}


def done(seconds: float = 1.0, **data) -> Event:
    return {"event": "done", "stopped": False, "calibration": {"before": seconds, "after": seconds}, **data}


def whole(run: tuple[str, int]) -> list[Event]:
    return [point(run, 0), point(run, 1), point(run, 2), done()]
