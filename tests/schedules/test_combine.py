from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import LinearLR

from hasten.schedules import (
    constant,
    cosine,
    cyclic,
    exponential,
    floor,
    infinite,
    linear,
    over,
    rewarm,
    scale,
    step,
    then,
    warmup,
    wsd,
)


@pytest.mark.parametrize("start", [0.1, 1 / 3])
def test_a_linear_warmup_is_torchs(start):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = LinearLR(optimizer, start, 1.0, total_iters=20)
    expected = []
    for _ in range(40):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    np.testing.assert_allclose(warmup(constant(), 20, start=start)(np.arange(40), 40), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("kind", "half"), [("linear", 0.5), ("cosine", 0.5), ("sqrt", np.sqrt(0.5))])
def test_the_three_rises(kind, half):
    schedule = warmup(cosine(), 10, kind=kind)
    assert schedule(0, 110) == 0.0
    assert schedule(5, 110) == pytest.approx(half, abs=1e-15)
    assert schedule(10, 110) == 1.0
    assert (np.diff(schedule(np.arange(11), 110)) > 0).all()


@given(
    head=st.integers(0, 50),
    kind=st.sampled_from(["linear", "cosine", "sqrt"]),
    start=st.floats(0, 1),
    T=st.integers(51, 500),
)
def test_behind_the_warmup_is_the_schedule_itself_on_what_is_left(head, kind, start, T):
    inner = linear(start=0.75, end=0.25)
    schedule = warmup(inner, head, kind=kind, start=start)
    after = np.arange(head, T + 1)
    assert np.array_equal(schedule(after, T), inner(after - head, T - head))
    if head:
        assert schedule(0, T) == start * 0.75
        assert schedule(head - 1e-9, T) == pytest.approx(0.75, abs=1e-4 if kind == "sqrt" else 1e-8)


def test_a_warmup_of_nothing_changes_nothing():
    t = np.arange(11)
    assert np.array_equal(warmup(cosine(), 0)(t, 10), cosine()(t, 10))


def test_then_gives_each_part_its_own_clock():
    schedule = then(linear(), 40, cosine(0.5))
    assert schedule(np.array([0, 20, 39.9]), 100) == pytest.approx([1, 0.5, 0.0025])
    assert schedule(np.array([40, 70, 100]), 100) == pytest.approx([1, 0.75, 0.5])


def test_rewarming_by_hand():
    schedule = rewarm(cosine(0.2), 100, linear(), 10)
    t = np.array([0, 50, 100, 102.5, 105, 110, 160, 210])
    assert schedule(t, 210) == pytest.approx([1, 0.6, 0.2, 0.4, 0.6, 1, 0.5, 0], abs=1e-15)
    assert schedule(99.999, 210) == pytest.approx(0.2, abs=1e-6)
    lower = rewarm(cosine(), 100, scale(wsd(), 0.5), 10)
    assert lower(np.array([100, 105, 110, 150]), 210) == pytest.approx([0, 0.25, 0.5, 0.5], abs=1e-15)


def test_rewarming_from_a_plateau_needs_no_length_if_what_follows_needs_none():
    schedule = rewarm(infinite(10, constant=0.4), 100, infinite(10, constant=0.4), 20)
    assert schedule.anytime
    assert schedule(np.array([50, 100, 110, 120, 130, 1e9])) == pytest.approx([0.4, 0.4, 0.7, 1, 0.4, 0.4], abs=1e-15)
    assert not rewarm(constant(), 10, cosine(), 1).anytime


def test_several_switches_nest():
    schedule = rewarm(rewarm(linear(), 10, linear(), 2), 30, linear(), 4)
    t = np.array([0, 5, 10, 11, 12, 21, 30, 32, 34, 44, 54])
    assert schedule(t, 54) == pytest.approx([1, 0.5, 0, 0.5, 1, 0.5, 0, 0.5, 1, 0.5, 0], abs=1e-15)


@given(st.floats(1, 50), st.integers(200, 500))
def test_rewarming_in_no_time_is_then(at, T):
    t = np.linspace(0, T, 97)
    one, two = rewarm(cosine(0.1), at, linear(), 0), then(cosine(0.1), at, linear())
    assert np.array_equal(one(t, T), two(t, T))


def test_over_by_hand():
    schedule = over(warmup(cosine(0.1), 60), "10min")
    assert schedule.anytime
    t = np.array([0, 30, 60, 330, 600, 601, 1e9])
    assert schedule(t) == pytest.approx([0, 0.5, 1, 0.55, 0.1, 0.1, 0.1], abs=1e-15)
    assert over(linear(), 8)(np.array([2, 8, 9])).tolist() == [0.75, 0.0, 0.0]
    assert warmup(over(linear(), 8), 2)(np.array([1, 2, 6, 10, 99])).tolist() == [0.5, 1.0, 0.5, 0.0, 0.0]
    assert then(over(linear(), 8), 20, constant())(12) == 0.0


