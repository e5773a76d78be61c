"""The figures of a pruning study: quality against compression, against theoretical speed-up, against measured time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..report import theme
from ..report.charts import Figure
from ..report.curves import FADED
from ..report.words import capital, number, ratio
from .plan import SMALLER, UNPRUNED
from .results import BASELINE
from .words import decimals, level, ratio_text

__all__ = ["figures"]

Data = Mapping[str, Any]
Row = Mapping[str, Any]

X: dict[str, Callable[[Row], float]] = {
    "compression": lambda row: row["compression"],
    "speedup": lambda row: row["speedup"],
    "latency": lambda row: row["relative"]["mean"],
}


def figures(data: Data) -> list[Figure]:
    """Every figure that there are results for."""
    if not any(row["point"] for row in data["rows"]):
        return []
    where = next(row["where"] for row in data["rows"])
    titles = {
        "compression": "compression",
        "speedup": "theoretical speed-up",
        "latency": f"measured time, dense = 1 ({where})",
    }
    names = {"compression": "compression", "speedup": "theoretical speed-up", "latency": "measured time"}
    found = [
        _figure(data, axis, f"{capital(data['study']['metric'])} against {names[axis]}", _CAPTIONS[axis], titles[axis])
        for axis in X
    ]
    if any(row["before"] for row in data["rows"]):
        title = f"{capital(data['study']['metric'])} before any training on"
        found.append(_figure(data, "compression", title, _BEFORE, titles["compression"], key="before"))
    return found


_MEANS = "Means over seeds with their 95 % intervals. Click an arm in the legend to switch it off and on."
_CAPTIONS = {
    "compression": f"{_MEANS} The horizontal line is the unpruned model trained on for as long.",
    "speedup": "The same models by the work that a processor could save if it skipped every zero. Order and distance "
    "of the curves differ from those by compression: layers differ in how often their weights are used.",
    "latency": "The same models by the clock, each in turns with the dense one. Left is faster. Masked models compute "
    "what the dense model does, so they stand at 1 but for noise; lines join models that are really smaller.",
}
_BEFORE = "Directly after pruning. How much training on repairs is the difference from the first chart."


def _figure(data: Data, axis: str, title: str, caption: str, x_title: str, key: str = "metric") -> Figure:
    arms = _arms(data)
    chart = _chart(data, axis, x_title, key)
    sized = theme.themed(chart, width="container", height=360 if axis == "compression" else 320,
                         entry=theme.entry_width(arms))  # fmt: skip
    hidden = _hidden(data, key)
    said = f"{caption}{hidden}"
    name = f"{axis}-{key}"
    return Figure(
        name, title, said, sized.properties(description=f"{title}. {said}"), axis == "compression" and key == "metric"
    )


def _arms(data: Data) -> list[str]:
    """The arms with results, the control first: it has the baseline's grey."""
    known = [row["arm"] for row in data["rows"]]
    return [arm for arm in (UNPRUNED, *data["study"]["strategies"], SMALLER) if arm in known]


def _chart(data: Data, axis: str, x_title: str, key: str) -> Any:
    alt = theme.altair()
    rows = _rows(data, axis, key)
    arms = _arms(data)
    color, shape = theme.arm_encoding(alt, arms)
    domain = _y_domain(data, rows, key)
    title = data["study"]["metric"] + (" (lower is better)" if data["study"]["minimize"] else "")
    x = _x_axis(alt, axis, rows, x_title)
    scale = alt.Scale(domain=domain, nice=False)
    y = alt.Y("metric:Q", title=title, scale=scale, axis=alt.Axis(tickCount=6))
    shown = alt.selection_point(name=f"shown_{axis}_{key}", fields=["arm"], bind="legend", toggle="true", clear=False,
                                value=[{"arm": name} for name in arms])  # fmt: skip
    seen = alt.condition(shown, alt.value(1.0), alt.value(FADED), empty=False)
    faint = alt.condition(shown, alt.value(0.55), alt.value(FADED), empty=False)
    tips = [alt.Tooltip(f"{name}:N", title=said) for name, said in _TIPS.items()]
    every, joined = (alt.Chart(alt.Data(values=part)) for part in (rows, [row for row in rows if row["joined"]]))
    points = alt.Chart(alt.Data(values=rows), name=f"{axis}_{key}")
    control = alt.Chart(alt.Data(values=[row for row in rows if row["arm"] == UNPRUNED and row["own"]]))
    layers = [
        control.mark_rule(strokeDash=[5, 4], strokeWidth=1.5, clip=True).encode(y, color, opacity=seen),
        every.mark_rule(strokeWidth=2, clip=True).encode(
            x, alt.Y("low:Q", scale=scale, title=title), alt.Y2("high:Q"), color, opacity=faint),
        joined.mark_line(strokeWidth=2.2, clip=True).encode(x, y, color, opacity=seen),
        points.mark_point(size=75, filled=True, clip=True).encode(x, y, color, shape, opacity=seen, tooltip=tips)
        .transform_filter("datum.own").add_params(shown),
    ]  # fmt: skip
    if axis == "latency":
        layers.insert(1, every.mark_rule(strokeWidth=2, clip=True).encode(
            _x_axis(alt, axis, rows, x_title, "x_low"), y, alt.X2("x_high:Q"), color, opacity=faint))  # fmt: skip
    return alt.layer(*layers)


