"""From a store to the plain data that tables, pages and files are made of. Nothing that a program names is imported."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hasten._core.clock import Tick

from .book import counting
from .ledger import EXCLUDED
from .plan import Plan
from .report.upgrade import VERSION
from .stats.calibration import REFERENCE, calibrate
from .stats.intervals import paired_t
from .stats.schema import plain
from .stats.summary import Analysis, analyse
from .stats.table import Seed, Table
from .store import Store

__all__ = ["analysis_of", "calibration_of", "curves_of", "data_from_logs", "describe", "inference_ratios", "rows_of"]
__all__ += ["study_data"]

SCHEDULE_POINTS = 400
POINT = ("point", "step", "epoch", "seconds", "metric", "train_loss", "flops", "memory", "energy")


def describe(plan: Plan) -> dict[str, Any]:
    """A plan as plain data: what the store keeps and reports show."""
    base = plan.arms[plan.baseline]
    names = ", ".join(plan.arms)
    return {
        "title": f"{plan.workload.name}: {names}",
        "workload": plan.workload.name,
        "summary": plan.workload.summary,
        "curve": plan.curve.kind,
        "curve_reason": plan.reason,
        "baseline": plan.baseline,
        "seeds": list(plan.seeds),
        "duration": base.duration,
        "budgets": plan.budgets(),
        "ends": list(plan.curve.ends),
        "metric": plan.workload.metric_name,
        "minimize": plan.workload.minimize,
        "target": plan.workload.target,
        "arms": [
            {
                "name": name,
                "methods": [str(method) for method in program.methods],
                "fingerprint": program.fingerprint(),
                "differences": differences(base, program),
                "program": program.to_json(),
            }
            for name, program in plan.arms.items()
        ],
        "schedule": _schedules(plan),
        "clock_excludes": [what for what in EXCLUDED if what != "branches" or plan.curve.kind == "branch"],
    }


def curves_of(plan: Plan) -> list[dict[str, Any]]:
    """The kinds of curve in a plan as plain data: the study's own first, then those of its controls."""
    curves = [plan.curve, *(control.curve for control in plan.controls)]
    return [
        {"label": curve.label, "kind": curve.kind, "steps": sum(curve.steps(points) for points in curve.runs())}
        for curve in curves
    ]


def differences(base: Any, program: Any) -> list[str]:
    """The slots in which a program differs from the baseline's, in words."""
    found = []
    before, after = base.record(), program.record()
    for slot in after:
        if before[slot] == after[slot]:
            continue
        if isinstance(after[slot], list):
            old, new = ({entry[0]: entry for entry in record[slot]} for record in (before, after))
            found += [f"{slot}: + {name}" for name in new if name not in old]
            found += [f"{slot}: - {name}" for name in old if name not in new]
            found += [f"{slot}: {name} otherwise" for name in old if name in new and old[name] != new[name]]
        else:
            found.append(f"{slot}: {getattr(program, slot)}")
    return found


