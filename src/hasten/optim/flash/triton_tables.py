"""From slots to the tables of the GPU kernel: addresses, sizes, numbers.

The kernel takes addresses (see _triton/flash.py), so this file is where they are vouched for, as native.py does for the
C++ one: a slot comes here only if `refusal_of_layout` finds nothing.
"""

from __future__ import annotations

import math
from dataclasses import astuple
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..._core.checks import refuse
from ..._triton import flash
from ..._triton.flash import Bucket, Kind, Settings
from .companding import dither
from .eager import salt_of
from .rules import MOMENTS, numbers
from .slots import Slot, codes_name, scales_name

__all__ = ["step_triton"]

_CPU, _ONE = torch.device("cpu"), torch.ones(())
_BITS = {None: 0, torch.int8: 8, torch.int16: 16}
_NUMBERS = 10  # of `Numbers` before dither and salt
_STATES = range(2, 6)  # columns of `fixed`: codes and scales of the momentum and of the variance


def _names(rule: str, *, quantized: bool) -> list[tuple[int, str]]:
    """Columns of `fixed` and the states that stand there."""
    forms = [(codes_name(name), scales_name(name)) if quantized else (name, "") for name in MOMENTS[rule]]
    names = [name for pair in forms for name in pair]
    return [(place, name) for place, name in zip(_STATES, names, strict=False) if name]


_NAMES = {(rule, quantized): _names(rule, quantized=quantized) for rule in MOMENTS for quantized in (False, True)}


def step_triton(slots: list[Slot]) -> None:
    """One step of every slot, in one launch for each kind of them.

    Args:
        slots: those for which `refusal_of_layout` of native.py is empty, on GPUs (under Triton's interpreter:
            anywhere).

    Raises:
        ValueError: a CUDA graph is captured without `capturable=True`, or before the first step.
    """
    _check_capture(slots)
    _count(slots)
    stepped = [slot for slot in slots if slot.parameter.numel() > 0]
    if stepped:
        flash.step(_buckets(stepped))


def _check_capture(slots: list[Slot]) -> None:
    on_gpu = [slot for slot in slots if slot.parameter.device.type == "cuda"]
    ready = all(slot.group["capturable"] for slot in on_gpu)
    if not ready and torch.cuda.is_current_stream_capturing():
        fix = "Build the optimizer with it: else every replay would be the same step."
        raise refuse("step in a CUDA graph", "capturable=True", "capturable=False", fix)


def _count(slots: list[Slot]) -> None:
    """Count the steps, but for those of `capturable` slots, which the kernel counts."""
    counters: dict[str, list[Tensor]] = {}
    for slot in slots:
        state, on_device = slot.state, slot.group["capturable"]
        wanted = slot.parameter.device if on_device else _CPU
        counter = state["step"]
        if counter.device != wanted:  # the option was changed after the first step
            counter = state["step"] = counter.to(wanted)
        if not on_device or slot.parameter.numel() == 0:
            counters.setdefault(wanted.type, []).append(counter)
    for kind, some in counters.items():
        if kind == "cpu":
            torch._foreach_add_(some, _ONE, alpha=1.0)  # a number would become a tensor again for each
        else:
            torch._foreach_add_(some, 1.0)


def _buckets(slots: list[Slot]) -> list[Bucket]:
    """The slots by what a kernel is compiled for."""
    gradients = [_like_parameter(slot) for slot in slots]
    fixed = np.array([_fixed(slot) for slot in slots], dtype=np.int64)
    addresses = np.array([gradient.data_ptr() for gradient in gradients], dtype=np.int64)
    aligned = (np.bitwise_or.reduce(fixed, axis=1) | addresses) % 16 == 0
    places: dict[tuple[Kind, torch.device, bool], list[int]] = {}
    kinds: dict[Any, Kind] = {}
    for place, (slot, even) in enumerate(zip(slots, aligned.tolist(), strict=True)):
        correction, dtype = slot.state.get("correction"), slot.parameter.dtype
        key = (id(slot.options), dtype, None if correction is None else correction.dtype, even)
        kind = kinds.get(key)
        if kind is None:
            kind = kinds[key] = _kind(slot, aligned=even)
        places.setdefault((kind, slot.parameter.device, slot.group["capturable"]), []).append(place)
    found = []
    for (kind, device, capturable), chosen in places.items():
        few = [slots[place] for place in chosen]
        ready, alive = _settings(few) if capturable else (_numbers(few), [])
        alive += [gradients[place] for place in chosen]
        found.append(Bucket(kind, device, few[0].owner, fixed[chosen], addresses[chosen], ready, alive))
    return found


