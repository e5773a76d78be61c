"""What the text workloads share: bytes or words as tokens, windows of a token sequence, and the loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from hasten._core.batch import get_targets
from hasten._core.checks import check

__all__ = ["byte_tokens", "frequent_words", "sequence_cross_entropy", "windows"]


def byte_tokens(text: bytes) -> Tensor:
    """The bytes as tokens 0..255, shape (len(text),), int64."""
    return torch.frombuffer(bytearray(text), dtype=torch.uint8).long()


def frequent_words(words: Iterable[str], count: int, *, first: int = 0) -> dict[str, int]:
    """The `count` most frequent words as tokens, numbered from `first`; of equally frequent ones the alphabet decides.

    >>> frequent_words("b a c b a b".split(), 2, first=3)
    {'b': 3, 'a': 4}
    """
    counts = Counter(words)
    check(len(counts) >= count, "frequent_words", f"at least {count} different words", len(counts))
    chosen = sorted(counts, key=lambda word: (-counts[word], word))[:count]
    return {word: first + rank for rank, word in enumerate(chosen)}


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
