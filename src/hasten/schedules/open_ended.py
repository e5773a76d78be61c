"""Schedules for runs whose length is not known when they start: inverse square root, power law, infinite.

All are `anytime`, except `power` with a last decay. Their times (`timescale`, `onset`, `cooldown`, ...) are in the
unit of `t`, whichever clock that is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from .._core.checks import check, finite, fraction, positive, refuse
from .._core.clock import ramp
from .base import BaseSchedule, nonnegative
from .decays import Exponential

__all__ = ["Infinite", "InverseSqrt", "Power", "infinite", "inverse_sqrt", "power"]


@dataclass(frozen=True)
class InverseSqrt(BaseSchedule):
    """`sqrt(timescale / (timescale + t))`. Built by `inverse_sqrt`."""

    name: ClassVar[str] = "inverse_sqrt"
    timescale: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "timescale", positive(self.name, "timescale", self.timescale))

    @property
    def anytime(self) -> bool:
        """True."""
        return True

    def values(self, t: np.ndarray, T: float) -> np.ndarray:
        """1 at 0, a half at three timescales."""
        return np.sqrt(self.timescale / (self.timescale + t))


@dataclass(frozen=True)
class Power(BaseSchedule):
    """`min(1, (t / onset) ** exponent)` with a warm-up and a last decay. Built by `power`."""

    name: ClassVar[str] = "power"
    onset: float
    exponent: float = -0.51
    warmup: float = 0.0
    decay: float = 0.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "onset", positive(self.name, "onset", self.onset))
        object.__setattr__(self, "exponent", finite(self.name, "exponent", self.exponent))
        check(self.exponent < 0, self.name, "exponent < 0", self.exponent, "Pass -0.51, or constant() for no fall.")
        object.__setattr__(self, "warmup", nonnegative(self.name, "warmup", self.warmup))
        object.__setattr__(self, "decay", fraction(self.name, "decay", self.decay))
        object.__setattr__(self, "floor", fraction(self.name, "floor", self.floor))
        if self.floor and not self.decay:
            fix = "Pass decay= as well; floor(power(...), m) holds a minimum without one."
            raise refuse(self.name, "a floor only where there is a decay", f"floor={self.floor:g} and decay=0", fix)

    @property
    def anytime(self) -> bool:
        """Whether there is no last decay, whose place depends on `T`."""
        return self.decay == 0

    @property
    def body(self) -> Power:
        """Without the warm-up."""
        return replace(self, warmup=0.0)

    def values(self, t: np.ndarray, T: float) -> np.ndarray:
        """The power law behind its warm-up; in the last phase the value at the branch, falling to `floor`."""
        if not self.decay:
            return self._law(t)
        branch = (1.0 - self.decay) * T
        if self.warmup > branch:
            expected, got = f"warmup <= {branch:g}, where the decay starts", f"{self.warmup:g}"
            raise refuse(self.name, expected, got, "Shorten the warm-up or the decay, or train longer.")
        top = float(self._law(np.array([branch]))[0])
        if self.floor > top:
            expected, got = f"floor <= {top:g}, the value where the decay starts", f"{self.floor:g}"
            raise refuse(self.name, expected, got, "Lower the floor.")
        fall = Exponential().values(np.maximum(t - branch, 0.0), T - branch)  # 1 to 0
        return np.where(t < branch, self._law(t), self.floor + (top - self.floor) * fall)

    def _law(self, t: np.ndarray) -> np.ndarray:
        # Held at its value at the end of the warm-up, so that the rise is a straight line to that value.
        law = (np.maximum(np.maximum(t, self.warmup), self.onset) / self.onset) ** self.exponent
        return ramp(t, 0.0, self.warmup) * law


@dataclass(frozen=True)
class Infinite(BaseSchedule):
    """Warm-up, cool-down to `constant`, a plateau, and from `anneal_at` a decay to `minimum`. Built by `infinite`."""

    name: ClassVar[str] = "infinite"
    cooldown: float
    warmup: float = 0.0
    constant: float = 0.5
    anneal_at: float | None = None
    anneal: float | None = None
    minimum: float = 0.05

    def __post_init__(self) -> None:
        for field in ("cooldown", "warmup"):
            object.__setattr__(self, field, nonnegative(self.name, field, getattr(self, field)))
        for field in ("constant", "minimum"):
            object.__setattr__(self, field, fraction(self.name, field, getattr(self, field)))
        check(self.constant > 0, self.name, "constant > 0", self.constant, "Pass the plateau as a part of the peak.")
        ordered = 0 < self.minimum <= self.constant
        fix = "Pass a part of the plateau; an exponential never reaches 0."
        check(ordered, self.name, f"minimum in (0, constant = {self.constant:g}]", self.minimum, fix)
        self._check_annealing()

    def _check_annealing(self) -> None:
        at, length = self.anneal_at, self.anneal
        if (at is None) != (length is None):
            got = f"anneal_at={at} and anneal={length}"
            raise refuse(self.name, "anneal_at and anneal together, or neither", got, "Say when, and for how long.")
        if at is None or length is None:
            return
        object.__setattr__(self, "anneal_at", finite(self.name, "anneal_at", at))
        object.__setattr__(self, "anneal", positive(self.name, "anneal", length))
        plateau = self.warmup + self.cooldown
        fix = "Count from the start of the run."
        check(at >= plateau, self.name, f"anneal_at >= {plateau:g}, where the plateau starts", at, fix)

    @property
    def anytime(self) -> bool:
        """True."""
        return True

    @property
    def body(self) -> Infinite:
        """What follows the warm-up, on a clock that starts there."""
        at = None if self.anneal_at is None else max(self.anneal_at - self.warmup, self.cooldown)
        return replace(self, warmup=0.0, anneal_at=at)

    def values(self, t: np.ndarray, T: float) -> np.ndarray:
        """The phases in order; after the annealing the minimum stays."""
        start = self.warmup
        wave = (1.0 + np.cos(np.pi * ramp(t, start, start + self.cooldown))) / 2.0
        plateau = self.constant + (1.0 - self.constant) * wave
        value = ramp(t, 0.0, self.warmup) * plateau
        if self.anneal_at is None or self.anneal is None:
            return value
        u = ramp(t, self.anneal_at, self.anneal_at + self.anneal)
        fall = self.constant * (self.minimum / self.constant) ** u
        return np.where(t < self.anneal_at, value, np.where(u < 1.0, fall, self.minimum))


def inverse_sqrt(timescale: float) -> InverseSqrt:
    """One over a square root: `s(t) = sqrt(timescale / (timescale + t))` (arXiv 1706.03762).

    Needs no `T`. The usual form is behind a warm-up as long as the timescale: `warmup(inverse_sqrt(W), W)` is `t / W`
    before `W` and `sqrt(W / t)` from there on. It falls slowly (a hundred timescales are a tenth of the peak), so a
    run that ends on it is noisier than one that decays: put a short decay behind it with `then`.

    Args:
        timescale: how long the value takes to fall to `1 / sqrt(2)`, in the unit of `t`, above 0.

    >>> from hasten.schedules import warmup
    >>> s = warmup(inverse_sqrt(100), 100)
    >>> s(50), s(100), s(400), s(10_000)
    (0.5, 1.0, 0.5, 0.1)
    """
    return InverseSqrt(timescale)


def power(
    onset: float, exponent: float = -0.51, *, warmup: float = 0.0, decay: float = 0.0, floor: float = 0.0
) -> Power:
    """Constant at the peak, then a power law of what was seen; needs no `T` without a last decay (arXiv 2408.13359).

    `s(t) = min(1, (t / onset) ** exponent)`. The published rate after `n` tokens is `min(eta_max, beta a n ** b)`
    with `beta` the batch size in sequences. Here that is a peak learning rate of `eta_max`, `t = n` (bind it to the
    clock "token"), `exponent = b`, and the number of tokens at which the law comes below the peak:

        onset = (eta_max / (beta a)) ** (1 / b)

    Constants that are quoted for it (`a = 4.6`, `b = -0.51`, `eta_max = 0.02`; not checked against the paper) belong to
    language models under muP: fit your own. In updates instead of tokens, divide the onset by the tokens of an update:
    the multiplier depends on `t / onset` alone. `t` counts from the start, warm-up included; that is why the warm-up
    is an argument.

    Use it where one learning rate has to serve several lengths and batch sizes. With a constant batch size and a
    known length it is one more decay to tune.

    Args:
        onset: where the fall begins, in the unit of `t`, above 0.
        exponent: of the power law, below 0; -0.5 is `sqrt(onset / t)`.
        warmup: length of a linear rise to the value that the law has at its end, in the unit of `t`; 0 for none.
        decay: the fraction of the run at its end that decays exponentially, in [0, 1]; 0.1 to 0.2 is usual, 0 for none.
        floor: the value at `t = T`, in [0, 1] and below where the decay starts; only with a decay.

    Raises:
        ValueError: when called, the decay starts before the warm-up ends, or below the floor.

    >>> s = power(100, -0.5, warmup=50)
    >>> s(25), s(50), s(100), s(400)
    (0.5, 1.0, 1.0, 0.5)
    >>> f"{(0.02 / (128 * 4.6)) ** (1 / -0.51):.2g}"  # the onset in tokens of these constants, batch 128
    '5.8e+08'
    """
    return Power(onset, exponent, warmup, decay, floor)


def infinite(
    cooldown: float,
    *,
    warmup: float = 0.0,
    constant: float = 0.5,
    anneal_at: float | None = None,
    anneal: float | None = None,
    minimum: float = 0.05,
) -> Infinite:
    """Down to a plateau that lasts until you say so; needs no `T` (arXiv 2403.08763, 2503.02844).

    With `N = warmup`, `c = constant` and `m = minimum`: `t / N` before `N`; then for `cooldown` a cosine from 1 to
    `c`; then `c`. From `anneal_at` on, for `anneal`: `c (m / c) ** ((t - anneal_at) / anneal)`; then `m`. Before
    `anneal_at` nothing depends on it: train on the plateau without one, and when it is time resume with the same
    schedule and `anneal_at` set. Further data joins on the plateau, without another warm-up.

    Use it for training that goes on (new data arrives, several ends from one trunk). For one run of a known length
    the plateau is a rate that had to be chosen well, and `wsd` has one thing less to choose. The defaults of
    `constant` and `minimum` are round numbers and no recommendation.

    Args:
        cooldown: length of the fall to the plateau, in the unit of `t`; 0 for none.
        warmup: length of the linear rise before it; 0 for none.
        constant: the plateau, in (0, 1].
        anneal_at: when the annealing starts, counted from the start of the run; None for not yet.
        anneal: how long it takes, above 0; a tenth of the run so far is a start. Given with `anneal_at`.
        minimum: the value at its end, in (0, constant].

    >>> s = infinite(40, warmup=10, constant=0.4, anneal_at=100, anneal=20, minimum=0.1)
    >>> [round(s(t), 6) for t in (5, 10, 30, 50, 100, 110, 120, 1e6)]
    [0.5, 1.0, 0.7, 0.4, 0.4, 0.2, 0.1, 0.1]
    """
    return Infinite(cooldown, warmup, constant, anneal_at, anneal, minimum)
