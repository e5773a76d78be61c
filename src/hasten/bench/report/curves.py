"""The charts along a curve: metric against training time, speedup against target quality, learning rate over steps.

Pure functions: report data in, Altair chart out; the same chart goes into the page, the PNG and the SVG.
"""

from __future__ import annotations

from typing import Any

from . import theme
from .data import Report, arm_names, counted
from .words import UNKNOWN, duration, metric_title, number, ratio

__all__ = ["schedule_chart", "speedup_chart", "tradeoff_chart"]

FADED = 0.04  # opacity of an arm that was switched off in the legend
MARKS = 5  # targets between two markers of an arm on its speedup line
ARROWS = 7  # bounds drawn per arm and direction; more would be a carpet


def tradeoff_chart(data: Report) -> Any | None:
    """Metric against the logarithm of training time: mean, interval over seeds, every run, one colour per arm.

    Clicking an arm in the legend switches it off and on. Dashed lines are points of one cyclic run, solid ones of
    separate runs, dashes and dots of branches of one trunk. Returns None when no run has a point.
    """
    alt = theme.altair()
    names, study = arm_names(data), data["study"]
    means, raw = _mean_rows(data), _raw_rows(data)
    if not raw:
        return None
    shown = alt.selection_point(name="shown", fields=["arm"], bind="legend", toggle="true", clear=False,
                                value=[{"arm": name} for name in names])  # fmt: skip
    color, shape = theme.arm_encoding(alt, names, offset=32)  # above the labels of the budgets
    y_domain = theme.hull([row["metric"] for row in raw] + _bands_within(means, raw))
    x = theme.time_axis(alt, theme.log_hull([row["time"] for row in raw], margin=0.05), "training time")
    y = alt.Y(
        "metric:Q", title=metric_title(data), scale=alt.Scale(domain=y_domain, nice=False), axis=alt.Axis(tickCount=6)
    )

    def fade(value: float) -> Any:
        return alt.condition(shown, alt.value(value), alt.value(min(value, FADED)), empty=False)

    dash = theme.DASHES[study["curve"]]
    raw_data, mean_data = alt.Data(values=raw), alt.Data(values=means)
    tips = [alt.Tooltip(f"{key}:N", title=title) for key, title in _TIPS.items()]
    lines = alt.Chart(raw_data).mark_line(strokeWidth=1, clip=True).encode(
        x, y, color, detail="seed:N", opacity=fade(0.3 if means else 0.9))  # fmt: skip
    if not means:  # no complete pair yet: the runs themselves are all there is
        dots = alt.Chart(raw_data, name="curves").mark_point(size=60, filled=True).encode(
            x, y, color, shape, opacity=fade(1.0), tooltip=tips[:3])  # fmt: skip
        return alt.layer(lines, dots.add_params(shown))
    mean = alt.Chart(mean_data)
    band = mean.mark_area(clip=True).encode(
        x, alt.Y("low:Q", scale=alt.Scale(domain=y_domain), title=metric_title(data)), alt.Y2("high:Q"), color,
        opacity=fade(0.14))  # fmt: skip
    line = mean.mark_line(strokeWidth=2.5, strokeDash=dash, clip=True).encode(x, y, color, opacity=fade(1.0))
    points = alt.Chart(mean_data, name="curves").mark_point(size=75, filled=True).encode(
        x, y, color, shape, opacity=fade(1.0), tooltip=tips)  # fmt: skip
    layers = [*_budget_lines(alt, data, x, y_domain), band, lines, line, points.add_params(shown)]
    return alt.layer(*layers)


_TIPS = {"arm": "arm", "time_text": "time", "metric_text": "metric", "budget": "budget", "interval": "interval",
         "n": "seeds"}  # fmt: skip


