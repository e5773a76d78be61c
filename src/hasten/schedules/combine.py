"""Combinators: schedules made of schedules.

Each hands the inner schedule the time and the length it has to itself, so that a `cosine()` behind a warm-up of `W`
updates ends where the run ends. They nest in any order, and work without `T` where what they hold does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from .._core.checks import fraction, positive, refuse
from .._core.clock import Schedule, ramp
from .base import BaseSchedule, choice, evaluate, nonnegative, schedule_argument

__all__ = ["Floor", "Scale", "Then", "Warmup", "floor", "scale", "then", "warmup"]


@dataclass(frozen=True)
class Warmup(BaseSchedule):
    """A rise to `schedule` over the first `steps`, then `schedule` over the rest. Built by `warmup`."""

    name: ClassVar[str] = "warmup"
    kinds: ClassVar[tuple[str, ...]] = ("linear", "cosine", "sqrt")
    schedule: Schedule
    steps: float
    kind: str = "linear"
    start: float = 0.0

    def __post_init__(self) -> None:
        schedule_argument(self.name, "schedule", self.schedule)
        object.__setattr__(self, "steps", nonnegative(self.name, "steps", self.steps))
        object.__setattr__(self, "start", fraction(self.name, "start", self.start))
        choice(self.name, "kind", self.kind, self.kinds)

    @property
    def anytime(self) -> bool:
        """As the schedule behind the warm-up."""
        return self.schedule.anytime

    @property
    def body(self) -> Schedule:
        """The schedule behind the warm-up."""
        return self.schedule.body

    def values(self, t: np.ndarray, T: float) -> np.ndarray:
        """The rise as a factor on `schedule`, whose clock stands at 0 until the warm-up is over."""
        if self.steps >= T:
            raise refuse(
                self.name, f"steps < T = {T:g}", f"{self.steps:g}", "Shorten the warm-up, or train longer than it."
            )
        u = ramp(t, 0.0, self.steps)
        if self.kind == "cosine":
            u = (1.0 - np.cos(np.pi * u)) / 2.0
        elif self.kind == "sqrt":
            u = np.sqrt(u)
        rise = self.start * (1.0 - u) + u
        return rise * evaluate(self.schedule, np.maximum(t - self.steps, 0.0), T - self.steps)


@dataclass(frozen=True)
class Then(BaseSchedule):
    """`first` until `at`, then `second`. Built by `then`."""

    name: ClassVar[str] = "then"
    first: Schedule
    at: float
    second: Schedule

    def __post_init__(self) -> None:
        schedule_argument(self.name, "first", self.first)
        schedule_argument(self.name, "second", self.second)
        object.__setattr__(self, "at", positive(self.name, "at", self.at))

    @property
    def anytime(self) -> bool:
        """As the second schedule: the first one's length is `at`."""
        return self.second.anytime

    @property
    def body(self) -> Then:
        """Both parts, the first without its warm-up."""
        return replace(self, first=self.first.body)

    def values(self, t: np.ndarray, T: float) -> np.ndarray:
        """Each part on its own clock."""
        if self.at >= T:
            raise refuse(self.name, f"at < T = {T:g}", f"{self.at:g}", "Switch earlier, or train longer.")
        before = evaluate(self.first, np.minimum(t, self.at), self.at)
        after = evaluate(self.second, np.maximum(t - self.at, 0.0), T - self.at)
        return np.where(t < self.at, before, after)


@dataclass(frozen=True)
class Scale(BaseSchedule):
    """`factor * schedule`. Built by `scale`."""

    name: ClassVar[str] = "scale"
    schedule: Schedule
    factor: float

    def __post_init__(self) -> None:
        schedule_argument(self.name, "schedule", self.schedule)
        object.__setattr__(self, "factor", nonnegative(self.name, "factor", self.factor))

    @property
    def anytime(self) -> bool:
        """As the inner schedule."""
        return self.schedule.anytime

    @property
    def body(self) -> Scale:
        """The inner schedule without its warm-up, scaled."""
        return replace(self, schedule=self.schedule.body)

    def values(self, t: np.ndarray, T: float) -> np.ndarray:
        """The product."""
        return self.factor * evaluate(self.schedule, t, T)


