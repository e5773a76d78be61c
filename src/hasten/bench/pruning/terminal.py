"""A pruning study in a terminal: what was found, the metric by strategy and ratio, the orders, what to keep in mind."""

from __future__ import annotations

from typing import Any

from ..report.data import printable
from ..report.terminal import _blocks, _Cell, _grid, _Style, _style
from ..report.words import order, ratio
from . import words
from .fair import UNSURE
from .plan import UNPRUNED

__all__ = ["table"]

MARKS = {"better": ("▲", "pays"), "worse": ("▼", "costs"), UNSURE: ("=", "tie")}


def table(
    data: dict[str, Any], *, width: int | None = None, color: bool | None = None, unicode: bool | None = None
) -> str:
    """The study as text.

    Args:
        data: `PruneStudy.data`.
        width, color, unicode: as in `hasten.bench.report.terminal.table`.
    """
    data, style = printable(data), _style(width, color, unicode)
    lines = [style.paint(line, "bold") for line in style.wrap(data["study"]["title"])]
    if (status := data["study"]["status"]) != "complete":
        lines += style.wrap(f"This study is not complete ({status}). The same command goes on.")
    lines += [""]
    for sentence in words.answer(data):
        lines += style.wrap(sentence)
    if data["rows"]:
        lines += ["", *_levels(style, data), "", *_saved(style, data)]
    lines += _orders(style, data)
    lines += [""]
    for text in (*words.grounds(data), *words.caveats(data)):
        first, *more = style.wrap(text, indent="  ")
        lines += [f"- {first[2:]}", *more]
    return "".join(f"{line.rstrip()}\n" for line in lines)


def _levels(style: _Style, data: dict[str, Any]) -> list[str]:
    """The metric after training on, arms down and ratios across, with the verdict against random pruning."""
    study, places, marks = data["study"], words.decimals(data), words.marks(data)
    rows = {(row["arm"], row["point"]): row for row in data["rows"]}
    arms = list(dict.fromkeys(arm for arm, _ in rows))
    columns = [[_Cell(""), *(_Cell(style.name(arm)) for arm in arms)]]
    for point, asked in enumerate(study["ratios"]):
        cells = []
        for arm in arms:
            mark, css = MARKS.get(marks.get((arm, point), ""), ("", ""))
            row = rows.get((arm, point))
            cells.append(_Cell(f"{mark} {words.level(row['metric'], places)}".strip() if row else "", css))
        columns.append([_Cell(words.ratio_text(asked)), *cells])
    head = f"{study['metric']} by compression; against random pruning: ▲ better, ▼ worse, = not distinguishable"
    lines = [style.paint(line, "bold") for line in style.wrap(head)]
    return lines + [line for block in _blocks(style, columns) for line in _grid(style, list(zip(*block, strict=True)))]


def _saved(style: _Style, data: dict[str, Any]) -> list[str]:
    """Theoretical speed-up and measured time, arms down and ratios across."""
    rows = {(row["arm"], row["point"]): row for row in data["rows"] if row["arm"] != UNPRUNED}
    arms = list(dict.fromkeys(arm for arm, _ in rows))
    points = sorted({point for _, point in rows})
    columns = [[_Cell(""), *(_Cell(style.name(arm)) for arm in arms)]]
    for point in points:
        texts = [
            f"{ratio(row['speedup'])} | {ratio(row['relative']['mean'])}" if (row := rows.get((arm, point))) else ""
            for arm in arms
        ]
        columns.append([_Cell(words.ratio_text(data["study"]["ratios"][point])), *map(_Cell, texts)])
    lines = [style.paint(line, "bold") for line in style.wrap("theoretical speed-up | measured time of the dense one")]
    return lines + [line for block in _blocks(style, columns) for line in _grid(style, list(zip(*block, strict=True)))]


def _orders(style: _Style, data: dict[str, Any]) -> list[str]:
    lines = []
    for axis, places in data["analysis"]["orders"].items():
        if places:
            lines += ["", *(style.paint(line, "bold") for line in style.wrap(f"order at equal {words.AXIS[axis]}"))]
            for place in places:
                text = f"{words.ratio_text(place['at'])}: {order(place['groups'])}"
                lines += style.wrap(text)
    return lines
