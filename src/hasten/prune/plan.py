"""Masks for a model: what is asked for, by a strategy, in a pattern. The model stays as it is.

density of all     from compression, sparsity or speed-up            `allocate`
scores             in rounds, where the strategy has more than one   `strategies`
masks              exactly that many entries                         `choose`, `layerwise`
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .._core.checks import check, refuse, refuse_type
from . import allocate, owl
from .choose import choose, shares
from .count.macs import macs
from .layerwise import Layerwise, layerwise
from .masks import Masks, masks_of
from .patterns import NM, Channel, Head, Pattern, Unstructured, parse
from .scores.activations import Sums, run, wanda
from .scores.data import Data, inputs_of, repeatable
from .scores.sites import Site, sites
from .strategies import Score, Strategy, get, scores_of
from .targets import Targets, bare, find

__all__ = ["compute", "reconstruct"]

Ignore = str | nn.Module | Sequence[str | nn.Module]


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
    plan = _plan(call, model, strategy, batch, loss_fn, ignore, pattern, generator)
    asked = _asked(call, plan.pattern, compression=compression, sparsity=sparsity, speedup=speedup)
    if isinstance(plan.pattern, (Channel, Head)):
        return _structured(plan, asked)
    if plan.strategy.layerwise is None:
        return plan.record(_in_rounds(plan, asked), asked)
    weights = {name: parameter.detach().clone() for name, parameter in plan.targets.parameters.items()}
    try:
        return plan.record(_by_layer(plan, plan.strategy.layerwise, asked), asked)
    finally:
        with torch.no_grad():
            for name, parameter in plan.targets.parameters.items():
                parameter.copy_(weights[name])


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
    plan = _plan(call, model, strategy, batch, None, ignore, pattern, None)
    asked = _asked(call, plan.pattern, compression=compression, sparsity=sparsity, speedup=speedup)
    how = plan.strategy.layerwise
    if how is None:
        raise refuse(call, "sparsegpt or wanda", repr(plan.strategy.name), "Use prune.compute, then prune.apply.")
    return plan.record(_by_layer(plan, how, asked), asked)


@dataclass(frozen=True)
class _Plan:
    """All that is known before anything is scored; `held` is what the model wears already."""

    call: str
    model: nn.Module
    strategy: Strategy
    targets: Targets
    pattern: Pattern
    data: Data
    held: Mapping[str, Tensor]
    ignore: Ignore

    def keep(self, asked: Mapping[str, float], densities_at: Callable[[float], Mapping[str, float]]) -> int:
        """How many of the prunable entries to keep; `densities_at` gives those of the tensors, for a speed-up."""
        if "speedup" in asked:
            density = self._density_for(asked["speedup"], densities_at)
        else:
            density = allocate.fraction_to_keep(self.targets.total, self.targets.prunable, **asked, call=self.call)
        return round(density * self.targets.prunable)

    def _density_for(self, speedup: float, densities_at: Callable[[float], Mapping[str, float]]) -> float:
        table, total = self.work
        return allocate.density_for_speedup(table, total, speedup, densities_at, call=self.call)

    @functools.cached_property
    def work(self) -> tuple[dict[str, float], float]:
        """MACs of each target, of those that have any, and of the whole model, for the first batch."""
        counted = macs(self.model, (self.first_inputs(),))
        per_weight = {name: count.total for name, count in counted.by_parameter.items() if name in self.targets.names}
        return per_weight, counted.total

    def first_inputs(self) -> Any:
        """What the model is called with for the first batch."""
        if self.data.batches is None:
            raise refuse(self.call, "batch=, as MACs and channels are followed through the model", "none",
                         "Pass batch=inputs.")  # fmt: skip
        return inputs_of(next(self.data.on(next(iter(self.targets.parameters.values())).device)))

    def record(self, masks: Mapping[str, Tensor], asked: Mapping[str, float]) -> Masks:
        """Masks with how they were made."""
        masks = {name: masks[name].contiguous() for name in self.targets.names}
        left = self.targets.total - self.targets.prunable + sum(int(mask.sum()) for mask in masks.values())
        achieved = self.targets.total / left if left else math.inf
        return Masks(masks, strategy=self.strategy.name, pattern=str(self.pattern), asked=asked, achieved=achieved)


def _plan(
    call: str, model: nn.Module, strategy: Any, batch: Any, loss_fn: Any, ignore: Ignore, pattern: Any, generator: Any
) -> _Plan:
    chosen, shape = get(strategy, call=call), parse(pattern)
    model = bare(model)
    targets = find(model, ignore, call=call)
    fix = "Pass batch=(inputs, targets) or a loader."
    if chosen.needs != "weights" and batch is None:
        raise refuse(call, f"batch=, as {chosen.name} looks at data", "none", fix)
    if loss_fn is not None and not callable(loss_fn):
        raise refuse_type(call, "loss_fn(outputs, targets)", loss_fn)
    held = {name: mask for name, mask in masks_of(model).items() if name in targets.parameters}
    return _Plan(call, model, chosen, targets, shape, Data(repeatable(batch), loss_fn, generator, call), held, ignore)


def _asked(call: str, pattern: Pattern, **given: float | None) -> dict[str, float]:
    """What is asked for, by its name."""
    asked = {name: value for name, value in given.items() if value is not None}
    if pattern.density is None:
        fix = "Pass compression=8, for example."
        check(len(asked) == 1, call, "one of compression=, sparsity= and speedup=", sorted(asked) or "none", fix)
    else:
        same = not asked or (list(asked) == ["sparsity"] and math.isclose(asked["sparsity"], 1 - pattern.density))
        fix = "Leave compression=, sparsity= and speedup= out."
        check(same, call, f"nothing beside pattern {pattern}, which keeps {pattern.density:g}", asked, fix)
    return asked


def _in_rounds(plan: _Plan, asked: Mapping[str, float]) -> dict[str, Tensor]:
    """Masks by scores, with new scores for each round."""
    masks, rounds = dict(plan.held), plan.strategy.rounds if plan.pattern.density is None else 1
    for number in range(1, rounds + 1):
        masks = _round(plan, asked, masks, number / rounds)
    return masks


def _round(plan: _Plan, asked: Mapping[str, float], masks: Mapping[str, Tensor], done: float) -> dict[str, Tensor]:
    """One round: as much is kept as leads to what is asked for in steps of one ratio."""
    scores = scores_of(plan.model, plan.strategy, plan.targets, dataclasses.replace(plan.data, masks=masks or None))
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


def _by_layer(plan: _Plan, how: Layerwise, asked: Mapping[str, float]) -> dict[str, Tensor]:
    """Masks layer by layer; the weights change. Biases are kept."""
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
    return kept | layerwise(plan.model, found, plan.data, how, counts, pattern, plan.held)


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
    plan: _Plan, how: Layerwise, asked: Mapping[str, float], found: Sequence[Site], kept: Mapping[str, Tensor]
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


def _outliers(plan: _Plan, how: Layerwise, found: Sequence[Site]) -> dict[str, float]:
    """The share of outliers of each matrix, on the dense model."""
    sums = Sums(power=2)
    run(plan.model, found, plan.data, sums)
    scores = {site.name: wanda(site.matrices(site.weight.detach()), sums.total(site)) for site in found}
    return {name: owl.outliers(score, how.threshold) for name, score in scores.items()}


def _structured(plan: _Plan, asked: Mapping[str, float]) -> Masks:
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
