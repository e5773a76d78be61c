"""The product that trains (soft.py), as operators of torch that keep little for the backward pass.

Between the passes `soft_matmul` holds `x`, the parameters and one byte per row and codebook: the backward pass
recomputes the rest for a block of rows at a time, laid out as (C, K, rows). The path matrix is never multiplied
with: expanding the tree level by level takes O(K).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .define import define
from .soft import check_soft, hard_encode, lookup

__all__ = ["soft_matmul"]

BLOCK = 1 << 18  # elements of a block's (C, K, rows) tensor in the backward pass: 1 MB of float32 stays in the cache


def soft_matmul(
    x: Tensor,  # (N, D)
    split_dims: Tensor,  # (C, L)
    thresholds: Tensor,  # (C, K - 1)
    tables: Tensor,  # (M, C, K)
    tau: Tensor,  # () or (C,)
    hard: bool = True,
) -> Tensor:
    """Encode and look up with gradients for `x`, `thresholds`, `tables` and `tau`; no gradient of a gradient.

    For fine-tuning only: it is slower than the product it stands for. Between the two passes it keeps its arguments and
    one byte per row and codebook. A NaN in `x` gives finite values (it goes left) and NaN gradients.

    Args:
        x: rows, floating point, the dtype of the parameters.
        split_dims: column of each level, integer, in [0, D).
        thresholds: in heap order, K in {16, 32, 64}.
        tables: entries that are summed.
        tau: width of the soft sign, in units of `x`, above 0; one for all codebooks or one for each.
        hard: hard choice of leaf with soft gradients; False gives the smooth function.

    Returns:
        (N, M), the dtype of `tables`.

    Raises:
        ValueError: shapes that do not fit.
        TypeError: dtypes that differ or are not floating point.

    >>> dims, thresholds, tables = torch.zeros(1, 4, dtype=torch.int32), torch.zeros(1, 15), torch.arange(16.0)
    >>> soft_matmul(torch.tensor([[1.0]]), dims, thresholds, tables.view(1, 1, 16), torch.tensor(1.0)).tolist()
    [[15.0]]

    Source: arXiv:2106.10860, arXiv:2311.10207.
    """
    check_soft("soft_matmul", x, split_dims, thresholds, tables, tau)
    out, _ = torch.ops.hasten.maddness_soft(x, split_dims, thresholds, tables, tau, hard)
    return out  # type: ignore[no-any-return]


# Operators, so that a compiled graph has one node for each pass, whatever the number of blocks.
PARTS = "Tensor x, Tensor split_dims, Tensor thresholds, Tensor tables, Tensor tau"


@define("maddness_soft", f"({PARTS}, bool hard) -> (Tensor, Tensor)")
def _soft(
    x: Tensor, split_dims: Tensor, thresholds: Tensor, tables: Tensor, tau: Tensor, hard: bool
) -> tuple[Tensor, Tensor]:
    """The product, and the codes (N, C) uint8 that the backward pass keeps; none of them if it is smooth."""
    if hard:
        codes = hard_encode(x, split_dims, thresholds)
        return lookup(codes, tables), codes.to(torch.uint8)
    out = tables.new_empty(x.shape[0], tables.shape[0])
    for rows in _blocks(x.shape[0], thresholds):
        soft = _soft_leaves(_soft_signs(x[rows], split_dims, thresholds, tau)[1])
        out[rows] = (tables.flatten(1) @ soft.flatten(0, 1)).t()
    return out, x.new_empty(0, thresholds.shape[0], dtype=torch.uint8)


@torch.library.register_fake("hasten::maddness_soft")
def _soft_shape(
    x: Tensor, split_dims: Tensor, thresholds: Tensor, tables: Tensor, tau: Tensor, hard: bool
) -> tuple[Tensor, Tensor]:
    codes = x.new_empty(x.shape[0] if hard else 0, thresholds.shape[0], dtype=torch.uint8)
    return tables.new_empty(x.shape[0], tables.shape[0]), codes


@define(
    "maddness_soft_backward", f"(Tensor grad, {PARTS}, Tensor codes, bool hard) -> (Tensor, Tensor, Tensor, Tensor)"
)
def _soft_backward(
    grad: Tensor,  # (N, M)
    x: Tensor,
    split_dims: Tensor,
    thresholds: Tensor,
    tables: Tensor,
    tau: Tensor,
    codes: Tensor,
    hard: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of `x`, `thresholds`, `tables` and `tau`, block by block."""
    grad_thresholds, entries = _zeros(thresholds), tables.flatten(1).t().contiguous()  # (C K, M)
    columns, grad_entries = _zeros(x.t()), _zeros(entries)  # (D, N): the gradient of x, its rows innermost, too
    grad_tau = torch.zeros(thresholds.shape[0], dtype=tau.dtype, device=tau.device)
    width, leaf = tau.reshape(-1, 1, 1), torch.arange(tables.shape[2], dtype=x.dtype, device=x.device)[:, None]
    for rows in _blocks(x.shape[0], thresholds):
        h, soft_sign = _soft_signs(x[rows], split_dims, thresholds, tau)
        soft = _soft_leaves(torch.gt(h, 0, out=torch.empty_like(h)).mul_(2).sub_(1) if hard else soft_sign)
        taken = soft if not hard else torch.eq(codes[rows].t()[:, None].to(h.dtype), leaf, out=torch.empty_like(soft))
        grad_entries.addmm_(taken.flatten(0, 1), grad[rows])
        weighted = (entries @ grad[rows].t()).view_as(soft).mul_(soft)
        grad_logit = weighted.addcmul_(soft, weighted.sum(1, keepdim=True), value=-1)
        grad_ratio = _nodes_from_leaves(grad_logit) * (1 - soft_sign.square())  # of h / tau
        grad_h = grad_ratio / width
        grad_thresholds -= grad_h.sum(2)
        grad_tau -= torch.linalg.vecdot(grad_h.flatten(1), h.flatten(1))
        levels = [grad_h[:, (1 << i) - 1 : (2 << i) - 1].sum(1) for i in range(split_dims.shape[1])]
        columns[:, rows].index_add_(0, split_dims.flatten(), torch.stack(levels, 1).flatten(0, 1))
    grad_tau /= tau
    grad_tables = grad_entries.t().contiguous().view_as(tables)
    return columns.t().contiguous(), grad_thresholds, grad_tables, grad_tau.sum() if tau.ndim == 0 else grad_tau


