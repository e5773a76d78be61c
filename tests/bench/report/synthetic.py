"""A made-up study with everything that can happen: 4 arms x 5 seeds x 4 points, a target that some runs never reach,
a failed run, a run repeated because the machine drifted, and one that was resumed. The statistics are the real ones.

`blur` learns more per step but each step is dearer, `ls` changes nothing that can be seen, `mixup` costs at first and
pays in the end.
"""

from __future__ import annotations

import copy
import functools
import math
from typing import Any

import numpy as np

from hasten.bench.stats import Table, analyse

BUDGETS = ("1 ep", "3 ep", "7 ep", "15 ep")
EPOCHS = (1, 3, 7, 15)
STEPS = 32  # per epoch
#            accuracy after 1, 3, 7, 15 epochs; seconds per step; inference cost
ARMS = {
    "base": ((0.322, 0.717, 0.806, 0.811), 0.0130, 1.00),
    "blur": ((0.469, 0.757, 0.830, 0.852), 0.0151, 1.12),
    "ls": ((0.318, 0.714, 0.806, 0.813), 0.0132, 1.00),
    "mixup": ((0.292, 0.672, 0.809, 0.833), 0.0133, 1.00),
}
METHODS = {"base": [], "blur": ["blurpool(min_channels=16)"], "ls": ["label_smoothing(amount=0.1)"],
           "mixup": ["mixup(alpha=0.2)"]}  # fmt: skip
PHASES = {"setup": 0.01, "loader": 0.06, "batch": 0.04, "forward": 0.30, "backward": 0.44, "optimizer": 0.13, "hooks": 0.02}


def _run(name: str, seed: int, generator: np.random.Generator, *, points: int = 4) -> dict[str, Any]:
    accuracies, pace, inference = ARMS[name]
    noise = np.random.default_rng(100 + seed).normal(0, [0.03, 0.012, 0.005, 0.003])  # shared by the arms of a seed
    own = generator.normal(0, [0.03, 0.008, 0.003, 0.002])
    speed = pace * math.exp(generator.normal(0, 0.01))
    found = [
        {"point": k, "step": EPOCHS[k] * STEPS, "epoch": float(EPOCHS[k]), "seconds": EPOCHS[k] * STEPS * speed,
         "metric": round(float(np.clip(accuracies[k] + noise[k] + own[k], 0, 1)), 4),
         "train_loss": round(2.2 * math.exp(-0.4 * EPOCHS[k]) + 0.2, 4), "flops": 2.5e9 * EPOCHS[k] * inference}
        for k in range(points)
    ]  # fmt: skip
    seconds = found[-1]["seconds"]
    return {
        "arm": name, "seed": seed, "attempt": 0, "status": "done", "counts": True, "flags": [], "seconds": seconds,
        "phases": {phase: share * seconds for phase, share in PHASES.items()},
        "excluded": {"data": 0.2, "evaluation": 0.9, "checkpoint": 0.05, "counting": 0.08, "reporting": 0.01},
        "flops": found[-1]["flops"], "memory": int(3.1e8 * inference),
        "inference": {"ms": 1.9 * inference, "flops": 2.1e6 * inference, "parameters": 16_314},
        "weights": f"{7919 * (seed + 1) * len(name):016x}",
        "calibration": {"before": 0.0101, "after": 0.0102, "ratio": 1.01}, "error": None, "points": found,
    }  # fmt: skip


def _runs(names: list[str], seeds: int) -> list[dict[str, Any]]:
    generator = np.random.default_rng(7)
    return [_run(name, seed, generator) for seed in range(seeds) for name in names]


