"""Exactly k entries, the largest first: no threshold decides, so equal scores never break a budget.

The order is total: a larger score wins, then the earlier tensor, then the lower flat index (row-major). So the same
scores give the same masks on every platform, and k + 1 entries are the k entries and one more: masks are nested.

How: floats are read as integers of the same order, and the k-th largest is found 11 bits at a time by counting how
often each value of these bits occurs: three passes over float32, six over float64. The floor is to read every score
once, and another time for the masks; this reads them four times. Nothing is sorted and nothing is copied as a whole:
beyond the scores and the masks it needs 16 bytes for each entry of a piece. On a CPU a piece fits into a cache and is
too small for torch to share among threads, whose meetings would cost more than they save, on a busy machine far more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .._core.checks import check, describe, refuse, refuse_type

__all__ = ["keep_largest", "keep_largest_each", "keep_per_row"]

PIECE = 1 << 15  # entries looked at together on a CPU: torch's grain, up to which an operation stays on one thread
PIECE_ELSEWHERE = 1 << 24
DIGIT = 11  # bits counted in a pass: 2,048 counters


def keep_largest(scores: Sequence[Tensor], k: int, *, names: Sequence[str] | None = None) -> list[Tensor]:
    """Masks that keep exactly the `k` largest entries over all tensors; ties go to the earlier one.

    Args:
        scores: tensors of floats of any shapes and devices; infinities are allowed, and -0 is 0.
        k: 0 to the number of entries.
        names: what errors call the tensors; None: their places.

    Returns:
        One bool mask per tensor, of its shape, on its device.

    Raises:
        ValueError: a score is NaN, `k` is out of range.
        TypeError: a tensor is not of 16, 32 or 64-bit floats.

    >>> keep_largest([torch.tensor([0.1, 0.9]), torch.tensor([0.2, 0.9, 0.9])], 2)
    [tensor([False,  True]), tensor([False,  True, False])]
    """
    call, total = "prune.keep_largest", sum(score.numel() for score in scores)
    if isinstance(k, bool) or not isinstance(k, int) or not 0 <= k <= total:
        raise refuse(call, f"k from 0 to {total}, the number of scores", describe(k))
    names = [f"tensor {i}" for i in range(len(scores))] if names is None else names
    for name, score in zip(names, scores, strict=True):
        if score.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            raise refuse_type(call, "scores of 16, 32 or 64-bit floats", f"{name}: {describe(score)}")
        if score.numel() and bool(score.detach().amax().isnan()):
            raise refuse(call, "scores without NaN", f"NaN in {name}", "Score with finite weights and gradients.")
    masks = [torch.zeros(score.shape, dtype=torch.bool, device=score.device) for score in scores]
    if not k:
        return masks
    flat, kept = [score.detach().reshape(-1) for score in scores], [mask.view(-1) for mask in masks]
    if total > PIECE or len({(score.device, score.dtype) for score in scores}) > 1:
        _mark(flat, kept, k)
    else:  # many small tensors are one piece
        whole = torch.cat(flat)
        _mark([whole], [marked := torch.zeros_like(whole, dtype=torch.bool)], k)
        for mask, part in zip(kept, marked.split([len(mask) for mask in kept]), strict=True):
            mask.copy_(part)
    return masks


def keep_largest_each(scores: Sequence[Tensor], counts: Sequence[int]) -> list[Tensor]:
    """Masks that keep exactly `counts[i]` entries of the i-th tensor; see `keep_largest`.

    >>> keep_largest_each([torch.tensor([0.1, 0.9]), torch.tensor([0.2, 0.9, 0.9])], [1, 2])
    [tensor([False,  True]), tensor([False,  True,  True])]
    """
    return [keep_largest([score], count)[0] for score, count in zip(scores, counts, strict=True)]


def keep_per_row(score: Tensor, k: int) -> Tensor:
    """A mask that keeps exactly the `k` largest entries along the last dimension; ties go to the lower index.

    Args:
        score: floats, (..., columns).
        k: 0 to the number of columns.

    Returns:
        A bool mask of the same shape and device.

    Raises:
        ValueError: a score is NaN, `k` is out of range.

    >>> keep_per_row(torch.tensor([[3.0, 1.0, 2.0, 0.0], [1.0, 1.0, 1.0, 1.0]]), 2)
    tensor([[ True, False,  True, False],
            [ True,  True, False, False]])
    """
    call, columns = "prune.keep_per_row", score.shape[-1]
    if isinstance(k, bool) or not isinstance(k, int) or not 0 <= k <= columns:
        raise refuse(call, f"k from 0 to {columns}, the entries of a row", describe(k))
    check(not (score.numel() and bool(score.detach().amax().isnan())), call, "scores without NaN", score)
    mask = torch.zeros(score.shape, dtype=torch.bool, device=score.device)
    rows, kept = score.detach().reshape(-1, columns), mask.view(-1, columns)
    for start in range(0, rows.shape[0] if k else 0, max(1, PIECE // columns)):  # sorting costs 8 bytes an entry
        piece = slice(start, start + max(1, PIECE // columns))
        best = rows[piece].argsort(dim=1, descending=True, stable=True)[:, :k]
        kept[piece].scatter_(1, best, True)
    return mask


def _mark(scores: Sequence[Tensor], masks: Sequence[Tensor], k: int) -> None:
    """Set the masks (flat, all False) at the `k` largest scores (flat)."""
    bits = 64 if any(score.dtype == torch.float64 for score in scores) else 32
    limit, above = _kth(scores, k, bits)
    ties = k - above
    for score, mask in _pieces(scores, masks):
        keys = _keys(score, bits)
        torch.gt(keys, limit, out=mask)
        if ties:
            equal = (keys == limit).nonzero().view(-1)[:ties]
            mask[equal] = True
            ties -= len(equal)


def _kth(scores: Sequence[Tensor], k: int, bits: int) -> tuple[int, int]:
    """The key of the `k`-th largest score, and how many scores are larger."""
    known, above = None, 0  # the key's leading bits, and how many keys have larger ones
    shift = bits
    while shift:
        width = min(DIGIT, shift)
        shift -= width
        lowest = (
            -(1 << width - 1) if known is None else known << width
        )  # the least that the bits from `shift` on can be
        counts = torch.zeros(1 << width, dtype=torch.int64)
        for score, _ in _pieces(scores, scores):
            leading = _keys(score, bits) >> shift
            digit = leading - lowest
            if known is not None:  # the others are counted as one more digit, which is cheaper than taking them out
                digit = torch.where(leading >> width == known, digit, 1 << width)
            counts += torch.bincount(digit, minlength=1 << width).cpu()[: 1 << width]
        reached = above + counts.flip(0).cumsum(0)  # keys of at least this digit, from the largest digit down
        place = int(torch.searchsorted(reached, k))
        above = int(reached[place] - counts.flip(0)[place])
        known = lowest + (1 << width) - 1 - place
    assert known is not None
    return known, above


def _keys(score: Tensor, bits: int) -> Tensor:
    """Floats as signed integers of the same order; +0 and -0 are one."""
    same = score.to(torch.float64 if bits == 64 else torch.float32) + 0.0
    key = same.view(torch.int64 if bits == 64 else torch.int32)
    return key ^ ((key >> bits - 1) & (1 << bits - 1) - 1)


def _pieces(scores: Sequence[Tensor], masks: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    for score, mask in zip(scores, masks, strict=True):
        size = PIECE if score.device.type == "cpu" else PIECE_ELSEWHERE
        yield from zip(score.split(size), mask.split(size), strict=True)
