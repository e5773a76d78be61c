"""Controls: simulated studies with a known truth, decided by the same code as real ones.

Runs follow measured curves: accuracy rises with the logarithm of training time towards a plateau; every seed has an
effect that both arms share (initialisation, data order), every run its own, every point its own; clocks drift with
the machine (shared by a seed's runs) and jitter. The default sizes are those of four-point curves on small images.

`benchmarks/controls.py` runs these with many repetitions, the tests with few.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from . import curves
from .curves import Curves
from .intervals import Array, bootstrap_percentile, paired_t
from .power import minimum_detectable
from .questions import FRACTIONS
from .verdicts import ask, family, verdicts

__all__ = ["Law", "Rate", "bootstrap_coverage", "coverage", "decide", "draw", "false_verdicts", "planted"]


@dataclass(frozen=True)
class Law:
    """How runs vary. metric = plateau - fall / length; sd's in metric units, jitters in log time.

    Args:
        lengths: training lengths of the points, in units of the first arm's time.
        plateau: metric of an infinite run.
        fall: distance from the plateau at length 1.
        sd_seed: shared by the runs of a seed.
        sd_run: of each run, over all its points.
        sd_point: of each point.
        drift: of the machine, shared by the runs of a seed.
        jitter_run: of each run's clock.
        jitter_point: of each interval between points.
        examples: test examples; the metric is rounded to 1 / examples. 0 = continuous.
    """

    lengths: tuple[float, ...] = (3.0, 7.0, 15.0, 31.0)
    plateau: float = 0.83
    fall: float = 0.33
    sd_seed: float = 0.006
    sd_run: float = 0.004
    sd_point: float = 0.006
    drift: float = 0.15
    jitter_run: float = 0.05
    jitter_point: float = 0.02
    examples: int = 0

    def mean(self) -> Array:
        """Expected metric at the points."""
        return self.plateau - self.fall / np.asarray(self.lengths)


@dataclass(frozen=True)
class Rate:
    """A simulated share, its number of trials, and what they leave uncertain."""

    share: float
    trials: int

    def interval(self, z: float = 1.96) -> tuple[float, float]:
        """Wilson's interval of the share; 1.96 = 95 %.

        >>> [round(x, 3) for x in Rate(1.0, 100).interval()]
        [0.963, 1.0]
        """
        p, n = self.share, self.trials
        centre = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * math.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2) / (1 + z * z / n)
        return centre - half, min(1.0, centre + half)


def draw(
    law: Law,
    arms: Sequence[tuple[float, float]],
    *,
    studies: int,
    seeds: int,
    generator: np.random.Generator,
) -> list[tuple[Array, Array]]:
    """Log times and raw metrics of `studies` studies, one pair of arrays per arm.

    Args:
        law: how runs vary.
        arms: (gain, speedup) of each arm: its metric is `gain` higher, its clock `speedup` times faster.
        studies: number of studies.
        seeds: seed pairs per study.
        generator: source of all draws.

    Returns:
        Per arm (log_time, metric), each of shape (studies, seeds, points).
    """
    one, points = (studies, seeds, 1), (studies, seeds, len(law.lengths))
    shared = generator.normal(0, law.sd_seed, one)
    pace = np.log(law.lengths) + generator.normal(0, law.drift, one)
    result = []
    for gain, speedup in arms:
        noise = generator.normal(0, law.sd_run, one) + generator.normal(0, law.sd_point, points)
        metric = law.mean() + gain + shared + noise
        if law.examples:
            metric = np.round(metric * law.examples) / law.examples
        clock = generator.normal(0, law.jitter_run, one) + generator.normal(0, law.jitter_point, points)
        result.append((pace - math.log(speedup) + clock, metric))
    return result


def _curves(log_time: Array, metric: Array) -> Curves:
    return Curves(log_time, np.maximum.accumulate(metric, axis=-1))


def _share(hits: ArrayLike) -> Rate:
    values = np.asarray(hits, dtype=np.float64)
    return Rate(float(values.mean()), values.size)


def coverage(
    kind: str,
    *,
    seeds: int,
    studies: int,
    generator: np.random.Generator,
    law: Law | None = None,
    gain: float = 0.01,
    speedup: float = 1.3,
    quality: float | None = None,
) -> dict[str, Rate]:
    """Does the nominal 95 % paired t interval hold the truth in 95 % of studies?

    Args:
        kind: "accuracy" (gain at equal steps), "budget" (gain at equal time of an arm that is a copy of the
            baseline), "target" (log S of an arm that is `speedup` times faster at the same quality), or "own target"
            (the same at 90 % of the gain of the simulated baseline itself, where many studies are censored).
        seeds: seed pairs per study.
        studies: number of simulated studies.
        generator: source of all draws.
        law: how runs vary.
        gain: planted gain, for "accuracy".
        speedup: planted speedup, for "target".
        quality: the target given beforehand; None = half-way between first and last point.

    Returns:
        covered, above (the whole interval above the truth), below, answered (share of questions not censored); the
        first three among the answered ones, with the trials of one question per study.
    """
    law = law or Law()
    arms = {"accuracy": (gain, 1.0), "budget": (0.0, 1.0)}.get(kind, (0.0, speedup))
    base, arm = draw(law, [(0.0, 1.0), arms], studies=studies, seeds=seeds, generator=generator)
    one, two = _curves(*base), _curves(*arm)
    if kind == "accuracy":
        lower = upper = arm[1][..., 1:2] - base[1][..., 1:2]
        truth = gain
    elif kind == "budget":
        bounds = curves.gain(one, two, curves.equal_times(one, two, [1]))
        lower, upper, truth = bounds.lower, bounds.upper, 0.0
    else:
        if kind == "own target":
            first, last = one.best[..., 0].mean(axis=1), one.best[..., -1].mean(axis=1)
            q = curves.qualities_of_gain(first, last, [0.9])[:, None, :]
        else:
            q = np.array([float(law.mean()[[0, -1]].mean()) if quality is None else quality])
        bounds = curves.log_speedup(one, two, q)
        lower, upper, truth = bounds.lower, bounds.upper, math.log(speedup)
    answered = (lower == upper).all(axis=1)[:, 0]
    stats = paired_t(np.moveaxis(lower[answered], 1, 0))
    above, below = stats.low > truth, stats.high < truth
    return {"covered": _share(~(above | below)), "above": _share(above), "below": _share(below),
            "answered": _share(answered)}  # fmt: skip


def bootstrap_coverage(*, seeds: int, studies: int, generator: np.random.Generator, draws: int = 1000) -> Rate:
    """Coverage of the nominal 95 % percentile bootstrap of a mean of `seeds` normal differences."""
    hits = []
    for _ in range(studies):
        sample = generator.normal(size=seeds)
        low, high = bootstrap_percentile(lambda i, x=sample: x[i].mean(axis=1), seeds, generator=generator, draws=draws)
        hits.append(low <= 0 <= high)
    return _share(hits)


def decide(study: Sequence[tuple[Array, Array]], *, alpha: float = 0.05, resolution: float = 0.0) -> list[list[str]]:
    """The verdicts of one study: per arm after the baseline, first its budgets, then its targets.

    Args:
        study: (log_time, metric) per arm, each of shape (seeds, points), the baseline first.
        alpha: error rate of the family.
        resolution: the step in which the metric counts.
    """
    base, *others = [_curves(*arm) for arm in study]
    qualities = curves.qualities_of_gain(base.best[:, 0].mean(), base.best[:, -1].mean(), FRACTIONS)
    points = range(base.best.shape[-1])
    asked = [ask(base, arm, points=points, qualities=qualities, alpha=alpha, resolution=resolution) for arm in others]
    adjusted = family([readings.p for pair in asked for readings in pair])
    words = [verdicts(r, p, alpha=alpha) for r, p in zip((r for pair in asked for r in pair), adjusted, strict=True)]
    return [words[i] + words[i + 1] for i in range(0, len(words), 2)]


def _each(drawn: Sequence[tuple[Array, Array]], study: int) -> list[tuple[Array, Array]]:
    return [(log_time[study], metric[study]) for log_time, metric in drawn]


def false_verdicts(
    *, arms: int, seeds: int, studies: int, generator: np.random.Generator, law: Law | None = None
) -> dict[str, Rate]:
    """A/A studies: `arms` copies of the baseline with runs of their own. How often is anything claimed at all?

    Returns:
        pays, costs: the share of studies with at least one such verdict, at any arm, budget or target.
    """
    law = law or Law()
    resolution = 1 / law.examples if law.examples else 0.0
    drawn = draw(law, [(0.0, 1.0)] * (arms + 1), studies=studies, seeds=seeds, generator=generator)
    words = [{w for arm in decide(_each(drawn, i), resolution=resolution) for w in arm} for i in range(studies)]
    return {name: _share([name in found for found in words]) for name in ("pays", "costs")}


def planted(
    kind: str,
    *,
    arms: int,
    seeds: int,
    studies: int,
    generator: np.random.Generator,
    law: Law | None = None,
    times: float = 2.0,
    pilot: int = 2000,
) -> tuple[float, Rate]:
    """Is an effect of `times` the printed minimum detectable size found? One arm has it, the others are copies.

    The size comes from the family-adjusted minimum detectable effect of the question with the largest sd, that sd
    from `pilot` simulated pairs.

    Args:
        kind: "budget": a metric gain, to be found at the second budget; "target": a speedup, to be found at 50 % of
            the gain.
        arms: arms besides the baseline.
        seeds: seed pairs per study.
        studies: number of simulated studies.
        generator: source of all draws.
        law: how runs vary.
        times: planted size in minimum detectable effects.
        pilot: simulated pairs for the sd.

    Returns:
        The planted effect (metric units or log S) and the share of studies that say "pays" at that question.
    """
    law = law or Law()
    points = len(law.lengths)
    questions = arms * (points + len(FRACTIONS))
    base, arm = (_curves(*side) for side in draw(law, [(0.0, 1.0)] * 2, studies=1, seeds=pilot, generator=generator))
    if kind == "budget":
        column = 1
        sample = curves.gain(base, arm, curves.equal_times(base, arm, [column])).lower
    else:
        column = points
        quality = curves.qualities_of_gain(base.best[..., 0].mean(), base.best[..., -1].mean(), [FRACTIONS[0]])
        sample = curves.log_speedup(base, arm, quality).lower
    effect = times * minimum_detectable(float(sample.std(ddof=1)), seeds, questions=questions)
    special = (effect, 1.0) if kind == "budget" else (0.0, math.exp(effect))
    drawn = draw(law, [(0.0, 1.0), special, *[(0.0, 1.0)] * (arms - 1)], studies=studies, seeds=seeds,
                 generator=generator)  # fmt: skip
    hits = [decide(_each(drawn, i))[0][column] == "pays" for i in range(studies)]
    return effect, _share(hits)
