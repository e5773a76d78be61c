"""Published ways to train with changing masks, as settings of `SparseController`.

    method    density                   which go      which come          exchanged at an update
    gmp       cubic, 1 to the final     magnitude     -                   -
    set_      constant                  magnitude     at random           0.3
    rigl      constant                  magnitude     largest gradient    cosine, 0.3 to 0 at 3/4 of the run
    granet    cubic, initial to final   magnitude     largest gradient    cosine, 0.5 to 0.005

How much is kept in the end is asked as everywhere, by one of `compression=` (of the whole model) and `sparsity=` (of
the prunable entries). What differs from the published code: exact budgets, exact-k random masks instead of draws, the
optimizer's whole state is masked, the last projection is never missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .._core.checks import check
from .._core.rng import stream
from .allocate import erk, fraction_to_keep
from .controller import SparseController
from .patterns import Pattern, parse
from .phases import choose
from .schedules import constant, cosine, cubic
from .targets import find

__all__ = ["final_density", "gmp", "granet", "random_masks", "rigl", "set_"]

Ignore = str | nn.Module | Sequence[str | nn.Module]


def final_density(
    model: nn.Module,
    *,
    compression: float | None = None,
    sparsity: float | None = None,
    pattern: str | Pattern = "unstructured",
    ignore: Ignore = (),
    call: str = "prune.final_density",
) -> float:
    """The density of what a pattern covers that makes the whole model `compression` times smaller.

    Raises:
        ValueError: not exactly one of the two; more than can be reached, with the maximum.
    """
    targets, form = find(model, ignore, call=call), parse(pattern)
    covered = sum(p.numel() for p in targets.parameters.values() if form.covers(p.shape))
    return fraction_to_keep(targets.total, covered, compression=compression, sparsity=sparsity, call=call)


def random_masks(
    model: nn.Module, density: float, *, pattern: str | Pattern = "unstructured", ignore: Ignore = (), seed: int = 0
) -> dict[str, Tensor]:
    """Random masks with ERK densities: exactly `round(density * units)` are kept over all tensors."""
    form = parse(pattern)
    scores = {
        name: torch.rand(p.shape, generator=stream(seed, f"prune.random_masks/{name}")).to(p.device)
        for name, p in find(model, ignore, call="prune.random_masks").parameters.items()
        if form.covers(p.shape)
    }
    return choose(scores, density, form, erk)


def gmp(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    compression: float | None = None,
    sparsity: float | None = None,
    start: float = 0.2,
    end: float = 0.8,
    every: int = 100,
    allocator: str = "global",
    pattern: str | Pattern = "unstructured",
    ignore: Ignore = (),
    **options: Any,
) -> SparseController:
    """Gradual magnitude pruning: dense at `start`, fewer and fewer weights on a cubic schedule until `end`.

    Args:
        model, optimizer, pattern, ignore, options: of `SparseController`.
        compression, sparsity: what is asked for in the end, one of them.
        start, end: shares of the run.
        every: steps between updates.
        allocator: "global", "uniform" or "erk".

    Source: arXiv 1710.01878.
    """
    density = final_density(
        model, compression=compression, sparsity=sparsity, pattern=pattern, ignore=ignore, call="prune.gmp"
    )
    schedule = cubic(density, start=start, end=end)
    return SparseController(model, optimizer, pattern, allocator, schedule, every=every, ignore=ignore, **options)


def set_(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    compression: float | None = None,
    sparsity: float | None = None,
    rate: float = 0.3,
    every: int = 100,
    pattern: str | Pattern = "unstructured",
    ignore: Ignore = (),
    seed: int = 0,
    **options: Any,
) -> SparseController:
    """Sparse evolutionary training: ERK masks from the start; the smallest weights give way to random ones.

    Args:
        model, optimizer, pattern, ignore, seed, options: of `SparseController`.
        compression, sparsity: one of them.
        rate: share of each tensor's weights exchanged at an update.
        every: steps between updates.

    Source: arXiv 1707.04780.
    """
    density = final_density(
        model, compression=compression, sparsity=sparsity, pattern=pattern, ignore=ignore, call="prune.set_"
    )
    initial = random_masks(model, density, pattern=pattern, ignore=ignore, seed=seed)
    return SparseController(
        model, optimizer, pattern, "erk", constant(density), regrow="random", rate=constant(rate), every=every,
        initial=initial, ignore=ignore, seed=seed, **options,
    )  # fmt: skip


def rigl(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    compression: float | None = None,
    sparsity: float | None = None,
    rate: float = 0.3,
    end: float = 0.75,
    every: int = 100,
    pattern: str | Pattern = "unstructured",
    ignore: Ignore = (),
    seed: int = 0,
    **options: Any,
) -> SparseController:
    """RigL: ERK masks from the start; the smallest weights give way to those with the largest gradients.

    Args:
        model, optimizer, pattern, ignore, seed, options: of `SparseController`.
        compression, sparsity: one of them.
        rate: share of each tensor's weights exchanged at the first updates; it falls to 0 at `end`.
        end: share of the run after which masks stay.
        every: steps between updates.

    Source: arXiv 1911.11134.
    """
    density = final_density(
        model, compression=compression, sparsity=sparsity, pattern=pattern, ignore=ignore, call="prune.rigl"
    )
    initial = random_masks(model, density, pattern=pattern, ignore=ignore, seed=seed)
    return SparseController(
        model, optimizer, pattern, "erk", constant(density), regrow="gradient", rate=cosine(rate, end=end),
        every=every, initial=initial, ignore=ignore, seed=seed, **options,
    )  # fmt: skip


def granet(
    model: nn.Module,
    optimizer: Optimizer,
    *,
    compression: float | None = None,
    sparsity: float | None = None,
    initial_density: float = 0.5,
    start: float = 0.0,
    end: float = 0.75,
    rate: float = 0.5,
    every: int = 1000,
    pattern: str | Pattern = "unstructured",
    ignore: Ignore = (),
    seed: int = 0,
    **options: Any,
) -> SparseController:
    """GraNet: gradual global magnitude pruning, and at each update a part of every tensor's weights grows anew.

    Args:
        model, optimizer, pattern, ignore, seed, options: of `SparseController`.
        compression, sparsity: what is asked for in the end, one of them.
        initial_density: 1 starts dense, below 1 from ERK masks; above the final density.
        start, end: shares of the run between which the density falls; weights are exchanged until its end.
        rate: share of each tensor's weights exchanged at the first updates; it falls to 0.005.
        every: steps between updates.

    Source: arXiv 2106.10404.
    """
    call = "prune.granet"
    density = final_density(
        model, compression=compression, sparsity=sparsity, pattern=pattern, ignore=ignore, call=call
    )
    fix = "1 starts dense."
    check(density <= initial_density <= 1, call, f"initial_density in [{density:.4g}, 1]", initial_density, fix)
    dense = initial_density == 1
    initial = None if dense else random_masks(model, initial_density, pattern=pattern, ignore=ignore, seed=seed)
    return SparseController(
        model, optimizer, pattern, "global", cubic(density, initial_density, start, end), regrow="gradient",
        rate=cosine(rate, 0.005), every=every, initial=initial, ignore=ignore, seed=seed, **options,
    )  # fmt: skip
