from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

from hasten._core.clock import Scheduled, Tick
from hasten.schedules import cosine, cycle_ends, cyclic, floor, warmup

POWERS = (16, 32, 64, 128, 256, 512)


def run_of_cycles(scheduled: Scheduled, ends: tuple[int, ...]) -> list[float]:
    """What a training loop uses at every update when it runs a curve as cycles."""
    values = []
    for start, end in zip((0, *ends), ends, strict=False):
        values += [scheduled.at(Tick(step=k, start=start, end=end)) for k in range(start, end)]
    return values


def test_goldens():
    schedule = cyclic(8, warmup=8)
    assert [schedule(t) for t in (0, 4, 8, 16, 32, 512)] == [0.0, 0.5, 1.0, 1.0, 1.0, 1.0]
    assert schedule(12) == pytest.approx(0.5, abs=1e-15)
    assert schedule(np.nextafter(16, 0)) == pytest.approx(0.0, abs=1e-15)
    assert schedule.ends(6) == POWERS
    assert cyclic(8) == schedule  # the default: a warm-up as long as the first cycle


@pytest.mark.parametrize(("first", "mult"), [(8, 2), (5, 3), (7, 1), (1, 2), (1, 1)])
@pytest.mark.parametrize("bottom", [0.0, 0.1])
def test_without_a_warmup_it_is_torchs_warm_restarts(first, mult, bottom):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = CosineAnnealingWarmRestarts(optimizer, first, mult, eta_min=bottom)
    expected = []
    for _ in range(300):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    ours = cyclic(first, mult=mult, warmup=0, floor=bottom)(np.arange(300))
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)


@given(first=st.floats(0.5, 100), mult=st.floats(1, 4), head=st.floats(0, 100), f=st.floats(0, 1), i=st.integers(1, 12))
def test_every_end_starts_the_next_cycle_at_the_peak(first, mult, head, f, i):
    schedule = cyclic(first, mult=mult, warmup=head, floor=f)
    growth = i if mult == 1 else sum(mult**j for j in range(i))  # the sum, against the closed form
    end = head + first * growth
    length = first * mult ** (i - 1)
    assert schedule(end + 1e-6 * length) == pytest.approx(1.0, abs=1e-6)
    assert schedule(end - 1e-6 * length) == pytest.approx(f, abs=1e-6)
    assert schedule(end - length / 2) == pytest.approx((1 + f) / 2, abs=1e-6)


@given(first=st.integers(1, 50), mult=st.sampled_from([1, 1.5, 2, 3]), head=st.integers(0, 60), i=st.integers(0, 10))
def test_an_exact_end_belongs_to_the_cycle_it_starts(first, mult, head, i):
    growth = i if mult == 1 else (mult**i - 1) / (mult - 1)
    assert cyclic(first, mult=mult, warmup=head)(head + first * growth) == 1.0


def test_the_loop_with_cycles_equals_the_closed_form():
    ends = cycle_ends(512, points=6, warmup=8)
    assert ends == POWERS
    loop = run_of_cycles(Scheduled(warmup(cosine(), 8)), ends)
    np.testing.assert_allclose(loop, cyclic(8, warmup=8)(np.arange(512)), rtol=0, atol=1e-12)


@given(
    first=st.integers(1, 12),
    mult=st.sampled_from([1, 2, 3]),
    head=st.integers(0, 20),
    points=st.integers(1, 5),
    bottom=st.floats(0, 1),
)
def test_the_loop_with_cycles_equals_the_closed_form_wherever_ends_are_whole(first, mult, head, points, bottom):
    closed = cyclic(first, mult=mult, warmup=head, floor=bottom)
    ends = closed.ends(points)
    assert cycle_ends(ends[-1], points=points, mult=mult, warmup=head) == ends
    loop = run_of_cycles(Scheduled(warmup(cosine(bottom), head)), ends)
    np.testing.assert_allclose(loop, closed(np.arange(ends[-1])), rtol=0, atol=1e-12)


def test_the_warmup_happens_once():
    values = run_of_cycles(Scheduled(floor(warmup(cosine(), 4), 0.25)), (12, 24))
    assert values[:4] == [0.25, 0.25, 0.5, 0.75]
    assert values[4] == values[12] == 1.0


@given(total=st.integers(1, 5000), points=st.integers(1, 8), mult=st.floats(1, 4), head=st.integers(0, 400))
def test_the_ends_rise_to_the_total_and_round_the_closed_form_once(total, points, mult, head):
    try:
        ends = cycle_ends(total, points=points, mult=mult, warmup=head)
    except ValueError:
        lengths = sum(mult**j for j in range(points))
        assert total < math.ceil(head + lengths)  # one whole update in the first cycle is always enough
        return
    assert len(ends) == points
    assert ends[-1] == total
    assert all(a < b for a, b in zip((head, *ends), ends, strict=False))
    first = (total - head) / sum(mult**j for j in range(points))
    exact = [head + first * sum(mult**j for j in range(i)) for i in range(1, points + 1)]
    assert max(abs(end - value) for end, value in zip(ends, exact, strict=True)) <= 0.5 + 1e-6


@given(points=st.integers(1, 6), first=st.integers(1, 30), head=st.integers(0, 30))
def test_a_shorter_curve_is_a_prefix(points, first, head):
    ends = cyclic(first, warmup=head).ends(points + 1)
    assume(points > 0)
    assert cycle_ends(ends[-2], points=points, warmup=head) == ends[:-1]


def test_equal_cycles():
    assert cycle_ends(100, points=4, mult=1) == (25, 50, 75, 100)
    assert cycle_ends(10, points=4, mult=1) == (3, 5, 8, 10)
    assert cycle_ends(7, points=1) == (7,)
    assert cycle_ends(15) == (1, 3, 7, 15)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: cycle_ends(512, mult=0.5), "cycle_ends: expected mult >= 1, got 0.5"),
        (lambda: cycle_ends(512, mult=float("nan")), "a finite number for mult"),
        (lambda: cycle_ends(512, points=0), "cycle_ends: expected points >= 1, got 0"),
        (lambda: cycle_ends(512, warmup=-1), "warmup >= 0"),
        (lambda: cycle_ends(5), "a whole update, got 5 for 4 points with mult=2 after a warm-up of 0. Train longer"),
        (lambda: cycle_ends(20, warmup=20, points=1), "a whole update"),
        (lambda: cycle_ends(0, points=1), "a whole update"),
        (lambda: cycle_ends(10**6, points=5000, mult=10.0), "a whole update"),
        (lambda: cyclic(0), "cyclic: expected first > 0"),
        (lambda: cyclic(8, mult=0.9), "cyclic: expected mult >= 1"),
        (lambda: cyclic(8, warmup=-1), "warmup >= 0"),
        (lambda: cyclic(8, floor=2), "floor in [0, 1]"),
        (lambda: cyclic(8).ends(0), "points >= 1"),
        (lambda: cyclic(8).ends(5000), "fewer points"),
    ],
)
def test_bad_arguments_are_refused(build, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build()


@pytest.mark.parametrize("value", [8.0, True, "8", None])
def test_whole_numbers_are_whole(value):
    with pytest.raises(TypeError, match="a whole number for total_steps"):
        cycle_ends(value)
    with pytest.raises(TypeError, match="a whole number for points"):
        cyclic(8).ends(value)
