"""Norm layers with running statistics: keep a forward pass from moving them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

__all__ = ["frozen_batch_norm_statistics", "running_norms"]


def running_norms(model: nn.Module) -> list[_NormBase]:
    """The batch and instance norms of `model` that keep running statistics, each once."""
    return [
        module
        for module in model.modules()
        if isinstance(module, _NormBase) and module.track_running_stats and module.running_mean is not None
    ]


def _statistics(norm: _NormBase) -> list[Tensor]:
    return [value for value in (norm.running_mean, norm.running_var) if value is not None]


@contextlib.contextmanager
def frozen_batch_norm_statistics(model: nn.Module) -> Iterator[None]:
    """Inside, forward passes in training mode normalise by the batch as ever but leave the running statistics alone.

    For passes that are not of the data stream: the second pass of SAM (at perturbed weights), scoring in training
    mode. `running_mean`, `running_var` and `num_batches_tracked` keep their bits; layers in evaluation mode are
    unaffected. Under torch.compile the two states are two compilations.

    >>> norm = nn.BatchNorm1d(2)
    >>> with frozen_batch_norm_statistics(norm):
    ...     _ = norm(torch.ones(4, 2))
    >>> norm.running_mean.tolist(), int(norm.num_batches_tracked)
    ([0.0, 0.0], 0)
    """
    norms = running_norms(model)
    batch_norms = [norm for norm in norms if isinstance(norm, _BatchNorm)]
    # An instance norm reads the same flag as "use the batch", even in evaluation mode: put its statistics back instead.
    others = [value for norm in norms if not isinstance(norm, _BatchNorm) for value in _statistics(norm)]
    saved = [value.clone() for value in others]
    try:
        for norm in batch_norms:
            norm.track_running_stats = False
        yield
    finally:
        for norm in batch_norms:
            norm.track_running_stats = True
        with torch.no_grad():
            for value, old in zip(others, saved, strict=True):
                value.copy_(old)
