"""What all charts share: colours, shapes, axes of time and of ratios, and the look.

Arms have a colour and a shape of their own, so that they can be told apart without colour. Green and vermillion belong
to verdicts and come last among the arms. Names are data only: `sort=` would compile them into expressions, so the
order of names is always a scale's domain.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any

from ..._core.checks import missing_extra

__all__ = ["DASHES", "FONT", "altair", "amount_axis", "arm_encoding", "arm_scale", "entry_width", "hull", "log_hull",
           "log_ticks", "ratio_axis", "themed", "time_axis", "top_legend"]  # fmt: skip

# Okabe and Ito, "Color Universal Design" (2008): distinguishable with all common kinds of colour blindness. The
# baseline is grey, which shows on light and dark paper; their yellow (1.3 : 1 on white) is left out.
BASELINE = "#767676"
ARM_COLORS = ("#0072B2", "#E69F00", "#CC79A7", "#56B4E9", "#009E73", "#D55E00")
ARM_SHAPES = ("square", "triangle-up", "diamond", "cross", "triangle-down")  # 6 x 5: coprime, so 30 different pairs
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"

# How the mean line of each kind of curve is drawn: one cyclic run, complete runs, branches of one trunk.
DASHES = {"cyclic": [7, 4], "separate": [1, 0], "branch": [9, 3, 2, 3]}

# Ticks a person would choose, the best first: a short curve needs the finer ones.
_TENS = tuple(10.0**k for k in range(-4, 0))  # parts of a second
_TIMES = [*(step * ten for ten in _TENS for step in (1, 2, 5)), *(1, 2, 5, 10, 20, 30)]
_TIMES += [*(60 * step for step in (1, 2, 5, 10, 20, 30)), *(3600 * step for step in (1, 2, 4, 8, 12, 24, 48, 96, 240))]
_TIMES += [step * ten for ten in (*_TENS, 1, 60, 3600) for step in (1.5, 3, 4, 6, 7, 8, 9)]
_TIMES += [step * unit for unit in (1, 60) for step in (12, 15, 25, 40, 50)]
_TIME_LABEL = (
    "datum.value < 0.99 ? format(1000 * datum.value, '.3~g') + ' ms'"
    " : datum.value < 59.9 ? format(datum.value, '.3~g') + ' s'"
    " : datum.value < 3599 ? format(datum.value / 60, '.3~g') + ' min' : format(datum.value / 3600, '.3~g') + ' h'"
)
_RATIOS = (1.0, 2.0, 0.5, 1.5, 0.67, 1.25, 0.8, 3.0, 0.33, 4.0, 0.25, 5.0, 0.2, 10.0, 0.1, 20.0, 0.05, 50.0, 0.02,
           100.0, 0.01, 1.1, 0.9, 1.05, 0.95)  # in order of preference  # fmt: skip


def altair() -> Any:
    """The altair module, or an error that names the extra."""
    try:
        import altair as alt
    except ImportError:
        raise missing_extra("hasten report", "altair", "bench") from None
    return alt


def hull(values: Iterable[float | None], *, include: Sequence[float] = (), margin: float = 0.06) -> list[float]:
    """The interval around all known values, wider by `margin` of its width on either side."""
    known = [value for value in itertools.chain(values, include) if value is not None and math.isfinite(value)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    pad = margin * (high - low) or margin * abs(high) or margin
    return [low - pad, high + pad]


def log_hull(values: Iterable[float | None], *, include: Sequence[float] = (), margin: float = 0.06) -> list[float]:
    """As `hull`, for a logarithmic axis: positive values only."""
    logs = [math.log(value) for value in itertools.chain(values, include) if value is not None and value > 0]
    low, high = hull(logs or [0.0], margin=margin)
    return [math.exp(low), math.exp(high)]


def log_ticks(candidates: Sequence[float], domain: Sequence[float], most: int) -> list[float]:
    """About `most` of the candidates, given in order of preference, spread over the logarithm of the domain."""
    kept: list[float] = []
    gap = math.log(domain[1] / domain[0]) / most
    for tick in candidates:
        if domain[0] <= tick <= domain[1] and all(abs(math.log(tick / other)) >= gap for other in kept):
            kept.append(tick)
    return sorted(kept)


def time_axis(alt: Any, domain: Sequence[float], title: str) -> Any:
    """A logarithmic axis of training time with ticks a person would choose."""
    ticks = log_ticks(_TIMES, domain, 6)
    return alt.X(
        "time:Q",
        title=title,
        scale=alt.Scale(type="log", domain=list(domain), nice=False),
        axis=alt.Axis(values=ticks, labelExpr=_TIME_LABEL, grid=False) if ticks else alt.Axis(grid=False),
    )


def amount_axis(alt: Any, field: str, domain: Sequence[float], title: str, unit: str = "") -> Any:
    """A logarithmic axis of an amount, with decimal prefixes at its ticks."""
    decades = range(math.floor(math.log10(domain[0])), math.ceil(math.log10(domain[1])) + 1)
    steps = [step * 10.0**k for step in (1, 2, 5, 3, 1.5, 7, 4, 6, 8, 9, 2.5, 1.2) for k in decades]
    ticks = log_ticks(steps, domain, 5)
    label = f"replace(format(datum.value, '.3~s'), /([a-zA-Zµ]?)$/, '\u00a0$1') + '{unit}'"
    return alt.X(
        f"{field}:Q",
        title=title,
        scale=alt.Scale(type="log", domain=list(domain), nice=False),
        axis=alt.Axis(labelExpr=label, grid=False, **({"values": ticks} if ticks else {"tickCount": 3})),
    )


def ratio_axis(alt: Any, domain: Sequence[float], most: int = 7) -> dict[str, Any]:
    """Scale and axis of a factor: logarithmic, so that twice and half are equally far from one."""
    return {
        "scale": alt.Scale(type="log", domain=list(domain), nice=False),
        "axis": alt.Axis(values=log_ticks(_RATIOS, domain, most), labelExpr="format(datum.value, '~g') + '\u00d7'"),
    }


def arm_scale(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Colours and shapes of the arms, the baseline first."""
    count = max(len(names) - 1, 0)
    colors = [color for color, _ in zip(itertools.cycle(ARM_COLORS), range(count), strict=False)]
    shapes = [shape for shape, _ in zip(itertools.cycle(ARM_SHAPES), range(count), strict=False)]
    return [BASELINE, *colors][: len(names)], ["circle", *shapes][: len(names)]


