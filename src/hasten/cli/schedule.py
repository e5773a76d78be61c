"""`hasten schedule "warmup(cosine(), 50)"`: look at a schedule before spending a run on it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from hasten._core.checks import check, missing_extra, refuse
from hasten._core.clock import check_unit, parse_duration, parse_seconds
from hasten.schedules import BaseSchedule, format, parse  # noqa: A004 (the inverse of parse)

from . import UsageError

__all__ = ["Clock", "chart", "key_times", "schedule", "sketch"]

STEPS = 1000  # updates drawn unless told otherwise
SAMPLES = 3600  # intervals drawn where time is not counted in updates; divides into the fractions people use of hours
BLOCKS = " ▁▂▃▄▅▆▇█"  # nine fillings of one character cell, in eighths
PLAIN = "    #####"  # the same where the terminal cannot show them
CHART_POINTS = 2000  # more than a chart has pixels, fewer than the 5000 rows altair accepts


@dataclass(frozen=True)
class Clock:
    """The times a schedule is drawn at.

    Args:
        unit: "step", "epoch", "sample", "token" or "seconds".
        length: how long, in that unit.
    """

    unit: str
    length: float

    @classmethod
    def read(cls, steps: int | None, length: str | None) -> Clock:
        """The clock of `--steps` or `--length`."""
        if steps is not None and length is not None:
            raise refuse("schedule", "--steps or --length", "both", "Pass one of them.")
        if length is None:
            check(steps is None or steps >= 1, "schedule", "steps >= 1", steps,
                  "Pass --steps with the number of updates of the run.")  # fmt: skip
            return cls("step", STEPS if steps is None else steps)
        try:
            duration = parse_duration(length)
        except ValueError:
            try:
                return cls("seconds", parse_seconds(length))
            except ValueError:
                expected = "a length such as '500step', '10ep', '2e9tok', '90s' or '10min'"
                raise refuse("schedule", expected, repr(length), "Write a number and a unit.") from None
        if duration.unit != "step":
            return cls(duration.unit, duration.value)
        check(duration.value >= 1 and duration.value % 1 == 0, "schedule", "a whole number of updates", length)
        return cls("step", duration.value)

    @property
    def horizon(self) -> float | None:
        """`T`: nobody knows how many seconds a run takes."""
        return None if self.unit == "seconds" else self.length

    @property
    def times(self) -> np.ndarray:
        """Every update, the last one at `length - 1`; on another clock, evenly from 0 to `length`."""
        if self.unit == "step":
            return np.arange(int(self.length))
        return self.length * (np.arange(SAMPLES + 1) / SAMPLES)

    def number(self, t: float) -> str:
        """A time as it is printed."""
        return str(int(t)) if self.unit == "step" else f"{float(t):g}"

    @property
    def name(self) -> str:
        """The unit as it is printed."""
        return "updates" if self.unit == "step" else f"{self.unit.removesuffix('s')}s"

    def __str__(self) -> str:
        return f"{self.number(self.length)} {self.name}"


def schedule(
    spec: str,
    *,
    steps: int | None = None,
    length: str | None = None,
    png: Path | None = None,
    svg: Path | None = None,
    csv: Path | None = None,
) -> None:
    """Show a schedule: a sketch, its value at key times, and pictures or a table if asked for.

    Args:
        spec: the schedule, as in Python: `"cosine()"`, `"warmup(wsd(decay=0.2), 50)"`, `"over(cosine(), '10min')"`.
        steps: number of updates of the run, 1000 unless told otherwise.
        length: instead of steps, how long to draw on another clock: `12min`, `2e9tok`, `10ep`.
        png: write a picture there.
        svg: write a scalable picture there.
        csv: write `t,multiplier` there, one line per update (on another clock, 3601 lines).
    """
    clock = Clock.read(steps, length)
    try:
        shown = parse(spec)
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error
    _check_clock(shown, clock)
    times = clock.times
    values = shown(times, clock.horizon)  # like times
    blocks = BLOCKS if _prints(BLOCKS) else PLAIN
    drawn = sketch(values, last=clock.number(times[-1]), blocks=blocks)
    print(f"{format(shown)}, {clock}\n\n{drawn}\n\n{_table(shown, clock, values)}")
    if csv is not None:
        rows = "".join(f"{t!r},{value!r}\n" for t, value in zip(times.tolist(), values.tolist(), strict=True))
        csv.write_text(f"t,multiplier\n{rows}", encoding="utf-8")
        print(f"wrote {csv}")
    for path, kind in ((png, "png"), (svg, "svg")):
        if path is not None:
            chart(shown, clock, path, kind)
            print(f"wrote {path}")


def _check_clock(shown: BaseSchedule, clock: Clock) -> None:
    """Refuse a schedule that cannot run on the clock, with the option that helps."""
    try:
        check_unit("schedule", shown, clock.unit)
    except ValueError as error:
        fix = "" if clock.unit == "seconds" else " Draw it with --length, such as --length 12min."
        raise UsageError(f"{error}{fix}") from error


def sketch(
    values: np.ndarray,  # (points,)
    *,
    last: str | None = None,
    rows: int = 12,
    columns: int = 64,
    blocks: str = BLOCKS,
) -> str:
    """The values as a filled plot of characters, from 0 to 1 (or to the largest value, where that is above 1).

    Args:
        values: the values, evenly spaced in time.
        last: the time of the last one, as text; None for their number less one.
        rows: height of the plot in characters.
        columns: its width.
        blocks: nine fillings of one character.

    >>> print(sketch(np.array([0.0, 0.5, 1.0]), rows=2, columns=3, blocks=PLAIN))
    1 |  #
      | ##
    0 +---
       0 2
    """
    picked = values[np.rint(np.linspace(0, len(values) - 1, columns)).astype(int)]
    top = max(1.0, float(values.max()))
    levels = np.rint(picked / top * rows * 8).astype(int)  # eighths of a character
    bar, corner, dash = ("│", "└", "─") if blocks == BLOCKS else ("|", "+", "-")
    label = f"{top:g}"
    margin = " " * len(label)
    lines = []
    for row in reversed(range(rows)):
        cells = "".join(blocks[level] for level in np.clip(levels - 8 * row, 0, 8))
        lines.append(f"{label if row == rows - 1 else margin} {bar}{cells}".rstrip())
    last = str(len(values) - 1) if last is None else last
    lines.append(f"{'0':>{len(label)}} {corner}{dash * columns}")
    lines.append(f"{margin}  0{last:>{max(columns - 1, len(last) + 1)}}")
    return "\n".join(lines)


def key_times(values: np.ndarray) -> dict[int, str]:
    """The positions worth printing, with what they are: the run's tenths and quarters, its peak, its last value."""
    count = len(values)
    times = dict.fromkeys(sorted({count * part // 20 for part in (0, 1, 2, 5, 10, 15, 18)}), "")
    times[int(np.argmax(values))] = "first peak"
    times[count - 1] = "last update"
    return dict(sorted(times.items()))


def _table(shown: BaseSchedule, clock: Clock, values: np.ndarray) -> str:
    times = clock.times
    keys = key_times(values)
    if clock.unit != "step":
        keys[len(values) - 1] = "end"
    rows = [(clock.number(times[k]), f"{values[k]:.6g}", note) for k, note in keys.items()]
    if clock.unit == "step":
        rows.append((clock.number(clock.length), f"{shown(clock.length, clock.horizon):.6g}", "end, used by no update"))
    width = max(len(t) for t, _, _ in rows)
    lines = [f"{'t':>{width}}  multiplier", *(f"{t:>{width}}  {value:<12}{note}".rstrip() for t, value, note in rows)]
    return "\n".join(lines)


def _prints(text: str) -> bool:
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def chart(shown: BaseSchedule, clock: Clock, path: Path, kind: Literal["png", "svg"]) -> None:
    """Write the schedule as a picture; needs altair and vl-convert-python.

    Args:
        shown: the schedule.
        clock: the times to draw it at.
        path: the file to write.
        kind: "png" or "svg".
    """
    try:
        import altair as alt
        import vl_convert  # noqa: F401 (altair writes files through it)
    except ImportError:
        raise missing_extra("hasten schedule", "altair with vl-convert-python", "bench") from None

    times = clock.times
    times = times[np.unique(np.rint(np.linspace(0, len(times) - 1, CHART_POINTS)).astype(int))]
    values = shown(times, clock.horizon)
    rows = [{"t": t, "multiplier": value} for t, value in zip(times.tolist(), values.tolist(), strict=True)]
    drawn = (
        alt.Chart(alt.Data(values=rows), title=format(shown), width=560, height=240)
        # An update holds its value until the next one. Blue of the Okabe-Ito palette, safe for colour-blind eyes.
        .mark_line(interpolate="step-after" if clock.unit == "step" else "linear", color="#0072B2")
        .encode(
            x=alt.X("t:Q", title=clock.name, scale=alt.Scale(nice=False)),
            y=alt.Y("multiplier:Q", title="multiplier of the peak learning rate"),
        )
    )
    drawn.save(str(path), format=kind)
