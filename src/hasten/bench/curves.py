"""Curve kinds: how the points of an accuracy-versus-time curve are obtained.

`cyclic`    one run: the learning rate completes one schedule per cycle, and the model at each cycle's end is a point,
            so k points cost one run (arXiv 2206.00832). Each point depends on the restarts before it.
`separate`  one run per point: no bias, and with ends that double about twice the steps.
`branch`    one run: a trunk at a constant rate, and for each budget a decay of its own from a snapshot of the trunk,
            which then goes on as if nothing had been (arXiv 2404.06395, 2405.18392). No restarts, about 1 + decay
            times the steps of the longest budget; but it is the curve of another recipe, constant plus decay.

Progress is measured inside the current cycle, so a program does not know which kind it is in. The first cyclic point
is the same computation as the first separate run; every point of a branch curve is the same computation as a separate
run with its schedule (`branch_schedule`).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from hasten._core.checks import check, fraction
from hasten._core.clock import Scheduled
from hasten.program import Call, call
from hasten.schedules import cycle_ends, warmup, wsd

__all__ = ["DECAY", "KINDS", "Curve", "branch_schedule"]

KINDS = ("cyclic", "separate", "branch")
DECAY = 0.2  # of a branch curve: the usual share of a run that decays (arXiv 2405.18392)

Cycle = tuple[int, int, int]  # (start, end, point), in steps


@dataclass(frozen=True)
class Curve:
    """Where a study's points lie.

    Args:
        kind: "cyclic", "separate" or "branch".
        ends: budgets in optimizer steps, increasing; the last one is the program's duration.
        forks: of a branch curve, the step at which each budget leaves the trunk; empty for the others.
    """

    kind: str
    ends: tuple[int, ...]
    forks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check(self.kind in KINDS, "Curve", f"kind among {', '.join(KINDS)}", self.kind)
        check(bool(self.ends) and _rising((0, *self.ends)), "Curve", "increasing positive ends", self.ends)
        if self.kind != "branch":
            check(not self.forks, "Curve", f"no forks of a {self.kind} curve", self.forks)
            return
        fits = len(self.forks) == len(self.ends) and all(f < e for f, e in zip(self.forks, self.ends, strict=True))
        check(fits and _rising((-1, *self.forks)), "Curve", "increasing forks, each before its end", self.forks,
              "Train longer, or ask for fewer points, so that every budget has updates that decay.")  # fmt: skip

    @classmethod
    def of(cls, kind: str, total: int, *, points: int, mult: float, warmup: int, decay: float = DECAY) -> Curve:
        """The curve with `points` geometric budgets up to `total` steps; see `hasten.schedules.cycle_ends`.

        Args:
            kind: "cyclic", "separate" or "branch".
            total: steps of the longest budget.
            points: how many budgets.
            mult: ratio of successive lengths.
            warmup: steps before the first cycle, and of a branch curve before the constant rate.
            decay: of a branch curve, the share of each budget after the warm-up that decays.
        """
        ends = cycle_ends(total, points=points, mult=mult, warmup=warmup)
        if kind != "branch":
            return cls(kind, ends)
        # The first update that may differ from the trunk's: at t = (1 - decay) T the schedule is still at 1.
        rounding = 1e-9
        forks = tuple(warmup + math.ceil((1.0 - _decay(decay)) * (end - warmup) - rounding) for end in ends)
        return cls(kind, ends, forks)

    @property
    def label(self) -> str:
        """What tells one curve from another in the store."""
        forks = f";{','.join(map(str, self.forks))}" if self.forks else ""
        return f"{self.kind}:{','.join(map(str, self.ends))}{forks}"

    def runs(self) -> tuple[tuple[int, ...], ...]:
        """Per run, the indices of the points it yields."""
        every = tuple(range(len(self.ends)))
        return tuple((point,) for point in every) if self.kind == "separate" else (every,)

    def cycles(self, points: tuple[int, ...]) -> list[Cycle]:
        """(start, end, point) of each cycle of the run that yields `points`; a branch is a cycle from the beginning."""
        if self.kind != "cyclic":
            return [(0, self.ends[point], point) for point in points]
        starts = (0, *self.ends)
        return [(starts[point], self.ends[point], point) for point in points]

    def leaves(self, points: tuple[int, ...]) -> tuple[int, ...]:
        """Where each cycle of the run that yields `points` leaves the trunk; empty where there is no trunk."""
        return tuple(self.forks[point] for point in points) if self.forks else ()

    def steps(self, points: tuple[int, ...]) -> int:
        """Optimizer steps that the run takes until it has yielded `points` (from its first one on)."""
        last = points[-1]
        if not self.forks:
            return self.ends[last]
        return self.forks[last] + sum(self.ends[point] - self.forks[point] for point in points)


def branch_schedule(warmup_steps: int, decay: float = DECAY) -> Call:
    """The schedule of a branch curve: a warm-up, a constant rate, and 1-sqrt down to 0 over the last `decay`.

    Before the decay nothing in it depends on where the run ends: one trunk serves every budget.
    """
    body = wsd(_decay(decay), kind="1-sqrt")
    return call(Scheduled, schedule=warmup(body, warmup_steps) if warmup_steps else body, unit="step")


def _decay(decay: float) -> float:
    check(0 < fraction("Curve", "decay", decay) < 1, "Curve", "0 < decay < 1", decay, "0.1 to 0.2 is usual.")
    return float(decay)


def _rising(numbers: tuple[int, ...]) -> bool:
    return all(a < b for a, b in itertools.pairwise(numbers))
