"""A log of one number per step that stays small, however long the run."""

from __future__ import annotations

from typing import Any

__all__ = ["Trace"]


class Trace:
    """Every `stride`-th of the numbers it is given, never more than `limit`; the stride doubles when it is full.

    What is kept depends on the numbers given and not on when they were, so a trace that was saved and loaded goes on
    as if nothing had been.

    Args:
        limit: the most points to keep, even and at least 2.

    >>> trace = Trace(limit=4)
    >>> for step in range(6): trace.add(step, step / 10)
    >>> trace.points
    [(0, 0.0), (2, 0.2), (4, 0.4)]
    """

    def __init__(self, limit: int = 400) -> None:
        assert limit >= 2 and limit % 2 == 0  # so that halving keeps the spacing even
        self.limit, self.stride, self.count = limit, 1, 0
        self.points: list[tuple[int, float]] = []

    def add(self, step: int, value: float) -> None:
        """Log `value` for `step`."""
        if self.count % self.stride == 0:
            if len(self.points) == self.limit:
                self.points, self.stride = self.points[::2], 2 * self.stride
            self.points.append((step, value))
        self.count += 1

    def state_dict(self) -> dict[str, Any]:
        """Plain data from which `load_state_dict` continues."""
        return {"stride": self.stride, "count": self.count, "points": [list(point) for point in self.points]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue a saved trace."""
        self.stride, self.count = int(state["stride"]), int(state["count"])
        self.points = [(int(step), float(value)) for step, value in state["points"]]
