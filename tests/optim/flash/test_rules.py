"""The update rules: their numbers by hand, and each against float64."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from tests.optim.flash import reference
from tests.optim.flash.cases import randn

from hasten.optim.flash.rules import MOMENTS, Numbers, numbers, update


def group(**options: Any) -> dict[str, Any]:
    """Options as an optimizer makes them ready."""
    return {
        "lr": 0.1, "decay": 0.0, "coupled": 0.0, "maximize": False, "betas": (0.9, 0.99), "eps": 1e-8, "momentum": 0.9,
        "dampening": 0.0, "nesterov": False, **options,
    }  # fmt: skip


def test_numbers_of_adam() -> None:
    first = numbers("adam", group(), 1)
    # lr m / (1 - b1) / (sqrt(v) / sqrt(1 - b2) + eps) = m / (sqrt(v) root_factor + epsilon_factor)
    assert first.root_factor == pytest.approx((1 - 0.9) / 0.1 / math.sqrt(1 - 0.99))
    assert first.epsilon_factor == pytest.approx(1e-8 * (1 - 0.9) / 0.1)
    assert (first.beta1, first.beta2, first.keep, first.sign, first.coupled) == (0.9, 0.99, 1.0, 1.0, None)
    assert (first.rest1, first.rest2) == (1 - 0.9, 1 - 0.99)
    late = numbers("adam", group(), 100_000)
    assert (late.root_factor, late.epsilon_factor) == pytest.approx((10.0, 1e-7))


@pytest.mark.parametrize("lr", [0.0, 1e-320])
def test_no_learning_rate_is_no_step(lr: float) -> None:
    found = numbers("adam", group(lr=lr), 1)
    assert (found.root_factor, found.epsilon_factor) == (0.0, math.inf)
    x, states = update("adam", found, torch.ones(3), torch.tensor([0.0, 1.0, -1.0]), [torch.zeros(3), torch.zeros(3)])
    assert x.tolist() == [1.0, 1.0, 1.0]
    assert states[0].tolist() == pytest.approx([0.0, 0.1, -0.1])


def test_numbers_of_the_others() -> None:
    assert numbers("momentum", group(dampening=0.5), 1).rest1 == 1.0
    assert numbers("momentum", group(dampening=0.5), 2).rest1 == 0.5
    lion = numbers("lion", group(decay=0.01, maximize=True), 5)
    assert (lion.step, lion.keep, lion.sign, lion.beta1, lion.beta2) == (0.1, 0.99, -1.0, 0.9, 0.99)
    plain = numbers("plain", group(coupled=0.3), 5)
    assert plain == Numbers(0.1, coupled=0.3)


@pytest.mark.parametrize("rule", MOMENTS)
@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("decoupled", [False, True])
def test_against_float64(rule: str, maximize: bool, decoupled: bool) -> None:
    x, g, m, v = (randn(200, seed=seed).double() for seed in range(4))
    v = v.square()
    for t, nesterov, dampening in itertools.product((1, 2, 50), (False, True), (0.0, 0.5)):
        own = {"momentum": 0.9, "nesterov": nesterov, "dampening": dampening, "maximize": maximize}
        decay = 0.2
        o = group(**own, decay=0.1 * decay if decoupled else 0.0, coupled=0.0 if decoupled else decay)
        states = {"adam": [m, v], "momentum": [m], "lion": [m], "plain": []}[rule]
        found, new = update(rule, numbers(rule, o, t), x, g, list(states))
        wanted, m_new, root = reference.step(
            rule, t, x.numpy(), g.numpy(), m.numpy(), v.sqrt().numpy(),
            {**own, "lr": 0.1, "weight_decay": decay, "decoupled": decoupled, "betas": (0.9, 0.99), "eps": 1e-8},
        )  # fmt: skip
        np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12, atol=1e-12)
        for value, exact in zip(new, (m_new, root), strict=False):
            np.testing.assert_allclose(value.numpy(), exact, rtol=1e-12, atol=1e-12)
        assert len(new) == len(MOMENTS[rule])


def test_names_are_those_of_torch() -> None:
    for cls, rule, options in (
        (torch.optim.AdamW, "adam", {}), (torch.optim.SGD, "momentum", {"momentum": 0.9}),
        (torch.optim.SGD, "plain", {}),
    ):  # fmt: skip
        p = torch.nn.Parameter(torch.ones(2))
        p.grad = torch.ones(2)
        optimizer = cls([p], lr=0.1, **options)
        optimizer.step()
        held = {name for name, value in optimizer.state[p].items() if name != "step" and value is not None}
        assert held == set(MOMENTS[rule])
    assert [name for moments in MOMENTS.values() for name, variance in moments.items() if variance] == ["exp_avg_sq"]


def test_lion_says_that_nan_is_no_direction() -> None:
    n = numbers("lion", group(), 1)
    m = torch.tensor([0.0, math.nan, math.inf, 0.0])
    g = torch.tensor([math.nan, 1.0, -math.inf, 0.0])
    x, states = update("lion", n, torch.zeros(4), g, [m])
    assert x.isnan().tolist() == [True, True, True, False]
    assert x[3] == 0
    assert states[0].isnan().tolist() == [True, True, True, False]
