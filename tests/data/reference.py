"""Slow, obvious versions of the batch transforms: one sample, one pixel at a time."""

from __future__ import annotations

from torch import Tensor


def blend(x: Tensor, order: list[int], weight: list[float]) -> Tensor:
    """`(1 - w_i) x_i + w_i x_order(i)`."""
    out = x.clone()
    for i, (j, w) in enumerate(zip(order, weight, strict=True)):
        out[i] = (1 - w) * x[i] + w * x[j]
    return out


def paste(x: Tensor, order: list[int], boxes: list[list[int]]) -> tuple[Tensor, list[float]]:
    """Each image with its box taken from another one, and the fraction of pixels replaced."""
    out, fractions = x.clone(), []
    for i, (j, (top, bottom, left, right)) in enumerate(zip(order, boxes, strict=True)):
        replaced = 0
        for row in range(x.shape[2]):
            for column in range(x.shape[3]):
                if top <= row < bottom and left <= column < right:
                    out[i, :, row, column] = x[j, :, row, column]
                    replaced += 1
        fractions.append(replaced / (x.shape[2] * x.shape[3]))
    return out, fractions
