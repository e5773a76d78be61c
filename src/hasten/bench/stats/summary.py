"""`analyse`: a table of runs in, every number and sentence of the report out.

The order of work is that of the argument: which runs count and what is asked (`questions`), the answers seed by seed
(`curves`, `verdicts`), one correction over all of them, then the records (`effects`, `schema`). Everything is computed
from the table alone and is the same every time: the only random numbers are bootstrap resamples from a fixed seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import effects
from .frontier import frontier
from .interactions import interactions
from .intervals import Array, paired_t
from .questions import Pair, Runs, Study, pair_up, pose, resolution, seed_notes
from .schema import SCHEMA, Analysis, Arm, CurvePoint, Effect, RunCurve
from .table import Seed, Table
from .ties import tie_groups
from .verdicts import Readings, Where, ask, describe_arm, family, read, verdicts

__all__ = ["analyse"]

SEED = 0  # of the bootstrap
NO_GAIN = {"": "", "?": "a run of a pair has no point at this budget"}


@dataclass(frozen=True)
class _Answers:
    """The answers of one arm to the three kinds of questions."""

    pair: Pair
    budgets: Readings
    targets: Readings
    accuracy: Readings


def analyse(
    table: Table,
    *,
    baseline: str,
    margin: float | None = None,
    minimize: bool = False,
    inference: Mapping[str, float] | None = None,
    alpha: float = 0.05,
    budgets_labels: Sequence[str] | None = None,
    targets: Sequence[float] | None = None,
    chance: float | None = None,
    epsilon: float = 0.0,
    methods: Mapping[str, Sequence[str]] | None = None,
) -> Analysis:
    """Compare every arm with the baseline: where does it pay, where does it cost, what is not proven?

    What is asked and how it is decided stands at the top of `hasten.bench.stats.verdicts`.

    Args:
        table: runs of one workload; metric higher is better.
        baseline: name of the arm the others are compared with.
        margin: largest loss of the metric you would accept, in metric units, decided before the data are seen; None =
            0.002 if the baseline's metric lies in [0, 1], else 0.25 sd of the baseline's seeds at its last budget.
        minimize: the table holds the negative of the user's metric; texts and levels are printed with its own sign.
        inference: arm -> inference cost relative to the baseline (1.4 = 40 % dearer).
        alpha: error rate of each family, in (0, 1).
        budgets_labels: one label per point of the baseline ("7 epochs"), in order, also for points that cut-short
            runs have not reached; None = steps, else seconds.
        targets: qualities to reach, in the user's sign; None = 50 %, 90 % and 100 % of the baseline's final gain.
        chance: metric before training, in the user's sign, from where the gain counts; None = the first point.
        epsilon: noise of the metric on the frontier, metric units: a point is dominated only by what is no slower and
            better by this much. 0 = by anything better; its probabilities show the noise then.
        methods: arm -> its methods as they are written, for the designs among the arms (`designs`); arms without runs
            are left out. None = not known, no interactions.

    Returns:
        `Analysis`; what was left out and why is in its `notes`.

    Raises:
        ValueError: an unknown arm, several workloads, no arm besides the baseline, no finished or no common seeds.

    >>> rows = [{"arm": arm, "seed": seed, "time": t * pace * (1 + seed / 50), "metric": 0.5 + t / 10 + seed / 97}
    ...         for arm, pace in (("base", 1.0), ("fast", 0.5)) for seed in range(5) for t in (1, 2, 4)]
    >>> analysis = analyse(Table.from_rows(rows), baseline="base")
    >>> print(analysis.arm("fast").sentence)
    pays at targets ≤ 0.8906 and at budgets ≤ 2.08 s; elsewhere not proven.
    """
    study, notes = pose(
        table, baseline=baseline, margin=margin, minimize=minimize, inference=inference or {}, alpha=alpha,
        budgets_labels=budgets_labels, targets=targets, chance=chance,
    )  # fmt: skip
    pairs = {arm.name: pair_up(study, arm, notes) for arm in study.others}
    answers = [_answer(study, pair) for pair in pairs.values() if pair]
    notes.extend(seed_notes([len(each.pair.seeds) for each in answers]))
    arms = {arm.name: arm for arm in _judged(study, answers)}
    base = _record(study, study.base, tuple(study.base.finished), ("baseline", True, "baseline"))
    optimal = frontier(study, epsilon=epsilon, notes=notes)
    alone = "not proven: no seed has a finished run of both arms."
    return Analysis(
        version=SCHEMA,
        workload=table.workloads[0],
        baseline=baseline,
        minimize=minimize,
        alpha=alpha,
        margin=study.margin,
        margin_source=study.margin_source,
        questions=study.questions,
        accuracy_questions=len(study.others) * len(study.budgets),
        budgets=study.budgets,
        targets=study.targets,
        arms=(base, *(arms.get(a.name) or _record(study, a, (), ("not proven", False, alone)) for a in study.others)),
        ties=_ties(study),
        frontier=optimal,
        interactions=interactions(study, methods) if methods is not None else (),
        notes=tuple(notes),
    )


def _answer(study: Study, pair: Pair) -> _Answers:
    gains, speedups = ask(
        pair.base,
        pair.curves,
        points=study.points,
        qualities=study.qualities,
        alpha=study.alpha,
        resolution=pair.resolution,
    )
    return _Answers(pair, gains, speedups, read(pair.steps, alpha=study.alpha, resolution=pair.resolution))


def _judged(study: Study, answers: Sequence[_Answers]) -> list[Arm]:
    """Correct over all answers of the study, then write the record of each arm."""
    silent = len(study.others) - len(answers)  # arms without a pair: their questions were asked all the same
    asked = [p for each in answers for p in (each.budgets.p, each.targets.p)]
    confirmed = family([*asked, np.ones(study.questions - sum(map(len, asked)))])
    described = family([*(each.accuracy.p for each in answers), np.ones(silent * len(study.budgets))])
    at_time = effects.no_losses([each.budgets for each in answers], study.margin, alpha=study.alpha)
    at_steps = effects.no_losses([each.accuracy for each in answers], study.margin, alpha=study.alpha)
    return [
        _judge(study, each, confirmed[2 * i], confirmed[2 * i + 1], described[i], at_time[i], at_steps[i])
        for i, each in enumerate(answers)
    ]


def _judge(
    study: Study,
    each: _Answers,
    p_budgets: Array,
    p_targets: Array,
    p_accuracy: Array,
    safe_budgets: Sequence[bool | None],
    safe_accuracy: Sequence[bool | None],
) -> Arm:
    """The record of one arm from its answers and their adjusted p-values."""
    pair, alpha = each.pair, study.alpha
    generator = np.random.default_rng(SEED)
    fractions = [target.fraction for target in study.targets if target.fraction is not None]
    budget_labels = [budget.label for budget in study.budgets]
    target_labels = [target.label for target in study.targets]
    short = [f"{target.quality:.4g}" for target in study.targets]
    budgets = effects.build_effects(
        "budget", each.budgets, verdicts(each.budgets, p_budgets, alpha=alpha), p_budgets, labels=budget_labels,
        reasons=effects.budget_reasons(each.budgets, pair.base, pair.curves, study.points), alpha=alpha,
        questions=study.questions, generator=generator, no_loss=safe_budgets,
    )  # fmt: skip
    targets = effects.build_effects(
        "target", each.targets, verdicts(each.targets, p_targets, alpha=alpha), p_targets, labels=target_labels,
        reasons=effects.target_reasons(each.targets, pair.base, pair.curves, study.qualities, short), alpha=alpha,
        questions=study.questions, generator=generator,
        sensitivity=effects.sensitivities(pair.base, study.qualities, study.margin),
        mean_curve=effects.mean_curves(pair.base, pair.curves, study.qualities, first=study.chance, alpha=alpha,
                                       fractions=fractions, generator=generator),
    )  # fmt: skip
    accuracy = effects.build_effects(
        "accuracy", each.accuracy, verdicts(each.accuracy, p_accuracy, alpha=alpha, kind="metric"), p_accuracy,
        labels=budget_labels, reasons=[NO_GAIN[b] for b in each.accuracy.bound], alpha=alpha,
        questions=len(study.others) * len(study.budgets), generator=generator, no_loss=safe_accuracy,
    )  # fmt: skip
    axes = (
        Where("target", tuple(short), _spoken(targets), study.minimize),
        Where("budget", tuple(budget_labels), _spoken(budgets)),
    )
    ratio = study.inference.get(pair.arm.name)
    verdict = describe_arm(axes, seeds=len(pair.seeds), failed=len(pair.arm.failed), inference_ratio=ratio)
    return _record(
        study,
        pair.arm,
        pair.seeds,
        verdict,
        budgets=budgets,
        targets=targets,
        accuracy=accuracy,
        speedup_curve=effects.speedup_curve(pair.base, pair.curves, sign=study.sign, alpha=alpha),
        overall=effects.overall_speedup(pair.base, pair.curves, sign=study.sign, alpha=alpha),
    )


def _spoken(answers: Sequence[Effect]) -> tuple[str, ...]:
    """The verdicts of one axis; "" where a bound left the question without an answer."""
    return tuple("" if e.bound and e.verdict == "not proven" else e.verdict for e in answers)


def _record(study: Study, arm: Runs, seeds: tuple[Seed, ...], verdict: tuple[str, bool, str], **answers: Any) -> Arm:
    """An `Arm` with its curves; `answers` are its effects."""
    runs = tuple(
        RunCurve(seed, tuple(row.time for row in run), tuple(study.sign * row.metric for row in run))
        for seed, run in arm.finished.items()
    )
    word, plain, sentence = verdict
    ratio = study.inference.get(arm.name)
    return Arm(arm.name, word, plain, sentence, seeds, arm.failed, ratio, _mean_curve(study, arm), runs, **answers)


def _mean_curve(study: Study, arm: Runs) -> tuple[CurvePoint, ...]:
    """Mean and t interval at the points that every finished run of the arm has."""
    runs = list(arm.finished.values())
    result = []
    for k in range(min(map(len, runs), default=0)):
        rows = [run[k] for run in runs]
        values = [study.sign * row.metric for row in rows]
        stats = paired_t(values, alpha=study.alpha)
        known = math.isfinite(stats.low)
        result.append(
            CurvePoint(
                point=rows[0].point,
                step=rows[0].step,
                time=math.exp(float(np.mean([math.log(row.time) for row in rows]))),
                metric=float(stats.mean),
                low=float(stats.low) if known else None,
                high=float(stats.high) if known else None,
                minimum=min(values),
                maximum=max(values),
                n=len(rows),
            )
        )
    return tuple(result)


def _ties(study: Study) -> tuple[tuple[tuple[str, ...], ...], ...]:
    """Tie groups at equal steps, per budget; an arm without that point in every run is left out there."""
    result = []
    arms = (study.base, *study.others)
    step = resolution(arms)
    for budget in study.budgets:
        metrics = {arm.name: {seed: arm.metric_at(budget, seed) for seed in arm.finished} for arm in arms}
        complete = {a: m for a, m in metrics.items() if m and all(math.isfinite(x) for x in m.values())}
        # Over the budgets as well, so that no order is printed that the family of accuracy questions does not prove.
        alpha = study.alpha / len(study.budgets)
        result.append(tie_groups(complete, alpha=alpha, resolution=step))
    return tuple(result)
