"""CutMix (arXiv 1905.04899): paste a box of another image and mix the targets by its area."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._core.batch import replace_parts
from ._draw import beta, generator_for, image_inputs, integer, mixed_with

__all__ = ["cutmix", "draw_boxes"]


def draw_boxes(
    height: int,
    width: int,
    *,
    count: int,
    alpha: float,
    uniform_sampling: bool = False,
    generator: torch.Generator,
) -> Tensor:
    """Boxes to cut: `(count, 4)` whole numbers `top, bottom, left, right`, inside the image, ends excluded.

    The sides are `int(sqrt(1 - b) * height)` and `int(sqrt(1 - b) * width)`, `b ~ Beta(alpha, alpha)`, before the part
    outside the image is cut off. The centre is uniform over the image, so pixels at the border are covered less often;
    with `uniform_sampling` the box is uniform over all places where it touches the image, and every pixel is covered
    equally often. `alpha = 0` gives empty boxes.
    """
    b = beta("cutmix", alpha, count, generator)
    ratio = (1 - b).sqrt() if alpha else torch.zeros_like(b)
    edges = []
    for size in (height, width):
        side = (ratio * size).long()
        if uniform_sampling:  # the first pixel lies in 1 - side .. size - 1: size + side - 1 places
            place = torch.rand(count, dtype=torch.float64, generator=generator, device=generator.device)
            first = (place * (size + side - 1)).long() + 1 - side
        else:
            first = integer(0, size - 1, count, generator) - side // 2
        edges += [first.clamp(0, size), (first + side).clamp(0, size)]
    return torch.stack(edges, dim=1)


def _inside(boxes: Tensor, height: int, width: int) -> Tensor:
    """(boxes, 1, height, width) bool: the pixels of each box."""
    top, bottom, left, right = boxes.view(-1, 4, 1, 1, 1).unbind(1)
    rows = torch.arange(height, device=boxes.device).view(-1, 1)
    columns = torch.arange(width, device=boxes.device)
    return (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)


def cutmix(
    batch: Any,
    *,
    alpha: float = 1.0,
    uniform_sampling: bool = False,
    per_sample: bool = False,
    generator: torch.Generator,
) -> Any:
    """Replace a box of every image by the same box of another image of its batch.

    The targets become `MixedTargets` whose weight is exactly the fraction of pixels replaced. Use it for image
    classification on long budgets; not on top of several other strong regularisers (docs/methods/cutmix.md).

    Args:
        batch: `(inputs, targets)` or a dict; inputs (batch, channels, height, width) of any dtype, targets any tensors
            (batch, ...). Other entries of a dict stay those of the first sample.
        alpha: shape of the Beta distribution of the kept area; 1 makes it uniform, 0 cuts nothing.
        uniform_sampling: cover every pixel equally often, instead of centring the box uniformly.
        per_sample: draw a box per sample instead of one per batch.
        generator: where the boxes (first) and the order (second) are drawn; its device need not be the batch's.

    Returns:
        A new batch of the same kind; the old one is untouched.

    Raises:
        ValueError: inputs that are not images, `alpha` below 0, or targets that are mixed already.

    >>> x, y = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 8, 8), torch.arange(3)
    >>> cut, targets = cutmix((x, y), generator=torch.Generator().manual_seed(1))
    >>> replaced = (cut[0] != x[0]).float().mean()
    >>> bool(replaced in (0, targets.weight[0]))
    True

    Source: arXiv 1905.04899.
    """
    generator_for("cutmix", generator)
    inputs = image_inputs("cutmix", batch)
    size, _, height, width = inputs.shape
    count = size if per_sample else 1
    boxes = draw_boxes(height, width, count=count, alpha=alpha, uniform_sampling=uniform_sampling, generator=generator)
    order = torch.randperm(size, generator=generator, device=generator.device)
    area = (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
    weight = (area.double() / (height * width)).expand(size).to(inputs.device, torch.float32)
    targets = mixed_with("cutmix", batch, order, weight)
    if alpha == 0:
        return replace_parts(batch, targets=targets)
    inside = _inside(boxes.to(inputs.device), height, width)
    pasted = torch.where(inside.logical_not(), inputs, inputs[order.to(inputs.device)])
    return replace_parts(batch, inputs=pasted, targets=targets)
