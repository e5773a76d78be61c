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

_BITS = {None: 0, torch.int8: 8, torch.int16: 16}
_NUMBERS = 10  # of `Numbers` before dither and salt


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
    buckets: dict[tuple[Kind, torch.device, bool], list[tuple[Slot, Tensor]]] = {}
    for slot in slots:
        if slot.parameter.numel() > 0:
            gradient = _like_parameter(slot)
            key = (_kind(slot, gradient), slot.parameter.device, slot.group["capturable"])
            buckets.setdefault(key, []).append((slot, gradient))
    flash.step([_bucket(kind, device, pairs) for (kind, device, _), pairs in buckets.items()])


def _check_capture(slots: list[Slot]) -> None:
    on_gpu = [slot for slot in slots if slot.parameter.device.type == "cuda"]
    ready = all(slot.group["capturable"] for slot in on_gpu)
    if not ready and torch.cuda.is_current_stream_capturing():
        fix = "Build the optimizer with it: else every replay would be the same step."
        raise refuse("step in a CUDA graph", "capturable=True", "capturable=False", fix)


def _count(slots: list[Slot]) -> None:
    """Count the steps, but for those of `capturable` slots, which the kernel counts."""
    counters = []
    for slot in slots:
        state, on_device = slot.state, slot.group["capturable"]
        wanted = slot.parameter.device if on_device else torch.device("cpu")
        if state["step"].device != wanted:  # the option was changed after the first step
            state["step"] = state["step"].to(wanted)
        if not on_device or slot.parameter.numel() == 0:
            counters.append(state["step"])
    if counters:
        torch._foreach_add_(counters, 1.0)


def _like_parameter(slot: Slot) -> Tensor:
    """The gradient in the parameter's order of memory."""
    parameter, gradient = slot.parameter, slot.gradient
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter, requires_grad=False).copy_(gradient)


def _state_addresses(slot: Slot) -> tuple[int, ...]:
    """Codes and scales of the momentum and of the variance; 0 where there is none."""
    addresses = [0, 0, 0, 0]
    for place, name in enumerate(MOMENTS[slot.rule]):
        if slot.group["quantize"]:
            addresses[2 * place] = slot.state[codes_name(name)].data_ptr()
            addresses[2 * place + 1] = slot.state[scales_name(name)].data_ptr()
        else:
            addresses[2 * place] = slot.state[name].data_ptr()
    return tuple(addresses)


def _fixed(slot: Slot) -> tuple[int, ...]:
    """A row of the table `fixed`: what stays from step to step."""
    correction = slot.state.get("correction")
    address = 0 if correction is None else correction.data_ptr()
    return (slot.parameter.data_ptr(), address, *_state_addresses(slot), slot.parameter.numel(), 0)


def _kind(slot: Slot, gradient: Tensor) -> Kind:
    group, correction = slot.group, slot.state.get("correction")
    aligned = all(value % 16 == 0 for value in (gradient.data_ptr(), *_fixed(slot)))
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


def _bucket(kind: Kind, device: torch.device, pairs: list[tuple[Slot, Tensor]]) -> Bucket:
    slots, gradients = [slot for slot, _ in pairs], [gradient for _, gradient in pairs]
    fixed = np.array([_fixed(slot) for slot in slots], dtype=np.int64)
    addresses = np.array([gradient.data_ptr() for gradient in gradients], dtype=np.int64)
    ready, alive = _settings(slots) if slots[0].group["capturable"] else (_numbers(slots), [])
    return Bucket(kind, device, slots[0].owner, fixed, addresses, ready, [*gradients, *alive])


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
    for slot in slots:
        o, rule = slot.options, slot.rule
        beta1, beta2 = o["betas"] if rule in ("adam", "lion") else (o.get("momentum", 0.0), 0.0)
        rest1 = 1.0 - (o["dampening"] if rule == "momentum" else beta1)
        lr_address, lr = _on_device(o["lr"], slot, alive)
        decay_address, decay = _on_device(o["decay"], slot, alive)
        addresses.append((slot.state["step"].data_ptr(), lr_address, decay_address))
        values.append((
            lr, decay, o["coupled"], -1.0 if o["maximize"] else 1.0, beta1, _log2(beta1), beta2, _log2(beta2), rest1,
            o.get("eps", 0.0), salt_of(slot.index, 0),
        ))  # fmt: skip
    return Settings(np.array(addresses, dtype=np.int64), np.array(values, dtype=np.float64)), alive


def _on_device(value: Any, slot: Slot, alive: list[Tensor]) -> tuple[int, float]:
    """The address of a number that is a tensor, or the number itself (and the address 0)."""
    if not isinstance(value, Tensor):
        return 0, float(value)
    here = value.detach().to(device=slot.parameter.device, dtype=torch.float32)
    alive.append(here)
    return here.data_ptr(), 0.0


def _log2(value: float) -> float:
    return math.log2(value) if value > 0 else -math.inf
