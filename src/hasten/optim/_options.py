"""What every optimizer here checks: its options, and that a gradient is one it can use.

A learning rate may be a number or a tensor of one element (torch's convention: a scheduler then fills it in place).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .._core.checks import check, finite, refuse, refuse_type

__all__ = ["call_closure", "check_betas", "check_learning_rate", "check_not_negative", "dense_gradient", "number"]


def number(value: float | Tensor) -> float:
    """A number or a tensor of one element as a float (a tensor on a GPU waits for the GPU)."""
    return float(value)


def check_learning_rate(call: str, lr: float | Tensor) -> float | Tensor:
    """`lr` if it is a finite number of at least 0, or a tensor of one element, which is not read here."""
    if isinstance(lr, Tensor):
        check(lr.numel() == 1, call, "lr as a number or a tensor of one element", lr, "Pass lr=torch.tensor(1e-3).")
        return lr
    check(finite(call, "lr", lr) >= 0, call, "lr >= 0", lr, "Pass lr= a number of at least 0.")
    return lr


def check_not_negative(call: str, name: str, value: float) -> float:
    """`value` as a finite float of at least 0."""
    check(finite(call, name, value) >= 0, call, f"{name} >= 0", value, f"Pass {name}= a number of at least 0.")
    return float(value)


def check_betas(call: str, betas: tuple[float, float]) -> tuple[float, float]:
    """Two decay rates in [0, 1)."""
    fix = "Pass betas=(0.9, 0.999), say."
    if not isinstance(betas, (tuple, list)) or len(betas) != 2:
        raise refuse(call, "two numbers for betas", betas, fix)
    for beta in betas:
        number_ = isinstance(beta, (int, float)) and not isinstance(beta, bool) and math.isfinite(beta)
        check(number_ and 0 <= beta < 1, call, "betas in [0, 1)", betas, fix)
    return float(betas[0]), float(betas[1])


def dense_gradient(call: str, parameter: Tensor) -> Tensor | None:
    """The gradient of a parameter, None where there is none.

    Raises:
        TypeError: it is sparse, or the parameter is complex or of integers.
    """
    gradient = parameter.grad
    if gradient is None:
        return None
    if gradient.layout != torch.strided:
        fix = "Build the embedding with sparse=False, or give it an optimizer of its own (torch.optim.SparseAdam)."
        raise refuse_type(call, "dense gradients", f"one of layout {gradient.layout}", fix)
    if not parameter.is_floating_point():
        fix = "Give complex parameters to torch.optim."
        raise refuse_type(call, "real floating-point parameters", f"dtype {parameter.dtype}", fix)
    return gradient


def call_closure(closure: Callable[[], Any] | None) -> Any:
    """What the closure of `step` returns, evaluated with gradients; None without one."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()
