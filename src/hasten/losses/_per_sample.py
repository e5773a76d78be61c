"""The contract of a loss, checked: one value per sample."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from .._core.checks import refuse, refuse_type

__all__ = ["Loss", "per_sample"]


class Loss(Protocol):
    """`loss(outputs, batch) -> Tensor (batch,)`."""

    def __call__(self, outputs: Any, batch: Any, /) -> Tensor: ...


def per_sample(call: str, losses: Any, count: int | None = None) -> Tensor:
    """`losses` if it is one value per sample (`count` of them, where known)."""
    if not isinstance(losses, Tensor):
        raise refuse_type(call, "a loss that returns a tensor", losses)
    if losses.ndim != 1 or (count is not None and losses.shape[0] != count):
        size = "batch" if count is None else f"batch = {count}"
        fix = "Do not reduce over the batch: use reduction='none' and average the other dimensions."
        raise refuse(call, f"a loss that returns one value per sample, shape ({size},)", losses, fix)
    return losses
