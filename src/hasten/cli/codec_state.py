"""The verbs of `hasten codec` that say what a compressed file is, and mend it."""

from __future__ import annotations

import contextlib
import json as json_
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hasten.codecs import sprintz
from hasten.codecs.files.output import check_free, spooled
from hasten.codecs.sprintz import Info

from .codec_files import STDIO, placed, usage

__all__ = ["describe", "info", "repair", "verify"]


@contextlib.contextmanager
def _input(file: str) -> Iterator[Path]:
    """The path of a compressed file."""
    if file == STDIO:
        with spooled(sys.stdin.buffer, ".tsz") as path:
            yield path
    else:
        yield Path(file)


def info(file: str, details: bool, json: bool) -> None:
    """`hasten codec info`."""
    with placed(file), _input(file) as path, usage():
        found = sprintz.info(path, details=details)
    if json:
        print(json_.dumps({"file": file, **found.to_dict()}, indent=2))
    else:
        print(describe(file, found))


def describe(file: str, found: Info) -> str:
    """What a file holds, for people."""
    rows, columns = found.shape[0], found.shape[1] if len(found.shape) == 2 else _columns(found)
    lines = {"rows": f"{rows:,}", "columns": _named(found, columns)}
    if found.rate is not None:
        lines["rate"] = f"{found.rate:g} per second, {_duration(rows / found.rate)}"
    lines["bytes"] = f"{found.bytes:,} for {found.raw_bytes:,}, ratio {found.ratio:.2f}"
    lines["chunks"] = f"{found.chunks:,} of up to {found.chunk_rows:,} rows{'' if found.checksum else ', no checksums'}"
    lines["loss"] = _loss(found.options.get("max_error"))
    if found.missing:
        lines["missing"] = "values may be missing"
    if isinstance(found.meta.get("format"), str):
        lines["from"] = _shown(found.meta["format"])
    for row, lost in found.gaps:
        lines[f"gap at {row:,}"] = f"{lost:,} rows were lost" if lost else "rows were lost"
    if found.recovered:
        lines["! index"] = f"{found.problem}; the rows are those in good chunks. Use `hasten codec repair`."
    width = max(map(len, lines))
    text = [file, *(f"  {name:<{width}}  {line}" for name, line in lines.items())]
    text += [f"  {_column(column, j)}" for j, column in enumerate(found.columns or ())]
    return "\n".join(text)


def _loss(errors: Any) -> str:
    """By how much values may be off."""
    if errors is None:
        return "none"
    if isinstance(errors, (int, float)):
        return f"floats differ by less than {errors:g}"
    said = ["none" if error is None else f"{error:g}" for error in errors]
    return f"floats differ by less than {_listed(said)}, column by column"


def _columns(found: Info) -> int:
    return 1 if isinstance(found.dtype, str) else len(found.dtype)


def _named(found: Info, columns: int) -> str:
    """The columns: how many, their dtype and names."""
    if not isinstance(found.dtype, str):
        return f"{columns}: " + _listed([f"{_shown(name)} {dtype}" for name, dtype in found.dtype])
    text = f"{columns} of {found.dtype}"
    if found.names is None:
        return text
    units = found.units or [None] * len(found.names)
    pairs = zip(map(_shown, found.names), units, strict=True)
    return f"{text}: " + _listed([f"{name} ({_shown(unit)})" if unit else name for name, unit in pairs])


def _shown(text: str) -> str:
    """A text from outside, which must not steer the terminal."""
    return text if text.isprintable() else ascii(text)


def _listed(words: list[str], most: int = 16) -> str:
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.3g} s"


def _column(column: dict[str, Any], number: int) -> str:
    """One column of `--details`."""
    ranges = f"{column['min']} to {column['max']}" + (f", {column['nulls']:,} missing" if column["nulls"] else "")
    others = {key: v for key, v in column.items() if key not in ("name", "dtype", "min", "max", "nulls")}
    said = "; ".join(f"{key} {_counted(value)}" for key, value in others.items())
    name = number if column["name"] is None else _shown(column["name"])
    return f"column {name}: {column['dtype']}, {ranges}" + (f"; {said}" if said else "")


def _counted(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{word} {count}" for word, count in sorted(value.items(), key=lambda pair: -pair[1]))
    return f"{value:,}"


def verify(file: str) -> int:
    """`hasten codec verify` of one file: 0 if it is good."""
    with _input(file) as path, usage():
        faults = sprintz.verify(path)
        if not faults:
            found = sprintz.info(path)
            print(f"{file}: good, {found.shape[0]:,} rows in {found.chunks:,} chunks")
    for fault in faults:
        print(f"{file}: at byte {fault.offset}: {fault.reason}")
    return 1 if faults else 0


def repair(file: str, out: str | None, skip_bad: bool, force: bool) -> int:
    """`hasten codec repair`: 0 if the file is whole now."""
    with placed(file), usage():
        if out is not None:
            check_free(Path(out), force)
        try:
            done = sprintz.repair(file, out, skip_bad=skip_bad)
        except sprintz.CorruptError as error:
            reason = error.reason.replace("pass skip_bad=True", "pass --skip-bad")
            raise sprintz.CorruptError(error.offset, reason) from None
    for fault in done.faults:
        print(f"at byte {fault.offset}: {fault.reason}", file=sys.stderr)
    for row, lost in done.gaps:
        print(f"before row {row:,}: {f'{lost:,} rows' if lost else 'rows'} lost", file=sys.stderr)
    if done.left_out[0]:
        chunks, rows = done.left_out
        fix = "pass --skip-bad to keep them"
        print(f"{chunks:,} good chunks with {rows:,} rows behind a bad one were left out: {fix}", file=sys.stderr)
    said = "made whole" if done.changed else "was whole"
    print(f"{done.path}: {said}, {done.rows:,} rows in {done.chunks:,} chunks")
    return 0
