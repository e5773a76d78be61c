"""The tradeoff of all arms together: time against quality, the points that nothing beats, and how sure that is.

Points are the means over seeds at each arm's evaluations (geometric means of times). The frontier is that of the
means; its probabilities come from resampling the seeds of the baseline, the same resample for every arm, so that what
the runs of a seed share cancels. Up to five seeds all n^n resamples are computed, beyond that `DRAWS` random ones. An
arm that lacks a seed takes part with the seeds it has.

**The box of the hypervolume** is fixed by the baseline, so that a score does not depend on who else is entered (the
usual "longest time of all" moves when somebody enters a slow arm):

| corner | time | quality |
|---|---|---|
| ideal | baseline's first budget | 1 for a score in [0, 1], 0 for a loss, else the best mean of all arms |
| reference | baseline's last budget x mean ratio of its budgets | chance if given, else the baseline's first point |

    x = log(time / ideal) / log(reference / ideal)        y = (quality - reference) / (ideal - reference)

both cut to [0, 1]: faster than the first budget, slower than the reference or worse than chance counts as just that.
The reference lies one step of the ladder beyond the last budget, because a point at the reference itself would count
for nothing. With budgets in a constant ratio the hypervolume of the baseline is then simply the mean of y over its
budgets: every budget weighs the same. In words it is the average, over training times from the first budget to the
reference (in log time), of the best quality reached by then. Only where neither bound of the quality is known, a
better arm enlarges the box for all; a dominated arm never does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..._core.checks import check, finite
from .intervals import Array
from .pareto import contributions, hypervolume, non_dominated
from .questions import Runs, Study, is_at, plain_label, thinned
from .schema import Frontier, FrontierArm, FrontierPoint
from .table import Row, Seed

__all__ = ["frontier"]

SEED = 0  # of the resamples
DRAWS = 4_000  # a probability of one half is then good to 0.008
WORST = (1.0, 1.0)  # the reference corner in units of the box, both axes as costs


@dataclass(frozen=True)
class _Points:
    """The chosen evaluations of one arm.

    Args:
        name: of the arm.
        rows: of its first run, one per point.
        labels: one per point.
        seeds: positions of the seeds it has among those of the baseline.
        log_time: shape (seeds, points).
        metric: higher is better, same shape.
    """

    name: str
    rows: tuple[Row, ...]
    labels: tuple[str, ...]
    seeds: tuple[int, ...]
    log_time: Array
    metric: Array

    @property
    def mean(self) -> tuple[Array, Array]:
        """Mean log time and metric, shape (points,) each."""
        return self.log_time.mean(axis=0), self.metric.mean(axis=0)


@dataclass(frozen=True)
class _Box:
    """Log times and qualities (higher is better) of the two corners."""

    first: float
    last: float
    worst: float
    best: float

    def costs(self, log_time: Array, metric: Array) -> Array:
        """Points in units of the box, shape (..., points, 2): 0 = ideal, 1 = reference."""
        x = np.clip((log_time - self.first) / (self.last - self.first), 0.0, 1.0)
        height = self.best - self.worst
        y = np.clip((metric - self.worst) / height, 0.0, 1.0) if height > 0 else np.zeros_like(metric)
        return np.stack([x, 1.0 - y], axis=-1)


def frontier(study: Study, *, epsilon: float, notes: list[str]) -> Frontier:
    """The frontier of a study; what a reader must know is appended to `notes`.

    Args:
        study: runs, budgets and chance.
        epsilon: at least 0, metric units: a point is dominated only by what is no slower and better by this much.
        notes: of the analysis.
    """
    check(finite("analyse", "epsilon", epsilon) >= 0, "analyse", "epsilon >= 0", epsilon, "Pass the noise, or 0.")
    seeds = tuple(study.base.finished)
    arms = [p for runs in (study.base, *study.others) if (p := _points(study, runs, seeds, notes))]
    box = _box(study, arms)
    costs = [box.costs(*arm.mean) for arm in arms]
    places = np.concatenate([np.stack(arm.mean, axis=-1) for arm in arms])
    optimal = _split(non_dominated(places, maximize=[1], epsilon=[0.0, epsilon]), arms)
    counts = _resamples(len(seeds))
    means = [_resampled(arm, counts) for arm in arms] if len(counts) else []
    stable = _stability(arms, means, epsilon) if means else [(None, [None] * len(arm.rows)) for arm in arms]
    ends = [_interval(study, box, mean) for mean in means] or [(None, None)] * len(arms)
    added = contributions(costs, WORST)
    if len(seeds) < 5:
        notes.append(_few(len(seeds)))
    each = zip(arms, optimal, stable, strict=True)
    return Frontier(
        points=tuple(p for arm, best, (_, shares) in each for p in _records(arm, best, shares, study.sign)),
        arms=tuple(
            FrontierArm(arm.name, stable[i][0], float(hypervolume(costs[i], WORST)), *ends[i], added[i])
            for i, arm in enumerate(arms)
        ),
        hypervolume=float(hypervolume(np.concatenate(costs), WORST)),
        reference_time=math.exp(box.last),
        reference_metric=study.sign * box.worst + 0.0,  # no -0.0
        ideal_time=math.exp(box.first),
        ideal_metric=study.sign * box.best + 0.0,
        epsilon=epsilon,
        seeds=seeds,
        draws=len(counts),
    )


def _points(study: Study, runs: Runs, seeds: Sequence[Seed], notes: list[str]) -> _Points | None:
    """The points of one arm; None with a note where it has too few of the baseline's seeds."""
    own = [seed for seed in seeds if seed in runs.finished]
    if len(own) < min(2, len(seeds)):
        notes.append(f"{runs.name} is not on the frontier: {len(own)} finished runs with seeds of {study.base.name}")
        return None
    if len(own) < len(seeds):
        notes.append(f"{runs.name}: its points on the frontier are means of {len(own)} of {len(seeds)} seeds")
    chosen = [runs.finished[seed] for seed in own]
    common = min(map(len, chosen))
    log_time = np.log([[row.time for row in run[:common]] for run in chosen])
    times = np.exp(log_time.mean(axis=0))
    keep = thinned(times)
    rows = tuple(chosen[0][k] for k in keep)
    metric = np.array([[run[k].metric for k in keep] for run in chosen])
    names = [
        next((b.label for b in study.budgets if is_at(row, b)), plain_label(row.step, float(times[k])))
        for row, k in zip(rows, keep, strict=True)
    ]
    places = tuple(i for i, seed in enumerate(seeds) if seed in runs.finished)
    return _Points(runs.name, rows, tuple(names), places, log_time[:, keep], metric)


