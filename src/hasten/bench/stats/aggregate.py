"""Several studies in one number: robust means, probabilities of improvement, performance profiles, and their intervals.

A score per study and seed goes in: a log speedup, a gain, a quality in [0, 1]. Mean and median are the two poor
choices (one study decides the mean; the median ignores half of the studies); the interquartile mean lies between
them. Intervals resample seeds within each study, and studies too where there are enough to stand for others: with
fewer, the interval is about these studies and no others (arXiv 2108.13264).

**Profiles** compare times to a target over workloads. r[s, w] = t[s, w] / min_s t[s, w] is the time of s in units of
the fastest; infinite where it never arrives. A profile is the share of workloads with r <= tau, its score the area
below it from 1 to r_max, as a share:

    B_s = 1 / (r_max - 1) * integral_1^{r_max} rho_s(tau) dtau  =  mean_w max(0, (r_max - r[s, w]) / (r_max - 1))

The best time depends on who is entered, so ratios to a fixed reference are the other choice: their scores never move.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..._core.checks import check, fraction, whole

__all__ = ["aggregate_interval", "geometric_mean_speedup", "iqm", "performance_profile", "performance_ratios",
           "probability_of_improvement", "profile_score"]  # fmt: skip

Array = NDArray[np.float64]

MIN_STUDIES = 5  # fewer cannot stand for others by being resampled
R_MAX = 4.0  # of AlgoPerf: a submission four times slower than the best counts as one that never arrives


def _numbers(call: str, name: str, values: ArrayLike) -> Array:
    array = np.asarray(values, dtype=np.float64)
    check(array.ndim >= 1 and array.size > 0, call, f"at least one number in {name}", array, "Pass one per run.")
    check(not np.isnan(array).any(), call, f"no NaN in {name}", array, "A run that failed is a miss: decide its score.")
    return array


def iqm(scores: ArrayLike) -> Array:
    """The interquartile mean: the mean without the lowest and the highest quarter, each rounded down to whole numbers.

    Use it for scores of several studies and seeds, pooled. Below four scores it is the plain mean.

    Args:
        scores: shape (..., scores); leading axes are draws of `aggregate_interval`.

    Returns:
        Shape (...).

    >>> float(iqm([1.0, 2.0, 3.0, 100.0]))
    2.5
    """
    ordered = np.sort(_numbers("iqm", "scores", scores), axis=-1)
    n = ordered.shape[-1]
    return np.asarray(ordered[..., n // 4 : n - n // 4].mean(axis=-1))


def probability_of_improvement(
    arm: Sequence[ArrayLike], baseline: Sequence[ArrayLike], *, paired: bool = False
) -> float:
    """P(a run of the arm beats one of the baseline), averaged over studies with equal weight; a tie counts half.

    Unpaired it is Mann-Whitney's U / (n m) in each study. Paired, only runs with the same seed meet: use that where
    seeds are shared, it is the probability that a user with that seed would have seen an improvement. 0.5 = none.
    It says how often, not how much.

    Args:
        arm: per study, the scores of its runs, shape (n,); higher is better.
        baseline: per study, those of the baseline, shape (m,); paired: the same seeds in the same order.
        paired: compare run by run.

    >>> probability_of_improvement([[2.0, 3.0]], [[1.0, 2.0]])
    0.875
    >>> probability_of_improvement([[2.0, 3.0]], [[1.0, 3.0]], paired=True)
    0.75
    """
    call = "probability_of_improvement"
    check(len(arm) == len(baseline) > 0, call, "the same studies for both", (len(arm), len(baseline)),
          "Pass one list of scores per study.")  # fmt: skip
    shares = []
    for own, other in zip(arm, baseline, strict=True):
        x, y = _numbers(call, "arm", own), _numbers(call, "baseline", other)
        check(x.ndim == y.ndim == 1, call, "a list of scores per study", x, "Pass [scores] for a single study.")
        check(not paired or len(x) == len(y), call, "pairs of runs", (len(x), len(y)), "Keep the seeds that both have.")
        x = x if paired else x[:, None]
        shares.append(float(((x > y) + 0.5 * (x == y)).mean()))
    return float(np.mean(shares))


def aggregate_interval(
    scores: Sequence[ArrayLike],
    statistic: Callable[[list[Array]], Array],
    *,
    generator: np.random.Generator,
    alpha: float = 0.05,
    draws: int = 2_000,
    resample_studies: bool | None = None,
) -> tuple[Array, Array]:
    """Percentile bootstrap interval of a statistic of several studies: seeds are resampled within each study.

    Args:
        scores: per study, shape (seeds, ...); what is paired shares a row. Studies may differ in their seeds.
        statistic: from one array per study, each of shape (draws, seeds, ...), to one value per draw, (draws, ...).
        generator: source of the resamples.
        alpha: 1 - confidence.
        draws: number of resamples.
        resample_studies: resample the studies as well, so that the interval speaks of others like them; None = where
            there are at least five. Without it the interval speaks of these studies only.

    Returns:
        (low, high), each of the statistic's shape without its first axis.

    >>> rng = np.random.default_rng(0)
    >>> pooled = lambda studies: iqm(np.concatenate(studies, axis=-1))
    >>> low, high = aggregate_interval([[1.0, 2.0, 3.0], [2.0, 2.5]], pooled, generator=rng)
    >>> float(low), float(high)
    (1.5, 2.8333333333333335)
    """
    call = "aggregate_interval"
    check(len(scores) > 0, call, "at least one study", "none", "Pass one array of scores per study.")
    fraction(call, "alpha", alpha)
    whole(call, "draws", draws, low=1)
    studies = [_numbers(call, "scores", each) for each in scores]
    if resample_studies is None:
        resample_studies = len(studies) >= MIN_STUDIES

    def resampled(study: Array, count: int) -> Array:
        return study[generator.integers(0, len(study), size=(count, len(study)))]

    if resample_studies:
        chosen = generator.integers(0, len(studies), size=(draws, len(studies)))
        values = np.concatenate([statistic([resampled(studies[s], 1) for s in row]) for row in chosen])
    else:
        values = np.asarray(statistic([resampled(study, draws) for study in studies]), dtype=np.float64)
    check(len(values) == draws, call, f"one value of the statistic per draw ({draws})", values,
          "Keep the first axis of its arguments.")  # fmt: skip
    low = np.quantile(values, alpha / 2, axis=0, method="lower")
    high = np.quantile(values, 1 - alpha / 2, axis=0, method="higher")
    return np.asarray(low), np.asarray(high)


def _times(call: str, name: str, times: ArrayLike) -> Array:
    array = _numbers(call, name, times)
    check(bool((array > 0).all()), call, f"times above 0 in {name}", array, "Write inf for a run that never arrives.")
    return array


def performance_ratios(times: ArrayLike, reference: ArrayLike | None = None) -> Array:
    """Times to the target in units of the fastest, or of a fixed reference.

    Args:
        times: shape (arms, workloads), above 0; inf = never reached.
        reference: times, shape (workloads,), finite; None = the fastest arm of each workload. With a reference, ratios
            below 1 are possible, and no ratio depends on who else is entered.

    Returns:
        Shape (arms, workloads); inf where an arm never arrives, also where none does.

    >>> performance_ratios([[10.0, 30.0], [20.0, float("inf")]]).tolist()
    [[1.0, 1.0], [2.0, inf]]
    """
    array = _times("performance_ratios", "times", times)
    check(array.ndim == 2, "performance_ratios", "times of shape (arms, workloads)", array, "One row per arm.")
    best = array.min(axis=0) if reference is None else _times("performance_ratios", "reference", reference)
    fits = best.shape == array.shape[1:] and (reference is None or bool(np.isfinite(best).all()))
    check(fits, "performance_ratios", f"{array.shape[1]} finite reference times", best, "Pass one per workload.")
    return np.where(np.isfinite(array), array / np.where(np.isfinite(best), best, 1.0), np.inf)


def performance_profile(ratios: ArrayLike, tau: ArrayLike) -> Array:
    """The share of workloads that are solved within `tau` times the best time.

    Args:
        ratios: shape (..., workloads), from `performance_ratios`.
        tau: shape (taus,), from 1 up.

    Returns:
        Shape (..., taus): never decreasing, in [0, 1].

    >>> performance_profile([1.0, 2.0, float("inf")], [1.0, 2.0, 4.0]).tolist()
    [0.3333333333333333, 0.6666666666666666, 0.6666666666666666]
    """
    r = _times("performance_profile", "ratios", ratios)
    return np.asarray((r[..., None] <= _numbers("performance_profile", "tau", tau)).mean(axis=-2))


def profile_score(ratios: ArrayLike, *, r_max: float = R_MAX) -> Array:
    """The area under the profile from 1 to `r_max`, as a share: the mean of max(0, (r_max - r) / (r_max - 1)).

    Exact, without integrating numerically. A ratio below 1 (against a fixed reference) counts as 1.

    Args:
        ratios: shape (..., workloads), from `performance_ratios`.
        r_max: above 1, where slower is as bad as never.

    Returns:
        Shape (...), in [0, 1].

    >>> round(float(profile_score([1.0, 2.0, float("inf")])), 4)
    0.5556
    """
    check(math.isfinite(r_max) and r_max > 1, "profile_score", "r_max above 1", r_max, "The usual value is 4.")
    r = _times("profile_score", "ratios", ratios)
    return np.asarray((np.clip(r_max - r, 0.0, r_max - 1) / (r_max - 1)).mean(axis=-1))


def geometric_mean_speedup(times: ArrayLike, reference: ArrayLike) -> Array:
    """exp(mean over workloads of log(reference / time)): above 1 = faster than the reference.

    A workload on which the arm never arrives makes it 0: the mean of the others would favour an arm that misses the
    hard ones. State the number of misses beside it.

    Args:
        times: shape (..., workloads), above 0; inf = never reached.
        reference: shape (workloads,), finite.

    Returns:
        Shape (...).

    >>> round(float(geometric_mean_speedup([10.0, 20.0], [20.0, 160.0])), 12)
    4.0
    """
    call = "geometric_mean_speedup"
    array, fixed = _times(call, "times", times), _times(call, "reference", reference)
    check(fixed.shape == array.shape[-1:] and bool(np.isfinite(fixed).all()), call,
          f"{array.shape[-1]} finite reference times", fixed, "Pass one per workload.")  # fmt: skip
    return np.asarray(np.exp((np.log(fixed) - np.log(array)).mean(axis=-1)))
