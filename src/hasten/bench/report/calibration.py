"""What the kind of curve does to the levels: one arm in every kind, beside separate runs from the same seeds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from . import theme
from .data import CurveCalibration, CurveLevels, Level, Report
from .markup import Html, element, join
from .tables import name_cell, number_cell, table
from .words import UNKNOWN, capital, decimals_of, duration, level, metric_title, ratio, signed

__all__ = ["KINDS", "bias_decimals", "bias_span", "calibration_chart", "calibration_reading", "calibration_table",
           "kind_costs"]  # fmt: skip

KINDS = {"separate": "separate runs", "cyclic": "cyclic curve", "branch": "branch curve"}
# Colour and shape of a kind; none is that of the baseline, and shapes tell them apart without colour.
_COLORS = {"cyclic": "#0072B2", "branch": "#E69F00"}
_SHAPES = {"cyclic": "square", "branch": "triangle-up"}


def bias_decimals(data: Report) -> int:
    """Decimals of the differences from separate runs, and of the levels beside them."""
    every = [found for kind in _known(data)["kinds"] for found in kind["levels"]]
    ends = [(found["bias_low"], found["bias_high"]) for found in every]
    widths = [(high - low) / 2 for low, high in ends if low is not None and high is not None]
    return decimals_of(widths, [found["metric"] for found in every])


def _known(data: Report) -> CurveCalibration:
    found = data["calibration"]
    assert found is not None
    return found


def bias_span(found: Level, decimals: int) -> str:
    """The interval of the difference from separate runs, "–" where it is unknown."""
    ends = found["bias_low"], found["bias_high"]
    return UNKNOWN if None in ends else " … ".join(signed(end, decimals) for end in ends)


def kind_costs(data: Report) -> Iterator[tuple[CurveLevels, float, float | None]]:
    """Every kind with its steps and its seconds as factors of those of separate runs."""
    kinds = _known(data)["kinds"]
    reference = next(kind for kind in kinds if kind["kind"] == "separate")
    whole = reference["seconds"]
    for kind in kinds:
        seconds = kind["seconds"]
        yield kind, kind["steps"] / reference["steps"], seconds / whole if seconds is not None and whole else None


def calibration_table(data: Report) -> Html | None:
    """One row per kind: level and difference from separate runs at every budget, and what the whole curve costs."""
    if data["calibration"] is None:
        return None
    decimals = bias_decimals(data)
    head = ("kind", *(f"#{label}" for label in data["calibration"]["budgets"]), "#steps", "#training time")
    rows = [
        element(
            "tr",
            name_cell(KINDS[kind["kind"]]),
            *(_level_cell(found, decimals) for found in kind["levels"]),
            _cost_cell(f"{kind['steps']}", kind["steps"], steps),
            _cost_cell(duration(kind["seconds"]), kind["seconds"], seconds),
        )
        for kind, steps, seconds in kind_costs(data)
    ]
    caption = (
        f"{data['study']['metric']} of {data['calibration']['arm']}; below it the difference from separate "
        "runs with its interval. Costs are of all budgets from one seed."
    )
    return table(head, rows, caption=capital(caption))


def _level_cell(found: Level, decimals: int) -> Html:
    metric = level(cast(Any, found), decimals)
    if found["bias"] is None:
        return number_cell(metric, found["metric"])
    span = bias_span(found, decimals)
    below = signed(found["bias"], decimals) + (f" ({span})" if span != UNKNOWN else "")
    return number_cell(join([metric, element("div", below, class_="below")]), found["metric"])


def _cost_cell(text: str, value: float | None, factor: float | None) -> Html:
    below = element("div", ratio(factor), class_="below") if factor is not None and factor != 1 else None
    return number_cell(join(filter(None, [text, below])), value)


def calibration_reading(data: Report) -> list[str]:
    """How to read it, in sentences."""
    kinds = {kind["kind"] for kind in _known(data)["kinds"]}
    said = [
        f"The arm {_known(data)['arm']} was trained in every kind of curve from the same seeds; differences are paired."
    ]
    if "cyclic" in kinds:
        said.append("A cyclic point stands in for a separate run of its length: the difference is its bias.")
    if "branch" in kinds:
        said.append(
            "A branch curve is another recipe, a constant rate and then a decay: its difference from separate runs of "
            "the workload's own schedule is not bias alone."
        )
    fewest = min(found["n"] for kind in _known(data)["kinds"] for found in kind["levels"])
    if fewest < (seeds := len(data["study"]["seeds"])):
        said.append(
            f"Runs that failed or have not ended are left out: a difference may rest on no more than {fewest} of "
            f"{seeds} seeds, while a level is the mean of all that its kind has."
        )
    said.append("Arms are only ever compared within one kind, so a difference that all arms share cancels out there.")
    return said


def calibration_chart(data: Report) -> Any | None:
    """Difference from separate runs with its interval, by budget and kind; None where nothing can be compared."""
    if data["calibration"] is None:
        return None
    decimals, budgets = bias_decimals(data), data["calibration"]["budgets"]
    rows = [
        _chart_row(kind, label, found, decimals)
        for kind in data["calibration"]["kinds"]
        for label, found in zip(budgets, kind["levels"], strict=True)
        if found["bias"] is not None
    ]
    if not rows:
        return None
    alt = theme.altair()
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    names = {KINDS[kind]: kind for kind in _COLORS}
    legend = {"legend": theme.top_legend(alt)}
    color = alt.Color("kind:N", scale=alt.Scale(domain=kinds, range=[_COLORS[names[kind]] for kind in kinds]), **legend)
    shape = alt.Shape("kind:N", scale=alt.Scale(domain=kinds, range=[_SHAPES[names[kind]] for kind in kinds]), **legend)
    x = alt.X("budget:N", title="budget", sort=None, scale=alt.Scale(domain=list(budgets)),
              axis=alt.Axis(labelAngle=0, grid=False))  # fmt: skip
    offset = alt.XOffset("kind:N", scale=alt.Scale(domain=kinds, paddingOuter=0.8))
    scale = alt.Scale(domain=theme.hull(_ends(rows), include=[0.0]), nice=False)
    title = f"difference in {metric_title(data)}"
    axis = alt.Axis(tickCount=5, labelExpr="datum.value == 0 ? '0' : format(datum.value, '+~g')")

    def y(field: str) -> Any:
        return alt.Y(f"{field}:Q", title=title, scale=scale, axis=axis)

    chart = alt.Chart(alt.Data(values=rows))
    tips = [alt.Tooltip(f"{key}:N", title=said) for key, said in _TIPS.items()]
    return alt.layer(
        alt.Chart(alt.Data(values=[{"value": 0}])).mark_rule(color="#767676").encode(y("value")),
        chart.mark_rule(strokeWidth=3, opacity=0.6, clip=True).encode(x, y("low"), alt.Y2("high:Q"), color, offset),
        chart.mark_point(size=95, filled=True, opacity=1).encode(x, y("value"), color, shape, offset, tooltip=tips),
    )


_TIPS = {"kind": "kind", "budget": "budget", "text": "difference", "interval": "interval", "n": "seeds"}


def _chart_row(kind: CurveLevels, label: str, found: Level, decimals: int) -> dict[str, Any]:
    bias, low, high = found["bias"], found["bias_low"], found["bias_high"]
    assert bias is not None
    return {
        "kind": KINDS[kind["kind"]], "budget": label, "value": bias, "n": found["n"],
        "low": (bias if low is None else low), "high": (bias if high is None else high),
        "text": signed(bias, decimals), "interval": bias_span(found, decimals),
    }  # fmt: skip


def _ends(rows: list[dict[str, Any]]) -> list[float]:
    """Estimates, and interval ends no further out than three times the largest estimate."""
    values = [row["value"] for row in rows]
    reach = 3 * max(map(abs, values)) or max(abs(row[end]) for row in rows for end in ("low", "high"))
    return values + [min(max(row[end], -reach), reach) for row in rows for end in ("low", "high")]
