"""Does training lose quality with FlashAdamW? Against torch's AdamW in float32 and under bfloat16 autocast.

For each workload: a pilot of the two baselines on seeds of its own gives the noise; from it and the margin (the loss
that one would accept, chosen here, before any run) the power calculation gives the number of seeds; then every arm is
trained for equally many steps from these seeds. Two questions for each workload, one family (Holm): is a loss larger
than the margin excluded, against float32 and against bfloat16? The answers:

    no loss beyond the margin    the one-sided test excludes it, at 2.5 %
    a loss                       two-sided at 5 %; said beside the other where both hold
    not proven                   neither

The noise of a difference is planned as twice the pilot's paired sd, since three pairs say little, but as no more than
that of unpaired runs. `power` is the chance to exclude such a loss if there is none at all, with the seeds that
were run, and `smallest_margin` the margin for which that chance is 80 %. Intervals are of each question alone (95 %).

    python benchmarks/flash_quality.py --json
    python benchmarks/flash_quality.py --workloads digits --duration digits=1ep --pilot 2 --seeds 3     tiny, for a look

Fashion-MNIST is looked for in HASTEN_DATA, and left out with a line where it is not there.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _record import emit

from hasten.bench.stats.intervals import no_loss_p, paired_t, resolution_of, t_probability, t_quantile
from hasten.bench.stats.multiplicity import holm
from hasten.bench.stats.power import minimum_detectable, pilot_sd, seeds_needed
from hasten.bench.study import Study, plan_study, run_study
from hasten.bench.workloads import Workload, load
from hasten.methods import flash_adamw
from hasten.program import Program, bind

ALPHA, POWER, QUESTIONS, LEAST = 0.05, 0.8, 2, 3
PILOT_SEEDS = 1000  # the first of them; the study's start at 0
CANDIDATE = "FlashAdamW"
BASELINES = {"AdamW fp32": "fp32", "AdamW bf16": "bf16"}


@dataclass(frozen=True)
class Task:
    """A workload, how AdamW is set for it (the best of a few rates), and the loss that one would accept."""

    workload: str
    duration: str
    margin: float
    lr: float | None = None  # None: the workload's own AdamW
    weight_decay: float = 0.05


TASKS = {
    "digits": Task("digits", "10ep", 0.01, lr=2e-2),
    "charlm": Task("charlm", "300step", 0.02),
    "fashion_mnist": Task("fashion_mnist", "1ep", 0.01, lr=1e-2),
    "rare_rows": Task(str(Path(__file__).with_name("rare_rows.py")), "2ep", 0.02),
}


def baseline(task: Task, workload: Workload) -> Program:
    """The workload's program with torch's AdamW in float32."""
    if task.lr is None:
        return workload.program
    return workload.program.set(optimizer=bind(torch.optim.AdamW, lr=task.lr, weight_decay=task.weight_decay))


def train(task: Task, arms: list[str], seeds: range, options: argparse.Namespace, part: str) -> Study:
    """A study of one point: equal steps, a schedule of its own for every run."""
    workload = load(task.workload)
    base = baseline(task, workload)
    programs: dict[str, Any] = {name: base.set(precision=precision) for name, precision in BASELINES.items()}
    programs[CANDIDATE] = base.then(flash_adamw())
    duration = options.durations.get(workload.name, task.duration)
    plan = plan_study(
        workload, {name: programs[name] for name in arms}, seeds=seeds, curve="separate", points=1, duration=duration
    )
    folder = options.out / workload.name / part
    return run_study(
        plan, out=folder, workers=options.workers, quiet=options.json, retry_drifted=False, command=f"quality: {part}"
    )


def metrics(study: Study, arm: str, seeds: range) -> list[float]:
    """The last metric of each seed; NaN for a run that failed."""
    found = {row["seed"]: row["metric"] for row in study.rows() if row["arm"] == arm}
    return [float(found.get(seed, math.nan)) for seed in seeds]


def noise(runs: dict[str, list[float]]) -> float:
    """The sd of a paired difference that the seeds are planned with."""
    first, second = (np.array(runs[name]) for name in BASELINES)
    paired = pilot_sd(second - first)
    unpaired = math.sqrt(float(first.var(ddof=1) + second.var(ddof=1)))
    return min(2 * paired, max(paired, unpaired))


def power_of(margin: float, sd: float, n: int) -> float:
    """The chance to exclude a loss of `margin` where there is none, with `n` pairs, at the first step of Holm."""
    needed = float(t_quantile(1 - ALPHA / QUESTIONS / 2, n - 1))
    return float(t_probability(margin * math.sqrt(n) / sd - needed, n - 1)) if sd > 0 else 1.0


def answer(low_p: float, two_p: float, mean: float, n: int) -> str:
    """The verdict in words, from p-values that Holm has adjusted."""
    if n < LEAST:
        return f"not proven (n = {n})"
    words = []
    if low_p <= ALPHA / 2:
        words.append("no loss beyond the margin")
    if two_p <= ALPHA:
        words.append("a loss" if mean < 0 else "a gain")
    return ", ".join(words) or "not proven"


def ask(task: Task, options: argparse.Namespace) -> None:
    """Pilot, power, study and verdicts of one workload."""
    workload = load(task.workload)
    margin = options.margins.get(workload.name, task.margin)
    sign = -1.0 if workload.minimize else 1.0
    pilot = range(PILOT_SEEDS, PILOT_SEEDS + options.pilot)
    study = train(task, list(BASELINES), pilot, options, "pilot")
    piloted = {name: metrics(study, name, pilot) for name in BASELINES}
    sd = noise(piloted)
    needed = seeds_needed(margin, sd, alpha=ALPHA, power=POWER, questions=QUESTIONS)
    chosen = options.seeds or max(options.least, min(needed or options.most, options.most))
    planned = {
        "margin": margin,
        "planned_sd": sd,
        "seeds_needed": needed,
        "power": power_of(margin, sd, chosen),
        "smallest_margin": minimum_detectable(sd, max(chosen, 2), alpha=ALPHA, power=POWER, questions=QUESTIONS),
    }
    emit(options.json, claim=f"quality, {workload.name}", arm="pilot", value=sd, unit=f"sd of {workload.metric_name}",
         n=options.pilot, runs=piloted, **planned)  # fmt: skip
    if not options.json:
        print(f"    margin {margin:g}: {needed} seeds for {POWER:.0%} power; {chosen} give {planned['power']:.0%}")

    seeds = range(options.first, options.first + chosen)
    study = train(task, [*BASELINES, CANDIDATE], seeds, options, "study")
    runs = {name: metrics(study, name, seeds) for name in (*BASELINES, CANDIDATE)}
    for name, values in runs.items():
        finite = [value for value in values if math.isfinite(value)]
        emit(options.json, claim=f"quality, {workload.name}", arm=name,
             value=float(np.mean(finite)) if finite else math.nan, unit=workload.metric_name,
             n=len(values), failed=len(values) - len(finite), runs=values)  # fmt: skip
    results, one_sided, two_sided = [], [], []
    for name in BASELINES:
        pairs = np.array([runs[name], runs[CANDIDATE]])
        pairs = pairs[:, np.isfinite(pairs).all(axis=0)]
        if pairs.shape[1] < 2:
            sys.exit(f"flash_quality.py: {workload.name}: expected at least two finished pairs of runs.")
        gains = sign * (pairs[1] - pairs[0])
        result = paired_t(gains, alpha=ALPHA, resolution=resolution_of(pairs))
        results.append((name, gains, result))
        one_sided.append(float(no_loss_p(result, margin)))
        two_sided.append(float(result.p))
    for (name, gains, result), low_p, two_p in zip(results, holm(one_sided), holm(two_sided), strict=True):
        verdict = answer(float(low_p), float(two_p), float(result.mean), result.n)
        emit(
            options.json,
            claim=f"gain, {workload.name}",
            arm=f"{CANDIDATE} over {name}",
            value=float(result.mean),
            unit=f"{workload.metric_name}, above 0: better",
            interval=[float(result.low), float(result.high)],
            n=result.n,
            verdict=verdict,
            p_no_loss=float(low_p),
            p_difference=float(two_p),
            sd=float(result.sd),
            **planned,
            runs=gains.tolist(),
        )
        if not options.json:
            print(f"    {verdict} (margin {margin:g}, power {planned['power']:.0%}, n = {result.n})")


def pairs_of(text: list[str], read: Any) -> dict[str, Any]:
    """`name=value` arguments as a dictionary."""
    return {name: read(value) for name, _, value in (item.partition("=") for item in text)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--workloads", default=",".join(TASKS))
    parser.add_argument("--duration", action="append", default=[], metavar="NAME=LENGTH", help="such as digits=5ep")
    parser.add_argument("--margin", action="append", default=[], metavar="NAME=LOSS", help="such as digits=0.01")
    parser.add_argument("--pilot", type=int, default=3, help="seeds of the pilot")
    parser.add_argument("--seeds", type=int, default=None, help="of the study; default: what the power asks for")
    parser.add_argument("--first", type=int, default=0, help="the study's first seed, to ask again with others")
    parser.add_argument("--least", type=int, default=5, help="seeds at least")
    parser.add_argument("--most", type=int, default=12, help="seeds at most, whatever the power asks for")
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--out", type=Path, default=Path("runs/flash_quality"), help="folder of the studies")
    options = parser.parse_args()
    options.durations, options.margins = pairs_of(options.duration, str), pairs_of(options.margin, float)
    for name in options.workloads.split(","):
        try:
            ask(TASKS[name], options)
        except FileNotFoundError as error:
            print(f"{name}: left out, its data are not here: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
