"""The step in plain torch, one tensor after the other: the readable backend, for any device and layout.

With torch.compile the same function becomes one loop over memory; numbers are then tensors, so that a new learning rate
is no new compilation.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from .companding import (
    decode_momentum,
    decode_variance,
    dither,
    encode_momentum,
    encode_root,
    in_memory_order,
    is_dense,
)
from .rules import MOMENTS, Numbers, numbers, update
from .slots import Slot, codes_name, scales_name
from .splitting import CORRECTIONS, join_weight, round_randomly, split_weight

__all__ = ["step_compiled", "step_eager"]


def step_eager(slots: list[Slot]) -> None:
    """One step of every slot."""
    for slot in slots:
        _step(slot, _stepped, compiled=False)


def step_compiled(slots: list[Slot]) -> None:
    """One step of every slot, by torch.compile."""
    for slot in slots:
        _step(slot, _compiled(), compiled=True)


@functools.cache
def _compiled() -> Callable[..., Any]:
    return torch.compile(_stepped, dynamic=True)


def _stepped(
    rule: str,
    bits: int | None,
    salt: int | None,
    group_size: int,
    rounding: Any,
    n: Any,
    weight: Tensor,
    correction: Tensor | None,
    gradient: Tensor,
    states: list[Tensor],
    scales: list[Tensor],
) -> tuple[Tensor, Tensor | None, list[Tensor], list[Tensor]]:
    """What a step makes of flat tensors; nothing is changed in place."""
    wide = weight.dtype == torch.float64
    x = weight if wide else join_weight(weight, correction)
    g = gradient.to(x.dtype)
    kinds = list(MOMENTS[rule].values())
    values = states
    if scales:
        values = [
            (decode_variance if is_variance else decode_momentum)(codes, scale, group_size=group_size)
            for codes, scale, is_variance in zip(states, scales, kinds, strict=True)
        ]
    x, values = update(rule, n, x, g, values)
    new_scales = []
    for position, is_variance in enumerate(kinds):
        if scales:
            encode = encode_root if is_variance else encode_momentum
            values[position], scale = encode(values[position].float(), group_size=group_size, dither=rounding)
            new_scales.append(scale)
        elif is_variance:
            values[position] = values[position].square()
    if correction is not None and bits is not None:
        narrow, correction = split_weight(x, weight.dtype, bits)
    elif salt is not None and weight.dtype in (torch.bfloat16, torch.float16):
        narrow = round_randomly(x, weight.dtype, salt)
    else:
        narrow = x.to(weight.dtype)
    return narrow, correction, values, new_scales


def _step(slot: Slot, function: Callable[..., Any], *, compiled: bool) -> None:
    state, group, parameter = slot.state, slot.group, slot.parameter
    state["step"] += 1
    if parameter.numel() == 0:
        return
    t = int(state["step"])
    n: Any = numbers(slot.rule, slot.options, t)
    rounding: Any = dither(t)
    correction = state.get("correction")
    bits = None if correction is None else {dtype: count for count, dtype in CORRECTIONS.items()}[correction.dtype]
    salt = salt_of(slot.index, t) if group["stochastic_rounding"] else None
    if compiled:
        n, rounding = _as_tensors(n, parameter.device), torch.tensor(rounding, dtype=torch.int32)
    names = list(MOMENTS[slot.rule])
    kept = [state[codes_name(name) if group["quantize"] else name] for name in names]
    scales = [state[scales_name(name)] for name in names] if group["quantize"] else []
    dense = is_dense(parameter)  # else its order of memory is that of its state, which is contiguous
    weight = in_memory_order(parameter.detach()) if dense else parameter.detach().reshape(-1)
    found = function(
        slot.rule, bits, salt, group["group_size"], rounding, n,
        weight, None if correction is None else in_memory_order(correction),
        _like_parameter(slot.gradient, parameter), [in_memory_order(value) for value in kept], scales,
    )  # fmt: skip
    narrow, new_correction, values, new_scales = found
    (in_memory_order(parameter.detach()) if dense else parameter.detach()).copy_(
        narrow if dense else narrow.view(parameter.shape)
    )
    if correction is not None:
        in_memory_order(correction).copy_(new_correction)
    for old, new in zip([*kept, *scales], [*values, *new_scales], strict=True):
        in_memory_order(old).copy_(new)


def _like_parameter(gradient: Tensor, parameter: Tensor) -> Tensor:
    """The gradient, flat, in the parameter's order of memory."""
    if not is_dense(parameter):
        return gradient.reshape(-1)
    if gradient.stride() != parameter.stride():
        gradient = torch.empty_like(parameter, dtype=gradient.dtype, requires_grad=False).copy_(gradient)
    return in_memory_order(gradient)


def _as_tensors(n: Numbers, device: torch.device) -> Numbers:
    """The same numbers as tensors, but for those that choose a path."""
    fixed = ("sign", "nesterov")
    made: dict[str, Any] = {
        f.name: torch.tensor(value, dtype=torch.float32, device=device)
        for f in fields(n)
        if f.name not in fixed and (value := getattr(n, f.name)) is not None
    }
    return replace(n, **made)


def salt_of(index: int, t: int) -> int:
    """What the random rounding of parameter `index` in step `t` is salted with: 32 bits."""
    return ((index * 0x85EBCA6B) + t * 0x9E3779B1) & 0xFFFFFFFF
