"""Channels and heads that go together, in families: what a run said about single ids, solved at once.

Ids that were paired are one *unit*: a channel of a residual stream is a row of every convolution that adds to it, the
scale and shift of its batch norms, and a column of every layer that reads it. Units that cut the same dimensions of the
same parameters are a `Group`: all channels of that stream, all heads of an attention layer. A unit that anything fixes
stays, and `Groups.fixed` says why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ..places import bare
from .fields import Facts
from .trace import Slot, Trace, trace

__all__ = ["Group", "Groups", "Slice", "groups", "solve"]


@dataclass(frozen=True, eq=False)
class Slice:
    """A dimension of a parameter or buffer that a group cuts.

    Args:
        name: full name; of a tied parameter, the first.
        dim: the dimension.
        units: for each of its places the unit that it belongs to, -1 for places of other groups.
        parameter: False for a buffer.
    """

    name: str
    dim: int
    units: NDArray[np.int64]
    parameter: bool


@dataclass(frozen=True, eq=False)
class Group:
    """Units of one family: channels or heads, any of which can be removed as long as one is left.

    Args:
        kind: "channels" or "heads".
        slices: what is cut, in model order; the first names the group.
        roots: the id that stands for each unit.
    """

    kind: str
    slices: tuple[Slice, ...]
    roots: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.roots)

    @property
    def name(self) -> str:
        """The parameter and dimension that it begins with: `"stem.0.weight, dimension 0"`."""
        return f"{self.slices[0].name}, dimension {self.slices[0].dim}"

    def unit(self, index: int) -> list[tuple[str, int, list[int]]]:
        """What goes with a unit: (name, dimension, places)."""
        found = ((s.name, s.dim, np.flatnonzero(s.units == index).tolist()) for s in self.slices)
        return [each for each in found if each[2]]

    def __repr__(self) -> str:
        return f"<Group of {len(self)} {self.kind}: {self.name} and {len(self.slices) - 1} more>"


class Groups(Sequence[Group]):
    """All groups of a model, in model order, with what removing units of them makes of its size.

    Args:
        found: the groups.
        fixed: why a dimension, `(name, dim)`, or some of it stays.
        run: the run of the model that they come from.
        parents: the id that stands for each id.
    """

    def __init__(
        self, found: Sequence[Group], fixed: Mapping[tuple[str, int], str], run: Trace, parents: NDArray[np.int64]
    ) -> None:
        self._found, self.fixed, self.run, self.parents = tuple(found), dict(fixed), run, parents

    @overload
    def __getitem__(self, index: int) -> Group: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Group]: ...
    def __getitem__(self, index: Any) -> Any:
        return self._found[index]

    def __len__(self) -> int:
        return len(self._found)

    def ids(self, kept: Mapping[Group, NDArray[np.bool_]]) -> NDArray[np.bool_]:
        """Whether each id stays, from whether each unit of some groups does; all others stay."""
        live = np.ones(len(self.parents), bool)
        for group, units in kept.items():
            live[group.roots] = units
        return live[self.parents]

    def parameters(self, ids: NDArray[np.bool_]) -> int:
        """Entries of all parameters that are left."""
        share: dict[str, float] = {}
        for slot in self.run.slots:
            if slot.parameter:
                left = int(ids[slot.first : slot.first + slot.size].sum())
                share[slot.name] = share.get(slot.name, self.run.entries[slot.name]) * left / slot.size
        return sum(round(share.get(name, size)) for name, size in self.run.entries.items())

    def macs(self, ids: NDArray[np.bool_]) -> int:
        """Multiply-adds of the products that are left, for the example inputs."""
        work = self.run.facts.work
        return round(sum(macs * math.prod(ids[each].mean() for each in factors) for macs, factors in work))


def groups(model: nn.Module, example_inputs: Any) -> Groups:
    """The channels and heads of a model that must be removed together.

    The model is run once; see `hasten.prune.structure` for what is understood. Inputs and outputs of the model keep
    their sizes.

    Args:
        model: any module, with its weights.
        example_inputs: a tensor, a tuple of positional arguments or a mapping of named ones; any batch size.

    Returns:
        The groups, and what is fixed.

    Raises:
        TypeError: not a module, or parameters without values.

    >>> import torch
    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> found = groups(net, torch.zeros(1, 4))
    >>> found[0].unit(1)
    [('0.weight', 0, [1]), ('0.bias', 0, [1]), ('2.weight', 1, [1])]
    >>> found.fixed["2.weight", 0]
    'an output of the model'
    """
    return solve(trace(bare(model), example_inputs, call="prune.groups"))


def solve(run: Trace, *, keep_written: bool = False) -> Groups:
    """The groups that a run's facts make.

    Args:
        run: the run.
        keep_written: also fix whatever passes a view, a split or an expansion, whose sizes may be written in the
            model's code.
    """
    facts = run.facts
    parents = _settled(facts)
    why: dict[int, str] = {}
    written = [(ids, f"a size is written in the code of {where or 'the model'}") for where, ids in facts.views]
    for ids, reason in [*facts.fixed, *(written if keep_written else ())]:
        for root in np.unique(parents[ids]):
            why.setdefault(int(root), reason)
    families = _families(run, parents, why)
    heads = {int(root) for ids in facts.heads for root in np.unique(parents[ids])}
    found, fixed = [], {}
    for slots, roots in families.items():
        if len(roots) == 1:
            reason = "all of it goes together, and something must stay"
            why |= dict.fromkeys(roots, reason)
            continue
        found.append(_group(slots, np.array(roots), parents, heads))
    for slot in run.slots:
        for root in np.unique(parents[slot.first : slot.first + slot.size]):
            if root in why:
                fixed.setdefault((slot.name, slot.dim), why[int(root)])
    return Groups(found, fixed, run, parents)


def _group(slots: tuple[Slot, ...], roots: NDArray, parents: NDArray, heads: set[int]) -> Group:
    unit = np.full(len(parents), -1)
    unit[roots] = np.arange(len(roots))
    slices = (Slice(s.name, s.dim, unit[parents[s.first : s.first + s.size]], s.parameter) for s in slots)
    return Group("heads" if heads.intersection(roots.tolist()) else "channels", tuple(slices), roots)


def _families(run: Trace, parents: NDArray, why: Mapping[int, str]) -> dict[tuple[Slot, ...], list[int]]:
    """Roots that are free, by the dimensions that they cut."""
    cut: dict[int, list[Slot]] = {}
    for slot in run.slots:
        for root in np.unique(parents[slot.first : slot.first + slot.size]).tolist():
            if root not in why:
                cut.setdefault(root, []).append(slot)
    families: dict[tuple[Slot, ...], list[int]] = {}
    for root, slots in sorted(cut.items()):
        families.setdefault(tuple(slots), []).append(root)
    return families


def _settled(facts: Facts) -> NDArray[np.int64]:
    """The root of each id, when what is left of every view is a grid.

    Heads times features are settled by the products of attention: features of a head go together. Where nothing else
    says so (a shuffle of channels), the last axis stays free and places along the others go together.
    """
    pairs = list(facts.pairs)
    parents = _components(facts.count, pairs)
    for ids in facts.grids:
        roots = parents[ids]
        varying = [axis for axis in range(ids.ndim) if (roots != roots.take([0], axis)).any()]
        if len(varying) > 1:
            for axis in varying[:-1]:
                first, rest = np.broadcast_arrays(ids.take([0], axis), ids)
                pairs.append((first.ravel(), rest.ravel()))
            parents = _components(facts.count, pairs)
    return parents


def _components(count: int, pairs: Sequence[tuple[NDArray, NDArray]]) -> NDArray[np.int64]:
    """The smallest id that each id is connected with."""
    parents = np.arange(count, dtype=np.int64)
    if not pairs:
        return parents
    a, b = (np.concatenate(side) for side in zip(*pairs, strict=True))
    while True:
        low, high = np.minimum(parents[a], parents[b]), np.maximum(parents[a], parents[b])
        apart = low != high
        if not apart.any():
            return parents
        np.minimum.at(parents, high[apart], low[apart])
        while ((up := parents[parents]) != parents).any():
            parents = up
