"""From the answers of one arm (`verdicts.Readings`) to the `Effect` records of the report: units, bounds, reasons."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from . import curves
from .curves import Curves
from .intervals import Array, bootstrap_percentile, no_loss_p, paired_t, sign_flip, wilcoxon
from .power import minimum_detectable
from .schema import Effect, MeanCurve, Overall, SpeedupCurve
from .verdicts import MIN_SEEDS, Readings, family, near_end

__all__ = ["build_effects", "budget_reasons", "mean_curves", "no_losses", "overall_speedup", "sensitivities",
           "speedup_curve", "target_reasons"]  # fmt: skip

GRID = 41  # qualities of the speedup curve
MAX_LOG = 700.0  # exp of more overflows
DRAWS = 2_000  # resamples of the mean-curve speedup: percentiles good to about a tenth of their width


def build_effects(
    kind: str,
    readings: Readings,
    words: Sequence[str],
    p_holm: Array,
    *,
    labels: Sequence[str],
    reasons: Sequence[str],
    alpha: float,
    questions: int,
    generator: np.random.Generator,
    no_loss: Sequence[bool | None] | None = None,
    sensitivity: Sequence[float | None] | None = None,
    mean_curve: Sequence[MeanCurve] | None = None,
) -> tuple[Effect, ...]:
    """One `Effect` per question; arguments as in `Effect`, one entry per question."""

    def unit(x: float) -> float | None:
        if kind != "target":
            return x if math.isfinite(x) else None
        return _ratio(x) if x < MAX_LOG else None

    stats = readings.stats
    few = f"n = {stats.n}: a verdict needs {MIN_SEEDS} pairs" if stats.n < MIN_SEEDS else ""
    result = []
    for k, label in enumerate(labels):
        bound = readings.bound[k]
        lower, upper = readings.bounds.lower[:, k], readings.bounds.upper[:, k]
        known = lower == upper
        exact = bound == ""
        gains = kind != "target"  # a bound of S is reported without an interval
        tests = exact and stats.n >= 2
        flips = _permutations(lower, generator) if tests else (None, None, None)
        sd = float(stats.sd[k])
        result.append(
            Effect(
                kind=kind,
                index=k,
                label=label,
                verdict=words[k],
                reason=reasons[k] or few,
                n=stats.n,
                value=None if bound == "?" else unit(float(stats.mean[k])),
                low=unit(float(stats.low[k])) if exact or (gains and bound == ">=") else None,
                high=unit(float(stats.high[k])) if exact or (gains and bound == "<=") else None,
                bound=bound,
                minimum=unit(float(lower.min())) if exact else None,
                maximum=unit(float(lower.max())) if exact else None,
                per_seed=tuple(unit(float(x)) if ok else None for x, ok in zip(lower, known, strict=True)),
                p=float(stats.p[k]) if tests or readings.p[k] < 1 else None,
                p_holm=float(p_holm[k]),
                p_sign_flip=flips[0],
                p_sign_flip_smallest=flips[1],
                p_wilcoxon=flips[2],
                no_loss=no_loss[k] if no_loss else None,
                mde=unit(minimum_detectable(sd, stats.n, alpha=alpha)) if tests else None,
                mde_family=unit(minimum_detectable(sd, stats.n, alpha=alpha, questions=questions)) if tests else None,
                sensitivity=sensitivity[k] if sensitivity else None,
                mean_curve=mean_curve[k] if mean_curve else None,
            )
        )
    return tuple(result)


def _permutations(values: Array, generator: np.random.Generator) -> tuple[float, float, float | None]:
    """p of the sign-flip test, the smallest it can be, and p of Wilcoxon's test from six seeds on."""
    flip, ranks = sign_flip(values, generator=generator), wilcoxon(values, generator=generator)
    return flip.p, flip.smallest, ranks.p if ranks else None


def no_losses(parts: Sequence[Readings], margin: float | None, *, alpha: float) -> list[list[bool | None]]:
    """Per arm and question: is a loss larger than `margin` excluded? Holm over all; None where nothing can be said.

    A lower bound serves, an upper bound does not.
    """
    if margin is None:
        return [[None] * len(part.bound) for part in parts]
    usable = [np.asarray([b in ("", ">=") for b in part.bound]) & (part.stats.n >= MIN_SEEDS) for part in parts]
    p = [np.where(ok, no_loss_p(part.stats, margin), 1.0) for part, ok in zip(parts, usable, strict=True)]
    return [
        [bool(value <= alpha / 2) if ok else None for value, ok in zip(row, keep, strict=True)]
        for row, keep in zip(family(p), usable, strict=True)
    ]


def budget_reasons(readings: Readings, base: Curves, arm: Curves, points: Sequence[int]) -> list[str]:
    """Why a gain at equal time is a bound, or at which other time it was read."""
    moved = curves.equal_times(base, arm, points).mean(axis=0)
    asked = base.log_time[:, list(points)].mean(axis=0)
    words = {
        ">=": "a run of the arm ends before this time: at least this gain",
        "<=": "a run of the arm starts after this time: at most this gain",
        "?": "no time at which both runs of every seed are known",
    }
    result = []
    for k, bound in enumerate(readings.bound):
        shift = moved[k] - asked[k]
        near = f"read at {math.exp(moved[k]):.3g} s, where both arms have runs" if abs(shift) > math.log(1.05) else ""
        result.append(words.get(bound, near))
    return result


