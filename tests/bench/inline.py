"""Studies whose runs are computed in this process, for tests of what becomes of the results.

A process takes three seconds to start, most runs here some milliseconds. What a process must be able to do is tested
with real ones: test_worker.py, test_pool.py, test_driver.py, test_study.py and the folder robustness.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hasten.bench import worker
from hasten.bench.pool import Events, Pool


class InlineWorker:
    """A worker that has finished its run when `send` returns; what is sent and told goes through JSON all the same."""

    def __init__(self, events: Events, log: Path) -> None:
        self.events, self.log, self.ready = events, log, False
        self._tell({"event": "ready"})

    def _tell(self, event: dict[str, Any]) -> None:
        self.events.put((self, json.loads(json.dumps(event))))  # type: ignore[arg-type]

    def send(self, message: dict[str, Any]) -> None:
        assert message["do"] == "run"
        self._tell(worker._outcome(json.loads(json.dumps(message)), self._tell, lambda: False))

    def end(self) -> None:
        pass


class InlinePool(Pool):
    """A pool of them."""

    def _start(self, number: int) -> Any:
        return InlineWorker(self.events, self.logs / f"worker-{number}.log")


@contextmanager
def inline() -> Iterator[None]:
    """Studies run in this process meanwhile; what workers are for is not tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hasten.bench.driver.Pool", InlinePool)
        patch.setattr(sys, "path", [*sys.path])
        yield
