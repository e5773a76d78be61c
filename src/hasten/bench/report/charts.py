"""The figures of a report in reading order: each a chart with its title and one sentence on how to read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import theme
from .axes import axis_chart, memory_chart
from .calibration import calibration_chart
from .curves import schedule_chart, speedup_chart, tradeoff_chart
from .data import Report, arm_names
from .frontier import frontier_chart
from .rows import costs_chart, dots_chart, row_height, time_chart
from .words import capital

__all__ = ["Figure", "figures", "vega_lite_version"]


def vega_lite_version(alt: Any) -> str:
    """The version of Vega-Lite that altair writes, as vl-convert names it: "6.4" for schema v6.4.1."""
    return ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])


@dataclass(frozen=True)
class Figure:
    """One chart of a report.

    Args:
        name: a word for file names and anchors.
        title: what it shows, in words of the reader.
        caption: how to read it.
        chart: an Altair chart, ready for page, PNG or SVG.
        wide: whether it wants the whole width of a page.
        section: which part of the page it belongs to: "charts", "axes", "frontier" or "calibration".
    """

    name: str
    title: str
    caption: str
    chart: Any
    wide: bool = False
    section: str = "charts"

    def spec(self) -> dict[str, Any]:
        """The Vega-Lite specification."""
        return self.chart.to_dict()


def figures(data: Report, *, width: int | str = "container", background: str = "transparent") -> list[Figure]:
    """Every figure this report has data for.

    Args:
        data: a validated report.
        width: pixels, or "container" for a page whose width is not known yet.
        background: colour behind the charts.

    Raises:
        ImportError: altair is not installed.
    """
    arms, metric = theme.entry_width(arm_names(data)), data["study"]["metric"]
    found: list[Figure] = []

    def add(
        name: str, title: str, caption: str, chart: Any, height: int, entry: int = 100, *, wide: bool = False,
        section: str = "charts",
    ) -> None:  # fmt: skip
        if chart is not None:
            sized = theme.themed(chart, width=width, height=height, entry=entry, background=background)
            described = sized.properties(description=f"{title}. {caption}")
            found.append(Figure(name, title, caption, described, wide, section))

    add("curves", f"{capital(metric)} against training time", _curves_caption(data), tradeoff_chart(data), 380, arms,
        wide=True)  # fmt: skip
    for kind in ("budget", "target"):
        if made := dots_chart(data, kind):
            add(kind, *_DOTS[kind], made[0], row_height(made[1]))
    add("speedup", "Speedup against target quality", _SPEEDUP, speedup_chart(data), 300, arms, wide=True)
    if made := dots_chart(data, "accuracy"):
        add("accuracy", *_DOTS["accuracy"], made[0], row_height(made[1]))
    if made := time_chart(data):
        add("time", "Where the training time went", _TIME, made[0], row_height(made[1]))
    if costs := costs_chart(data):
        chart, rows, equal = costs
        add(
            "costs",
            "Other costs",
            _COSTS + (f" The same for every arm: {equal}." if equal else ""),
            chart,
            row_height(rows),
        )
    add("schedule", "Learning-rate schedule", _SCHEDULES[data["study"]["curve"]], schedule_chart(data), 140, arms)
    for key, title in (("flops", "training FLOPs"), ("energy", "energy")):
        add(key, f"{capital(metric)} against {title}", _AXES[key], axis_chart(data, key), 260, arms, section="axes")
    add("memory", f"{capital(metric)} against peak memory", _AXES["memory"], memory_chart(data), 260, arms,
        section="axes")  # fmt: skip
    add("frontier", "The best choice for every training time", _FRONTIER, frontier_chart(data), 340, arms, wide=True,
        section="frontier")  # fmt: skip
    add("calibration", "Difference from separate runs", _CALIBRATION, calibration_chart(data), 220,
        theme.entry_width(["cyclic curve"]), section="calibration")  # fmt: skip
    return found


_DOTS = {
    "budget": (
        "Gain at equal training time",
        "Both arms get the baseline's training time. Right of zero the arm is better. Thick: 95 % interval; "
        "thin: smallest to largest seed.",
    ),
    "target": (
        "Speedup at equal quality",
        "Time of the baseline divided by time of the arm, to reach the same quality. Right of one the arm is faster. "
        "Arrows are bounds: some runs never arrived.",
    ),
    "accuracy": (
        "Difference at equal steps",
        "The same number of optimizer steps, whatever they cost. It explains the other two charts and decides nothing.",
    ),
}
_SPEEDUP = (
    "Above one the arm reaches the target in less training time. Bands: 95 %, point by point. Arrows: at least (up) "
    "or at most (down) this much, because some runs never got there or were past it at their first point."
)
_TIME = "Mean of the runs that count. The grey bar is not on the training clock."
_COSTS = "Means over runs as a factor of the baseline's. A method that makes the model dearer to use shows here."
_ENDS = "Dotted lines: the budgets, where the model is evaluated."
_SCHEDULES = {
    "cyclic": _ENDS,
    "separate": f"Of the longest run; the others follow the same form over their own length. {_ENDS}",
    "branch": f"The trunk and the decay of the longest budget; the others leave the trunk earlier. {_ENDS}",
}
_AXES = {
    "flops": "The means and bands of the first chart, over counted operations. They carry over to other machines, and "
    "do not predict time.",
    "energy": "The means and bands of the first chart, over what the machine's meter counted while the clock ran.",
    "memory": "At the last budget. Lines are 95 % intervals of the mean; those that reach the edge go on.",
}
_FRONTIER = (
    "Every point of every mean curve. Filled: on the frontier, no other point is both faster and better; size and "
    "percentage are the share of resamples of the seeds in which that is so. The line: the best quality for that time."
)
_CALIBRATION = (
    "Zero is a separate run of that length. Bars are 95 % intervals of the mean of paired differences; those that "
    "reach the edge go on, the table has their ends."
)


def _curves_caption(data: Report) -> str:
    kinds = {
        "cyclic": " Dashed: all points of an arm come from one cyclic run per seed.",
        "separate": " Solid: every point is a complete run of its own.",
        "branch": " Dashes and dots: the points of an arm are branches of one trunk per seed, each with its own decay.",
    }
    line = kinds[data["study"]["curve"]] if data["runs"] else ""
    if data["analysis"] is None:
        return f"Every run; means and intervals need a finished pair.{line}"
    return (
        "Thick lines are means, bands 95 % intervals of the mean, thin lines single seeds. Vertical lines are the "
        f"baseline's budgets.{line} Click an arm in the legend to switch it off and on."
    )
