"""FlashSGD and FlashSGDW against torch's SGD."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.optim.flash.cases import moves
from tests.optim.flash.test_adam import each_backend, parameters, run
from torch import nn

from hasten.optim.flash import FlashSGD, FlashSGDW

PARITY: list[dict[str, Any]] = [
    {}, {"weight_decay": 0.1}, {"momentum": 0.9}, {"momentum": 0.9, "dampening": 0.5},
    {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}, {"momentum": 0.5, "maximize": True, "weight_decay": 0.1},
    {"maximize": True}, {"lr": torch.tensor(0.01), "momentum": 0.9},
]  # fmt: skip


@each_backend
@pytest.mark.parametrize("options", PARITY, ids=str)
def test_torch_parity_without_quantization(options: dict[str, Any], backend: str) -> None:
    one, two = parameters(), parameters()
    options = {"lr": 0.01, **options}
    run(FlashSGD(one, quantize=False, backend=backend, **options), one, 100)
    run(torch.optim.SGD(two, **options), two, 100)
    for p, q in zip(one, two, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=2e-6)


def test_defaults_are_those_of_torch() -> None:
    one, two = FlashSGD(parameters()).defaults, torch.optim.SGD(parameters()).defaults
    for name in ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize"):
        assert one[name] == two[name]


@each_backend
def test_the_first_step_takes_the_whole_gradient(backend: str) -> None:
    p = nn.Parameter(torch.zeros(1))
    optimizer = FlashSGD([p], lr=1.0, momentum=0.9, dampening=0.5, backend=backend)
    p.grad = torch.ones(1)
    optimizer.step()
    assert p.item() == -1.0
    optimizer.step()
    assert p.item() == pytest.approx(-1.0 - (0.9 + 0.5))


@each_backend
def test_decoupled_weight_decay(backend: str) -> None:
    p = nn.Parameter(torch.full((3,), 2.0))
    optimizer = FlashSGDW([p], lr=0.1, momentum=0.9, weight_decay=0.5, quantize=False, backend=backend)
    x, m = 2.0, 0.0
    for _ in range(5):
        p.grad = torch.ones(3)
        optimizer.step()
        m = 0.9 * m + 1.0
        x = (1 - 0.1 * 0.5) * x - 0.1 * m
    assert p.tolist() == pytest.approx([x] * 3, rel=1e-6)
    assert optimizer.state[p]["momentum_buffer"].tolist() == pytest.approx([m] * 3)


@each_backend
@pytest.mark.parametrize("nesterov", [False, True])
def test_quantized_momentum_points_the_same_way(nesterov: bool, backend: str) -> None:
    for moved, wanted in moves(FlashSGD, torch.optim.SGD, backend, lr=0.1, momentum=0.9, nesterov=nesterov):
        assert float(nn.functional.cosine_similarity(moved, wanted, dim=0)) > 0.99
        assert float((moved - wanted).square().sum() / wanted.square().sum()) < 1e-2


def test_without_momentum_there_is_no_state_but_the_correction() -> None:
    p = nn.Parameter(torch.ones(64, dtype=torch.bfloat16))
    optimizer = FlashSGD([p], lr=0.1)
    p.grad = torch.ones_like(p)
    optimizer.step()
    tensors = {name for name, value in optimizer.state[p].items() if isinstance(value, torch.Tensor)}
    assert tensors == {"step", "correction"}


def test_bad_options_are_refused() -> None:
    p = [nn.Parameter(torch.ones(2))]
    for options, text in (
        ({"momentum": 1.0}, "momentum < 1"), ({"momentum": -0.1}, r"momentum in \[0, 1\]"),
        ({"nesterov": True}, "nesterov with momentum"), ({"lr": -1.0}, "lr >= 0"),
        ({"momentum": 0.9, "nesterov": True, "dampening": 0.1}, "nesterov with momentum and without dampening"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"FlashSGD: expected {text}"):
            FlashSGD(p, **options)
    with pytest.raises(ValueError, match=r"decouple_lr with decoupled weight decay, got .*Use FlashSGDW"):
        FlashSGD(p, decouple_lr=True)
    FlashSGDW(p, decouple_lr=True)
