"""Headers of WFDB records (`.hea`): text, a line for the record, one for each signal, comments.

Format: https://physionet.org/physiotools/wag/header-5.htm
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hasten._core.checks import refuse

__all__ = ["Header", "Signal", "format_header", "parse_header"]

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
RECORD = re.compile(
    rf"(?P<name>[^\s/]+)(?P<segments>/\d+)?\s+(?P<signals>\d+)"
    rf"(?:\s+(?P<rate>{NUMBER})(?:/(?P<counter>{NUMBER})(?:\((?P<base>{NUMBER})\))?)?"
    r"(?:\s+(?P<rows>\d+)(?:\s+(?P<time>[\d:.]+)(?:\s+(?P<date>\d+/\d+/\d+))?)?)?)?\s*"
)
SIGNAL = re.compile(
    r"(?P<file>\S+)\s+(?P<format>\d+)(?:x(?P<per_frame>\d+))?(?::(?P<skew>\d+))?(?:\+(?P<offset>\d+))?"
    rf"(?:\s+(?P<gain>{NUMBER})(?:\((?P<baseline>-?\d+)\))?(?:/(?P<units>\S+))?"
    r"(?:\s+(?P<bits>\d+)(?:\s+(?P<zero>-?\d+)(?:\s+(?P<first>-?\d+)(?:\s+(?P<checksum>-?\d+)"
    r"(?:\s+(?P<block>\d+)(?:\s+(?P<name>.*?))?)?)?)?)?)?)?\s*"
)
DEFAULT_RATE = 250.0
DIGITS = 18  # of a number: more never make sense
NAME = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Signal:
    """A line of the header. None: it does not say."""

    file: str
    format: int
    per_frame: int = 1
    skew: int = 0
    offset: int = 0
    gain: float | None = None
    baseline: int | None = None
    units: str | None = None
    bits: int | None = None
    zero: int = 0
    first: int | None = None
    checksum: int | None = None
    name: str = ""


@dataclass(frozen=True)
class Header:
    """A header. `rows` counts frames, None: it does not say. `other` holds what only people read, as JSON can."""

    name: str
    signals: tuple[Signal, ...]
    rate: float
    rows: int | None
    other: dict[str, Any]


def parse_header(path: Path) -> Header:
    """Read a header.

    Raises:
        ValueError: A line is not as it should be, or the record is made of segments.
    """
    lines, comments = [], []
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if line.startswith("#"):
            comments.append(line[1:].strip())
        elif line.strip():
            lines.append((number, line.strip()))
    if not lines:
        raise refuse("wfdb", "the header of a record", f"{path} without one", "Check the path.")
    said = _match(RECORD, "name, number of signals, rate and so on", path, *lines[0])
    if said["segments"]:
        what = "a record of one piece"
        raise refuse("wfdb", what, f"{path} of {said['segments'][1:]} segments", "Compress its segments one by one.")
    count = int(said["signals"][:DIGITS])
    if len(lines) - 1 < count or not count:
        raise refuse("wfdb", f"{count or 'some'} lines of signals", f"{len(lines) - 1} in {path}", "")
    signals = tuple(_signal(path, number, line) for number, line in lines[1 : 1 + count])
    rate = float(said["rate"] or 0) or DEFAULT_RATE
    if not 0 < rate < math.inf or len(said["rows"] or "") > DIGITS or len(said["signals"]) > DIGITS:
        raise refuse("wfdb", "a positive rate and possible numbers", f"{lines[0][1]!r} in {path}", "")
    other: dict[str, Any] = {
        key: said[key] for key in ("counter", "base", "time", "date") if said[key] is not None
    }  # fmt: skip
    if comments:
        other["comments"] = comments
    return Header(said["name"], signals, rate, int(said["rows"] or 0) or None, other)


def _match(pattern: re.Pattern[str], what: str, path: Path, number: int, line: str) -> dict[str, Any]:
    found = pattern.fullmatch(line)
    if found is None:
        raise refuse("wfdb", what, f"{line!r} in line {number} of {path}", "")
    return found.groupdict()


def _signal(path: Path, number: int, line: str) -> Signal:
    said = _match(SIGNAL, "a signal: file, format, gain and so on", path, number, line)
    if said["file"] != Path(said["file"]).name or said["file"] in (".", ".."):
        where = f"{said['file']!r} in line {number} of {path}"
        raise refuse("wfdb", "a file beside the header", where, "Put the files of a record into one folder.")
    if any(len(value) > DIGITS for key, value in said.items() if value and key not in ("file", "name", "units")):
        raise refuse("wfdb", f"numbers of up to {DIGITS} digits", f"a longer one in line {number} of {path}", "")
    zero = int(said["zero"] or 0)
    gain = float(said["gain"] or 0)
    if not math.isfinite(gain):
        raise refuse("wfdb", "a finite gain", f"{said['gain']} in line {number} of {path}", "")
    numbers = {key: int(said[key]) for key in ("bits", "first", "checksum") if said[key] is not None}
    return Signal(
        said["file"], int(said["format"]), int(said["per_frame"] or 1), int(said["skew"] or 0),
        int(said["offset"] or 0), gain or None, zero if said["baseline"] is None else int(said["baseline"]),
        said["units"] or ("mV" if gain else None), zero=zero, name=(said["name"] or "").strip(), **numbers,
    )  # fmt: skip


def format_header(header: Header) -> str:
    """The text of a header."""
    other = header.other
    rate = f"{header.rate:.15g}"
    if "counter" in other:
        rate += f"/{other['counter']}" + (f"({other['base']})" if "base" in other else "")
    words = [header.name, str(len(header.signals)), rate, str(header.rows)]
    if "time" in other:
        words += [other["time"], *([other["date"]] if "date" in other else [])]
    lines = [" ".join(words), *map(_line, header.signals)]
    return "\n".join([*lines, *(f"# {comment}" for comment in other.get("comments", ()))]) + "\n"


def _line(signal: Signal) -> str:
    form = str(signal.format)
    form += f"x{signal.per_frame}" if signal.per_frame > 1 else ""
    form += f":{signal.skew}" if signal.skew else ""
    gain = f"{signal.gain or 0:.15g}"
    if signal.baseline is not None and signal.baseline != signal.zero:
        gain += f"({signal.baseline})"
    gain += f"/{signal.units}" if signal.units else ""
    numbers = f"{signal.bits or 0} {signal.zero} {signal.first} {signal.checksum} 0"
    return f"{signal.file} {form} {gain} {numbers} {signal.name}".rstrip()
