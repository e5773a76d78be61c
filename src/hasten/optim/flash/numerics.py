"""Is a learning rate so small that steps are lost in the weights' last place?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from .slots import Slot, read_weight

__all__ = ["NumericsError", "check_steps", "smallest_step"]

# Digits after the leading one: of the dtype alone, and with a correction of so many bits.
_DIGITS = {
    (torch.float64, 0): 52, (torch.float32, 0): 23,
    (torch.bfloat16, 0): 7, (torch.bfloat16, 8): 15, (torch.bfloat16, 16): 23,
    (torch.float16, 0): 10, (torch.float16, 8): 18, (torch.float16, 16): 23,
}  # fmt: skip
# What a step typically is, as a multiple of the learning rate: Adam's ratio of moments is well below 1.
_TYPICAL = {"adam": 0.1, "momentum": 1.0, "plain": 1.0, "lion": 1.0}

# Not weakref's: it compares keys with ==, which tensors answer element by element.
_largest: Any = WeakTensorKeyDictionary()


class NumericsError(RuntimeError):
    """Steps of this learning rate are lost in the rounding of the weights."""


def smallest_step(largest: float, dtype: torch.dtype, correction_bits: int = 0) -> float:
    """The smallest step that moves a weight of size `largest`: half of its last place.

    >>> smallest_step(1.0, torch.bfloat16), smallest_step(1.0, torch.bfloat16, 8)
    (0.00390625, 1.52587890625e-05)
    """
    return 2.0 ** (math.floor(math.log2(largest)) - _DIGITS[dtype, correction_bits] - 1)


def check_steps(call: str, rule: str, slots: list[Slot]) -> None:
    """Raise where typical steps are lost in the largest weights of a parameter.

    The largest weight is looked up at a parameter's first step and remembered (`recompute_param_stats` forgets it). A
    learning rate of 0, weights of 0, and parameters without elements pass.

    Raises:
        NumericsError: names the learning rate and the smallest one that works.
    """
    for slot in slots:
        lr = float(slot.options["lr"])
        largest = _largest_of(slot)
        if lr == 0 or largest == 0 or not math.isfinite(largest):
            continue
        correction = slot.state.get("correction")
        bits = 0 if correction is None else 8 * correction.element_size()
        needed = smallest_step(largest, slot.parameter.dtype, bits) / _TYPICAL[rule]
        if lr < needed:
            raise NumericsError(
                f"{call}: expected a learning rate of at least {needed:.3g} for parameter {slot.index} (largest weight "
                f"{largest:.3g}, {slot.parameter.dtype} with {bits} bits of correction), got {lr:.3g}: typical steps "
                "are lost in rounding. Raise it, or keep more bits (master_weight_bits)."
            )


def largest_weights(state: Mapping[Any, Any], *, forget: bool) -> dict[Tensor, float]:
    """The largest weight of each parameter of an optimizer, as far as it was looked up; `forget` drops them."""
    known = {parameter: _largest[parameter] for parameter in state if parameter in _largest}
    if forget:
        for parameter in known:
            del _largest[parameter]
    return known


def _largest_of(slot: Slot) -> float:
    if slot.owner not in _largest:
        weight = read_weight(slot.parameter, slot.state)
        _largest[slot.owner] = float(weight.abs().max()) if weight.numel() else 0.0
    return _largest[slot.owner]
