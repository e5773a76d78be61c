"""From a store to the plain data that table, page and JSON of a pruning study are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..book import counting, with_drift
from ..store import Store
from . import fair
from .plan import SMALLER, UNPRUNED, PrunePlan

__all__ = ["VERSION", "describe", "prune_data"]

VERSION = 1
BASELINE = "random"
COSTS = ("parameters", "nonzero", "compression", "macs", "macs_nonzero", "speedup")

Run = dict[str, Any]


def describe(plan: PrunePlan) -> dict[str, Any]:
    """A plan as plain data: what the store keeps and pages show."""
    return {
        "title": f"{plan.workload.name}: pruning by {', '.join(plan.strategies)}",
        "workload": plan.workload.name,
        "summary": plan.workload.summary,
        "metric": plan.workload.metric_name,
        "minimize": plan.workload.minimize,
        "strategies": list(plan.strategies),
        "ratios": list(plan.ratios),
        "pattern": plan.pattern,
        "seeds": list(plan.seeds),
        "steps": {"train": plan.steps[0], "finetune": plan.steps[1]},
        "rate": plan.rate,
        "held_out": {"samples": plan.held_out[0], "by": plan.held_out[1]},
        "parameters": {"total": plan.parameters[0], "prunable": plan.parameters[1]},
        "classifier": plan.classifier,
        "smaller": [
            {"ratio": ratio, "parameters": one.parameters, "change": one.change} for ratio, one in plan.smaller.items()
        ],
        "without_smaller": plan.without_smaller,
    }


def prune_data(store: Store) -> dict[str, Any]:
    """Everything a report shows, from the store alone."""
    study, every = store.get("pruning"), store.runs()
    here = [run for run in every if run["key"].environment == store.get("environment_digest")]
    asked = with_drift([run for run in here if run["key"].seed in study["seeds"]])
    notes = [*(store.get("notes") or [])]
    if len(asked) < len(here):
        notes.append(f"Runs of other seeds are kept, not used: {len(here) - len(asked)}.")
    if len(here) < len(every):
        others = len(every) - len(here)
        notes.append(f"Runs of another environment (versions, threads, device) are kept, not used: {others}.")
    chosen = counting(asked)
    runs = [_run(run, study, run["key"] in chosen) for run in asked]
    done = [run for run in runs if run["counts"] and run["status"] == "done"]
    return {
        "version": VERSION,
        "kind": "prune",
        "study": {
            **study,
            "created": store.get("created"),
            "command": store.get("command") or "hasten.prune_curve(...)",
            "status": store.get("status"),
        },
        "rows": _rows(done, study),
        "analysis": _analysis(done, study),
        "runs": runs,
        "environment": {**(store.get("environment") or {}), **(store.get("machine") or {})},
        "notes": notes,
    }


def _run(run: Run, study: Mapping[str, Any], counts: bool) -> Run:
    key, data = run["key"], run["data"]
    last = run["points"][-1] if run["points"] else None
    return {
        "arm": key.arm,
        "seed": key.seed,
        "point": key.first,
        "ratio": study["ratios"][key.first],
        "attempt": key.attempt,
        "status": run["status"],
        "counts": counts,
        "flags": [flag for flag in ("drifted", "resumed") if data.get(flag)],
        "metric": None if last is None else last["metric"],
        "before": data.get("before"),
        "seconds": 0.0 if last is None else last["seconds"],
        "off": sum(data.get("excluded", {}).values()),
        "cost": data.get("cost"),
        "weights": data.get("weights", ""),
        "error": data.get("error", ""),
    }


# Rows: one per arm and place ------------------------------------------------------------------------------------------


def _rows(done: list[Run], study: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Means over seeds with their intervals, the controls first, then the strategies as they were asked for."""
    control = {run["seed"]: run["metric"] for run in done if run["arm"] == UNPRUNED}
    rows = []
    for arm in (UNPRUNED, *study["strategies"], SMALLER):
        for point, ratio in enumerate(study["ratios"]):
            runs = [run for run in done if (run["arm"], run["point"]) == (arm, point)]
            if runs:
                rows.append(_row(arm, point, ratio, runs, control, study))
    return rows


