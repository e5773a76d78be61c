"""From scores to masks: exactly as many entries as are asked for, by scope and pattern.

    global   the largest scores of all tensors
    layer    of each tensor the same share
    row      of each output the same share (counts of rows differ by at most one); biases are kept

Tensors that a pattern does not cover are kept whole, and what they take is taken from the budget. Entries that a model
has masked already stay masked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from .._core.checks import check, refuse
from .patterns import Pattern, Unstructured
from .select import keep_largest, keep_largest_each, keep_per_row

__all__ = ["SCOPES", "choose", "keep_rows", "without"]

SCOPES = ("global", "layer", "row")
Scores = Mapping[str, Tensor]


def choose(
    scores: Scores, keep: int, *, scope: str, pattern: Pattern, masks: Scores | None = None, call: str = "prune.compute"
) -> dict[str, Tensor]:
    """Masks that keep exactly `keep` entries of all scores (with blocks, within half a block).

    Args:
        scores: by name of parameter; larger is kept. Minus infinity (`without`) where `masks` is False.
        keep: how many; not looked at where the pattern fixes the density.
        scope: "global", "layer" or "row".
        pattern: of `patterns`.
        masks: entries that are masked already, by name: they stay so.
        call: what an error calls the caller.

    Raises:
        ValueError: what the pattern keeps in any case is more than `keep`; more is asked for than is left.

    >>> choose({"a": torch.tensor([1.0, 9.0]), "b": torch.tensor([2.0, 3.0])}, 2, scope="layer", pattern=Unstructured())
    {'a': tensor([False,  True]), 'b': tensor([False,  True])}
    """
    masks = {} if masks is None else masks
    covered = {name: score for name, score in scores.items() if pattern.covers(score.shape)}
    if scope == "row":
        covered = {name: score for name, score in covered.items() if score.ndim > 1}
    found = {name: _whole(score, masks.get(name)) for name, score in scores.items() if name not in covered}
    for name, score in covered.items():
        pattern.check(name, score.shape)
    if pattern.density is not None:
        kept = {name: pattern.project(score) for name, score in covered.items()}
    else:
        keep -= sum(int(mask.sum()) for mask in found.values())
        kept = _within(covered, keep, scope, pattern, masks, call)
    found |= {name: mask if name not in masks else mask & masks[name] for name, mask in kept.items()}
    return {name: found[name] for name in scores}


def _within(
    scores: dict[str, Tensor], keep: int, scope: str, pattern: Pattern, masks: Scores, call: str
) -> dict[str, Tensor]:
    """Masks of the tensors that the pattern covers."""
    units = {name: pattern.units(score) for name, score in scores.items()}
    size = sum(score.numel() for score in scores.values()) / max(1, sum(unit.numel() for unit in units.values()))
    alive = {name: int((~unit.isneginf()).sum()) if name in masks else unit.numel() for name, unit in units.items()}
    keep = _checked(round(keep / size), sum(alive.values()), pattern, scope, call)
    if scope == "global":
        kept = keep_largest(list(units.values()), keep, names=list(units))
    else:
        numbers = shares({name: unit.numel() for name, unit in units.items()}, alive, keep)
        if scope == "row" and isinstance(pattern, Unstructured):
            kept = [keep_rows(unit.flatten(1), numbers[name]).view(unit.shape) for name, unit in units.items()]
        else:
            kept = keep_largest_each(list(units.values()), list(numbers.values()))
    return {name: pattern.spread(mask, scores[name].shape) for name, mask in zip(units, kept, strict=True)}


def _checked(keep: int, most: int, pattern: Pattern, scope: str, call: str) -> int:
    if keep < 0:
        what = f"a ratio that leaves room for the biases, which {pattern} by {scope} keeps"
        raise refuse(call, what, f"{-keep} entries too few", "Ask for a lower ratio, or leave layers out.")
    fix = "Ask for a higher ratio, or take the masks off (prune.finalize keeps zeros, but forgets the masks)."
    check(keep <= most, call, f"at most {most:,} entries to keep, as the others are masked already", keep, fix)
    return keep


def shares(sizes: Mapping[str, int], alive: Mapping[str, int], keep: int) -> dict[str, int]:
    """The same share of each size, as whole numbers that add up to `keep`; none takes more than is alive.

    Each size times one density, rounded; the density is found by bisection, and what it leaves goes to the first of
    those that round up next. So no count falls when `keep` grows: masks of one share per layer are nested.

    >>> shares({"a": 3, "b": 3, "c": 4}, {"a": 3, "b": 3, "c": 4}, 5)
    {'a': 2, 'b': 1, 'c': 2}
    """

    def rounded(density: float) -> dict[str, int]:
        return {name: min(alive[name], math.floor(density * size + 0.5)) for name, size in sizes.items()}

    low, high = 0.0, 2.0
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if sum(rounded(middle).values()) <= keep else (low, middle)
    found, more = rounded(low), rounded(high)
    missing = keep - sum(found.values())
    for name in [name for name in sizes if more[name] > found[name]][:missing]:
        found[name] += 1
    return found


def keep_rows(score: Tensor, keep: int) -> Tensor:
    """A mask that keeps exactly `keep` entries, of every row the same number: the first rows have one more.

    Rows with too few entries above minus infinity leave theirs to the largest of the others.

    >>> keep_rows(torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]), 3)
    tensor([[False,  True,  True],
            [False, False,  True]])
    """
    each, more = divmod(keep, score.shape[0])
    parts = [keep_per_row(score[:more], each + 1)] if more else []
    mask = torch.cat([*parts, keep_per_row(score[more:], each)])
    mask &= ~score.isneginf()
    missing = keep - int(mask.sum())
    return mask if not missing else mask | keep_largest([score.masked_fill(mask, float("-inf"))], missing)[0]


def without(score: Tensor, mask: Tensor | None) -> Tensor:
    """The scores, minus infinity where the mask is False."""
    return score if mask is None else score.masked_fill(~mask.to(score.device), float("-inf"))


def _whole(score: Tensor, mask: Tensor | None) -> Tensor:
    return torch.ones(score.shape, dtype=torch.bool, device=score.device) if mask is None else mask.clone()
