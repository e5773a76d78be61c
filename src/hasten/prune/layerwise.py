"""Pruning layer by layer on calibration data, from the input to the output: Wanda, and SparseGPT, which also mends.

Each layer sees what the layers before it give once they are pruned. For one layer with inputs X (rows) the output
`X W^T` changes by the quadratic form of `H = X^T X`. SparseGPT goes through the columns in order: where column j of a
row is dropped, the columns after it take over what they can,

    w_k  <-  w_k - w_j [H^-1]_jk / [H^-1]_jj        with H over the columns from j on

which is the best there is for the one removed, and dropped are those that cost least, `w_j^2 / [H^-1]_jj`. Row j of the
upper Cholesky factor U of H^-1 gives all of it: `U_jj^2 = [H^-1]_jj` and `U_jk / U_jj`, so one factorization serves all
columns and all rows. Entries are chosen for a block of columns at a time (n:m: for m of them), so that they are
compared after what came before was mended.

The model is run once for each stage, up to the last layer of it: half as many passes as there are stages, in all.
Nothing of the activations is kept but sums of products.
"""

from __future__ import annotations

import contextlib
import fnmatch
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .._core.checks import positive, refuse, whole
from .choose import keep_rows, without
from .patterns import NM, Pattern, Unstructured
from .scores.activations import Sums, wanda, wide
from .scores.data import Data, inputs_of, undisturbed
from .scores.sites import Site, watch
from .select import keep_largest, keep_per_row

__all__ = ["Layerwise", "layerwise", "sparsegpt"]


@dataclass(frozen=True)
class Layerwise:
    """How layers are pruned one after the other.

    Args:
        mend: SparseGPT, which changes the weights that are kept; else Wanda.
        propagate: every stage sees what the pruned stages before it give; else all see the dense model.
        stages: pattern of module names (`"blocks.*"`) whose layers are pruned together, on what they got before any
            of them was pruned; None: each layer is a stage.
        damping: added to the diagonal of H, as a share of its mean; SparseGPT.
        block: columns that are chosen together; SparseGPT.
        owl: densities by outliers (`owl`), in place of the same for all.
        threshold, spread: of `owl`.
    """

    mend: bool = False
    propagate: bool = True
    stages: str | None = None
    damping: float = 0.01
    block: int = 128
    owl: bool = False
    threshold: float = 5.0
    spread: float = 0.08

    def __post_init__(self) -> None:
        whole("prune.sparsegpt", "block", self.block, low=1)
        positive("prune.sparsegpt", "damping", self.damping)


