"""Schedules of several phases: one cycle (up, then down), and stable-then-decay (the SD of WSD)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .._core.checks import check, fraction
from .base import BaseSchedule, choice

__all__ = ["WSD", "OneCycle", "one_cycle", "wsd"]

# What u may miss 0 by at the branch itself; the square root would make a drop of 1e-8 out of a rounding of 1e-16.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class OneCycle(BaseSchedule):
    """`start` to 1 until update `peak_at T - 1`, then to `end` at update `T - 1`. Built by `one_cycle`."""

    name: ClassVar[str] = "one_cycle"
    kinds: ClassVar[tuple[str, ...]] = ("cosine", "linear")
    peak_at: float = 0.3
    start: float = 0.04
    end: float = 4e-6
    kind: str = "cosine"

    def __post_init__(self) -> None:
        for field in ("peak_at", "start", "end"):
            object.__setattr__(self, field, fraction(self.name, field, getattr(self, field)))
        check(0 < self.peak_at < 1, self.name, "0 < peak_at < 1", self.peak_at, "Pass the fraction spent rising.")
        choice(self.name, "kind", self.kind, self.kinds)

    def values(self, t: np.ndarray, T: float) -> np.ndarray:
        """Two anneals that meet at the peak; after update `T - 1` the end value stays."""
        peak, last = self.peak_at * T - 1.0, T - 1.0
        # A run too short to rise (peak <= 0) starts inside the second phase.
        rise = np.minimum(t / peak, 1.0) if peak > 0 else np.ones_like(t)
        fall = np.clip((t - peak) / (last - peak), 0.0, 1.0)
        if self.kind == "cosine":
            rise, fall = (1.0 - np.cos(np.pi * rise)) / 2.0, (1.0 - np.cos(np.pi * fall)) / 2.0
        up = self.start * (1.0 - rise) + rise
        return np.where(t <= peak, up, 1.0 - fall + self.end * fall)


@dataclass(frozen=True)
class WSD(BaseSchedule):
    """1 until `(1 - decay) T`, then down to 0 at `T`. Built by `wsd`."""

    name: ClassVar[str] = "wsd"
    kinds: ClassVar[tuple[str, ...]] = ("linear", "1-sqrt", "cosine")
    decay: float = 0.2
    kind: str = "1-sqrt"

    def __post_init__(self) -> None:
        object.__setattr__(self, "decay", fraction(self.name, "decay", self.decay))
        check(self.decay > 0, self.name, "decay > 0", self.decay, "Use constant() for a run that never decays.")
        choice(self.name, "kind", self.kind, self.kinds)

    def values(self, t: np.ndarray, T: float) -> np.ndarray:
        """The decay in `u`, 0 at the branch and 1 at the end."""
        u = np.clip(1.0 - (T - t) / (self.decay * T), 0.0, 1.0)
        u = np.where(u < _ROUNDING, 0.0, u)
        if self.kind == "linear":
            return 1.0 - u
        if self.kind == "cosine":
            return (1.0 + np.cos(np.pi * u)) / 2.0
        return 1.0 - np.sqrt(u)


def one_cycle(peak_at: float = 0.3, *, start: float = 0.04, end: float = 4e-6, kind: str = "cosine") -> OneCycle:
    """Up to the peak and down again, far below the start (arXiv 1708.07120).

    Equal to torch's `OneCycleLR` divided by `max_lr`, with `peak_at = pct_start`, `start = 1 / div_factor` and
    `end = 1 / (div_factor * final_div_factor)`, and with its counting: the peak is at update `peak_at * T - 1`, the
    end at the last update `T - 1`; `s(T, T) = end`. It has its own warm-up: do not wrap it in `warmup`, and do not
    use it for cycles, where every cycle would start low again. `t` must count updates. Momentum is not touched.

    Args:
        peak_at: the fraction of the run spent rising, in (0, 1).
        start: the value at `t = 0`, in [0, 1].
        end: the value of the last update, in [0, 1].
        kind: "cosine" or "linear" for both phases.

    >>> one_cycle()(29, 100)
    1.0
    """
    return OneCycle(peak_at, start, end, kind)


def wsd(decay: float = 0.2, *, kind: str = "1-sqrt") -> WSD:
    """Stable, then a decay to 0 over the last fraction of the run (arXiv 2404.06395, 2405.18392).

    `s(t, T) = 1` for `t <= (1 - decay) T`, then with `u` from 0 to 1: `1 - u`, `1 - sqrt(u)` or
    `(1 + cos(pi u)) / 2`. Before the branch nothing depends on `T`: one trunk serves every budget, each with its own
    short decay from a snapshot. Add the warm-up with `warmup(wsd(), steps)`; the fraction is then one of the
    updates after it.

    Args:
        decay: the fraction of the run that decays, in (0, 1]; 0.1 to 0.2 is usual.
        kind: "1-sqrt" (drops fast, then gently), "linear" or "cosine".

    >>> [wsd(kind="linear")(t, 100) for t in (80, 90, 100)]
    [1.0, 0.5, 0.0]
    """
    return WSD(decay, kind)