def target_reasons(
    readings: Readings, base: Curves, arm: Curves, qualities: Sequence[float], labels: Sequence[str]
) -> list[str]:
    """Why a speedup is only a bound, or why to read it with care."""
    close = near_end(base, arm, qualities)
    sides = (("baseline", curves.time_at(base, qualities)), ("arm", curves.time_at(arm, qualities)))
    result = []
    for k, bound in enumerate(readings.bound):
        parts = []
        for name, times in sides if bound else ():
            n = len(times.lower)
            if never := int(np.isinf(times.upper[:, k]).sum()):
                parts.append(f"{never} of {n} {name} runs never reach {labels[k]}")
            if early := int(np.isinf(times.lower[:, k]).sum()):
                parts.append(f"{early} of {n} {name} runs are above {labels[k]} at their first point")
        if not bound and close[k]:
            parts.append("close to where the curves end: the estimate leans towards the arm")
        result.append(", ".join(parts))
    return result


def sensitivities(base: Curves, qualities: Sequence[float], margin: float | None) -> list[float | None]:
    """Per target, the factor by which S changes if the metric is off by `margin`: the slope of the baseline's curve.

    Near a plateau a small bias of the metric is a large error of the speedup. None where a seed's curve does not
    cover the target with its margin on both sides.
    """
    if not margin:
        return [None] * len(qualities)
    q = np.asarray(qualities, dtype=np.float64)
    width = curves.time_at(base, q + margin).minus(curves.time_at(base, q - margin))
    covered = np.asarray(width.exact.all(axis=0))
    return [math.exp(width.lower[:, k].mean() / 2) if covered[k] else None for k in range(len(q))]


def mean_curves(
    base: Curves,
    arm: Curves,
    qualities: Sequence[float],
    *,
    fractions: Sequence[float],
    first: float | None,
    alpha: float,
    generator: np.random.Generator,
) -> list[MeanCurve]:
    """Speedup read from the mean curves, percentile bootstrap over seeds, the same resample for both arms.

    With `fractions` the target is computed anew in every resample, as in the study itself.

    Args:
        base: baseline curves, shape (seeds, points), every seed with the same number of points.
        arm: the arm's curves of the same seeds.
        qualities: targets of the study.
        fractions: the shares of the baseline's gain that the targets are; empty when given by the user.
        first: quality before training; None = the baseline's first point.
        alpha: 1 - confidence.
        generator: source of the resamples.
    """
    n = len(base.best)
    ragged = any((np.diff(side.log_time, axis=-1) <= 0).any() for side in (base, arm))
    if n < 2 or ragged:
        return [MeanCurve(None, None, None)] * len(qualities)

    def log_s(index: NDArray[np.intp]) -> Array:
        weights = (index[:, :, None] == np.arange(n)).mean(axis=1)[:, None, :]  # (draws, 1, seeds)
        one, two = (Curves(weights @ side.log_time, weights @ side.best) for side in (base, arm))  # (draws, 1, points)
        q: Array = np.asarray(qualities, dtype=np.float64)
        if fractions:
            start = one.best[..., 0] if first is None else np.full_like(one.best[..., 0], first)
            q = curves.qualities_of_gain(start, one.best[..., -1], fractions)
        result = curves.log_speedup(one, two, q)
        return np.stack([result.lower[:, 0], result.upper[:, 0]], axis=1)  # (draws, 2, targets)

    whole = log_s(np.arange(n)[None])[0]
    draws = bootstrap_percentile(log_s, n, generator=generator, alpha=alpha, draws=DRAWS)
    (low, _), (_, high) = draws
    return [
        MeanCurve(_ratio(x) if x == y else None, _ratio(a), _ratio(b))
        for x, y, a, b in zip(*whole, low, high, strict=True)
    ]


def _ratio(log_ratio: float) -> float | None:
    return math.exp(log_ratio) if math.isfinite(log_ratio) else None


def speedup_curve(base: Curves, arm: Curves, *, sign: float, alpha: float) -> SpeedupCurve | None:
    """S on a grid of qualities, from the lower of the two first points to the higher of the two last ones."""
    low = min(side.best[:, 0].mean() for side in (base, arm))
    high = max(side.best[:, -1].mean() for side in (base, arm))
    if high <= low:
        return None
    grid = np.linspace(low, high, GRID)
    speedups = curves.log_speedup(base, arm, grid)
    exact = np.asarray(speedups.exact.all(axis=0))
    stats = paired_t(np.where(exact, speedups.lower, 0.0), alpha=alpha)

    def ratios(values: Array, keep: NDArray[np.bool_]) -> tuple[float | None, ...]:
        return tuple(_ratio(float(v)) if ok else None for v, ok in zip(values, keep, strict=True))

    return SpeedupCurve(
        quality=tuple(float(sign * q) for q in grid),
        speedup=ratios(stats.mean, exact),
        low=ratios(stats.low, exact),
        high=ratios(stats.high, exact),
        at_least=ratios(speedups.lower.mean(axis=0), ~exact),
        at_most=ratios(speedups.upper.mean(axis=0), ~exact),
        censored=tuple(int(c) for c in (~speedups.exact).sum(axis=0)),
    )


def overall_speedup(base: Curves, arm: Curves, *, sign: float, alpha: float) -> Overall | None:
    """Geometric-mean speedup over the qualities that every run of both arms covers; None where there is no range."""
    low = float(max(side.best[:, 0].max() for side in (base, arm)))
    high = float(min(side.best[:, -1].min() for side in (base, arm)))
    if high <= low:
        return None
    stats = paired_t(curves.mean_log_speedup(base, arm, low, high), alpha=alpha)
    ends = (_ratio(float(stats.low)), _ratio(float(stats.high)))
    return Overall(math.exp(stats.mean), *ends, sign * low, sign * high, stats.n)
