from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import LinearLR

from hasten.schedules import constant, cosine, cyclic, exponential, floor, linear, scale, step, then, warmup


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
    with pytest.raises(TypeError, match="a schedule for second"):
        then(step(), 5, wrong)
