"""Reports of older versions: what a reader of today finds missing in them, filled in as unknown.

A report is written once and read for years, so each version of the format has a step here to the next one. A step
only adds: what was measured stays as it was written.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

__all__ = ["ANALYSIS_VERSION", "VERSION", "upgrade"]

VERSION = 2
ANALYSIS_VERSION = 2  # of `Analysis.to_json()`, see bench/stats/schema.py


def upgrade(data: dict[str, Any]) -> dict[str, Any]:
    """`data` as a report of version `VERSION`; of another version than those known, as it is.

    Where the shape of a report is broken the steps pass over it: the validator says so.
    """
    if type(data.get("version")) is not int or data["version"] not in _STEPS:  # True == 1 in Python
        return data
    found = copy.deepcopy(data)
    while (step := _STEPS.get(found["version"])) is not None:
        step(found)
    return found


def _from_1(data: dict[str, Any]) -> None:
    """Version 2 knows calibrations of the curve, memory and energy along a run, frontiers and interactions."""
    data["version"] = 2
    data.setdefault("calibration", None)
    for run in _dicts(data.get("runs")):
        run.setdefault("energy", None)
        for point in _dicts(run.get("points")):
            point.setdefault("memory", None)
            point.setdefault("energy", None)
    analysis = data.get("analysis")
    if isinstance(analysis, dict) and analysis.get("version") == 1:
        analysis.update(version=2, frontier=None, interactions=[])


def _dicts(items: Any) -> list[dict[str, Any]]:
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []


_STEPS: dict[Any, Callable[[dict[str, Any]], None]] = {1: _from_1}
