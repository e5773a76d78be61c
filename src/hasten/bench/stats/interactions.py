"""Do methods add up, and what does each do inside the recipe? Contrasts over the arms of a design, in pairs of seeds.

    pair       gain(AB) - gain(A) - gain(B)            log S(AB) - log S(A) - log S(B)
    left out   gain(full) - gain(without)              log S(full) - log S(without)

In gains the baseline's terms cancel down to q(AB) - q(A) - q(B) + q(base), all four read at one time: that of the
budget, moved with the mean pace of the arms in that seed, as for a gain at equal time (`curves.equal_times`). So a
value may differ in its last digits from the difference of the gains that the arms' own tables show. The same holds
for log times at equal quality; there the value is given as a factor, and the factor 1 means that speedups multiply.

What some run does not cover is known as a bound only, and interval arithmetic carries the bounds through: an upper
bound of one arm may be a lower bound of the contrast. A bound has no interval and no p.

A contrast of four arms is noisier than one of two: its sd is about sqrt(2) times as large, so a study that just finds
the effects themselves does not find that they interact. These readings are descriptive, outside the family of
questions, and get no verdict.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..._core.checks import refuse
from . import curves
from .curves import Bounds, Curves
from .designs import Cell, design_of
from .effects import MAX_LOG
from .intervals import ROUNDING, Array
from .questions import Runs, Study, resolution
from .schema import Interaction
from .verdicts import MIN_SEEDS, Readings, read

__all__ = ["interactions"]


@dataclass(frozen=True)
class _Side:
    """One arm of a cell: its curves over the common seeds, and its sign in the contrast."""

    name: str
    curves: Curves
    sign: float


def interactions(study: Study, methods: Mapping[str, Sequence[str]]) -> tuple[Interaction, ...]:
    """Every contrast of every design of a study: pairs first, each at all budgets and then at all targets.

    Args:
        study: runs and questions.
        methods: arm -> its methods as they are written; every arm of the study, and others if there are any.

    Raises:
        ValueError: an arm of the study is missing in `methods`.
    """
    runs = {arm.name: arm for arm in (study.base, *study.others)}
    missing = [name for name in runs if name not in methods]
    if missing:
        raise refuse("analyse", "methods of every arm", f"none of {', '.join(missing)}",
                     "Write an empty list for an arm without methods.")  # fmt: skip
    design = design_of({name: methods[name] for name in runs}, study.base.name)
    cells = (*design.pairs, *design.left_out)
    return tuple(record for cell in cells for record in _read(study, cell, _runs_of(cell, study, runs)))


def _runs_of(cell: Cell, study: Study, runs: Mapping[str, Runs]) -> list[tuple[Runs, float]]:
    """The arms of a contrast with their signs."""
    parts = [(runs[name], -1.0) for name in cell.parts]
    return [(runs[cell.arm], 1.0), *parts, *([(study.base, 1.0)] if cell.kind == "pair" else [])]


def _read(study: Study, cell: Cell, arms: Sequence[tuple[Runs, float]]) -> list[Interaction]:
    """The records of one cell."""
    seeds = [seed for seed in study.base.finished if all(seed in arm.finished for arm, _ in arms)]
    labels = [("budget", b.label) for b in study.budgets], [("target", t.label) for t in study.targets]
    if not seeds:
        nothing = "no seed has finished runs of all these arms"
        return [_record(cell, axis, i, label, nothing) for part in labels for i, (axis, label) in enumerate(part)]
    sides = [_Side(arm.name, arm.curves(seeds), sign) for arm, sign in arms]
    # Rounding errors add up over the arms; `paired_t` expects the step for a difference of two.
    step = resolution([arm for arm, _ in arms]) * math.sqrt(len(arms) / 2)
    at_time = curves.common_times(study.base.curves(seeds), [side.curves for side in sides], study.points)
    levels = [curves.metric_at(side.curves, at_time) for side in sides]
    times = [curves.time_at(side.curves, study.qualities) for side in sides]
    gains = read(_contrast(levels, [side.sign for side in sides]), alpha=study.alpha, resolution=step)
    speedups = read(_contrast(times, [-side.sign for side in sides]), alpha=study.alpha)
    return [
        _record(cell, axis, i, label, _reason(sides, bounds, i, len(seeds)), readings)
        for part, readings, bounds in zip(labels, (gains, speedups), (levels, times), strict=True)
        for i, (axis, label) in enumerate(part)
    ]


def _contrast(sides: Sequence[Bounds], signs: Sequence[float]) -> Bounds:
    """The sum of `sides` with their signs, by interval arithmetic; what is left of an exact 0 by rounding is 0."""
    low, high, size = (np.zeros_like(sides[0].lower) for _ in range(3))
    for side, sign in zip(sides, signs, strict=True):  # the same order for both ends: known terms give equal ends
        low = low + (side.lower if sign > 0 else -side.upper)
        high = high + (side.upper if sign > 0 else -side.lower)
        size = size + np.abs(side.lower)
    nothing = (low == high) & (np.abs(low) <= ROUNDING * size)
    return Bounds(np.where(nothing, 0.0, low), np.where(nothing, 0.0, high))


def _reason(sides: Sequence[_Side], bounds: Sequence[Bounds], k: int, n: int) -> str:
    """Which arms leave a contrast open, or that there are few seeds."""
    open_ = [
        f"{side.name} ({int((~known.exact[:, k]).sum())} of {n} runs)"
        for side, known in zip(sides, bounds, strict=True)
        if not known.exact[:, k].all()
    ]
    if open_:
        return f"not covered by the curves of {', '.join(open_)}"
    return f"n = {n}: fewer than {MIN_SEEDS} seeds" if n < MIN_SEEDS else ""


def _record(cell: Cell, axis: str, k: int, label: str, reason: str, readings: Readings | None = None) -> Interaction:
    if readings is None:
        return Interaction(
            cell.kind, cell.arm, cell.parts, cell.method, axis, k, label, None, None, None, "?", 0, None, reason
        )
    stats, bound = readings.stats, readings.bound[k]

    def unit(values: Array) -> float | None:
        x = float(values[k])
        if not math.isfinite(x):
            return None
        return x if axis == "budget" else math.exp(x) if x < MAX_LOG else None

    exact = bound == ""
    return Interaction(
        kind=cell.kind,
        arm=cell.arm,
        parts=cell.parts,
        method=cell.method,
        axis=axis,
        index=k,
        label=label,
        value=None if bound == "?" else unit(stats.mean),
        low=unit(stats.low) if exact else None,
        high=unit(stats.high) if exact else None,
        bound=bound,
        n=stats.n,
        p=float(stats.p[k]) if exact and stats.n >= 2 else None,
        reason=reason,
    )
