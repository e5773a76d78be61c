"""The frontier of training time and quality: which points no other point beats, and how sure that is.

It compares whole arms, as somebody with a certain amount of time would choose among them. It describes: no verdict
rests on it.
"""

from __future__ import annotations

import math
from typing import Any

from . import theme
from .data import Report, arm_names
from .markup import Html, element
from .tables import name_cell, number_cell, table
from .words import UNKNOWN, chance, duration, fixed, joined, metric_title, number

__all__ = ["frontier_chart", "frontier_reading", "frontier_sentence", "frontier_table", "staircase", "volume_decimals"]

CLOSE = (0.07, 0.06)  # labels nearer than this, in parts of width and height, would overlap


def frontier_chart(data: Report) -> Any | None:
    """All points of all mean curves; those on the frontier are filled and labelled with how sure that is.

    The line is what the best choice of arm reaches with so much time: level until the next point is affordable.
    Returns None without a frontier.
    """
    frontier = (data["analysis"] or {}).get("frontier")
    if not frontier or not frontier["points"]:
        return None
    alt = theme.altair()
    study, rows = data["study"], [_row(point) for point in frontier["points"]]
    color, shape = theme.arm_encoding(alt, arm_names(data))
    line = staircase(frontier["points"], study["minimize"])
    end = max(row["time"] for row in rows)
    steps = [{"time": point["time"], "metric": point["metric"]} for point in line]
    steps.append({"time": end, "metric": line[-1]["metric"]})
    x = theme.time_axis(alt, theme.log_hull([row["time"] for row in rows], margin=0.07), "training time")
    y = alt.Y(
        "metric:Q",
        title=metric_title(data),
        scale=alt.Scale(domain=theme.hull([row["metric"] for row in rows], margin=0.09), nice=False),
        axis=alt.Axis(tickCount=6),
    )
    tips = [alt.Tooltip(f"{key}:N", title=title) for key, title in _TIPS.items()]
    size = alt.Size("share:Q", scale=alt.Scale(domain=[0, 1], range=[35, 150]), legend=None)
    inside = alt.Chart(alt.Data(values=[row for row in rows if not row["on"]]))
    best = alt.Chart(alt.Data(values=[row for row in rows if row["on"]]))
    above = {"dy": 15, "baseline": "top"} if study["minimize"] else {"dy": -9, "baseline": "bottom"}
    return alt.layer(
        alt.Chart(alt.Data(values=steps)).mark_line(interpolate="step-after", color="#767676", strokeWidth=1.5,
                                                    strokeDash=[3, 3]).encode(x, y),
        inside.mark_point(filled=False, opacity=0.8).encode(x, y, color, shape, size, tooltip=tips),
        best.mark_point(filled=True, opacity=1).encode(x, y, color, shape, size, tooltip=tips),
        alt.Chart(alt.Data(values=_labelled(rows))).mark_text(fontSize=11, color="#444444", align="right", dx=2,
                                                              **above).encode(x, y, text="sure:N"),
    )  # fmt: skip


_TIPS = {"arm": "arm", "label": "budget", "time_text": "time", "metric_text": "metric", "place": "on the frontier",
         "chance": "in resamples"}  # fmt: skip


def _row(point: dict[str, Any]) -> dict[str, Any]:
    return {
        "arm": point["arm"], "label": point["label"], "time": point["time"], "metric": point["metric"],
        "time_text": duration(point["time"]), "metric_text": number(point["metric"]), "on": point["on_frontier"],
        "place": "yes" if point["on_frontier"] else "no", "chance": chance(point["probability"]),
        "share": 1.0 if point["probability"] is None else point["probability"],
        "sure": "" if point["probability"] is None else chance(point["probability"]),
    }  # fmt: skip


