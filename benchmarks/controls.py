"""Does the statistics of `hasten compare` keep its promises? Simulated studies with a known truth.

- coverage: nominal 95 % intervals of a gain at equal steps, a gain at equal time and a speedup hold the truth in 94
  to 96 % of studies, at 3, 5, 10 and 20 seeds; "own target" is the case near the plateau where most studies are
  censored and the misses lean to one side (see `hasten/bench/stats/verdicts.py`).
- bootstrap coverage: what a percentile bootstrap of a mean covers instead, the reason why it is not the default.
- false verdicts: studies of copies of the baseline that say "pays" or "costs" anywhere: at most 5 %.
- planted effects: effects of twice the printed minimum detectable size that are found: at least 90 %.

    python benchmarks/controls.py --json
"""

from __future__ import annotations

import argparse

import numpy as np
from _record import emit

from hasten.bench.stats.simulate import Law, Rate, bootstrap_coverage, coverage, false_verdicts, planted

SEEDS = (3, 5, 10, 20)
KINDS = {"accuracy": "gain at equal steps", "budget": "gain at equal time", "target": "log S",
         "own target": "log S at 90 % of the own gain"}  # fmt: skip


def report(as_json: bool, claim: str, arm: str, rate: Rate, **extra: float) -> None:
    """One line: the share with its 95 % Monte-Carlo interval."""
    emit(
        as_json,
        claim=claim,
        arm=arm,
        value=rate.share,
        unit="share of studies",
        interval=list(rate.interval()),
        n=rate.trials,
        **extra,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    parser.add_argument("--studies", type=int, default=50_000, help="simulated studies per coverage")
    parser.add_argument("--decided", type=int, default=2000, help="simulated studies decided one by one, per line")
    parser.add_argument("--arms", type=int, default=3, help="arms besides the baseline")
    parser.add_argument("--seed", type=int, default=0, help="seed of all draws")
    options = parser.parse_args()
    generator = np.random.default_rng(options.seed)

    for kind, words in KINDS.items():
        for n in SEEDS if kind != "own target" else SEEDS[:3]:
            found = coverage(kind, seeds=n, studies=options.studies, generator=generator)
            extra = {name: found[name].share for name in ("above", "below", "answered")}
            report(options.json, "coverage", f"{words}, n={n}", found["covered"], **extra)
    for n in SEEDS:
        found = bootstrap_coverage(seeds=n, studies=options.decided, generator=generator)
        report(options.json, "bootstrap coverage", f"mean, n={n}", found)
    for n, examples in ((3, 0), (5, 0), (5, 600)):
        law = Law(examples=examples)
        found = false_verdicts(arms=options.arms, seeds=n, studies=options.decided, generator=generator, law=law)
        metric = f"{examples} test examples" if examples else "continuous metric"
        for word, rate in found.items():
            report(options.json, "false verdicts", f"{word}, n={n}, {metric}", rate)
    for kind, words in (("budget", "gain"), ("target", "log S")):
        for n in (3, 5, 10):
            effect, rate = planted(kind, arms=options.arms, seeds=n, studies=options.decided // 4, generator=generator)
            report(options.json, "planted effects", f"{words}, n={n}", rate, effect=effect)


if __name__ == "__main__":
    main()
