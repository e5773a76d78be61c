"""`FlashSGD` and `FlashSGDW`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..._core.checks import below_one, check, finite
from .optimizer import FlashOptimizer

__all__ = ["FlashSGD", "FlashSGDW"]


class FlashSGD(FlashOptimizer):
    """SGD in 6.0625 bytes for each bfloat16 parameter with momentum, gradient included (else 12); 5 without momentum.

    `g = g + weight_decay * x`; `m = momentum * m + (1 - dampening) * g`, in the first step `m = g`;
    `x = x - lr * (g + momentum * m if nesterov else m)`. As torch.optim.SGD.

    Args:
        params: parameters, or groups of them with options of their own.
        lr: learning rate, at least 0; a number or a tensor of one element.
        momentum: in [0, 1); 0 keeps no state but the correction.
        dampening: of the gradient's part of the momentum.
        weight_decay: at least 0; added to the gradient.
        nesterov: look ahead by the momentum; needs momentum and no dampening.
        options: those of `FlashOptimizer`.

    Source: arXiv 2602.23349.
    """

    rule = "momentum"
    decoupled = False

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        **options: Any,
    ) -> None:
        own = {"momentum": momentum, "dampening": dampening, "nesterov": nesterov}
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, **own}, **options)

    def _rule_of(self, group: Mapping[str, Any]) -> str:
        return "momentum" if group["momentum"] else "plain"

    def _check_group(self, group: Mapping[str, Any]) -> None:
        call = type(self).__name__
        momentum = below_one(call, "momentum", group["momentum"], "Pass momentum=0.9, say.")
        finite(call, "dampening", group["dampening"])
        fix = "Pass momentum above 0 and dampening=0 with it."
        plain = not group["nesterov"] or (momentum > 0 and group["dampening"] == 0)
        check(plain, call, "nesterov with momentum and without dampening", group["nesterov"], fix)
        super()._check_group(group)


class FlashSGDW(FlashSGD):
    """`FlashSGD` with decoupled weight decay: `x = (1 - lr * weight_decay) * x - lr * direction`.

    Args:
        params, lr, momentum, dampening, weight_decay, nesterov, options: as `FlashSGD`.

    Source: arXiv 1711.05101.
    """

    decoupled = True