@dataclass(frozen=True)
class Floor(BaseSchedule):
    """`max(schedule, minimum)`. Built by `floor`."""

    name: ClassVar[str] = "floor"
    schedule: Schedule
    minimum: float

    def __post_init__(self) -> None:
        schedule_argument(self.name, "schedule", self.schedule)
        object.__setattr__(self, "minimum", nonnegative(self.name, "minimum", self.minimum))

    @property
    def anytime(self) -> bool:
        """As the inner schedule."""
        return self.schedule.anytime

    @property
    def body(self) -> Floor:
        """The inner schedule without its warm-up, held at the minimum."""
        return replace(self, schedule=self.schedule.body)

    def values(self, t: np.ndarray, T: float) -> np.ndarray:
        """The larger of both."""
        return np.maximum(evaluate(self.schedule, t, T), self.minimum)


def warmup(schedule: Schedule, steps: float, *, kind: str = "linear", start: float = 0.0) -> Warmup:
    """Rise to a schedule's first value, then run the schedule over what is left (arXiv 1706.02677).

    With `W = steps`: for `t < W` the value is `schedule(0, T - W) * (start + (1 - start) g(t / W))` with
    `g(u) = u`, `(1 - cos(pi u)) / 2` or `sqrt(u)`; from `t = W` on it is `schedule(t - W, T - W)`. In a run of
    several cycles it happens once: later cycles use `body`.

    Args:
        schedule: what follows the warm-up.
        steps: length of the warm-up in the unit of `t`, below `T`; 0 for none.
        kind: "linear", "cosine" or "sqrt".
        start: the fraction of the schedule's first value at `t = 0`, in [0, 1]. With 0 the very first update changes
            nothing but the optimizer's state.

    >>> from hasten.schedules import cosine
    >>> s = warmup(cosine(), 10)
    >>> s(5, 110), s(10, 110), s(60, 110)
    (0.5, 1.0, 0.5)
    """
    return Warmup(schedule, steps, kind, start)


def then(first: Schedule, at: float, second: Schedule) -> Then:
    """One schedule until `at`, another from there on.

    For `t < at`: `first(t, at)`, so the first one completes by then. From `t = at` on: `second(t - at, T - at)`.
    Nothing smooths a jump between the two: use `scale` to make them meet.

    Args:
        first: the schedule before the switch.
        at: when to switch, in the unit of `t`, between 0 and `T`.
        second: the schedule after it.

    >>> from hasten.schedules import constant, linear
    >>> s = then(constant(), 50, linear())
    >>> s(49, 100), s(50, 100), s(75, 100)
    (1.0, 1.0, 0.5)
    """
    return Then(first, at, second)


def scale(schedule: Schedule, factor: float) -> Scale:
    """A schedule times a constant: `factor * schedule(t, T)`.

    Args:
        schedule: any schedule.
        factor: 0 or above; above 1 the values leave [0, 1], which suits arguments other than a learning rate.

    >>> from hasten.schedules import linear
    >>> scale(linear(start=0.5, end=1.0), 224)(50, 100)
    168.0
    """
    return Scale(schedule, factor)


def floor(schedule: Schedule, minimum: float) -> Floor:
    """A schedule that never falls below `minimum`: `max(schedule(t, T), minimum)`.

    It holds during a warm-up too: `warmup(floor(s, m), W)` keeps the warm-up's low start, `floor(warmup(s, W), m)`
    does not. `cosine(floor=m)` is another curve: the whole wave squeezed between 1 and `m`.

    Args:
        schedule: any schedule.
        minimum: 0 or above.

    >>> from hasten.schedules import linear
    >>> floor(linear(), 0.1)(100, 100)
    0.1
    """
    return Floor(schedule, minimum)
