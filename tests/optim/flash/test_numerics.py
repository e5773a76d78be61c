"""Learning rates that are lost in the last place: thresholds by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from hasten.optim.flash import FlashAdamW, FlashLion, FlashSGD, NumericsError
from hasten.optim.flash.numerics import smallest_step

# Half of the last place of a weight in [1, 2): digits after the leading one, and one more.
HALF_PLACES = [
    (torch.bfloat16, None, 2.0**-8), (torch.bfloat16, 24, 2.0**-16), (torch.bfloat16, 32, 2.0**-24),
    (torch.float16, None, 2.0**-11), (torch.float16, 24, 2.0**-19), (torch.float16, 32, 2.0**-24),
    (torch.float32, None, 2.0**-24), (torch.float64, None, 2.0**-53),
]  # fmt: skip


def weights(dtype: torch.dtype, largest: float) -> nn.Parameter:
    p = nn.Parameter(torch.tensor([0.01, -largest, 0.5]).to(dtype))
    p.grad = torch.ones_like(p)
    return p


@pytest.mark.parametrize(("dtype", "bits", "step"), HALF_PLACES)
@pytest.mark.parametrize(
    ("cls", "options", "typical"),
    [(FlashAdamW, {}, 0.1), (FlashSGD, {}, 1.0), (FlashSGD, {"momentum": 0.9}, 1.0), (FlashLion, {}, 1.0)],
)
def test_thresholds(
    cls: Any, options: dict[str, Any], typical: float, dtype: Any, bits: int | None, step: float
) -> None:
    for largest, factor in ((1.0, 1.0), (1.5, 1.0), (8.0, 8.0), (0.75, 0.5)):
        for lr, enough in ((step / typical * factor * 1.01, True), (step / typical * factor * 0.99, False)):
            p = weights(dtype, largest)
            optimizer = cls([p], lr=lr, check_numerics=True, master_weight_bits=bits, **options)
            if enough:
                optimizer.step()
                optimizer.step()
                continue
            before = p.detach().clone()
            with pytest.raises(
                NumericsError, match=rf"{cls.__name__}: expected a learning rate of at least .*parameter 0"
            ):
                optimizer.step()
            assert torch.equal(p.detach(), before)
            assert int(optimizer.state[p]["step"]) == 0


def test_smallest_step() -> None:
    assert smallest_step(1.0, torch.bfloat16) == 2.0**-8
    assert smallest_step(1.99, torch.bfloat16, 8) == 2.0**-16
    assert smallest_step(2.0, torch.bfloat16, 8) == 2.0**-15
    assert smallest_step(0.3, torch.float32) == 2.0**-26


@pytest.mark.parametrize("largest", [0.0, float("inf"), float("nan")])
def test_what_cannot_be_judged_passes(largest: float) -> None:
    p = nn.Parameter(torch.full((3,), largest).bfloat16())
    empty = nn.Parameter(torch.zeros(0).bfloat16())
    optimizer = FlashAdamW([p, empty], lr=1e-30, check_numerics=True)
    p.grad, empty.grad = torch.ones_like(p), torch.ones_like(empty)
    optimizer.step()
    q = weights(torch.bfloat16, 1.0)
    FlashAdamW([q], lr=0.0, check_numerics=True).step()
    FlashAdamW([q], lr=1e-30).step()


def test_the_largest_weight_is_remembered_until_it_is_forgotten() -> None:
    p = weights(torch.bfloat16, 1.0)
    optimizer = FlashAdamW([p], lr=1e-3, check_numerics=True, weight_decay=0.0)
    optimizer.step()
    with torch.no_grad():
        p.fill_(1024.0)  # a last place of 2^-6, with a tenth of the learning rate as a step
    optimizer.step()
    optimizer.recompute_param_stats()
    with pytest.raises(NumericsError, match=r"at least .* parameter 0 \(largest weight 1\.0.e\+03"):
        optimizer.step()


def test_each_group_goes_by_its_own_learning_rate() -> None:
    p, q = weights(torch.bfloat16, 1.0), weights(torch.bfloat16, 1.0)
    optimizer = FlashAdamW([{"params": [p]}, {"params": [q], "lr": torch.tensor(1e-6)}], lr=1e-3, check_numerics=True)
    with pytest.raises(NumericsError, match="parameter 1"):
        optimizer.step()
    assert issubclass(NumericsError, RuntimeError)
