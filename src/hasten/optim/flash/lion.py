"""`FlashLion`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .._options import check_betas
from .optimizer import FlashOptimizer

__all__ = ["FlashLion"]


class FlashLion(FlashOptimizer):
    """Lion in 6.0625 bytes for each bfloat16 parameter, gradient included (else 12).

    `u = sign(b1 * m + (1 - b1) * g)`, `m = b2 * m + (1 - b2) * g`, `x = (1 - lr * weight_decay) * x - lr * u`.

    Args:
        params: parameters, or groups of them with options of their own.
        lr: learning rate, at least 0; a third to a tenth of AdamW's, with a weight decay larger by the same factor.
        betas: of the direction and of the momentum, in [0, 1).
        weight_decay: decoupled, at least 0.
        options: those of `FlashOptimizer`.

    Source: arXiv 2602.23349; Lion: arXiv 2302.06675.
    """

    rule = "lion"

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay}, **options)

    def _check_group(self, group: Mapping[str, Any]) -> None:
        check_betas(type(self).__name__, group["betas"])
        super()._check_group(group)
