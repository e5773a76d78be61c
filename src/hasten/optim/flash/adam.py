"""`FlashAdamW` and `FlashAdam`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..._core.checks import check
from .._options import check_betas, check_not_negative, number
from .optimizer import FlashOptimizer

__all__ = ["FlashAdam", "FlashAdamW"]


class FlashAdam(FlashOptimizer):
    """Adam with L2 regularisation in 7.125 bytes for each bfloat16 parameter, gradient included (else 16).

    `g = g + weight_decay * x`, then as `FlashAdamW` without its decay.

    Args:
        params: parameters, or groups of them with options of their own.
        lr: learning rate, at least 0; a number or a tensor of one element.
        betas: decay rates of momentum and variance, in [0, 1).
        eps: added to the root of the variance, at least 0.
        weight_decay: at least 0.
        amsgrad: refused; its maximum would be a third state.
        options: those of `FlashOptimizer`.
    """

    rule = "adam"
    decoupled = False

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        check(not amsgrad, type(self).__name__, "amsgrad=False", amsgrad, "Use torch.optim for it.")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}, **options)

    def _check_group(self, group: Mapping[str, Any]) -> None:
        call = type(self).__name__
        check_betas(call, group["betas"])
        check_not_negative(call, "eps", group["eps"])
        super()._check_group(group)
        # What torch's groups say beside: of a loaded state, or of a group that was made for torch.
        check(not group.get("amsgrad"), call, "amsgrad=False", group.get("amsgrad"), "Use torch.optim for it.")
        decoupled, fix = group.get("decoupled_weight_decay", self.decoupled), "Use FlashAdam or FlashAdamW."
        right = decoupled == self.decoupled or not number(group["weight_decay"])
        check(right, call, f"decoupled_weight_decay={self.decoupled}", decoupled, fix)


class FlashAdamW(FlashAdam):
    """AdamW in 7.125 bytes for each bfloat16 parameter, gradient included (else 16), 5.125 with gradient release.

    With bias-corrected moments `m`, `v` of the gradient,
    `x = (1 - lr * weight_decay) * x - lr * m / (sqrt(v) + eps)`. The weight is a 16-bit one and 8 bits of correction,
    the moments are 8-bit codes (splitting.py, companding.py). The same options as torch's mean the same.

    Use it where memory is what limits you: large models, fine-tuning. Not for small models, where nothing is gained,
    and not where you need torch's AdamW to the last digit (docs/methods/flash.md).

    Args:
        params: parameters, or groups of them with options of their own; bfloat16 or float16 ones save the most
            (`cast_model`), float32 ones have their states in 8 bits only.
        lr: learning rate, at least 0; a number or a tensor of one element.
        betas: decay rates of momentum and variance, in [0, 1).
        eps: added to the root of the variance, at least 0.
        weight_decay: decoupled, at least 0.
        amsgrad: refused.
        options: those of `FlashOptimizer`.

    Raises:
        ValueError, TypeError: an option that makes no sense.

    >>> import torch
    >>> weight = torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    >>> optimizer = FlashAdamW([weight], lr=1e-4, weight_decay=0.0)
    >>> for _ in range(10):
    ...     weight.grad = torch.ones_like(weight)
    ...     optimizer.step()
    >>> weight.tolist()  # ten steps of 1e-4, of which bfloat16 sees none; the optimizer remembers them
    [1.0, 1.0]
    >>> from hasten.optim.flash import join_weight
    >>> [round(value, 3) for value in join_weight(weight, optimizer.state[weight]["correction"]).tolist()]
    [0.999, 0.999]

    Source: arXiv 2602.23349; AdamW: arXiv 1711.05101.
    """

    decoupled = True

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, **options)
