from __future__ import annotations

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten._core.call import call
from hasten._core.clock import Schedule, Scheduled, Tick
from hasten.schedules import (
    BaseSchedule,
    constant,
    cosine,
    cyclic,
    exponential,
    infinite,
    linear,
    over,
    parse,
    then,
    warmup,
    wsd,
)
from hasten.schedules.text import FACTORIES

HORIZON = 10_000
times = st.floats(0, HORIZON)


@given(data=st.data())
def test_values_are_bounded_and_an_array_gives_what_numbers_give(any_schedule, data):
    schedule = data.draw(any_schedule)
    t = np.array(data.draw(st.lists(times | st.sampled_from([0.0, float(HORIZON)]), min_size=1, max_size=12)))
    values = schedule(t, HORIZON)
    assert values.shape == t.shape
    assert values.dtype == np.float64
    assert ((values >= 0) & (values <= 1)).all()
    assert values.tolist() == [schedule(float(k), HORIZON) for k in t]  # to the bit: resumable from t alone
    assert np.array_equal(schedule(t.reshape(1, -1, 1), HORIZON), values.reshape(1, -1, 1))


@given(data=st.data())
def test_schedules_are_values(any_schedule, data):
    schedule, t = data.draw(any_schedule), data.draw(times)
    copy = pickle.loads(pickle.dumps(schedule))
    assert copy == schedule
    assert hash(copy) == hash(schedule)
    assert copy(t, HORIZON) == schedule(t, HORIZON)
    assert isinstance(schedule, Schedule)
    assert call(Scheduled, schedule=schedule).build() == Scheduled(schedule)  # as a program stores it


@given(data=st.data())
def test_an_anytime_schedule_ignores_the_length(any_schedule, data):
    schedule, t = data.draw(any_schedule), data.draw(times)
    if schedule.anytime:
        assert schedule(t) == schedule(t, HORIZON)
    else:
        with pytest.raises(ValueError, match="T, the length of the run"):
            schedule(t)


@given(data=st.data())
def test_the_decays_start_at_one_and_never_rise(monotone_schedule, data):
    schedule = data.draw(monotone_schedule)
    values = schedule(np.linspace(0, HORIZON, 501), HORIZON)
    assert values[0] == (schedule.value if schedule.name == "constant" else 1.0)
    assert (np.diff(values) <= 1e-15).all()  # linear() may round up by one bit


# One of each factory, with its jumps at whole numbers of a run of 200.
EXAMPLES = {
    "constant": "constant(0.5)", "linear": "linear", "cosine": "cosine(0.1)", "rex": "rex", "polynomial": "polynomial",
    "step": "step((0.25, 0.5))", "exponential": "exponential(0.99)", "one_cycle": "one_cycle", "wsd": "wsd",
    "inverse_sqrt": "inverse_sqrt(9)", "power": "power(20, warmup=10, decay=0.25)",
    "infinite": "infinite(0, warmup=10, anneal_at=50, anneal=20)", "cyclic": "cyclic(10)",
    "warmup": "warmup(cosine, 10, start=0.5)", "then": "then(linear, 40, cosine)",
    "rewarm": "rewarm(linear, 40, cosine, 0)", "over": "over(cyclic(10), 100)", "scale": "scale(step, 0.5)",
    "floor": "floor(step, 0.05)",
}  # fmt: skip


@pytest.mark.parametrize("name", FACTORIES)
def test_every_schedule_is_right_continuous(name):
    schedule, t = parse(EXAMPLES[name]), np.arange(200.0)
    assert schedule.name == name
    at, behind = schedule(t, 200), schedule(t + 1e-9, 200)
    np.testing.assert_allclose(behind, at, rtol=0, atol=1e-5)  # the square root in wsd moves that far


@pytest.mark.parametrize("name", ["step", "infinite", "cyclic", "then", "rewarm", "over", "scale", "floor"])
def test_these_do_jump(name):
    """So that the test above has something to find."""
    schedule, t = parse(EXAMPLES[name]), np.arange(1.0, 200.0)
    assert (np.abs(schedule(t, 200) - schedule(t - 1e-9, 200)) > 0.01).any()


def test_arguments_are_stored_as_floats_so_that_equal_schedules_are_equal_text():
    assert repr(warmup(linear(end=1), 8)) == repr(warmup(linear(end=1.0), 8.0))