def _budget_lines(alt: Any, data: Report, x: Any, y_domain: list[float]) -> list[Any]:
    """A faint line with its label at every budget of the baseline, and a dotted cross-hair at the last."""
    analysis = data["analysis"]
    assert analysis is not None
    base = next(arm for arm in analysis["arms"] if arm["name"] == analysis["baseline"])
    at = {point["point"]: point for point in base["curve"]}
    rows = [{"label": b["label"], "time": b["time"], "metric": at[b["point"]]["metric"]}
            for b in analysis["budgets"] if b["point"] in at]  # fmt: skip
    if not rows:
        return []
    marks, last = alt.Chart(alt.Data(values=rows)), alt.Chart(alt.Data(values=rows[-1:]))
    rule = {"color": "#767676", "strokeDash": [2, 3], "strokeWidth": 1}
    return [
        marks.mark_rule(color="#767676", opacity=0.22).encode(x),
        marks.mark_text(baseline="bottom", dy=-5, fontSize=11, color="#595959", clip=False).encode(
            x, y=alt.value(0), text="label:N"),
        last.mark_rule(**rule).encode(x),
        last.mark_rule(**rule).encode(alt.Y("metric:Q", scale=alt.Scale(domain=y_domain))),
    ]  # fmt: skip


def _mean_rows(data: Report) -> list[dict[str, Any]]:
    analysis = data["analysis"]
    if analysis is None:
        return []
    labels = {budget["point"]: budget["label"] for budget in analysis["budgets"]}
    level = f"{100 * (1 - analysis.get('alpha', 0.05)):g} %"
    rows = []
    for arm in analysis["arms"]:
        for point in arm["curve"]:
            low, high = point["low"], point["high"]
            rows.append({
                "arm": arm["name"], "time": point["time"], "metric": point["metric"], "n": point["n"],
                "low": point["metric"] if low is None else low, "high": point["metric"] if high is None else high,
                "budget": labels.get(point["point"], f"point {point['point']}"), "time_text": duration(point["time"]),
                "metric_text": number(point["metric"]),
                "interval": "one seed" if low is None else f"{number(low)} … {number(high)} ({level})",
            })  # fmt: skip
    return rows


def _raw_rows(data: Report) -> list[dict[str, Any]]:
    """Every point of every run: as the analysis read them, or as they were recorded while there is no analysis."""
    analysis = data["analysis"]
    if analysis is not None:
        runs = [
            (arm["name"], run["seed"], run["time"], run["metric"]) for arm in analysis["arms"] for run in arm["runs"]
        ]
    else:
        points = [(run["arm"], run["seed"], run["points"]) for run in counted(data)]
        runs = [(arm, seed, [p["seconds"] for p in found], [p["metric"] for p in found]) for arm, seed, found in points]
    return [
        {"arm": arm, "seed": str(seed), "time": time, "metric": metric, "time_text": duration(time),
         "metric_text": number(metric)}
        for arm, seed, times, metrics in runs for time, metric in zip(times, metrics, strict=True)
        if metric is not None and time > 0
    ]  # fmt: skip


def _bands_within(means: list[dict[str, Any]], raw: list[dict[str, Any]]) -> list[float]:
    """Ends of the bands as far as they reach at most half the runs' range beyond it (two seeds: +-13 sd)."""
    low, high = min(row["metric"] for row in raw), max(row["metric"] for row in raw)
    reach = 0.5 * (high - low)
    return [min(max(row[end], low - reach), high + reach) for row in means for end in ("low", "high")]


def speedup_chart(data: Report) -> Any | None:
    """Speedup against target quality, with pointwise intervals; arrows where the runs only bound it.

    Returns None when no arm shares a range of quality with the baseline.
    """
    alt = theme.altair()
    names = arm_names(data)
    known, bounds = _speedup_rows(data)
    if not known and not bounds:
        return None
    color, shape = theme.arm_encoding(alt, names, baseline=False)
    every = [row["speedup"] for row in known + bounds]
    domain = theme.log_hull(
        _narrow([row[end] for row in known for end in ("low", "high")], every) + every, include=[1.0]
    )
    quality = theme.hull([row["quality"] for row in known + bounds], margin=0.03)
    minimize = data["study"]["minimize"]
    x = alt.X(
        "quality:Q",
        title=f"target: {metric_title(data)}",
        scale=alt.Scale(domain=quality, nice=False, reverse=minimize),
        axis=alt.Axis(grid=False, tickCount=6),
    )
    axis = theme.ratio_axis(alt, domain)
    y = alt.Y("speedup:Q", title="speedup in training time", **axis)
    tips = [alt.Tooltip(f"{key}:N", title=title) for key, title in _SPEED_TIPS.items()]
    chart = alt.Chart(alt.Data(values=known))
    layers = [
        alt.Chart(alt.Data(values=[{"speedup": 1}])).mark_rule(color="#767676").encode(y),
        chart.mark_area(opacity=0.14, clip=True).encode(
            x, alt.Y("low:Q", title="speedup in training time", **axis), alt.Y2("high:Q"), color, detail="segment:N"),
        chart.mark_line(strokeWidth=2.5, clip=True).encode(x, y, color, detail="segment:N", tooltip=tips),
        alt.Chart(alt.Data(values=[row for row in known if row["marked"]])).mark_point(
            size=60, filled=True, opacity=1).encode(x, y, color, shape, tooltip=tips),
    ]  # fmt: skip
    for direction, angle in (("at_least", 0), ("at_most", 180)):
        rows = [row for row in bounds if row["direction"] == direction]
        arrow = alt.Chart(alt.Data(values=rows)).mark_point(
            shape="arrow", angle=angle, size=260, filled=True, opacity=1
        )
        layers.append(arrow.encode(x, y, color, tooltip=tips))
    return alt.layer(*layers)


