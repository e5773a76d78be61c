"""Masks of whole channels and heads, over everything that goes with them.

A mask covers all of a unit: rows and biases that make it, scale and shift of its norms, columns that read it. So the
masked model computes what the cut one computes, and the mask's density is the share of parameters that is really left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..._core.checks import check, finite, fraction, near, refuse, whole
from ..masks import Masks
from ..places import bare, places
from ..targets import ignored
from .groups import Group, Groups, groups

__all__ = ["channel_masks", "head_masks"]

Kept = dict[Group, NDArray[np.bool_]]


def channel_masks(
    model: nn.Module,
    example_inputs: Any,
    *,
    density: float | None = None,
    compression: float | None = None,
    speedup: float | None = None,
    norm: str = "l2",
    scores: Mapping[str, Tensor] | None = None,
    scope: str = "layer",
    round_to: int = 1,
    ignore: str | nn.Module | Sequence[str | nn.Module] = (),
) -> Masks:
    """Masks that keep the channels with the largest weights, each with all that goes with it.

    The score of a channel is the root mean square (`"l2"`) or the mean absolute value (`"l1"`) of all entries that go
    with it, or the mean of their `scores`: families of few and of many entries can be compared. Every family keeps one
    channel at least. Masks of the same scores are nested as less is kept.

    Args:
        model: the model; not changed.
        example_inputs: a tensor, a tuple of positional arguments or a mapping of named ones.
        density: share of the channels to keep, in (0, 1]; exactly one of this and the next two.
        compression: all parameters / those that are left, at least 1: the most channels that reach it.
        speedup: multiply-adds of the products / those that are left, at least 1: the most channels that reach it.
        norm: "l2" or "l1".
        scores: by name of a parameter, shaped like it, larger for what should stay; instead of the norm.
        scope: "layer" keeps the same share of every family, "global" compares the scores of all.
        round_to: families keep multiples of this many, the nearest, where they have as many.
        ignore: names, patterns of names or modules whose channels all stay.

    Returns:
        Masks of all parameters that the families cut; `achieved` is the compression.

    Raises:
        ValueError: not one target, one that cannot be reached (with the most that can), no channels to remove.

    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3))
    >>> masks = channel_masks(net, torch.zeros(1, 1, 8, 8), density=0.5)
    >>> {name: mask.flatten(1).any(1).sum().item() if mask.ndim > 1 else mask.sum().item()
    ...  for name, mask in masks.items()}
    {'0.weight': 2, '0.bias': 2, '1.weight': 2, '1.bias': 2, '3.weight': 2}

    Source: filters by norm, arXiv 1608.08710; what goes together, arXiv 2301.12900.
    """
    asked = {"density": density, "compression": compression, "speedup": speedup}
    choice = _Choice("prune.channel_masks", "channels", asked, norm, scores, scope, round_to, ignore)
    return choice.masks(bare(model), example_inputs)


def head_masks(
    model: nn.Module,
    example_inputs: Any,
    *,
    density: float | None = None,
    compression: float | None = None,
    speedup: float | None = None,
    norm: str = "l2",
    scores: Mapping[str, Tensor] | None = None,
    scope: str = "layer",
    round_to: int = 1,
    ignore: str | nn.Module | Sequence[str | nn.Module] = (),
) -> Masks:
    """Masks that keep the attention heads with the largest weights: their queries, keys, values and outputs.

    Arguments, result and errors are those of `channel_masks`, with heads for channels. Query heads that share keys are
    one head.

    >>> net = nn.TransformerEncoderLayer(8, 4, 16, batch_first=True)
    >>> head_masks(net, torch.zeros(1, 3, 8), density=0.5)["self_attn.out_proj.weight"].sum().item()
    32

    Source: arXiv 1905.10650.
    """
    asked = {"density": density, "compression": compression, "speedup": speedup}
    choice = _Choice("prune.head_masks", "heads", asked, norm, scores, scope, round_to, ignore)
    return choice.masks(bare(model), example_inputs)


class _Choice:
    """What was asked for, checked; then which units of which groups it keeps."""

    def __init__(
        self,
        call: str,
        kind: str,
        asked: Mapping[str, float | None],
        norm: str,
        scores: Mapping[str, Tensor] | None,
        scope: str,
        round_to: int,
        ignore: Any,
    ) -> None:
        given = {name: value for name, value in asked.items() if value is not None}
        if len(given) != 1:
            got = " and ".join(given) or "none"
            raise refuse(call, "one of density=, compression= and speedup=", got, "Pass density=0.5, for example.")
        ((self.target, value),) = given.items()
        self.value = finite(call, self.target, value)
        if self.target == "density":
            check(fraction(call, "density", value) > 0, call, "density above 0", value, "Something must be left.")
        else:
            check(self.value >= 1, call, f"{self.target} of at least 1", value, "It is before / after.")
        check(norm in ("l1", "l2"), call, 'norm "l1" or "l2"', norm)
        check(scope in ("layer", "global"), call, 'scope "layer" or "global"', scope)
        whole(call, "round_to", round_to, low=1)
        self.call, self.kind, self.norm, self.scores = call, kind, norm, scores
        self.scope, self.round_to, self.ignore = scope, round_to, ignore

    def masks(self, model: nn.Module, example_inputs: Any) -> Masks:
        """The masks of the units to keep."""
        known, chosen = self._groups(model, example_inputs)
        parameters = dict(model.named_parameters())
        measure = self._measure(parameters)
        scores = [_scores(group, parameters, measure, self.call) for group in chosen]
        if self.norm == "l2" and self.scores is None:
            scores = [np.sqrt(each) for each in scores]
        kept = self._kept(known, chosen, scores)
        ids = known.ids(kept)
        made = "given scores" if self.scores is not None else self.norm
        record = {"strategy": f"{self.kind[:-1]}_{made}", "pattern": self.kind[:-1], "asked": {self.target: self.value}}
        achieved = known.parameters(known.ids({})) / known.parameters(ids)
        return Masks(_masks(chosen, kept, parameters), **record, achieved=achieved)

    def _groups(self, model: nn.Module, example_inputs: Any) -> tuple[Groups, list[Group]]:
        known = groups(model, example_inputs)
        left = ignored(model, places(model), self.ignore, self.call)
        chosen = [g for g in known if g.kind == self.kind and left.isdisjoint(s.name for s in g.slices)]
        if not chosen:
            reasons = sorted(set(known.fixed.values()))[:3]
            fix = f"What holds them: {'; '.join(reasons)}." if reasons else ""
            raise refuse(self.call, f"a model with {self.kind} that can be removed", "none", fix)
        return known, chosen

    def _measure(self, parameters: Mapping[str, Tensor]) -> Callable[[str], Tensor | None]:
        """What is averaged over the entries of a unit, by name of the parameter."""
        if self.scores is None:
            power = torch.abs if self.norm == "l1" else torch.square
            return lambda name: power(parameters[name].detach().float())
        for name, score in self.scores.items():
            if name not in parameters:
                raise refuse(self.call, "scores of parameters", repr(name), near(name, parameters))
            shape = parameters[name].shape
            check(score.shape == shape, self.call, f"scores of shape {tuple(shape)} for {name}", score)
        return self.scores.get

    def _kept(self, known: Groups, chosen: list[Group], scores: list[NDArray]) -> Kept:
        total = sum(map(len, chosen))

        def keep(count: int) -> Kept:
            return _best(chosen, scores, self._counts(chosen, scores, count))

        if self.target == "density":
            return keep(round(self.value * total))
        size = known.parameters if self.target == "compression" else known.macs
        dense = size(known.ids({}))
        least, most = len(chosen), total  # the largest count that reaches the target lies in least..most
        limit = dense / max(1, size(known.ids(keep(least))))
        if limit < self.value:
            expected = f"{self.target} that can be reached, at most {limit:.6g} here"
            raise refuse(self.call, expected, f"{self.value:g}", "Ask for less.")
        while least < most:
            middle = (least + most + 1) // 2
            reached = dense / size(known.ids(keep(middle))) >= self.value
            least, most = (middle, most) if reached else (least, middle - 1)
        return keep(least)

    def _counts(self, chosen: list[Group], scores: list[NDArray], count: int) -> list[int]:
        """How many units each group keeps of `count` in all."""
        sizes = [len(group) for group in chosen]
        if self.scope == "layer":
            counts = [math.floor(count / sum(sizes) * size + 0.5) for size in sizes]
        else:
            ranks = np.concatenate([_with_best_first(each) for each in scores])
            owner = np.repeat(np.arange(len(sizes)), sizes)
            first = np.argsort(-ranks, kind="stable")[:count]
            counts = np.bincount(owner[first], minlength=len(sizes)).tolist()
        step = self.round_to
        return [min(size, max(step, math.floor(c / step + 0.5) * step)) for c, size in zip(counts, sizes, strict=True)]


def _with_best_first(scores: NDArray) -> NDArray:
    """The scores, where the best counts before everything else: each group keeps one."""
    ranks = scores.copy()
    ranks[np.argmax(scores)] = np.inf
    return ranks


def _best(chosen: list[Group], scores: list[NDArray], counts: list[int]) -> Kept:
    """The units of the largest scores; of equal ones, the first."""
    kept: Kept = {}
    for group, each, count in zip(chosen, scores, counts, strict=True):
        kept[group] = np.zeros(len(group), bool)
        kept[group][np.argsort(-each, kind="stable")[:count]] = True
    return kept


def _scores(
    group: Group, parameters: Mapping[str, Tensor], measure: Callable[[str], Tensor | None], call: str
) -> NDArray:
    """The mean of what is measured, over all entries of each unit."""
    total, count = np.zeros(len(group)), np.zeros(len(group))
    for part in group.slices:
        value = measure(part.name) if part.parameter else None
        if value is not None:
            others = [d for d in range(value.ndim) if d != part.dim]
            sums = value.sum(others, dtype=torch.float64) if others else value.double()
            mine = part.units >= 0
            np.add.at(total, part.units[mine], sums.cpu().numpy()[mine])
            np.add.at(count, part.units[mine], value.numel() / value.shape[part.dim])
            if not np.isfinite(total).all():
                raise refuse(call, f"finite weights and scores of {part.name}", "some that are not", "Load others.")
    if not count.all():
        raise refuse(call, f"scores of {group.name}, or of what goes with it", "none", "Or ignore it.")
    return total / count


def _masks(chosen: list[Group], kept: Kept, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    masks: dict[str, Tensor] = {}
    for group in chosen:
        for part in (part for part in group.slices if part.parameter):
            like = parameters[part.name]
            mask = masks.setdefault(part.name, torch.ones(like.shape, dtype=torch.bool, device=like.device))
            live = torch.from_numpy((part.units < 0) | kept[group][part.units]).to(like.device)
            mask &= live.view([-1 if d == part.dim else 1 for d in range(like.ndim)])
    return {name: masks[name] for name in parameters if name in masks}
