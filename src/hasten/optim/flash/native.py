"""The compiled step: all parameters of a call in one pass of C++, which works on their memory in place.

The kernel takes addresses (see _native/flash/step.hpp), so this file is where they are vouched for: a slot comes here
only if `refusal` finds nothing, which says that its tensors are dense, in the same order, and of the dtypes and sizes
that the kernel assumes. Tensors stay referenced by the slots while it runs.
"""

from __future__ import annotations

from array import array

import numpy as np
import torch
from torch import Tensor

from hasten._native import ext

from ..._core import dispatch
from .companding import GROUP_SIZES, is_dense
from .rules import MOMENTS
from .slots import Slot, codes_name, scales_name

__all__ = ["GRADIENT", "group_row", "refusal", "refusal_of_layout", "run", "step_native", "tables"]

# In the order of _native/flash/step.hpp.
_RULES = {"adam": 0, "momentum": 1, "plain": 2, "lion": 3}
_FORMATS = {
    (torch.float32, None): 0,
    (torch.bfloat16, None): 1, (torch.bfloat16, torch.int8): 2, (torch.bfloat16, torch.int16): 3,
    (torch.float16, None): 4, (torch.float16, torch.int8): 5, (torch.float16, torch.int16): 6,
}  # fmt: skip
_TENSOR_COLUMNS, _GROUP_COLUMNS = 11, 14
GRADIENT = 1  # the column of its address


def refusal(slot: Slot) -> str:
    """Why the kernel does not take this slot; "" if it does."""
    return dispatch.native_reason() if ext is None else refusal_of_layout(slot)


def refusal_of_layout(slot: Slot) -> str:
    """Why a kernel that works on memory in place does not take this slot; "" if it does."""
    parameter, gradient = slot.parameter, slot.gradient
    if parameter.dtype not in (torch.float32, torch.bfloat16, torch.float16):
        return f"the kernel does not know parameters of {parameter.dtype}"
    if gradient.dtype != parameter.dtype:
        return f"its gradient is {gradient.dtype}, the parameter {parameter.dtype}"
    if not (parameter.is_contiguous() or is_dense(parameter)):
        return "it does not fill its memory without gaps"
    if parameter.is_neg():
        return "it is a negative view"
    if slot.group["group_size"] not in GROUP_SIZES:
        return f"the kernel does not know groups of {slot.group['group_size']}"
    return ""


def step_native(slots: list[Slot], threads: int) -> None:
    """One step of every slot.

    Args:
        slots: those for which `refusal` is empty.
        threads: at most so many, of the kernel's own.
    """
    table, settings, copies = tables(slots)
    run(table, settings, threads)
    del copies  # until here the table pointed to them


def run(table: np.ndarray, settings: np.ndarray, threads: int) -> None:
    """Call the kernel; what the table points to must be alive."""
    assert ext is not None
    ext.flash_step(table, settings, dispatch.isa(), threads)


def tables(slots: list[Slot]) -> tuple[np.ndarray, np.ndarray, list[Tensor]]:
    """The kernel's tables of tensors and of groups, and copies that the first one points to."""
    rows, groups, copies, group = array("Q"), [], [], None
    names: tuple[str | None, ...] = ()
    for position, slot in enumerate(slots):
        if slot.options is not group:
            group = slot.options
            groups.append(group_row(slot, position))
            names = _names(slot)
        parameter, gradient, state = slot.parameter, slot.gradient, slot.state
        if gradient.stride() != parameter.stride():
            gradient = torch.empty_like(parameter, requires_grad=False).copy_(gradient)
            copies.append(gradient)
        low = state.get("correction")
        rows.extend(
            (
                parameter.data_ptr(),
                gradient.data_ptr(),
                *[0 if name is None else state[name].data_ptr() for name in names],
                parameter.numel(),
                _FORMATS[parameter.dtype, None if low is None else low.dtype],
                (slot.index * 0x85EBCA6B) & 0xFFFFFFFF,
                0 if low is None else low.data_ptr(),
            )
        )
    table = np.array(rows, dtype=np.uint64).reshape(len(slots), _TENSOR_COLUMNS)
    return table, np.array(groups, dtype=np.float64).reshape(len(groups), _GROUP_COLUMNS), copies


def _names(slot: Slot) -> tuple[str | None, ...]:
    """Where the addresses of momentum, its scales, variance, its scales and the counter come from."""
    found: list[str | None] = []
    for name in MOMENTS[slot.rule]:
        found += [codes_name(name), scales_name(name)] if slot.group["quantize"] else [name, None]
    return (*found, *[None] * (4 - len(found)), "step")


def group_row(slot: Slot, first: int) -> tuple[float, ...]:
    """The settings of a group, in the order of step.hpp."""
    o, rule = slot.options, slot.rule
    beta1, beta2 = o["betas"] if rule in ("adam", "lion") else (o.get("momentum", 0.0), 0.0)
    quantized = slot.group["quantize"] and rule != "plain"
    return (
        first, _RULES[rule], float(o["lr"]), beta1, beta2, o.get("eps", 0.0), o["decay"], o["coupled"],
        o.get("dampening", 0.0), -1.0 if o["maximize"] else 1.0, float(o.get("nesterov", False)),
        float(slot.group["stochastic_rounding"]), float(quantized), slot.group["group_size"],
    )  # fmt: skip
