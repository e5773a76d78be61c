"""The command line as a whole: exit statuses, one clear line for an error, and how little is imported."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

import hasten
from hasten import cli
from hasten.cli import Interrupted, UsageError, main


def test_no_verb_and_help_list_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["--help"]):
        assert main(words) == 0
        out = capsys.readouterr().out
        assert all(verb in out for verb in cli.VERBS)
        assert "--debug" in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == hasten.__version__


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_a_page_of_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert f"hasten {verb}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["comapre"], "compare"),
        (["compare", "digits", "--seedz", "3"], "--seed"),
        (["compare", "digits", "--seeds", "many"], "many"),
        (["methods", "ema", "sam"], "sam"),
        (["report"], "FOLDER"),
    ],
)
def test_misspelt_commands_are_usage_errors_with_a_hint(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    captured = capsys.readouterr()
    assert told.lower() in (captured.out + captured.err).lower()


def fails(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(words: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "_run", run)


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ValueError("compare: expected a, got b."), 1, "hasten: compare: expected a, got b.\n"),
        (RuntimeError("it broke"), 1, "hasten: it broke\n"),
        (OSError(28, "No space left on device"), 1, "hasten: [Errno 28] No space left on device\n"),
        (UsageError("use it otherwise"), 2, "hasten: use it otherwise\n"),
        (KeyError("width"), 1, "hasten: KeyError: 'width'. Run with --debug for the traceback.\n"),
        (ValueError(), 1, "hasten: ValueError: . Run with --debug for the traceback.\n"),
        (ZeroDivisionError("by zero"), 1, "hasten: ZeroDivisionError: by zero. Run with --debug for the traceback.\n"),
        (KeyboardInterrupt(), 130, ""),
        (Interrupted(), 130, ""),
        (BrokenPipeError(), 1, ""),
    ],
)
def test_an_error_is_one_line_and_a_status(
    error: BaseException, status: int, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fails(error, monkeypatch)
    assert main(["compare"]) == status
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", line)


def test_debug_shows_where_it_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    fails(ValueError("inside"), monkeypatch)
    for words in (["--debug", "compare"], ["compare", "--debug"]):
        with pytest.raises(ValueError, match="inside"):
            main(words)


def test_without_cyclopts_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "cyclopts", None)
    assert main(["methods"]) == 1
    assert capsys.readouterr().err == "hasten: the command line needs the extra `bench`: pip install 'hasten[bench]'\n"


def test_offline_is_passed_on_to_this_process_and_its_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HASTEN_OFFLINE", raising=False)
    cli.offline(False)
    assert "HASTEN_OFFLINE" not in os.environ
    cli.offline(True)
    assert os.environ["HASTEN_OFFLINE"] == "1"
    monkeypatch.delenv("HASTEN_OFFLINE")


@pytest.mark.parametrize("words", ["--help", "--version", *(f"{verb} --help" for verb in cli.VERBS)])
def test_help_loads_no_torch(words: str) -> None:
    code = "import sys; from hasten.cli import main; sys.exit(main(sys.argv[1:]) or 'torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code, *words.split()], check=True, stdout=subprocess.DEVNULL, timeout=60)


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_reader_that_goes_away_is_no_error() -> None:
    """`hasten methods | head -1`: the pipe closes before everything is written."""
    code = "import sys; from hasten.cli import main; sys.exit(main(['methods']))"
    shell = f'{sys.executable} -c "{code}" | true; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
