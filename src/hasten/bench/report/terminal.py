"""`table`: the study in a terminal, in as many columns as it has; plain text where colour or Unicode is not wanted.

Text from outside (names, notes, errors) passes `words.printable` first, so that it cannot move the cursor or change the
colours of the terminal that shows it.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from . import words
from .calibration import KINDS, bias_decimals, kind_costs
from .data import Report, prepare
from .frontier import volume_decimals
from .interactions import interaction_lines
from .words import MINUS, TIMES, UNKNOWN, VERDICTS

__all__ = ["table"]

_ASCII = str.maketrans({TIMES: "x", MINUS: "-", UNKNOWN: "-", "±": "+-", "≥": ">=", "≤": "<=", "…": "...", "·": "|",
                        "▲": "^", "▼": "v", "◆": "~", "○": "?", "●": "*"})  # fmt: skip
_CODES = {"pays": "32", "costs": "31", "mixed": "33", "tie": "36", "open": "2", "base": "2", "bold": "1"}
GAP = "  "


@dataclass(frozen=True)
class _Cell:
    """A text with the class of its verdict, or "" for none."""

    text: str
    css: str = ""


@dataclass(frozen=True)
class _Style:
    """What this terminal can show."""

    width: int
    color: bool
    unicode: bool

    def clean(self, text: str) -> str:
        """The text in the characters of this terminal."""
        return text if self.unicode else text.translate(_ASCII).encode("ascii", "replace").decode()

    def name(self, text: str) -> str:
        """A name cut in its middle to a third of the width."""
        room = max(12, self.width // 3)
        return text if len(text) <= room else f"{text[: room // 2]}…{text[-(room - room // 2 - 1) :]}"

    def paint(self, text: str, css: str) -> str:
        """The text in the colour of a verdict, where colours are shown."""
        return f"\x1b[{_CODES[css]}m{text}\x1b[0m" if self.color and css else text

    def wrap(self, text: str, indent: str = "", width: int | None = None) -> list[str]:
        """The cleaned text in lines of the terminal's width."""
        room = max((width or self.width) - len(indent), 12)
        return [indent + line for line in textwrap.wrap(self.clean(text), room, break_on_hyphens=False)]


def table(
    data: dict[str, Any] | Report, *, width: int | None = None, color: bool | None = None, unicode: bool | None = None
) -> str:
    """The study as text: the answer, one line per arm, the verdicts by budget and target, and what to keep in mind.

    Args:
        data: see `hasten.bench.report.data.Report`; it is validated here.
        width: columns; None asks the terminal (80 without one).
        color: None means: if the output is a terminal, NO_COLOR is not set and TERM is not "dumb".
        unicode: None asks the encoding of the output; without it signs become ASCII ("x", "+-", ">=").

    Returns:
        Lines ended by newlines; without escape codes unless `color`.

    Raises:
        ValueError: the data are not a report, or of another version.
    """
    report = prepare(data)
    style = _style(width, color, unicode)
    study, analysis = report["study"], report["analysis"]
    headline, rests = words.answer(report)
    lines = [style.paint(line, "bold") for line in style.wrap(study["title"])]
    facts = (study["workload"], f"{study['curve']} curve" if report["runs"] else "from logs", study["created"][:10])
    lines += style.wrap(" · ".join(filter(None, facts)))
    if why := words.incomplete(report):
        lines += style.wrap(f"This study is not complete: {why}.")
    lines += ["", *(style.paint(line, "bold") for line in style.wrap(headline)), *style.wrap(rests)]
    if analysis is not None:
        lines += ["", *_arms(style, report, analysis)]
        for field, title in (
            ("budgets", "gain at equal training time"),
            ("targets", "speedup to reach the same quality"),
        ):
            lines += _glance(style, analysis, field, title)
        lines += ["", *_order(style, analysis), *_frontier(style, report), *_interactions(style, report)]
    lines += _calibration(style, report)
    lines += ["", *_notes(style, report)]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _style(width: int | None, color: bool | None, unicode: bool | None) -> _Style:
    if color is None:
        color = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    if unicode is None:
        unicode = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") in ("utf8", "utf16", "utf32")
    return _Style(max(40, width or shutil.get_terminal_size().columns), color, unicode)


