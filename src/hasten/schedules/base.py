"""What every schedule shares: the rules of the clock, and one call for numbers and arrays.

A schedule is right-continuous on `0 <= t <= T`: where it jumps, the value at the jump is the new one. It is defined at
`t = T` too, where a run ends; no update uses that value (the last one uses `T - 1`), but loops that step their
scheduler once more ask for it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, cast, overload

import numpy as np

from .._core.checks import check, finite, near, positive, refuse, refuse_type
from .._core.clock import Schedule

__all__ = ["BaseSchedule", "choice", "evaluate", "nonnegative", "on_clock", "schedule_argument"]

# How far t may lie outside [0, T], relative to T: room for the roundings of a change of unit (steps to epochs).
_SLACK = 1e-9


@dataclass(frozen=True)
class BaseSchedule(ABC):
    """Base of the schedules here: a subclass gives `name`, its fields as a frozen dataclass, and `values(t, T)`."""

    name: ClassVar[str]

    @property
    def anytime(self) -> bool:
        """Whether the schedule works without `T`."""
        return False

    @property
    def body(self) -> Schedule:
        """The schedule without its warm-up."""
        return self

    @abstractmethod
    def values(self, t: np.ndarray, T: float) -> np.ndarray:
        """The multiplier at valid times `t`, shape (n,); `T` is `inf` where an anytime schedule was given none."""

    @overload
    def __call__(self, t: float, T: float | None = None) -> float: ...
    @overload
    def __call__(self, t: np.ndarray, T: float | None = None) -> np.ndarray: ...
    def __call__(self, t: Any, T: float | None = None) -> Any:
        """The multiplier at `t` of a run of length `T`.

        Args:
            t: where the run is, a number or an array of any shape, in `[0, T]`; update `k` of a run is `t = k`.
            T: the length of the run in the same unit. None is refused unless the schedule is `anytime`.

        Returns:
            A float for a number, a float64 array of the same shape for an array.

        Raises:
            ValueError: `t` outside `[0, T]` by more than rounding, `T` not above 0, or no `T` where one is needed.
            TypeError: `t` is not numeric.
        """
        times, horizon = on_clock(self.name, t, T, anytime=self.anytime)
        # Numbers take the way of arrays: numpy's scalar arithmetic may differ from it in the last bit.
        values = self.values(times.reshape(-1), horizon)
        return float(values[0]) if times.ndim == 0 else values.reshape(times.shape)


def on_clock(call: str, t: Any, T: float | None, *, anytime: bool) -> tuple[np.ndarray, float]:
    """`t` as a float64 array inside `[0, T]`, and `T` as a float (`inf` for an anytime schedule without one)."""
    times = np.asarray(t)
    if times.dtype.kind not in "iuf":
        raise refuse_type(call, "t as a number or a numeric array", t, "Pass the number of updates done so far.")
    times = times.astype(np.float64)
    if T is None:
        check(anytime, call, "T, the length of the run", T, f"Call {call}(...)(t, T), T = the number of updates.")
        horizon = math.inf
    else:
        horizon = positive(call, "T", cast(float, T.item() if isinstance(T, np.generic) else T))
    slack = _SLACK * horizon if T is not None else 0.0
    for wrong, expected, fix in (
        (~np.isfinite(times), "a finite t", "Pass the number of updates done so far."),
        (times < -slack, "t >= 0", "Count updates from 0."),
        (times > horizon + slack, f"t <= T = {horizon:g}", "Stop there, or pass the T you train for."),
    ):
        if wrong.any():
            raise refuse(call, expected, f"{times[wrong].flat[0]:.15g}", fix)
    return np.clip(times, 0.0, horizon), horizon


def evaluate(schedule: Schedule, t: np.ndarray, T: float) -> np.ndarray:
    """`schedule` inside another one: `T = inf` stands for no length."""
    return np.asarray(schedule(t, None if math.isinf(T) else T))


def schedule_argument(call: str, name: str, value: Any) -> None:
    """Refuse an argument that is not a schedule."""
    # Our own need no look at their members: finding `body` builds it, which would double the work at every level.
    if isinstance(value, BaseSchedule):
        return
    if isinstance(value, type) or not isinstance(value, Schedule):
        raise refuse_type(call, f"a schedule for {name}", value, "Pass a schedule such as cosine() (with brackets).")


def nonnegative(call: str, name: str, value: float) -> float:
    """`value` as a finite float, 0 or above."""
    number = finite(call, name, value)
    check(number >= 0, call, f"{name} >= 0", value, f"Pass {name}= 0 or more.")
    return number


def choice(call: str, name: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse a `value` that is not among `known`, naming the nearest."""
    if value not in known:
        fix = near(value, known) if isinstance(value, str) else ""
        raise refuse(call, f"{name} among {', '.join(map(repr, known))}", repr(value), fix)
