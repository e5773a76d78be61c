"""Times of functions that take turns, their medians, and how sure those are."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["FEWEST", "Interval", "median_interval", "take_turns"]

Interval = tuple[float, float]

FEWEST = 6  # values whose smallest and largest hold the median of their law with 95 %: 1 - 2 / 2**6
SECONDS = 2e-3  # of one function in one round, at least; shorter ones run several times


def median_interval(values: Sequence[float]) -> tuple[float, Interval]:
    """The median, and the order statistics around it that hold the median of the law with at least 95 %.

    Of fewer than six values these are the smallest and the largest, and hold it less surely.

    >>> median_interval([5.0, 1.0, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0, 9.0])
    (5.0, (2.0, 8.0))
    """
    n, ordered = len(values), sorted(values)
    k, tail = 0, 1 / 2**n  # the probability that at most k of n lie below the median
    while k + 1 < n // 2 and tail + math.comb(n, k + 1) / 2**n <= 0.025:
        k += 1
        tail += math.comb(n, k) / 2**n
    return statistics.median(ordered), (ordered[k], ordered[n - 1 - k])


def take_turns(
    runs: Sequence[Callable[[], Any]],
    rounds: int,
    *,
    seconds: float = SECONDS,
    clock: Callable[[], float] = time.perf_counter,
    before_round: Callable[[int], None] = lambda position: None,
) -> list[list[float]]:
    """Seconds of a call of each function in each round; every other round goes through them backwards.

    Args:
        runs: what to time.
        rounds: how many.
        seconds: of one function in one round, at least; shorter ones run several times.
        clock: seconds, for tests.
        before_round: called with the number of each round.

    >>> ticks = iter(range(100))
    >>> take_turns([lambda: None], 2, clock=lambda: float(next(ticks)))
    [[1.0, 1.0]]
    """
    counts = []
    for run in runs:
        run()  # the first call allocates
        start = clock()
        run()
        counts.append(max(1, min(1000, math.ceil(seconds / max(clock() - start, 1e-9)))))
    times: list[list[float]] = [[] for _ in runs]
    for position in range(rounds):
        before_round(position)
        order = range(len(runs)) if position % 2 == 0 else reversed(range(len(runs)))
        for i in order:
            start = clock()
            for _ in range(counts[i]):
                runs[i]()
            times[i].append((clock() - start) / counts[i])
    return times
