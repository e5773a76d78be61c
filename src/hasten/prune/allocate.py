"""How many entries each tensor keeps, from one number that is asked of the whole.

What can be asked, exactly one of them:

    compression   entries of all parameters / entries that are left, at least 1; 8: an eighth of the model is left
    sparsity      share of the prunable entries that is dropped; 0.9: a tenth of them is left
    speedup       multiply-adds of the dense model / those with a nonzero weight; see `density_for_speedup`

With T entries in the model, P of them prunable and N = T - P that are not, compression c keeps the share
f = (T / c - N) / P of the prunable ones: at most T / N can be reached.

Densities of the tensors are then the same for all (`uniform`), larger for thin layers (`erk`), or what scores compared
over all tensors make of them (`by_scores`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from .._core.checks import check, finite, fraction, positive, refuse
from .select import keep_largest

__all__ = ["by_scores", "counts", "density_for_speedup", "erk", "fraction_to_keep", "uniform"]

Shapes = Mapping[str, Sequence[int]]


def fraction_to_keep(
    total: int,
    prunable: int,
    *,
    compression: float | None = None,
    sparsity: float | None = None,
    call: str = "prune.fraction_to_keep",
) -> float:
    """The share of the prunable entries to keep, in (0, 1].

    Args:
        total: entries of all parameters, T.
        prunable: those that may be pruned, P.
        compression: T / entries that are left, from 1 to below T / (T - P).
        sparsity: share of P to drop, in [0, 1).
        call: what an error calls the caller.

    Raises:
        ValueError: not exactly one of the two; a number that cannot be reached, with the largest that can.

    >>> round(fraction_to_keep(431_080, 426_070, compression=8), 6)
    0.114711
    """
    if (compression is None) == (sparsity is None):
        got = "both" if compression is not None else "neither"
        raise refuse(call, "one of compression= and sparsity=", got, "Pass compression=8, for example.")
    if sparsity is not None:
        dropped = fraction(call, "sparsity", sparsity)
        check(dropped < 1, call, "sparsity below 1", sparsity, "Something must be left.")
        return 1.0 - dropped
    asked, fixed = finite(call, "compression", compression), total - prunable  # type: ignore[arg-type]
    check(asked >= 1, call, "compression of at least 1", compression, "It is size before / size after.")
    share = (total / asked - fixed) / prunable
    if share <= 0:
        limit = f"at most {total / fixed:.6g} here: {fixed:,} of {total:,} parameters are not prunable"
        raise refuse(call, f"compression that can be reached, {limit}", f"{compression}", "Ask for less.")
    return min(share, 1.0)


def counts(shapes: Shapes, densities: Mapping[str, float], keep: int | None = None) -> dict[str, int]:
    """Whole numbers of entries to keep from densities, adding up to `keep` exactly.

    Every tensor gets `floor(density * entries)`; what is missing goes to those with the largest remainders, the earlier
    first. None: `round(sum of density * entries)`.

    >>> counts({"a": (3,), "b": (3,)}, {"a": 0.5, "b": 0.5})
    {'a': 2, 'b': 1}
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    exact = {name: densities[name] * size for name, size in sizes.items()}
    keep = round(math.fsum(exact.values())) if keep is None else keep
    check(0 <= keep <= sum(sizes.values()), "prune.counts", f"keep from 0 to {sum(sizes.values())}", keep)
    found = {name: min(sizes[name], math.floor(value)) for name, value in exact.items()}
    order = sorted(sizes, key=lambda name: found[name] - exact[name])  # stable: the earlier first
    while (missing := keep - sum(found.values())) != 0:
        step = 1 if missing > 0 else -1
        free = [name for name in order if 0 <= found[name] + step <= sizes[name]]
        for name in (free if step > 0 else free[::-1])[: abs(missing)]:
            found[name] += step
    return found


def uniform(shapes: Shapes, density: float) -> dict[str, float]:
    """The same density for every tensor.

    >>> uniform({"a": (10, 10), "b": (5,)}, 0.5)
    {'a': 0.5, 'b': 0.5}
    """
    check(fraction("prune.uniform", "density", density) > 0, "prune.uniform", "density above 0", density)
    return dict.fromkeys(shapes, float(density))


