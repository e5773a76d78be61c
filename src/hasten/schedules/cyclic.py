"""Cycles: the schedule of a whole tradeoff curve in one run, and the ends of its cycles (arXiv 2206.00832).

After a warm-up of `W` updates come cosine cycles of lengths `T0, T0 m, T0 m**2, ...`; cycle `i` (from 1) ends at

    e_i = W + T0 (m**i - 1) / (m - 1)        (m = 1: W + T0 i)

where the rate is at its floor, and the model there is one point of the curve. At an end the rate jumps back to the
full peak, without a new warm-up; everything else (weights, momentum, data order) goes on. Ends are rounded to whole
updates once, from the closed form, so that no rounding adds up.

There are two ways to the same values. A training loop runs a curve as cycles with ends from `cycle_ends` and gives
any schedule its place inside the current cycle (`hasten._core.clock.Tick`). In another loop, `cyclic(...)` is the
same curve of cosines as one schedule over the whole run.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from .._core.checks import check, finite, fraction, positive, refuse, refuse_type
from .._core.clock import ramp
from .base import BaseSchedule, nonnegative

__all__ = ["Cyclic", "cycle_ends", "cyclic"]


def _growth(mult: float, cycles: Any) -> Any:
    """`(m**i - 1) / (m - 1)`: the length of the first `i` cycles in units of the first; `inf` where it overflows."""
    if mult == 1.0:
        return cycles
    with np.errstate(over="ignore"):
        return (np.float64(mult) ** cycles - 1.0) / (mult - 1.0)


def _mult(call: str, mult: float) -> float:
    check(finite(call, "mult", mult) >= 1, call, "mult >= 1", mult, "Pass 2 to double every cycle, 1 for equal ones.")
    return float(mult)


def _points(call: str, points: int) -> int:
    number = _whole(call, "points", points)
    check(number >= 1, call, "points >= 1", points, "Pass how many points the curve shall have.")
    return number


def _whole(call: str, name: str, value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise refuse_type(call, f"a whole number for {name}", value, f"Pass {name}= an int.")
    return operator.index(value)


def _round(value: float) -> int:
    return math.floor(value + 0.5)


@dataclass(frozen=True)
class Cyclic(BaseSchedule):
    """Cosine cycles from 1 to `floor` of lengths `first * mult**i` after a warm-up. Built by `cyclic`."""

    name: ClassVar[str] = "cyclic"
    first: float
    mult: float = 2.0
    warmup: float = 0.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "first", positive(self.name, "first", self.first))
        object.__setattr__(self, "mult", _mult(self.name, self.mult))
        object.__setattr__(self, "warmup", nonnegative(self.name, "warmup", self.warmup))
        object.__setattr__(self, "floor", fraction(self.name, "floor", self.floor))

    @property
    def anytime(self) -> bool:
        """True."""
        return True

    @property
    def body(self) -> Cyclic:
        """The cycles alone."""
        return replace(self, warmup=0.0)

    def values(self, t: np.ndarray, T: float) -> np.ndarray:
        """The value inside the cycle that contains `t`; an end belongs to the cycle it starts."""
        elapsed = np.maximum(t - self.warmup, 0.0)
        cycle = self._cycle(elapsed)
        tau = (elapsed - self.first * _growth(self.mult, cycle)) / (self.first * self.mult**cycle)
        wave = self.floor + (1.0 - self.floor) * (1.0 + np.cos(np.pi * np.clip(tau, 0.0, 1.0))) / 2.0
        return ramp(t, 0.0, self.warmup) * wave

    def _cycle(self, elapsed: np.ndarray) -> np.ndarray:
        """The number of whole cycles in `elapsed`: a logarithm, put right where its rounding missed an end."""
        if self.mult == 1.0:
            cycle = np.floor(elapsed / self.first)
        else:
            cycle = np.floor(np.log1p(elapsed * (self.mult - 1.0) / self.first) / math.log(self.mult))
        cycle = cycle + (elapsed >= self.first * _growth(self.mult, cycle + 1.0))
        return cycle - (elapsed < self.first * _growth(self.mult, cycle))

    def ends(self, points: int) -> tuple[int, ...]:
        """The ends of the first `points` cycles, each rounded once from the closed form.

        >>> Cyclic(8, warmup=8).ends(6)
        (16, 32, 64, 128, 256, 512)
        """
        count = _points("cyclic.ends", points)
        exact = [self.warmup + self.first * float(_growth(self.mult, i)) for i in range(1, count + 1)]
        fix = f"With mult={self.mult:g} the last end overflows."
        check(math.isfinite(exact[-1]), "cyclic.ends", "fewer points", points, fix)
        return tuple(_round(end) for end in exact)


def cyclic(first: float, *, mult: float = 2.0, warmup: float | None = None, floor: float = 0.0) -> Cyclic:
    """The cyclic schedule of a tradeoff curve as one schedule over the whole run; needs no `T`.

    For `t < warmup`: `t / warmup`. Then, with `tau` from 0 to 1 inside the cycle that contains `t`:
    `floor + (1 - floor) (1 + cos(pi tau)) / 2`. With `warmup=0` it equals torch's `CosineAnnealingWarmRestarts`.
    Evaluate at `ends(points)`: elsewhere the rate is high and the metric says little. Equal cycles (`mult=1`) give
    worse curves.

    Args:
        first: length of the first cycle (`T0`), in the unit of `t`, above 0.
        mult: factor from one cycle's length to the next, at least 1.
        warmup: length of the warm-up; None makes it as long as the first cycle, so that with `mult=2` every end is
            twice the one before; 0 for none.
        floor: the value at a cycle's end, in [0, 1].

    >>> s = cyclic(8)
    >>> [round(s(t), 6) for t in (0, 8, 12, 16)], s.ends(3)
    ([0.0, 1.0, 0.5, 1.0], (16, 32, 64))
    """
    return Cyclic(first, mult, first if warmup is None else warmup, floor)


def cycle_ends(total_steps: int, *, points: int = 4, mult: float = 2.0, warmup: int = 0) -> tuple[int, ...]:
    """The ends `e_1 < ... < e_points = total_steps` of a curve's cycles.

    `e_i = W + T0 (m**i - 1) / (m - 1)` with `W = warmup`, `m = mult`, and `T0` chosen so that the last end is
    `total_steps`; each end is rounded once.

    Args:
        total_steps: updates of the whole curve.
        points: number of cycles, at least 1.
        mult: factor from one cycle's length to the next, at least 1 (1: equal cycles).
        warmup: updates of the warm-up, which belongs to the first cycle.

    Returns:
        `points` whole numbers, strictly rising, the first above `warmup`.

    Raises:
        ValueError: `total_steps` is too small for that many points.

    >>> cycle_ends(512, points=6, warmup=8)
    (16, 32, 64, 128, 256, 512)
    """
    call = "cycle_ends"
    total, start = _whole(call, "total_steps", total_steps), _whole(call, "warmup", warmup)
    count, mult = _points(call, points), _mult(call, mult)
    check(start >= 0, call, "warmup >= 0", warmup, "Pass 0 for no warm-up.")
    first = (total - start) / float(_growth(mult, count))
    ends: list[int] = []
    if first >= 0.5:  # below, the first cycle rounds to nothing (and with first = 0 the growth may have overflowed)
        ends = [*(_round(start + first * float(_growth(mult, i))) for i in range(1, count)), total]
    if not ends or any(a >= b for a, b in zip([start, *ends], ends, strict=False)):
        got = f"{total} for {count} points with mult={mult:g} after a warm-up of {start}"
        fix = "Train longer, ask for fewer points, or lower mult."
        raise refuse(call, "total_steps that leave every cycle a whole update", got, fix)
    return tuple(ends)
