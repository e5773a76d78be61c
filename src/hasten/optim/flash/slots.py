"""One parameter with its gradient, its state and the options of its group: what a backend steps.

State of a parameter, in `optimizer.state[parameter]`:

    step                        float32, one element
    correction                  int8 or int16, of the parameter's shape: the lost low bits (16-bit parameters)
    weight_digits               of the dtype that the correction belongs to: 7 for bfloat16, 10 for float16
    exp_avg_codes, ..._scales   int8 or uint8 of the parameter's shape, and bfloat16 of shape (groups,)
    exp_avg                     float32; None where there are codes, since torch's distributed checkpoints look here
                                for the names that a state_dict may have

Codes lie in memory as the parameter does. Of a DTensor the state is that of the local shard, as plain tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..._core.checks import refuse, refuse_type
from .companding import decode_momentum, decode_variance, encode_momentum, encode_variance, group_count, is_dense
from .rules import MOMENTS
from .splitting import CORRECTIONS, join_weight, round_randomly, split_weight

__all__ = [
    "WEIGHT_DIGITS", "Slot", "codes_name", "correction_dtype", "is_current", "local", "new_state", "read_states",
    "scales_name",
]  # fmt: skip

WEIGHT_DIGITS = {torch.bfloat16: 7, torch.float16: 10}  # after the leading one


@dataclass
class Slot:
    """What is stepped together: a parameter, its gradient, its state, its group."""

    owner: Tensor  # the parameter
    gradient: Tensor  # local, of the parameter's shape
    state: dict[str, Any]
    group: Mapping[str, Any]
    options: Mapping[str, Any]  # the group's, made ready once for all of its slots
    rule: str
    index: int  # of the parameter among all of the optimizer: salts its random rounding
    parameter: Tensor = field(init=False)  # the owner's local shard

    def __post_init__(self) -> None:
        self.parameter = local(self.owner)


def local(tensor: Tensor) -> Tensor:
    """The local shard of a DTensor; any other tensor as it is."""
    shard = getattr(tensor, "_local_tensor", None)
    return tensor if shard is None else shard


def codes_name(name: str) -> str:
    """Where the codes of a state are kept."""
    return f"{name}_codes"


def scales_name(name: str) -> str:
    """Where the scales of a state are kept."""
    return f"{name}_scales"


def correction_dtype(parameter: Tensor, group: Mapping[str, Any]) -> torch.dtype | None:
    """The dtype of a parameter's correction; None where it has none."""
    bits = group["master_weight_bits"]
    return CORRECTIONS[bits] if bits is not None and parameter.dtype in (torch.bfloat16, torch.float16) else None


def zeros_for(parameter: Tensor, dtype: torch.dtype) -> Tensor:
    """Zeros in the parameter's order of memory; contiguous ones for a parameter that does not fill its memory."""
    kept = torch.preserve_format if is_dense(parameter) else torch.contiguous_format
    return torch.zeros_like(parameter, dtype=dtype, requires_grad=False, memory_format=kept)


def new_state(parameter: Tensor, rule: str, group: Mapping[str, Any]) -> dict[str, Any]:
    """The state of a parameter (local) before its first step."""
    counter = {"dtype": torch.float32, "device": parameter.device if group["capturable"] else "cpu"}
    state: dict[str, Any] = {"step": torch.zeros((), **counter)}
    dtype = correction_dtype(parameter, group)
    if dtype is not None:
        state["correction"] = zeros_for(parameter, dtype)
        state["weight_digits"] = WEIGHT_DIGITS[parameter.dtype]  # no text: torch flattens states of numbers only
    for name, is_variance in MOMENTS[rule].items():
        if group["quantize"]:
            codes = torch.uint8 if is_variance else torch.int8
            groups = group_count(parameter.numel(), group["group_size"])
            state[codes_name(name)] = zeros_for(parameter, codes)
            state[scales_name(name)] = torch.zeros(groups, dtype=torch.bfloat16, device=parameter.device)
            state[name] = None
        else:
            state[name] = zeros_for(parameter, torch.float32)
    return state


