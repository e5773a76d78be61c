"""A log that stays small."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten._core.trace import Trace


def filled(count: int, limit: int = 8) -> Trace:
    trace = Trace(limit)
    for step in range(count):
        trace.add(step, step / 2)
    return trace


def test_all_is_kept_until_it_is_full_and_then_every_second():
    assert filled(8).points == [(k, k / 2) for k in range(8)]
    assert filled(9).points == [(k, k / 2) for k in (0, 2, 4, 6, 8)]
    assert filled(17).points == [(k, k / 2) for k in (0, 4, 8, 12, 16)]


@given(st.integers(0, 3000), st.sampled_from([2, 8, 400]))
def test_evenly_spaced_and_never_too_many(count, limit):
    trace = filled(count, limit)
    steps = [step for step, _ in trace.points]
    assert steps == list(range(0, count, trace.stride))
    assert len(steps) <= limit
    assert count <= limit or len(steps) > limit // 2, "not thinner than needed"


@given(st.integers(0, 200), st.integers(0, 200))
def test_saved_and_loaded_it_goes_on(first, more):
    trace = Trace(8)
    trace.load_state_dict(filled(first).state_dict())
    for step in range(first, first + more):
        trace.add(step, step / 2)
    assert trace.points == filled(first + more).points
    assert trace.state_dict() == filled(first + more).state_dict()


def test_the_state_is_a_copy():
    trace = filled(3)
    state = trace.state_dict()
    trace.add(3, 1.5)
    assert state["points"] == [[0, 0.0], [1, 0.5], [2, 1.0]]


@pytest.mark.parametrize("limit", [0, 1, 7])
def test_a_limit_that_cannot_be_halved(limit):
    with pytest.raises(AssertionError):
        Trace(limit)
