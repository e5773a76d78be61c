"""`python -m hasten.bench.worker`: one single-threaded process that runs tasks for a driver.

Fed with JSON lines on stdin, it answers with JSON lines on stdout. It ends when stdin ends, so it cannot outlive its
driver, whatever killed that. It ignores Ctrl-C: the driver decides. What user code prints goes to the run's log.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, TextIO

__all__ = ["main"]


class _Mailbox:
    """Commands as they come in, read by a thread so that a stop is seen in the middle of a run."""

    def __init__(self, stream: TextIO) -> None:
        self.stop = threading.Event()
        self.tasks: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream: TextIO) -> None:
        for line in stream:
            message = json.loads(line)
            if message["do"] == "stop":
                self.stop.set()
            else:
                self.tasks.put(message)
        os._exit(0)  # the driver is gone: nobody would read what a half-done run has to say


def main() -> int:
    """Serve tasks until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # stray prints must not reach the protocol
    mailbox = _Mailbox(sys.stdin)

    def tell(event: dict[str, Any]) -> None:
        try:
            out.write(json.dumps(event) + "\n")
            out.flush()
        except BrokenPipeError:
            os._exit(0)

    _single_threaded()
    tell({"event": "ready", "pid": os.getpid()})
    while True:
        task = mailbox.tasks.get()
        with _log(Path(task["log"])):
            tell(_outcome(task, tell, mailbox))


def _single_threaded() -> None:
    import torch

    torch.set_num_threads(1)
    with contextlib.suppress(RuntimeError):  # may be set once only
        torch.set_num_interop_threads(1)


@contextlib.contextmanager
def _log(path: Path) -> Any:
    """Send stdout and stderr, of Python and of libraries, to the run's log."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with open(path, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)
            for descriptor in kept:
                os.close(descriptor)


def _outcome(task: dict[str, Any], tell: Any, mailbox: _Mailbox) -> dict[str, Any]:
    """The final event of a task: done, failed (this run) or broken (this arm)."""
    from hasten.bench.run import NonFiniteError

    try:
        return {"event": "done", "id": task["id"], **_run(task, tell, mailbox)}
    except NonFiniteError as error:
        return {"event": "failed", "id": task["id"], "error": str(error)}
    except (Exception, KeyboardInterrupt) as error:
        traceback.print_exc()
        kind = type(error).__name__
        return {"event": "broken", "id": task["id"], "error": f"{kind}: {error}", "log": task["log"]}


def _run(task: dict[str, Any], tell: Any, mailbox: _Mailbox) -> dict[str, Any]:
    from hasten._core.call import decode
    from hasten.program import Program

    from .environment import calibrate
    from .train import Task, train

    for stored in task["sources"]:
        _load_source(stored)
    before = calibrate()
    result = train(
        Task(
            program=Program.from_json(task["program"], trust=True),
            seed=task["seed"],
            cycles=tuple(tuple(cycle) for cycle in task["cycles"]),
            test=decode(task["test"]).build(),
            metric=decode(task["metric"]).build(),
            device=task["device"],
            workers=task["loader_workers"],
        ),
        checkpoint=Path(task["checkpoint"]) if task["checkpoint"] else None,
        checkpoint_seconds=task["checkpoint_seconds"],
        observe=lambda event: tell({**event, "id": task["id"]}),
        should_stop=mailbox.stop.is_set,
    )
    return {
        "phases": result.phases,
        "excluded": result.excluded,
        "scored_samples": result.scored_samples,
        "inference": result.inference,
        "parameters": result.parameters,
        "weights": result.weights,
        "resumed": result.resumed,
        "stopped": result.stopped,
        "calibration": {"before": before, "after": calibrate()},
    }


def _load_source(stored: dict[str, Any]) -> None:
    from hasten._core.sources import Source, load

    source = Source(tuple((name, text) for name, text in stored["files"]))
    sys.path.insert(0, str(Path(stored["entry"]).parent))  # for imports inside functions, when they run
    load(source, Path(stored["entry"]))


if __name__ == "__main__":
    sys.exit(main())
