"""MixUp (arXiv 1710.09412): train on convex combinations of pairs of samples."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._core.batch import get_inputs, replace_parts
from .._core.checks import refuse, refuse_type
from ._draw import beta, generator_for, mixed_with

__all__ = ["mixup"]


def mixup(
    batch: Any,
    *,
    alpha: float = 0.2,
    per_sample: bool = False,
    generator: torch.Generator,
) -> Any:
    """Blend every sample with another one of its batch: `x = (1 - m) x + m x[order]`, targets `(y, y[order], m)`.

    `m = min(b, 1 - b)`, `b ~ Beta(alpha, alpha)`: at most 1/2, so a sample stays the larger part of its blend. The
    targets become `MixedTargets` with weight `m`, exactly the one used on the inputs; `losses.interpolated` reads them.
    Use it for image and audio models on long budgets, where more fitting no longer helps (docs/methods/mixup.md).

    Args:
        batch: `(inputs, targets)` or a dict; inputs floating point, (batch, ...); targets any tensors (batch, ...).
            Other entries of a dict stay those of the first sample.
        alpha: shape of the Beta distribution; 0 gives `m = 0` (inputs unchanged), 1 a uniform `b`.
        per_sample: draw one `m` per sample instead of one per batch.
        generator: where `m` (first) and the order (second) are drawn; its device need not be the batch's.

    Returns:
        A new batch of the same kind; the old one is untouched.

    Raises:
        TypeError: inputs that are not floating point, such as tokens.
        ValueError: `alpha` below 0, or targets that are mixed already.

    >>> x, y = torch.eye(4), torch.arange(4)
    >>> mixed, targets = mixup((x, y), generator=torch.Generator().manual_seed(0))
    >>> bool(targets.weight.max() <= 0.5), tuple(mixed.shape)
    (True, (4, 4))

    Source: arXiv 1710.09412; `m <= 1/2` only renames the two samples.
    """
    generator_for("mixup", generator)
    inputs = get_inputs(batch)
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        fix = "Scale images with x.float() / 255 first; tokens cannot be blended, leave mixup out."
        raise refuse_type("mixup", "floating-point inputs", inputs, fix)
    if inputs.ndim == 0:
        raise refuse("mixup", "inputs of shape (batch, ...)", inputs)
    size = inputs.shape[0]
    b = beta("mixup", alpha, size if per_sample else 1, generator)
    share = torch.minimum(b, 1 - b).expand(size).to(inputs.device, inputs.dtype)
    order = torch.randperm(size, generator=generator, device=generator.device)
    weight = share.to(torch.promote_types(share.dtype, torch.float32))
    targets = mixed_with("mixup", batch, order, weight)
    if alpha == 0:
        return replace_parts(batch, targets=targets)
    other = inputs[order.to(inputs.device)]
    blended = torch.lerp(inputs, other, share.view(-1, *[1] * (inputs.ndim - 1)))
    return replace_parts(batch, inputs=blended, targets=targets)