def _like_parameter(slot: Slot) -> Tensor:
    """The gradient in the parameter's order of memory."""
    parameter, gradient = slot.parameter, slot.gradient
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter, requires_grad=False).copy_(gradient)


def _fixed(slot: Slot) -> list[int]:
    """A row of the table `fixed`: what stays from step to step."""
    state, parameter = slot.state, slot.parameter
    correction = state.get("correction")
    row = [parameter.data_ptr(), 0 if correction is None else correction.data_ptr(), 0, 0, 0, 0, parameter.numel(), 0]
    for place, name in _NAMES[slot.rule, bool(slot.group["quantize"])]:
        row[place] = state[name].data_ptr()
    return row


def _kind(slot: Slot, *, aligned: bool) -> Kind:
    group, correction = slot.group, slot.state.get("correction")
    bits = _BITS[None if correction is None else correction.dtype]
    narrow = slot.parameter.dtype != torch.float32
    return Kind(
        rule=slot.rule,
        weight=str(slot.parameter.dtype).removeprefix("torch."),
        bits=bits,
        quantized=bool(group["quantize"]) and slot.rule != "plain",
        group_size=group["group_size"],
        stochastic=bool(group["stochastic_rounding"]) and bits == 0 and narrow,
        nesterov=bool(group.get("nesterov", False)),
        coupled=slot.options["coupled"] != 0,
        aligned=aligned,
    )


def _numbers(slots: list[Slot]) -> np.ndarray:  # float32 (tensors, 12)
    """The numbers of every slot's step; most slots share theirs."""
    rows: list[tuple[float, ...]] = []
    known: dict[tuple[int, int], int] = {}
    places, words = [], []
    for slot in slots:
        t = int(slot.state["step"])
        place = known.get((id(slot.options), t))
        if place is None:
            found = astuple(numbers(slot.rule, slot.options, t))[:_NUMBERS]
            place = known[id(slot.options), t] = len(rows)
            rows.append((*(value or 0.0 for value in found), 0.0, 0.0))
        places.append(place)
        words.append((dither(t), salt_of(slot.index, t)))
    with np.errstate(over="ignore"):
        table = np.array(rows, dtype=np.float64).astype(np.float32)[places]
    table.view(np.uint32)[:, _NUMBERS:] = words
    return table


def _settings(slots: list[Slot]) -> tuple[Settings, list[Tensor]]:
    """What the device makes the numbers from, and tensors that it reads meanwhile."""
    addresses, values, alive = [], [], []
    known: dict[int, tuple[int, int, tuple[float, ...]]] = {}  # all slots lie on one device
    for slot in slots:
        ready = known.get(id(slot.options))
        if ready is None:
            ready = known[id(slot.options)] = _settings_of_group(slot, alive)
        lr_address, decay_address, row = ready
        addresses.append((slot.state["step"].data_ptr(), lr_address, decay_address))
        values.append((*row, salt_of(slot.index, 0)))
    return Settings(np.array(addresses, dtype=np.int64), np.array(values, dtype=np.float64)), alive


def _settings_of_group(slot: Slot, alive: list[Tensor]) -> tuple[int, int, tuple[float, ...]]:
    """Addresses of learning rate and decay, 0 for numbers, and the row of `Settings.values` without the salt."""
    o, rule = slot.options, slot.rule
    beta1, beta2 = o["betas"] if rule in ("adam", "lion") else (o.get("momentum", 0.0), 0.0)
    rest1 = 1.0 - (o["dampening"] if rule == "momentum" else beta1)
    found = []
    for name in ("lr", "decay"):
        value = o[name]
        if isinstance(value, Tensor):
            here = value.detach().to(device=slot.parameter.device, dtype=torch.float32)
            alive.append(here)
            found.append((here.data_ptr(), 0.0))
        else:
            found.append((0, float(value)))
    (lr_address, lr), (decay_address, decay) = found
    sign, epsilon = -1.0 if o["maximize"] else 1.0, o.get("eps", 0.0)
    row = (lr, decay, o["coupled"], sign, beta1, _log2(beta1), beta2, _log2(beta2), rest1, epsilon)
    return lr_address, decay_address, row


def _log2(value: float) -> float:
    return math.log2(value) if value > 0 else -math.inf