def _schedules(plan: Plan) -> dict[str, Any]:
    """The learning-rate multiplier along the whole run: one curve for all arms, or one for each that differs."""
    found: dict[str, Any] = {}
    shared = len({program.schedule for program in plan.arms.values()}) == 1
    cycles = plan.curve.cycles(tuple(range(len(plan.curve.ends))))
    if plan.curve.kind != "cyclic":
        cycles = cycles[-1:]  # the longest stands for the others
    for name, program in plan.arms.items():
        scheduled = program.schedule.build()
        if scheduled.unit in ("seconds", "token"):
            continue  # what these clocks show is known in a run only
        ticks = [
            Tick(int(step), start, end, 0.0, plan.steps_per_epoch, program.batch_size)
            for start, end, _ in cycles
            for step in np.unique(np.linspace(start, end - 1, SCHEDULE_POINTS // len(cycles)).astype(int))
        ]
        curve = {"step": [tick.step for tick in ticks], "multiplier": [scheduled.at(tick) for tick in ticks]}
        found["all" if shared else name] = curve
        if shared:
            break
    return found


def rows_of(runs: list[dict[str, Any]], *, workload: str, minimize: bool) -> list[dict[str, Any]]:
    """The table of statistics from the attempts that count; a failed run is one row without a metric."""
    chosen = counting(runs)
    rows: list[dict[str, Any]] = []
    for run in runs:
        key = run["key"]
        if key not in chosen:
            continue
        shared = {"arm": key.arm, "workload": workload, "seed": key.seed}
        for point in run["points"]:
            metric = -point["metric"] if minimize else point["metric"]
            numbers = {name: point[name] for name in ("point", "step", "flops", "memory")}
            rows.append({**shared, **numbers, "time": point["seconds"], "metric": metric})
        if run["status"] == "failed":
            point = run["points"][-1]["point"] + 1 if run["points"] else key.first
            rows.append({**shared, "point": point, "time": 0.0, "metric": math.nan})
    return _curves(rows)


def _curves(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows by arm, seed and point, so that separate runs of one seed become one curve.

    A failed run has no time at its missing point; it gets one just after the point before, which nobody reads.
    """
    order = list(dict.fromkeys(row["arm"] for row in rows))
    rows = sorted(rows, key=lambda row: (order.index(row["arm"]), row["seed"], row["point"]))
    before: dict[tuple[str, int], float] = {}
    for row in rows:
        place = row["arm"], row["seed"]
        if math.isnan(row["metric"]):
            row["time"] = before.get(place, 0.0) * (1 + 1e-6) + 1e-6
        before[place] = row["time"]
    return rows


def inference_ratios(runs: list[dict[str, Any]], baseline: str) -> dict[str, float]:
    """Arm -> what a prediction costs relative to the baseline.

    By FLOPs, which are exact; by time instead where the paired interval over seeds shows that it rose more. (Time of
    one batch is noisy: a ratio that its own interval does not separate from 1 is not called a rise.)
    """
    last = max((point["point"] for run in runs for point in run["points"]), default=0)
    chosen = counting(runs)
    costs: dict[str, dict[int, dict[str, float]]] = {}
    for run in runs:
        ended = run["status"] == "done" and run["points"] and run["points"][-1]["point"] == last
        if run["key"] in chosen and ended and run["data"].get("inference"):
            costs.setdefault(run["key"].arm, {})[run["key"].seed] = run["data"]["inference"]
    base = costs.get(baseline, {})
    found = {}
    for arm, of_arm in costs.items():
        shared = sorted(of_arm.keys() & base.keys())
        if arm == baseline or not shared:
            continue
        flops = [of_arm[s]["flops"] / base[s]["flops"] for s in shared if base[s]["flops"]]
        logs = np.array([math.log(of_arm[s]["ms"] / base[s]["ms"]) for s in shared])
        ratio = statistics.median(flops) if flops else 1.0
        if len(logs) >= 3 and paired_t(logs).low > math.log(1.02):
            ratio = max(ratio, float(np.exp(logs.mean())))
        found[arm] = ratio
    return found


def analysis_of(runs: list[dict[str, Any]], study: Mapping[str, Any], margin: float | None = None) -> Analysis | str:
    """The analysis, or in words why there is none yet."""
    rows = rows_of(runs, workload=study["workload"], minimize=study["minimize"])
    if not rows:
        return "no run has ended yet"
    try:
        return analyse(
            Table.from_rows(rows),
            baseline=study["baseline"],
            margin=margin,
            minimize=study["minimize"],
            inference=inference_ratios(runs, study["baseline"]),
            methods={arm["name"]: arm["methods"] for arm in study["arms"]},
            budgets_labels=_labels(study),
        )
    except ValueError as error:
        return str(error)


def study_data(store: Store, *, margin: float | None = None) -> dict[str, Any]:
    """Everything a report shows, as plain data, from the store alone."""
    study, environment = store.get("plan"), store.get("environment")
    every = store.runs()
    digest = store.get("environment_digest")
    here = [run for run in every if run["key"].environment == digest]
    asked = [run for run in here if run["key"].seed in study["seeds"]]
    notes = [*(store.get("merged") or []), *(store.get("notes") or [])]
    if len(asked) < len(here):
        notes.append(f"Runs of other seeds are kept, not used: {len(here) - len(asked)}.")
    if len(here) < len(every):
        others = len(every) - len(here)
        notes.append(f"Runs of another environment (versions, threads, device) are kept, not used: {others}.")
    curves = store.get("curves")
    runs = [run for run in asked if curves is None or run["key"].curve == curves[0]["label"]]
    found = analysis_of(runs, study, margin if margin is not None else store.get("margin"))
    if isinstance(found, str):
        notes.append(found)
    machine = store.get("machine") or {}
    energy = {"energy": told} if (told := store.get("energy")) else {}
    arms = [{name: arm[name] for name in arm if name != "program"} for arm in study["arms"]]
    return {
        "version": VERSION,
        "study": {
            **study,
            "arms": arms,
            "schedule": {**study["schedule"], **_logged(runs)},
            "created": store.get("created"),
            "command": store.get("command") or "hasten.compare(...)",
            "status": store.get("status"),
        },
        "analysis": None if isinstance(found, str) else found.to_json(),
        "calibration": calibration_of(asked, study, curves or []),
        "runs": [_run(run, counting(runs)) for run in runs],
        "power": store.get("power"),
        "environment": {**environment, **machine, **energy},
        "notes": notes,
    }


def _logged(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Of arms whose schedule follows the clock in seconds, the learning rates that the first run that counts used."""
    chosen, found = counting(runs), {}
    for run in runs:
        logged = run["data"].get("schedule")
        if logged and run["key"] in chosen and run["key"].arm not in found:
            steps, values = zip(*logged, strict=True)
            found[run["key"].arm] = {"step": list(steps), "multiplier": list(values)}
    return found


def calibration_of(
    runs: list[dict[str, Any]], study: Mapping[str, Any], curves: list[dict[str, Any]]
) -> dict[str, Any] | None:
    """What the kind of curve does to the baseline's levels; None without controls, or before any has ended."""
    chosen, wanted = counting(runs), len(study["ends"])
    levels: dict[str, dict[Seed, list[float]]] = {}
    seconds: dict[str, dict[Seed, float]] = {}
    for curve in curves:
        points: dict[int, dict[int, float]] = {}
        for run in runs:
            key = run["key"]
            if key in chosen and key.arm == study["baseline"] and key.curve == curve["label"] and run["points"]:
                points.setdefault(key.seed, {}).update({point["point"]: point["metric"] for point in run["points"]})
                spent = run["points"][-1]["seconds"] + run["data"].get("excluded", {}).get("branches", 0.0)
                of_kind = seconds.setdefault(curve["kind"], {})
                of_kind[key.seed] = of_kind.get(key.seed, 0.0) + spent
        levels[curve["kind"]] = {
            seed: [found[k] for k in range(wanted)] for seed, found in points.items() if len(found) == wanted
        }
    if len(curves) < 2 or not levels.get(REFERENCE):
        return None
    steps = {curve["kind"]: curve["steps"] for curve in curves}
    kinds = [
        {
            "kind": kind,
            "steps": steps[kind],
            "seconds": statistics.mean(seconds[kind][seed] for seed in levels[kind]),
            "levels": [plain(level) for level in found],
        }
        for kind, found in calibrate(levels).items()
    ]
    return {"arm": study["baseline"], "budgets": _labels(study), "kinds": kinds}


def _labels(study: Mapping[str, Any]) -> list[str]:
    """The budgets in full words."""
    return [text.replace(" ep", " epochs") for text in study["budgets"]]


def _run(run: dict[str, Any], chosen: set[Any]) -> dict[str, Any]:
    key, data = run["key"], run["data"]
    flags = [flag for flag in ("drifted", "resumed") if data.get(flag)]
    points = [
        {name: point.get(name) for name in POINT}  # older studies lack some
        for point in run["points"]
    ]
    return {
        "arm": key.arm,
        "seed": key.seed,
        "attempt": key.attempt,
        "status": run["status"],
        "counts": key in chosen,
        "flags": flags,
        "seconds": points[-1]["seconds"] if points else 0.0,
        "phases": data.get("phases", {}),
        "excluded": data.get("excluded", {}),
        "flops": points[-1]["flops"] if points else 0.0,
        "memory": points[-1]["memory"] if points else None,
        "energy": points[-1]["energy"] if points else None,
        "inference": data.get("inference", {}),
        "weights": data.get("weights", ""),
        "calibration": data.get("calibration", {}),
        "error": data.get("error", ""),
        "points": points,
    }


def data_from_logs(
    path: str | Path, *, baseline: str | None = None, margin: float | None = None, minimize: bool = False
) -> dict[str, Any]:
    """The report data of somebody's own logs: a CSV file with the columns arm, seed, time, metric (and more).

    Args:
        path: the file; see `hasten.bench.stats.Table.from_csv` for its columns.
        baseline: an arm; default: the first in the file.
        margin: as in `hasten.compare`.
        minimize: a lower metric is better.
    """
    table = Table.from_csv(path, minimize=minimize)
    chosen = baseline if baseline is not None else table.arms[0]
    found = analyse(table, baseline=chosen, margin=margin, minimize=minimize)
    plain = found.to_json()
    study = {
        "title": Path(path).name,
        "workload": plain["workload"],
        "summary": "your own logs",
        "curve": "separate",
        "curve_reason": "as logged",
        "baseline": chosen,
        "seeds": sorted({row["seed"] for row in table.to_rows()}, key=str),
        "created": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": f"hasten compare --from {Path(path).name}",
        "duration": "",
        "budgets": [budget["label"] for budget in plain["budgets"]],
        "ends": [budget["step"] or 0 for budget in plain["budgets"]],
        "metric": "metric",
        "minimize": minimize,
        "target": None,
        "arms": [{"name": name, "methods": [], "fingerprint": "", "differences": []} for name in table.arms],
        "schedule": {},
        "status": "complete",
        "clock_excludes": [],
    }
    return {
        "version": VERSION, "study": study, "analysis": plain, "calibration": None, "runs": [], "power": None,
        "environment": {}, "notes": [],
    }  # fmt: skip