def _labelled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The points on the frontier that have room for a label, the surest first."""
    width = math.log(max(row["time"] for row in rows) / min(row["time"] for row in rows)) or 1.0
    height = max(row["metric"] for row in rows) - min(row["metric"] for row in rows) or 1.0
    kept: list[dict[str, Any]] = []
    for row in sorted((row for row in rows if row["on"]), key=lambda row: -row["share"]):
        gaps = ((abs(math.log(row["time"] / other["time"])) / width, abs(row["metric"] - other["metric"]) / height)
                for other in kept)  # fmt: skip
        if all(x >= CLOSE[0] or y >= CLOSE[1] for x, y in gaps):
            kept.append(row)
    return kept


def staircase(points: list[dict[str, Any]], minimize: bool) -> list[dict[str, Any]]:
    """The points at which the best quality so far rises, in order of time.

    >>> staircase([{"time": 1, "metric": 5}, {"time": 3, "metric": 7}, {"time": 2, "metric": 4}], minimize=False)
    [{'time': 1, 'metric': 5}, {'time': 3, 'metric': 7}]
    """
    sign, found = -1 if minimize else 1, []
    for point in sorted(points, key=lambda point: (point["time"], -sign * point["metric"])):
        if not found or sign * point["metric"] > sign * found[-1]["metric"]:
            found.append(point)
    return found


def frontier_sentence(data: Report) -> str:
    """Which arms are on the frontier of the means and where, and which are nowhere on it; "" without a frontier."""
    frontier = (data["analysis"] or {}).get("frontier")
    if not frontier:
        return ""
    at: dict[str, list[str]] = {}
    for point in frontier["points"]:
        at.setdefault(point["arm"], []).extend([point["label"]] * point["on_frontier"])
    every = len({point["point"] for point in frontier["points"]})
    said = [
        f"{arm} at {joined(labels) if len(labels) < every else 'every point'}" for arm, labels in at.items() if labels
    ]
    nowhere = [arm for arm, labels in at.items() if not labels]
    more = f" Nowhere on it: {joined(nowhere)}." if nowhere else ""
    return f"On the frontier of the means: {'; '.join(said)}.{more}"


def frontier_reading(data: Report) -> str:
    """How to read probabilities and hypervolumes, with the scale of the latter; "" without a frontier."""
    frontier = (data["analysis"] or {}).get("frontier")
    if not frontier:
        return ""
    metric, tolerance = data["study"]["metric"], frontier["epsilon"]
    fast, slow = (duration(frontier[key]).replace(" ", "\u00a0") for key in ("ideal_time", "reference_time"))
    worst, best = number(frontier["reference_metric"]), number(frontier["ideal_metric"])
    said = [
        "This describes the arms as they are; no verdict rests on it. Resamples draw the seeds again, the same for all "
        "arms: their share says how stable a place is and is no error rate. Hypervolume: how good an arm is on average "
        f"over training times from {fast} to {slow}, on a scale from 0 ({metric} {worst}) to 1 ({metric} {best}); each "
        "doubling of the time weighs the same. “Only through it”: what all arms together lose without this one."
    ]
    if tolerance:
        said.append(f"A point is beaten only by what is better by {number(tolerance, 2)}, the noise of the {metric}.")
    return " ".join(said)


def volume_decimals(frontier: dict[str, Any]) -> int:
    """Decimals for hypervolumes: two, or as many as the narrowest interval needs, four at most."""
    widths = [arm["high"] - arm["low"] for arm in frontier["arms"] if None not in (arm["low"], arm["high"])]
    finest = min((width for width in widths if width > 0), default=0.02)
    return 2 if finest >= 0.02 else 3 if finest >= 0.002 else 4


def frontier_table(data: Report) -> Html | None:
    """Per arm how sure its place on the frontier is, at all and by point, and how much room it covers and adds."""
    frontier = (data["analysis"] or {}).get("frontier")
    if not frontier or not frontier["arms"]:
        return None
    labels = {point["point"]: point["label"] for point in frontier["points"]}
    points = {(point["arm"], point["point"]): point for point in frontier["points"]}
    decimals = volume_decimals(frontier)
    rows = []
    for arm in sorted(frontier["arms"], key=lambda arm: arm_names(data).index(arm["arm"])):
        at = [points.get((arm["arm"], point)) for point in sorted(labels)]
        span = UNKNOWN if None in (arm["low"], arm["high"]) else " … ".join(
            fixed(arm[end], decimals) for end in ("low", "high"))  # fmt: skip
        row = element(
            "tr",
            name_cell(arm["arm"]),
            number_cell(chance(arm["probability"]), arm["probability"]),
            *(_place_cell(point) for point in at),
            number_cell(fixed(arm["hypervolume"], decimals), arm["hypervolume"]),
            number_cell(span, arm["low"]),
            number_cell(fixed(arm["contribution"], decimals), arm["contribution"]),
        )
        rows.append(row)
    head = ("arm", "#any point", *(f"#{labels[point]}" for point in sorted(labels)), "#hypervolume", "#interval",
            "#only through it")  # fmt: skip
    caption = "Share of resamples in which a point is on the frontier (bold: on that of the means), and hypervolume"
    return table(head, rows, caption=caption)


def _place_cell(point: dict[str, Any] | None) -> Html:
    if point is None:
        return number_cell(UNKNOWN, None)
    text = chance(point["probability"])
    return number_cell(element("strong", text) if point["on_frontier"] else text, point["probability"])
