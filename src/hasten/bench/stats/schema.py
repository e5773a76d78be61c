"""What `analyse` returns: frozen records, and `to_json` for the report page and for `hasten compare`.

Conventions, also of the JSON:
- metric levels (curves, qualities) are in the user's own sign and unit, also when the workload minimizes;
- gains are improvements: above 0 the arm is better, in metric units, also when the workload minimizes;
- speedups are t_baseline / t_arm: above 1 the arm is faster;
- intervals are for one question alone, `p_holm` and the verdict account for the whole family: an interval may exclude
  "no effect" where the verdict is "not proven";
- None is unknown, or an open end of an interval. There is no NaN and no infinity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from ..._core.checks import check, near
from .table import Seed

__all__ = ["Analysis", "Arm", "Budget", "CurvePoint", "Effect", "Frontier", "FrontierArm", "FrontierPoint",
           "Interaction", "MeanCurve", "Overall", "RunCurve", "SpeedupCurve", "Target", "plain"]  # fmt: skip

SCHEMA = 2


@dataclass(frozen=True)
class Budget:
    """A training length at which arms are compared: one of the baseline's points."""

    index: int
    point: int
    label: str
    step: float | None
    time: float  # geometric mean of the baseline's times there, seconds


@dataclass(frozen=True)
class Target:
    """A quality to be reached; `fraction` of the baseline's final gain, None when given by the user."""

    index: int
    label: str
    quality: float
    fraction: float | None


@dataclass(frozen=True)
class CurvePoint:
    """One point of an arm's mean curve, over its finished seeds."""

    point: int
    step: float | None
    time: float  # geometric mean, seconds
    metric: float
    low: float | None  # t interval of the mean
    high: float | None
    minimum: float
    maximum: float
    n: int


@dataclass(frozen=True)
class RunCurve:
    """The raw points of one run."""

    seed: Seed
    time: tuple[float, ...]
    metric: tuple[float, ...]


@dataclass(frozen=True)
class MeanCurve:
    """Speedup read from the mean curves, with a percentile bootstrap interval: descriptive, too narrow below 20 seeds.

    The number to show where single seeds are censored (at 100 % of the gain half of the baseline's are).
    """

    speedup: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Effect:
    """One question and its answer.

    Args:
        kind: "budget" (gain at equal training time), "target" (speedup at equal quality), "accuracy" (gain at equal
            steps).
        index: position in `Analysis.budgets` or `Analysis.targets`.
        label: its label.
        verdict: pays, costs, not proven, tie; for accuracy better, worse, not proven, tie.
        reason: why there is no verdict, or what to keep in mind; "" = nothing.
        n: seed pairs.
        value: gain in metric units, or S; a bound where `bound` says so.
        low: end of the interval for this question alone.
        high: the other end.
        bound: "" exact, ">=" the value is a lower bound, "<=" an upper bound, "?" unknown.
        minimum: smallest value of a seed; the band to show beside the interval below five seeds.
        maximum: largest.
        per_seed: one value per seed of the arm, None where censored.
        p: two-sided paired t, None without a verdict.
        p_holm: adjusted for the family.
        p_sign_flip: exact permutation test.
        p_sign_flip_smallest: the smallest value that test can give at this n.
        p_wilcoxon: signed-rank test, from six seeds on.
        no_loss: gains only: is a loss larger than the margin excluded (Holm over the family)?
        mde: smallest effect found with 80 % power if asked alone; for targets a speedup above 1.
        mde_family: the same at the level of the family's first step.
        sensitivity: targets only: the factor by which S changes if the metric is off by the margin.
        mean_curve: targets only.
    """

    kind: str
    index: int
    label: str
    verdict: str
    reason: str
    n: int
    value: float | None
    low: float | None
    high: float | None
    bound: str
    minimum: float | None
    maximum: float | None
    per_seed: tuple[float | None, ...]
    p: float | None
    p_holm: float | None
    p_sign_flip: float | None
    p_sign_flip_smallest: float | None
    p_wilcoxon: float | None
    no_loss: bool | None
    mde: float | None
    mde_family: float | None
    sensitivity: float | None = None
    mean_curve: MeanCurve | None = None


@dataclass(frozen=True)
class SpeedupCurve:
    """Speedup against target quality, from easy to hard; intervals are pointwise and descriptive.

    `speedup` is None where a seed is censored; there `at_least` or `at_most` may hold a bound, the geometric mean of
    the seeds' bounds.
    """

    quality: tuple[float, ...]
    speedup: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    at_least: tuple[float | None, ...]
    at_most: tuple[float | None, ...]
    censored: tuple[int, ...]


@dataclass(frozen=True)
class Overall:
    """Geometric-mean speedup over the quality range that every run of both arms covers."""

    speedup: float
    low: float | None
    high: float | None
    quality_low: float  # the easy end
    quality_high: float  # the hard end
    n: int


@dataclass(frozen=True)
class Arm:
    """Everything about one arm; the effects are empty for the baseline.

    `plain` is False where "pays" must not be shown without the sentence: inference got dearer, or runs failed.
    """

    name: str
    verdict: str  # baseline, pays, costs, mixed, tie, not proven
    plain: bool
    sentence: str
    seeds: tuple[Seed, ...]  # paired with the baseline
    failed: tuple[Seed, ...]
    inference_ratio: float | None
    curve: tuple[CurvePoint, ...]
    runs: tuple[RunCurve, ...]
    budgets: tuple[Effect, ...] = ()
    targets: tuple[Effect, ...] = ()
    accuracy: tuple[Effect, ...] = ()
    speedup_curve: SpeedupCurve | None = None
    overall: Overall | None = None