def _box(study: Study, arms: Sequence[_Points]) -> _Box:
    """The corners, see the top of this file; `arms` starts with the baseline."""
    times = [math.log(budget.time) for budget in study.budgets]
    step = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else math.log(2)
    worst = float(arms[0].metric[:, 0].mean()) if study.chance is None else study.chance
    bound = -math.inf
    if study.minimize:
        loss = all(row.metric <= 0 for run in study.base.finished.values() for row in run)
        bound = 0.0 if loss else bound
    elif study.base.is_score():
        bound = 1.0
    return _Box(times[0], times[-1] + step, worst, max(bound, *(float(arm.mean[1].max()) for arm in arms)))


def _resamples(n: int) -> Array:
    """How often each seed is in each resample, shape (draws, n): all n^n of them or `DRAWS`; none for one seed."""
    if n == 1:
        return np.empty((0, 1))
    every = n**n <= DRAWS
    index = (
        np.indices((n,) * n).reshape(n, -1).T if every else np.random.default_rng(SEED).integers(0, n, size=(DRAWS, n))
    )
    return (index[:, :, None] == np.arange(n)).sum(axis=1).astype(np.float64)


def _resampled(arm: _Points, counts: Array) -> tuple[Array, Array]:
    """Mean log time and metric in every resample, shape (draws, points); infinitely bad where it has no seed in it."""
    own = counts[:, list(arm.seeds)]
    total = own.sum(axis=1, keepdims=True)
    there = total > 0
    share = own / np.where(there, total, 1.0)
    # Seed by seed and not as a matrix product, so that equal runs have equal means, to the bit, in every column.
    log_time, metric = (
        sum((share[:, [s]] * values[s] for s in range(len(values))), np.zeros((len(counts), 1)))
        for values in (arm.log_time, arm.metric)
    )
    return np.where(there, log_time, np.inf), np.where(there, metric, -np.inf)


def _split(values: NDArray[np.bool_], arms: Sequence[_Points]) -> list[NDArray[np.bool_]]:
    """`values` of all points along the last axis, by arm."""
    return np.split(values, np.cumsum([len(arm.rows) for arm in arms])[:-1], axis=-1)


def _stability(
    arms: Sequence[_Points], means: Sequence[tuple[Array, Array]], epsilon: float
) -> list[tuple[float | None, list[float | None]]]:
    """Per arm: the share of resamples with any of its points on the frontier, and that of each point."""
    places = np.stack([np.concatenate(axis, axis=-1) for axis in zip(*means, strict=True)], axis=-1)
    best = non_dominated(places, maximize=[1], epsilon=[0.0, epsilon])
    return [
        (float(np.mean(own.any(axis=-1))), [float(share) for share in own.mean(axis=0)]) for own in _split(best, arms)
    ]


def _interval(study: Study, box: _Box, mean: tuple[Array, Array]) -> tuple[float, float]:
    """Percentile interval of the hypervolume of one arm, over the resamples in which it has a seed."""
    log_time, metric = mean
    there = np.isfinite(metric[:, 0])
    volumes = hypervolume(box.costs(log_time[there], metric[there]), WORST)
    low = np.quantile(volumes, study.alpha / 2, method="lower")
    high = np.quantile(volumes, 1 - study.alpha / 2, method="higher")
    return float(low), float(high)


def _records(arm: _Points, best: NDArray[np.bool_], shares: Sequence[float | None], sign: float) -> list[FrontierPoint]:
    return [
        FrontierPoint(arm.name, row.point, label, math.exp(x), sign * float(y), bool(on), share)
        for row, label, x, y, on, share in zip(arm.rows, arm.labels, *arm.mean, best, shares, strict=True)
    ]


def _few(n: int) -> str:
    if n == 1:
        return "n = 1: the frontier is that of one seed, without probabilities"
    distinct = math.comb(2 * n - 1, n)
    return f"n = {n}: the frontier's probabilities are coarse, from {distinct} distinct resamples of the seeds"