def test_numbers_of_numpy_are_numbers():
    assert cosine()(np.int64(1), np.int64(2)) == cosine()(np.float32(1), 2.0) == 0.5
    assert type(cosine()(np.float64(1), 2)) is float
    assert cosine()(np.arange(0), 2).shape == (0,)


@pytest.mark.parametrize(
    ("t", "T", "message"),
    [
        (-1, 10, r"cosine: expected t >= 0, got -1\. Count updates from 0\."),
        (11, 10, r"cosine: expected t <= T = 10, got 11\. Stop there"),
        (np.array([3, 12]), 10, "got 12"),
        (float("nan"), 10, "a finite t, got nan"),
        (0, 0, "T > 0"),
        (0, -5, "T > 0"),
        (0, float("inf"), "a finite number for T"),
        (0, True, "a finite number for T"),
        (0, None, r"cosine: expected T, the length of the run, got None\. Call cosine"),
    ],
)
def test_a_time_that_makes_no_sense_is_refused(t, T, message):
    with pytest.raises(ValueError, match=message):
        cosine()(t, T)


def test_anytime_schedules_check_the_times_too():
    with pytest.raises(ValueError, match="t >= 0"):
        cyclic(8)(-1)
    with pytest.raises(ValueError, match="a finite t"):
        constant()(float("inf"))
    with pytest.raises(ValueError, match="t <= T"):
        exponential(0.9)(11, 10)


@pytest.mark.parametrize("t", ["3", None, [object()], True])
def test_a_time_that_is_no_number_is_refused(t):
    with pytest.raises(TypeError, match="cosine: expected t as a number"):
        cosine()(t, 10)


def test_a_rounding_beyond_an_end_is_forgiven():
    assert cosine()(10 * (1 + 1e-12), 10) == 0.0
    assert cosine()(-1e-12, 10) == 1.0


def test_a_schedule_of_ones_own_takes_part():
    class Half(BaseSchedule):
        name = "half"

        def values(self, t, T):
            return np.full_like(t, 0.5)

    assert Half()(3, 10) == 0.5
    assert warmup(Half(), 2)(1, 10) == 0.25
    with pytest.raises(ValueError, match="half: expected T"):
        Half()(3)


def test_units_of_the_clock():
    tick = Tick(step=30, start=0, end=90, steps_per_epoch=7)
    assert Scheduled(cosine(), "epoch").at(tick) == pytest.approx(Scheduled(cosine()).at(tick), abs=1e-15)
    assert Scheduled(cosine(), "progress").at(tick) == pytest.approx(Scheduled(cosine()).at(tick), abs=1e-15)


def test_on_the_clock_of_seconds_a_schedule_brings_its_own_length():
    tick = Tick(step=30, start=0, end=90, seconds=150.0)
    assert Scheduled(over(cosine(), "10min"), "seconds").at(tick) == cosine()(150, 600)
    assert Scheduled(warmup(over(cosine(), "10min"), 200), "seconds").at(tick) == 0.75
    assert Scheduled(over(linear(), 600), "step").at(tick) == 0.95
    for refused in (cosine(), warmup(cosine(), 5)):
        with pytest.raises(ValueError, match=r"needs no T for the unit 'seconds'.*over\(schedule, '10min'\)"):
            Scheduled(refused, "seconds")
    with pytest.raises(ValueError, match="the unit 'seconds' for a schedule over a time span, got 'step'"):
        Scheduled(warmup(then(cosine(), 9, over(cosine(), "10min")), 5))


def test_in_a_program_a_time_span_stays_one():
    bound = Scheduled(over(warmup(cosine(), 30), "10min"), "seconds")
    assert call(Scheduled, schedule=bound.schedule, unit="seconds").build() == bound


def test_bodies():
    assert cosine().body == cosine()
    assert warmup(cosine(), 8).body == cosine()
    assert cyclic(8).body == cyclic(8, warmup=0)
    assert then(warmup(wsd(), 5), 50, linear()).body == then(wsd(), 50, linear())
    late = infinite(20, warmup=10, anneal_at=30, anneal=5)
    assert late.body == infinite(20, anneal_at=20, anneal=5)
    t = np.arange(50)
    assert np.array_equal(late.body(t), late(t + 10))


def test_importing_the_room_loads_no_torch():
    code = "import sys, hasten.schedules; print('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "False", done.stderr
