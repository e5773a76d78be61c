"""A schedule at an optimizer, for anybody's loop: as one of torch's schedulers, or on a clock of its own.

`lr_scheduler` is torch's `LambdaLR`: it counts updates, and fits wherever a torch scheduler is expected. `LR` counts
updates, samples, tokens or seconds, and keeps a log of the values it used.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .._core.checks import check, positive, refuse
from .._core.clock import Schedule, check_unit
from .._core.trace import Trace
from .base import choice, nonnegative, schedule_argument

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LambdaLR

__all__ = ["LR", "lr_scheduler"]

CLOCKS = ("step", "sample", "token", "seconds")


def _multiplier(schedule: Schedule, total: float | None, updates: int) -> float:
    return float(schedule(updates, total))


def lr_scheduler(
    optimizer: Optimizer, schedule: Schedule, total: float | None = None, last_epoch: int = -1
) -> LambdaLR:
    """Drive an optimizer's learning rates by a schedule.

    After `k` calls of `.step()` every parameter group has `lr = base_lr * schedule(k, total)`, where `base_lr` is its
    `lr` when this was called first. Call `.step()` once per update, after `optimizer.step()`; at most `total` times.

    The state (`state_dict`) is plain data without the schedule: to resume, build the scheduler anew with the same
    schedule, load the optimizer's and the scheduler's states, and the tail is the same. A different `schedule` or
    `total` at that point is a new tail from there on, as for a branch.

    Args:
        optimizer: any torch optimizer; groups keep their own base learning rates.
        schedule: any schedule.
        total: number of updates of the whole run; None only for a schedule that is `anytime`.
        last_epoch: updates done so far, as in torch: -1 starts afresh; otherwise every group needs its `initial_lr`.

    Raises:
        ValueError: the schedule needs `total`; later, from `.step()`, when it is called more than `total` times.

    >>> import torch
    >>> from hasten.schedules import cosine
    >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.2)
    >>> scheduler = lr_scheduler(optimizer, cosine(), total=2)
    >>> optimizer.step(); scheduler.step(); optimizer.param_groups[0]["lr"]
    0.1
    """
    from torch.optim.lr_scheduler import LambdaLR

    call = "lr_scheduler"
    schedule_argument(call, "schedule", schedule)
    check_unit(call, schedule, "step")
    fix = "Pass the number of updates of the run, total=."
    check(total is not None or schedule.anytime, call, f"total for {schedule!r}", total, fix)
    # torch saves the attributes of a callable object in the scheduler's state; a partial has none, and can be pickled.
    return LambdaLR(optimizer, functools.partial(_multiplier, schedule, total), last_epoch)


class LR:
    """An optimizer's learning rates on a clock: updates, samples, tokens or seconds.

    Every parameter group has `lr = initial_lr * schedule(t, total)`, where `initial_lr` is its `lr` when this was made
    (or what another scheduler noted there). `t` is 0 before the first update; `.step()` after each update moves it on
    and sets the rates of the next one:

    - clock "step": by 1;
    - clock "sample" or "token": by what the update saw, `.step(len(batch))`;
    - clock "seconds": by the time since the last call, or since this was made, outside `paused()`.

    Seconds fit a budget of wall time: how many updates that is need not be known, and differs from run to run. So the
    schedule must need no `T` there, for instance `over(cosine(), "10min")`, and the result is not exact to the bit;
    `logged` has the values that were used. Updates are exact and should be preferred where their number is known.

    The state is plain data without the schedule. To resume, build this anew with the same schedule, load the
    optimizer's state and this one's; seconds then go on from where they were, whatever happened in between.

    Args:
        optimizer: anything with torch's `param_groups`; groups keep their own base rates.
        schedule: any schedule; for "seconds" one that needs no `T`.
        clock: "step", "sample", "token" or "seconds".
        total: length of the run on that clock; None only for a schedule that is `anytime`, and always for "seconds".

    Attributes:
        updates: updates done so far.
        t: where the clock stands.
        multiplier: what the rates of the next update were multiplied by.

    Raises:
        ValueError: the schedule does not fit the clock, or `total` is missing or out of place; from `.step()`: an
            amount out of place, or beyond `total`.

    >>> import torch
    >>> from hasten.schedules import linear
    >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.2)
    >>> rate = LR(optimizer, linear(), clock="sample", total=64)
    >>> optimizer.step(); rate.step(16)
    >>> rate.t, optimizer.param_groups[0]["lr"], rate.logged
    (16.0, 0.15000000000000002, [(0, 1.0), (1, 0.75)])
    """

    def __init__(
        self, optimizer: Optimizer, schedule: Schedule, clock: str = "step", *, total: float | None = None
    ) -> None:
        call = type(self).__name__
        choice(call, "clock", clock, CLOCKS)
        schedule_argument(call, "schedule", schedule)
        check_unit(call, schedule, clock)
        if clock == "seconds":
            check(total is None, call, "no total for seconds", total, "Use over(schedule, '10min').")
        elif total is None:
            fix = f"Pass the length of the run in {clock}s, total=."
            check(schedule.anytime, call, f"total for {schedule!r}", None, fix)
        else:
            total = positive(call, "total", total)
        self.optimizer, self.schedule, self.clock, self.total = optimizer, schedule, clock, total
        self.updates, self.t = 0, 0.0
        self._trace = Trace()
        self._since: float | None = time.perf_counter()  # where the time after `t` begins; None while paused
        self._set()
        self._trace.add(0, self.multiplier)

    @property
    def logged(self) -> list[tuple[int, float]]:
        """(update, multiplier) of the updates so far and of the next one, thinned evenly to at most 400."""
        return list(self._trace.points)

    def step(self, amount: float | None = None) -> None:
        """An update is done: move the clock on and set the rates of the next one.

        Args:
            amount: samples or tokens of the update; None on the clocks "step" and "seconds", which count themselves.
        """
        after = self._after(amount)
        multiplier = float(self.schedule(after, self.total))  # refuses a time beyond the end before anything moved
        self.t, self.updates = after, self.updates + 1
        self._set(multiplier)
        self._trace.add(self.updates, self.multiplier)

    def _after(self, amount: float | None) -> float:
        call = f"{type(self).__name__}.step"
        if self.clock in ("sample", "token"):
            if amount is None:
                raise refuse(call, f"the {self.clock}s of the update", None, f"Pass their number: .step({self.clock}s)")
            return self.t + nonnegative(call, "amount", amount)
        check(amount is None, call, f"no amount on the clock {self.clock!r}", amount, "Call .step() once an update.")
        return self.t + 1.0 if self.clock == "step" else self._read()

    def _read(self) -> float:
        """The seconds so far; what has passed up to now is in them and not counted again."""
        if self._since is None:
            return self.t
        now = time.perf_counter()
        passed, self._since = now - self._since, now
        return self.t + passed

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time inside does not count (an evaluation, say); without effect on clocks that count no time."""
        if self._since is None:  # inside another pause
            yield
            return
        self.t = self._read() if self.clock == "seconds" else self.t
        self._since = None
        try:
            yield
        finally:
            self._since = time.perf_counter()

    def _set(self, multiplier: float | None = None) -> None:
        self.multiplier = float(self.schedule(self.t, self.total)) if multiplier is None else multiplier
        for group in self.optimizer.param_groups:  # each time, as groups may be added on the way
            rate = float(group.setdefault("initial_lr", float(group["lr"]))) * self.multiplier
            if hasattr(group["lr"], "fill_"):  # a tensor, as compiled optimizers want it: it must stay the same one
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def state_dict(self) -> dict[str, Any]:
        """Plain data from which `load_state_dict` continues."""
        return {"clock": self.clock, "updates": self.updates, "t": self.t, "logged": self._trace.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where the state was saved; load the optimizer's own state first or afterwards, as you like.

        Raises:
            ValueError: the state is of another clock.
        """
        fix = "Build it with the clock it was saved with."
        expected = f"a state of the clock {self.clock!r}"
        check(state["clock"] == self.clock, "LR.load_state_dict", expected, state["clock"], fix)
        self.updates, self.t = int(state["updates"]), float(state["t"])
        self._trace.load_state_dict(state["logged"])
        if self._since is not None:
            self._since = time.perf_counter()
        self._set()
