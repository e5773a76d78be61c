"""Masks for a model: what is asked for, by a strategy, in a pattern. The model stays as it is.

    density of all     from compression, sparsity or speed-up            `allocate`
    scores             in rounds, where the strategy has more than one   `strategies`
    masks              exactly that many entries                         `choose`, `layerwise`

Layer by layer, weights change on the way; `compute` puts them back, `reconstruct` is for those that stay changed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .._core.checks import check, refuse
from . import allocate, owl
from .choose import choose, shares, without
from .layerwise import Layerwise, layerwise
from .masks import Masks
from .patterns import NM, Channel, Head, Pattern, Unstructured
from .request import Ignore, Request, asked_for, request
from .scores.activations import Sums, run, wanda
from .scores.sites import Site, sites
from .strategies import Score, Strategy, scores_of

__all__ = ["compute", "reconstruct"]


def compute(
    model: nn.Module,
    strategy: str | Strategy | Score = "global_magnitude",
    *,
    compression: float | None = None,
    sparsity: float | None = None,
    speedup: float | None = None,
    batch: Any = None,
    loss_fn: Callable[[Any, Any], Tensor] | None = None,
    ignore: Ignore = (),
    pattern: str | Pattern = "unstructured",
    generator: torch.Generator | None = None,
) -> Masks:
    """Masks that keep exactly what is asked for; the model is not changed.

    Neither weights nor `.grad`, batch norm statistics, training modes, hooks and global generators are different
    afterwards. Masks that the model wears are respected: what is masked stays masked, so pruning in steps is calling
    this with a higher ratio, with `apply` and training in between.

    Args:
        model: any model with linear, convolution or attention layers.
        strategy: see `hasten.prune.strategies.get`.
        compression, sparsity, speedup: exactly one, see `hasten.prune.allocate`; none of them where the pattern fixes
            the density (n:m). `speedup` counts MACs on the first batch.
        batch: what strategies look at: `(inputs, targets)`, a dict, a tensor of inputs, or a loader of them. The model
            is called with the inputs as its one argument.
        loss_fn: `loss_fn(outputs, targets)`; None: cross-entropy.
        ignore: names, patterns of names or modules to leave out.
        pattern: "unstructured", "2:4", "block(4,4)", "channel", "head", or a pattern.
        generator: for random scores, and what the model draws itself.

    Returns:
        Masks for every prunable parameter, on its device.

    Raises:
        ValueError: a ratio that cannot be reached (with the largest that can), a missing batch, nothing to prune, a
            name that is not known. TypeError: weights that cannot be pruned. NonFiniteError: a loss or a gradient.

    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> masks = compute(net, "global_magnitude", sparsity=0.75)
    >>> masks.nonzeros, masks.total
    (10, 40)
    """
    call = "prune.compute"
    plan = request(call, model, strategy, batch, loss_fn, ignore, pattern, generator)
    asked = asked_for(call, plan.pattern, compression=compression, sparsity=sparsity, speedup=speedup)
    if isinstance(plan.pattern, (Channel, Head)):
        return _structured(plan, asked)
    how = plan.strategy.layerwise
    found = _in_rounds(plan, asked) if how is None else _by_layer(plan, how, asked, restore=True)
    return plan.record(found, asked)


def reconstruct(
    model: nn.Module,
    strategy: str | Strategy = "sparsegpt",
    *,
    compression: float | None = None,
    sparsity: float | None = None,
    speedup: float | None = None,
    batch: Any = None,
    ignore: Ignore = (),
    pattern: str | Pattern = "unstructured",
) -> Masks:
    """Prune layer by layer and **change the weights** that are kept so that they make up for the others.

    Args:
        model: changed in place; after an error it is as it was.
        strategy: "sparsegpt" with its options, or "wanda", which only puts zeros.
        compression, sparsity, speedup, batch, ignore, pattern: as for `compute`.

    Returns:
        The masks; `apply` makes the model wear them.

    Raises:
        ValueError: as `compute`; a strategy that does not prune layer by layer.

    >>> net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> masks = reconstruct(net, batch=torch.randn(64, 8), pattern="2:4")
    >>> bool((net[0].weight[~masks["0.weight"]] == 0).all()), masks.density("0.weight")
    (True, 0.5)
    """
    call = "prune.reconstruct"
    plan = request(call, model, strategy, batch, None, ignore, pattern, None)
    asked = asked_for(call, plan.pattern, compression=compression, sparsity=sparsity, speedup=speedup)
    how = plan.strategy.layerwise
    if how is None:
        raise refuse(call, "sparsegpt or wanda", repr(plan.strategy.name), "Use prune.compute, then prune.apply.")
    return plan.record(_by_layer(plan, how, asked, restore=False), asked)


def _in_rounds(plan: Request, asked: Mapping[str, float]) -> dict[str, Tensor]:
    """Masks by scores, with new scores for each round."""
    masks, rounds = dict(plan.held), plan.strategy.rounds if plan.pattern.density is None else 1
    for number in range(1, rounds + 1):
        masks = _round(plan, asked, masks, number / rounds)
    return masks


def _round(plan: Request, asked: Mapping[str, float], masks: Mapping[str, Tensor], done: float) -> dict[str, Tensor]:
    """One round: as much is kept as leads to what is asked for in steps of one ratio."""
    scores = scores_of(plan.model, plan.strategy, plan.targets, dataclasses.replace(plan.data, masks=masks or None))
    for name in masks:
        scores[name] = without(scores[name], masks[name])  # one by one: no two copies of all
    prunable = plan.targets.prunable
    alive = prunable - sum(int((~mask).sum()) for mask in masks.values())

    def chosen(keep: int) -> dict[str, Tensor]:
        return choose(scores, keep, scope=plan.strategy.scope, pattern=plan.pattern, masks=masks, call=plan.call)

    def densities_at(density: float) -> dict[str, float]:
        found = chosen(min(alive, round(density * prunable)))
        return {name: int(mask.sum()) / max(1, mask.numel()) for name, mask in found.items()}

    if plan.pattern.density is not None:
        return chosen(0)
    if done == 1:
        return chosen(plan.keep(asked, densities_at))
    if "speedup" in asked:
        return chosen(min(alive, plan.keep({"speedup": asked["speedup"] ** done}, densities_at)))
    keep = plan.keep(asked, densities_at)
    return chosen(min(alive, round(prunable * (keep / prunable) ** done)))


def _by_layer(plan: Request, how: Layerwise, asked: Mapping[str, float], *, restore: bool) -> dict[str, Tensor]:
    """Masks layer by layer; the weights change unless they are put back. Biases are kept."""
    call, pattern, parameters = plan.call, plan.pattern, plan.targets.parameters
    fits = isinstance(pattern, (Unstructured, NM)) or not how.mend
    check(fits, call, f"pattern unstructured or n:m for {plan.strategy.name}", str(pattern))
    pruned = {name: p for name, p in parameters.items() if p.ndim > 1 and pattern.covers(p.shape)}
    check(bool(pruned), call, f"a matrix to prune by {plan.strategy.name}", "none", "Biases alone are not pruned.")
    found = sites(plan.model, pruned)
    for name, parameter in pruned.items():
        pattern.check(name, parameter.shape)
    if isinstance(pattern, NM) and how.mend:
        _refuse_transposed(call, pattern, found)
    kept = {name: plan.held.get(name, torch.ones_like(p, dtype=torch.bool)).clone() for name, p in parameters.items()}
    counts = _counts(plan, how, asked, found, kept) if pattern.density is None else {}
    return kept | layerwise(plan.model, found, plan.data, how, counts, pattern, plan.held, restore=restore)


def _refuse_transposed(call: str, pattern: NM, found: Sequence[Site]) -> None:
    from .scores.matrices import TRANSPOSED

    for site in found:
        fix = f"Leave it out: ignore=[{site.name!r}]."
        check(
            not isinstance(site.layer, TRANSPOSED),
            call,
            f"layers along whose inputs {pattern} goes",
            site.name,
            fix,
        )


def _counts(
    plan: Request, how: Layerwise, asked: Mapping[str, float], found: Sequence[Site], kept: Mapping[str, Tensor]
) -> dict[str, int]:
    """How many entries each matrix keeps: the same share of all, or by outliers."""
    names = {site.name for site in found}
    sizes = {name: kept[name].numel() for name in plan.targets.names if name in names}
    alive = {name: int(kept[name].sum()) for name in sizes}
    biases = sum(int(mask.sum()) for name, mask in kept.items() if name not in names)
    total, outliers = sum(sizes.values()), _outliers(plan, how, found) if how.owl else dict.fromkeys(sizes, 0.0)
    shapes = {name: (size,) for name, size in sizes.items()}

    def densities(keep: int) -> dict[str, float]:
        density = min(1.0, max(0.0, (keep - biases) / total))
        return owl.densities(outliers, shapes, density, how.spread)

    keep = plan.keep(asked, lambda density: densities(round(density * plan.targets.prunable)))
    fix = "Ask for a lower ratio, or leave layers out."
    check(keep >= biases, plan.call, f"a ratio that leaves room for the {biases} biases", f"{keep} entries", fix)
    fix = "Ask for a higher ratio."
    check(keep - biases <= sum(alive.values()), plan.call, "fewer entries than are not masked yet", keep, fix)
    if not how.owl:
        return shares(sizes, alive, keep - biases)
    wanted = densities(keep)
    wanted = {name: wanted[name] * sizes[name] / max(1, alive[name]) for name in sizes}
    return allocate.counts({name: (count,) for name, count in alive.items()}, wanted, keep - biases)


def _outliers(plan: Request, how: Layerwise, found: Sequence[Site]) -> dict[str, float]:
    """The share of outliers of each matrix, on the dense model."""
    sums = Sums(power=2)
    run(plan.model, found, plan.data, sums)

    def share(site: Site) -> float:
        matrices = site.matrices(plan.data.worn(site.name, site.weight))
        return owl.outliers(wanda(matrices, sums.total(site)), how.threshold)

    return {site.name: share(site) for site in found}


def _structured(plan: Request, asked: Mapping[str, float]) -> Masks:
    """Channels or heads with all that goes with them; norms of removed channels are masked too."""
    from .structure import channel_masks, head_masks

    call, targets = plan.call, plan.targets
    check(plan.strategy.score is not None, call, f"a strategy with scores, for {plan.pattern}s", plan.strategy.name)
    check(not plan.held, call, f"a model without masks, for {plan.pattern}s", "one with masks", "Materialize it first.")
    goal: dict[str, Any] = dict(asked)
    if "sparsity" in asked:
        keep = plan.keep(asked, lambda density: {})
        goal = {"compression": targets.total / (targets.total - targets.prunable + keep)}
    make = channel_masks if isinstance(plan.pattern, Channel) else head_masks
    found = make(
        plan.model,
        (plan.first_inputs(),),
        scores=scores_of(plan.model, plan.strategy, targets, plan.data),
        scope="global" if plan.strategy.scope == "global" else "layer",
        ignore=plan.ignore,
        **goal,
    )
    rest = {name: torch.ones_like(p, dtype=torch.bool) for name, p in targets.parameters.items() if name not in found}
    masks = {**found, **rest}
    order = [name for name, _ in plan.model.named_parameters() if name in masks]
    return Masks({name: masks[name] for name in order}, strategy=plan.strategy.name, pattern=str(plan.pattern),
                 asked=asked, achieved=found.achieved)  # fmt: skip
