"""What a study asks, fixed before any answer is looked at: which runs count, budgets, targets, margin, pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..._core.checks import check, finite, fraction, near, positive, refuse
from . import curves
from .curves import Bounds, Curves
from .intervals import Array, resolution_of
from .schema import Budget, Target
from .table import Row, Seed, Table
from .verdicts import MIN_SEEDS

__all__ = ["FRACTIONS", "Pair", "Runs", "Study", "is_at", "pair_up", "plain_label", "pose", "resolution", "seed_notes",
           "thinned"]  # fmt: skip

FRACTIONS = (0.5, 0.9, 1.0)  # of the baseline's final gain
MAX_BUDGETS = 6  # more questions cost every one of them power; a dense log is thinned evenly in log time
ACCURACY_MARGIN = 0.002  # 0.2 points of an accuracy in [0, 1]


def is_at(row: Row, budget: Budget) -> bool:
    """Is this evaluation at the budget's step, or where steps are not known at its point index?"""
    return row.step == budget.step if budget.step is not None else row.point == budget.point


@dataclass(frozen=True)
class Runs:
    """The runs of one arm: finished ones by seed, and the seeds that failed (a metric that is not finite)."""

    name: str
    finished: Mapping[Seed, tuple[Row, ...]]
    failed: tuple[Seed, ...]

    def curves(self, seeds: Sequence[Seed]) -> Curves:
        """The curves of `seeds`, in that order."""
        chosen = [self.finished[seed] for seed in seeds]
        return curves.stack([[r.time for r in run] for run in chosen], [[r.metric for r in run] for run in chosen])

    def is_score(self) -> bool:
        """Does the metric lie in [0, 1] in every run, as an accuracy does?"""
        return all(0 <= row.metric <= 1 for run in self.finished.values() for row in run)

    def metric_at(self, budget: Budget, seed: Seed) -> float:
        """The raw metric at the budget's step (or point index), NaN if the run has no such point."""
        return next((row.metric for row in self.finished[seed] if is_at(row, budget)), math.nan)


@dataclass(frozen=True)
class Study:
    """The questions of one study; `qualities` are the targets with higher = better, whatever the user's sign."""

    base: Runs
    others: tuple[Runs, ...]
    budgets: tuple[Budget, ...]
    points: tuple[int, ...]  # positions of the budgets in the baseline's curves
    targets: tuple[Target, ...]
    qualities: tuple[float, ...]
    chance: float | None  # higher = better
    margin: float | None
    margin_source: str
    alpha: float
    minimize: bool
    inference: Mapping[str, float]

    @property
    def sign(self) -> float:
        """From higher-is-better to the user's metric."""
        return -1.0 if self.minimize else 1.0

    @property
    def questions(self) -> int:
        """Size of the confirmatory family, whether or not a question can be answered."""
        return len(self.others) * (len(self.budgets) + len(self.targets))


@dataclass(frozen=True)
class Pair:
    """The finished runs of one arm and of the baseline with the same seeds.

    Args:
        arm: all runs of the arm.
        seeds: the common seeds.
        base: the baseline's curves.
        curves: the arm's curves.
        steps: metric difference at equal steps, shape (seeds, budgets); unknown where a run has no such point.
        resolution: the step in which the metric of these two arms counts, see `intervals.resolution_of`. Of the two
            alone, so that no third arm changes a test of theirs.
    """

    arm: Runs
    seeds: tuple[Seed, ...]
    base: Curves
    curves: Curves
    steps: Bounds
    resolution: float


