"""A schedule as one of torch's learning-rate schedulers, for anybody's loop."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from .._core.checks import check
from .._core.clock import Schedule
from .base import schedule_argument

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LambdaLR

__all__ = ["lr_scheduler"]


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
    fix = "Pass the number of updates of the run, total=."
    check(total is not None or schedule.anytime, call, f"total for {schedule!r}", total, fix)
    # torch saves the attributes of a callable object in the scheduler's state; a partial has none, and can be pickled.
    return LambdaLR(optimizer, functools.partial(_multiplier, schedule, total), last_epoch)
