"""How dense a model is at which time, and how much of it is exchanged: pure values over time, `s(t, T)`.

`t` counts steps from 0 to `T`, as numbers or numpy arrays. `s(0, T)`, where training starts, is the same for every
`T`. Any function of `t` and `T` serves as well. `start` and `end` are shares of the run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._core.checks import check, fraction, positive, whole
from .._core.clock import ramp

__all__ = ["Constant", "Cosine", "Iterative", "Polynomial", "Schedule", "constant", "cosine", "cubic", "iterative",
           "linear", "one_shot"]  # fmt: skip

Schedule = Callable[[Any, float], Any]


@dataclass(frozen=True)
class Constant:
    """`value` at all times. Built by `constant`."""

    value: float

    def __post_init__(self) -> None:
        _density("constant", "density", self.value)

    def __call__(self, t: Any, T: float) -> Any:
        """The value at `t` of `T`."""
        return _like(t, np.full(np.size(t), self.value))


@dataclass(frozen=True)
class Polynomial:
    """From `initial` at `start` to `final` at `end`, as `final + (initial - final) * (1 - u) ** power`.

    `u` goes from 0 to 1 between the two. Built by `linear`, `cubic` and `one_shot`.
    """

    final: float
    initial: float = 1.0
    start: float = 0.0
    end: float = 0.75
    power: float = 3.0

    def __post_init__(self) -> None:
        _density("schedule", "final", self.final)
        _density("schedule", "initial", self.initial)
        _window(self.start, self.end)
        positive("schedule", "power", self.power)

    def __call__(self, t: Any, T: float) -> Any:
        """The density at `t` of `T`."""
        left = 1.0 - ramp(np.ravel(t) / T, self.start, self.end)
        return _like(t, self.final + (self.initial - self.final) * left**self.power)


@dataclass(frozen=True)
class Iterative:
    """`rounds` equal cuts from `start` to `end`: each keeps the same share of what is left. Built by `iterative`."""

    final: float
    rounds: int = 5
    start: float = 0.0
    end: float = 0.75

    def __post_init__(self) -> None:
        _density("iterative", "final", self.final)
        whole("iterative", "rounds", self.rounds, low=1)
        _window(self.start, self.end)

    def __call__(self, t: Any, T: float) -> Any:
        """The density at `t` of `T`."""
        times = np.ravel(t) / T
        at = np.linspace(self.start, self.end, self.rounds) if self.rounds > 1 else np.array([self.start])
        done = np.searchsorted(at, times, side="right")
        return _like(t, np.where(done == self.rounds, self.final, self.final ** (done / self.rounds)))


@dataclass(frozen=True)
class Cosine:
    """From `high` at 0 to `low` at `end`, half a cosine; `low` from there on. Built by `cosine`."""

    high: float
    low: float = 0.0
    end: float = 1.0

    def __post_init__(self) -> None:
        fraction("cosine", "high", self.high)
        fraction("cosine", "low", self.low)
        _window(0.0, self.end)

    def __call__(self, t: Any, T: float) -> Any:
        """The value at `t` of `T`."""
        u = ramp(np.ravel(t) / T, 0.0, self.end)
        return _like(t, self.low + (self.high - self.low) * (1.0 + np.cos(np.pi * u)) / 2.0)


def constant(density: float) -> Constant:
    """One density all the time: sparse from the start.

    >>> constant(0.1)(5, 10)
    0.1
    """
    return Constant(density)


def one_shot(final: float, at: float = 0.0) -> Polynomial:
    """Dense before `at`, `final` from there on.

    >>> [one_shot(0.1, at=0.5)(t, 10) for t in (0, 4, 5)]
    [1.0, 1.0, 0.1]
    """
    return Polynomial(final, 1.0, at, at, 1.0)


def linear(final: float, initial: float = 1.0, start: float = 0.0, end: float = 0.75) -> Polynomial:
    """A straight line from `initial` at `start` to `final` at `end`.

    >>> [round(linear(0.2, end=1.0)(t, 10), 4) for t in (0, 5, 10)]
    [1.0, 0.6, 0.2]
    """
    return Polynomial(final, initial, start, end, 1.0)


def cubic(final: float, initial: float = 1.0, start: float = 0.0, end: float = 0.75) -> Polynomial:
    """Fast while there is much to drop, slow at the end: the schedule of gradual magnitude pruning.

    With sparsity `s = 1 - density`: `s(t) = s_f + (s_i - s_f) * (1 - u) ** 3`, `u` from 0 at `start` to 1 at `end`.

    >>> [round(cubic(0.1, end=1.0)(t, 10), 4) for t in (0, 5, 10)]
    [1.0, 0.2125, 0.1]

    Source: arXiv 1710.01878.
    """
    return Polynomial(final, initial, start, end, 3.0)


def iterative(final: float, rounds: int = 5, start: float = 0.0, end: float = 0.75) -> Iterative:
    """`rounds` cuts, the first at `start` and the last at `end`, each to the same share of what is left.

    >>> [round(iterative(0.25, rounds=2, start=0.2, end=0.6)(t, 10), 4) for t in (0, 2, 5, 6)]
    [1.0, 0.5, 0.5, 0.25]
    """
    return Iterative(final, rounds, start, end)


def cosine(high: float, low: float = 0.0, end: float = 1.0) -> Cosine:
    """From `high` down to `low` at `end` by half a cosine: a rate of exchange.

    >>> [round(cosine(0.5, 0.1, end=0.5)(t, 10), 4) for t in (0, 5, 10)]
    [0.5, 0.1, 0.1]
    """
    return Cosine(high, low, end)


def _density(call: str, name: str, value: float) -> None:
    fix = "Density is the share that is kept: 1 is dense, 0 would leave nothing."
    check(fraction(call, name, value) > 0, call, f"{name} above 0", value, fix)


def _window(start: float, end: float) -> None:
    fraction("schedule", "start", start)
    fraction("schedule", "end", end)
    check(start <= end, "schedule", f"end of at least start = {start:g}", end)


def _like(t: Any, values: np.ndarray) -> Any:
    """Values (n,) as a float for a number, else in the shape of `t`.

    Numbers take the way of arrays: numpy's scalar arithmetic may differ from it in the last bit.
    """
    return float(values[0]) if np.ndim(t) == 0 else values.reshape(np.shape(t))