def _mishaps(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A drifted run with its repetition, a resumed run, and a failed one."""
    drifted = next(run for run in runs if run["arm"] == "base" and run["seed"] == 2)
    first = copy.deepcopy(drifted)
    first.update(counts=False, flags=["drifted"], seconds=first["seconds"] * 1.4,
                 calibration={"before": 0.0101, "after": 0.0146, "ratio": 1.446})  # fmt: skip
    drifted["attempt"] = 1
    next(run for run in runs if run["arm"] == "ls" and run["seed"] == 1)["flags"] = ["resumed"]
    failed = next(run for run in runs if run["arm"] == "mixup" and run["seed"] == 4)
    failed.update(status="failed", points=failed["points"][:2], flops=None, memory=None, inference=None, weights=None,
                  error="NonFiniteError: the training loss became nan at step 131.")  # fmt: skip
    failed["seconds"] = failed["points"][-1]["seconds"] * 1.2
    return [*runs[:4], first, *runs[4:]]


def rows_of(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The table of the runs that count; a failed run ends with a metric that is not a number."""
    rows = []
    for run in runs:
        if not run["counts"]:
            continue
        points = [(point["point"], point["step"], point["seconds"], point["metric"]) for point in run["points"]]
        if run["status"] == "failed":
            points.append((len(points), EPOCHS[len(points)] * STEPS, run["seconds"], math.nan))
        rows += [{"arm": run["arm"], "seed": run["seed"], "point": point, "step": step, "time": seconds, "metric": metric}
                 for point, step, seconds, metric in points]  # fmt: skip
    return rows


@functools.cache
def _study(names: tuple[str, ...], seeds: int, mishaps: bool) -> dict[str, Any]:
    runs = _runs(list(names), seeds)
    if mishaps:
        runs = _mishaps(runs)
    inference = {name: ARMS[name][2] for name in names}
    analysis = None
    if len(names) > 1:
        analysis = analyse(Table.from_rows(rows_of(runs)), baseline="base", budgets_labels=BUDGETS, inference=inference)
    steps = [*range(0, EPOCHS[-1] * STEPS, 4), EPOCHS[-1] * STEPS]
    starts = (0, *(epoch * STEPS for epoch in EPOCHS))
    cycle = [next(k for k in range(4) if step <= starts[k + 1]) for step in steps]
    schedule = [0.5 + 0.5 * math.cos(math.pi * (step - starts[k]) / (starts[k + 1] - starts[k]))
                for step, k in zip(steps, cycle, strict=True)]  # fmt: skip
    return {
        "version": 1,
        "study": {
            "title": "Which of these pay on hard digits?", "workload": "digits",
            "summary": "Handwritten digits, rotated, shifted and noisy, 16 × 16 pixels; five convolutions, one CPU thread.",
            "curve": "cyclic", "curve_reason": "no arm has an irreversible horizon or changes the schedule",
            "baseline": "base", "seeds": list(range(seeds)), "created": "2026-01-31T12:00:00+00:00",
            "command": "hasten compare digits --arms 'base,blur=blurpool,ls=label_smoothing,mixup' --seeds 5",
            "duration": "15ep", "budgets": list(BUDGETS), "ends": [epoch * STEPS for epoch in EPOCHS],
            "metric": "accuracy", "minimize": False, "target": None,
            "arms": [{"name": name, "methods": METHODS[name], "fingerprint": f"{i:02d}c0ffee",
                      "differences": [f"+ {method.split('(')[0]}" for method in METHODS[name]]}
                     for i, name in enumerate(names)],
            "schedule": {"all": {"step": [float(step) for step in steps], "multiplier": schedule}},
            "status": "complete", "clock_excludes": ["data preparation", "evaluation", "checkpoints", "FLOP counting"],
        },
        "analysis": analysis and analysis.to_json(),
        "runs": runs,
        "power": {"text": "With 5 seeds a gain of 0.009 at the last budget is found with 80 % power.", "mde": {"15 ep": 0.009}},
        "environment": {"python": "3.11.2", "torch": "2.13.0", "numpy": "2.4.6", "hasten": "0.1.0", "isa": "avx2",
                        "threads": 1, "device": "cpu", "processor": "an example processor", "load at start": 0.31},
        "notes": ["The clock of a resumed run continues where the checkpoint left it."],
    }  # fmt: skip


def study(names: tuple[str, ...] = tuple(ARMS), *, seeds: int = 5, mishaps: bool | None = None) -> dict[str, Any]:
    """A fresh copy of the made-up study."""
    return copy.deepcopy(_study(names, seeds, len(names) == 4 if mishaps is None else mishaps))


def renamed(data: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """The same study with other arm names, wherever they stand as data."""

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {names.get(key, key): walk(item) for key, item in value.items()}
        if isinstance(value, list):
            return [walk(item) for item in value]
        return names.get(value, value) if isinstance(value, str) else value

    return walk(data)