def pose(
    table: Table,
    *,
    baseline: str,
    margin: float | None,
    minimize: bool,
    inference: Mapping[str, float],
    alpha: float,
    budgets_labels: Sequence[str] | None,
    targets: Sequence[float] | None,
    chance: float | None,
) -> tuple[Study, list[str]]:
    """The study of a table, and notes on what was left out; arguments as in `analyse`."""
    fraction("analyse", "alpha", alpha)
    sign = -1.0 if minimize else 1.0
    runs = _runs(table, baseline)
    for name, ratio in inference.items():
        check(name in runs, "analyse", "arms of the table in inference", name, near(name, runs))
        positive("analyse", f"inference[{name!r}]", ratio)
    base = runs[baseline]
    notes = list(table.notes)
    if base.failed:
        notes.append(f"{base.name}: {_failed(base)}")
    budgets, points = _budgets(base, table, budgets_labels, notes)
    start = None if chance is None else sign * finite("analyse", "chance", chance)
    goals = _targets(base, targets, start, sign, notes)
    limit, source = _margin(base, margin, minimize, budgets[-1])
    study = Study(
        base=base,
        others=tuple(arm for name, arm in runs.items() if name != baseline),
        budgets=tuple(budgets),
        points=tuple(points),
        targets=tuple(goals),
        qualities=tuple(sign * goal.quality for goal in goals),
        chance=start,
        margin=limit,
        margin_source=source,
        alpha=alpha,
        minimize=minimize,
        inference=inference,
    )
    return study, notes


def _runs(table: Table, baseline: str) -> dict[str, Runs]:
    if len(table.workloads) != 1:
        names = ", ".join(table.workloads)
        raise refuse("analyse", "a table of one workload", names, "Analyse table.only(workload) for each of them.")
    check(baseline in table.arms, "analyse", "a baseline among the arms", baseline, near(baseline, table.arms))
    if len(table.arms) == 1:
        raise refuse("analyse", "an arm besides the baseline", "one arm", "Add the runs of a second arm.")
    result = {}
    for arm in table.arms:
        runs = dict(sorted(table.runs(arm).items(), key=lambda item: (isinstance(item[0], str), item[0])))
        bad = tuple(seed for seed, run in runs.items() if not all(math.isfinite(row.metric) for row in run))
        result[arm] = Runs(arm, {seed: run for seed, run in runs.items() if seed not in bad}, bad)
    if not result[baseline].finished:
        fix = "The metric must be a finite number in at least one run."
        raise refuse("analyse", f"a finished run of {baseline!r}", "only failed runs", fix)
    return result


def _budgets(
    base: Runs, table: Table, labels: Sequence[str] | None, notes: list[str]
) -> tuple[list[Budget], list[int]]:
    """The baseline's points that every finished run of it has, thinned to `MAX_BUDGETS`, and their positions."""
    runs = list(base.finished.values())
    common = min(len(run) for run in runs)
    if len({len(run) for run in runs}) > 1:
        notes.append(f"runs of {base.name} differ in length: budgets are among the {common} points that all have")
    check(labels is None or len(labels) >= common, "analyse", f"{common} budgets_labels, one per point of {base.name}",
          labels, "Pass one label per point, or None.")  # fmt: skip
    times = np.exp(np.mean([[math.log(row.time) for row in run[:common]] for run in runs], axis=0))
    chosen = thinned(times)
    if len(chosen) < common:
        notes.append(f"{base.name} has {common} points: {len(chosen)} of them, even in log time, are asked as budgets; "
                     "a point of a longer run is a budget only if its learning rate had decayed by then")  # fmt: skip
    steps_known = all(row.step is not None for row in table.rows)
    budgets = []
    for i, k in enumerate(chosen):
        step = runs[0][k].step if steps_known and len({run[k].step for run in runs}) == 1 else None
        label = labels[k] if labels else plain_label(step, float(times[k]))
        budgets.append(Budget(i, runs[0][k].point, label, step, float(times[k])))
    return budgets, chosen


def thinned(times: Sequence[float] | Array) -> list[int]:
    """Positions of at most `MAX_BUDGETS` of `times`, with both ends, as even in log time as they come."""
    if len(times) <= MAX_BUDGETS:
        return list(range(len(times)))
    x = np.log(np.asarray(times, dtype=np.float64))
    return sorted({int(np.argmin(np.abs(x - wanted))) for wanted in np.linspace(x[0], x[-1], MAX_BUDGETS)})


def plain_label(step: float | None, time: float) -> str:
    """A training length in words, where nobody gave a better label."""
    return f"{step:g} steps" if step is not None else f"{time:.3g} s"


