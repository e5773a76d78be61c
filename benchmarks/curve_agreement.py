"""Cyclic, branch and separate curves of the same arms: levels (bias), effects over the baseline, and cost.

Three studies of the same arms and seeds, one for each kind of curve, then every pair of kinds against each other, over
all budgets and without the first. The first budget of a cyclic curve is the same computation as the first separate
run, so that pair always leaves it out; a branch has hardly any updates there in which to decay. The
`control` arm is the baseline in another memory layout: its "effects" are rounding and chance.

    python benchmarks/curve_agreement.py --json            # 4 arms x 5 seeds x 3 kinds on digits: about 4 min, 2 cores
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from _record import emit

from hasten.bench.curves import KINDS
from hasten.bench.stats.agreement import agreement
from hasten.bench.study import Study, plan_study, run_study
from hasten.methods import blurpool, channels_last, label_smoothing

ARMS: dict[str, Any] = {
    "base": [], "blur": [blurpool()], "smooth": [label_smoothing(0.1)], "control": [channels_last()],
}  # fmt: skip


def study_of(kind: str, options: argparse.Namespace) -> tuple[Study, int]:
    """The study in one kind of curve, and its optimizer steps per arm and seed."""
    plan = plan_study(options.workload, ARMS, seeds=options.seeds, curve=kind, duration=options.duration)
    study = run_study(plan, out=options.out / kind, workers=options.workers, command=f"{options.workload}: {kind}")
    return study, plan.steps() // (len(ARMS) * options.seeds)


def levels_of(study: Study) -> np.ndarray:
    """Metric (arms, seeds, budgets) of the runs that count."""
    found = {(row["arm"], row["seed"], row["point"]): row["metric"] for row in study.rows()}
    seeds, budgets = study.data["study"]["seeds"], range(len(study.data["study"]["ends"]))
    return np.array([[[found[arm, seed, k] for k in budgets] for seed in seeds] for arm in ARMS])


def seconds_of(study: Study) -> list[float]:
    """Training seconds of a whole curve, one value per arm and seed, the time of all branches included."""
    spent: dict[tuple[str, Any], float] = {}
    for run in study.data["runs"]:
        if run["counts"]:
            key = run["arm"], run["seed"]
            spent[key] = spent.get(key, 0.0) + run["seconds"] + run["excluded"].get("branches", 0.0)
    return list(spent.values())


def compare_kinds(
    as_json: bool, reference: str, other: str, levels: dict[str, np.ndarray], budgets: list[str], *, first: int,
    own_bias: bool,
) -> None:  # fmt: skip
    """Bias at each budget from number `first` on, if asked for, then how the effects agree over these budgets."""
    found = agreement(*(levels[kind][:, :, first:] for kind in (reference, other)))
    name = f"{other} for {reference}" + (f", from {budgets[first]} on" if first else "")
    shared = {"n": found.seeds, "arms": list(ARMS)}
    every = list(zip(budgets[first:], found.bias, found.tau, strict=True))
    for label, bias, tau in every if own_bias else []:
        ends = None if bias.low is None else [100 * bias.low, 100 * bias.high]
        emit(as_json, claim="bias of levels", arm=f"{other} for {reference}, {label}", value=100 * bias.mean, unit="pp",
             interval=ends, tau=tau, **shared)  # fmt: skip
    numbers = {
        "r of mean effects": (found.r, "", [found.r_low, found.r_high]),
        "r of single seeds": (found.r_single, "", None),
        "error of mean effects": (100 * found.error, "pp", None),
        "error of single seeds": (100 * found.error_single, "pp", None),
        "same sign": (found.same_sign, f"of {found.effects} effects", None),
        "levels of single runs": (100 * found.mean_abs_level, "pp, mean absolute", None),
    }
    for claim, (value, unit, interval) in numbers.items():
        emit(as_json, claim=claim, arm=name, value=value, unit=unit, interval=interval, **shared)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("--workload", default="digits")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--duration", default=None, help="training length; default: the workload's")
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--out", type=Path, default=Path("runs/agreement"), help="folder of the three studies")
    options = parser.parse_args()
    studies = {kind: study_of(kind, options) for kind in KINDS}
    levels = {kind: levels_of(study) for kind, (study, _) in studies.items()}
    budgets = studies["separate"][0].data["study"]["budgets"]
    for arm, values in zip(ARMS, range(len(ARMS)), strict=True):
        for kind in KINDS:
            for k, label in enumerate(budgets):
                runs = (100 * levels[kind][values, :, k]).tolist()
                spread = statistics.stdev(runs) if len(runs) > 1 else None
                emit(options.json, claim="level", arm=f"{arm}, {kind}, {label}", value=statistics.mean(runs),
                     unit="%", n=len(runs), sd=spread, runs=runs)  # fmt: skip
    for reference, other in (("separate", "cyclic"), ("separate", "branch"), ("branch", "cyclic")):
        starts = (1,) if (reference, other) == ("separate", "cyclic") else (0, 1)
        for first in starts:
            own_bias = first == starts[0]
            compare_kinds(options.json, reference, other, levels, budgets, first=first, own_bias=own_bias)
    reference_steps, reference_seconds = studies["separate"][1], statistics.mean(seconds_of(studies["separate"][0]))
    for kind, (study, steps) in studies.items():
        seconds = seconds_of(study)
        emit(options.json, claim="cost in steps", arm=kind, value=steps, unit="steps", ratio=steps / reference_steps,
             n=1)  # fmt: skip
        emit(options.json, claim="cost in time", arm=kind, value=statistics.mean(seconds), unit="s per arm and seed",
             ratio=statistics.mean(seconds) / reference_seconds, n=len(seconds), runs=seconds)  # fmt: skip


if __name__ == "__main__":
    main()
