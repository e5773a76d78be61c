"""What a worker does with a task of `hasten compare`: train a program and hand back what it found.

A function that runs tasks takes the task (plain data from the driver, see `driver.command`), a function that tells the
driver events, and one that says whether to stop at the next point. It returns what the store keeps of the run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from hasten._core.call import decode
from hasten.program import Program

from .environment import calibrate
from .train import Result, Task, train

__all__ = ["facts_of", "task_of", "train_program"]


def train_program(
    task: dict[str, Any], tell: Callable[[dict[str, Any]], None], should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """Train a program along its cycles, from its checkpoint if there is one."""
    before = calibrate()
    result = train(
        task_of(task),
        checkpoint=Path(task["checkpoint"]),
        checkpoint_seconds=task["checkpoint_seconds"],
        observe=tell,
        should_stop=should_stop,
    )
    return facts_of(result, before)


def task_of(task: dict[str, Any], **more: Any) -> Task:
    """The program, its cycles and its evaluation that a task describes; `more` replaces fields."""
    metric: Callable[[nn.Module, Any], float] = decode(task["metric"]).build()
    found: dict[str, Any] = {
        "program": Program.from_json(task["program"], trust=True),
        "seed": task["seed"],
        "cycles": tuple(tuple(cycle) for cycle in task["cycles"]),
        "forks": tuple(task["forks"]),
        "test": decode(task["test"]).build(),
        "metric": metric,
        "device": task["device"],
        "workers": task["loader_workers"],
        "energy": task["energy"],
    }
    return Task(**{**found, **more})


def facts_of(result: Result, before: float) -> dict[str, Any]:
    """What the store keeps of a training run beside its points; `before` is the calibration before it."""
    return {
        "phases": result.phases,
        "excluded": result.excluded,
        "scored_samples": result.scored_samples,
        "inference": result.inference,
        "parameters": result.parameters,
        "weights": result.weights,
        "schedule": result.schedule,
        "resumed": result.resumed,
        "stopped": result.stopped,
        "calibration": {"before": before, "after": calibrate()},
    }
