"""Turns, and the interval of a median against the binomial law."""

from __future__ import annotations

import math
import random

from hasten._core.timing import FEWEST, median_interval, take_turns


def test_the_interval_of_a_median_is_the_narrowest_that_holds_it() -> None:
    assert median_interval([3.0, 1.0, 2.0, 6.0, 5.0, 4.0]) == (3.5, (1.0, 6.0))
    for n in range(FEWEST, 40):
        _, (low, high) = median_interval([float(i) for i in range(n)])
        k = int(low)
        assert high == n - 1 - k
        outside = 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n
        assert outside <= 0.05  # the median lies below the k-th or above the other with this probability
        assert outside + 2 * math.comb(n, k + 1) / 2**n > 0.05


def test_few_values_are_all_that_is_known() -> None:
    for n in range(1, FEWEST):
        values = [float(i) for i in range(n)]
        assert median_interval(values) == ((n - 1) / 2, (0.0, n - 1.0))
    assert 2 / 2 ** (FEWEST - 1) > 0.05 >= 2 / 2**FEWEST


def test_the_interval_holds_the_median_of_a_skewed_law() -> None:
    draw, median, held = random.Random(0), math.log(2), 0
    for _ in range(400):
        _, (low, high) = median_interval([draw.expovariate(1) for _ in range(31)])
        held += low <= median <= high
    assert 0.95 * 400 <= held < 400


def test_turns_go_back_and_forth() -> None:
    said: list[str] = []
    times = take_turns(
        [lambda: said.append("a"), lambda: said.append("b")], 3, seconds=0.0, clock=lambda: 0.0,
        before_round=lambda position: said.append(str(position)),
    )  # fmt: skip
    assert "".join(said) == "aabb" + "0ab" + "1ba" + "2ab"
    assert times == [[0.0] * 3, [0.0] * 3]


def test_short_calls_are_repeated_and_charged_once() -> None:
    ticks = iter(range(1000))
    calls: list[int] = []
    times = take_turns([lambda: calls.append(1)], 2, seconds=5.0, clock=lambda: float(next(ticks)))
    assert len(calls) == 2 + 2 * 5
    assert times == [[1 / 5, 1 / 5]]
