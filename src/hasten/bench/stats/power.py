"""What a study can find, before it is run: the smallest detectable effect, and the seeds it would take to find one.

    minimum detectable effect = (t_{1-alpha'/2, n-1} + t_{power, n-1}) * sd / sqrt(n)

`sd` is that of the paired differences, from a pilot (three seeds give a rough one) or from a stored study. alpha' is
alpha for one question alone, and alpha / m for the first step of Holm's procedure over a family of m questions: a
study with several arms, budgets and targets detects only what passes that step. For speedups the same holds for log S.

The formula is the usual approximation, which takes the estimated sd for the true one. Simulated, its 80 % power is
77 % at n = 3 for one question and 68 % in a family of 14; 80 and 77 % at n = 10. An effect of twice the size is found
in at least 98 % of studies at every n from 3 on and every family up to 60 questions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..._core.checks import check, fraction, positive
from .intervals import t_quantile

__all__ = ["Plan", "binomial_noise", "minimum_detectable", "pilot_sd", "plan", "seeds_needed"]


def minimum_detectable(sd: float, n: int, *, alpha: float = 0.05, power: float = 0.8, questions: int = 1) -> float:
    """Smallest true mean difference found with probability `power` by a paired t test on `n` seeds.

    Args:
        sd: standard deviation of the paired differences, any unit; 0 gives 0.
        n: number of seed pairs, at least 2.
        alpha: error rate of the whole family, two-sided.
        power: wanted probability to find the effect.
        questions: size m of the family; 1 = a single question.

    Returns:
        The effect, in the unit of `sd`.

    >>> [round(minimum_detectable(0.8, n), 1) for n in (3, 5, 10)]
    [2.5, 1.3, 0.8]
    """
    check(n >= 2, "minimum_detectable", "n >= 2 seeds", n, "One pair has no spread.")
    check(sd >= 0, "minimum_detectable", "sd >= 0", sd, "Pass the sd of the paired differences.")
    check(questions >= 1, "minimum_detectable", "questions >= 1", questions, "Pass the size of the family.")
    fraction("minimum_detectable", "alpha", alpha)
    fraction("minimum_detectable", "power", power)
    quantiles = t_quantile(1 - alpha / questions / 2, n - 1) + t_quantile(power, n - 1)
    return float(quantiles) * sd / math.sqrt(n)


def seeds_needed(
    effect: float, sd: float, *, alpha: float = 0.05, power: float = 0.8, questions: int = 1, most: int = 1000
) -> int | None:
    """Fewest seeds (at least 3) whose minimum detectable effect is at most `effect`; None above `most`.

    >>> seeds_needed(1.3, 0.8)
    6
    """
    positive("seeds_needed", "effect", effect)
    for n in range(3, most + 1):
        if minimum_detectable(sd, n, alpha=alpha, power=power, questions=questions) <= effect:
            return n
    return None


def pilot_sd(differences: ArrayLike) -> float:
    """Standard deviation of pilot differences. From 3 seeds the true sd lies within 0.52 to 6.3 times it (95 %).

    >>> pilot_sd([1.0, 2.0, 3.0])
    1.0
    """
    d = np.asarray(differences, dtype=np.float64)
    check(d.ndim == 1 and len(d) >= 2, "pilot_sd", "at least two differences", d, "Run a pilot of three seeds.")
    return float(d.std(ddof=1))


def binomial_noise(accuracy: float, examples: int) -> float:
    """Standard error of an accuracy measured on `examples` test examples: sqrt(p (1 - p) / N).

    An upper bound of what the test set adds to a paired difference: there only the examples on which the two models
    disagree count.

    >>> round(binomial_noise(0.85, 4096), 4)
    0.0056
    """
    fraction("binomial_noise", "accuracy", accuracy)
    check(examples >= 1, "binomial_noise", "examples >= 1", examples, "Pass the size of the test set.")
    return math.sqrt(accuracy * (1 - accuracy) / examples)


@dataclass(frozen=True)
class Plan:
    """What a planned study can detect; `text()` is printed before it starts."""

    seeds: int
    questions: int
    alpha: float
    metric_alone: float  # smallest gain found in a single question, metric units
    metric_family: float  # the same for one question of the family
    speedup_alone: float | None  # smallest S > 1, a ratio
    speedup_family: float | None

    def text(self) -> str:
        """One or two sentences."""
        found = [f"a gain of {self.metric_family:.3g} (asked alone: {self.metric_alone:.3g})"]
        if self.speedup_family is not None and self.speedup_alone is not None:
            found.append(f"a speedup of {self.speedup_family:.3g} (asked alone: {self.speedup_alone:.3g})")
        asked = f"{self.seeds} seeds, {self.questions} questions: with 80 % power they detect {' and '.join(found)}."
        return asked if self.seeds >= 5 else f"{asked} Five seeds detect far smaller effects."


def plan(
    *,
    seeds: int,
    arms: int,
    budgets: int,
    targets: int,
    sd_metric: float,
    sd_log_speedup: float | None = None,
    alpha: float = 0.05,
) -> Plan:
    """The power of a study of `arms` (without the baseline) x (`budgets` + `targets`) questions.

    Args:
        seeds: seed pairs per arm, at least 2.
        arms: number of arms besides the baseline.
        budgets: number of budgets.
        targets: number of target qualities.
        sd_metric: sd of paired metric differences, from a pilot or a stored study, metric units.
        sd_log_speedup: sd of per-seed log S; None = unknown, the speedup lines are left out.
        alpha: error rate of the family.

    >>> print(plan(seeds=5, arms=2, budgets=4, targets=3, sd_metric=0.008).text())
    5 seeds, 14 questions: with 80 % power they detect a gain of 0.0253 (asked alone: 0.0133).
    """
    questions = arms * (budgets + targets)
    check(questions >= 1, "plan", "at least one question", questions, "Add an arm besides the baseline.")

    def both(sd: float) -> tuple[float, float]:
        alone = minimum_detectable(sd, seeds, alpha=alpha)
        return alone, minimum_detectable(sd, seeds, alpha=alpha, questions=questions)

    metric = both(sd_metric)
    log_speedup = (None, None) if sd_log_speedup is None else tuple(math.exp(x) for x in both(sd_log_speedup))
    return Plan(seeds, questions, alpha, *metric, *log_speedup)
