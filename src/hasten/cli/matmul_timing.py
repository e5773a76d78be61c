"""Times of functions that take turns, their medians, and how sure those are."""

from __future__ import annotations

import contextlib
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .matmul_data import progress

__all__ = ["Interval", "median_interval", "take_turns", "threads_limited"]

SECONDS = 2e-3  # of one function in one round, at least; shorter ones run several times

Interval = tuple[float, float]


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
    counts = []
    for run in runs:
        run()  # the first call allocates
        start = clock()
        run()
        counts.append(max(1, min(1000, math.ceil(SECONDS / max(clock() - start, 1e-9)))))
    seconds: list[list[float]] = [[] for _ in runs]
    for position in range(rounds):
        progress(f"round {position + 1} of {rounds}")
        order = range(len(runs)) if position % 2 == 0 else reversed(range(len(runs)))
        for i in order:
            start = clock()
            for _ in range(counts[i]):
                runs[i]()
            seconds[i].append((clock() - start) / counts[i])
    return seconds


def median_interval(values: Sequence[float]) -> tuple[float, Interval]:
    """The median, and the order statistics around it that hold the median of the law with at least 95 %.

    >>> median_interval([5.0, 1.0, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0, 9.0])
    (5.0, (2.0, 8.0))
    """
    n, ordered = len(values), sorted(values)
    k, tail = 0, 1 / 2**n  # the probability that at most k of n lie below the median
    while k + 1 < n // 2 and tail + math.comb(n, k + 1) / 2**n <= 0.025:
        k += 1
        tail += math.comb(n, k) / 2**n
    return statistics.median(ordered), (ordered[k], ordered[n - 1 - k])
