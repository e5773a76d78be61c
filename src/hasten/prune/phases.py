"""The four phases of training with masks that change, as plain functions: when, how many, which, and what grows again.

Nothing here knows a model or an optimizer; `SparseController` calls them in turn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from .._core.checks import refuse
from . import allocate
from .patterns import Pattern
from .schedules import Schedule
from .select import keep_largest, keep_largest_each

__all__ = [
    "ALLOCATORS", "REGROWTHS", "SCORERS", "Allocator", "Regrowth", "Scorer", "at_random", "by_gradient", "choose",
    "due", "exchange", "magnitude", "saliency",
]  # fmt: skip

Allocator = Callable[[Mapping[str, Sequence[int]], float], Mapping[str, float]]
Scorer = Callable[[Tensor, Tensor | None], Tensor]
Regrowth = Callable[[Tensor, Tensor | None, torch.Generator], Tensor]


def magnitude(weight: Tensor, gradient: Tensor | None = None) -> Tensor:
    """`|w|`."""
    return weight.abs()


def saliency(weight: Tensor, gradient: Tensor | None) -> Tensor:
    """`|w * g|`: how much the loss would change to first order."""
    if gradient is None:
        raise refuse("prune, scorer 'saliency'", "a gradient", "none", "Start dense: a schedule from 1.")
    return (weight * gradient).abs()


def by_gradient(weight: Tensor, gradient: Tensor | None, generator: torch.Generator) -> Tensor:
    """Regrowth where the loss would fall fastest: `|g|`; a parameter without a gradient has none."""
    return torch.zeros_like(weight) if gradient is None else gradient.abs()


def at_random(weight: Tensor, gradient: Tensor | None, generator: torch.Generator) -> Tensor:
    """Regrowth anywhere with equal chance."""
    return torch.rand(weight.shape, generator=generator).to(weight.device)


SCORERS: dict[str, Scorer] = {"magnitude": magnitude, "saliency": saliency}
REGROWTHS: dict[str, Regrowth] = {"gradient": by_gradient, "random": at_random}
ALLOCATORS: dict[str, Allocator | None] = {"global": None, "uniform": allocate.uniform, "erk": allocate.erk}


def due(t: float, T: float, every: int, schedule: Schedule) -> bool:
    """Whether masks change after step `t`: at multiples of `every` before the end, and where `schedule` arrives.

    The last projection is never missed: it comes at the first `t` with the density of `schedule(T, T)`.

    >>> from hasten.prune.schedules import cubic
    >>> [t for t in range(1, 21) if due(t, 20, 8, cubic(0.1, end=0.5))]
    [8, 10, 16]
    """
    final = schedule(T, T)
    arrives = schedule(t, T) == final and schedule(max(0, t - 1), T) != final
    return bool(arrives or (t % every == 0 and 0 < t < T))


def choose(
    scores: Mapping[str, Tensor], density: float, pattern: Pattern, allocator: Allocator | None
) -> dict[str, Tensor]:
    """Masks of exactly `round(density * units)` units over all tensors.

    Args:
        scores: by name; -inf is kept last.
        density: share of the units to keep, in (0, 1].
        pattern: what the units are. One with a density of its own (2:4) is dense above it and itself at or below.
        allocator: `(shapes, density) -> densities` by name; None compares scores over all tensors.
    """
    if pattern.density is not None:
        dense = density > pattern.density and not math.isclose(density, pattern.density)
        return {n: torch.ones_like(s, dtype=torch.bool) if dense else pattern.project(s) for n, s in scores.items()}
    units = {name: pattern.units(score) for name, score in scores.items()}
    keep = round(density * sum(unit.numel() for unit in units.values()))
    if allocator is None:
        kept = keep_largest(list(units.values()), keep, names=list(units))
    else:
        densities = allocator({name: tuple(score.shape) for name, score in scores.items()}, density)
        counts = allocate.counts({name: tuple(unit.shape) for name, unit in units.items()}, densities, keep)
        kept = keep_largest_each(list(units.values()), [counts[name] for name in units])
    return {name: pattern.spread(mask, scores[name].shape) for name, mask in zip(units, kept, strict=True)}


def exchange(score: Tensor, growth: Tensor, mask: Tensor, rate: float, pattern: Pattern) -> Tensor:
    """The mask after the `ceil(rate * kept)` units of the lowest scores gave way to as many of the highest growth.

    A unit that has just been dropped may be the one that grows: it stays as it is.

    Args:
        score, growth: of the mask's shape.
        mask: what is kept now.
        rate: share of the kept units to exchange, in [0, 1].
        pattern: what the units are.

    >>> from hasten.prune.patterns import Unstructured
    >>> score, growth = torch.tensor([3.0, 1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0, 2.0])
    >>> exchange(score, growth, torch.tensor([True, True, False, False]), 0.5, Unstructured())
    tensor([ True, False, False,  True])
    """
    live = pattern.units(mask.to(score.dtype)) > 0
    count = int(live.sum())
    moved = math.ceil(rate * count)
    if not moved:
        return mask
    scores = pattern.units(score).masked_fill(~live, -math.inf)
    kept = keep_largest([scores], count - moved)[0]
    grown = keep_largest([pattern.units(growth).masked_fill(kept, -math.inf)], moved)[0]
    return pattern.spread(kept | grown, mask.shape)