def arm_encoding(
    alt: Any, names: Sequence[str], *, baseline: bool = True, legend: bool = True, offset: int = 14
) -> tuple[Any, Any]:
    """The channels colour and shape of a chart by arm, with one common legend `offset` pixels above the chart.

    `names` are all arms, so that an arm looks the same in every chart; `baseline` says whether it is in this one.
    """
    colors, shapes = arm_scale(names)
    shown = slice(0 if baseline else 1, None)
    names, colors, shapes = list(names)[shown], colors[shown], shapes[shown]
    legends = {"legend": top_legend(alt, offset=offset) if legend else None}
    return (
        alt.Color("arm:N", scale=alt.Scale(domain=names, range=colors), **legends),
        alt.Shape("arm:N", scale=alt.Scale(domain=names, range=shapes), **legends),
    )


def top_legend(alt: Any, **more: Any) -> Any:
    """A legend above the chart, in full colour whatever the opacity of the marks."""
    return alt.Legend(title=None, orient="top", symbolSize=90, symbolOpacity=1, **{"offset": 14, **more})


def entry_width(labels: Iterable[str]) -> int:
    """Pixels of one entry of a legend, estimated from its longest label (12 px text, labels are cut at 150 px)."""
    return 38 + min(150, 7 * max(map(len, labels), default=0))


def themed(chart: Any, *, width: int | str, height: int, entry: int, background: str = "transparent") -> Any:
    """The chart with its size and the house's look: light grid, no frame, quiet text.

    Descriptions of single marks for screen readers are off: they would read out hundreds of points, and they are made
    of titles turned into expressions. The page labels each chart as a whole and has the numbers in tables.

    Args:
        chart: an Altair chart.
        width: pixels, or "container".
        height: pixels.
        entry: width of a legend entry in pixels; the page, which knows its width, chooses the columns by it.
        background: colour behind the chart.
    """
    axis = {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "labelColor": "#444444",
            "titleColor": "#444444", "gridColor": "#e4e4e4", "domainColor": "#b8b8b8", "tickColor": "#b8b8b8",
            "tickSize": 4, "titleLimit": 280, "labelOverlap": "greedy", "labelSeparation": 6, "labelPadding": 5,
            "titlePadding": 10}  # fmt: skip
    columns = 4 if isinstance(width, str) else max(1, width // entry)
    legend = {"labelFontSize": 12, "labelColor": "#333333", "labelLimit": 150, "columns": columns, "columnPadding": 18}
    return (
        chart.properties(
            width=width,
            height=height,
            autosize={"type": "fit-x", "contains": "padding"},
            usermeta={"legendEntry": entry},
        )
        .configure(font=FONT, background=background, aria=False)
        .configure_view(stroke=None)
        .configure_axis(**axis)
        .configure_legend(**legend)
    )