@given(st.floats(1, 1e6), st.floats(0, 2), st.floats(0.01, 3))
def test_over_is_the_schedule_itself_until_its_end_whatever_the_run(length, where, run):
    t, T = where * length, run * length
    expected = linear()(min(t, length), length)
    assert over(linear(), length)(t) == expected
    if t <= T:
        assert over(linear(), length)(t, T) == expected


def test_a_span_says_that_it_is_in_seconds_and_a_number_does_not():
    assert over(cosine(), "90s").in_seconds
    assert not over(cosine(), 90).in_seconds
    assert over(cosine(), 90) == over(cosine(), 90.0)


def test_without_a_length_where_the_parts_need_none():
    assert then(cosine(), 10, constant(0.5)).anytime
    assert then(cosine(), 10, constant(0.5))(1e6) == 0.5
    assert warmup(exponential(0.5), 2)(3) == 0.5
    assert scale(cyclic(8), 0.5)(8) == 0.5
    assert floor(exponential(0.5), 0.1)(99) == 0.1
    assert not then(constant(), 10, cosine()).anytime
    assert not warmup(cosine(), 2).anytime


def test_scale_and_floor():
    assert scale(linear(start=0.5, end=1.0), 224)(50, 100) == 168.0
    assert floor(linear(), 0.1)(np.array([0, 50, 95, 100]), 100).tolist() == [1.0, 0.5, 0.1, 0.1]
    assert floor(warmup(cosine(), 10), 0.2)(0, 100) == 0.2
    assert warmup(floor(cosine(), 0.2), 10)(0, 100) == 0.0


def test_bodies_lose_the_warmup_and_keep_the_rest():
    inner = warmup(cosine(), 10)
    assert scale(inner, 2).body == scale(cosine(), 2)
    assert floor(inner, 0.1).body == floor(cosine(), 0.1)
    assert warmup(warmup(cosine(), 3), 4).body == cosine()
    assert rewarm(inner, 50, inner, 5).body == rewarm(cosine(), 50, inner, 5)
    assert over(inner, "1h").body == over(cosine(), "1h")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: warmup(cosine(), 100)(0, 50), r"warmup: expected steps < T = 50, got 100\. Shorten the warm-up"),
        (lambda: warmup(cosine(), 50)(50, 50), "steps < T = 50"),
        (lambda: warmup(cosine(), -1), "warmup: expected steps >= 0, got -1"),
        (lambda: warmup(cosine(), float("inf")), "a finite number for steps"),
        (lambda: warmup(cosine(), 5, start=1.5), r"start in \[0, 1\]"),
        (
            lambda: warmup(cosine(), 5, kind="lin"),
            "kind among 'linear', 'cosine', 'sqrt', got 'lin'. Did you mean linear",
        ),
        (lambda: then(cosine(), 0, cosine()), "then: expected at > 0"),
        (lambda: then(cosine(), 50, cosine())(0, 50), r"then: expected at < T = 50, got 50"),
        (lambda: rewarm(cosine(), 0, cosine(), 5), "rewarm: expected at > 0"),
        (lambda: rewarm(cosine(), 10, cosine(), -1), "rewarm: expected steps >= 0"),
        (
            lambda: rewarm(cosine(), 40, cosine(), 10)(0, 50),
            r"rewarm: expected at \+ steps < T = 50, got 40 \+ 10\. Switch earlier",
        ),
        (lambda: over(cosine(), 0), r"over: expected length > 0, got 0\."),
        (lambda: over(cosine(), True), "over: expected a finite number for length"),
        (lambda: over(cosine(), "10ep"), "over: expected a length such as '90s', '10min' or '2h', got '10ep'"),
        (lambda: over(cosine(), "0s"), "over: expected a length such as"),
        (lambda: scale(cosine(), -1), "scale: expected factor >= 0"),
        (lambda: floor(cosine(), -0.1), "floor: expected minimum >= 0"),
    ],
)
def test_bad_arguments_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("wrong", [cosine, 0.5, None, "cosine()", torch.cos])
def test_what_is_not_a_schedule_is_refused(wrong):
    for build in (lambda: warmup(wrong, 5), lambda: scale(wrong, 1), lambda: floor(wrong, 0)):
        with pytest.raises(TypeError, match=r"expected a schedule for schedule.*cosine\(\)"):
            build()
    for build in (lambda: then(step(), 5, wrong), lambda: rewarm(step(), 5, wrong, 1)):
        with pytest.raises(TypeError, match="a schedule for second"):
            build()
    with pytest.raises(TypeError, match="over: expected a schedule for schedule"):
        over(wrong, 5)