def _columns(text: str) -> int:
    """Columns that a text takes in a terminal."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def _grid(style: _Style, rows: Sequence[Sequence[_Cell]], *, left: int = 1) -> list[str]:
    """Rows of cells in aligned columns, the first `left` columns flush left; the first row is the heading."""
    rows = [[_Cell(style.clean(cell.text), cell.css) for cell in row] for row in rows]
    wide = [max(_columns(cell.text) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for i, row in enumerate(rows):
        parts = []
        for j, (cell, room) in enumerate(zip(row, wide, strict=True)):
            pad = " " * (room - _columns(cell.text))
            text = cell.text + pad if j < left else pad + cell.text
            parts.append(style.paint(text, cell.css or ("bold" if i == 0 else "")))
        lines.append(GAP.join(parts))
    return lines


def _arms(style: _Style, data: Report, analysis: dict[str, Any]) -> list[str]:
    """One line per arm with time, metric and verdict, and its sentence below."""
    decimals = words.gain_decimals(analysis)
    last = analysis["budgets"][-1]["label"] if analysis["budgets"] else "the end"
    grid = [
        [
            _Cell("arm"),
            _Cell("verdict"),
            _Cell("time, same steps"),
            _Cell(style.name(f"{data['study']['metric']} at {last}")),
        ]
    ]
    for arm in analysis["arms"]:
        final = words.final_point(analysis, arm)
        metric = words.level(final, decimals) if final else UNKNOWN
        pace = words.ratio(words.time_ratio(analysis, arm))
        grid.append(
            [
                _Cell(style.name(arm["name"])),
                _verdict(arm["verdict"], words.reservation(arm)),
                _Cell(pace),
                _Cell(metric),
            ]
        )
    head, *rows = _grid(style, grid, left=2)
    lines = [head]
    for arm, row in zip(analysis["arms"], rows, strict=True):
        lines.append(row)
        if arm["name"] != analysis["baseline"]:
            lines += style.wrap(words.capital(arm["sentence"]), indent="    ")
    return lines


def _verdict(word: str, more: str = "") -> _Cell:
    verdict = VERDICTS[word]
    return _Cell(f"{verdict.mark} {word}{more}", verdict.css)


def _glance(style: _Style, analysis: dict[str, Any], field: str, title: str) -> list[str]:
    """Effects and verdicts, arms down and budgets or targets across, in as many blocks as the width needs."""
    arms = [arm for arm in analysis["arms"] if arm[field]]
    if not arms:
        return []
    decimals = words.gain_decimals(analysis)
    columns = [[_Cell("")] + [_Cell(style.name(arm["name"])) for arm in arms]]
    for i, axis in enumerate(analysis[field]):
        cells = [arm[field][i] for arm in arms]
        texts = [
            _Cell(f"{VERDICTS[e['verdict']].mark} {words.effect_text(e, decimals)}", VERDICTS[e["verdict"]].css)
            for e in cells
        ]
        columns.append([_Cell(axis["label"].split(" (")[0]), *texts])
    lines = _heading(style, title)
    lines += _stacked(style, columns)
    used = dict.fromkeys(effect["verdict"] for arm in arms for effect in arm[field])
    return lines + style.wrap("   ".join(f"{VERDICTS[word].mark} {word}" for word in used))


def _stacked(style: _Style, columns: list[list[_Cell]]) -> list[str]:
    """A table in as many blocks as the width needs."""
    return [line for block in _blocks(style, columns) for line in _grid(style, list(zip(*block, strict=True)))]


def _blocks(style: _Style, columns: list[list[_Cell]]) -> Iterable[list[list[_Cell]]]:
    """The first column with as many of the others as fit, again and again."""
    wide = [max(_columns(style.clean(cell.text)) for cell in column) for column in columns]
    block, used = [columns[0]], wide[0]
    for column, room in zip(columns[1:], wide[1:], strict=True):
        if len(block) > 1 and used + len(GAP) + room > style.width:
            yield block
            block, used = [columns[0]], wide[0]
        block.append(column)
        used += len(GAP) + room
    yield block


def _order(style: _Style, analysis: dict[str, Any]) -> list[str]:
    """Per budget the arms from best to worst; what cannot be told apart is joined by =."""
    lines = style.wrap("quality at equal steps, whatever they cost: no verdict (= cannot be told apart)")
    lines = [style.paint(line, "bold") for line in lines]
    for budget, groups in zip(analysis["budgets"], analysis["ties"], strict=True):
        lines += style.wrap(f"{budget['label']}: {words.order(groups)}", indent="")
    return lines


def _heading(style: _Style, text: str) -> list[str]:
    return ["", *(style.paint(line, "bold") for line in style.wrap(text))]


def _frontier(style: _Style, data: Report) -> list[str]:
    """How sure each arm's place on the frontier is, at its points and at all, and how much it covers."""
    frontier = (data["analysis"] or {}).get("frontier")
    if not frontier or len(frontier["arms"]) < 2:
        return []
    decimals = volume_decimals(frontier)
    labels = {point["point"]: point["label"] for point in frontier["points"]}
    share = {(point["arm"], point["point"]): point["probability"] for point in frontier["points"]}
    arms = [arm["arm"] for arm in frontier["arms"]]
    columns = [[_Cell("")] + [_Cell(style.name(arm)) for arm in arms]]
    columns += [
        [_Cell(labels[point]), *(_Cell(words.chance(share.get((arm, point)))) for arm in arms)]
        for point in sorted(labels)
    ]
    columns.append([_Cell("any point"), *(_Cell(words.chance(arm["probability"])) for arm in frontier["arms"])])
    volumes = [_Cell(words.fixed(arm["hypervolume"], decimals)) for arm in frontier["arms"]]
    columns.append([_Cell("hypervolume"), *volumes])
    lines = _heading(style, "share of resamples on the frontier of time and quality: no verdict")
    return lines + _stacked(style, columns)


