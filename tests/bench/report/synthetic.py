"""Made-up studies with real statistics, and everything that can happen to a study.

The default one has 4 arms x 5 seeds x 4 points, a target that some runs never reach, a run that failed, one that was
repeated because the machine drifted, and one that was resumed. `blur` learns more per step but each step is dearer,
`ls` changes nothing that can be seen, `mixup` costs at first and pays in the end.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import itertools
import math
from typing import Any

import numpy as np

from hasten.bench.stats import Table, analyse

EPOCHS = (1, 3, 7, 15)
STEPS = 32  # per epoch
#            accuracy after 1, 3, 7, 15 epochs; seconds per step; inference cost; methods
ARMS = {
    "base": ((0.322, 0.717, 0.806, 0.811), 0.0130, 1.00, []),
    "blur": ((0.469, 0.757, 0.830, 0.852), 0.0151, 1.12, ["blurpool(min_channels=16)"]),
    "ls": ((0.318, 0.714, 0.806, 0.813), 0.0132, 1.00, ["label_smoothing(amount=0.1)"]),
    "mixup": ((0.292, 0.672, 0.809, 0.833), 0.0133, 1.00, ["mixup(alpha=0.2)"]),
}
PHASES = {
    "setup": 0.01,
    "loader": 0.06,
    "batch": 0.04,
    "forward": 0.30,
    "backward": 0.44,
    "optimizer": 0.13,
    "hooks": 0.02,
}
EXCLUDED = {"data": 0.2, "evaluation": 0.9, "checkpoint": 0.05, "counting": 0.08, "reporting": 0.01}
HOSTILE = (
    "</script><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)\' {{7*7}}',
    "base\u2028\u202e\x1b[31m|&amp;",
)


def _points(kind: str, seed: int, points: int, minimize: bool, generator: np.random.Generator) -> list[dict[str, Any]]:
    accuracies, pace, inference, _ = ARMS[kind]
    shared = np.random.default_rng(100 + seed).normal(0, [0.03, 0.012, 0.005, 0.003])  # paired arms share it
    own = generator.normal(0, [0.03, 0.008, 0.003, 0.002])
    speed = pace * math.exp(generator.normal(0, 0.01))
    values = np.clip(np.asarray(accuracies) + shared + own, 0, 1).round(4).tolist()
    return [
        {"point": k, "step": EPOCHS[k] * STEPS, "epoch": float(EPOCHS[k]), "seconds": EPOCHS[k] * STEPS * speed,
         "metric": round(1 - values[k], 4) if minimize else values[k],
         "train_loss": round(2.2 * math.exp(-0.4 * EPOCHS[k]) + 0.2, 4), "flops": 2.5e9 * EPOCHS[k] * inference}
        for k in range(points)
    ]  # fmt: skip


def _run(name: str, kind: str, seed: int, points: list[dict[str, Any]]) -> dict[str, Any]:
    seconds, inference = points[-1]["seconds"], ARMS[kind][2]
    return {
        "arm": name, "seed": seed, "attempt": 0, "status": "done", "counts": True, "flags": [], "seconds": seconds,
        "phases": {phase: share * seconds for phase, share in PHASES.items()}, "excluded": dict(EXCLUDED),
        "flops": points[-1]["flops"], "memory": int(3.1e8 * inference),
        "inference": {"ms": 1.9 * inference, "flops": 2.1e6 * inference, "parameters": 16_314},
        "weights": hashlib.sha256(f"{kind} {seed}".encode()).hexdigest(),
        "calibration": {"before": 0.0101, "after": 0.0102, "ratio": 1.01}, "error": None, "points": points,
    }  # fmt: skip


def _mishaps(runs: list[dict[str, Any]], names: list[str]) -> list[dict[str, Any]]:
    """A drifted run of the first arm with its repetition, a resumed one of the third, a failed one of the last."""
    drifted = next(run for run in runs if run["arm"] == names[0] and run["seed"] == 2)
    first = copy.deepcopy(drifted)
    first.update(counts=False, flags=["drifted"], seconds=first["seconds"] * 1.4,
                 calibration={"before": 0.0101, "after": 0.0146, "ratio": 1.446})  # fmt: skip
    drifted["attempt"] = 1
    next(run for run in runs if run["arm"] == names[2] and run["seed"] == 1)["flags"] = ["resumed"]
    failed = next(run for run in runs if run["arm"] == names[-1] and run["seed"] == 4)
    failed.update(status="failed", points=failed["points"][:2], flops=None, memory=None, inference=None, weights=None,
                  error="NonFiniteError: the training loss became nan at step 131.")  # fmt: skip
    failed["seconds"] = failed["points"][-1]["seconds"] * 1.2
    return [*runs[:4], first, *runs[4:]]


def rows_of(data: dict[str, Any]) -> list[dict[str, Any]]:
    """The table of the runs that count, metric higher is better; a failed run ends with one that is not a number."""
    sign = -1 if data["study"]["minimize"] else 1
    rows = []
    for run in data["runs"]:
        points = [(p["point"], p["seconds"], sign * p["metric"]) for p in run["points"]]
        if run["status"] == "failed":
            points.append((len(points), run["seconds"], math.nan))
        if run["counts"]:
            rows += [{"arm": run["arm"], "seed": run["seed"], "point": point, "time": seconds, "metric": metric,
                      "workload": data["study"]["workload"]} for point, seconds, metric in points]  # fmt: skip
    return rows


def _schedule(points: int) -> dict[str, list[float]]:
    ends = [0, *(epoch * STEPS for epoch in EPOCHS[:points])]
    step, multiplier = [], []
    for start, end in itertools.pairwise(ends):
        for t in np.linspace(start, end, 24).tolist():
            step.append(t)
            multiplier.append(0.5 + 0.5 * math.cos(math.pi * (t - start) / (end - start)))
    return {"step": step, "multiplier": multiplier}


@functools.cache
def _study(
    arms: tuple[tuple[str, str], ...], seeds: int, points: int, minimize: bool, curve: str, mishaps: bool
) -> dict[str, Any]:
    names, generator = [name for name, _ in arms], np.random.default_rng(7)
    runs = []
    for seed in range(seeds):
        for name, kind in arms:
            found = _points(kind, seed, points, minimize, generator)
            parts = [found] if curve == "cyclic" else [[point] for point in found]
            runs += [_run(name, kind, seed, part) for part in parts]
    budgets = [f"{epoch} ep" for epoch in EPOCHS[:points]]
    data = {
        "version": 1,
        "study": {
            "title": "Which of these pay on hard digits?", "workload": "digits",
            "summary": "Handwritten digits, rotated, shifted, noisy, 16 by 16 pixels; five convolutions, one thread.",
            "curve": curve, "curve_reason": "no arm has an irreversible horizon or changes the schedule",
            "baseline": names[0], "seeds": list(range(seeds)), "created": "2026-01-31T12:00:00+00:00",
            "command": "hasten compare digits --arms 'base,blur=blurpool,ls=label_smoothing,mixup' --seeds 5",
            "duration": f"{EPOCHS[points - 1]}ep", "budgets": budgets, "ends": [e * STEPS for e in EPOCHS[:points]],
            "metric": "error" if minimize else "accuracy", "minimize": minimize, "target": None,
            "arms": [{"name": name, "methods": ARMS[kind][3], "fingerprint": hashlib.sha256(kind.encode()).hexdigest(),
                      "differences": [f"+ {method.split('(')[0]}" for method in ARMS[kind][3]]} for name, kind in arms],
            "schedule": {"all": _schedule(points)}, "status": "complete",
            "clock_excludes": ["data preparation", "evaluation", "checkpoints", "FLOP counting"],
        },
        "analysis": None,
        "runs": _mishaps(runs, names) if mishaps else runs,
        "power": {"text": "With 5 seeds a gain of 0.009 at the last budget is found with 80 % power.",
                  "mde": {"15 ep": 0.009}},
        "environment": {"python": "3.11.2", "torch": "2.13.0", "numpy": "2.4.6", "hasten": "0.1.0", "isa": "avx2",
                        "threads": 1, "device": "cpu", "processor": "an example processor", "load at start": 0.31},
        "notes": ["The clock of a resumed run continues where the checkpoint left it."],
    }  # fmt: skip
    if len(names) > 1:
        inference = {name: ARMS[kind][2] for name, kind in arms}
        found = analyse(Table.from_rows(rows_of(data)), baseline=names[0], budgets_labels=budgets, inference=inference,
                        minimize=minimize)  # fmt: skip
        data["analysis"] = found.to_json()
    return data


def study(
    arms: dict[str, str] | None = None, *, seeds: int = 5, points: int = 4, minimize: bool = False,
    curve: str = "cyclic", mishaps: bool | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A fresh copy of a made-up study; `arms` maps names to the kinds of `ARMS`, the first is the baseline."""
    default = arms is None and seeds == 5 and points == 4 and curve == "cyclic"
    pairs = tuple((arms or {kind: kind for kind in ARMS}).items())
    return copy.deepcopy(_study(pairs, seeds, points, minimize, curve, default if mishaps is None else mishaps))


def hostile() -> dict[str, Any]:
    """A study whose names and texts try to break out of every format."""
    kinds = iter(ARMS)
    data = study({name: next(kinds) for name in HOSTILE})
    for key in ("title", "workload", "summary", "command", "metric", "curve_reason", "status"):
        data["study"][key] = f"{key} {HOSTILE[0]} {HOSTILE[1]}"
    data["study"]["arms"][1]["methods"] = list(HOSTILE)
    data["runs"][0]["error"] = HOSTILE[0]
    data["runs"][0]["flags"] = [HOSTILE[0]]
    data["notes"] = list(HOSTILE)
    data["environment"][HOSTILE[0]] = HOSTILE[1]
    return data
