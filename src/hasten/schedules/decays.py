"""Schedules of one shape: constant, and decays that run over the whole length.

With `z = t / T`. All but `Constant` and `Exponential(gamma=...)` need `T`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .._core.checks import check, finite, fraction, positive, refuse, refuse_type
from .base import BaseSchedule

__all__ = [
    "Constant", "Cosine", "Exponential", "Linear", "Polynomial", "Rex", "Step",
    "constant", "cosine", "exponential", "linear", "polynomial", "rex", "step",
]  # fmt: skip

# Milestones are compared with z = t / T after a change of unit, which may leave z a few roundings below them.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Constant(BaseSchedule):
    """`value` throughout. Built by `constant`."""

    name: ClassVar[str] = "constant"
    value: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", fraction(self.name, "value", self.value))

    @property
    def anytime(self) -> bool:
        """True."""
        return True

    def values(self, t: np.ndarray, T: float) -> np.ndarray:
        """`value`, in the shape of `t`."""
        return np.full_like(t, self.value)


@dataclass(frozen=True)
class Linear(BaseSchedule):
    """`start + (end - start) z`. Built by `linear`."""

    name: ClassVar[str] = "linear"
    start: float = 1.0
    end: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", fraction(self.name, "start", self.start))
        object.__setattr__(self, "end", fraction(self.name, "end", self.end))

    def values(self, t: np.ndarray, T: float) -> np.ndarray:
        """The straight line; written as a weighted mean so that both ends are exact."""
        z = t / T
        return self.start * (1.0 - z) + self.end * z


@dataclass(frozen=True)
class Cosine(BaseSchedule):
    """`floor + (1 - floor) (1 + cos(pi z)) / 2`. Built by `cosine`."""

    name: ClassVar[str] = "cosine"
    floor: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "floor", fraction(self.name, "floor", self.floor))

    def values(self, t: np.ndarray, T: float) -> np.ndarray:
        """Half a wave from 1 to `floor`."""
        return self.floor + (1.0 - self.floor) * (1.0 + np.cos(np.pi * (t / T))) / 2.0


@dataclass(frozen=True)
class Polynomial(BaseSchedule):
    """`floor + (1 - floor) (1 - z) ** power`. Built by `polynomial`."""

    name: ClassVar[str] = "polynomial"
    power: float = 2.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "power", positive(self.name, "power", self.power))
        object.__setattr__(self, "floor", fraction(self.name, "floor", self.floor))

    def values(self, t: np.ndarray, T: float) -> np.ndarray:
        """The power of what is left."""
        return self.floor + (1.0 - self.floor) * (1.0 - t / T) ** self.power


@dataclass(frozen=True)
class Rex(BaseSchedule):
    """`floor + (1 - floor) (1 - z) / (d + (1 - d) (1 - z))`. Built by `rex`."""

    name: ClassVar[str] = "rex"
    d: float = 0.5
    floor: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "d", positive(self.name, "d", self.d))
        object.__setattr__(self, "floor", fraction(self.name, "floor", self.floor))

    def values(self, t: np.ndarray, T: float) -> np.ndarray:
        """What is left, divided by a line from 1 to `d`."""
        left = 1.0 - t / T
        return self.floor + (1.0 - self.floor) * (left / (left + self.d * (1.0 - left)))


@dataclass(frozen=True)
class Step(BaseSchedule):
    """`gamma ** (number of milestones <= z)`. Built by `step`."""

    name: ClassVar[str] = "step"
    milestones: tuple[float, ...] = (0.3, 0.6, 0.9)
    gamma: float = 0.1

    def __post_init__(self) -> None:
        if not isinstance(self.milestones, (tuple, list)) or not self.milestones:
            fix = "Pass fractions of the run, such as milestones=(0.3, 0.6, 0.9)."
            raise refuse_type(self.name, "a tuple of milestones", self.milestones, fix)
        milestones = tuple(finite(self.name, "milestones", value) for value in self.milestones)
        rising = all(a < b for a, b in zip((0.0, *milestones), (*milestones, 1.0), strict=True))
        fix = "Give fractions of the run, not steps: a milestone after k of T updates is k / T."
        check(rising, self.name, "milestones rising strictly between 0 and 1", self.milestones, fix)
        object.__setattr__(self, "milestones", milestones)
        object.__setattr__(self, "gamma", fraction(self.name, "gamma", self.gamma))

    def values(self, t: np.ndarray, T: float) -> np.ndarray:
        """One factor `gamma` per milestone passed; at a milestone it is passed."""
        passed = np.searchsorted(np.asarray(self.milestones), t / T + _ROUNDING, side="right")
        return self.gamma ** passed.astype(np.float64)


@dataclass(frozen=True)
class Exponential(BaseSchedule):
    """`gamma ** t`, or without `gamma` a piece of `e ** -z` from 1 to `floor`. Built by `exponential`."""

    name: ClassVar[str] = "exponential"
    gamma: float | None = None
    floor: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "floor", fraction(self.name, "floor", self.floor))
        if self.gamma is not None:
            object.__setattr__(self, "gamma", fraction(self.name, "gamma", self.gamma))
            check(self.gamma > 0, self.name, "gamma > 0", self.gamma, "Pass the factor per update, such as 0.999.")
            if self.floor:
                got = f"gamma={self.gamma:g} and floor={self.floor:g}"
                raise refuse(self.name, "gamma or floor", got, "Use floor(exponential(gamma), m) to hold a minimum.")

    @property
    def anytime(self) -> bool:
        """True for a rate `gamma`; the form with a floor needs `T`."""
        return self.gamma is not None

    def values(self, t: np.ndarray, T: float) -> np.ndarray:
        """`(1 - f) e / (e - 1) e**-z + (f e - 1) / (e - 1)`, rearranged so that both ends are exact; or the rate."""
        if self.gamma is not None:
            return self.gamma**t
        last = np.exp(-1.0)
        return self.floor + (1.0 - self.floor) * ((np.exp(-t / T) - last) / (1.0 - last))


def constant(value: float = 1.0) -> Constant:
    """The same value throughout; needs no `T`.

    `s(t) = value`. The trunk of a run that will branch into decays, and the fixed value of an argument that may also
    be scheduled. As a whole schedule it leaves a run noisier at its end than any decay.

    Args:
        value: the multiplier, in [0, 1].

    >>> constant()(123)
    1.0
    """
    return Constant(value)


def linear(*, start: float = 1.0, end: float = 0.0) -> Linear:
    """A straight line from `start` to `end`.

    `s(t, T) = start + (end - start) t / T`. The decay to try first: decaying to 0 matched or beat the usual defaults
    over ten problems (arXiv 2310.07831). With `start < end` a ramp, for arguments such as an image size.

    Args:
        start: the value at `t = 0`, in [0, 1].
        end: the value at `t = T`, in [0, 1].

    >>> linear(end=0.5)(50, 100)
    0.75
    """
    return Linear(start, end)


def cosine(floor: float = 0.0) -> Cosine:
    """Half a cosine wave from 1 to `floor`: slow, fast, slow (arXiv 1608.03983, without restarts).

    `s(t, T) = floor + (1 - floor) (1 + cos(pi t / T)) / 2`. The usual default. A longer run is another schedule: a
    run stopped early says nothing about a shorter budget.

    Args:
        floor: the value at `t = T`, in [0, 1]; language models often use 0.1.

    >>> cosine()(50, 100)
    0.5
    """
    return Cosine(floor)


def polynomial(power: float = 2.0, *, floor: float = 0.0) -> Polynomial:
    """A power of the time left: `s(t, T) = floor + (1 - floor) (1 - t / T) ** power`.

    `power=1` is `linear()`; a larger one decays early and ends gently, a smaller one (0.9 is common in segmentation)
    stays high and drops late.

    Args:
        power: above 0.
        floor: the value at `t = T`, in [0, 1].

    >>> polynomial(2)(50, 100)
    0.25
    """
    return Polynomial(power, floor)


def rex(d: float = 0.5, *, floor: float = 0.0) -> Rex:
    """REX, a reflected exponential: above the straight line, with most of its fall at the end (arXiv 2107.04197).

    `s(t, T) = (1 - z) / (d + (1 - d) (1 - z))` with `z = t / T`; the published schedule is `d = 1/2`, which is
    `(1 - z) / (1 - z / 2)`. `d = 1` is `linear()`, a smaller one stays high for longer, one above 1 falls early.
    The paper proposes it for small budgets; it leaves less time at low rates than `linear` or `cosine`.

    Args:
        d: what the curve divides by at the end, above 0; the smaller, the later the fall.
        floor: the value at `t = T`, in [0, 1]; the curve is squeezed between 1 and it.

    >>> [round(rex()(t, 100), 6) for t in (0, 50, 100)]
    [1.0, 0.666667, 0.0]
    """
    return Rex(d, floor)


def step(milestones: tuple[float, ...] = (0.3, 0.6, 0.9), *, gamma: float = 0.1) -> Step:
    """A factor `gamma` at each milestone: `s(t, T) = gamma ** (milestones passed)`.

    The 30-60-90 recipe of image classification (arXiv 1512.03385). Smooth decays need fewer choices and are rarely
    worse; use this one to reproduce a recipe.

    Args:
        milestones: fractions of the run, strictly between 0 and 1 and rising; the update at a milestone is the first
            one with the new value.
        gamma: the factor, in [0, 1].

    >>> [step((0.5,))(t, 100) for t in (49, 50)]
    [1.0, 0.1]
    """
    return Step(milestones, gamma)


def exponential(gamma: float | None = None, *, floor: float = 0.0) -> Exponential:
    """Exponential decay: a rate per update, or a fixed shape that ends exactly at `floor`.

    With `gamma`: `s(t) = gamma ** t`; needs no `T`, and how far it gets depends on the number of updates. Without:
    `s(t, T) = (1 - f) e / (e - 1) exp(-z) + (f e - 1) / (e - 1)` with `z = t / T`, `f = floor`; 1 at the start, `f`
    at the end whatever the length. The second is what to use, unless a recipe gives a rate.

    Args:
        gamma: the factor per update (per unit of `t`), in (0, 1]; None chooses the form with a floor.
        floor: the value at `t = T`, in [0, 1]; only without `gamma`.

    >>> exponential(0.5)(3)
    0.125
    >>> exponential(floor=0.1)(100, 100)
    0.1
    """
    return Exponential(gamma, floor)
