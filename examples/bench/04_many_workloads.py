"""Many workloads, few numbers: what an arm does on average, how often it helps, and how close it is to the best.

    python examples/bench/04_many_workloads.py

Means of ratios and medians mislead; these do not, and a workload on which an arm never arrives counts. The times are
made up: seconds to the target on six workloads, five seeds each.
"""

from __future__ import annotations

import math

import numpy as np

from hasten.bench.stats import (
    aggregate_interval,
    geometric_mean_speedup,
    iqm,
    performance_ratios,
    probability_of_improvement,
    profile_score,
)

BASE = np.array([10.0, 40.0, 25.0, 90.0, 15.0, 60.0])  # seconds of the baseline on each workload
SPEEDUP = {
    "base": [1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
    "steady": [1.2, 1.1, 1.15, 1.2, 1.1, 1.25],
    "lucky": [3.0, 0.9, 0.95, 0.9, 1.0, 0.95],  # one workload decides its mean
    "fragile": [1.5, 1.4, 1.5, 0.0, 1.4, 1.6],  # never arrives on one of them
}


def main():
    draw = np.random.default_rng(0)
    noise = {arm: draw.normal(0, 0.03, (len(BASE), 5)) for arm in SPEEDUP}  # of log times, per workload and seed
    with np.errstate(divide="ignore"):
        logs = {arm: np.log(SPEEDUP[arm])[:, None] + noise[arm] for arm in SPEEDUP}  # log speedup, -inf = never
    times = np.array([BASE * np.exp(-logs[arm].mean(1)) for arm in SPEEDUP])
    scores = profile_score(performance_ratios(times))

    def pooled(workloads):
        return iqm(np.concatenate(workloads, axis=-1))

    for arm, own, score in zip(SPEEDUP, times, scores, strict=True):
        low, high = aggregate_interval(list(logs[arm]), pooled, generator=np.random.default_rng(0))
        wins = probability_of_improvement(list(logs[arm]), list(logs["base"]))
        print(
            f"{arm:8} speedup {float(geometric_mean_speedup(own, BASE)):.2f}, "
            f"without extremes {math.exp(iqm(logs[arm].ravel())):.2f} [{math.exp(low):.2f}, {math.exp(high):.2f}], "
            f"beats base in {wins:.0%}, profile {score:.2f}"
        )


if __name__ == "__main__":
    main()
