"""What several studies say together, as plain records: arms they share, and where they were not measured alike.

A speedup is a ratio of two times from one study, so it may be averaged over studies; a time may not. Studies count
alike, however many seeds they have. Verdicts are not averaged: each is corrected within its own study.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..stats.aggregate import iqm, probability_of_improvement
from ..stats.curves import mean_log_speedup, stack
from ..stats.intervals import t_quantile
from .data import Report

__all__ = [
    "PASSING",
    "Shared",
    "differing_facts",
    "labels_of",
    "log_speedups",
    "machine_of",
    "runs_in_common",
    "shared_arms",
]

PASSING = ("load at start", "energy")  # facts that change from hour to hour, and why energy was not measured
STUDIES = 5  # from so many on, their spread can stand for that of others
MACHINE = ("system", "processor", "cores", "gpu")

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Shared:
    """One arm that several studies have under the same methods, against the same baseline.

    Args:
        names: what the studies call it.
        methods: as they were written.
        studies: positions of the studies.
        verdicts: verdict -> in how many studies.
        speedups: overall speedup of each study, None where the curves of the arm and the baseline do not overlap.
        mean: geometric mean of those that are known.
        low: end of its 95 % interval; below five studies over seeds, from then on over studies.
        high: the other end.
        iqm: interquartile mean over all seed pairs of all studies.
        chance: probability that a seed pair shows the arm faster, averaged over studies.
        pairs: seed pairs in all.
        machines: number of machines they were measured on.
    """

    names: tuple[str, ...]
    methods: tuple[str, ...]
    studies: tuple[int, ...]
    verdicts: dict[str, int]
    speedups: tuple[float | None, ...]
    mean: float | None
    low: float | None
    high: float | None
    iqm: float | None
    chance: float | None
    pairs: int
    machines: int


def labels_of(reports: Sequence[Report]) -> list[str]:
    """A short name for each study, no two alike: its workload, and a number where several have the same."""
    names = [report["study"]["workload"] or report["study"]["title"] for report in reports]
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(f"{name} ({seen[name]})" if names.count(name) > 1 else name)
    return found


def shared_arms(reports: Sequence[Report]) -> list[Shared]:
    """The arms that at least two studies have in common, in the order in which they appear.

    Arms are the same if their methods and the baselines' are written alike. Branch curves are compared with branch
    curves only. Somebody's own logs name no methods, so their arms are nobody's.
    """
    groups: dict[Any, list[tuple[int, dict[str, Any]]]] = {}
    for position, report in enumerate(reports):
        analysis = report["analysis"]
        written = {arm["name"]: tuple(arm["methods"]) for arm in report["study"]["arms"] if arm["fingerprint"]}
        for arm in analysis["arms"] if analysis is not None else ():
            name, baseline = arm["name"], report["study"]["baseline"]
            if name != baseline and name in written and baseline in written:
                key = (written[name], written[baseline], report["study"]["curve"] == "branch")
                groups.setdefault(key, []).append((position, arm))
    return [
        _shared(reports, methods, members)
        for (methods, _, _), members in groups.items()
        if len({position for position, _ in members}) > 1
    ]


def _shared(reports: Sequence[Report], methods: tuple[str, ...], members: list[tuple[int, dict[str, Any]]]) -> Shared:
    logs = [found for position, arm in members if (found := log_speedups(reports[position], arm)) is not None]
    known = len(logs) > 1  # of one study there is nothing to average
    low, high = _interval(logs) if known else (None, None)
    return Shared(
        names=tuple(dict.fromkeys(arm["name"] for _, arm in members)),
        methods=methods,
        studies=tuple(position for position, _ in members),
        verdicts=dict(Counter(arm["verdict"] for _, arm in members)),
        speedups=tuple(arm["overall"]["speedup"] if arm["overall"] else None for _, arm in members),
        mean=math.exp(float(np.mean([one.mean() for one in logs]))) if known else None,
        low=low,
        high=high,
        iqm=math.exp(float(iqm(np.concatenate(logs)))) if known else None,
        chance=probability_of_improvement(logs, [0 * one for one in logs], paired=True) if known else None,
        pairs=sum(map(len, logs)),
        machines=len({machine_of(reports[position]) for position, _ in members}),
    )


def _interval(logs: list[Array]) -> tuple[float | None, float | None]:
    """95 % t interval of the geometric mean.

    Of few studies it is about these: their errors are added up, with Welch's degrees of freedom. (Resampling a handful
    of seeds would be far too narrow, see `hasten.bench.stats.intervals`.) From `STUDIES` on it is about others like
    them: their own spread is what counts.
    """
    means = np.array([one.mean() for one in logs])
    if len(logs) >= STUDIES:
        error, degrees = float(means.std(ddof=1)) / math.sqrt(len(logs)), len(logs) - 1.0
    elif min(map(len, logs)) < 2:
        return None, None
    else:
        spread = np.array([one.var(ddof=1) / len(one) for one in logs])
        error, weight = math.sqrt(spread.sum()) / len(logs), float((spread**2 / [len(one) - 1 for one in logs]).sum())
        degrees = float(spread.sum()) ** 2 / weight if weight else 1.0
    half = float(t_quantile(0.975, degrees)) * error
    return math.exp(float(means.mean()) - half), math.exp(float(means.mean()) + half)


def log_speedups(report: Report, arm: dict[str, Any]) -> Array | None:
    """Per seed pair the mean log speedup over the qualities that all runs cover; None where there are none.

    Args:
        report: with an analysis.
        arm: one of its arms.
    """
    analysis, overall = report["analysis"], arm["overall"]
    if analysis is None or overall is None:
        return None
    sign = -1.0 if analysis["minimize"] else 1.0
    baseline = next(other for other in analysis["arms"] if other["name"] == analysis["baseline"])
    sides = []
    for side in (baseline, arm):
        runs = {run["seed"]: run for run in side["runs"]}
        chosen = [runs[seed] for seed in arm["seeds"] if seed in runs]
        sides.append(stack([run["time"] for run in chosen], [sign * np.asarray(run["metric"]) for run in chosen]))
    return mean_log_speedup(sides[0], sides[1], sign * overall["quality_low"], sign * overall["quality_high"])


def machine_of(report: Report) -> tuple[Any, ...]:
    """What tells the machines of two studies apart, as far as the reports know."""
    return tuple(str(report["environment"].get(name)) for name in MACHINE)


def differing_facts(reports: Sequence[Report]) -> dict[str, list[str]]:
    """Fact about machine and environment -> its value in each study, for the facts that are not the same in all."""
    names = {name: None for report in reports for name in report["environment"] if name not in PASSING}
    found = {name: [_text(report["environment"].get(name)) for report in reports] for name in names}
    return {name: values for name, values in found.items() if len(set(values)) > 1}


def _text(value: Any) -> str:
    return "unknown" if value is None else str(value)


def runs_in_common(reports: Sequence[Report]) -> list[tuple[int, int, int]]:
    """Pairs of studies that hold the same measurements, and how many runs; averages count these twice."""
    measured = [
        {(run["arm"], run["seed"], run["weights"], run["seconds"]) for run in report["runs"] if run["counts"]}
        for report in reports
    ]
    pairs = [(one, two) for two in range(len(reports)) for one in range(two)]
    found = [(one, two, len(measured[one] & measured[two])) for one, two in pairs]
    return [(one, two, count) for one, two, count in found if count]
