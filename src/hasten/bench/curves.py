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
from collections.abc import Mapping
from dataclasses import dataclass

from hasten._core.checks import check, fraction, near, refuse
from hasten._core.clock import Scheduled
from hasten.program import Call, Program, call
from hasten.schedules import cycle_ends, warmup, wsd

__all__ = ["DECAY", "KINDS", "Curve", "branch_schedule", "check_control", "check_decay", "choose_kind"]

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


# Which kind the arms of a study allow ---------------------------------------------------------------------------------


def choose_kind(wanted: str, programs: Mapping[str, Program], base: Program) -> tuple[str, str]:
    """The curve kind and why: one cyclic run an arm, unless a method's effect cannot be undone at a cycle's end."""
    if wanted not in ("auto", *KINDS):
        kinds = ", ".join(map(repr, KINDS))
        raise refuse("compare", f"curve among 'auto', {kinds}", repr(wanted), near(wanted, KINDS))
    if wanted in ("cyclic", "branch"):
        reasons = [text for name, program in programs.items() for text in _against(wanted, name, program, base)]
        if reasons:
            fix = "Use --curve separate (or auto)."
            raise refuse("compare", f"arms that a {wanted} run can compare", "; ".join(reasons), fix)
        return wanted, _ASKED[wanted]
    reasons = [text for name, program in programs.items() for text in _against("cyclic", name, program, base)]
    if wanted == "auto" and not reasons:
        return "cyclic", _ASKED["cyclic"]
    why = "as asked" if wanted == "separate" and not reasons else f"because {'; '.join(reasons)}"
    return "separate", f"separate runs for every point, {why}"


_ASKED = {
    "cyclic": "one cyclic run per arm and seed yields every point",
    "branch": "one trunk per arm and seed yields every point, each after a decay of its own",
}


def _against(kind: str, name: str, program: Program, base: Program) -> list[str]:
    """Why one run cannot yield every point of this arm, in this kind of curve."""
    if kind == "separate":
        return []
    found = [f"{method} in {name!r} cannot be undone at the end of a cycle" for method in program.irreversible]
    if kind == "branch":
        found = [
            f"{what} in {name!r} depends on where the run ends, and a trunk has no end" for what in _timed(program)
        ]
    return [*found, f"{name!r} replaces the schedule"] if program.schedule != base.schedule else found


def _timed(program: Program) -> list[str]:
    """What in a program depends on progress, as far as it says: methods by their cards, arguments of batch transforms.

    A hook that no method brought has no card, and hooks are where time-driven changes live: it counts as one of them.
    """
    known = {method.name for method in program.methods}
    methods = [method.name for method in program.methods if method.card.horizon != "none"]
    methods += [entry.name for entry in program.hooks if entry.name not in known]
    scheduled = [
        entry.name
        for entry in program.batch
        for _, value in entry.call.args
        if isinstance(value, Call) and isinstance(bound := value.build(), Scheduled)
        if bound.unit == "progress" or not bound.schedule.anytime
    ]
    return list(dict.fromkeys([*methods, *scheduled]))


def check_control(kind: str, name: str, program: Program, base: Program) -> None:
    """Refuse to calibrate by a kind of curve in which the baseline cannot be run."""
    if reasons := _against(kind, name, program, base):
        fix = "Calibrate a study whose baseline can be run in every kind."
        raise refuse("compare", f"a baseline for a {kind} curve beside --calibrate", "; ".join(reasons), fix)


def check_decay(decay: float | None, kind: str, calibrate: bool) -> None:
    """Refuse a decay that no curve of the study would have."""
    if decay is not None and kind != "branch" and not calibrate:
        raise refuse("compare", f"no decay for a {kind} curve", decay, "Use --curve branch, or --calibrate.")