_SPEED_TIPS = {"arm": "arm", "quality_text": "target", "text": "speedup", "interval": "interval"}


def _speedup_rows(data: Report) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of the lines (one segment between two gaps) and of the arrows."""
    known: list[dict[str, Any]] = []
    bounds: list[dict[str, Any]] = []
    for arm in (data["analysis"] or {"arms": []})["arms"]:
        curve, segment = arm["speedup_curve"], 0
        if curve is None:
            continue
        arrows: dict[str, list[dict[str, Any]]] = {"at_least": [], "at_most": []}
        for i, quality in enumerate(curve["quality"]):
            row = {"arm": arm["name"], "quality": quality, "quality_text": number(quality), "interval": UNKNOWN}
            value, low, high = curve["speedup"][i], curve["low"][i], curve["high"][i]
            if value is not None:
                interval = UNKNOWN if low is None else f"{ratio(low)} … {ratio(high)}"
                known.append({**row, "speedup": value, "low": low or value, "high": high or value,
                              "text": ratio(value), "interval": interval, "segment": f"{arm['name']} {segment}",
                              "marked": i % MARKS == 0})  # fmt: skip
                continue
            segment += 1
            for direction, sign in (("at_least", "≥"), ("at_most", "≤")):
                bound = curve[direction][i]
                if bound is not None:
                    text = f"{sign} {ratio(bound)}"
                    arrows[direction].append({**row, "speedup": bound, "direction": direction, "text": text})
        for rows in arrows.values():
            bounds += rows[:: max(1, -(-len(rows) // ARROWS))]
    return known, bounds


def _narrow(ends: list[float | None], values: list[float]) -> list[float | None]:
    """Interval ends no further from the estimates than a factor of 3: a wide interval must not flatten the rest."""
    low, high = min(values) / 3, max(values) * 3
    return [end if end is None else min(max(end, low), high) for end in ends]


def schedule_chart(data: Report) -> Any | None:
    """Learning-rate multiplier over steps, one line per arm that differs; dotted lines at the ends of the budgets."""
    alt = theme.altair()
    rows = [
        {"arm": name, "step": step, "multiplier": value}
        for name, schedule in data["study"]["schedule"].items()
        for step, value in zip(schedule["step"], schedule["multiplier"], strict=True)
    ]
    if not rows:
        return None
    x = alt.X(
        "step:Q", title="optimizer step", axis=alt.Axis(grid=False, tickCount=6), scale=alt.Scale(nice=False, zero=True)
    )
    y = alt.Y("multiplier:Q", title="learning rate / peak", axis=alt.Axis(tickCount=3))
    chart = alt.Chart(alt.Data(values=rows)).mark_line(strokeWidth=2, color="#0072B2", interpolate="linear")
    if set(data["study"]["schedule"]) == {"all"}:
        line = chart.encode(x, y)
    else:
        names = [name for name in ["all", *arm_names(data)] if name in data["study"]["schedule"]]
        line = chart.encode(x, y, theme.arm_encoding(alt, names)[0])
    ends = alt.Chart(alt.Data(values=[{"step": end} for end in data["study"]["ends"]]))
    return alt.layer(ends.mark_rule(color="#767676", strokeDash=[2, 3]).encode(x), line)
