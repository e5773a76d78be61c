"""The heat map of effects, arms down and budgets or targets across: the answer in one look.

Colour says how large an effect is and in which direction, from a scale of two hues that stay apart with every common
kind of colour blindness. Whether the effect is proven is said by the mark, the weight of the text and the surface: what
is not proven is hatched, so that a large guess cannot pass for a result.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from . import words
from .data import Report
from .markup import Html, element, join
from .words import UNKNOWN, VERDICTS

__all__ = ["Unit", "gain_unit", "heat_key", "heat_map", "heat_reach", "heat_style"]

PALEST, DARKEST = 0.08, 0.6  # opacity of the colour of no effect and of the largest; text keeps a contrast of 6 : 1


@dataclass(frozen=True)
class Unit:
    """The unit of the gains in the cells, where there is room for a short number only.

    Args:
        factor: of a number in metric units.
        name: "pp", or "" for metric units.
        meaning: what the name stands for.
        decimals: of a number in this unit.
    """

    factor: float
    name: str
    meaning: str
    decimals: int

    def effect(self, effect: dict[str, Any]) -> str:
        """`effect_text` in this unit; a speedup has none."""
        return words.effect_text(self._scaled(effect, "value"), self.decimals)

    def span(self, effect: dict[str, Any]) -> str:
        """`span_text` in this unit."""
        text = words.span_text(self._scaled(effect, "low", "high"), self.decimals)
        return f"{text} {self.name}".rstrip() if effect["kind"] != "target" and text != UNKNOWN else text

    def _scaled(self, effect: dict[str, Any], *keys: str) -> dict[str, Any]:
        known = [key for key in keys if effect["kind"] != "target" and effect[key] is not None]
        return effect | {key: self.factor * effect[key] for key in known}


def gain_unit(data: Report) -> Unit:
    """Percentage points for an accuracy or an error rate that is given as a share of one, metric units otherwise."""
    analysis, metric = data["analysis"], data["study"]["metric"]
    decimals = words.gain_decimals(analysis)
    levels = [point["metric"] for arm in (analysis or {"arms": []})["arms"] for point in arm["curve"]]
    named = any(word in metric.lower() for word in ("accuracy", "error rate"))
    if not (named and all(0 <= level <= 1 for level in levels)):
        return Unit(1.0, "", "", decimals)
    return Unit(100.0, "pp", f"percentage points of {metric}", max(decimals - 2, 0))


def heat_map(data: Report, field: str, heading: str) -> Html | None:
    """One row per arm, one column per budget or target; None without effects.

    Args:
        data: a report with an analysis.
        field: "budgets" (gains, in percentage points for accuracies) or "targets" (speedups).
        heading: what the numbers are.
    """
    analysis = data["analysis"]
    assert analysis is not None
    arms = [arm for arm in analysis["arms"] if arm[field]]
    if not arms:
        return None
    unit = gain_unit(data)
    reach = heat_reach(effect for arm in arms for effect in arm[field])
    head = [element("th", element("span", "arm", class_="hidden"), scope="col")]
    for axis in analysis[field]:
        label, _, more = axis["label"].partition(" (")
        head.append(element("th", label, more and element("small", more.rstrip(")")), scope="col"))
    rows = [
        element("tr", element("th", arm["name"], scope="row"), *(_cell(effect, unit, reach) for effect in arm[field]))
        for arm in arms
    ]
    name = f"{heading}, {unit.name}" if unit.name and field == "budgets" else heading
    return element("table", element("caption", name), element("thead", element("tr", *head)), element("tbody", *rows),
                   class_="glance")  # fmt: skip


def _size(effect: Mapping[str, Any]) -> float | None:
    """How far an effect is from none: a gain, or the logarithm of a speedup, so that 2 and 1/2 are equally far."""
    value = effect["value"]
    return math.log(value) if effect["kind"] == "target" and value is not None else value


def _proven(effect: Mapping[str, Any]) -> bool:
    return effect["verdict"] in ("pays", "costs", "tie")


def heat_reach(effects: Iterable[Mapping[str, Any]]) -> float:
    """The size at which the colour is full: of the largest proven effect, or of the largest where none is proven.

    So a wild first budget that proves nothing does not bleach the effects that are proven; it is full itself.
    """
    sizes = [(abs(size), _proven(effect)) for effect in effects if (size := _size(effect)) is not None]
    return max((size for size, proven in sizes if proven and size > 0), default=0.0) or max(
        (size for size, _ in sizes), default=0.0
    )


def heat_style(effect: Mapping[str, Any], reach: float) -> tuple[str, str | None]:
    """Classes and inline style of the cell of an effect; the style holds one number that is made here."""
    css, size = VERDICTS[effect["verdict"]].css, _size(effect)
    if not size or not reach:
        return css, None
    share = min(1.0, abs(size) / reach)
    return f"{css} heat {'up' if size > 0 else 'down'}", f"--heat:{PALEST + (DARKEST - PALEST) * share:.3f}"


def _cell(effect: dict[str, Any], unit: Unit, reach: float) -> Html:
    verdict = VERDICTS[effect["verdict"]]
    mark = element("span", verdict.mark, class_="mark", aria_hidden="true")
    said = element("span", f"{effect['verdict']}, ", class_="hidden")
    title = "; ".join(filter(None, (effect["verdict"], f"interval {unit.span(effect)}", effect["reason"])))
    css, style = heat_style(effect, reach)
    return element("td", mark, said, unit.effect(effect), class_=css, style=style, title=title)


def heat_key(data: Report) -> Html | None:
    """How to read the colours, once for all maps of a page; None without effects."""
    analysis = data["analysis"]
    arms = analysis["arms"] if analysis is not None else []
    if not any(arm["budgets"] or arm["targets"] for arm in arms):
        return None
    unit = gain_unit(data)
    ramp, hatch = (element("span", class_=css, aria_hidden="true") for css in ("ramp", "hatch"))
    parts = [
        join(
            (
                "worse ",
                ramp,
                " better; full colour: the largest proven effect of the table, or of all if none is proven",
            )
        ),
        join((hatch, " ○ not proven; the colour is where it leans")),
    ]
    if unit.name:
        parts.append(element("span", f"{unit.name}: {unit.meaning}; 1 {unit.name} is {1 / unit.factor:g}"))
    return element("ul", *(element("li", part) for part in parts), class_="key quiet")
