"""Bytes of optimizers on a model that is never allocated."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hasten.bench.optimizer_memory import DEFAULT, OPTIMIZERS, model_of, optimizer_footprint
from hasten.optim import FlashAdamW, cast_model, memory_report


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(320, 64), nn.LayerNorm(64), nn.Linear(64, 32))


@pytest.mark.parametrize(("name", "expected"), [
    ("adamw", 16.0), ("adamw_bf16", 8.0), ("flash_adamw", 7.125), ("flash_adamw32", 8.125), ("sgd", 12.0),
    ("flash_sgd", 6.0625), ("flash_lion", 6.0625), ("lion", 12.0), ("lamb", 16.0),
])  # fmt: skip
def test_bytes_per_parameter_are_those_of_the_formats(name: str, expected: float) -> None:
    found = optimizer_footprint(lambda: nn.Linear(1024, 1024, bias=False), name)
    assert found.bytes_per_parameter == pytest.approx(expected, abs=1e-5)  # a counter of steps is four bytes


def test_the_count_is_that_of_a_real_step() -> None:
    found = optimizer_footprint(net, "flash_adamw")
    model = net()
    cast_model(model)
    optimizer = FlashAdamW(model.parameters())
    model(torch.ones(2, 320, dtype=torch.bfloat16)).sum().backward()
    optimizer.step()
    real = memory_report(optimizer)
    assert (found.parameters, found.total) == (real.parameters, real.total)


def test_release_keeps_one_gradient() -> None:
    whole, released = (optimizer_footprint(net, name) for name in ("flash_adamw", "flash_adamw+release"))
    assert released.gradients == 2 * 320 * 64
    assert released.state == whole.state


def test_every_optimizer_runs_on_a_model_without_memory() -> None:
    for name in OPTIMIZERS:
        assert optimizer_footprint(model_of("bert_tiny"), name).total > 0
    assert set(DEFAULT) <= {*OPTIMIZERS, "flash_adamw+release"}


def test_a_model_that_reads_numbers_while_it_is_built_is_refused_with_a_way_out() -> None:
    def build() -> nn.Module:
        return nn.Dropout(torch.linspace(0, 0.5, 3)[1].item())

    with pytest.raises(ValueError, match=r"can be built on torch's meta device.*device='cpu'"):
        optimizer_footprint(build, "adamw")
