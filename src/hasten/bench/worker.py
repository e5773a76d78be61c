"""`python -m hasten.bench.worker`: one single-threaded process that runs tasks for a driver.

It reads commands as JSON lines from stdin: {"do": "run", "function", ...} and {"do": "stop"} (end the run at its next
point). The function, such as `hasten.bench.task:train_program`, runs the task. It answers with JSON lines on stdout:
`ready` once, then for a run any number of `progress`, `point` and `note`, and one of

    done      with the results (`stopped` says whether before its end)
    failed    the loss or the metric is not a finite number: this run has ended
    broken    the program raised: its arm has ended, and the driver ends this process
    full      no space is left on the disk: nobody's fault, the study must wait

It ends when stdin ends, with every process it started, so it cannot outlive its driver, whatever killed that. It
ignores Ctrl-C: the driver decides. What user code prints goes to the run's log, and what it reads is empty.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import json
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

__all__ = ["main"]

Tell = Callable[[dict[str, Any]], None]


class _Mailbox:
    """Commands as they come in, read by a thread so that a stop is seen in the middle of a run."""

    def __init__(self, stream: TextIO) -> None:
        self.stop = threading.Event()
        self.tasks: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream: TextIO) -> None:
        try:
            for line in stream:
                message = json.loads(line)
                if message["do"] == "stop":
                    self.stop.set()
                else:
                    self.tasks.put(message)
        finally:  # the driver is gone, perhaps in the middle of a line
            _leave()


def _leave() -> None:
    """End at once: nobody would hear what a half-done run has to say."""
    if hasattr(os, "killpg") and os.getsid(0) == os.getpid():  # the driver has made it the leader of its own group
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(0)


def main() -> None:
    """Serve tasks until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    commands, answers = _take_pipes()
    mailbox = _Mailbox(commands)

    def tell(event: dict[str, Any]) -> None:
        try:
            answers.write(json.dumps(event) + "\n")
            answers.flush()
        except OSError:
            _leave()

    _prepare()
    tell({"event": "ready"})
    while True:
        task = mailbox.tasks.get()
        tell(_outcome(task, tell, mailbox.stop.is_set))
        gc.collect()  # cycles of the run that ended may hold a model and its data


def _take_pipes() -> tuple[TextIO, TextIO]:
    """The protocol's streams, out of reach of user code: its prints go to stderr, its reads find nothing."""
    commands = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    answers.write("\n")  # ends what may have been printed while modules were imported
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(2, 1)
    if hasattr(os, "register_at_fork"):  # a forked child that lives on must not hold the pipes open

        def let_go() -> None:
            for stream in (commands, answers):
                os.dup2(nothing, stream.fileno(), inheritable=False)

        os.register_at_fork(after_in_child=let_go)
    return commands, answers


def _prepare() -> None:
    import torch

    from .environment import warm_up

    faulthandler.enable()  # a crash of native code leaves a trace in the log
    torch.set_num_threads(1)
    with contextlib.suppress(RuntimeError):  # may be set once only
        torch.set_num_interop_threads(1)
    warm_up()


def _outcome(task: dict[str, Any], tell: Tell, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """The final event of a task."""
    from hasten._core.call import resolve

    with _log(Path(task["log"])):
        try:
            for stored in task["sources"]:
                _load_source(stored)
            return {"event": "done", **resolve(task["function"])(task, tell, should_stop)}
        except BaseException as error:  # SystemExit too: user code may call sys.exit
            with contextlib.suppress(OSError):
                traceback.print_exc()
            return _ending(error, task["log"])


def _ending(error: BaseException, log: str) -> dict[str, Any]:
    from .durable import is_full
    from .run import NonFiniteError

    if isinstance(error, NonFiniteError):
        return {"event": "failed", "error": str(error)}
    if is_full(error):
        return {"event": "full", "error": str(error)}
    text = str(error) or ("out of memory" if isinstance(error, MemoryError) else "no message")
    return {"event": "broken", "error": f"{type(error).__name__}: {text}", "log": log}


@contextlib.contextmanager
def _log(path: Path) -> Iterator[None]:
    """Send stdout and stderr, of Python and of libraries, to the run's log; where none can be written, to stderr's."""
    _flush()
    kept = os.dup(1), os.dup(2)
    with contextlib.suppress(OSError), open(path, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        _flush()
        for descriptor, number in zip(kept, (1, 2), strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(
            OSError, ValueError, AttributeError
        ):  # the disk is full; user code closed or replaced it
            stream.flush()


def _load_source(stored: dict[str, Any]) -> None:
    from hasten._core.sources import Source, load

    source = Source(tuple((name, text) for name, text in stored["files"]))
    folder = str(Path(stored["entry"]).parent)
    if folder not in sys.path:  # for imports inside functions, when they run
        sys.path.insert(0, folder)
    load(source, Path(stored["entry"]))


if __name__ == "__main__":
    main()
