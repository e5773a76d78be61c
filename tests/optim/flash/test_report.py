"""Bytes for each parameter, by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from hasten.optim.flash import FlashAdamW, FlashLion, FlashSGD, memory_report

SIZE = 3200
COUNTER = 4  # bytes of a parameter's counter of steps

TABLE = [
    (FlashAdamW, {}, torch.bfloat16, 7.125), (FlashAdamW, {"master_weight_bits": 32}, torch.bfloat16, 8.125),
    (FlashAdamW, {"master_weight_bits": None}, torch.float16, 6.125), (FlashAdamW, {}, torch.float32, 10.125),
    (FlashAdamW, {"quantize": False}, torch.bfloat16, 13.0), (FlashAdamW, {"group_size": 128}, torch.bfloat16, 7.03125),
    (FlashSGD, {"momentum": 0.9}, torch.bfloat16, 6.0625), (FlashSGD, {}, torch.bfloat16, 5.0),
    (FlashLion, {}, torch.bfloat16, 6.0625),
]  # fmt: skip


@pytest.mark.parametrize(("cls", "options", "dtype", "expected"), TABLE)
def test_bytes_for_each_parameter(cls: Any, options: dict[str, Any], dtype: torch.dtype, expected: float) -> None:
    p = nn.Parameter(torch.ones(SIZE, dtype=dtype))
    optimizer = cls([p], **options)
    p.grad = torch.ones_like(p)
    assert optimizer.memory_report().total == 2 * SIZE * p.element_size(), "no state before the first step"
    optimizer.step()
    report = optimizer.memory_report()
    assert report.parameters == SIZE
    assert report.total == expected * SIZE + COUNTER
    assert report.bytes["steps"] == COUNTER
    assert report.bytes_per_parameter == report.total / SIZE
    p.grad = None
    assert optimizer.memory_report().total == (expected - p.element_size()) * SIZE + COUNTER


def test_kinds() -> None:
    p = nn.Parameter(torch.ones(33, dtype=torch.bfloat16))
    p.grad = torch.ones_like(p)
    optimizer = FlashAdamW([p])
    optimizer.step()
    assert memory_report(optimizer).bytes == {
        "weights": 66, "gradients": 66, "correction": 33, "states": 66, "scales": 8, "steps": 4,
    }  # fmt: skip
    text = str(memory_report(optimizer))
    assert text.splitlines()[0] == "33 parameters"
    assert "correction" in text
    assert f"{243 / 33:.4f} per parameter" in text


def test_shared_storage_counts_once_and_other_optimizers_are_counted() -> None:
    storage = torch.ones(64)
    p, q = nn.Parameter(storage[:32]), nn.Parameter(storage[32:])
    optimizer = torch.optim.SGD([p, q], lr=0.1, momentum=0.9)
    p.grad = torch.ones(32)
    optimizer.step()
    report = memory_report(optimizer)
    assert report.bytes["weights"] == 256
    assert report.bytes["gradients"] == report.bytes["states"] == 128
    assert report.parameters == 64
    assert memory_report(torch.optim.SGD([nn.Parameter(torch.zeros(0))])).bytes_per_parameter == 0.0
