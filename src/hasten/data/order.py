"""The order in which samples are visited: a pure function of (seed, epoch), so resuming is seeking."""

from __future__ import annotations

import torch
from torch import Tensor

from hasten._core.checks import whole
from hasten._core.rng import stream

__all__ = ["in_order", "shuffled"]


def shuffled(n: int, epoch: int, *, seed: int) -> Tensor:
    """A fresh permutation of `range(n)` for each epoch.

    Args:
        n: number of samples, at least 0.
        epoch: which pass over the data, from 0.
        seed: the run's seed; two arms with the same seed see the same order.

    Returns:
        LongTensor (n,) on the CPU.

    Raises:
        ValueError: `n` or `epoch` is not a whole number of at least 0.

    >>> sorted(shuffled(4, 0, seed=1).tolist())
    [0, 1, 2, 3]
    """
    _check("shuffled", n, epoch)
    return torch.randperm(n, generator=stream(seed, "sampler", epoch))


def in_order(n: int, epoch: int, *, seed: int) -> Tensor:
    """`range(n)` in every epoch, for data that is already in random order; the arguments of `shuffled`."""
    _check("in_order", n, epoch)
    return torch.arange(n)


def _check(call: str, n: int, epoch: int) -> None:
    whole(call, "n", n)
    whole(call, "epoch", epoch)
