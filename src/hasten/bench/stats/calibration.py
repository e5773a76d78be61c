"""What the kind of curve does to the levels: one arm in every kind, from the same seeds.

A cyclic run restarts its learning rate at every budget but the first, and so its later points differ a little from
those of separate runs. The difference is the bias of the kind: paired by seed, with a t interval, at each budget. A
branch curve has no restarts but another schedule (constant, then a decay), so its difference from separate runs of
the workload's own schedule is not a bias alone. What must carry over from one kind to another is the difference
between arms; levels need not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..._core.checks import check
from .intervals import Array, paired_t
from .table import Seed

__all__ = ["REFERENCE", "Interval", "Level", "calibrate", "interval_of"]

REFERENCE = "separate"


@dataclass(frozen=True)
class Interval:
    """A mean with its t interval; the ends are None with one value."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Level:
    """One budget of one kind: the mean level with its t interval, and the paired difference from separate runs.

    An end of an interval is None with one seed; the bias is None for separate runs, and where no seed has both.
    """

    metric: float
    low: float | None
    high: float | None
    bias: float | None
    bias_low: float | None
    bias_high: float | None
    n: int  # seeds of the bias; of the level for separate runs


def calibrate(
    levels: Mapping[str, Mapping[Seed, Sequence[float]]], *, alpha: float = 0.05
) -> dict[str, tuple[Level, ...]]:
    """Level and bias of each kind of curve at each budget.

    `bias = mean over seeds of (kind - separate)`, over the seeds that have both, with a paired t interval.

    Args:
        levels: kind ("separate" among them) -> seed -> metric at each budget, all equally long, finite.
        alpha: 1 - confidence of the intervals, in (0, 1).

    Returns:
        Kind -> one `Level` per budget, separate runs first.

    Raises:
        ValueError: no separate runs, or seeds with different numbers of budgets.

    >>> runs = {"separate": {0: [0.5], 1: [0.7], 2: [0.6]}, "cyclic": {0: [0.6], 1: [0.9], 2: [0.6]}}
    >>> round(calibrate(runs)["cyclic"][0].bias, 3)
    0.1
    """
    fix = "Run the arm as separate runs too; what the others are compared with is those."
    check(bool(levels.get(REFERENCE)), "calibrate", f"{REFERENCE} runs", sorted(levels), fix)
    lengths = {len(values) for runs in levels.values() for values in runs.values()}
    check(len(lengths) == 1, "calibrate", "as many budgets in every run", sorted(lengths), "Leave unfinished runs out.")
    reference = levels[REFERENCE]
    order = [REFERENCE, *(kind for kind in levels if kind != REFERENCE and levels[kind])]
    budgets = range(lengths.pop())
    return {
        kind: tuple(_level(levels[kind], reference, k, kind == REFERENCE, alpha) for k in budgets) for kind in order
    }


def _level(
    runs: Mapping[Seed, Sequence[float]], reference: Mapping[Seed, Sequence[float]], k: int, own: bool, alpha: float
) -> Level:
    level = interval_of([values[k] for values in runs.values()], alpha=alpha)
    shared = [seed for seed in runs if seed in reference]
    if own or not shared:
        return Level(level.mean, level.low, level.high, None, None, None, len(runs) if own else 0)
    bias = interval_of([runs[seed][k] - reference[seed][k] for seed in shared], alpha=alpha)
    return Level(level.mean, level.low, level.high, bias.mean, bias.low, bias.high, len(shared))


def interval_of(values: Sequence[float] | Array, *, alpha: float = 0.05) -> Interval:
    """Mean and t interval of one number per seed, as plain numbers.

    >>> interval_of([1.0])
    Interval(mean=1.0, low=None, high=None)
    """
    found = paired_t(values, alpha=alpha)
    known = math.isfinite(float(found.low))
    return Interval(float(found.mean), float(found.low) if known else None, float(found.high) if known else None)
