"""Selective backprop (arXiv 1910.00762): do the backward pass only for samples with a high loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .._core.checks import check, finite, fraction, refuse, whole
from ._draw import generator_for

__all__ = ["select_by_loss", "selection_active", "selection_weights"]


def selection_weights(count: int, *, keep: float = 0.5) -> Tensor:
    """Chance of each loss rank, lowest loss first, to be the first one drawn: float64 (count,), sum 1.

    `w_r` is proportional to `((r + 1/2) / count) ** (1 / keep - 1)`.

    >>> (selection_weights(4, keep=0.5) * 16).tolist()
    [1.0, 3.0, 5.0, 7.0]
    """
    call = "selection_weights"
    whole(call, "count", count, low=1)
    check(fraction(call, "keep", keep) > 0, call, "keep > 0", keep, "Pass keep= a value in (0, 1].")
    # Relative to the top rank, so that a small `keep` cannot underflow to all zeros.
    percentile = (torch.arange(count, dtype=torch.float64) + 0.5) / (count - 0.5)
    weights = percentile ** (1.0 / keep - 1.0)
    return weights / weights.sum()


def select_by_loss(
    losses: Tensor,  # (batch,)
    *,
    keep: float = 0.5,
    generator: torch.Generator,
) -> Tensor:
    """Indices of the samples to train on: `max(1, int(keep * batch))` of them, high losses more likely.

    Drawn without replacement with chances proportional to `(rank percentile) ** (1 / keep - 1)`; the percentile of
    rank `r` (0 is the lowest loss) is `(r + 1/2) / batch`. The losses come from a forward pass without gradients, which
    costs about a third of a training step: unless `keep` is well below 2/3, nothing is gained
    (docs/methods/selective_backprop.md).

    Args:
        losses: one finite value per sample, (batch,).
        keep: fraction kept, in (0, 1]; 1 keeps all, in random order.
        generator: a CPU generator; the draws depend on the batch size only, not on the losses.

    Returns:
        LongTensor on the device of `losses`, distinct indices, in the order drawn.

    Raises:
        ValueError: losses of another shape, empty or not finite; `keep` outside (0, 1].

    >>> select_by_loss(torch.tensor([0.1, 9.0, 0.2, 5.0]), keep=0.5, generator=torch.Generator()).shape
    torch.Size([2])

    Source: arXiv 1910.00762; the power of the percentile in place of its running history is a common simplification.
    """
    call = "select_by_loss"
    generator_for(call, generator)
    if losses.ndim != 1 or losses.numel() == 0:
        raise refuse(call, "one loss per sample, shape (batch,)", losses, "Use a loss that is not reduced.")
    if not bool(losses.isfinite().all()):
        bad = int(losses.isfinite().logical_not().sum())
        raise refuse(call, "finite losses", f"{bad} of {losses.numel()} not finite", "Training diverges: lower the lr.")
    weights = selection_weights(losses.numel(), keep=keep).to(generator.device)
    count = max(1, math.floor(keep * losses.numel() + 1e-9))  # 0.29 * 100 is 28.999...: the slack makes it 29
    ranks = torch.multinomial(weights, count, replacement=False, generator=generator)
    return losses.argsort(stable=True)[ranks.to(losses.device)]


def selection_active(
    progress: float,
    step: int,
    *,
    start: float = 0.5,
    end: float = 0.9,
    interrupt: int = 2,
) -> bool:
    """Whether this step selects: `start <= progress < end`, and not one of the interrupting full batches.

    Step `k` (from 0) trains on the full batch where `k + 1` is a multiple of `interrupt`: with 2, the odd steps do and
    the even ones select; with 3, every third step is full.

    Args:
        progress: in [0, 1].
        step: the step, from 0.
        start, end: when selection is on; outside, every batch is full.
        interrupt: 0 never interrupts; 1 would make every batch a full one and is refused.

    >>> [selection_active(0.6, k) for k in range(4)], selection_active(0.2, 0), selection_active(0.9, 0)
    ([True, False, True, False], False, False)
    """
    call = "selection_active"
    finite(call, "progress", progress)
    check(0 <= start <= end <= 1, call, "0 <= start <= end <= 1", (start, end), "Pass start= and end= in that order.")
    whole(call, "step", step)
    whole(call, "interrupt", interrupt)
    check(interrupt != 1, call, "interrupt 0 or at least 2", interrupt, "1 would never select: leave the method out.")
    return start <= progress < end and (interrupt == 0 or (step + 1) % interrupt != 0)
