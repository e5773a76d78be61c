"""Tradeoff curves: quality against the logarithm of training time, one curve per seed, read in both directions.

    x = log(time),  best_k = max(metric_1 .. metric_k)         the running best: "has this quality been reached yet?"

Between two points the running best is linear in x; outside the curve nothing is invented. Every reading is therefore
an interval [lower, upper]: a point where the curve covers the question, else what the curve still proves.

| reading                  | curve covers it | before the first point     | after the last point        |
|---|---|---|---|
| `time_at(q)` (log time)  | exact           | [-inf, x_1]  (q < best_1)  | [x_K, +inf]  (q > best_K)   |
| `metric_at(x)`           | exact           | [-inf, best_1]             | [best_K, +inf]              |

Speedups and gains are differences of two readings, so bounds follow by interval arithmetic: the baseline reaches q
but the arm does not -> S below a bound; the arm but not the baseline -> above; neither -> nothing known.

What this reading does to a comparison, and where it leans:
- Two curves with the same law are read with the same rule on both sides, so their log S is symmetric around 0.
- A chord lies below a concave curve. At a budget the baseline has a point and an arm of another pace has none, so its
  gain at equal time is underestimated by up to 1/8 of the curve's second difference: against the arm, never for it.
- A running best rewards noise: an arm whose metric jumps more has a higher maximum. The comparison at equal steps
  uses the raw points and does not share this; read both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..._core.checks import check

__all__ = ["Bounds", "Curves", "common_times", "equal_times", "gain", "log_speedup", "mean_log_speedup", "metric_at",
           "qualities_of_gain", "stack", "time_at"]  # fmt: skip

Array = NDArray[np.float64]

# A run that starts later or ends earlier than the budget by less than this factor is compared at its own end instead
# of being called unknown. Without it, timing noise would leave the first and the last budget of an arm that costs
# exactly the same unanswered in most studies. 1.25 covers the noise of a shared machine (specification: +-20 %).
SLACK = 1.25


@dataclass(frozen=True)
class Bounds:
    """What is known about an array of numbers: each lies in [lower, upper]; equal ends are an exact value."""

    lower: Array
    upper: Array

    @property
    def exact(self) -> NDArray[np.bool_]:
        """Where the value is known."""
        return self.lower == self.upper

    def minus(self, other: Bounds) -> Bounds:
        """Interval difference: [lower - other.upper, upper - other.lower]."""
        return Bounds(self.lower - other.upper, self.upper - other.lower)


@dataclass(frozen=True)
class Curves:
    """Curves of one arm, one per seed; leading axes may hold many studies at once.

    Args:
        log_time: shape (..., seeds, points), strictly increasing along points up to padding.
        best: the running best metric, same shape, never decreasing.
    """

    log_time: Array  # (..., seeds, points)
    best: Array  # (..., seeds, points)


def stack(times: Sequence[ArrayLike], metrics: Sequence[ArrayLike]) -> Curves:
    """Curves from one list of times and one of metrics (higher is better) per seed; lengths may differ.

    Shorter curves are padded by repeating their last point, which changes no reading.

    >>> stack([[1.0, 2.0]], [[3.0, 2.0]]).best.tolist()
    [[3.0, 3.0]]
    """
    check(len(times) == len(metrics) and len(times) > 0, "stack", "times and metrics of the same seeds", len(metrics),
          "Pass one list of times and one of metrics per seed.")  # fmt: skip
    rows_t = [np.asarray(t, dtype=np.float64) for t in times]
    rows_m = [np.asarray(m, dtype=np.float64) for m in metrics]
    for t, m in zip(rows_t, rows_m, strict=True):
        same = t.shape == m.shape and t.ndim == 1 and len(t) > 0
        check(same, "stack", "as many times as metrics", m, "Pass one metric per time.")
        rising = bool((t > 0).all() and (np.diff(t) > 0).all())
        check(rising, "stack", "positive, strictly increasing times", t, "Pass the training clock of the run.")
    points = max(map(len, rows_t))
    log_time = np.stack([np.pad(np.log(t), (0, points - len(t)), mode="edge") for t in rows_t])
    metric = np.stack([np.pad(m, (0, points - len(m)), mode="edge") for m in rows_m])
    return Curves(log_time, np.maximum.accumulate(metric, axis=-1))


def _between(x0: Array, x1: Array, y0: Array, y1: Array, x: Array) -> Array:
    """The chord from (x0, y0) to (x1, y1) at `x`; y0 where the chord has no width."""
    width = x1 - x0
    share = np.divide(x - x0, width, out=np.zeros_like(x), where=width > 0)
    return np.where(share == 1, y1, y0 + share * (y1 - y0))


def _segment(values: Array, index: NDArray[np.intp]) -> tuple[Array, Array]:
    """`values` just before and at `index` along the last axis (the first segment for index 0)."""
    right = np.clip(index, min(1, values.shape[-1] - 1), values.shape[-1] - 1)
    left = np.maximum(right - 1, 0)
    return np.take_along_axis(values, left, axis=-1), np.take_along_axis(values, right, axis=-1)


def time_at(curves: Curves, quality: ArrayLike) -> Bounds:
    """Log time at which each curve first reaches each `quality`.

    Args:
        curves: shape (..., seeds, points).
        quality: shape (targets,), or broadcastable to (..., seeds, targets).

    Returns:
        Bounds of shape (..., seeds, targets): exact inside the curve; before the first point only an upper bound;
        never reached: the last time as a lower bound.
    """
    x, y = curves.log_time, curves.best
    q = np.asarray(quality, dtype=np.float64)
    q = np.broadcast_to(q, (*x.shape[:-1], q.shape[-1]))
    index = (y[..., :, None] < q[..., None, :]).sum(axis=-2)  # first point with best >= q; K if never
    (x0, x1), (y0, y1) = _segment(x, index), _segment(y, index)
    inside = _between(y0, y1, x0, x1, q)
    first, last = x[..., :1], x[..., -1:]
    early = (index == 0) & (q < y[..., :1])
    never = index == x.shape[-1]
    inside = np.where(index == 0, first, inside)
    return Bounds(
        np.where(early, -np.inf, np.where(never, last, inside)),
        np.where(early, first, np.where(never, np.inf, inside)),
    )


def metric_at(curves: Curves, log_time: ArrayLike) -> Bounds:
    """Running best of each curve at each `log_time`.

    Args:
        curves: shape (..., seeds, points).
        log_time: shape (..., seeds, times), or broadcastable to it.

    Returns:
        Bounds of shape (..., seeds, times): exact inside the curve; before the first point at most its value; after
        the last point at least the best seen.
    """
    x, y = curves.log_time, curves.best
    t = np.asarray(log_time, dtype=np.float64)
    t = np.broadcast_to(t, (*x.shape[:-1], t.shape[-1]))
    index = (x[..., :, None] < t[..., None, :]).sum(axis=-2)  # first point not before t; K if after all
    (x0, x1), (y0, y1) = _segment(x, index), _segment(y, index)
    inside = _between(x0, x1, y0, y1, t)
    first, last = y[..., :1], y[..., -1:]
    early = (index == 0) & (t < x[..., :1])
    late = index == x.shape[-1]
    inside = np.where(index == 0, first, inside)
    return Bounds(
        np.where(early, -np.inf, np.where(late, last, inside)),
        np.where(early, first, np.where(late, np.inf, inside)),
    )


def log_speedup(base: Curves, arm: Curves, quality: ArrayLike) -> Bounds:
    """log S(q) = log t_base(q) - log t_arm(q) per seed; above 0 the arm is faster.

    A seed whose two curves are the same run has S = 1 at every quality, also where neither arrives.

    Returns:
        Bounds of shape (..., seeds, targets).

    >>> base, arm = stack([[1, 2, 4]], [[70, 72, 74]]), stack([[1, 2, 4]], [[71, 73, 75]])
    >>> round(math.exp(log_speedup(base, arm, [72.0]).lower[0, 0]), 4)
    1.4142
    """
    result = time_at(base, quality).minus(time_at(arm, quality))
    same = _same(base, arm)[..., None]
    return Bounds(np.where(same, 0.0, result.lower), np.where(same, 0.0, result.upper))


def _same(base: Curves, arm: Curves) -> NDArray[np.bool_]:
    """Per seed: are the two curves the same points (whatever their padding)?"""
    points = max(base.best.shape[-1], arm.best.shape[-1])
    index = np.arange(points)
    one, two = np.minimum(index, base.best.shape[-1] - 1), np.minimum(index, arm.best.shape[-1] - 1)
    equal = (base.log_time[..., one] == arm.log_time[..., two]) & (base.best[..., one] == arm.best[..., two])
    return equal.all(axis=-1)


def _pace(curves: Curves) -> Array:
    """How slow each seed ran: its mean log time minus that of all seeds, over the points that all seeds have."""
    points = 1 + int((np.diff(curves.log_time, axis=-1) > 0).sum(axis=-1).min())
    x = curves.log_time[..., :points].mean(axis=-1, keepdims=True)
    return x - x.mean(axis=-2, keepdims=True)


def equal_times(base: Curves, arm: Curves, points: Sequence[int]) -> Array:
    """The log time at which each seed's pair of runs is compared, for each budget.

        log tau[i, k] = mean over seeds of log t_base[., k] + (pace_base[i] + pace_arm[i]) / 2

    The budget is the baseline's mean time at point k, moved with the pace of the machine in that seed, as measured on
    both runs alike. The baseline's own time of every seed would be simpler and is biased: the baseline then always
    stands on a point and the arm in the kink beside one, below a concave curve. (Simulated A/A with 7 % timing noise:
    -0.13 points of accuracy, and 92 % coverage at n = 20 instead of 95 %.)

    A time outside one of the two runs by less than `SLACK` is moved to that run's end.

    Args:
        base: baseline curves, shape (..., seeds, points).
        arm: arm curves of the same seeds.
        points: indices of the baseline's points that are budgets; every seed has them.

    Returns:
        Shape (..., seeds, budgets).
    """
    return common_times(base, (base, arm), points)


def common_times(base: Curves, sides: Sequence[Curves], points: Sequence[int]) -> Array:
    """`equal_times` for any number of arms: one log time per seed and budget at which all `sides` are read.

    Args:
        base: baseline curves, shape (..., seeds, points): its mean times are the budgets.
        sides: curves of the same seeds, whose mean pace moves the budget; the first is preferred where one is out of
            reach of another.
        points: indices of the baseline's points that are budgets.

    Returns:
        Shape (..., seeds, budgets).
    """
    pace = sum(map(_pace, sides[1:]), _pace(sides[0])) / len(sides)
    t = base.log_time[..., list(points)].mean(axis=-2, keepdims=True) + pace
    # The first side's ends first: where another is out of reach, its own reading stays exact. The 1e-9 keeps a ratio
    # of exactly `SLACK` on one side whatever the rounding.
    for side in sides:
        moved = np.clip(t, side.log_time[..., :1], side.log_time[..., -1:])
        t = np.where(np.abs(moved - t) <= math.log(SLACK) + 1e-9, moved, t)
    return t


def gain(base: Curves, arm: Curves, log_time: ArrayLike) -> Bounds:
    """dq(t) = best_arm(t) - best_base(t) per seed at each `log_time`; above 0 the arm is better at equal time.

    Args:
        base: baseline curves, shape (..., seeds, points).
        arm: arm curves of the same seeds.
        log_time: shape (..., seeds, times), usually from `equal_times`.

    Returns:
        Bounds of shape (..., seeds, times).

    >>> base, arm = stack([[1, 2, 4]], [[70, 72, 74]]), stack([[1, 2, 4]], [[71, 73, 75]])
    >>> gain(base, arm, equal_times(base, arm, [0, 1, 2])).lower.tolist()
    [[1.0, 1.0, 1.0]]
    """
    return metric_at(arm, log_time).minus(metric_at(base, log_time))


def qualities_of_gain(first: ArrayLike, last: ArrayLike, fractions: ArrayLike) -> Array:
    """first + fraction * (last - first): the qualities at given shares of a gain.

    Lowered by a trillionth of the gain, so that a run that ends exactly at `last` has reached 100 % of it.

    Args:
        first: quality at the start, shape (...).
        last: final quality, shape (...).
        fractions: shape (targets,).

    Returns:
        Shape (..., targets).

    >>> [round(float(q), 6) for q in qualities_of_gain(0.5, 0.9, [0.5, 1.0])]
    [0.7, 0.9]
    """
    start, end = np.asarray(first, dtype=np.float64)[..., None], np.asarray(last, dtype=np.float64)[..., None]
    return start + (np.asarray(fractions, dtype=np.float64) - 1e-12) * (end - start)


def mean_log_speedup(base: Curves, arm: Curves, low: float, high: float) -> Array:
    """The mean of log S(q) over q in [`low`, `high`], per seed: the area between two curves in log time / width.

    exp of it is the geometric-mean speedup over that quality range. Exact: both inverse curves are linear between
    the qualities of their points, so one reading in the middle of every piece integrates it.

    Args:
        base: shape (seeds, points); must cover the range (best_1 <= low, best_K >= high).
        arm: shape (seeds, points), same seeds, covering the range.
        low: start of the range, metric units.
        high: end of the range, above `low`.

    Returns:
        Shape (seeds,).
    """
    check(high > low, "mean_log_speedup", "a quality range with high > low", (low, high), "Pass low < high.")
    result = []
    for row in range(len(base.best)):
        one = Curves(base.log_time[row : row + 1], base.best[row : row + 1])
        two = Curves(arm.log_time[row : row + 1], arm.best[row : row + 1])
        knots = np.unique(np.clip(np.concatenate([[low, high], one.best[0], two.best[0]]), low, high))
        readings = log_speedup(one, two, (knots[1:] + knots[:-1]) / 2)
        check(bool(readings.exact.all()), "mean_log_speedup", "curves that cover the quality range", (low, high),
              "Pass a range that both curves reach.")  # fmt: skip
        result.append(float(np.sum(readings.lower[0] * np.diff(knots)) / (high - low)))
    return np.asarray(result)