def _targets(
    base: Runs, given: Sequence[float] | None, chance: float | None, sign: float, notes: list[str]
) -> list[Target]:
    """The qualities asked for, from easy to hard, in the user's sign; `chance` is higher = better."""
    if given is not None:
        order = sorted((finite("analyse", "targets", q) for q in given), key=lambda q: sign * q)
        return [Target(i, f"{q:.4g}", q, None) for i, q in enumerate(order)]
    whole = base.curves(tuple(base.finished))
    start = float(whole.best[:, 0].mean()) if chance is None else chance
    last = float(whole.best[:, -1].mean())
    if last <= start:
        notes.append(f"{base.name} gains nothing along its curve: there is no target quality and no speedup to read")
        return []
    qualities = curves.qualities_of_gain(start, last, FRACTIONS)
    return [
        Target(i, f"{sign * q:.4g} ({100 * f:.0f} % of the gain)", float(sign * q), f)
        for i, (q, f) in enumerate(zip(qualities, FRACTIONS, strict=True))
    ]


def _margin(base: Runs, given: float | None, minimize: bool, last: Budget) -> tuple[float | None, str]:
    if given is not None:
        check(finite("analyse", "margin", given) >= 0, "analyse", "margin >= 0", given, "Pass the loss you accept.")
        return given, "given"
    if not minimize and base.is_score():
        return ACCURACY_MARGIN, f"default {ACCURACY_MARGIN}"
    values = [base.metric_at(last, seed) for seed in base.finished]
    if len(values) < 2:
        return None, "none: one baseline seed has no sd"
    return float(0.25 * np.std(values, ddof=1)), "0.25 sd of the baseline's seeds"


def pair_up(study: Study, arm: Runs, notes: list[str]) -> Pair | None:
    """The arm's finished runs with the baseline's of the same seeds; None where failures leave no pair."""
    base = study.base
    every = (*arm.finished, *arm.failed)
    if not {*every} & {*base.finished, *base.failed}:
        fix = "Pairs are runs with the same seed: give the runs of both arms the same seed labels."
        raise refuse("analyse", f"seeds that {base.name!r} and {arm.name!r} share", "none", fix)
    seeds = tuple(seed for seed in base.finished if seed in arm.finished)
    notes.extend(_pairing_notes(base, arm))
    if not seeds:
        return None
    at = np.array([[arm.metric_at(b, s) - base.metric_at(b, s) for b in study.budgets] for s in seeds])
    lost = np.isnan(at)
    steps = Bounds(np.where(lost, -np.inf, at), np.where(lost, np.inf, at))
    return Pair(arm, seeds, base.curves(seeds), arm.curves(seeds), steps, resolution((base, arm)))


def resolution(arms: Sequence[Runs]) -> float:
    """The step in which the metric counts, from the finished runs of `arms`; 0 = continuous."""
    return resolution_of([row.metric for arm in arms for run in arm.finished.values() for row in run])


def _pairing_notes(base: Runs, arm: Runs) -> list[str]:
    every = (*arm.finished, *arm.failed)
    alone = [seed for seed in arm.finished if seed not in base.finished]
    absent = [seed for seed in base.finished if seed not in every]
    return [
        *([f"{arm.name}: {_failed(arm)}"] if arm.failed else []),
        *([f"{arm.name}: seeds {_names(alone)} have no finished run of {base.name} and are left out"] if alone else []),
        *([f"{arm.name}: seeds {_names(absent)} of {base.name} were not run and are left out"] if absent else []),
    ]


def _failed(arm: Runs) -> str:
    count = len(arm.failed) + len(arm.finished)
    return f"{len(arm.failed)} of {count} runs failed (seeds {_names(arm.failed)}): misses, in no interval"


def _names(seeds: Sequence[Seed]) -> str:
    return ", ".join(map(str, seeds))


def seed_notes(counts: Sequence[int]) -> list[str]:
    """What every reader must know about the numbers of seed pairs."""
    notes = []
    for n in sorted(set(counts)):
        if n < MIN_SEEDS:
            notes.append(f"n = {n}: nothing is proven with fewer than {MIN_SEEDS} seeds; smoke only")
        elif n < 5:
            notes.append(f"n = {n}: interval is rough; read the min-max band beside it")
        if MIN_SEEDS <= n < 6:
            notes.append(f"n = {n}: the smallest possible sign-flip p is {2.0 ** (1 - n):.3g}")
    return notes
