"""What an arm costs besides its verdict: means over the runs that count, for the chart and the table of costs."""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean
from typing import Any, cast

from . import words
from .data import Report, Run, counted

__all__ = ["COSTS", "SHOW", "arm_means", "cost_ratios", "phase_means"]


def _inference(key: str) -> Callable[[Run], float | None]:
    def read(run: Run) -> float | None:
        found: Any = run["inference"] or {}
        return found.get(key)

    return read


COSTS: dict[str, Callable[[Run], float | None]] = {
    "inference time": _inference("ms"),
    "inference FLOPs": _inference("flops"),
    "parameters": _inference("parameters"),
    "training FLOPs": lambda run: run["flops"],
    "peak memory": lambda run: run["memory"],
    "training energy": lambda run: run["energy"],
}

# How the means of `arm_means` are written.
SHOW: dict[str, Callable[[float | None], str]] = {
    "train time": words.duration,
    "off the clock": words.duration,
    "inference time": lambda ms: words.duration(None if ms is None else ms / 1000),
    "inference FLOPs": words.amount,
    "parameters": words.amount,
    "training FLOPs": words.amount,
    "peak memory": words.bytes_,
    "training energy": words.joules,
}


def _done(data: Report, name: str) -> list[Run]:
    return [run for run in counted(data, name) if run["status"] == "done"]


def _mean(runs: list[Run], read: Callable[[Run], float | None]) -> float | None:
    values = [value for run in runs if (value := read(run)) is not None]
    return fmean(values) if values else None


def arm_means(data: Report, name: str) -> dict[str, float]:
    """Mean of every cost of an arm over its finished runs; only what was measured."""
    runs = _done(data, name)
    clocks: dict[str, Callable[[Run], float | None]] = {
        "train time": lambda run: run["seconds"],
        "off the clock": lambda run: sum(run["excluded"].values()),
    }
    found = {cost: _mean(runs, read) for cost, read in (clocks | COSTS).items()}
    return {cost: value for cost, value in found.items() if value is not None}


def cost_ratios(data: Report, name: str) -> dict[str, float]:
    """Every cost of an arm over the baseline's, where both were measured; no times: they mean little without intervals.

    The time of a prediction enters the verdict where its interval shows a rise (`hasten.bench.results`).
    """
    ours, theirs = arm_means(data, name), arm_means(data, data["study"]["baseline"])
    steady = [cost for cost in COSTS if cost != "inference time"]
    return {cost: ours[cost] / theirs[cost] for cost in steady if cost in ours and theirs.get(cost, 0) > 0}


def phase_means(data: Report, name: str) -> tuple[dict[str, float], dict[str, float]]:
    """Mean seconds of an arm by phase on the clock, and by reason off the clock."""
    runs = _done(data, name)

    def means(key: str) -> dict[str, float]:
        parts: list[dict[str, float]] = [cast(Any, run)[key] for run in runs]
        return {
            part: fmean(found.get(part, 0.0) for found in parts) for part in dict.fromkeys(p for f in parts for p in f)
        }

    return means("phases"), means("excluded")
