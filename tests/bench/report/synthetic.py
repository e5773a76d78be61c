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

from hasten.bench.report import VERSION
from hasten.bench.stats import Table, analyse
from hasten.bench.stats.calibration import calibrate
from hasten.bench.stats.schema import plain

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
# Arms that only some studies have: both methods at once, which together gain a little less than their sum.
MORE = {
    "both": ((0.460, 0.753, 0.829, 0.851), 0.0153, 1.12, ["blurpool(min_channels=16)", "label_smoothing(amount=0.1)"]),
}
KINDS = ARMS | MORE
WATTS = 55.0
HOSTILE = (
    "</script><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)\' {{7*7}}',
    "base\u2028\u202e\x1b[31m|&amp;",
)


def _points(kind: str, seed: int, points: int, minimize: bool, generator: np.random.Generator) -> list[dict[str, Any]]:
    accuracies, pace, inference, _ = KINDS[kind]
    shared = np.random.default_rng(100 + seed).normal(0, [0.03, 0.012, 0.005, 0.003])  # paired arms share it
    own = generator.normal(0, [0.03, 0.008, 0.003, 0.002])
    speed = pace * math.exp(generator.normal(0, 0.01))
    values = np.clip(np.asarray(accuracies) + shared + own, 0, 1).round(4).tolist()
    return [
        {"point": k, "step": EPOCHS[k] * STEPS, "epoch": float(EPOCHS[k]), "seconds": EPOCHS[k] * STEPS * speed,
         "metric": round(1 - values[k], 4) if minimize else values[k],
         "train_loss": round(2.2 * math.exp(-0.4 * EPOCHS[k]) + 0.2, 4), "flops": 2.5e9 * EPOCHS[k] * inference,
         "memory": int(3.1e8 * inference * (1 if k else 0.9)), "energy": WATTS * EPOCHS[k] * STEPS * speed}
        for k in range(points)
    ]  # fmt: skip


def _run(name: str, kind: str, seed: int, points: list[dict[str, Any]]) -> dict[str, Any]:
    seconds, inference = points[-1]["seconds"], KINDS[kind][2]
    return {
        "arm": name, "seed": seed, "attempt": 0, "status": "done", "counts": True, "flags": [], "seconds": seconds,
        "phases": {phase: share * seconds for phase, share in PHASES.items()}, "excluded": dict(EXCLUDED),
        "flops": points[-1]["flops"], "memory": points[-1]["memory"], "energy": points[-1]["energy"],
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
    failed.update(status="failed", points=failed["points"][:2], flops=None, memory=None, energy=None, inference=None,
                  weights=None, error="NonFiniteError: the training loss became nan at step 131.")  # fmt: skip
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


def _schedule(points: int, curve: str) -> dict[str, list[float]]:
    ends = [0, *(epoch * STEPS for epoch in EPOCHS[:points])]
    step, multiplier = [], []
    for start, end in itertools.pairwise(ends if curve == "cyclic" else [0, ends[-1]]):
        for t in np.linspace(start, end, 48).tolist():
            share = (t - start) / (end - start)
            step.append(t)
            multiplier.append(0.5 + 0.5 * math.cos(math.pi * share) if curve != "branch" else
                              1 - math.sqrt(max(0.0, 5 * share - 4)))  # fmt: skip
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
            parts = [[point] for point in found] if curve == "separate" else [found]
            runs += [_run(name, kind, seed, part) for part in parts]
            if curve == "branch":  # the decays of the shorter budgets, a fifth of each
                runs[-1]["excluded"]["branches"] = 0.2 * sum(point["seconds"] for point in found[:-1])
    budgets = [f"{epoch} ep" for epoch in EPOCHS[:points]]
    data = {
        "version": VERSION,
        "study": {
            "title": "Which of these pay on hard digits?", "workload": "digits",
            "summary": "Handwritten digits, rotated, shifted, noisy, 16 by 16 pixels; five convolutions, one thread.",
            "curve": curve, "curve_reason": "no arm has an irreversible horizon or changes the schedule",
            "baseline": names[0], "seeds": list(range(seeds)), "created": "2026-01-31T12:00:00+00:00",
            "command": "hasten compare digits --arms 'base,blur=blurpool,ls=label_smoothing,mixup' --seeds 5",
            "duration": f"{EPOCHS[points - 1]}ep", "budgets": budgets, "ends": [e * STEPS for e in EPOCHS[:points]],
            "metric": "error" if minimize else "accuracy", "minimize": minimize, "target": None,
            "arms": [{"name": name, "methods": methods, "fingerprint": hashlib.sha256(kind.encode()).hexdigest(),
                      "differences": [f"+ {method.split('(')[0]}" for method in methods]}
                     for name, kind in arms for methods in [KINDS[kind][3]]],
            "schedule": {"all": _schedule(points, curve)}, "status": "complete",
            "clock_excludes": ["data preparation", "evaluation", "checkpoints", "FLOP counting"]
            + ["branches"] * (curve == "branch"),
        },
        "analysis": None, "calibration": None,
        "runs": _mishaps(runs, names) if mishaps else runs,
        "power": {"text": "With 5 seeds a gain of 0.009 at the last budget is found with 80 % power.",
                  "mde": {"15 ep": 0.009}},
        "environment": {"python": "3.11.2", "torch": "2.13.0", "numpy": "2.4.6", "hasten": "0.1.0", "isa": "avx2",
                        "threads": 1, "device": "cpu", "processor": "an example processor", "load at start": 0.31},
        "notes": ["The clock of a resumed run continues where the checkpoint left it."],
    }  # fmt: skip
    if len(names) > 1:
        inference = {name: KINDS[kind][2] for name, kind in arms}
        methods = {name: KINDS[kind][3] for name, kind in arms}
        found = analyse(Table.from_rows(rows_of(data)), baseline=names[0], budgets_labels=budgets, inference=inference,
                        minimize=minimize, methods=methods)  # fmt: skip
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


def designed(curve: str = "cyclic") -> dict[str, Any]:
    """A study with two methods alone and together, which shows whether they add up."""
    return study({kind: kind for kind in ("base", "blur", "ls", "both")}, curve=curve)


def calibrated(curve: str = "branch") -> dict[str, Any]:
    """A study whose baseline was measured in every kind of curve."""
    data = study(curve=curve)
    values = {kind: _levels(kind, len(data["study"]["seeds"])) for kind in ("separate", "cyclic", "branch")}
    costs = {"separate": (832, 10.8), "cyclic": (480, 6.2), "branch": (549, 7.1)}  # of ends 32, 96, 224, 480
    data["calibration"] = {
        "arm": "base", "budgets": data["study"]["budgets"],
        "kinds": [{"kind": kind, "steps": costs[kind][0], "seconds": costs[kind][1], "levels": plain(list(found))}
                  for kind, found in calibrate(values).items()],
    }  # fmt: skip
    return data


def _levels(kind: str, seeds: int) -> dict[int, list[float]]:
    """Accuracies of the baseline by seed; branches learn another recipe, which is better except where it is short."""
    shift = {"separate": (0, 0, 0, 0), "cyclic": (0, -0.0004, 0.0038, 0.0017), "branch": (-0.067, 0.027, 0.012, 0.008)}
    own = np.random.default_rng(list(kind.encode()))
    noise = {seed: np.random.default_rng(100 + seed).normal(0, [0.03, 0.012, 0.005, 0.003]) for seed in range(seeds)}
    return {
        seed: (np.asarray(ARMS["base"][0]) + shift[kind] + noise[seed] + own.normal(0, 0.003, 4)).round(4).tolist()
        for seed in range(seeds)
    }


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
