"""Intervals and tests on paired differences: one number per seed, the two runs of a seed share what they can share.

    d_i = arm_i - baseline_i,   i = 1..n seeds;    interval  mean(d) +- t_{1-alpha/2, n-1} * sd(d) / sqrt(n)

The default is the paired t interval: simulated with normal differences, a nominal 95 % interval covers 95 % at
n = 3, 5, 10 and 20. The percentile bootstrap of a mean covers 73, 84, 89 and 93 % there, and has only 10 distinct
resamples at n = 3: it is used for quantities read from a mean curve, where there is no t interval, and labelled.
The sign-flip permutation test assumes only symmetry but cannot go below 2 / 2^n: .25 at n = 3, .0625 at n = 5.
All three are checked by simulation in the tests and, with more repetitions, in `benchmarks/controls.py`.

Two degenerate cases decide many real comparisons and are handled here, once:
- Every difference is 0: the runs are identical, a tie (p = 1).
- The differences are equal but not 0: an exact effect (p = 0, an interval of width 0). With times this happens only
  when it is true. With a metric counted on few test examples it happens by luck, so metric differences pass the
  metric's `resolution`, and the sd is never taken below that of two rounding errors, resolution / sqrt(6).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..._core.checks import check, fraction, missing_extra

__all__ = ["Paired", "Permutation", "bootstrap_percentile", "no_loss_p", "paired_t", "resolution_of", "sign_flip",
           "t_probability", "t_quantile", "wilcoxon"]  # fmt: skip

Array = NDArray[np.float64]

# A sum of n doubles carries a relative error of about 1e-16 n; spread below this share of the size is rounding.
ROUNDING = 1e-12
EXACT_FLIPS = 20  # 2^20 sign patterns are enumerated, more are drawn


@dataclass(frozen=True)
class Paired:
    """Result of `paired_t`; every field has the shape of `differences` without its first axis."""

    n: int
    mean: Array
    sd: Array  # the one used: floored at resolution / sqrt(6)
    error: Array  # sd / sqrt(n)
    low: Array
    high: Array
    p: Array
    tie: NDArray[np.bool_]


@dataclass(frozen=True)
class Permutation:
    """Result of a permutation test: two-sided `p`, and the `smallest` p that `n` differences can give."""

    p: float
    smallest: float
    exact: bool


def _special() -> Any:
    try:
        from scipy import special
    except ImportError:
        raise missing_extra("hasten.bench.stats", "scipy", "bench") from None
    return special


def t_quantile(probability: ArrayLike, degrees: ArrayLike) -> Array:
    """The `probability` quantile of Student's t with `degrees` of freedom.

    >>> round(float(t_quantile(0.975, 2)), 3)
    4.303
    """
    return np.asarray(_special().stdtrit(degrees, probability), dtype=np.float64)


def t_probability(value: ArrayLike, degrees: ArrayLike) -> Array:
    """P(T <= `value`) for Student's t with `degrees` of freedom."""
    return np.asarray(_special().stdtr(degrees, value), dtype=np.float64)


def resolution_of(metric: ArrayLike) -> float:
    """The step of the lattice on which all values of `metric` lie (1/600 for an accuracy on 600 examples), else 0.

    The greatest common divisor of the gaps between the values. Values that need a step below one millionth of
    their range count as continuous (float32 carries 1.2e-7).

    >>> round(resolution_of([0.81, 0.84, 0.90]), 6)
    0.03
    >>> resolution_of([0.8112345, 0.84, 0.9023711, 0.888888])
    0.0
    """
    values = np.unique(np.asarray(metric, dtype=np.float64).ravel())
    if len(values) < 2:
        return 0.0
    noise = 1e-6 * (values[-1] - values[0])
    step = 0.0
    for gap in np.diff(values):
        a, b = max(step, float(gap)), min(step, float(gap))
        while b > noise:
            a, b = b, abs(a - b * round(a / b))
        if a > noise:
            step = a
        if step < 10 * noise:
            return 0.0
    return step


def paired_t(differences: ArrayLike, *, alpha: float = 0.05, resolution: float = 0.0) -> Paired:
    """Paired t interval and two-sided test of mean(`differences`) = 0, over the first axis.

    Use it for metric differences and for per-seed log speedups at every n >= 3. Do not use it when a difference is
    only known as a bound: `curves` says which are.

    Args:
        differences: shape (n, ...), arm minus baseline, one row per seed, finite.
        alpha: 1 - confidence of the interval, in (0, 1).
        resolution: the step in which the metric counts (`resolution_of`); 0 = continuous. The sd used is at least
            resolution / sqrt(6), the sd of a difference of two rounding errors.

    Returns:
        `Paired`. At n = 1 the interval is infinite and p = 1.

    >>> result = paired_t([1.0, 2.0, 3.0])
    >>> [round(float(x), 3) for x in (result.mean, result.low, result.high, result.p)]
    [2.0, -0.484, 4.484, 0.074]
    """
    d = np.asarray(differences, dtype=np.float64)
    check(d.ndim >= 1 and len(d) >= 1, "paired_t", "at least one difference", d, "Pass one difference per seed.")
    check(bool(np.isfinite(d).all()), "paired_t", "finite differences", d, "Leave failed or censored runs out.")
    fraction("paired_t", "alpha", alpha)
    n = len(d)
    mean = d.mean(axis=0)
    size = np.abs(d).max(axis=0)
    tie = size == 0
    if n == 1:
        unknown = np.full_like(mean, np.inf)
        return Paired(1, mean, unknown, unknown, -unknown, unknown, np.ones_like(mean), tie)
    sd = d.std(axis=0, ddof=1)
    sd = np.maximum(np.where(sd <= ROUNDING * size, 0.0, sd), resolution / math.sqrt(6.0))
    sd = np.where(tie, 0.0, sd)
    error = sd / math.sqrt(n)
    half = t_quantile(1 - alpha / 2, n - 1) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(tie, 0.0, np.abs(mean) / error)
    return Paired(n, mean, sd, error, mean - half, mean + half, 2 * t_probability(-ratio, n - 1), tie)


