"""Curve kinds: how the points of an accuracy-versus-time curve are obtained.

`cyclic` trains once; the learning rate completes one schedule per cycle and the run is evaluated at each cycle's end,
so k points cost one run (arXiv 2206.00832). `separate` trains one run per point. Progress is always measured inside
the current cycle, so a program does not know which of the two it is in. The first cyclic point is the same
computation as the first separate run.
"""

from __future__ import annotations

from dataclasses import dataclass

from hasten._core.checks import check
from hasten.schedules import cycle_ends

__all__ = ["KINDS", "Curve"]

KINDS = ("cyclic", "separate")


@dataclass(frozen=True)
class Curve:
    """Where a study's points lie.

    Args:
        kind: "cyclic" or "separate".
        ends: budgets in optimizer steps, increasing; the last one is the program's duration.
    """

    kind: str
    ends: tuple[int, ...]

    def __post_init__(self) -> None:
        check(self.kind in KINDS, "Curve", f"kind among {', '.join(KINDS)}", self.kind)
        rising = all(a < b for a, b in zip((0, *self.ends), self.ends, strict=False))
        check(bool(self.ends) and rising, "Curve", "increasing positive ends", self.ends)

    @classmethod
    def of(cls, kind: str, total: int, *, points: int, mult: float, warmup: int) -> Curve:
        """The curve with `points` geometric budgets up to `total` steps; see `hasten.schedules.cycle_ends`."""
        return cls(kind, cycle_ends(total, points=points, mult=mult, warmup=warmup))

    def runs(self) -> tuple[tuple[int, ...], ...]:
        """Per run, the indices of the points it yields."""
        every = tuple(range(len(self.ends)))
        return (every,) if self.kind == "cyclic" else tuple((point,) for point in every)

    def cycles(self, points: tuple[int, ...]) -> list[tuple[int, int, int]]:
        """(start, end, point) of each cycle of the run that yields `points`."""
        if self.kind == "separate":
            return [(0, self.ends[point], point) for point in points]
        starts = (0, *self.ends)
        return [(starts[point], self.ends[point], point) for point in points]
