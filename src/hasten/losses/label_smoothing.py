"""Label smoothing (arXiv 1512.00567): part of the target's mass goes to all classes alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._core.batch import MixedTargets, get_targets
from .._core.checks import fraction, refuse, refuse_type
from ._per_sample import Loss, per_sample

__all__ = ["LabelSmoothing", "label_smoothing", "smoothing_term"]

IGNORED = -100  # torch's own default of ignore_index


def smoothing_term(
    logits: Tensor,  # (batch, ..., classes)
    counted: Tensor | None = None,  # (batch, ...), bool
) -> Tensor:
    """Cross entropy against the uniform distribution: `mean over classes of -log softmax(logits)`, per sample.

    Computed as `logsumexp(logits) - mean(logits)`, in float32 for narrower types. Its least value, for equal logits, is
    `log(classes)`.

    Args:
        logits: floating point, the classes on the LAST dimension; dimensions between (time, positions) are averaged.
        counted: which positions enter the average; None all. A sample with none gets 0.

    Returns:
        (batch,), float32 or wider.

    Raises:
        TypeError: not a floating-point tensor.
        ValueError: fewer than two dimensions or two classes.

    >>> smoothing_term(torch.zeros(2, 4))
    tensor([1.3863, 1.3863])
    """
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        fix = "Pass the logits; if the model returns a record, smooth a loss that takes its logits."
        raise refuse_type("smoothing_term", "floating-point logits", logits, fix)
    if logits.ndim < 2 or logits.shape[-1] < 2:
        fix = "Smoothing is for softmax over two or more classes on the last dimension."
        raise refuse("smoothing_term", "logits of shape (batch, ..., classes >= 2)", logits, fix)
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    term = (wide.logsumexp(-1) - wide.mean(-1)).unsqueeze(1).flatten(1)  # (batch, positions)
    if counted is None:
        return term.mean(1)
    mask = counted.unsqueeze(1).flatten(1)
    return term.where(mask, 0.0).sum(1) / mask.sum(1).clamp(min=1)


def _counted(logits: Tensor, targets: Any) -> Tensor | None:
    """Where integer targets say that a position counts; None where the targets are no class indices per position."""
    indices = isinstance(targets, Tensor) and not targets.is_floating_point() and targets.shape == logits.shape[:-1]
    return targets != IGNORED if indices else None


@dataclass(frozen=True)
class LabelSmoothing:
    """The loss `(1 - smoothing) * loss + smoothing * smoothing_term(logits)`; see `label_smoothing`."""

    loss: Loss
    smoothing: float = 0.1

    def __post_init__(self) -> None:
        fraction("label_smoothing", "smoothing", self.smoothing)

    def __call__(
        self,
        outputs: Tensor,  # (batch, ..., classes)
        batch: Any,
    ) -> Tensor:
        """One value per sample, (batch,)."""
        losses = per_sample("label_smoothing", self.loss(outputs, batch))
        if self.smoothing == 0:
            return losses
        targets = get_targets(batch)
        counted = None if isinstance(targets, MixedTargets) else _counted(outputs, targets)
        term = per_sample("label_smoothing", smoothing_term(outputs, counted), losses.shape[0])
        return (1 - self.smoothing) * losses + self.smoothing * term


def label_smoothing(loss: Loss, *, smoothing: float = 0.1) -> LabelSmoothing:
    """Smooth the labels of a cross-entropy loss.

    `(1 - smoothing) * loss + smoothing * mean over classes of -log softmax(outputs)`. For a loss that is cross entropy
    this is cross entropy against `(1 - smoothing) * one_hot + smoothing / classes`, as in `F.cross_entropy`'s own
    argument; the targets in the batch stay as they are, so metrics see hard labels. Linear in the targets, so it
    composes with mixed targets in either order.

    Use it for classification, more so on long budgets; not where calibrated or distilled probabilities are the product
    (docs/methods/label_smoothing.md).

    Args:
        loss: `loss(outputs, batch) -> (batch,)`, a cross entropy of softmax; `outputs` are the logits, the classes on
            the last dimension.
        smoothing: mass given to the uniform distribution, in [0, 1]; 0 is the plain loss, 1 ignores the targets.
            Positions whose class index is -100 do not count in the smoothing term either.

    Returns:
        A loss.

    Raises:
        ValueError: `smoothing` outside [0, 1]; when called, a loss that is not one value per sample.

    Source: arXiv 1512.00567, section 7.
    """
    return LabelSmoothing(loss, smoothing)
