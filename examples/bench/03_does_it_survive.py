"""Does the verdict survive? The same question for the workload and for a variant of it.

    python examples/bench/03_does_it_survive.py
    hasten compare examples/03_own_workload.py --arms base,ema --variants

Variants change the width, the activation, the norm, the labels or the batch. Two seeds prove nothing, and where nothing
is proven there is nothing to confirm; the sizes only show how.
"""

from __future__ import annotations

from pathlib import Path

from hasten.bench.robustness import robustness
from hasten.methods import ema

RING = Path(__file__).parents[1] / "03_own_workload.py"  # is a point inside a ring?


def main():
    arms = {"base": [], "ema": [ema()]}
    found = robustness(
        RING, arms, names="activation", seeds=2, duration="10ep", points=2, out="runs/survives", quiet=True
    )
    print(found.table())


if __name__ == "__main__":
    main()
