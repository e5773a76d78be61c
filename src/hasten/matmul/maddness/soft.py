"""Trees and tables that learn: a hard choice of leaf forward, a soft one backward (straight-through).

With `h = x[dim] - threshold` at each of the `K - 1` nodes of a codebook's tree and a path matrix `P` of shape
(K, K - 1) that holds +1 where a leaf lies right of a node, -1 where it lies left and 0 off its path:

    s = sign(h)          forward (h <= 0 and NaN are -1, as in the encoder); backward as if s = tanh(h / tau)
    z = P s              logits of the leaves: the reached leaf has log2 K, every other one less
    E = one_hot(argmax z) forward; backward as if E = softmax(z)
    out[n, m] = sum over codebooks c and leaves k of E[n, c, k] T[m, c, k]

`hard=False` leaves out both straight-through steps (s = tanh, E = softmax): a smooth function, whose exact gradient the
backward pass is. All leaves get a gradient, not only those reached, so a threshold can move either way.

Here this is said with autograd: `soft_matmul_naive` holds several (N, C, K - 1) and (N, C, K) tensors until the
backward pass. Layers train with `fused.soft_matmul`, which does not.

Source: arXiv:2106.10860 (trees and tables); the straight-through path follows arXiv:2311.10207.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._core.checks import check, refuse, refuse_type
from .trees import LEAVES

__all__ = [
    "check_soft", "hard_encode", "lookup", "node_dims", "path_matrix", "soft_assignment", "soft_matmul_naive",
    "straight_through_tables",
]  # fmt: skip


def path_matrix(
    leaves: int,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Which way each leaf lies from each node: the matrix `P` of the essay above.

    Args:
        leaves: K, a power of two of at least 2.
        dtype: of the result.

    Returns:
        (K, K - 1), nodes in heap order: node `p` of level `l` at `2**l - 1 + p`; -1 left, +1 right, 0 off the path.

    >>> path_matrix(4).int().tolist()
    [[-1, -1, 0], [-1, 1, 0], [1, 0, -1], [1, 0, 1]]
    """
    levels = _levels(leaves)
    matrix = torch.zeros(leaves, leaves - 1, dtype=dtype)
    leaf = torch.arange(leaves)
    for level in range(levels):
        node = (1 << level) - 1 + (leaf >> (levels - level))
        matrix[leaf, node] = ((leaf >> (levels - level - 1)) & 1).to(dtype) * 2 - 1
    return matrix


def node_dims(
    split_dims: Tensor,  # (C, L) integer
) -> Tensor:
    """The column that each node looks at, in heap order.

    Args:
        split_dims: (C, L), the column of each level.

    Returns:
        (C, 2**L - 1) int64.

    >>> node_dims(torch.tensor([[7, 2]])).tolist()
    [[7, 2, 2]]
    """
    repeats = torch.tensor([1 << level for level in range(split_dims.shape[1])], device=split_dims.device)
    return split_dims.long().repeat_interleave(repeats, dim=1)


def hard_encode(
    x: Tensor,  # (N, D)
    split_dims: Tensor,  # (C, L)
    thresholds: Tensor,  # (C, K - 1)
) -> Tensor:
    """The leaf that each row reaches in each tree, without a gradient.

    `x > threshold` goes right, so equality and NaN go left. Works on any device; equal to the encoder of the packed
    layer where `x` and `thresholds` are the same numbers.

    Args:
        x: rows, floating point (bfloat16 and float16 are widened exactly by the comparison).
        split_dims: column of each level.
        thresholds: in heap order.

    Returns:
        (N, C) int64, in [0, K).

    >>> hard_encode(torch.tensor([[0.0], [2.0]]), torch.tensor([[0, 0]]), torch.tensor([[1.0, 0.5, 3.0]])).tolist()
    [[0], [2]]
    """
    codebooks, levels = split_dims.shape
    columns = x.detach().index_select(1, split_dims.flatten()).view(-1, codebooks, levels)
    codes = torch.zeros(x.shape[0], codebooks, dtype=torch.int64, device=x.device)
    first = torch.arange(codebooks, device=x.device) * thresholds.shape[1]  # of each tree, in the flat thresholds
    flat = thresholds.detach().flatten()
    for level in range(levels):
        threshold = flat[first + ((1 << level) - 1) + codes]
        codes = 2 * codes + (columns[:, :, level] > threshold)
    return codes


def lookup(
    codes: Tensor,  # (N, C) int64
    tables: Tensor,  # (M, C, K)
) -> Tensor:
    """Sum the tables' entries: `out[n, m] = sum over c of tables[m, c, codes[n, c]]`.

    Args:
        codes: leaves, in [0, K).
        tables: floating point.

    Returns:
        (N, M), the dtype of `tables`.

    >>> lookup(torch.tensor([[1, 0]]), torch.tensor([[[1.0, 2.0], [10.0, 20.0]]])).tolist()
    [[12.0]]
    """
    outputs, codebooks, leaves = tables.shape
    if codes.shape[0] == 0:  # embedding_bag refuses an empty batch
        return tables.new_zeros(0, outputs)
    rows = codes + torch.arange(codebooks, device=codes.device) * leaves
    return F.embedding_bag(rows, tables.reshape(outputs, -1).t().contiguous(), mode="sum")


