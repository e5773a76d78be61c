"""Combinators: schedules made of schedules.

Each hands the inner schedule the time and the length it has to itself, so that a `cosine()` behind a warm-up of `W`
updates ends where the run ends. They nest in any order, and work without `T` where what they hold does; `over` gives
what it holds a length of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from .._core.checks import fraction, positive, refuse
from .._core.clock import Schedule, parse_seconds, ramp
from .base import BaseSchedule, choice, evaluate, nonnegative, schedule_argument

__all__ = [
    "Floor", "Over", "Rewarm", "Scale", "Then", "Warmup", "floor", "over", "rewarm", "scale", "then", "warmup",
]  # fmt: skip


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
class Rewarm(BaseSchedule):
    """`first` until `at`, a line of length `steps` up to `second`, then `second`. Built by `rewarm`."""

    name: ClassVar[str] = "rewarm"
    first: Schedule
    at: float
    second: Schedule
    steps: float

    def __post_init__(self) -> None:
        schedule_argument(self.name, "first", self.first)
        schedule_argument(self.name, "second", self.second)
        object.__setattr__(self, "at", positive(self.name, "at", self.at))
        object.__setattr__(self, "steps", nonnegative(self.name, "steps", self.steps))

    @property
    def anytime(self) -> bool:
        """As the second schedule: the first one's length is `at`."""
        return self.second.anytime

    @property
    def body(self) -> Rewarm:
        """All parts, the first without its warm-up; the re-warming stays."""
        return replace(self, first=self.first.body)

    def values(self, t: np.ndarray, T: float) -> np.ndarray:
        """Each part on its own clock, and the line between their values at its ends."""
        start = self.at + self.steps
        if start >= T:
            expected, got = f"at + steps < T = {T:g}", f"{self.at:g} + {self.steps:g}"
            raise refuse(self.name, expected, got, "Switch earlier, re-warm faster, or train longer.")
        before = evaluate(self.first, np.minimum(t, self.at), self.at)
        after = evaluate(self.second, np.maximum(t - start, 0.0), T - start)
        low = evaluate(self.first, np.array([self.at]), self.at)
        high = evaluate(self.second, np.array([0.0]), T - start)
        u = ramp(t, self.at, start)
        return np.where(t < self.at, before, np.where(t < start, low * (1.0 - u) + high * u, after))


@dataclass(frozen=True)
class Over(BaseSchedule):
    """`schedule` over a length of its own, and its last value from there on. Built by `over`."""

    name: ClassVar[str] = "over"
    schedule: Schedule
    length: float | str

    def __post_init__(self) -> None:
        schedule_argument(self.name, "schedule", self.schedule)
        if isinstance(self.length, str):
            try:
                parse_seconds(self.length)
            except ValueError as error:
                fix = "Or pass a number, in the unit of t."
                raise refuse(self.name, "a length such as '90s', '10min' or '2h'", repr(self.length), fix) from error
        else:
            object.__setattr__(self, "length", positive(self.name, "length", self.length))

    @property
    def anytime(self) -> bool:
        """True: the length is known."""
        return True

    @property
    def in_seconds(self) -> bool:
        """Whether the length is a time span, so that `t` must be in seconds."""
        return isinstance(self.length, str)

    @property
    def body(self) -> Over:
        """The inner schedule without its warm-up, over the same length."""
        return replace(self, schedule=self.schedule.body)

    def values(self, t: np.ndarray, T: float) -> np.ndarray:
        """The inner schedule on a clock that stops at the length."""
        length = parse_seconds(self.length)
        return evaluate(self.schedule, np.minimum(t, length), length)


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


def rewarm(first: Schedule, at: float, second: Schedule, steps: float) -> Rewarm:
    """One schedule until the data change, then a linear rise from where it stands, then another schedule.

    For `t < at`: `first(t, at)`. Then for `w = steps` a straight line from `first(at, at)` to `second(0, T - at - w)`.
    From `at + w` on: `second(t - at - w, T - at - w)`. It is `then` with a bridge instead of a jump, for training
    that goes on with new data from a decayed end (arXiv 2308.04014, 2403.08763): re-warming raises the loss on old
    and new data at first and pays later. A lower new peak, `scale(second, 0.5)`, forgets less and learns less.
    Several switches nest: `rewarm(rewarm(a, 1000, b, 10), 3000, c, 20)`.

    Args:
        first: the schedule on the old data.
        at: when the data change, in the unit of `t`, above 0.
        second: the schedule on the new data, without a warm-up of its own.
        steps: length of the rise, in the unit of `t`; 0.5 to 2 % of the new data is usual; 0 is a jump, as in `then`.

    >>> from hasten.schedules import cosine, linear
    >>> s = rewarm(cosine(0.2), 100, linear(), 10)
    >>> [round(s(t, 210), 6) for t in (0, 100, 105, 110, 160, 210)]
    [1.0, 0.2, 0.6, 1.0, 0.5, 0.0]
    """
    return Rewarm(first, at, second, steps)


def over(schedule: Schedule, length: float | str) -> Over:
    """A schedule over a length of its own, whatever the length of the run: `schedule(min(t, L), L)` with `L = length`.

    It makes any schedule `anytime`: it ends at `L` and stays at its last value. That is what lets a decay run over a
    wall time, where nobody knows beforehand how many updates fit: `over(cosine(), "10min")` on the clock "seconds".
    After `L` a decay to 0 trains nothing any more; stop there, or hold a rate with `cosine(floor=0.1)`.

    Args:
        schedule: any schedule, with or without a warm-up.
        length: its length in the unit of `t`, above 0; or a time span such as "90s", "10min" or "2h", which only the
            clock "seconds" accepts.

    >>> from hasten.schedules import cosine
    >>> s = over(cosine(), "10min")
    >>> s(0), s(300), s(600), s(9999)
    (1.0, 0.5, 0.0, 0.0)
    """
    return Over(schedule, length)


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