def _interactions(style: _Style, data: Report) -> list[str]:
    """One sentence per design: do the methods add up?"""
    said = [line for text in interaction_lines(data) for line in style.wrap(text)]
    return [*_heading(style, "do the methods add up? no verdict"), *said] if said else []


def _calibration(style: _Style, data: Report) -> list[str]:
    """Difference of every kind of curve from separate runs, and what it costs."""
    if data["calibration"] is None:
        return []
    decimals, kinds = bias_decimals(data), list(kind_costs(data))
    others = [item for item in kinds if item[0]["kind"] != "separate"]
    columns = [[_Cell("")] + [_Cell(KINDS[kind["kind"]]) for kind, *_ in others]]
    for i, label in enumerate(data["calibration"]["budgets"]):
        columns.append(
            [_Cell(label), *(_Cell(words.signed(kind["levels"][i]["bias"], decimals)) for kind, *_ in others)]
        )
    columns.append([_Cell("steps"), *(_Cell(words.ratio(steps)) for _, steps, _ in others)])
    columns.append([_Cell("time"), *(_Cell(words.ratio(seconds)) for *_, seconds in others)])
    title = f"{data['study']['metric']} of {data['calibration']['arm']}, difference from separate runs"
    return _heading(style, title) + _stacked(style, columns)


def _notes(style: _Style, data: Report) -> list[str]:
    """What to keep in mind."""
    analysis, power = data["analysis"], data["power"]
    texts = [*words.troubles(data), *((power["text"],) if power else ()), *(analysis["notes"] if analysis else ())]
    lines = []
    for text in (*texts, *data["notes"]):
        first, *more = style.wrap(text, indent="  ") or ["  "]
        lines += [f"- {first[2:]}", *more]
    return lines
