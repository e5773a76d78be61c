"""Durations, ticks, and schedules evaluated at a tick."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten._core.clock import UNITS, Duration, Schedule, Scheduled, Tick, parse_duration, parse_seconds, ramp


@dataclass(frozen=True)
class Line:
    """t / T, and -t once the warm-up is over, so that a test sees which of the two was asked."""

    warm: bool = True
    anytime: bool = False
    in_seconds: bool = False

    def __call__(self, t, T=None):
        if not self.warm:
            return -t
        return t if T is None else t / T

    @property
    def body(self):
        return Line(False, self.anytime)


@pytest.mark.parametrize(
    ("text", "value", "unit"),
    [
        ("10ep", 10, "epoch"),
        ("1 epoch", 1, "epoch"),
        ("500step", 500, "step"),
        (" 500 steps ", 500, "step"),
        ("1e5sample", 1e5, "sample"),
        ("2e6tok", 2e6, "token"),
        ("1.5E+3tokens", 1500, "token"),
        (".5ep", 0.5, "epoch"),
    ],
)
def test_parse_duration(text, value, unit):
    assert parse_duration(text) == Duration(value, unit)


@pytest.mark.parametrize(
    "text", ["", "10", "ep", "-3ep", "0step", "10 parsecs", "1e400step", "nanep", "10min", 10, None]
)
def test_parse_duration_refuses(text):
    with pytest.raises(ValueError, match=r"^duration: expected a length such as '10ep'.*Write a number and a unit\.$"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10min", 600), ("2h", 7200), ("250ms", 0.25), ("0.5 h", 1800), (3, 3), (0.5, 0.5)],
)
def test_parse_seconds(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "10ep", "0s", "-1s", 0, -1, math.nan, math.inf, True, None])
def test_parse_seconds_refuses(text):
    with pytest.raises(ValueError, match="^time: expected "):
        parse_seconds(text)


def test_duration_in_steps():
    sizes = {"steps_per_epoch": 7, "batch_size": 32, "tokens_per_sample": 128}
    assert Duration(12, "step").steps(**sizes) == 12
    assert Duration(3, "epoch").steps(**sizes) == 21
    assert Duration(320, "sample").steps(**sizes) == 10
    assert Duration(32 * 128 * 5, "token").steps(**sizes) == 5
    assert Duration(0.001, "epoch").steps(**sizes) == 1, "at least one"
    assert Duration(1.5, "epoch").steps(**sizes) == 11, "10.5 rounds up, once"


def test_tokens_where_there_are_none():
    with pytest.raises(ValueError, match="a unit this workload counts, got 'token'"):
        Duration(1, "token").steps(steps_per_epoch=7, batch_size=32, tokens_per_sample=0)


@given(st.integers(1, 10**6), st.integers(1, 1000))
def test_whole_epochs_are_exact(epochs, steps_per_epoch):
    steps = Duration(epochs, "epoch").steps(steps_per_epoch=steps_per_epoch, batch_size=1, tokens_per_sample=0)
    assert steps == epochs * steps_per_epoch


def test_tick():
    tick = Tick(step=25, start=20, end=40, seconds=1.5, steps_per_epoch=10, batch_size=4, tokens_per_sample=8)
    assert (tick.epoch, tick.in_epoch, tick.sample, tick.token) == (2, 5, 100, 800)
    assert tick.progress == 0.25
    assert tick.clock("step") == (5, 20)
    assert tick.clock("epoch") == (0.5, 2)
    assert tick.clock("sample") == (20, 80)
    assert tick.clock("token") == (160, 640)
    assert tick.clock("progress") == (0.25, 1)
    assert tick.clock("seconds") == (1.5, None)


@given(st.integers(0, 1000), st.integers(1, 1000), st.data())
def test_every_unit_sees_the_same_progress(start, length, data):
    step = data.draw(st.integers(start, start + length))
    tick = Tick(step, start, start + length, steps_per_epoch=13, batch_size=3, tokens_per_sample=5)
    for unit in UNITS:
        t, T = tick.clock(unit)
        if T is not None:
            assert t / T == pytest.approx(tick.progress)


def test_scheduled_uses_the_body_from_the_second_cycle_on():
    scheduled = Scheduled(Line(), "step")
    assert scheduled.at(Tick(step=5, start=0, end=20)) == 0.25
    assert scheduled.at(Tick(step=25, start=20, end=40)) == -5


def test_seconds_count_through_all_cycles_and_so_does_the_schedule():
    scheduled = Scheduled(Line(anytime=True), "seconds")
    assert scheduled.at(Tick(step=1, start=0, end=2, seconds=3.5)) == 3.5
    assert scheduled.at(Tick(step=3, start=2, end=4, seconds=7.5)) == 7.5, "not the body: its clock would start anew"


def test_a_schedule_in_seconds_cannot_ask_for_the_length():
    with pytest.raises(ValueError, match=r"Scheduled: expected a schedule that needs no T.*over\(schedule, '10min'\)"):
        Scheduled(Line(), "seconds")


@dataclass(frozen=True)
class Around:
    """A schedule that holds another one."""

    inner: Line
    anytime = True

    def __call__(self, t, T=None):
        return self.inner(t)


def test_a_time_span_inside_needs_the_clock_of_seconds():
    span = Around(Around(Line(anytime=True, in_seconds=True)))
    assert Scheduled(span, "seconds").at(Tick(step=1, start=0, end=2, seconds=3.5)) == 3.5
    for unit in set(UNITS) - {"seconds"}:
        with pytest.raises(ValueError, match=f"the unit 'seconds' for a schedule over a time span, got '{unit}'"):
            Scheduled(span, unit)
    Scheduled(Around(Line()), "step")


def test_scheduled_refuses_unknown_units():
    with pytest.raises(ValueError, match="Scheduled: expected a unit among step, epoch, .*, got 'hour'"):
        Scheduled(Line(), "hour")


def test_schedule_is_a_protocol():
    assert isinstance(Line(), Schedule)
    assert not isinstance(math.sin, Schedule)


@given(st.floats(-100, 100), st.floats(-100, 100), st.floats(0, 50))
def test_ramp(t, start, width):
    value = float(ramp(t, start, start + width))
    assert 0 <= value <= 1
    assert value == 0 or t >= start
    assert value == 1 or t < start + width or width == 0
    assert float(ramp(t + 1, start, start + width)) >= value


def test_ramp_is_vectorised_and_steps_where_it_has_no_width():
    assert ramp(np.array([0, 2, 3, 4, 9]), 2, 4).tolist() == [0, 0, 0.5, 1, 1]
    assert ramp(np.array([1.9, 2, 2.1]), 2, 2).tolist() == [0, 1, 1]
