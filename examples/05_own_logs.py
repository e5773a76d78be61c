"""Statistics on logs of your own: no training here, only a CSV file with arm, seed, time and metric.

    python examples/05_own_logs.py
    hasten compare --from runs.csv

The numbers are made up: arm "new" takes 0.8 of the time of "base" for each point, at a slightly better metric.
"""

from __future__ import annotations

import csv
import random

from hasten.bench.stats import Table, analyse


def write_logs(path):
    """One line per evaluation, each at the end of its own schedule; the seed pairs runs of two arms."""
    draw = random.Random(0)
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["arm", "seed", "time", "metric"])
        for seed in range(5):
            luck = draw.gauss(0, 0.005)  # what both arms of a seed share
            for arm, pace, gain in (("base", 1.0, 0.0), ("new", 0.8, 0.01)):
                for k, quality in enumerate((0.70, 0.76, 0.80)):
                    noise = draw.gauss(0, 0.002)
                    rows.writerow([arm, seed, 10 * pace * 2**k, quality + gain + luck + noise])


def main():
    write_logs("runs.csv")
    analysis = analyse(Table.from_csv("runs.csv"), baseline="base")
    new = analysis.arm("new")
    print(f"new {new.sentence}")
    for effect in new.targets:
        if effect.low is None or effect.high is None:  # some run never got there: a bound, not a number
            print(f"  {effect.label}: {effect.reason}")
        else:
            interval = f"[{effect.low:.2f}, {effect.high:.2f}]"
            print(f"  {effect.label}: {effect.value:.2f} times as fast, {interval}, {effect.verdict}")
    for note in analysis.notes:
        print(f"  note: {note}")


if __name__ == "__main__":
    main()
