"""The command line: one file per verb, imported when its verb is used.

Exit status: 0 done, 1 failed, 2 usage, 3 the budget ended before three seeds were complete, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from collections.abc import Sequence
from typing import Any

import hasten

__all__ = ["Interrupted", "UsageError", "main"]

# verb -> what `hasten --help` says of it; its function has the same name and lives in the module of that name.
VERBS = {
    "compare": "Compare ways to train on a workload: which pay, at which budgets, how sure is that?",
    "prune": "Prune a model by several strategies, and see what each keeps and saves.",
    "report": "Write the report of one study or of several as one HTML page, or as static files.",
    "merge": "Put runs of one question from several folders into one study.",
    "archive": "Write a study as one file, to keep or to send, or bring one back.",
    "memory": "Show what a program needs in memory: state, activations, peak.",
    "methods": "List the methods, or show one's arguments and card.",
    "schedule": "Draw a learning-rate schedule.",
    "codec": "Compress sensor data without loss; read, check and mend compressed files.",
    "matmul": "Find out whether products by look-up pay on your own activations; learn one, use it.",
    "doctor": "Say what is installed and what this machine offers.",
    "new": "Write a workload file to start from.",
}


class UsageError(ValueError):
    """The command as written makes no sense; exit status 2."""


class Interrupted(Exception):  # noqa: N818  (not an error)
    """Ctrl-C, after what could be saved was saved; exit status 130."""


_said: list[str] = []  # the words of the command that is being run


def command_line() -> str:
    """The command as it was written, for reports."""
    return shlex.join(["hasten", *_said])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `hasten VERB ...` and return its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    _said[:] = words
    try:
        return _run(words)
    except (KeyboardInterrupt, Interrupted):
        return 130
    except BrokenPipeError:  # `hasten methods | head`: nobody reads on, so nothing more must be written at the end
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            raise
        print(f"hasten: {_in_words(error)}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1


def _run(words: list[str]) -> int:
    try:
        import cyclopts
    except ImportError:
        print("hasten: the command line needs the extra `bench`: pip install 'hasten[bench]'", file=sys.stderr)
        return 1
    app = cyclopts.App(
        name="hasten",
        help="Make deep learning cheaper, and prove it.\n\nAdd --debug to any command to see a traceback.",
        version=hasten.__version__,
        default_parameter=cyclopts.Parameter(negative=()),
        result_action="return_value",
    )
    for verb, summary in VERBS.items():
        app.command(f"hasten.cli.{verb}:{verb}", name=verb, help=summary)
    if not words:
        words = ["--help"]
    try:
        result: Any = app(words, exit_on_error=False)
    except cyclopts.CycloptsError:
        return 2  # cyclopts has printed what is wrong
    sys.stdout.flush()
    return result if isinstance(result, int) else 0


def _in_words(error: Exception) -> str:
    """One clear line (or a few) for people; `--debug` shows where it came from."""
    text = str(error).strip()
    known = isinstance(error, (ValueError, TypeError, RuntimeError, ImportError, OSError))
    return text if known and text else f"{type(error).__name__}: {text}. Run with --debug for the traceback."


def offline(flag: bool) -> None:
    """Forbid downloads in this process and its workers."""
    if flag:
        os.environ["HASTEN_OFFLINE"] = "1"
