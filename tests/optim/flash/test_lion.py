"""FlashLion against Lion of this library."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.optim.flash.cases import moves
from tests.optim.flash.test_adam import each_backend, parameters, run
from torch import nn

from hasten.optim import Lion
from hasten.optim.flash import FlashLion

PARITY: list[dict[str, Any]] = [
    {},
    {"weight_decay": 0.1},
    {"betas": (0.5, 0.9)},
    {"maximize": True, "weight_decay": 0.1},
]


@each_backend
@pytest.mark.parametrize("options", PARITY, ids=str)
def test_parity_without_quantization(options: dict[str, Any], backend: str) -> None:
    one, two = parameters(), parameters()
    run(FlashLion(one, lr=1e-3, quantize=False, backend=backend, **options), one, 100)
    run(Lion(two, lr=1e-3, **options), two, 100)
    for p, q in zip(one, two, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-6)


def test_defaults_are_those_of_lion() -> None:
    one, two = FlashLion(parameters()).defaults, Lion(parameters()).defaults
    assert {name: one[name] for name in two} == two


@each_backend
def test_by_hand(backend: str) -> None:
    p = nn.Parameter(torch.tensor([1.0, 1.0, 1.0, 1.0]))
    optimizer = FlashLion([p], lr=0.25, weight_decay=0.4, backend=backend)
    p.grad = torch.tensor([100.0, -1e-6, 0.0, torch.nan])
    optimizer.step()
    assert p[:3].tolist() == pytest.approx([0.65, 1.15, 0.9])
    assert p[3].isnan()


@each_backend
def test_infinities_that_cancel_are_no_direction_of_zero(backend: str) -> None:
    p = nn.Parameter(torch.zeros(2))
    optimizer = FlashLion([p], lr=1.0, quantize=False, backend=backend)
    optimizer._state_of(p)["exp_avg"].copy_(torch.tensor([torch.inf, 1.0]))
    p.grad = torch.tensor([-torch.inf, 1.0])
    optimizer.step()
    assert p[0].isnan()
    assert p[1] == -1.0


@each_backend
def test_quantized_signs_are_the_same_nearly_everywhere(backend: str) -> None:
    for moved, wanted in moves(FlashLion, Lion, backend, lr=0.01):
        assert float(nn.functional.cosine_similarity(moved, wanted, dim=0)) > 0.97
        assert float((moved.sign() != wanted.sign()).float().mean()) < 0.015


def test_bad_options_are_refused() -> None:
    p = [nn.Parameter(torch.ones(2))]
    with pytest.raises(ValueError, match=r"FlashLion: expected betas in \[0, 1\)"):
        FlashLion(p, betas=(0.9, 1.0))
    with pytest.raises(ValueError, match=r"FlashLion: expected weight_decay >= 0"):
        FlashLion(p, weight_decay=-1.0)
