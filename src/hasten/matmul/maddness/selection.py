"""Which layers of a model can become tables, with which settings, and how long they would take."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..._core.checks import check, near, refuse, refuse_type
from .calibration import trace_calls
from .measuring import measure, measure_conv2d
from .modes import MaddnessLayer
from .patches import geometry_of
from .planner import Candidate, Entry, Plan, Timing
from .trees import LEAVES

__all__ = ["Selection", "candidates_of", "find_layers", "follow", "pays"]

NCODEBOOKS = (4, 8, 16, 32, 64, 128)  # what is tried where the caller names none
DTYPES = (torch.float32, torch.bfloat16, torch.float16)

Shapes = list[tuple[tuple[int, ...], torch.dtype]]


@dataclass
class Selection:
    """The linear and convolution layers of a model.

    Args:
        layers: those that can be replaced, by name, in the order of their calls.
        refused: why the others are kept.
        calls: shape and dtype of each call's input.
        order: all names in the order of their calls.
    """

    layers: dict[str, nn.Module] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    calls: dict[str, Shapes] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)

    def sort(self, plan: Plan) -> Plan:
        """The plan with its entries in the order of the calls."""
        return Plan(tuple(sorted(plan.entries, key=lambda entry: self.order.index(entry.name))), plan.note)

    def refusals(self) -> tuple[Entry, ...]:
        """An entry for each layer that is kept before anything was measured."""
        return tuple(Entry(name, False, reason) for name, reason in self.refused.items())


def find_layers(call: str, model: nn.Module, inputs: Any, skip: Sequence[str]) -> Selection:
    """Run the model once and sort its layers into those that can be replaced and those that cannot.

    Args:
        call: who asks, for messages.
        model: in evaluation mode.
        inputs: what it is called with.
        skip: "first" and "last" by order of calls, or globs on names.

    Raises:
        TypeError: `skip` is a string.
        ValueError: a glob matches nothing; a model in training mode.
    """
    if isinstance(skip, str):
        raise refuse_type(call, "skip to be a sequence of names", repr(skip), f"Pass skip=({skip!r},).")
    done = tuple(f"{name}." for name, m in model.named_modules() if isinstance(m, MaddnessLayer))
    modules = ((name, m) for name, m in model.named_modules() if name and not name.startswith(done))
    every = {name: m for name, m in modules if isinstance(m, (nn.Linear, nn.Conv2d))}
    for pattern in skip:
        if pattern not in ("first", "last") and not fnmatch.filter(every, pattern):
            raise refuse(call, "skip to match layers", repr(pattern), near(pattern, ["first", "last", *every]))
    calls = trace_calls(call, model, inputs, every)
    called = list(calls)
    found = Selection(calls=calls, order=[*called, *(name for name in every if name not in calls)])
    for name in found.order:
        reason = _obstacle(every[name]) if name in calls else "the calibration data did not call it"
        reason = reason or _skipped(name, called, skip)
        if reason:
            found.refused[name] = reason
        else:
            found.layers[name] = every[name]
    return found


def _obstacle(module: nn.Module) -> str:
    """Why this layer cannot become tables; "" if it can."""
    if type(module) not in (nn.Linear, nn.Conv2d):
        return f"{type(module).__name__} is a subclass whose forward pass may be another"
    if isinstance(module, nn.Conv2d) and module.groups != 1:
        return f"it has groups={module.groups}"
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks:
        return "it has hooks, which would be lost"
    dtype = _weight(module).dtype
    return "" if dtype in DTYPES else f"its weight is {str(dtype).removeprefix('torch.')}"


def _skipped(name: str, called: Sequence[str], skip: Sequence[str]) -> str:
    if name == called[0] and "first" in skip:
        return "it is the first layer"
    if name == called[-1] and "last" in skip:
        return "it is the last layer"
    return "it is to be skipped" if any(fnmatch.fnmatchcase(name, pattern) for pattern in skip) else ""


def candidates_of(
    found: Selection,
    ncodebooks: int | None,
    leaves: int,
    *,
    timed: bool,
    accumulate: str = "exact",
    upcast_every: int = 16,
) -> list[Candidate]:
    """All settings of all layers that can be replaced.

    Args:
        found: from `find_layers`; layers with too few columns for any setting move to its `refused`, and if `timed`
            those that are not on the CPU.
        ncodebooks: C, or None for 4, 8, ..., 128 as far as there are columns.
        leaves: K.
        timed: measure the layers and their tables.
        accumulate, upcast_every: how the tables are summed.
    """
    made = []
    for name, module in list(found.layers.items()):
        columns, device = _weight(module)[0].numel(), _weight(module).device.type
        numbers = [n for n in (NCODEBOOKS if ncodebooks is None else (ncodebooks,)) if n <= columns]
        reason = ""
        if not numbers:
            reason = f"it has {columns} columns for {NCODEBOOKS[0] if ncodebooks is None else ncodebooks} codebooks"
        elif timed and device != "cpu":
            reason = f"it is on {device}, where dense products are faster than tables"
        if reason:
            found.refused[name] = reason
            del found.layers[name]
            continue
        for number in numbers:
            timing = _time(module, found.calls[name], number, leaves, accumulate, upcast_every) if timed else None
            made.append(Candidate(name, type(module).__name__, number, leaves, timing))
    return made


def _time(module: nn.Module, calls: Shapes, ncodebooks: int, leaves: int, accumulate: str, upcast_every: int) -> Timing:
    """Times of all calls of a forward pass together."""
    timings = []
    for shape, dtype in calls:
        how = (ncodebooks, leaves, dtype, accumulate, upcast_every)
        if isinstance(module, nn.Conv2d):
            batch, channels, height, width = shape if len(shape) == 4 else (1, *shape)
            size, geometry = (batch, channels, height, width), geometry_of(module)
            timings.append(measure_conv2d(size, module.out_channels, geometry, *how))
        else:
            assert isinstance(module, nn.Linear)
            rows = max(1, torch.Size(shape[:-1]).numel())
            timings.append(measure(rows, module.in_features, module.out_features, *how))
    dense = {name: sum(t.dense[name] for t in timings) for name in timings[0].dense}
    return Timing(sum(t.tables for t in timings), dense)


def pays(candidate: Candidate, against: str) -> bool:
    """Whether its tables were faster than its dense form."""
    assert candidate.timing is not None
    return candidate.timing.tables < candidate.timing.opponent(against)[1]


def follow(call: str, plan: Plan, found: Selection) -> list[Candidate]:
    """The settings that a plan has chosen, in the order of the calls.

    Raises:
        ValueError: the plan has a layer that cannot be replaced here, or not with that setting.
    """
    entries = {entry.name: entry for entry in plan.entries if entry.convert}
    for name in entries.keys() - found.layers.keys():
        reason = f"{name} is kept: {found.refused[name]}." if name in found.refused else near(name, found.layers)
        raise refuse(call, f"a layer {name!r} that can be replaced, as planned", "none", reason)
    made = []
    for name, module in found.layers.items():
        if name in entries:
            ncodebooks, leaves = entries[name].ncodebooks or 0, entries[name].leaves or 0
            good = 0 < ncodebooks <= _weight(module)[0].numel() and leaves in LEAVES
            expected = f"a plan with ncodebooks and leaves that {name!r} can have"
            check(good, call, expected, (ncodebooks, leaves), "Plan this model.")
            made.append(Candidate(name, type(module).__name__, ncodebooks, leaves))
    return made


def _weight(module: nn.Module) -> Tensor:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight
