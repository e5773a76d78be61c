"""Optimizers in training, their state, and what is the same about two of them: for the tests of checkpoints."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from hasten.optim.flash import FlashAdam, FlashAdamW, FlashLion, FlashSGD, FlashSGDW, join_weight

BF16, FP16, FP32, FP64 = torch.bfloat16, torch.float16, torch.float32, torch.float64
SHAPES = ((7, 5), (3,), (33, 17), (1,), (0, 4), (64,))

MAKERS: dict[str, Callable[..., Any]] = {
    "AdamW": lambda p, **o: FlashAdamW(p, **{"lr": 1e-3, "weight_decay": 0.1, **o}),
    "Adam": lambda p, **o: FlashAdam(p, **{"lr": 1e-3, "weight_decay": 0.1, **o}),
    "momentum": lambda p, **o: FlashSGD(p, **{"lr": 1e-2, "momentum": 0.9, "dampening": 0.1, "weight_decay": 0.1, **o}),
    "SGD": lambda p, **o: FlashSGD(p, **{"lr": 1e-2, "weight_decay": 0.1, **o}),
    "SGDW": lambda p, **o: FlashSGDW(p, **{"lr": 1e-2, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1, **o}),
    "Lion": lambda p, **o: FlashLion(p, **{"lr": 1e-3, "weight_decay": 0.1, **o}),
}


def parameters(dtype: torch.dtype = BF16, shapes: Any = SHAPES) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in shapes]


def train(optimizer: torch.optim.Optimizer, start: int, steps: int) -> None:
    """Steps `start` .. `start + steps - 1`, whose gradients depend on the number of the step alone."""
    owned = [p for group in optimizer.param_groups for p in group["params"]]
    for step in range(start, start + steps):
        generator = torch.Generator().manual_seed(100 + step)
        for p in owned:
            p.grad = torch.randn(p.shape, generator=generator).mul_(0.1).to(p.dtype)
        optimizer.step()


def copied(owned: list[nn.Parameter]) -> list[nn.Parameter]:
    return [nn.Parameter(p.detach().clone()) for p in owned]


def on_disk(value: Any) -> tuple[Any, int]:
    """What `torch.load` makes of the file that `torch.save` writes, and its size."""
    file = io.BytesIO()
    torch.save(value, file)
    size = file.tell()
    file.seek(0)
    return torch.load(file, weights_only=True), size


def same_bits(one: Any, two: Any) -> bool:
    """Is every entry of the same type, dtype, shape and bytes? (NaN equals itself.)"""
    if type(one) is not type(two):
        return False
    if isinstance(one, Tensor):
        if one.dtype != two.dtype or one.shape != two.shape:
            return False
        return one.contiguous().view(-1).view(torch.uint8).equal(two.contiguous().view(-1).view(torch.uint8))
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same_bits(one[name], two[name]) for name in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(same_bits, one, two))
    return one == two


def states(optimizer: Any) -> list[dict[str, Any]]:
    return [dict(optimizer.state[p]) for group in optimizer.param_groups for p in group["params"]]


def weights(optimizer: Any) -> list[Tensor]:
    return [p.detach() for group in optimizer.param_groups for p in group["params"]]


def snapshot(optimizer: Any) -> Any:
    groups = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    return copy.deepcopy((states(optimizer), weights(optimizer), groups))


def expanded_state(optimizer: Any, index: int = 0) -> dict[str, Tensor]:
    return optimizer.torch_state_dict()["state"][index]


def join(optimizer: Any, index: int) -> Tensor:
    p = weights(optimizer)[index]
    return join_weight(p, optimizer.state[optimizer.param_groups[0]["params"][index]].get("correction"))


def stepped(dtype: torch.dtype = BF16, **options: Any) -> FlashAdamW:
    optimizer = FlashAdamW(parameters(dtype), **options)
    train(optimizer, 0, 2)
    return optimizer
