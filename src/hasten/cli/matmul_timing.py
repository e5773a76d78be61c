"""Times of functions that take turns, their medians, and how sure those are."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from hasten._core import timing
from hasten._core.timing import Interval, median_interval

from .matmul_data import progress

__all__ = ["Interval", "median_interval", "take_turns", "threads_limited"]

SECONDS = timing.SECONDS  # of one function in one round, at least


@contextlib.contextmanager
def threads_limited(count: int) -> Iterator[None]:
    """So many threads in torch and, where threadpoolctl is installed, in the BLAS that NumPy uses."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        with contextlib.ExitStack() as stack, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # two OpenMP in one process: other people's business
            try:
                import threadpoolctl
            except ImportError:
                pass
            else:
                stack.enter_context(threadpoolctl.threadpool_limits(count, user_api="blas"))
            with torch.no_grad():
                yield
    finally:
        torch.set_num_threads(before)


def take_turns(
    runs: Sequence[Callable[[], Any]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> list[list[float]]:  # fmt: skip
    """Seconds of a call of each function in each round.

    Args:
        runs: what to time.
        rounds: how many.
        clock: seconds, for tests.

    >>> ticks = iter(range(100))
    >>> take_turns([lambda: None], 2, clock=lambda: float(next(ticks)))
    [[1.0, 1.0]]
    """
    return timing.take_turns(
        runs,
        rounds,
        seconds=SECONDS,
        clock=clock,
        before_round=lambda position: progress(f"round {position + 1} of {rounds}"),
    )
