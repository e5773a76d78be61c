"""Channels-last memory: convolution weights, and with them the activations, stored with the channels innermost."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .._core.surgery import Report

__all__ = ["apply_channels_last"]


def apply_channels_last(model: nn.Module, *, generator: torch.Generator | None = None) -> Report:
    """Store every 4-D parameter and buffer of `model` channels-last, in place.

    Values do not change, only the order in memory; activations follow from the first convolution on. Faster where the
    convolution kernels work in this order (tensor cores, oneDNN) and all layers between them have one too; an operation
    without such a kernel transposes back and forth and may cost more than is gained. Apply it before the optimizer
    is built, so that its state has the same order.

    Args:
        model: the model. Only 4-D tensors are touched; `Conv3d` and `Conv1d` weights are not.
        generator: not used (nothing here is random); every surgery takes it.

    Returns:
        Report naming the 4-D parameters and buffers; `undo()` restores each one's former order.

    Warns:
        NoEffectWarning: the model has no 4-D parameter or buffer.

    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 2))
    >>> apply_channels_last(model).changed
    ('0.weight',)
    """
    named = {name: value for name, value in [*model.named_parameters(), *model.named_buffers()] if value.ndim == 4}
    strides = {name: value.stride() for name, value in named.items()}
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def restore() -> None:
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if name in strides:
                value.data = _with_strides(value, strides[name])

    return Report("channels_last", tuple(named), _undo=[restore]).warn_if_empty("a parameter of 4 dimensions")


def _with_strides(value: Tensor, stride: tuple[int, ...]) -> Tensor:
    out = torch.empty_strided(value.shape, stride, dtype=value.dtype, device=value.device)
    return out.copy_(value.detach())
