"""Scores that need nothing but the weights: chance, size, size among the others, size of the whole channel."""

from __future__ import annotations

import torch
from torch import Tensor

from ..._core.checks import refuse

__all__ = ["channel_norm", "lamp", "magnitude", "uniform"]


def magnitude(weight: Tensor) -> Tensor:
    """The absolute value, in the weight's dtype.

    >>> magnitude(torch.tensor([0.5, -2.0]))
    tensor([0.5000, 2.0000])
    """
    return weight.detach().abs()


def uniform(weight: Tensor, generator: torch.Generator) -> Tensor:
    """Independent draws from [0, 1), float32: the baseline that every strategy has to beat.

    Args:
        weight: gives the shape and the device; its values do not matter.
        generator: draws on its own device, so a CPU generator gives the same scores for a model on any device.

    >>> uniform(torch.zeros(3), torch.Generator().manual_seed(0))
    tensor([0.4963, 0.7682, 0.0885])
    """
    return torch.rand(weight.shape, generator=generator, device=generator.device).to(weight.device)


def lamp(weight: Tensor) -> Tensor:
    """The layer-adaptive magnitude: `w_i^2 / sum of w_j^2 over all j with |w_j| >= |w_i|`, within the tensor.

    The largest entry of every tensor scores 1, so a global selection of as many entries as there are tensors, or more,
    leaves no tensor empty. Within a tensor the order is that of the magnitudes; of equal entries the earlier has more.

    Args:
        weight: floats of any shape, finite.

    Returns:
        Scores in [0, 1], at least float32; 0 for a weight of 0.

    >>> lamp(torch.tensor([1.0, -2.0, 0.0]))
    tensor([0.2000, 1.0000, 0.0000])

    Source: arXiv 2010.07611.
    """
    size = weight.detach().abs().reshape(-1)
    size = size.to(torch.promote_types(size.dtype, torch.float32))
    largest = size.max() if size.numel() else size.sum()
    if not largest > 0:
        return torch.zeros_like(size).view(weight.shape)
    size.div_(largest)
    bits = torch.int64 if size.dtype == torch.float64 else torch.int32
    # Floats of one sign have the order of their bits, and of whole numbers torch has a radix sort.
    order = size.view(bits).neg().add_(torch.iinfo(bits).max).sort(stable=True).indices
    squares = size[order].square_()
    return size.scatter_(0, order, squares / squares.cumsum(0)).view(weight.shape)


def channel_norm(matrices: Tensor, power: int) -> Tensor:
    """The mean of `|w|^power` over what makes an output, to the power of `1 / power`: the same for all its entries.

    A mean and not a sum: the norms of wide and narrow layers can be compared, and in a layer the order is the same.

    Args:
        matrices: (..., outputs, columns).
        power: 1 or 2.

    Returns:
        A view of the same shape that repeats one value per output, at least float32.

    >>> channel_norm(torch.tensor([[3.0, -5.0], [1.0, 1.0]]), 1)
    tensor([[4., 4.],
            [1., 1.]])
    """
    if power not in (1, 2):
        raise refuse("prune.channel_norm", "power=1 or 2", power)
    size = matrices.detach().abs()
    size = size.to(torch.promote_types(size.dtype, torch.float32))
    mean = size.mean(-1, keepdim=True) if power == 1 else size.square_().mean(-1, keepdim=True).sqrt()
    return mean.expand(matrices.shape)
