"""Time with units: durations, ticks, and what it means to evaluate a schedule at a tick.

A `Tick` is a pure value: where a run is. Progress is measured inside the current cycle of a curve
(`start`..`end`, in steps), so the same program runs one long cycle or several short ones unchanged.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np

from .checks import check, refuse

__all__ = [
    "UNITS", "Duration", "Schedule", "Scheduled", "Tick", "check_unit", "parse_duration", "parse_seconds", "ramp",
]  # fmt: skip

UNITS = ("step", "epoch", "sample", "token", "progress", "seconds")

_LENGTH = {"step": "step", "steps": "step", "ep": "epoch", "epoch": "epoch", "epochs": "epoch",
           "sample": "sample", "sp": "sample", "tok": "token", "token": "token", "tokens": "token"}  # fmt: skip
_SECONDS = {"ms": 1e-3, "s": 1.0, "sec": 1.0, "min": 60.0, "h": 3600.0}
_NUMBER = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([a-zA-Z]+)\s*")


@runtime_checkable
class Schedule(Protocol):
    """A pure, picklable value over time: `s(t, T) -> float`, vectorised over numpy arrays of `t`.

    `anytime` says that `T` may be None. `body` is the schedule without its warm-up, used from a curve's second
    cycle on.
    """

    def __call__(self, t: Any, T: float | None = None) -> Any: ...

    @property
    def anytime(self) -> bool: ...

    @property
    def body(self) -> Schedule: ...


@dataclass(frozen=True)
class Duration:
    """A training length: `value` in `unit`, one of step, epoch, sample, token."""

    value: float
    unit: str

    def steps(self, *, steps_per_epoch: int, batch_size: int, tokens_per_sample: int) -> int:
        """The length in optimizer steps, rounded once, at least 1."""
        per_step = {
            "step": 1.0,
            "epoch": 1.0 / steps_per_epoch,
            "sample": batch_size,
            "token": batch_size * tokens_per_sample,
        }[self.unit]
        if not per_step:
            raise refuse("duration", "a unit this workload counts", f"{self.unit!r}", "Use 'ep' or 'step'.")
        return max(1, math.floor(self.value / per_step + 0.5))


def parse_duration(text: str) -> Duration:
    """Read a training length such as `10ep`, `500step`, `1e5sample` or `2e6tok`.

    >>> parse_duration("10ep")
    Duration(value=10.0, unit='epoch')
    """
    match = _NUMBER.fullmatch(text) if isinstance(text, str) else None
    if match is None or match[2] not in _LENGTH or not 0 < float(match[1]) < math.inf:
        raise refuse(
            "duration", "a length such as '10ep', '500step' or '2e6tok'", repr(text), "Write a number and a unit."
        )
    return Duration(float(match[1]), _LENGTH[match[2]])


def parse_seconds(text: str | float) -> float:
    """Read a time span such as `90s`, `10min` or `2h` (a bare number is seconds).

    >>> parse_seconds("10min")
    600.0
    """
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        value = float(text)
    else:
        match = _NUMBER.fullmatch(text) if isinstance(text, str) else None
        if match is None or match[2] not in _SECONDS:
            raise refuse("time", "a span such as '90s', '10min' or '2h'", repr(text), "Write a number and a unit.")
        value = float(match[1]) * _SECONDS[match[2]]
    check(math.isfinite(value) and value > 0, "time", "a positive time", text)
    return value


@dataclass(frozen=True)
class Tick:
    """Where a run is. `start` and `end` bound the current cycle in steps; `seconds` is time on the training clock."""

    step: int
    start: int
    end: int
    seconds: float = 0.0
    steps_per_epoch: int = 1
    batch_size: int = 1
    tokens_per_sample: int = 0

    @property
    def epoch(self) -> int:
        """Whole epochs done."""
        return self.step // self.steps_per_epoch

    @property
    def in_epoch(self) -> int:
        """Steps done in the current epoch."""
        return self.step % self.steps_per_epoch

    @property
    def sample(self) -> int:
        """Samples drawn so far (every training batch is full)."""
        return self.step * self.batch_size

    @property
    def token(self) -> int:
        """Tokens drawn so far; 0 where samples are not sequences."""
        return self.sample * self.tokens_per_sample

    @property
    def after(self) -> Tick:
        """One step later, in the same cycle: the time once this step is done."""
        return replace(self, step=self.step + 1)

    @property
    def progress(self) -> float:
        """Position in the current cycle, 0 at its start and 1 at its end."""
        return (self.step - self.start) / (self.end - self.start)

    def clock(self, unit: str) -> tuple[float, float | None]:
        """(t, T) in `unit`, both counted from the start of the current cycle (seconds: from the start, no T)."""
        if unit == "progress":
            return self.progress, 1.0
        if unit == "seconds":
            return self.seconds, None
        rate = {
            "step": 1.0,
            "epoch": 1.0 / self.steps_per_epoch,
            "sample": self.batch_size,
            "token": self.batch_size * self.tokens_per_sample,
        }[unit]
        return (self.step - self.start) * rate, (self.end - self.start) * rate


@dataclass(frozen=True)
class Scheduled:
    """A schedule bound to a unit of the clock; the loop calls `at(tick)`.

    The warm-up happens once in a run: from the second cycle on (`tick.start > 0`) the schedule's `body` is used.
    Seconds count through all cycles, so there the schedule itself is used throughout, and it must be `anytime`.
    """

    schedule: Schedule
    unit: str = "step"

    def __post_init__(self) -> None:
        check(self.unit in UNITS, "Scheduled", f"a unit among {', '.join(UNITS)}", self.unit)
        check_unit("Scheduled", self.schedule, self.unit)

    def at(self, tick: Tick) -> float:
        """The value used for the update that starts at `tick`."""
        t, T = tick.clock(self.unit)
        first = tick.start == 0 or self.unit == "seconds"
        return float((self.schedule if first else self.schedule.body)(t, T))


def check_unit(call: str, schedule: Schedule, unit: str) -> None:
    """Refuse a schedule that cannot run on a clock: in seconds one that needs a length, elsewhere one made for seconds.

    No run knows beforehand how many seconds it takes. A part of a schedule says that its numbers are seconds by an
    attribute `in_seconds`.
    """
    if unit == "seconds":
        fix = "Give it a length: over(schedule, '10min')."
        check(schedule.anytime, call, "a schedule that needs no T for the unit 'seconds'", schedule, fix)
    else:
        fix = "Use the unit 'seconds', or write the length as a number."
        check(not _in_seconds(schedule), call, "the unit 'seconds' for a schedule over a time span", unit, fix)


def _in_seconds(schedule: Any) -> bool:
    if getattr(schedule, "in_seconds", False):
        return True
    inside = fields(schedule) if is_dataclass(schedule) else ()
    return any(_in_seconds(getattr(schedule, field.name)) for field in inside)


def ramp(t: Any, start: float, end: float) -> Any:
    """0 before `start`, 1 from `end` on, linear between; a step at `start` when both are equal. Vectorised.

    >>> [float(ramp(t, 2, 4)) for t in (0, 3, 9)]
    [0.0, 0.5, 1.0]
    """
    if end <= start:
        return np.where(np.asarray(t) >= start, 1.0, 0.0)
    return (np.clip(np.asarray(t, dtype=float), start, end) - start) / (end - start)
