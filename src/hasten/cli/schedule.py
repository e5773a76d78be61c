"""`hasten schedule "warmup(cosine(), 50)"`: look at a schedule before spending a run on it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import numpy as np

from hasten._core.checks import check, missing_extra
from hasten.schedules import BaseSchedule, format, parse  # noqa: A004 (the inverse of parse)

from . import UsageError

__all__ = ["chart", "key_times", "schedule", "sketch"]

BLOCKS = " ▁▂▃▄▅▆▇█"  # nine fillings of one character cell, in eighths
PLAIN = "    #####"  # the same where the terminal cannot show them
CHART_POINTS = 2000  # more than a chart has pixels, fewer than the 5000 rows altair accepts


def schedule(
    spec: str, *, steps: int = 1000, png: Path | None = None, svg: Path | None = None, csv: Path | None = None
) -> None:
    """Show a schedule: a sketch, its value at key times, and pictures or a table if asked for.

    Args:
        spec: the schedule, as in Python: `"cosine()"`, `"warmup(wsd(decay=0.2), 50)"`, `"cyclic(8)"`.
        steps: number of updates of the run.
        png: write a picture there.
        svg: write a scalable picture there.
        csv: write `t,multiplier` there, one line per update.
    """
    check(steps >= 1, "schedule", "steps >= 1", steps, "Pass --steps with the number of updates of the run.")
    try:
        shown = parse(spec)
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error
    values = shown(np.arange(steps), steps)  # (steps,)
    blocks = BLOCKS if _prints(BLOCKS) else PLAIN
    print(f"{format(shown)}, {steps} updates\n\n{sketch(values, blocks=blocks)}\n\n{_table(shown, values)}")
    if csv is not None:
        rows = "".join(f"{t},{value!r}\n" for t, value in enumerate(values.tolist()))
        csv.write_text(f"t,multiplier\n{rows}", encoding="utf-8")
        print(f"wrote {csv}")
    for path, kind in ((png, "png"), (svg, "svg")):
        if path is not None:
            chart(shown, values, path, kind)
            print(f"wrote {path}")


def sketch(
    values: np.ndarray,  # (updates,)
    *,
    rows: int = 12,
    columns: int = 64,
    blocks: str = BLOCKS,
) -> str:
    """The values as a filled plot of characters, from 0 to 1 (or to the largest value, where that is above 1).

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
    last = str(len(values) - 1)
    lines.append(f"{'0':>{len(label)}} {corner}{dash * columns}")
    lines.append(f"{margin}  0{last:>{max(columns - 1, len(last) + 1)}}")
    return "\n".join(lines)


def key_times(values: np.ndarray) -> dict[int, str]:
    """The times worth printing, with what they are: the run's tenths and quarters, its peak, its last update."""
    steps = len(values)
    times = dict.fromkeys(sorted({steps * part // 20 for part in (0, 1, 2, 5, 10, 15, 18)}), "")
    times[int(np.argmax(values))] = "first peak"
    times[steps - 1] = "last update"
    return dict(sorted(times.items()))


def _table(shown: BaseSchedule, values: np.ndarray) -> str:
    steps = len(values)
    rows = [(str(t), f"{values[t]:.6g}", note) for t, note in key_times(values).items()]
    rows.append((str(steps), f"{shown(steps, steps):.6g}", "end, used by no update"))
    width = max(len(rows[-1][0]), 1)
    lines = [f"{'t':>{width}}  multiplier", *(f"{t:>{width}}  {value:<12}{note}".rstrip() for t, value, note in rows)]
    return "\n".join(lines)


def _prints(text: str) -> bool:
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def chart(shown: BaseSchedule, values: np.ndarray, path: Path, kind: Literal["png", "svg"]) -> None:
    """Write the schedule as a picture; needs altair and vl-convert-python.

    Args:
        shown: the schedule, for the title.
        values: its value at every update, shape (updates,).
        path: the file to write.
        kind: "png" or "svg".
    """
    try:
        import altair as alt
        import vl_convert  # noqa: F401 (altair writes files through it)
    except ImportError:
        raise missing_extra("hasten schedule", "altair with vl-convert-python", "bench") from None

    steps = np.unique(np.rint(np.linspace(0, len(values) - 1, CHART_POINTS)).astype(int))
    rows = [{"t": int(t), "multiplier": float(values[t])} for t in steps]
    drawn = (
        alt.Chart(alt.Data(values=rows), title=format(shown), width=560, height=240)
        .mark_line(
            interpolate="step-after", color="#0072B2"
        )  # blue of the Okabe-Ito palette, safe for colour-blind eyes
        .encode(
            x=alt.X("t:Q", title="update", scale=alt.Scale(nice=False)),
            y=alt.Y("multiplier:Q", title="multiplier of the peak learning rate"),
        )
    )
    drawn.save(str(path), format=kind)
