"""Gradient clipping: `f(params) -> None`, in place, between `backward()` and `step()`.

Every function reports a gradient that is not finite instead of clipping it to something that looks healthy; with a
GradScaler, unscale first.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .._core.checks import NonFiniteError, positive

__all__ = ["clip_adaptive", "clip_norm", "clip_value"]


def _with_gradients(params: Iterable[nn.Parameter]) -> tuple[list[nn.Parameter], list[Tensor]]:
    found = [(parameter, parameter.grad) for parameter in params if parameter.grad is not None]
    return [parameter for parameter, _ in found], [gradient for _, gradient in found]


def _check_finite(call: str, largest: Tensor) -> None:
    if not bool(largest.isfinite()):
        got, fix = largest.item(), "Lower the learning rate, or look for the loss term that overflows."
        raise NonFiniteError(f"{call}: expected finite gradients, got a largest entry or norm of {got}. {fix}")


def clip_norm(params: Iterable[nn.Parameter], *, max_norm: float) -> None:
    """Scale all gradients by `min(1, max_norm / norm)`, `norm` being the L2 norm over all of them together.

    Thin over `torch.nn.utils`. Parameters without a gradient do not count.

    Args:
        params: the parameters.
        max_norm: above 0.

    Raises:
        NonFiniteError: the norm is not finite.

    >>> w = nn.Parameter(torch.zeros(2)); w.grad = torch.tensor([3.0, 4.0])
    >>> clip_norm([w], max_norm=1.0); w.grad
    tensor([0.6000, 0.8000])
    """
    positive("clip_norm", "max_norm", max_norm)
    found, gradients = _with_gradients(params)
    total = torch.nn.utils.get_total_norm(gradients)
    _check_finite("clip_norm", total)
    torch.nn.utils.clip_grads_with_norm_(found, max_norm, total)


def clip_value(params: Iterable[nn.Parameter], *, limit: float) -> None:
    """Clamp every gradient entry to `[-limit, limit]`. Thin over `torch.nn.utils`.

    Args:
        params: the parameters.
        limit: above 0.

    Raises:
        NonFiniteError: an entry is not finite.

    >>> w = nn.Parameter(torch.zeros(2)); w.grad = torch.tensor([3.0, -0.5])
    >>> clip_value([w], limit=1.0); w.grad
    tensor([ 1.0000, -0.5000])
    """
    positive("clip_value", "limit", limit)
    found, gradients = _with_gradients(params)
    if not found:
        return
    # The largest entry, which cannot overflow: entries of 1e30 are huge but finite, and clamping them is the job.
    _check_finite("clip_value", torch.nn.utils.get_total_norm(gradients, torch.inf))
    torch.nn.utils.clip_grad_value_(found, limit)


def clip_adaptive(params: Iterable[nn.Parameter], *, clipping: float = 0.01, floor: float = 1e-3) -> None:
    """Adaptive gradient clipping: bound each output unit's gradient by the size of its own weights.

    For the unit `i` (a row of a matrix, a filter of a convolution; a vector or a scalar is one unit)
    `g_i *= min(1, clipping * max(norm(w_i), floor) / norm(g_i))`. For large batches and networks without batch norm.
    The last linear layer is better left out of `params`.

    Args:
        params: the parameters.
        clipping: largest ratio of the norms, above 0; 0.01 for batches of 1024 to 4096, up to 0.16 for 128 to 256.
        floor: least weight norm assumed, above 0, so that a weight of zeros can move.

    Raises:
        NonFiniteError: a gradient norm is not finite.

    >>> w = nn.Parameter(torch.zeros(2)); w.grad = torch.tensor([3.0, 4.0])
    >>> clip_adaptive([w]); w.grad.norm()
    tensor(1.0000e-05)

    Source: arXiv 2102.06171.
    """
    positive("clip_adaptive", "clipping", clipping)
    positive("clip_adaptive", "floor", floor)
    found, gradients = _with_gradients(params)
    if not found:
        return
    with torch.no_grad():
        norms = [_unit_norms(gradient) for gradient in gradients]
        _check_finite("clip_adaptive", torch.stack([norm.max().to(norms[0].device) for norm in norms]).max())
        scales = []
        for parameter, norm in zip(found, norms, strict=True):
            limit = clipping * _unit_norms(parameter).clamp(min=floor)
            # A gradient of zeros has the ratio inf, which the clamp turns into 1.
            scales.append((limit / norm).clamp(max=1.0).to(parameter.dtype))
        torch._foreach_mul_(gradients, scales)


def _unit_norms(value: Tensor) -> Tensor:
    """L2 norm of each unit, kept in the dimensions so that it broadcasts; at least float32."""
    dtype = torch.promote_types(value.dtype, torch.float32)
    if value.ndim <= 1:
        return torch.linalg.vector_norm(value, dtype=dtype)
    return torch.linalg.vector_norm(value, dim=tuple(range(1, value.ndim)), keepdim=True, dtype=dtype)
