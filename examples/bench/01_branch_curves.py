"""Branch curves: a trunk at a constant rate, and a decay of its own for every budget. What does that do to the levels?

    python examples/bench/01_branch_curves.py

With `calibrate=True` the baseline is trained in all three kinds of curve, from the same seeds. The first cyclic point
is a separate run, to the bit; what follows has the bias of the restarts. A branch is another recipe (constant, then a
decay), which is why branch curves are compared with branch curves only. The sizes only show how.
"""

from __future__ import annotations

from pathlib import Path

import hasten
from hasten.methods import label_smoothing

RING = Path(__file__).parents[1] / "03_own_workload.py"  # is a point inside a ring?


def main():
    arms = {"base": [], "smooth": [label_smoothing(0.1)]}
    study = hasten.compare(
        RING, arms, curve="branch", calibrate=True, seeds=2, duration="20ep", out="runs/branch", quiet=True
    )
    found = study.data["calibration"]
    print(f"accuracy of {found['arm']:8}" + "".join(f"{budget:>12}{'':4}" for budget in found["budgets"]))
    for kind in found["kinds"]:
        cells = [cell(level) for level in kind["levels"]]
        print(f"  {kind['kind']:18}{''.join(cells)}   in {kind['steps']} steps")


def cell(level):
    """The level, and how far it lies from that of separate runs."""
    bias = "" if level["bias"] is None else f"{level['bias']:+.3f}"
    return f"{level['metric']:>9.3f} {bias:6}"


if __name__ == "__main__":
    main()
