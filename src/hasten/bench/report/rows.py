"""The charts of rows under headings: gains and speedups as dots with intervals, time and costs as bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import theme
from .costs import COSTS, cost_ratios, phase_means
from .data import Report, arm_names
from .words import TIMES, UNKNOWN, VERDICTS, duration, effect_text, gain_decimals, joined, p_value, ratio, span_text

__all__ = ["PHASE_COLORS", "costs_chart", "dots_chart", "row_height", "time_chart"]

ROW = 24  # pixels per row: a finger does not need to hit it, an eye must follow it

# Phases in the order of a step; off the clock is one grey.
PHASE_COLORS = {"setup": "#595959", "loader": "#E69F00", "batch": "#CC79A7", "forward": "#56B4E9",
                "backward": "#0072B2", "optimizer": "#009E73", "hooks": "#D55E00",
                "off the clock": "#cfcfcf"}  # fmt: skip

_IS_HEADING = "substring(datum.value, 0, 1) == 'h'"
_AXIS_LABEL = f"({_IS_HEADING} ? '' : '\u2002') + slice(datum.value, indexof(datum.value, '|') + 1)"


def _row_axis(alt: Any, keys: Sequence[str]) -> Any:
    """Rows in the given order, flush left; keys are "h0|text" for a heading and "r0.1|text" for a row below it."""
    bold = alt.condition(_IS_HEADING, alt.value("bold"), alt.value("normal"))
    wide = min(150, 14 + 7 * max(len(key.split("|", 1)[1]) for key in keys))  # estimated, of 12 px text
    axis = alt.Axis(labelExpr=_AXIS_LABEL, labelFontWeight=bold, labelAlign="left", labelPadding=wide, labelLimit=wide,
                    ticks=False, domain=False, grid=False)  # fmt: skip
    return alt.Y("row:N", title=None, scale=alt.Scale(domain=list(keys)), axis=axis)


def row_height(chart_rows: int) -> int:
    """Height in pixels of a chart of so many rows."""
    return ROW * chart_rows


def dots_chart(data: Report, kind: str) -> tuple[Any, int] | None:
    """Dot plot with intervals: one heading per arm, one row per question; colour and shape tell the verdict.

    Args:
        data: a report with an analysis.
        kind: "budget" (gain at equal time), "target" (speedup at equal quality) or "accuracy" (gain at equal steps).

    Returns:
        The chart and its number of rows; None when there is nothing to show.
    """
    alt = theme.altair()
    keys, rows = _dot_rows(data, kind)
    if not rows:
        return None
    speed = kind == "target"
    neutral = 1.0 if speed else 0.0
    values = [row["value"] for row in rows if row["value"] is not None]
    ends = [row[end] for row in rows for end in ("low", "high")]
    if speed:
        axis = theme.ratio_axis(alt, theme.log_hull([*_clamped(ends, values, neutral, speed), *values], include=[1.0]))
    else:
        domain = theme.hull([*_clamped(ends, values, neutral, speed), *values], include=[0.0])
        axis = {
            "scale": alt.Scale(domain=domain, nice=False),
            "axis": alt.Axis(tickCount=5, labelExpr="datum.value == 0 ? '0' : format(datum.value, '+~g')"),
        }
    x = alt.X("value:Q", title=_dot_title(data, kind), **axis)
    y = _row_axis(alt, keys)
    tips = [alt.Tooltip(f"{key}:N", title=title) for key, title in _DOT_TIPS.items()]
    words = [word for word in VERDICTS if any(row["verdict"] == word for row in rows)]
    color = alt.Color("verdict:N", scale=alt.Scale(domain=words, range=[VERDICTS[word].color for word in words]),
                      legend=theme.top_legend(alt))  # fmt: skip
    shape = alt.Shape("verdict:N", scale=alt.Scale(domain=words, range=[_SHAPES[word] for word in words]),
                      legend=theme.top_legend(alt))  # fmt: skip

    def some(*choose: str) -> Any:
        return alt.Chart(alt.Data(values=[row for row in rows if row["draw"] in choose]))

    layers = [
        alt.Chart(alt.Data(values=[{"value": neutral}])).mark_rule(color="#767676").encode(x),
        some("exact", ">=", "<=").mark_rule(strokeWidth=1, opacity=0.5, clip=True).encode(
            alt.X("minimum:Q"), y, alt.X2("maximum:Q"), color),
        some("exact", ">=", "<=").mark_rule(strokeWidth=3, opacity=0.75, clip=True).encode(
            alt.X("low:Q"), y, alt.X2("high:Q"), color),
        some("exact").mark_point(size=95, filled=True, opacity=1).encode(x, y, color, shape, tooltip=tips),
        some("unknown").mark_text(align="left", dx=8, fontSize=11, color="#767676", text="unknown").encode(
            x=alt.datum(neutral), y=y, tooltip=tips),
    ]  # fmt: skip
    for draw, angle in ((">=", 90), ("<=", 270)):
        points = some(draw).mark_point(shape="arrow", angle=angle, size=260, filled=True, opacity=1)
        layers.append(points.encode(x, y, color, tooltip=tips))
    return alt.layer(*layers), len(keys)


_SHAPES = {"pays": "triangle-up", "better": "triangle-up", "costs": "triangle-down", "worse": "triangle-down",
           "not proven": "circle", "tie": "diamond"}  # fmt: skip
_DOT_TIPS = {"arm": "arm", "label": "at", "text": "effect", "interval": "interval", "verdict": "verdict",
             "p": "p (Holm)", "reason": "note"}  # fmt: skip


def _dot_title(data: Report, kind: str) -> str:
    if kind == "target":
        return "← slower · speedup · faster →"
    return f"← worse · gain in {data['study']['metric']} · better →"


def _dot_rows(data: Report, kind: str) -> tuple[list[str], list[dict[str, Any]]]:
    field = {"budget": "budgets", "target": "targets", "accuracy": "accuracy"}[kind]
    decimals = gain_decimals(data["analysis"])
    keys: list[str] = []
    rows: list[dict[str, Any]] = []
    for i, arm in enumerate((data["analysis"] or {"arms": []})["arms"]):
        for j, effect in enumerate(arm[field]):
            if j == 0:
                keys.append(f"h{i}|{arm['name']}")
            keys.append(f"r{i}.{j}|{effect['label'].split(' (')[0]}")
            value, bound = effect["value"], effect["bound"]
            rows.append({
                "row": keys[-1], "arm": arm["name"], "label": effect["label"], "verdict": effect["verdict"],
                "value": value, "draw": "unknown" if value is None or bound == "?" else bound or "exact",
                "low": effect["low"], "high": effect["high"],
                "minimum": effect["minimum"], "maximum": effect["maximum"], "text": effect_text(effect, decimals),
                "interval": span_text(effect, decimals), "p": p_value(effect["p_holm"]),
                "reason": effect["reason"] or UNKNOWN,
            })  # fmt: skip
    return keys, rows


def _clamped(ends: list[float | None], values: list[float], neutral: float, speed: bool) -> list[float]:
    """Interval ends, none further out than three times the largest effect: the rest must stay readable."""
    known = [end for end in ends if end is not None]
    if speed:
        reach = max([max(value, 1 / value) for value in values] + [1.1]) ** 3
        return [min(max(end, 1 / reach), reach) for end in known]
    largest = max((abs(value - neutral) for value in values), default=0.0)
    reach = 3 * largest or max(map(abs, known), default=1.0)
    return [min(max(end, -reach), reach) for end in known]


def time_chart(data: Report) -> tuple[Any, int] | None:
    """Where the time went: mean seconds per run and phase, stacked; time off the clock as a lighter bar below.

    Returns:
        The chart and its number of rows; None when no run has recorded phases.
    """
    alt = theme.altair()
    names = [name for name in arm_names(data) if phase_means(data, name)[0]]
    rows = [row for name in names for row in _time_rows(name, *phase_means(data, name))]
    if not rows:
        return None
    found = {row["part"] for row in rows if row["seconds"]}
    parts = [part for part in PHASE_COLORS if part in found] + sorted(found - set(PHASE_COLORS))
    rows = [{**row, "order": parts.index(row["part"])} for row in rows if row["part"] in found]
    colors = [PHASE_COLORS.get(part, theme.BASELINE) for part in parts]
    chart = alt.Chart(alt.Data(values=rows)).mark_bar().encode(
        alt.X("sum(seconds):Q", title="mean seconds per run", axis=alt.Axis(tickCount=5)),
        alt.Y("arm:N", title=None, scale=alt.Scale(domain=names),
              axis=alt.Axis(ticks=False, domain=False, labelLimit=120)),
        alt.YOffset("clock:N", scale=alt.Scale(domain=["on", "off"], paddingInner=0.15)),
        alt.Color("part:N", scale=alt.Scale(domain=parts, range=colors),
                  legend=theme.top_legend(alt, symbolType="square")),
        alt.Order("order:Q"),
        tooltip=[alt.Tooltip(f"{key}:N", title=title) for key, title in _TIME_TIPS.items()],
    )  # fmt: skip
    return chart, 2 * len(names)


_TIME_TIPS = {"arm": "arm", "part": "part", "text": "mean per run", "detail": "of it"}


def _time_rows(name: str, phases: dict[str, float], excluded: dict[str, float]) -> list[dict[str, Any]]:
    total, off = sum(phases.values()) or 1.0, sum(excluded.values())
    rows = [
        {"arm": name, "clock": "on", "part": phase, "seconds": seconds, "text": duration(seconds),
         "detail": f"{100 * seconds / total:.0f} % of the clock"}
        for phase, seconds in phases.items()
    ]  # fmt: skip
    reasons = joined([f"{key} {duration(value)}" for key, value in excluded.items() if value]) or "nothing"
    part = {
        "arm": name,
        "clock": "off",
        "part": "off the clock",
        "seconds": off,
        "text": duration(off),
        "detail": reasons,
    }
    return [*rows, part]


def costs_chart(data: Report) -> tuple[Any, int, str] | None:
    """Costs other than training time, as factors of the baseline's: one heading per cost, one bar per arm.

    Returns:
        The chart, its number of rows, and the costs left out because no arm differs from the baseline by 0.5 %.
    """
    alt = theme.altair()
    names = arm_names(data)
    ratios = {name: cost_ratios(data, name) for name in names[1:]}
    equal = [cost for cost in COSTS if (found := [r[cost] for r in ratios.values() if cost in r])
             and all(abs(value - 1) < 0.005 for value in found)]  # fmt: skip
    keys: list[str] = []
    rows: list[dict[str, Any]] = []
    for i, cost in enumerate(cost for cost in COSTS if cost not in equal):
        arms = [name for name in names[1:] if cost in ratios[name]]
        keys += [f"h{i}|{cost}"] * bool(arms) + [f"r{i}.{j}|{name}" for j, name in enumerate(arms)]
        rows += [{"row": f"r{i}.{j}|{name}", "arm": name, "cost": cost, "value": ratios[name][cost], "one": 1,
                  "text": ratio(ratios[name][cost])} for j, name in enumerate(arms)]  # fmt: skip
    if not rows:
        return None
    axis = theme.ratio_axis(alt, theme.log_hull([row["value"] for row in rows], include=[0.8, 1.25]))
    x = alt.X("value:Q", title=f"← cheaper · {TIMES} baseline · dearer →", **axis)
    y = _row_axis(alt, keys)
    color = theme.arm_encoding(alt, names, legend=False)[0]
    tips = [
        alt.Tooltip(f"{key}:N", title=title)
        for key, title in (("arm", "arm"), ("cost", "cost"), ("text", f"{TIMES} baseline"))
    ]
    chart = alt.Chart(alt.Data(values=rows))
    layers = alt.layer(
        alt.Chart(alt.Data(values=[{"value": 1}])).mark_rule(color="#767676").encode(x),
        chart.mark_bar(height=7, opacity=0.7).encode(x, y, color, x2="one:Q", tooltip=tips),
        chart.mark_point(size=70, filled=True, opacity=1).encode(x, y, color, tooltip=tips),
    )
    return layers, len(keys), joined(equal)
