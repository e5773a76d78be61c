"""Quality against what else training costs: FLOPs, peak memory, energy. They describe and decide nothing.

The verdicts are about time, because a count of operations does not predict it. These charts say where the time comes
from, and carry over to another machine where time does not. Quality is that of the analysis; the costs are means over
the finished runs that count.
"""

from __future__ import annotations

import math
from statistics import fmean
from typing import Any

from . import theme
from .data import Report, arm_names, counted
from .words import amount, bytes_, final_point, joules, metric_title, number

__all__ = ["axis_chart", "axis_rows", "memory_chart", "memory_rows"]

AXES = {  # key of a point -> title of its axis, unit at the ticks, how one value is written
    "flops": ("training FLOPs", "", amount),
    "energy": ("energy on the training clock", "J", joules),
}


def axis_rows(data: Report, key: str) -> list[dict[str, Any]]:
    """The mean curves of the analysis with the geometric mean of a cost in the place of time.

    Args:
        data: a report.
        key: "flops" or "energy".

    Returns:
        One row per arm and point at which the cost is known; empty without an analysis.
    """
    rows = []
    labels = _labels(data)
    for arm in (data["analysis"] or {"arms": []})["arms"]:
        spent = _spent(data, arm["name"], key)
        for point in arm["curve"]:
            if values := spent.get(point["point"]):
                cost = math.exp(fmean(map(math.log, values)))
                rows.append({**_level(arm["name"], point, labels), "cost": cost, "cost_text": AXES[key][2](cost)})
    return rows


def _labels(data: Report) -> dict[int, str]:
    return {budget["point"]: budget["label"] for budget in (data["analysis"] or {"budgets": []})["budgets"]}


def _spent(data: Report, arm: str, key: str) -> dict[int, list[float]]:
    """The known values of a cost above 0 by point, over the finished runs that count."""
    found: dict[int, list[float]] = {}
    for run in counted(data, arm):
        for point in run["points"] if run["status"] == "done" else ():
            value: float | None = point[key]  # type: ignore[literal-required]
            if value is not None and value > 0:
                found.setdefault(point["point"], []).append(value)
    return found


def _level(arm: str, point: dict[str, Any], labels: dict[int, str]) -> dict[str, Any]:
    low, high, metric = point["low"], point["high"], point["metric"]
    return {
        "arm": arm, "metric": metric, "low": metric if low is None else low, "high": metric if high is None else high,
        "metric_text": number(metric), "budget": labels.get(point["point"], f"point {point['point']}"),
        "interval": "one seed" if low is None else f"{number(low)} … {number(high)}",
    }  # fmt: skip


_TIPS = {"arm": "arm", "budget": "budget", "metric_text": "metric", "interval": "interval", "cost_text": "cost"}


def axis_chart(data: Report, key: str) -> Any | None:
    """Mean curves with their intervals against the logarithm of a cost; None where no run has it."""
    rows = axis_rows(data, key)
    if not rows:
        return None
    alt = theme.altair()
    color, shape = theme.arm_encoding(alt, arm_names(data))
    title, unit, _ = AXES[key]
    x = theme.amount_axis(alt, "cost", theme.log_hull([row["cost"] for row in rows]), title, unit)
    y = _quality_axis(alt, data, rows)
    chart = alt.Chart(alt.Data(values=rows))
    dash = theme.DASHES[data["study"]["curve"]]
    return alt.layer(
        chart.mark_area(opacity=0.14, clip=True).encode(x, y("low"), alt.Y2("high:Q"), color),
        chart.mark_line(strokeWidth=2.5, strokeDash=dash, clip=True).encode(x, y("metric"), color),
        chart.mark_point(size=60, filled=True, opacity=1).encode(
            x, y("metric"), color, shape, tooltip=[alt.Tooltip(f"{k}:N", title=said) for k, said in _TIPS.items()]
        ),
    )


def _quality_axis(alt: Any, data: Report, rows: list[dict[str, Any]]) -> Any:
    """Function from a field to the channel y, all on one scale that a wide interval of two seeds does not stretch."""
    title = metric_title(data)
    levels = [row["metric"] for row in rows]
    reach = 0.5 * (max(levels) - min(levels)) or math.inf
    ends = [min(max(row[end], min(levels) - reach), max(levels) + reach) for row in rows for end in ("low", "high")]
    scale = alt.Scale(domain=theme.hull(levels + ends), nice=False)
    return lambda field: alt.Y(f"{field}:Q", title=title, scale=scale, axis=alt.Axis(tickCount=5))


def memory_rows(data: Report) -> list[dict[str, Any]]:
    """Per arm its quality at the last budget and the mean peak memory of the runs that gave it."""
    analysis = data["analysis"]
    if analysis is None or not analysis["budgets"]:
        return []
    rows, labels = [], _labels(data)
    for arm in analysis["arms"]:
        final, peaks = final_point(analysis, arm), _peaks(data, arm["name"], analysis["budgets"][-1]["point"])
        if final is not None and peaks:
            peak = fmean(peaks)
            row = _level(arm["name"], final, labels)
            rows.append({**row, "cost": peak / 2**20, "cost_text": bytes_(peak)})
    return rows


def _peaks(data: Report, arm: str, last: int) -> list[float]:
    """Peak memory of the runs with the last point: there, or of the whole run where points do not say."""
    found = []
    for run in counted(data, arm):
        for point in run["points"] if run["status"] == "done" else ():
            peak = run["memory"] if point["memory"] is None else point["memory"]
            if point["point"] == last and peak is not None:
                found.append(float(peak))
    return found


def memory_chart(data: Report) -> Any | None:
    """Quality at the last budget against peak memory, one mark with its interval per arm; None where it is unknown."""
    rows = memory_rows(data)
    if not rows:
        return None
    alt = theme.altair()
    color, shape = theme.arm_encoding(alt, arm_names(data))
    large = max(row["cost"] for row in rows) >= 4096
    shown = [{**row, "cost": row["cost"] / 1024} for row in rows] if large else rows
    peaks = [row["cost"] for row in shown]
    x = alt.X(
        "cost:Q",
        title=f"peak memory, {'GiB' if large else 'MiB'}",
        scale=alt.Scale(domain=theme.hull(peaks, margin=0.15), nice=False),
        axis=alt.Axis(grid=False, tickCount=4),
    )
    y = _quality_axis(alt, data, shown)
    chart = alt.Chart(alt.Data(values=shown))
    tips = [alt.Tooltip(f"{k}:N", title=said) for k, said in (_TIPS | {"cost_text": "peak memory"}).items()]
    return alt.layer(
        chart.mark_rule(strokeWidth=3, opacity=0.5, clip=True).encode(x, y("low"), alt.Y2("high:Q"), color),
        chart.mark_point(size=95, filled=True, opacity=1).encode(x, y("metric"), color, shape, tooltip=tips),
    )