@torch.library.register_fake("hasten::maddness_soft_backward")
def _soft_backward_shape(
    grad: Tensor, x: Tensor, split_dims: Tensor, thresholds: Tensor, tables: Tensor, tau: Tensor, *others: object
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _zeros(x), _zeros(thresholds), _zeros(tables), _zeros(tau)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:5], output[1])
    ctx.hard = inputs[5]
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Tensor | None, ...]:
    grads = torch.ops.hasten.maddness_soft_backward(grad, *ctx.saved_tensors, ctx.hard)
    return grads[0], None, *grads[1:], None


torch.library.register_autograd("hasten::maddness_soft", _backward, setup_context=_keep)


def _zeros(like: Tensor) -> Tensor:
    return torch.zeros(like.shape, dtype=like.dtype, device=like.device)  # contiguous, as a traced graph expects


def _blocks(rows: int, thresholds: Tensor) -> list[slice]:
    """Slices of rows whose (C, K, rows) tensors stay small."""
    step = max(1, BLOCK // (thresholds.shape[0] * (thresholds.shape[1] + 1)))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def _soft_signs(x: Tensor, split_dims: Tensor, thresholds: Tensor, tau: Tensor) -> tuple[Tensor, Tensor]:
    """`h` and `tanh(h / tau)`, both (C, K - 1, N)."""
    codebooks, levels = split_dims.shape
    columns = x.t().index_select(0, split_dims.flatten()).view(codebooks, levels, 1, -1)
    h = [columns[:, i] - thresholds[:, (1 << i) - 1 : (2 << i) - 1, None] for i in range(levels)]
    both = torch.cat(h, 1)
    return both, torch.tanh(both / tau.reshape(-1, 1, 1))


def _soft_leaves(sign: Tensor) -> Tensor:
    """Softmax of the leaves' logits: (C, K, N) from signs (C, K - 1, N), the tree expanded level by level."""
    logits = torch.zeros_like(sign[:, :1])
    while (width := logits.shape[1]) <= sign.shape[1]:
        level = sign[:, width - 1 : 2 * width - 1]
        logits = torch.stack([logits - level, logits + level], dim=2).flatten(1, 2)
    return torch.softmax(logits, dim=1)


def _nodes_from_leaves(grad_logit: Tensor) -> Tensor:
    """Transpose of the expansion: (C, K - 1, N) from (C, K, N); each node gets right subtree minus left subtree."""
    levels = []
    while grad_logit.shape[1] > 1:
        left, right = grad_logit[:, 0::2], grad_logit[:, 1::2]
        levels.append(right - left)
        grad_logit = left + right
    return torch.cat(levels[::-1], dim=1)
