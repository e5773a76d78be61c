"""The verbs of `hasten codec` that bring rows from one file to another."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from hasten._core.checks import refuse
from hasten.codecs.files import formats
from hasten.codecs.files.formats import SUFFIXES
from hasten.codecs.files.output import refuse_terminal, spooled
from hasten.codecs.files.recording import Opened, Recording
from hasten.codecs.files.sink import Sink, fill_missing
from hasten.codecs.sprintz import CorruptError

from . import UsageError

__all__ = ["cat", "compress", "decompress", "open_input", "parse_errors", "parse_rows", "placed", "usage"]

STDIO = "-"
CLEAR = "\r\x1b[K"  # the line of a terminal


@contextlib.contextmanager
def usage(*kinds: type[Exception]) -> Iterator[None]:
    """Errors of these kinds, and of paths that cannot be, mean that the command makes no sense."""
    try:
        yield
    except CorruptError:
        raise
    except (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, *kinds) as error:
        raise UsageError(str(error)) from error


@contextlib.contextmanager
def placed(path: str) -> Iterator[None]:
    """Errors of damaged files say which file it is."""
    try:
        yield
    except CorruptError as error:
        raise ValueError(f"{path}: {error}") from error


@contextlib.contextmanager
def open_input(file: str, form: str | None, options: dict[str, Any]) -> Iterator[tuple[Opened, Path, str]]:
    """An opened file, its path and its format; standard input is copied into a file first."""
    with contextlib.ExitStack() as stack:
        if file == STDIO and form is None:
            raise UsageError("codec: expected the format of standard input, got none. Pass --format csv, say.")
        with usage(TypeError):
            path, form = _located(stack, file, form, options)
            if "columns" in options:
                options = {**options, "columns": _columns(options["columns"], form)}
            if form == "raw" and "dtype" not in options:
                raise UsageError("raw: expected --dtype for raw numbers, got none. Pass --dtype int16 --columns 12.")
            with _waiting(f"looking through {file} ..."):
                opened = formats.open_file(path, format=form, **options)
        yield stack.enter_context(opened), path, form


def _located(
    stack: contextlib.ExitStack, file: str, form: str | None, options: dict[str, Any]
) -> tuple[Path, str]:  # fmt: skip
    """The path of the input, and its format."""
    if file == STDIO:
        assert form is not None
        return stack.enter_context(spooled(sys.stdin.buffer, "")), form
    with usage(ValueError):
        return formats.locate(file, form, options)


def _columns(text: str, form: str) -> Any:
    """`--columns`: of raw numbers how many, else which."""
    if form != "raw":
        return text.split(",")
    if not text.isdecimal():
        raise UsageError(f"raw: expected how many columns, got {text!r}. Pass --columns 12, say.")
    return int(text)


@contextlib.contextmanager
def _waiting(text: str) -> Iterator[None]:
    """Show a line on standard error, where that is a terminal, until it is done."""
    shown = sys.stderr.isatty()
    print(text * shown, end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        print(CLEAR * shown, end="", file=sys.stderr, flush=True)


class Progress:
    """How far it is, on standard error where that is a terminal."""

    def __init__(self, rows: int) -> None:
        self._rows, self._done, self._begun = rows, 0, time.monotonic()
        self._shown = sys.stderr.isatty()
        self._said = 0.0

    def add(self, rows: int) -> None:
        """So many more rows are done."""
        self._done += rows
        now = time.monotonic()
        if self._shown and now - self._said > 0.2:
            speed = self._done / max(now - self._begun, 1e-9)
            share = 100 * self._done // max(self._rows, 1)
            print(f"\r{share:3d} %  {speed:,.0f} rows/s ", end="", file=sys.stderr, flush=True)
            self._said = now

    def end(self) -> None:
        """Clear the line."""
        if self._said:
            print(CLEAR, end="", file=sys.stderr, flush=True)


def copy(opened: Opened, sink: Sink, fill: float | None = None) -> None:
    """All rows from a file to another."""
    progress = Progress(opened.rows)
    try:
        for block in opened.blocks():
            sink.append(fill_missing(block, fill))
            progress.add(len(block))
    finally:
        progress.end()


def compress(
    file: str, out: str | None, form: str | None, options: dict[str, Any], encode: dict[str, Any], *,
    rate: float | None, force: bool,
) -> None:  # fmt: skip
    """`hasten codec compress`."""
    with placed(file), open_input(file, form, options) as (opened, path, source):
        like = opened.like if rate is None else replace(opened.like, rate=rate)
        if source != "tsz":
            like = replace(like, meta={**like.meta, "format": source})
        if out is None:
            out = STDIO if file == STDIO else str(path.with_suffix(".tsz"))
        with _goal(out) as goal:
            with contextlib.ExitStack() as writing:
                with usage(ValueError, TypeError):
                    created = formats.create(goal, like, opened.rows, format="tsz", force=force, **encode)
                    sink = writing.enter_context(created)
                copy(opened, sink)
            if out != STDIO:
                print(_summary(goal, opened))


@contextlib.contextmanager
def _goal(out: str) -> Iterator[Path]:
    """Where to write a compressed file; one for standard output goes there at the end."""
    if out != STDIO:
        yield Path(out)
        return
    with usage(ValueError):
        refuse_terminal(sys.stdout)
    with tempfile.TemporaryDirectory(prefix="hasten-") as folder:
        goal = Path(folder) / "standard_output.tsz"
        yield goal
        with open(goal, "rb") as packed:
            shutil.copyfileobj(packed, sys.stdout.buffer, 1 << 20)
        sys.stdout.buffer.flush()


def _summary(goal: Path, opened: Opened) -> str:
    like = opened.like
    width = like.data.dtype.itemsize * (like.columns if like.data.dtype.names is None else 1)
    size, raw = goal.stat().st_size, opened.rows * width
    return f"{goal}: {raw:,} bytes in {opened.rows:,} rows became {size:,}, ratio {raw / size:.2f}"


def decompress(
    file: str, out: str | None, form: str | None, *, rate: float | None, fill: float | None, recover: bool,
    threads: int, force: bool,
) -> None:  # fmt: skip
    """`hasten codec decompress`."""
    options = {"recover": recover, "threads": threads}
    with placed(file), open_input(file, "tsz", options) as (opened, path, _), contextlib.ExitStack() as stack:
        like = opened.like if rate is None else replace(opened.like, rate=rate)
        like = like if fill is None else replace(like, data=fill_missing(like.data, fill))
        if out is None:
            out = STDIO if file == STDIO else str(path.with_suffix(_suffix(like, form)))
        with usage(ValueError, TypeError):
            if out == STDIO:
                sink = _to_stdout(like, opened.rows, form or "csv")
            else:
                kind = form or SUFFIXES.get(Path(out).suffix.lower(), _source(like))
                if kind == "tsz":
                    raise UsageError("codec decompress: expected another format than tsz. Pass --out ecg.csv, say.")
                sink = stack.enter_context(formats.create(out, like, opened.rows, format=kind, force=force))
        _tell_loss(file, opened)
        copy(opened, sink, fill)
        if out == STDIO:
            sink.close()
            sys.stdout.buffer.flush()
    if out != STDIO:
        print(f"{out}: {opened.rows:,} rows")


def _tell_loss(file: str, opened: Opened) -> None:
    """Say that rows may be missing at the end of a file."""
    problem = getattr(opened, "problem", None)
    if problem is not None:
        print(f"{file}: the index is lost ({problem}); these are the rows in good chunks", file=sys.stderr)


def _source(like: Recording) -> str:
    """The format that a compressed file came from."""
    source = like.meta.get("format")
    return source if isinstance(source, str) and source in formats.FORMATS and source != "tsz" else "csv"


def _suffix(like: Recording, form: str | None) -> str:
    """The suffix of a decompressed file."""
    kind = form or _source(like)
    said = like.meta.get("csv")
    if kind == "csv" and isinstance(said, dict) and said.get("delimiter") == "\t":
        return ".tsv"
    return {"wfdb": ".hea"}.get(kind, f".{kind}")


def _to_stdout(like: Recording, rows: int, form: str) -> Sink:
    if form != "csv":
        refuse_terminal(sys.stdout)
    return formats.sink(sys.stdout.buffer, like, rows, form)


def parse_rows(text: str | None) -> slice:
    """`--rows` as a slice.

    >>> parse_rows("1000:2000"), parse_rows("-1"), parse_rows(None)
    (slice(1000, 2000, None), slice(-1, None, None), slice(None, None, None))
    """
    if text is None:
        return slice(None)
    try:
        parts = [int(part) if part.strip() else None for part in text.split(":")]
        if len(parts) == 1 and parts[0] is not None:
            return slice(parts[0], parts[0] + 1 or None)
        if not 2 <= len(parts) <= 3 or parts[2:] == [0]:
            raise ValueError
    except ValueError:
        error = refuse("--rows", "rows as 1000:2000, :10, -5: or 0:1000:10", repr(text), "Write numbers and colons.")
        raise UsageError(str(error)) from None
    return slice(*parts)


def parse_errors(text: str | None) -> float | list[float | None] | None:
    """`--max-error` as `compress` takes it.

    >>> parse_errors("0.5"), parse_errors("0.5,none"), parse_errors(None)
    (0.5, [0.5, None], None)
    """
    if text is None:
        return None
    try:
        errors = [None if part.strip().lower() == "none" else float(part) for part in text.split(",")]
    except ValueError:
        error = refuse("--max-error", "a number, or one for each column", repr(text), "Write 0.01 or 0.01,none,0.5.")
        raise UsageError(str(error)) from None
    return errors if len(errors) > 1 else errors[0]


def cat(file: str, rows: str | None, columns: str | None, form: str, fill: float | None) -> None:
    """`hasten codec cat`."""
    options: dict[str, Any] = {"rows": parse_rows(rows), "recover": True}
    if columns is not None:
        options["columns"] = columns
    with placed(file), contextlib.ExitStack() as stack:
        with usage(ValueError):
            opened, _, _ = stack.enter_context(open_input(file, "tsz", options))
            like = opened.like if fill is None else replace(opened.like, data=fill_missing(opened.like.data, fill))
            sink = _to_stdout(like, opened.rows, form)
        _tell_loss(file, opened)
        for block in opened.blocks():
            sink.append(fill_missing(block, fill))
        sink.close()
        sys.stdout.buffer.flush()
