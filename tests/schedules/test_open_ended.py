from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.schedules import infinite, inverse_sqrt, power, warmup


def test_the_inverse_square_root_by_hand():
    assert [inverse_sqrt(100)(t) for t in (0, 300, 800, 9900)] == pytest.approx([1, 1 / 2, 1 / 3, 0.1], abs=1e-15)


def test_behind_its_warmup_it_is_the_transformers_schedule():
    W, d = 4000, 512
    k = np.arange(1, 100_000, 7)
    published = d**-0.5 * np.minimum(k**-0.5, k * W**-1.5)
    peak = d**-0.5 * W**-0.5
    np.testing.assert_allclose(peak * warmup(inverse_sqrt(W), W)(k), published, rtol=1e-12)


def test_the_power_law_by_hand():
    law = power(100, -0.5)
    assert [law(t) for t in (0, 1, 100, 400, 10_000)] == [1.0, 1.0, 1.0, 0.5, 0.1]
    assert power(100, -1)(300) == pytest.approx(1 / 3, abs=1e-15)


def test_the_power_law_is_the_published_rate_over_its_peak():
    a, b, eta_max, beta = 4.6, -0.51, 0.02, 128
    onset = (eta_max / (beta * a)) ** (1 / b)
    assert onset == pytest.approx(5.789e8, rel=1e-3)
    n = np.logspace(6, 13, 200)
    published = np.minimum(eta_max, beta * a * n**b)
    np.testing.assert_allclose(eta_max * power(onset, b)(n), published, rtol=1e-12)
    assert eta_max * power(onset, b)(1e10) == pytest.approx(588.8 * 10**-5.1, rel=1e-12)


@given(st.floats(1, 1e6), st.integers(1, 10**6), st.integers(0, 10**6))
def test_in_updates_the_onset_is_counted_in_updates(onset, tokens, update):
    assert power(onset / tokens)(update) == pytest.approx(power(onset)(update * tokens), rel=1e-9)


def test_the_warmup_of_the_power_law_rises_to_the_law_itself():
    early, late = power(100, -0.5, warmup=50), power(100, -0.5, warmup=400)
    assert [early(t) for t in (0, 25, 50, 100, 400)] == [0.0, 0.5, 1.0, 1.0, 0.5]
    assert [late(t) for t in (0, 200, 400, 900)] == pytest.approx([0.0, 0.25, 0.5, 1 / 3], abs=1e-15)
    assert late.body == power(100, -0.5)


def test_the_last_decay_of_the_power_law_by_hand():
    s = power(100, -0.5, decay=0.5, floor=0.1)
    assert s(399.999, 800) == pytest.approx(s(400, 800), abs=1e-5)
    assert s(400, 800) == 0.5
    # (e^-1/2 - e^-1) / (1 - e^-1) = 0.3775407 of the way from the floor
    assert s(600, 800) == pytest.approx(0.1 + 0.4 * 0.3775406687981454, abs=1e-15)
    assert s(800, 800) == 0.1
    assert power(100, decay=0.2)(777, 777) == 0.0
    assert (np.diff(s(np.arange(801), 800)) <= 0).all()


def test_only_a_last_decay_needs_the_length():
    assert power(100).anytime
    assert not power(100, decay=0.1).anytime
    assert inverse_sqrt(1).anytime
    assert infinite(1).anytime


def test_the_phases_of_the_infinite_schedule_by_hand():
    s = infinite(40, warmup=10, constant=0.4, anneal_at=100, anneal=20, minimum=0.1)
    t = np.array([0, 5, 10, 20, 30, 40, 50, 99, 100, 105, 110, 120, 1000])
    cosine = [0.4 + 0.3 * (1 + math.cos(math.pi * u)) for u in (0.25, 0.5, 0.75)]
    expected = [0, 0.5, 1, *cosine, 0.4, 0.4, 0.4, 0.4 * 0.25**0.25, 0.2, 0.1, 0.1]
    assert s(t) == pytest.approx(expected, abs=1e-15)
    assert (s(50), s(120)) == (0.4, 0.1)


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0.1, 1), st.floats(0, 1000), st.floats(1, 100))
def test_until_it_is_told_to_anneal_nothing_depends_on_when(cooldown, start, constant, later, length):
    trunk = infinite(cooldown, warmup=start, constant=constant)
    at = start + cooldown + later
    end = infinite(cooldown, warmup=start, constant=constant, anneal_at=at, anneal=length)
    t = np.linspace(0, at, 50)[:-1]
    assert np.array_equal(trunk(t), end(t))
    assert end(at) == trunk(at) == pytest.approx(constant, abs=1e-12)
    assert end(at + 2 * length) == 0.05


def test_an_infinite_schedule_without_a_cooldown_goes_straight_to_the_plateau():
    s = infinite(0, warmup=10)
    assert s(np.array([5, 9.99, 10, 11])) == pytest.approx([0.5, 0.999, 0.5, 0.5])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: inverse_sqrt(0), r"inverse_sqrt: expected timescale > 0, got 0\."),
        (lambda: inverse_sqrt(float("inf")), "a finite number for timescale"),
        (lambda: power(0), "power: expected onset > 0"),
        (lambda: power(10, 0), r"power: expected exponent < 0, got 0\.0\. Pass -0\.51, or constant\(\)"),
        (lambda: power(10, 0.51), "exponent < 0"),
        (lambda: power(10, warmup=-1), "power: expected warmup >= 0"),
        (lambda: power(10, decay=1.1), r"decay in \[0, 1\]"),
        (
            lambda: power(10, floor=0.1),
            r"a floor only where there is a decay, got floor=0\.1 and decay=0\. Pass decay=",
        ),
        (lambda: power(10, decay=0.1)(5), r"power: expected T, the length of the run, got None"),
        (
            lambda: power(10, warmup=95, decay=0.1)(5, 100),
            r"warmup <= 90, where the decay starts, got 95\. Shorten the warm-up",
        ),
        (
            lambda: power(1, -0.5, decay=0.75, floor=0.3)(5, 100),
            r"floor <= 0\.2, the value where the decay starts, got 0\.3\. Lower the floor",
        ),
        (lambda: infinite(-1), "infinite: expected cooldown >= 0"),
        (lambda: infinite(1, warmup=-1), "infinite: expected warmup >= 0"),
        (lambda: infinite(1, constant=0), r"infinite: expected constant > 0"),
        (lambda: infinite(1, constant=1.5), r"constant in \[0, 1\]"),
        (lambda: infinite(1, minimum=0), r"minimum in \(0, constant = 0\.5\], got 0\.0\..*never reaches 0"),
        (lambda: infinite(1, minimum=0.6), r"minimum in \(0, constant = 0\.5\], got 0\.6"),
        (lambda: infinite(1, anneal=5), "anneal_at and anneal together, or neither, got anneal_at=None and anneal=5"),
        (lambda: infinite(1, anneal_at=5), "got anneal_at=5 and anneal=None. Say when, and for how long"),
        (lambda: infinite(1, anneal_at=5, anneal=0), "infinite: expected anneal > 0"),
        (
            lambda: infinite(40, warmup=10, anneal_at=49, anneal=5),
            "anneal_at >= 50, where the plateau starts, got 49. Count from the start of the run",
        ),
    ],
)
def test_bad_arguments_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