@torch.no_grad()
def sparsegpt(
    matrix: Tensor,
    hessian: Tensor,
    keep: int | NM,
    *,
    alive: Tensor | None = None,
    damping: float = 0.01,
    block: int = 128,
) -> tuple[Tensor, Tensor]:
    """Prune a matrix, and let the columns that are kept make up for those that are not.

    Args:
        matrix: (outputs, columns).
        hessian: (columns, columns), `X^T X` of the rows of inputs, times anything.
        keep: how many entries, or n of m neighbouring columns.
        alive: bool like the matrix; False: is dropped in any case. `keep` is at most what is alive.
        damping: added to the diagonal, as a share of its mean.
        block: columns that are chosen together.

    Returns:
        The new matrix, at least float32, 0 where it is not kept; and the mask. A column whose inputs are all 0 costs
        nothing to drop.

    Raises:
        ValueError: H is not positive definite even with the damping.

    >>> w, mask = sparsegpt(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 0.5], [0.5, 1.0]]), 1, damping=1e-6)
    >>> w, mask
    (tensor([[0.0000, 2.5000]]), tensor([[False,  True]]))

    Source: arXiv 2301.00774.
    """
    work = matrix.to(wide(matrix), copy=True)
    alive = torch.ones_like(work, dtype=torch.bool) if alive is None else alive
    silent = hessian.diagonal() == 0
    factor = _factor(hessian.to(work.dtype), silent, damping)
    mask = torch.zeros_like(alive)
    width = max(1, block // keep.m) * keep.m if isinstance(keep, NM) else block
    blocks = [slice(start, min(start + width, work.shape[1])) for start in range(0, work.shape[1], width)]
    lives = [int(alive[:, at].sum()) for at in blocks]
    budgets = _split(keep, lives) if isinstance(keep, int) else [keep] * len(blocks)
    for at, budget in zip(blocks, budgets, strict=True):
        # Views: what is changed in them stays.
        errors = _prune_block(work[:, at], factor[at, at], budget, alive[:, at], silent[at], mask[:, at])
        work[:, at.stop :] -= errors @ factor[at, at.stop :]
    return work.masked_fill_(~mask, 0), mask


def _prune_block(work: Tensor, factor: Tensor, keep: int | NM, alive: Tensor, silent: Tensor, mask: Tensor) -> Tensor:
    """Prune the columns of a block in place, and set its mask.

    Returns:
        What each column lost, over its diagonal entry of the factor: the columns after the block make up for it.
    """

    def scores(columns: slice) -> Tensor:
        cost = (work[:, columns] / factor.diagonal()[columns]).square_()
        return without(cost.masked_fill_(silent[columns], 0), alive[:, columns])

    if isinstance(keep, int):
        mask.copy_(keep_largest([scores(slice(None))], keep)[0])
    errors = torch.zeros_like(work)
    for j in range(work.shape[1]):
        if isinstance(keep, NM) and j % keep.m == 0:
            group = slice(j, j + keep.m)
            mask[:, group] = keep_per_row(scores(group), keep.n) & alive[:, group]
        errors[:, j] = work[:, j].masked_fill(mask[:, j], 0) / factor[j, j]
        work[:, j:] -= torch.outer(errors[:, j], factor[j, j:])
    return errors


def _factor(hessian: Tensor, silent: Tensor, damping: float) -> Tensor:
    """The upper Cholesky factor of the inverse of the damped H."""
    damped = hessian.clone()
    diagonal = damped.diagonal()
    mean = diagonal.mean()
    diagonal.masked_fill_(silent, float(mean) or 1.0)  # no other column has a product with these
    diagonal.add_(damping * (mean if mean > 0 else 1.0))
    try:
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
        return torch.linalg.cholesky(inverse, upper=True)
    except torch.linalg.LinAlgError as error:
        fix = f"Pass sparsegpt(damping=) more than {damping:g}, or more calibration data."
        raise refuse("prune.sparsegpt", "a positive definite X^T X", "one that is not", fix) from error


def _split(keep: int, sizes: Sequence[int]) -> list[int]:
    """`keep` in proportion to `sizes`, as whole numbers that add up, none above its size."""
    ends = [0, *itertools.accumulate(sizes)]
    shares = [keep * end // max(1, ends[-1]) for end in ends]
    return [after - before for before, after in itertools.pairwise(shares)]


@torch.no_grad()
def layerwise(
    model: nn.Module,
    found: Sequence[Site],
    data: Data,
    how: Layerwise,
    keep: Mapping[str, int],
    pattern: Pattern,
    masks: Mapping[str, Tensor],
    *,
    restore: bool,
) -> dict[str, Tensor]:
    """Prune the sites' weights one stage after the other, in place.

    Args:
        model: its weights are changed.
        found: its sites.
        data: calibration batches.
        how: see `Layerwise`.
        keep: entries of each weight; not looked at where the pattern fixes the density.
        pattern: of the masks.
        masks: what is masked already.
        restore: put the weights back at the end; after an error they are in any case.

    Returns:
        Masks, by name.
    """
    first = {site.name: site for site in reversed(found)}
    backup = {name: site.weight.clone() for name, site in first.items()}
    results: dict[str, Tensor] = {}
    try:
        calls = _calls(model, found, data)
        for stage in _stages(found, calls, how):
            statistics = Grams() if how.mend else Sums(power=2)
            _collect(model, [site for site in found if site.name in stage], data, calls, statistics)
            for name in stage:
                site = first[name]
                weight, mask = _prune(site, statistics.total(site), how, keep.get(name, 0), pattern, masks.get(name))
                site.weight.copy_(weight)
                results[name] = mask
        if not restore:
            backup.clear()
    finally:
        for name, weight in backup.items():
            first[name].weight.copy_(weight)
    return results


def _prune(
    site: Site, statistic: Tensor, how: Layerwise, keep: int, pattern: Pattern, held: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The new weight and the mask."""
    weight = site.weight.detach()
    alive = torch.ones_like(weight, dtype=torch.bool) if held is None else held
    weight = weight if held is None else weight * held
    matrices = site.matrices(weight)
    if how.mend:
        each: Sequence[int | NM]
        each = _split(keep, [int(part.sum()) for part in site.matrices(alive)])
        each = each if not isinstance(pattern, NM) else [pattern] * len(matrices)
        parts = [
            sparsegpt(matrix, hessian, count, alive=lives, damping=how.damping, block=how.block)
            for matrix, hessian, count, lives in zip(matrices, statistic, each, site.matrices(alive), strict=True)
        ]
        new, mask = (site.restore(torch.stack(pair)).contiguous() for pair in zip(*parts, strict=True))
        return new, mask
    score = without(site.restore(wanda(matrices, statistic)), held)
    if isinstance(pattern, Unstructured):
        rows = site.matrices(score)
        mask = site.restore(keep_rows(rows.flatten(0, 1), keep).view(rows.shape)).contiguous()
    elif pattern.density is not None:
        mask = pattern.project(score)
    else:
        units = pattern.units(score)
        mask = pattern.spread(keep_largest([units], round(keep * units.numel() / score.numel()))[0], score.shape)
    mask &= alive
    return weight.masked_fill(~mask, 0), mask


class Grams(Sums):
    """Sums over rows of products, `X^T X`, (groups, columns, columns) for each weight."""

    def __init__(self) -> None:
        super().__init__(power=2)

    def __call__(self, site: Site, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        blocks = site.rows(args, kwargs, lambda x: x.to(wide(x)))
        self.add(site, [block.T @ block for block in blocks], [len(block) for block in blocks])

    @staticmethod
    def _shape(matrices: Tensor) -> tuple[int, ...]:
        return matrices.shape[0], matrices.shape[2], matrices.shape[2]


class _Enough(BaseException):
    """All that a stage waits for was seen: no need to run the model to its end."""


def _calls(model: nn.Module, found: Sequence[Site], data: Data) -> Counter[Site]:
    """How often each site is called for a batch, in order of the first call; those that are not called come last."""
    calls: Counter[Site] = Counter()
    with undisturbed(model, data), watch(found, lambda site, *_: calls.update([site])):
        model(inputs_of(next(data.on(found[0].weight.device))))
    calls.update(dict.fromkeys(found, 0))
    return calls


def _stages(found: Sequence[Site], calls: Mapping[Site, int], how: Layerwise) -> list[list[str]]:
    """Names of the weights that are pruned together, in the order of their first calls."""
    stages: dict[str, list[str]] = {}
    for site in calls:
        parts = site.name.split(".")
        prefixes = [".".join(parts[:end]) for end in range(1, len(parts))]
        match = [prefix for prefix in prefixes if how.stages and fnmatch.fnmatchcase(prefix, how.stages)]
        stage = stages.setdefault("" if not how.propagate else match[0] if match else site.name, [])
        if not any(site.name in names for names in stages.values()):
            stage.append(site.name)
    return [names for names in stages.values() if names]


def _collect(model: nn.Module, stage: Sequence[Site], data: Data, calls: Mapping[Site, int], statistics: Sums) -> None:
    """Statistics of a stage's inputs over all batches."""
    left = 0

    def seen(site: Site, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        nonlocal left
        statistics(site, args, kwargs)
        left -= 1
        if not left:
            raise _Enough

    with undisturbed(model, data), watch(stage, seen):
        for batch in data.on(stage[0].weight.device):
            left = sum(calls[site] for site in stage)
            with contextlib.suppress(_Enough):
                if left:
                    model(inputs_of(batch))
