"""Cutting channels and heads out of a model, so that what is left is smaller and computes the same."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ..._core.checks import refuse
from ..masks import finalize
from .attention import NarrowAttention
from .cut import cut
from .groups import Group, Groups, solve
from .trace import Trace, checked, evaluated, run, trace

__all__ = ["Removed", "materialize"]

# Largest deviation of an output, in units of the largest output: sums have other lengths, so roundings differ.
_CLOSE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}


@dataclass(frozen=True)
class Removed:
    """What `materialize` did.

    Args:
        groups: units before and after, by the name of each group that lost some.
        kept: what is zero and stays, and why.
        parameters: entries of all parameters before and after.
        macs: multiply-adds of products for the example inputs, before and after.
    """

    groups: Mapping[str, tuple[int, int]]
    kept: Mapping[str, str]
    parameters: tuple[int, int]
    macs: tuple[int, int]

    def __len__(self) -> int:
        return sum(before - after for before, after in self.groups.values())

    def __str__(self) -> str:
        lines = [f"{name}: {before} -> {after}" for name, (before, after) in self.groups.items()]
        lines += [f"{name}: stays, {why}" for name, why in self.kept.items()]
        for what, (before, after) in (("parameters", self.parameters), ("multiply-adds", self.macs)):
            lines.append(f"{what}: {before:,} -> {after:,} ({before / max(after, 1):.2f} times fewer)")
        return "\n".join(lines)


def materialize(model: nn.Module, example_inputs: Any) -> tuple[nn.Module, Removed]:
    """A smaller copy of a model without the channels and heads that are zero; it computes the same.

    A unit is removed when nothing that it feeds would notice: what arrives there is zero whatever the input, or the
    weights that read it are. The masks of `channel_masks` and `head_masks` see to both. Outputs of the copy and of the
    model are compared on the example inputs; if they differ because the model's code has sizes written in it (a head
    count, the width of a flattened image), what passes there stays and the report says so.

    Attributes of torch's layers are set to their new sizes. In one's own modules an attribute named `heads`,
    `num_heads`, `n_heads`, `n_head`, `nhead`, `num_attention_heads`, `num_key_value_heads`, `n_kv_heads`,
    `all_head_size`, `inner_dim` or `split_size` follows when it is the size that a view of the module's forward gave.
    An `nn.MultiheadAttention` that loses heads becomes a `NarrowAttention`, unless it adds keys of its own.

    Args:
        model: with or without masks on it; not changed.
        example_inputs: a tensor, a tuple of positional arguments or a mapping of named ones.

    Returns:
        The copy, in the model's training mode and without masks or gradients; and what was removed.

    Raises:
        ValueError: the smaller model cannot run: its code has sizes that nothing tells.
        TypeError: not a module, or parameters without values.

    >>> net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> with torch.no_grad():
    ...     _ = net[0].weight[1].zero_(), net[0].bias[1].zero_()
    >>> small, removed = materialize(net, torch.zeros(1, 4))
    >>> small[0], removed.groups
    (Linear(in_features=4, out_features=2, bias=True), {'0.weight, dimension 0': (3, 2)})
    """
    call = "prune.materialize"
    dense = finalize(copy.deepcopy(checked(model, call)))
    watched = trace(dense, example_inputs)
    trouble: Exception | None = None
    torch_only = {name for name, module in dense.named_modules() if NarrowAttention.lacks(module)}
    for held in (torch_only.__contains__, lambda module: True):
        known = solve(watched, held)
        kept = {group: _needed(known, group) for group in known}
        ids = known.ids(kept)
        try:
            small = cut(copy.deepcopy(dense), known, ids)
            with evaluated(small):
                _compare(run(small, example_inputs), watched.outputs)
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            trouble = error
            continue
        return small, _report(known, kept, ids, trouble)
    fix = "Let forward take sizes from shapes of tensors, or -1 in views; or call the model on other inputs."
    got = f"{type(trouble).__name__}: {trouble}"
    raise refuse(call, "a model that runs with fewer channels", got, fix) from trouble


def _needed(known: Groups, group: Group) -> NDArray[np.bool_]:
    """The units of a group that something notices; the first, if nothing notices any."""
    noticed = np.zeros(len(known.parents), bool)
    for ids, zero in known.run.facts.sums:
        noticed[known.parents[ids[~zero]]] = True
    needed = noticed[group.roots]
    if not needed.any():
        needed[0] = True
    return needed


def _compare(found: Any, expected: Any) -> None:
    """Raise unless two outputs are the same but for roundings."""
    pairs = zip(pytree.tree_leaves(found), pytree.tree_leaves(expected), strict=True)
    for one, other in pairs:
        if isinstance(one, Tensor):
            if one.shape != other.shape:
                raise ValueError(f"an output of shape {tuple(one.shape)} instead of {tuple(other.shape)}")
            one, other, share = one.double(), other.double(), _CLOSE.get(other.dtype, 0.0)
            largest = other.abs().nan_to_num(posinf=0).max().item() if other.numel() else 0.0
            if not torch.allclose(one, other, rtol=0, atol=share * largest, equal_nan=True):
                raise ValueError(f"an output that deviates by {(one - other).abs().max().item():g}")


def _report(known: Groups, kept: Mapping[Group, NDArray], ids: NDArray, trouble: Exception | None) -> Removed:
    sizes: dict[str, tuple[int, int]] = {}
    for group, units in kept.items():
        before, after = sizes.get(group.name, (0, 0))  # several may begin with the same dimension
        sizes[group.name] = before + len(group), after + int(units.sum())
    all_ids = known.ids({})
    return Removed(
        {name: pair for name, pair in sizes.items() if pair[0] > pair[1]},
        _stays(known, kept, known.run) | ({"what passes views": f"{trouble}"} if trouble else {}),
        (known.parameters(all_ids), known.parameters(ids)),
        (known.macs(all_ids), known.macs(ids)),
    )


def _stays(known: Groups, kept: Mapping[Group, NDArray], watched: Trace) -> dict[str, str]:
    """What is zero in a parameter and could not go, with the reason."""
    found: dict[str, str] = {}
    zero = {(slot.name, slot.dim): watched.zero[slot.first : slot.first + slot.size] for slot in watched.slots}
    matrices = {slot.name for slot in watched.slots if slot.parameter and slot.dim > 0}
    for slot in watched.slots:
        why = known.fixed.get((slot.name, slot.dim))
        if why and slot.name in matrices and (count := int(zero[slot.name, slot.dim].sum())):
            found[f"{slot.name}, dimension {slot.dim}: {count} of {slot.size}"] = why
    for group, units in kept.items():
        parts = {s.name: _zero_units(s.units, zero[s.name, s.dim], len(group)) for s in group.slices if s.parameter}
        held = units & parts[group.slices[0].name]
        if held.any():
            others = [name for name, flags in parts.items() if (held & ~flags).any()]
            why = f"not zero in {', '.join(others)}" if others else "something must stay"
            found[f"{group.name}: {int(held.sum())} of {len(group)}"] = why
    return found


def _zero_units(units: NDArray, zero: NDArray, count: int) -> NDArray[np.bool_]:
    """Whether all places of each unit are zero."""
    flags = np.ones(count, bool)
    np.logical_and.at(flags, units[units >= 0], zero[units >= 0])
    return flags
