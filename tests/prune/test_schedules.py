"""Schedules of density: ends that are met exactly, never rising, arrays as numbers, values that pickle."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.prune import constant, cosine, cubic, iterative, linear, one_shot

SHARE = st.floats(0.0, 1.0)


@given(st.floats(0.001, 1.0), SHARE, SHARE, st.integers(1, 500), st.sampled_from(["linear", "cubic", "iterative"]))
def test_from_dense_to_the_final_density_and_never_up(final: float, a: float, b: float, T: int, kind: str) -> None:
    start, end = sorted((a, b))
    schedule = {
        "linear": lambda: linear(final, start=start, end=end),
        "cubic": lambda: cubic(final, start=start, end=end),
        "iterative": lambda: iterative(final, rounds=4, start=start, end=end),
    }[kind]()
    values = schedule(np.arange(T + 1), T)
    assert values[-1] == final
    assert (np.diff(values) <= 1e-12).all()
    assert (values[np.arange(T + 1) / T < start] == 1.0).all()
    assert (values[np.arange(T + 1) / T >= end] == final).all()
    assert [schedule(t, T) for t in range(T + 1)] == values.tolist()


def test_the_cubic_of_the_paper() -> None:
    s = 0.9 + (0.0 - 0.9) * (1 - (30 - 10) / (60 - 10)) ** 3
    assert cubic(0.1, start=0.1, end=0.6)(30, 100) == pytest.approx(1 - s)


def test_the_others() -> None:
    assert constant(0.2)(np.arange(3), 10).tolist() == [0.2] * 3
    assert one_shot(0.2)(0, 10) == 0.2
    assert [one_shot(0.2, at=0.3)(t, 10) for t in (2, 3)] == [1.0, 0.2]
    assert cosine(0.5, 0.005)(5, 10) == pytest.approx((0.5 + 0.005) / 2)
    rounds = iterative(1 / 16, rounds=4, start=0.0, end=0.75)
    assert [rounds(t, 100) for t in (0, 25, 50, 75, 100)] == pytest.approx([1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 16])


@pytest.mark.parametrize("schedule", [constant(0.2), cubic(0.1), iterative(0.1), cosine(0.3), one_shot(0.5, at=0.5)])
def test_schedules_are_values(schedule: object) -> None:
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert hash(schedule) == hash(pickle.loads(pickle.dumps(schedule)))


@pytest.mark.parametrize("bad", [0.0, -0.1, 1.1, float("nan")])
def test_densities_outside_are_refused(bad: float) -> None:
    for make in (constant, cubic, linear, iterative, one_shot):
        with pytest.raises(ValueError, match="density|final"):
            make(bad)
    with pytest.raises(ValueError, match=r"end of at least start = 0\.5"):
        cubic(0.1, start=0.5, end=0.4)
    with pytest.raises(ValueError, match="rounds"):
        iterative(0.1, rounds=0)