@dataclass(frozen=True)
class FrontierPoint:
    """One point of an arm's mean curve beside the points of all arms.

    `probability` is the share of resamples of the seeds in which the point is non-dominated: how stable its place
    is. It is no error rate, and no verdict rests on it. None with a single seed.
    """

    arm: str
    point: int
    label: str
    time: float  # geometric mean, seconds
    metric: float  # mean, in the user's own sign
    on_frontier: bool  # of the means
    probability: float | None


@dataclass(frozen=True)
class FrontierArm:
    """What one arm adds to the frontier.

    Args:
        arm: its name.
        probability: share of resamples in which any of its points is on the frontier; None with a single seed.
        hypervolume: of its own points alone, in [0, 1]; other arms do not enter.
        low: percentile bootstrap over seeds, too narrow below 20; None with a single seed.
        high: the other end.
        contribution: what the hypervolume of all arms loses without this arm; exactly 0 for an arm that is dominated.
    """

    arm: str
    probability: float | None
    hypervolume: float
    low: float | None
    high: float | None
    contribution: float


@dataclass(frozen=True)
class Frontier:
    """The points that no other point beats in both time and quality, and how sure that is; descriptive.

    Args:
        points: every point of every arm that takes part, the baseline first.
        arms: one record per arm that takes part.
        hypervolume: of all points together, in [0, 1].
        reference_time: the slow end of the box: one step of the budgets' ladder beyond the baseline's last budget.
        reference_metric: its bad end: chance if given, else the baseline's first point; in the user's own sign.
        ideal_time: its fast end, the baseline's first budget; an arm that is faster gets no more for it.
        ideal_metric: its good end: 1 for a score in [0, 1], 0 for a loss, else the best mean of any arm.
        epsilon: metric units; a point is dominated only by what beats it by this much.
        seeds: the baseline's seeds, which are resampled for all arms alike.
        draws: number of resamples: all n^n where these are few, else random ones; 0 with a single seed.
    """

    points: tuple[FrontierPoint, ...]
    arms: tuple[FrontierArm, ...]
    hypervolume: float
    reference_time: float
    reference_metric: float
    ideal_time: float
    ideal_metric: float
    epsilon: float
    seeds: tuple[Seed, ...]
    draws: int


@dataclass(frozen=True)
class Interaction:
    """Do methods add up? One reading of one cell of a design; descriptive: no verdict, outside every family.

    Args:
        kind: "pair": what both methods together do beyond the sum of what each does alone; "left_out": what a method
            does inside the recipe, the recipe against the recipe without it.
        arm: the arm with both methods, or with the full recipe.
        parts: "pair": the arms with one method each; "left_out": the arm that lacks the method.
        method: "left_out": the method; "pair": "".
        axis: "budget" (gain at equal time, metric units, 0 = they add up) or "target" (speedup, a factor, 1 = the
            speedups multiply).
        index: position in `Analysis.budgets` or `Analysis.targets`.
        label: its label.
        value: None where nothing is known; a bound where `bound` says so.
        low: end of the paired t interval over the common seeds, for this reading alone; None for a bound.
        high: the other end.
        bound: "" exact, ">=" the value is a lower bound, "<=" an upper bound, "?" unknown.
        n: seeds that all arms of the cell share.
        p: two-sided, not corrected for the number of readings; None where it is not exact.
        reason: which arm leaves it open, or what to keep in mind; "" = nothing.
    """

    kind: str
    arm: str
    parts: tuple[str, ...]
    method: str
    axis: str
    index: int
    label: str
    value: float | None
    low: float | None
    high: float | None
    bound: str
    n: int
    p: float | None
    reason: str


@dataclass(frozen=True)
class Analysis:
    """The result of `analyse`."""

    version: int
    workload: str
    baseline: str
    minimize: bool
    alpha: float
    margin: float | None  # of "no loss", metric units; None with a single seed
    margin_source: str
    questions: int  # size of the family of budgets and targets
    accuracy_questions: int  # size of the second family
    budgets: tuple[Budget, ...]
    targets: tuple[Target, ...]
    arms: tuple[Arm, ...]  # the baseline first
    ties: tuple[tuple[tuple[str, ...], ...], ...]  # per budget, best group first, at equal steps
    frontier: Frontier | None  # None in reports of version 1
    interactions: tuple[Interaction, ...]  # empty without a design, or where the methods of the arms are not known
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain data: dicts, lists, strings, finite numbers, booleans and None."""
        return plain(self)

    def arm(self, name: str) -> Arm:
        """The arm of that name."""
        found = {arm.name: arm for arm in self.arms}
        check(name in found, "Analysis.arm", "an arm of the study", name, near(name, found))
        return found[name]


def plain(value: Any) -> Any:
    """`value` as plain data for JSON; a number that is not finite becomes None.

    >>> plain((1.0, float("inf")))
    [1.0, None]
    """
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value