def straight_through_tables(
    tables: Tensor,  # (M, C, K)
    shared: bool = False,
) -> Tensor:
    """Tables rounded to 8 bits forward, untouched backward, so that training sees what freezing will do.

    Args:
        tables: floating point.
        shared: one scale for all outputs instead of one for each.

    Returns:
        Rounded tables of the same shape and dtype; at most half a step (1/510 of the widest codebook's range) away.

    >>> straight_through_tables(torch.tensor([[[0.0, 0.3, 255.0]]])).tolist()
    [[[0.0, 0.0, 255.0]]]
    """
    with torch.no_grad():
        exact = tables.double()  # the arithmetic of make_tables, so that freezing gives these very entries
        low, high = torch.aminmax(exact, dim=2, keepdim=True)  # (M, C, 1)
        if shared:
            low, high = low.amin(0, keepdim=True), high.amax(0, keepdim=True)
        scale = ((high - low).amax(dim=1, keepdim=True) / 255).float().double()
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        rounded = (torch.floor((exact - low) / scale + 0.5).clamp_(0, 255) * scale + low).to(tables.dtype)
    return tables + (rounded - tables).detach()


def soft_assignment(
    x: Tensor,  # (N, D)
    split_dims: Tensor,  # (C, L)
    thresholds: Tensor,  # (C, K - 1)
    tau: Tensor,  # () or (C,)
    hard: bool = True,
) -> Tensor:
    """How much each row belongs to each leaf, by plain autograd: the definition of the essay above.

    Args:
        x: rows, floating point.
        split_dims: column of each level.
        thresholds: in heap order; learnable.
        tau: width of the soft sign, in units of `x`, above 0; one for all codebooks or one for each; learnable.
        hard: one-hot values with soft gradients; False gives the smooth function.

    Returns:
        (N, C, K); rows of a codebook sum to 1.

    >>> x, dims = torch.tensor([[0.0], [2.0]]), torch.tensor([[0, 0, 0, 0]])
    >>> soft_assignment(x, dims, torch.ones(1, 15), torch.tensor(1.0)).argmax(-1).tolist()
    [[0], [15]]
    """
    h = x[:, node_dims(split_dims)] - thresholds
    soft_sign = torch.tanh(h / tau.reshape(-1, 1))
    if not hard:
        return torch.softmax(soft_sign @ path_matrix(h.shape[-1] + 1, h.dtype).to(h.device).t(), dim=-1)
    # The parentheses make `soft - soft` an exact zero, so that values are exact signs and exact one-hot rows.
    sign = torch.where(x[:, node_dims(split_dims)] > thresholds, 1.0, -1.0).to(h.dtype) + (
        soft_sign - soft_sign.detach()
    )
    soft = torch.softmax(sign @ path_matrix(h.shape[-1] + 1, h.dtype).to(h.device).t(), dim=-1)
    one_hot = F.one_hot(hard_encode(x, split_dims, thresholds), soft.shape[-1]).to(soft.dtype)
    return one_hot + (soft - soft.detach())


def soft_matmul_naive(
    x: Tensor,  # (N, D)
    split_dims: Tensor,  # (C, L)
    thresholds: Tensor,  # (C, K - 1)
    tables: Tensor,  # (M, C, K)
    tau: Tensor,  # () or (C,)
    hard: bool = True,
) -> Tensor:
    """The slow, obvious form of `soft_matmul`, for comparison: same arguments, values and gradients.

    Returns:
        (N, M).

    >>> dims, thresholds, tables = torch.zeros(1, 4, dtype=torch.int32), torch.zeros(1, 15), torch.arange(16.0)
    >>> soft_matmul_naive(torch.tensor([[1.0]]), dims, thresholds, tables.view(1, 1, 16), torch.tensor(1.0)).tolist()
    [[15.0]]
    """
    check_soft("soft_matmul_naive", x, split_dims, thresholds, tables, tau)
    return torch.einsum("nck,mck->nm", soft_assignment(x, split_dims, thresholds, tau, hard), tables)


def _levels(leaves: int) -> int:
    if isinstance(leaves, bool) or leaves < 2 or leaves & (leaves - 1):
        raise refuse("path_matrix", "a power of two of at least 2 for leaves", leaves, "Pass leaves=16, 32 or 64.")
    return leaves.bit_length() - 1


def check_soft(call: str, x: Tensor, split_dims: Tensor, thresholds: Tensor, tables: Tensor, tau: Tensor) -> None:
    """Refuse what are no arguments of a soft product, in the name of `call`."""
    if x.ndim != 2:
        raise refuse(call, "x of shape (N, D)", x, "Flatten the leading dimensions: x.flatten(0, -2).")
    if split_dims.ndim != 2 or split_dims.is_floating_point():
        raise refuse(
            call, "integer split_dims of shape (C, L)", split_dims, "Pass the split_dims_ of a fitted Maddness."
        )
    codebooks, leaves = split_dims.shape[0], 1 << split_dims.shape[1]
    fits = thresholds.shape == (codebooks, leaves - 1) and tables.ndim == 3 and tables.shape[1:] == (codebooks, leaves)
    if not fits or leaves not in LEAVES:
        got = f"thresholds {tuple(thresholds.shape)} and tables {tuple(tables.shape)}"
        raise refuse(call, f"thresholds ({codebooks}, K - 1) and tables (M, {codebooks}, K), K = 2**L in {LEAVES}", got)
    check(tau.shape in ((), (codebooks,)), call, f"tau of shape () or ({codebooks},)", tau, "Pass one width for each.")
    dtypes = {t.dtype for t in (x, thresholds, tables, tau)}
    if len(dtypes) > 1 or not x.is_floating_point():
        fix = "Cast the rows: x.to(tables.dtype)."
        raise refuse_type(call, "x and parameters of one floating-point dtype", ", ".join(map(str, dtypes)), fix)