def _row(
    arm: str, point: int, ratio: float, runs: list[Run], control: Mapping[int, float], study: Mapping[str, Any]
) -> dict[str, Any]:
    sign = -1.0 if study["minimize"] else 1.0
    paired = [sign * (run["metric"] - control[run["seed"]]) for run in runs if run["seed"] in control]
    before = [run["before"] for run in runs if run["before"] is not None]
    costs = [run["cost"] for run in runs]
    mean = {name: sum(cost[name] for cost in costs) / len(costs) for name in COSTS}
    layouts = {
        name: None if any(cost["bytes"][name] is None for cost in costs)
        else sum(cost["bytes"][name] for cost in costs) / len(costs)
        for name in costs[0]["bytes"]
    }  # fmt: skip
    change = next((one["change"] for one in study["smaller"] if arm == SMALLER and one["ratio"] == ratio), "")
    return {
        "arm": arm,
        "point": point,
        "ratio": ratio,
        "n": len(runs),
        "metric": _spread([run["metric"] for run in runs]),
        "before": _spread(before) if before else None,
        "change": fair.difference(paired).plain() if paired and arm != UNPRUNED else None,
        **mean,
        "bytes": layouts,
        "ms": _factors([cost["latency"]["ms"] for cost in costs]),
        "relative": _factors([cost["relative"]["ratio"] for cost in costs]),
        "where": costs[0]["where"],
        "removed": costs[0]["removed"],
        "what": change,
    }


def _spread(values: list[float]) -> dict[str, float | None]:
    mean, low, high = fair.interval(values)
    return {"mean": mean, "low": low, "high": high}


def _factors(values: list[float]) -> dict[str, float | None]:
    """Times spread by factors: the geometric mean, and the interval of the mean of logarithms."""
    mean, low, high = fair.interval([math.log(value) for value in values])
    ends = (None if end is None else math.exp(end) for end in (low, high))
    return {"mean": math.exp(mean), **dict(zip(("low", "high"), ends, strict=True))}


# Analysis -------------------------------------------------------------------------------------------------------------

SAVED = {
    "compression": lambda cost: cost["compression"],
    "speedup": lambda cost: cost["speedup"],
    "latency": lambda cost: 1 / cost["relative"]["ratio"],
}


def _analysis(done: list[Run], study: Mapping[str, Any]) -> dict[str, Any]:
    """Effects against random pruning, orders on each axis, pairs and flips (see `fair`)."""
    sign = -1.0 if study["minimize"] else 1.0
    arms = [arm for arm in (*study["strategies"], SMALLER) if any(run["arm"] == arm for run in done)]
    levels: dict[str, dict[int, dict[int, float]]] = {arm: {} for arm in arms}
    for run in done:
        if run["arm"] in levels:
            levels[run["arm"]].setdefault(run["point"], {})[run["seed"]] = sign * run["metric"]
    axes = {axis: {arm: _curve(done, arm, study, sign, axis) for arm in arms} for axis in fair.AXES}
    controls = (BASELINE, SMALLER)
    found = fair.pairs(axes, controls)
    return {
        "alpha": fair.ALPHA,
        "effects": fair.effects({arm: levels[arm] for arm in arms if arm != SMALLER}, BASELINE),
        "ranking": fair.ranking(found, study["strategies"]),
        "orders": {axis: fair.orders(curves, study["ratios"][1:], controls) for axis, curves in axes.items()},
        "pairs": found,
        "flips": fair.flips(found),
    }


def _curve(
    done: list[Run], arm: str, study: Mapping[str, Any], sign: float, axis: str
) -> dict[int, list[tuple[float, float]]]:
    """The curves of the seeds that have every point, from the unpruned control on; narrower models have their own.

    Masks alone leave the time as it is: a strategy has a curve by measured time only where what is masked was removed.
    """
    control = {run["seed"]: run["metric"] for run in done if run["arm"] == UNPRUNED}
    wanted = len(study["smaller"]) if arm == SMALLER else len(study["ratios"]) - 1
    found: dict[int, list[tuple[float, float]]] = {}
    for run in done:
        if run["arm"] == arm and (axis != "latency" or arm == SMALLER or run["cost"]["removed"]):
            found.setdefault(run["seed"], []).append((SAVED[axis](run["cost"]), sign * run["metric"]))
    whole = {seed: points for seed, points in found.items() if len(points) == wanted}
    if arm == SMALLER:
        return whole
    return {seed: [(1.0, sign * control[seed]), *points] for seed, points in whole.items() if seed in control}
