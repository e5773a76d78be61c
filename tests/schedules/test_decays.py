from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler as lrs

from hasten.schedules import constant, cosine, exponential, linear, polynomial, rex, step

T = 90


def torch_says(make, updates: int = T, lr: float = 1.0) -> list[float]:
    """The learning rate of updates 0..T-1, and once more, under one of torch's schedulers."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler = make(optimizer)
    rates = []
    for _ in range(updates + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        (cosine(), lambda o: lrs.CosineAnnealingLR(o, T)),
        (cosine(0.1), lambda o: lrs.CosineAnnealingLR(o, T, eta_min=0.1)),
        (linear(), lambda o: lrs.LinearLR(o, 1.0, 0.0, T)),
        (linear(start=0.2, end=0.7), lambda o: lrs.LinearLR(o, 0.2, 0.7, T)),
        (polynomial(1), lambda o: lrs.PolynomialLR(o, T, 1.0)),
        (polynomial(), lambda o: lrs.PolynomialLR(o, T, 2.0)),
        (polynomial(0.9), lambda o: lrs.PolynomialLR(o, T, 0.9)),
        (exponential(0.97), lambda o: lrs.ExponentialLR(o, 0.97)),
        (step(), lambda o: lrs.MultiStepLR(o, [27, 54, 81], 0.1)),
        (step((1 / 3, 0.7), gamma=0.5), lambda o: lrs.MultiStepLR(o, [30, 63], 0.5)),
        (constant(), lambda o: lrs.ConstantLR(o, 1.0, T)),
    ],
    ids=lambda value: "torch" if callable(value) and not hasattr(value, "anytime") else repr(value),
)
def test_torch_agrees_at_every_update(schedule, make):
    ours = schedule(np.arange(T + 1), T)
    np.testing.assert_allclose(ours, torch_says(make), rtol=0, atol=1e-12)


def test_goldens():
    assert linear()(np.array([0, 50, 100]), 100).tolist() == [1.0, 0.5, 0.0]
    assert linear(start=0.3, end=0.15)(np.array([0, 100]), 100).tolist() == [0.3, 0.15]
    assert cosine(0.1)(100, 100) == 0.1
    assert cosine()(25, 100) == pytest.approx((2 + math.sqrt(2)) / 4, abs=1e-15)
    assert polynomial(3, floor=0.5)(50, 100) == 0.5625
    assert exponential(0.5)(3) == 0.125
    assert constant(0.25)(7) == 0.25


def test_rex_by_hand():
    # (1 - z) / (1/2 + (1 - z)/2): 0.75 / 0.875, 0.5 / 0.75, 0.25 / 0.625
    assert rex()(np.array([0, 25, 50, 75, 100]), 100) == pytest.approx([1, 6 / 7, 2 / 3, 0.4, 0], abs=1e-15)
    assert rex(0.25)(50, 100) == 0.8
    assert rex(2)(50, 100) == pytest.approx(1 / 3, abs=1e-15)
    assert rex(floor=0.1)(np.array([0, 50, 100]), 100) == pytest.approx([1, 0.7, 0.1], abs=1e-15)
    assert rex()(100, 100) == 0.0


def test_rex_with_d_1_is_linear_and_less_stays_above():
    t = np.arange(T + 1)
    np.testing.assert_allclose(rex(1)(t, T), linear()(t, T), rtol=0, atol=1e-15)
    inside = t[1:-1]
    assert (rex(0.1)(inside, T) > rex()(inside, T)).all()
    assert (rex()(inside, T) > linear()(inside, T)).all()
    assert (rex(3)(inside, T) < linear()(inside, T)).all()


@pytest.mark.parametrize("f", [0.0, 0.1, 0.5, 1.0])
def test_the_exponential_with_a_floor_is_the_closed_form_and_ends_on_the_floor(f):
    e, z = math.e, np.linspace(0, 1, 11)
    expected = (1 - f) * e / (e - 1) * np.exp(-z) + (f * e - 1) / (e - 1)
    schedule = exponential(floor=f)
    np.testing.assert_allclose(schedule(z * 700, 700), expected, rtol=0, atol=1e-15)
    assert schedule(700, 700) == f
    assert schedule(0, 700) == 1.0


def test_a_milestone_is_passed_at_its_update_for_every_length():
    for length in (10, 55, 100, 1000, 12345):
        for k in (1, length // 3, length - 1):
            values = step((k / length,), gamma=0.5)(np.array([k - 1, k]), length)
            assert values.tolist() == [1.0, 0.5]
    assert step((0.3,))(30 * 0.1, 10 * 1.0) == step((0.3,))(0.1 + 0.2 + 2.7, 10.0) == 0.1


def test_only_the_rate_form_works_without_a_length():
    assert exponential(0.9).anytime
    assert not exponential(floor=0.1).anytime


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: step((-0.1, 0.5)), r"step: expected milestones rising strictly between 0 and 1, got \(-0\.1, 0\.5\)"),
        (lambda: step((30, 60)), r"got \(30, 60\)\. Give fractions of the run, not steps: .* is k / T"),
        (lambda: step((0.3, "0.6")), "a finite number for milestones"),
        (lambda: step((0.6, 0.3)), "rising strictly between 0 and 1.*k / T"),
        (lambda: step((0.5, 0.5)), "rising strictly"),
        (lambda: step((0.0, 0.5)), "rising strictly"),
        (lambda: step((0.5, 1.0)), "rising strictly"),
        (lambda: step(gamma=1.5), r"gamma in \[0, 1\]"),
        (lambda: cosine(1.5), r"cosine: expected floor in \[0, 1\], got 1\.5"),
        (lambda: cosine(-0.1), r"floor in \[0, 1\]"),
        (lambda: cosine("0.1"), "a finite number for floor"),
        (lambda: cosine(True), "a finite number for floor"),
        (lambda: linear(end=2), r"linear: expected end in \[0, 1\]"),
        (lambda: linear(start=-1), r"start in \[0, 1\]"),
        (lambda: constant(float("nan")), "a finite number for value"),
        (lambda: polynomial(0), "polynomial: expected power > 0"),
        (lambda: rex(0), r"rex: expected d > 0, got 0\. Pass d= a positive number"),
        (lambda: rex(-0.5), "rex: expected d > 0"),
        (lambda: rex(floor=1.5), r"rex: expected floor in \[0, 1\]"),
        (lambda: exponential(0.0), "exponential: expected gamma > 0"),
        (lambda: exponential(1.1), r"gamma in \[0, 1\]"),
        (lambda: exponential(0.9, floor=0.1), r"gamma or floor, got gamma=0\.9 and floor=0\.1\. Use floor\("),
    ],
)
def test_bad_arguments_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("milestones", [(), 0.5, "0.5", None])
def test_milestones_are_a_tuple(milestones):
    with pytest.raises(TypeError, match="step: expected a tuple of milestones"):
        step(milestones)
