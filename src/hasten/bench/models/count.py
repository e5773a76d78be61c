"""Counting parameters."""

from __future__ import annotations

from torch import nn

__all__ = ["count_parameters"]


def count_parameters(model: nn.Module, *, trainable: bool = False) -> int:
    """Number of scalars in the parameters of `model`; a parameter shared by several modules counts once.

    Args:
        model: any module; buffers (such as running statistics) are not counted.
        trainable: count only parameters with `requires_grad`.

    >>> count_parameters(nn.Linear(3, 2))
    8
    """
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not trainable)
