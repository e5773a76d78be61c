"""Drivers to be killed, and what is left when they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hasten.bench.book import counting
from hasten.bench.store import Store

HERE = Path(__file__).parent


def environment() -> dict[str, str]:
    """Of a process that finds what this one finds."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


class Drivers:
    """A process that forks drivers, one at a time (see `drivers.py`)."""

    def __init__(self, workload: Path, log: Path) -> None:
        self.workload, self.log = workload, log
        with log.open("a") as file:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "drivers.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env=environment(),
            )

    def start(
        self, folder: Path, *, plan: dict[str, Any], workload: Path | None = None, limit: int = 0, **run: Any
    ) -> int:
        """Start a driver that may write files of up to `limit` bytes, and its log; returns its process number."""
        self.log.write_text("")
        run = {"out": str(folder), "checkpoint_seconds": 0.05, "retry_drifted": False, **run}
        line = json.dumps({"workload": str(workload or self.workload), "plan": plan, "run": run, "limit": limit})
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()
        return self._read()["pid"]

    def wait(self) -> int:
        """Its exit status; negative is the signal that ended it."""
        return self._read()["status"]

    def _read(self) -> dict[str, Any]:
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        return json.loads(line)

    def end(self) -> None:
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()


def _stat(pid: int) -> list[str]:
    """State, parent and so on of a process; [] when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    except OSError:
        return []


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has collected does not."""
    return _stat(pid)[:1] not in ([], ["Z"])


def children(parent: int) -> list[int]:
    """The living processes that a process has started."""
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [pid for pid in pids if alive(pid) and int(_stat(pid)[1:2][0] if _stat(pid) else 0) == parent]


def wait_for(condition: Callable[[], Any], *, seconds: float = 30.0) -> Any:
    """What `condition` returns once it is true."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.005)
    return found


def outcomes(folder: Path) -> dict[str, Any]:
    """What a finished study found, without times: weights by run, metrics by run and point over all attempts."""
    store = Store(folder, read_only=True)
    runs, status = store.runs(), store.get("status")
    store.close()
    chosen = counting(runs)
    metrics: dict[tuple[Any, ...], set[float]] = {}
    for run in runs:
        for point in run["points"]:
            key = run["key"]
            metrics.setdefault((key.arm, key.seed, key.curve, point["point"]), set()).add(point["metric"])
    weights = {
        (run["key"].arm, run["key"].seed, run["key"].curve, run["key"].first): run["data"].get("weights")
        for run in runs
        if run["key"] in chosen
    }
    return {"status": status, "weights": weights, "metrics": metrics}


def hasten(*arguments: Any, code: str = "pass") -> list[str]:
    """The command line `hasten ...`, run by this Python; `code` runs before it."""
    run = f"import sys; {code}; from hasten.cli import main; sys.exit(main())"
    return [sys.executable, "-c", run, *map(str, arguments)]
