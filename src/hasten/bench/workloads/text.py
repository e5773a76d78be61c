"""What the text workloads share: windows of a token sequence, and the loss."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hasten._core.batch import get_targets
from hasten._core.checks import check

__all__ = ["byte_tokens", "sequence_cross_entropy", "windows"]


def byte_tokens(text: bytes) -> Tensor:
    """The bytes as tokens 0..255, shape (len(text),), int64."""
    return torch.frombuffer(bytearray(text), dtype=torch.uint8).long()


def windows(
    tokens: Tensor,  # (length,)
    context: int,
) -> tuple[Tensor, Tensor]:
    """Consecutive windows as (inputs, targets), each (n, context); the target of a token is the token after it.

    Every token but the first is a target once; up to `context - 1` at the end are left out. Both are views.

    >>> inputs, targets = windows(torch.arange(6), 2)
    >>> inputs.tolist(), targets.tolist()
    ([[0, 1], [2, 3]], [[1, 2], [3, 4]])
    """
    fix = "Use a shorter context or more text."
    check(1 <= context < len(tokens), "windows", f"more than {context} tokens", len(tokens), fix)
    view = tokens.unfold(0, context + 1, context)  # (n, context + 1)
    return view[:, :-1], view[:, 1:]


def sequence_cross_entropy(outputs: Tensor, batch: Any) -> Tensor:
    """Cross-entropy in nats, averaged over each sequence: (batch,) from logits `outputs` (batch, time, vocabulary)."""
    targets = get_targets(batch)
    losses = F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none")
    return losses.view(targets.shape).mean(1)