def erk(shapes: Shapes, density: float, power: float = 1.0) -> dict[str, float]:
    """Erdős-Rényi-kernel densities: proportional to `(sum(shape) / prod(shape)) ** power`, at most 1.

    Thin layers stay denser. Layers that would exceed 1 are dense, and the others make up for it:
    `sum(density_l * n_l)` is `density * sum(n_l)`.

    Args:
        shapes: by name.
        density: of all together, in (0, 1].
        power: 0 is `uniform`.

    >>> erk({"small": (10, 10), "large": (100, 100)}, 0.5)
    {'small': 1.0, 'large': 0.495}

    Source: arXiv 1911.11134.
    """
    call = "prune.erk"
    check(fraction(call, "density", density) > 0, call, "density above 0", density, "Nothing would be left.")
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    raw = {name: (sum(shape) / sizes[name]) ** power for name, shape in shapes.items()}
    dense: set[str] = set()
    while True:
        free = [name for name in sizes if name not in dense]
        if not free:
            return dict.fromkeys(sizes, 1.0)
        left = density * sum(sizes.values()) - sum(sizes[name] for name in dense)
        scale = left / math.fsum(raw[name] * sizes[name] for name in free)
        largest = max(raw[name] for name in free)
        if scale * largest <= 1:
            return {name: 1.0 if name in dense else scale * raw[name] for name in sizes}
        dense |= {name for name in free if raw[name] == largest}


def by_scores(scores: Mapping[str, Tensor], density: float) -> dict[str, float]:
    """Densities that follow from comparing scores over all tensors: the `density` largest of them are kept.

    With magnitudes that is global magnitude pruning, with LAMP scores it is LAMP.

    >>> import torch
    >>> by_scores({"a": torch.tensor([0.1, 0.9]), "b": torch.tensor([0.2, 0.3])}, 0.5)
    {'a': 0.5, 'b': 0.5}
    """
    fraction("prune.by_scores", "density", density)
    keep = round(density * sum(score.numel() for score in scores.values()))
    masks = keep_largest(list(scores.values()), keep, names=list(scores))
    return {name: int(mask.sum()) / max(1, mask.numel()) for name, mask in zip(scores, masks, strict=True)}


def density_for_speedup(
    macs: Mapping[str, float],
    total: float,
    speedup: float,
    densities_at: Callable[[float], Mapping[str, float]],
    *,
    tolerance: float = 1e-6,
    call: str = "prune.density_for_speedup",
) -> float:
    """The largest density at which the theoretical speed-up is at least `speedup`, by bisection.

    The speed-up is `total / (total - sum(macs[name] * (1 - density of name)))`: each weight that is left costs its
    share of the multiply-adds of its layer.

    Args:
        macs: multiply-adds of each prunable weight in the dense model, by name.
        total: of the whole model, with those that no weight has (attention).
        speedup: at least 1.
        densities_at: densities of the tensors for a density of the whole; tensors without an entry in `macs` are free.
        tolerance: of the density.
        call: what an error calls the caller.

    Raises:
        ValueError: more than can be reached, with the largest that can.

    >>> round(density_for_speedup({"a": 80.0}, 100.0, 2.0, lambda density: {"a": density}), 4)
    0.375
    """
    positive(call, "total", total)
    check(finite(call, "speedup", speedup) >= 1, call, "speedup of at least 1", speedup)

    def reached(density: float) -> float:
        densities = densities_at(density)
        left = total - math.fsum(cost * (1 - densities[name]) for name, cost in macs.items())
        return total / left if left > 0 else math.inf

    low, high = 0.0, 1.0
    if reached(high) >= speedup:
        return high
    fixed = total - math.fsum(macs.values())
    if fixed > 0 and speedup >= total / fixed:
        limit = f"less than {total / fixed:.6g} here: {fixed:,.0f} of {total:,.0f} multiply-adds are not prunable"
        raise refuse(call, f"speedup that can be reached, {limit}", f"{speedup}", "Ask for less.")
    while high - low > tolerance:
        middle = (low + high) / 2
        low, high = (middle, high) if reached(middle) >= speedup else (low, middle)
    check(low > 0, call, "a speedup that leaves something", speedup, "Ask for less.")
    return low
