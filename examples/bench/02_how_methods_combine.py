"""Do methods add up, and which arm is the best choice for its time? A 2^3 design on logs: nothing is trained here.

    python examples/bench/02_how_methods_combine.py

The numbers are made up: `smooth` and `mix` do partly the same, `blur` does something else.
"""

from __future__ import annotations

import math
import random
from itertools import combinations

from hasten.bench.stats import Table, analyse

GAIN = {"blur": 0.010, "smooth": 0.012, "mix": 0.016}  # accuracy
COST = {"blur": 1.06, "smooth": 1.00, "mix": 1.02}  # factor of the training time
OVERLAP = 0.010  # what smooth and mix both do


def logs(arms):
    """One row for each evaluation, as `Table.from_csv` would read it."""
    draw = random.Random(3)
    for seed in range(5):
        luck = draw.gauss(0, 0.004)  # what all arms of a seed share
        for arm, methods in arms.items():
            pace = math.prod(COST[name] for name in methods)
            gain = sum(GAIN[name] for name in methods) - OVERLAP * ({"smooth", "mix"} <= {*methods})
            for k, quality in enumerate((0.70, 0.76, 0.80)):
                metric = quality + gain + luck + draw.gauss(0, 0.0015)
                yield {"arm": arm, "seed": seed, "time": 10 * pace * 2**k, "metric": metric}


def main():
    arms = {"+".join(chosen) or "base": chosen for k in range(4) for chosen in combinations(GAIN, k)}
    analysis = analyse(Table.from_rows(logs(arms)), baseline="base", methods=arms)

    print("on the frontier of time and quality (share of resamples of the seeds)")
    for arm in analysis.frontier.arms:
        print(f"  {arm.arm:16} {arm.probability:5.0%}, adds {arm.contribution:.4f} to the hypervolume")

    last = analysis.budgets[-1]
    print(f"at {last.label}, beyond the sum of the parts (pairs), or inside the recipe (left out)")
    for found in analysis.interactions:
        if found.axis == "budget" and found.index == last.index:
            what = found.method if found.kind == "left_out" else " and ".join(found.parts)
            print(f"  {found.kind:8} {what:16} {found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}]")


if __name__ == "__main__":
    main()