_TIPS = {"arm": "arm", "asked": "asked compression", "metric_text": "metric", "interval": "interval",
         "compression_text": "compression", "speedup_text": "theoretical speed-up", "time_text": "measured time",
         "n": "seeds", "what": "model"}  # fmt: skip


def _rows(data: Data, axis: str, key: str) -> list[dict[str, Any]]:
    """One row per point; every strategy's line begins at the unpruned control, which is no point of its own there."""
    known = [row for row in data["rows"] if row[key] is not None]
    control = next((row for row in known if row["arm"] == UNPRUNED), None)
    found = [_point(data, row, row["arm"], axis, key, own=True) for row in known]
    if control is not None and axis != "latency":
        starts = dict.fromkeys(row["arm"] for row in known if row["arm"] not in (UNPRUNED, SMALLER))
        found += [_point(data, control, arm, axis, key, own=False) for arm in starts]
    return found


def _point(data: Data, row: Row, arm: str, axis: str, key: str, *, own: bool) -> dict[str, Any]:
    spread, x = row[key], X[axis](row)
    mean, low, high = spread["mean"], spread["low"], spread["high"]
    joined = arm != UNPRUNED and (axis != "latency" or row["removed"] or arm == SMALLER)
    ends = row["relative"]["low"] or x, row["relative"]["high"] or x
    return {
        "arm": arm, "own": own, "joined": joined, "x": x, "metric": mean,
        "low": mean if low is None or not own else low, "high": mean if high is None or not own else high,
        "x_low": max(ends[0], 1e-9) if own else x, "x_high": ends[1] if own else x,
        "asked": ratio_text(row["ratio"]), "metric_text": level(spread, decimals(data)),
        "interval": "one seed" if low is None else f"{number(low)} … {number(high)}",
        "compression_text": ratio(row["compression"]), "speedup_text": ratio(row["speedup"]),
        "time_text": ratio(row["relative"]["mean"]), "n": row["n"], "what": row["what"] or arm,
    }  # fmt: skip


def _y_domain(data: Data, rows: Sequence[Row], key: str) -> list[float]:
    """Around all arms but random pruning, whose collapse would flatten the others; see `_hidden`."""
    inside = [row["metric"] for row in rows if row["arm"] != BASELINE] or [row["metric"] for row in rows]
    low, high = min(inside), max(inside)
    room = 0.4 * (high - low)
    others = [row["metric"] for row in rows]
    return theme.hull([max(min(others), low - room), min(max(others), high + room)])


def _hidden(data: Data, key: str) -> str:
    """What of random pruning lies outside the frame."""
    rows = [row for row in data["rows"] if row[key] is not None]
    points = [{"arm": row["arm"], "metric": row[key]["mean"]} for row in rows]
    low, high = _y_domain(data, points, key)
    outside = [row for row in rows if not low <= row[key]["mean"] <= high]
    if not outside:
        return ""
    said = ", ".join(f"{number(row[key]['mean'], 3)} at {ratio_text(row['ratio'])}" for row in outside)
    return f" Outside the frame: {BASELINE} ({said})."


def _x_axis(alt: Any, axis: str, rows: Sequence[Row], title: str, field: str = "x") -> Any:
    """A factor on a logarithmic scale of base 2."""
    if axis == "latency":
        domain = theme.log_hull([row["x"] for row in rows], include=[0.8, 1.25])
        return alt.X(f"{field}:Q", title=title, **theme.ratio_axis(alt, domain))
    domain = theme.log_hull([row["x"] for row in rows], include=[1.0, 2.0])
    ticks = [2.0**k for k in range(math.floor(math.log2(domain[0])), math.ceil(math.log2(domain[1])) + 1)]
    return alt.X(
        f"{field}:Q",
        title=title,
        scale=alt.Scale(type="log", base=2, domain=domain, nice=False),
        axis=alt.Axis(values=[tick for tick in ticks if domain[0] <= tick <= domain[1]], grid=False,
                      labelExpr="format(datum.value, '~g') + '\u00d7'"),
    )  # fmt: skip
