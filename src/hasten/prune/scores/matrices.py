"""Every prunable layer as the product it is: rows of inputs times matrices of weights.

    layer                        matrices                       a row of inputs
    Linear                       (1, out, in)                   what it is called with
    Conv1d, 2d, 3d               (groups, out/g, k * in/g)      a window: kernel places, then channels
    ConvTranspose1d, 2d, 3d      (groups, out/g, k * in/g)      a window of the input with zeros put between its pixels

so `rows @ matrices^T` is the layer's output without bias. Channels come last in a window, so that N:M patterns along
neighbouring columns are patterns along channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["CONVOLUTIONS", "TRANSPOSED", "from_matrices", "rows", "to_matrices"]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def to_matrices(layer: nn.Module, weight: Tensor) -> Tensor:
    """`weight` (of the layer's weight's shape) as (groups, outputs, columns); may be a view.

    >>> to_matrices(nn.Conv2d(4, 6, 3, groups=2), torch.zeros(6, 2, 3, 3)).shape
    torch.Size([2, 3, 18])
    """
    if isinstance(layer, CONVOLUTIONS):
        apart = weight.unflatten(0, (layer.groups, -1))  # (groups, out, in, *kernel)
        return apart.movedim(2, -1).flatten(2)
    if isinstance(layer, TRANSPOSED):
        apart = weight.unflatten(0, (layer.groups, -1))  # (groups, in, out, *kernel)
        return apart.movedim(1, -1).flatten(2)
    return weight.unsqueeze(0)


def from_matrices(layer: nn.Module, matrices: Tensor, like: Tensor) -> Tensor:
    """The inverse of `to_matrices`: a tensor of the shape of `like`."""
    if isinstance(layer, CONVOLUTIONS):
        apart = matrices.unflatten(2, (*like.shape[2:], like.shape[1]))
        return apart.movedim(-1, 2).flatten(0, 1)
    if isinstance(layer, TRANSPOSED):
        apart = matrices.unflatten(2, (*like.shape[2:], like.shape[0] // layer.groups))
        return apart.movedim(-1, 1).flatten(0, 1)
    return matrices.reshape(like.shape)


def batched(layer: nn.Module, x: Tensor) -> Tensor:
    """`x` with a batch dimension in front, for a layer that is called without one."""
    if isinstance(layer, (*CONVOLUTIONS, *TRANSPOSED)):
        return x if x.ndim == len(layer.kernel_size) + 2 else x.unsqueeze(0)
    return x if x.ndim > 1 else x.unsqueeze(0)


def rows(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """The rows of inputs that meet each of the layer's matrices: one (rows, columns) for each group.

    >>> [block.shape for block in rows(nn.Conv2d(4, 6, 3, groups=2), torch.zeros(5, 4, 8, 8))]
    [torch.Size([180, 18]), torch.Size([180, 18])]
    """
    x = batched(layer, x)
    if isinstance(layer, CONVOLUTIONS):
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        padded = F.pad(x, _padding(layer), mode=mode)
        return _windows(padded, layer.kernel_size, layer.stride, layer.dilation, layer.groups)
    if isinstance(layer, TRANSPOSED):
        ones = (1,) * len(layer.kernel_size)
        return [
            _flipped(block, layer)
            for block in _windows(_spread(layer, x), layer.kernel_size, ones, layer.dilation, layer.groups)
        ]
    return [x.reshape(-1, x.shape[-1])]


def _padding(layer: Any) -> list[int]:
    """Padding as `torch.nn.functional.pad` takes it: last dimension first, before and after."""
    if layer.padding == "valid":
        return [0] * (2 * len(layer.kernel_size))
    if layer.padding == "same":
        whole = [dilation * (size - 1) for dilation, size in zip(layer.dilation, layer.kernel_size, strict=True)]
        sides = [(total // 2, total - total // 2) for total in whole]
    else:
        sides = [(side, side) for side in layer.padding]
    return [side for pair in reversed(sides) for side in pair]


def _windows(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], groups: int
) -> list[Tensor]:
    """All windows of `x` (batch, channels, *space), as (rows, kernel * channels of a group) for each group."""
    for axis, (size, step, gap) in enumerate(zip(kernel, stride, dilation, strict=True), start=2):
        x = x.unfold(axis, gap * (size - 1) + 1, step)[..., ::gap]
    d = len(kernel)  # x: (batch, channels, *places, *kernel)
    x = x.permute(0, *range(2, 2 + d), *range(2 + d, 2 + 2 * d), 1)
    apart = x.unflatten(-1, (groups, -1)).movedim(-2, 0)  # (groups, batch, *places, *kernel, channels)
    return list(apart.reshape(groups, math.prod(apart.shape[1 : 2 + d]), math.prod(apart.shape[2 + d :])))


def _spread(layer: Any, x: Tensor) -> Tensor:
    """The input whose plain convolution with the flipped kernel is the transposed convolution of `x`."""
    space = [step * (size - 1) + 1 for step, size in zip(layer.stride, x.shape[2:], strict=True)]
    spread = x.new_zeros(*x.shape[:2], *space)
    spread[(..., *(slice(None, None, step) for step in layer.stride))] = x
    whole = [gap * (size - 1) for gap, size in zip(layer.dilation, layer.kernel_size, strict=True)]
    cuts = zip(whole, layer.padding, layer.output_padding, strict=True)
    sides = [(side - cut, side - cut + more) for side, cut, more in cuts]
    return F.pad(spread, [side for pair in reversed(sides) for side in pair])


def _flipped(block: Tensor, layer: Any) -> Tensor:
    """Windows with the kernel's places in reverse order, as the kernel of a transposed convolution lies."""
    places = block.unflatten(1, (*layer.kernel_size, -1))
    return torch.flip(places, dims=tuple(range(1, 1 + len(layer.kernel_size)))).flatten(1)
