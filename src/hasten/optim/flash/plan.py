"""The table of the native step, kept from one step to the next.

Looking up eight addresses for each of a thousand small tensors takes several times as long as stepping them. From step
to step only the gradients and the options of groups are new, so the rest of the table stays, as long as everything is
where it was: this is asked of every parameter before a step, and if anything differs, the table is made anew.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import backends, native
from .slots import Slot

if TYPE_CHECKING:
    from .optimizer import FlashOptimizer

__all__ = ["Plan", "plan_for"]

# Options that shape the state or its meaning: with others the table is another one.
_SHAPING = ("quantize", "group_size", "master_weight_bits", "stochastic_rounding", "momentum")


class Plan:
    """The native step of the parameters of `slots`, all of an optimizer that have a gradient."""

    def __init__(self, optimizer: FlashOptimizer, slots: list[Slot]) -> None:
        self.table, self.settings, copies = native.tables(slots)
        assert not copies
        self.owners = [slot.owner for slot in slots]
        self.kept = [slot.state for slot in slots]
        self.entries = [entry for state in self.kept for entry in state.values()]
        self.tensors = [*self.owners, *(entry for entry in self.entries if isinstance(entry, Tensor))]
        self.addresses = list(map(Tensor.data_ptr, self.tensors))
        self.layout = _layout(self.owners)
        self.members = _members(optimizer)
        self.states = [id(state) for state in optimizer.state.values()]
        stepped = {id(slot.owner) for slot in slots}
        self.others = [p for group in optimizer.param_groups for p in group["params"] if id(p) not in stepped]
        firsts = {id(slot.group): slot for slot in reversed(slots)}
        self.groups = [(slot.group, slot, _shaping(slot.group)) for slot in reversed(list(firsts.values()))]

    def step(self, optimizer: FlashOptimizer, threads: int) -> bool:
        """Step, if everything is where it was; False, and nothing done, if not."""
        gradients = self._gradients(optimizer) if _wants_kernel(optimizer) else None
        if gradients is None:
            return False
        for row, (group, slot, shaping) in enumerate(self.groups):
            if _shaping(group) != shaping:
                return False
            slot.options = optimizer._options(group)
            self.settings[row, 1:] = native.group_row(slot, 0)[1:]
        self.table[:, native.GRADIENT] = [gradient.data_ptr() for gradient in gradients]
        native.run(self.table, self.settings, threads)
        del gradients  # until here: another thread may clear them while the kernel runs
        return True

    def _gradients(self, optimizer: FlashOptimizer) -> list[Tensor] | None:
        """The gradients; None if a group, a parameter, its gradient or its state is not as it was."""
        if not _identical(_members(optimizer), self.members):
            return None
        if [id(state) for state in optimizer.state.values()] != self.states:
            return None
        if not _identical([entry for state in self.kept for entry in state.values()], self.entries):
            return None
        # A tensor may get other memory and stay the same object: share_memory_(), or a queue to another process.
        if list(map(Tensor.data_ptr, self.tensors)) != self.addresses or _layout(self.owners) != self.layout:
            return None
        if any(p.grad is not None for p in self.others):
            return None
        gradients: list[Any] = [p.grad for p in self.owners]
        if any(gradient is None or gradient.layout is not torch.strided for gradient in gradients):
            return None
        return None if _layout(gradients) != self.layout or any(map(Tensor.is_neg, gradients)) else gradients


def plan_for(optimizer: FlashOptimizer, slots: list[Slot]) -> Plan | None:
    """A plan for the step that these slots have just taken, if all of it is native and of plain tensors."""
    if not _wants_kernel(optimizer):
        return None
    plain = all(
        type(slot.owner) in (Tensor, torch.nn.Parameter)
        and slot.gradient.stride() == slot.parameter.stride()
        and backends.choose(slot, optimizer.backend).backend == "native"
        for slot in slots
    )
    return Plan(optimizer, slots) if plain and slots else None


def _wants_kernel(optimizer: FlashOptimizer) -> bool:
    """Does nothing but the native step happen in a step?"""
    plain = not (optimizer.skip_nonfinite or optimizer.check_numerics)
    return plain and optimizer.backend in ("auto", "native", "kernel")


def _shaping(group: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(group.get(name) for name in _SHAPING)


def _members(optimizer: FlashOptimizer) -> list[Any]:
    """The groups, each with its parameters: who edits these lists by hand does not tell."""
    return [member for group in optimizer.param_groups for member in (group, *group["params"])]


def _identical(one: list[Any], two: list[Any]) -> bool:
    return len(one) == len(two) and all(map(operator.is_, one, two))


def _layout(tensors: list[Tensor]) -> list[Any]:
    return [*map(Tensor.numel, tensors), *map(Tensor.stride, tensors), *(x.dtype for x in tensors)]