def is_current(parameter: Tensor, state: Mapping[str, Any], group: Mapping[str, Any], rule: str) -> bool:
    """Is the state (in the form of this room) still the parameter's (local)? Looked at in every step, so in few words.

    A model that is cast, moved, or gets another memory format or size, keeps its parameters but not their tensors;
    options of a group may be changed at any time, and states by anybody. Kernels write where these tensors lie, so all
    of them are asked.
    """
    correction = state.get("correction")
    wanted = correction_dtype(parameter, group)
    if (None if correction is None else correction.dtype) != wanted:
        return False
    if wanted is not None and state.get("weight_digits") != WEIGHT_DIGITS[parameter.dtype]:
        return False
    like: list[tuple[Any, torch.dtype]] = [] if wanted is None else [(correction, wanted)]
    device, size = parameter.device, parameter.numel()
    groups = group_count(size, group["group_size"])
    for name, is_variance in MOMENTS[rule].items():
        if not group["quantize"]:
            like.append((state.get(name), torch.float32))
            continue
        like.append((state.get(codes_name(name)), torch.uint8 if is_variance else torch.int8))
        scales = state.get(scales_name(name))
        if not isinstance(scales, Tensor) or scales.dtype is not torch.bfloat16 or scales.numel() != groups:
            return False
        if scales.ndim != 1 or not scales.is_contiguous() or scales.device != device:
            return False
    strides = parameter.stride()
    dense = is_dense(parameter)  # else the state is contiguous
    for value, dtype in like:
        if not isinstance(value, Tensor) or value.dtype is not dtype or value.numel() != size:
            return False
        placed = value.stride() == strides if dense else value.is_contiguous()
        if not placed or value.device != device:
            return False
    counter = state.get("step")
    return isinstance(counter, Tensor) and counter.dtype is torch.float32 and counter.numel() == 1


def read_states(state: Mapping[str, Any], rule: str, group_size: int) -> dict[str, Tensor]:
    """The states of a parameter in float32, decoded where they are codes."""
    found = {}
    for name, is_variance in MOMENTS[rule].items():
        if state.get(name) is not None:
            found[name] = state[name].float()
        elif codes_name(name) in state:
            decode = decode_variance if is_variance else decode_momentum
            found[name] = decode(state[codes_name(name)], state[scales_name(name)], group_size=group_size)
    return found


def write_states(state: dict[str, Any], rule: str, values: Mapping[str, Tensor], group: Mapping[str, Any]) -> None:
    """Replace the states by these values, encoded where the group says so."""
    for name, is_variance in MOMENTS[rule].items():
        if name not in values:
            continue
        for old in (name, codes_name(name), scales_name(name)):
            state.pop(old, None)
        value = values[name].float()
        if group["quantize"]:
            encode = encode_variance if is_variance else encode_momentum
            state[codes_name(name)], state[scales_name(name)] = encode(value, group_size=group["group_size"])
            state[name] = None
        else:
            state[name] = value.clone()


def read_weight(parameter: Tensor, state: Mapping[str, Any]) -> Tensor:
    """The whole weight: float32, or float64 for a float64 parameter."""
    if parameter.dtype == torch.float64:
        return parameter.detach().clone()
    return join_weight(parameter.detach(), state.get("correction"))


def write_weight(parameter: Tensor, state: Mapping[str, Any], value: Tensor, *, salt: int | None = None) -> None:
    """Put a whole weight into a parameter and its correction; with `salt` and no correction, rounded at random."""
    narrow = parameter.dtype in (torch.bfloat16, torch.float16)
    with torch.no_grad():
        if narrow and "correction" in state:
            bits = {dtype: count for count, dtype in CORRECTIONS.items()}[state["correction"].dtype]
            rounded, correction = split_weight(value.float(), parameter.dtype, bits)
            parameter.copy_(rounded)
            state["correction"].copy_(correction)
        elif narrow and salt is not None:
            parameter.copy_(round_randomly(value.float(), parameter.dtype, salt))
        else:
            parameter.copy_(value)


def check_state(call: str, parameter: Tensor, state: Mapping[str, Any], group: Mapping[str, Any], rule: str) -> None:
    """Refuse a state that does not fit the parameter (local): kernels go by what stands here.

    Raises:
        TypeError: the correction is of another dtype of weight. ValueError: a shape or dtype is another one.
    """
    if "correction" in state and state.get("weight_digits") != WEIGHT_DIGITS.get(parameter.dtype, 0):
        names: dict[Any, str] = {digits: str(dtype).removeprefix("torch.") for dtype, digits in WEIGHT_DIGITS.items()}
        made_for = names.get(state.get("weight_digits"), "16 bits")
        fix = f"Cast the model to {made_for}, or start without the optimizer's state."
        expected_dtype = f"parameters of dtype {made_for}, which the low bits in the state belong to"
        raise refuse_type(call, expected_dtype, str(parameter.dtype).removeprefix("torch."), fix)
    expected: dict[str, tuple[Any, Any]] = {}
    if "correction" in state:
        expected["correction"] = (tuple(parameter.shape), correction_dtype(parameter, group))
    for name, is_variance in MOMENTS[rule].items():
        if group["quantize"]:
            groups = group_count(parameter.numel(), group["group_size"])
            expected[codes_name(name)] = (tuple(parameter.shape), torch.uint8 if is_variance else torch.int8)
            expected[scales_name(name)] = ((groups,), torch.bfloat16)
        else:
            expected[name] = (tuple(parameter.shape), torch.float32)
    for name, (shape, kind) in expected.items():
        value = state.get(name)
        if not isinstance(value, Tensor) or tuple(value.shape) != shape or value.dtype != kind:
            fix = "Load the state that was saved with this model and these options."
            raise refuse(call, f"{name} of shape {shape} and dtype {kind}", value, fix)