def no_loss_p(result: Paired, margin: float) -> Array:
    """One-sided p of "the true mean is at or below -`margin`": small = a loss larger than the margin is excluded.

    Compare it with alpha / 2: then it agrees with the interval, p <= alpha / 2 exactly where result.low >= -margin.
    The margin is a decision taken before the data are seen. Identical runs give p = 0.

    >>> bool(no_loss_p(paired_t([0.001, -0.001, 0.0]), 0.005) <= 0.025)
    True
    """
    check(margin >= 0, "no_loss_p", "margin >= 0", margin, "Pass the largest loss you would accept, above 0.")
    room = result.mean + margin
    ratio = np.divide(room, result.error, out=np.where(room >= 0, np.inf, -np.inf), where=result.error > 0)
    return t_probability(-ratio, max(result.n - 1, 1))


def sign_flip(differences: ArrayLike, *, generator: np.random.Generator | None = None) -> Permutation:
    """Sign-flip permutation test of a symmetric distribution around 0, two-sided on |mean|.

    p = share of the 2^n sign patterns whose |sum| is at least the observed one. Exact to n = 20; beyond that, 2^20
    patterns are drawn from `generator` and p = (1 + hits) / (1 + draws). Use it beside the t test when the
    differences look far from normal; below n = 6 it cannot reach 0.05.

    >>> sign_flip([1.0, 2.0, 3.0])
    Permutation(p=0.25, smallest=0.25, exact=True)
    """
    d = np.asarray(differences, dtype=np.float64)
    check(d.ndim == 1 and len(d) >= 1, "sign_flip", "a list of differences", d, "Pass one difference per seed.")
    check(bool(np.isfinite(d).all()), "sign_flip", "finite differences", d, "Leave failed or censored runs out.")
    observed = abs(float(d.sum()))
    slack = ROUNDING * max(float(np.abs(d).sum()), 1e-300)
    if len(d) <= EXACT_FLIPS:
        sums = d[:1]  # the sign of the first difference is fixed: patterns come in mirrored pairs
        for value in d[1:]:
            sums = np.concatenate([sums + value, sums - value])
        return Permutation(float(np.mean(np.abs(sums) >= observed - slack)), 2.0 ** (1 - len(d)), True)
    check(generator is not None, "sign_flip", f"a generator for n > {EXACT_FLIPS}", "None",
          "Pass generator=numpy.random.default_rng(seed).")  # fmt: skip
    assert generator is not None
    draws, hits = 2**EXACT_FLIPS, 0
    for _ in range(16):
        signs = generator.integers(0, 2, size=(draws // 16, len(d)), dtype=np.int8) * 2.0 - 1.0
        hits += int(np.sum(np.abs(signs @ d) >= observed - slack))
    return Permutation((1 + hits) / (1 + draws), 1 / (1 + draws), False)


def wilcoxon(differences: ArrayLike, *, generator: np.random.Generator | None = None) -> Permutation | None:
    """Wilcoxon's signed-rank test: `sign_flip` on the signed ranks of the non-zero differences.

    Exact also with tied ranks (mid-ranks). None below six non-zero differences, where it cannot reach 0.05.

    >>> wilcoxon([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    Permutation(p=0.03125, smallest=0.03125, exact=True)
    """
    d = np.asarray(differences, dtype=np.float64)
    d = d[d != 0]
    if len(d) < 6:
        return None
    size = np.abs(d)
    ranks = 1 + 0.5 * ((size[:, None] > size).sum(axis=1) + (size[:, None] >= size).sum(axis=1) - 1)
    return sign_flip(np.sign(d) * ranks, generator=generator)


def bootstrap_percentile(
    statistic: Callable[[NDArray[np.intp]], Array],
    n: int,
    *,
    generator: np.random.Generator,
    alpha: float = 0.05,
    draws: int = 10_000,
) -> tuple[Array, Array]:
    """Percentile bootstrap interval of `statistic` over seeds, the same resample for both arms.

    Use it for what is read from a mean curve, and say so beside the number: below 20 seeds it is too narrow (see the
    top of this file). Infinite draws (a curve that never arrives) are kept and make that end of the interval infinite.

    Args:
        statistic: maps seed indices of shape (draws, n) to one value per draw, shape (draws, ...); vectorised.
        n: number of seeds.
        generator: the source of the resamples.
        alpha: 1 - confidence.
        draws: number of resamples.

    Returns:
        (low, high), each of the statistic's shape without its first axis.
    """
    check(n >= 2, "bootstrap_percentile", "n >= 2 seeds", n, "One seed has no spread to resample.")
    fraction("bootstrap_percentile", "alpha", alpha)
    values = np.asarray(statistic(generator.integers(0, n, size=(draws, n))), dtype=np.float64)
    # "lower"/"higher" pick a drawn value instead of averaging two, which infinities would turn into NaN
    low = np.quantile(values, alpha / 2, axis=0, method="lower")
    high = np.quantile(values, 1 - alpha / 2, axis=0, method="higher")
    return np.asarray(low), np.asarray(high)
