"""Do two kinds of curve tell the same story? Levels and effects of the same arms, seeds and budgets in both.

Levels may differ by kind (restarts, another schedule): that is the bias, and every arm shares it. What a comparison
reads is the effect of an arm over the baseline, and that is what must agree: its correlation, its error, its sign,
and the order of the arms it implies. Mean effects over seeds and effects of single seeds are kept apart, because
single seeds are mostly noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..._core.checks import check, fraction
from .calibration import Interval, interval_of

__all__ = ["Agreement", "agreement", "kendall_tau"]

Array = NDArray[np.float64]
DRAWS = 2000  # of the bootstrap over seeds


@dataclass(frozen=True)
class Agreement:
    """How well one kind of curve stands for another (`other` for `reference`).

    Args:
        bias: per budget, mean over seeds of (other - reference), averaged over the arms first: a paired t interval.
        mean_abs_level: mean absolute difference of the levels of single runs.
        r: Pearson correlation of the mean effects over (arm, budget); None where they do not vary.
        r_low: percentile bootstrap over seeds: rough, and too narrow with few seeds.
        r_high: the other end.
        r_single: the same correlation over effects of single seeds.
        error: mean absolute difference of the mean effects.
        error_single: of the effects of single seeds.
        same_sign: share of mean effects with the same sign in both.
        tau: per budget, Kendall's tau-b of the order of all arms by mean level.
        effects: how many (arm, budget) effects there are.
        seeds: how many seeds.
    """

    bias: tuple[Interval, ...]
    mean_abs_level: float
    r: float | None
    r_low: float | None
    r_high: float | None
    r_single: float | None
    error: float
    error_single: float
    same_sign: float
    tau: tuple[float | None, ...]
    effects: int
    seeds: int


def agreement(reference: ArrayLike, other: ArrayLike, *, alpha: float = 0.05, seed: int = 0) -> Agreement:
    """Compare two kinds of curve by the levels of the same runs.

    `effect = level of an arm - level of the baseline`, seed by seed.

    Args:
        reference: metric levels, shape (arms, seeds, budgets), the baseline first; at least two arms.
        other: the same arms, seeds and budgets in the other kind.
        alpha: 1 - confidence of the intervals.
        seed: of the bootstrap.

    Raises:
        ValueError: shapes that differ, fewer than two arms, levels that are not finite.

    >>> levels = np.array([[[0.5, 0.7], [0.6, 0.8]], [[0.6, 0.7], [0.7, 0.9]]])
    >>> found = agreement(levels, levels + 0.1)
    >>> round(found.r, 6), round(found.error, 6), [round(bias.mean, 6) for bias in found.bias]
    (1.0, 0.0, [0.1, 0.1])
    """
    a, b = np.asarray(reference, dtype=np.float64), np.asarray(other, dtype=np.float64)
    fix = "Pass the same arms, seeds and budgets of both kinds."
    check(a.ndim == 3 and a.shape == b.shape, "agreement", "two equal shapes (arms, seeds, budgets)", b.shape, fix)
    check(a.shape[0] >= 2, "agreement", "a baseline and another arm", a.shape[0], "Pass the baseline first.")
    check(bool(np.isfinite(a).all() and np.isfinite(b).all()), "agreement", "finite levels", a, "Leave failures out.")
    fraction("agreement", "alpha", alpha)
    effects_a, effects_b = a[1:] - a[:1], b[1:] - b[:1]
    means_a, means_b = effects_a.mean(axis=1), effects_b.mean(axis=1)
    low, high = _bootstrap(effects_a, effects_b, alpha, np.random.default_rng(seed))
    return Agreement(
        bias=tuple(interval_of((b - a).mean(axis=0)[:, k], alpha=alpha) for k in range(a.shape[2])),
        mean_abs_level=float(np.abs(b - a).mean()),
        r=_pearson(means_a, means_b),
        r_low=low,
        r_high=high,
        r_single=_pearson(effects_a, effects_b),
        error=float(np.abs(means_b - means_a).mean()),
        error_single=float(np.abs(effects_b - effects_a).mean()),
        same_sign=float((np.sign(means_a) == np.sign(means_b)).mean()),
        tau=tuple(kendall_tau(a.mean(axis=1)[:, k], b.mean(axis=1)[:, k]) for k in range(a.shape[2])),
        effects=means_a.size,
        seeds=a.shape[1],
    )


def _pearson(x: Array, y: Array) -> float | None:
    x, y = (values.ravel() - values.mean() for values in (x, y))
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale > 0 else None


def _bootstrap(
    a: Array, b: Array, alpha: float, generator: np.random.Generator
) -> tuple[float, float] | tuple[None, None]:
    """Percentiles of the correlation of mean effects over resampled seeds, the same ones in both kinds."""
    seeds = a.shape[1]
    if seeds < 2:
        return None, None
    chosen = generator.integers(seeds, size=(DRAWS, seeds))
    x, y = (_centred(values[:, chosen].mean(axis=2)) for values in (a, b))
    scale = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    found = (x * y).sum(axis=1)[scale > 0] / scale[scale > 0]
    if not len(found):
        return None, None
    low, high = np.quantile(found, [alpha / 2, 1 - alpha / 2])
    return float(low), float(high)


def _centred(means: Array) -> Array:
    """Mean effects (arms, draws, budgets) as rows (draws, effects) around their means."""
    rows = np.moveaxis(means, 1, 0).reshape(means.shape[1], -1)
    return rows - rows.mean(axis=1, keepdims=True)


def kendall_tau(x: ArrayLike, y: ArrayLike) -> float | None:
    """Kendall's tau-b: agreement of two orders in [-1, 1], ties counted out; None where one of them is all ties.

    >>> kendall_tau([1, 2, 3], [1, 3, 2])
    0.3333333333333333
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    upper = np.triu_indices(len(x), k=1)
    dx, dy = (np.sign(values[:, None] - values[None, :])[upper] for values in (x, y))
    pairs = math.sqrt(float((dx != 0).sum()) * float((dy != 0).sum()))
    return float((dx * dy).sum()) / pairs if pairs else None
