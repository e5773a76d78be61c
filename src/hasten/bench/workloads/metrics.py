"""Metrics of the built-in workloads: one number for a model on its test set, computed in chunks.

Each calls `model(inputs)` in evaluation mode without gradients and leaves the training mode of every module as it was.
The chunks are consecutive slices, so the same model gives the same number, to the bit, every time. A metric is NaN when
any output is not finite: a broken model must not score like a guessing one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hasten._core.checks import check, refuse
from hasten._core.evaluation import evaluation_mode

__all__ = ["accuracy", "bits_per_token", "evaluation_mode"]


def _chunks(call: str, model: Callable[..., Tensor], inputs: Tensor, targets: Tensor, chunk: int) -> Iterator:
    """(outputs in float32, targets on their device) of consecutive slices."""
    check(chunk >= 1, call, "chunk of at least 1", chunk)
    if len(inputs) != len(targets) or len(inputs) == 0:
        raise refuse(call, "as many targets as inputs, at least one", f"{len(inputs)} and {len(targets)}")
    first = next(model.parameters(), inputs) if isinstance(model, nn.Module) else inputs
    for part, wanted in zip(inputs.split(chunk), targets.split(chunk), strict=True):
        outputs = model(part.to(first.device)).float()
        yield outputs, wanted.to(outputs.device)


def accuracy(
    model: Callable[..., Tensor],
    inputs: Tensor,  # (samples, ...)
    targets: Tensor,  # (samples,) class numbers
    chunk: int = 1024,
) -> float:
    """Share of samples whose largest logit is the target's, in [0, 1]; the first of equal logits counts.

    Args:
        model: maps (chunk, ...) to logits (chunk, classes); a module, or any callable.
        inputs: the test inputs, moved to the model's device chunk by chunk.
        targets: the right classes.
        chunk: samples per forward pass; the last chunk may be smaller.

    Returns:
        The accuracy; NaN if any logit is not finite.

    Raises:
        ValueError: no samples, lengths that differ, or chunk below 1.

    >>> accuracy(nn.Identity(), torch.eye(3), torch.tensor([0, 1, 0]))
    0.6666666666666666
    """
    correct = 0
    with evaluation_mode(model):
        for logits, wanted in _chunks("accuracy", model, inputs, targets, chunk):
            if not bool(torch.isfinite(logits).all()):
                return math.nan
            correct += int((logits.argmax(1) == wanted).sum())
    return correct / len(targets)


def bits_per_token(
    model: Callable[..., Tensor],
    inputs: Tensor,  # (sequences, time) tokens
    targets: Tensor,  # (sequences, time) the token that follows each
    chunk: int = 64,
) -> float:
    """Mean negative log2 probability of the targets: `-mean log2 softmax(model(inputs))[targets]`. Lower is better.

    With bytes as tokens this is bits per byte; guessing uniformly costs log2(vocabulary).

    Args:
        model: maps (chunk, time) to logits (chunk, time, vocabulary).
        inputs: the test sequences.
        targets: what follows each of their tokens, same shape.
        chunk: sequences per forward pass.

    Returns:
        Bits per token, over all tokens of all sequences; NaN if the model's loss is not finite.

    Raises:
        ValueError: no sequences, lengths that differ, or chunk below 1.
    """
    nats = 0.0  # summed in double precision on the host: independent of the chunk size up to float32 rounding
    with evaluation_mode(model):
        for logits, wanted in _chunks("bits_per_token", model, inputs, targets, chunk):
            losses = F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none")
            nats += float(losses.double().sum())
    bits = nats / targets.numel() / math.log(2)
    return bits if math.isfinite(bits) else math.nan
