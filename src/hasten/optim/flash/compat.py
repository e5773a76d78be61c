"""States of the published package `flashoptim` (arXiv 2602.23349), so that its checkpoints load.

Its weights are split by units in the last place: with `n` the weight rounded to 16 bits, `e = x - n` lies within half a
place, `2^l` with `l = exponent(n) - digits - 1`, and is stored as `c = round(N e / 2^l)`, N = 127 or 32767. Its states
are int8 softsign codes and uint8 square-root codes as ours, with float16 scales; the names are `exp_avg::quantized` and
`exp_avg::scales`. `error_bits` are written in the dtype of the weight: int8 as numbers, int16 as bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..._core.checks import refuse
from .rules import MOMENTS

__all__ = ["compute_ecc_bits", "is_published", "read_published", "reconstruct_fp32_param"]

_DIGITS = {torch.bfloat16: 7, torch.float16: 10}
_BIAS = {torch.bfloat16: 127, torch.float16: 15}
_GROUP = 32


def _half_place(narrow: Tensor) -> Tensor:
    """The exponent `l` of half a unit in the last place of each weight."""
    digits, bias = _DIGITS[narrow.dtype], _BIAS[narrow.dtype]
    word = narrow.view(torch.int16).to(torch.int32) & 0x7FFF
    exponent = (word >> digits).clamp(min=1) - bias  # zero and subnormals share the smallest normal exponent
    return exponent - digits - 1


def _times_power(x: Tensor, exponent: Tensor) -> Tensor:
    """`x * 2^exponent` in two halves, since the power alone can leave float32's range."""
    half = torch.div(exponent, 2, rounding_mode="floor")
    return torch.ldexp(torch.ldexp(x, half), exponent - half)


def compute_ecc_bits(fp32: Tensor, narrow: Tensor, master_bytewidth: int = 3) -> Tensor:
    """The published package's correction of `narrow` (16 bits) towards `fp32`.

    Args:
        fp32: float32.
        narrow: `fp32` in bfloat16 or float16, rounded to the nearest.
        master_bytewidth: 3 gives int8, 4 gives int16.

    >>> x = torch.tensor([1.0 + 2**-9])
    >>> compute_ecc_bits(x, x.bfloat16()).tolist()
    [64]
    """
    dtype, limit = {3: (torch.int8, 127), 4: (torch.int16, 32767)}[master_bytewidth]
    ratio = _times_power(fp32 - narrow.float(), -_half_place(narrow)).clamp(-1.0, 1.0)
    return (ratio.sign() * torch.floor(ratio.abs() * limit + 0.5)).to(dtype)


def reconstruct_fp32_param(narrow: Tensor, error_bits: Tensor) -> Tensor:
    """The float32 weight of a 16-bit weight and the published package's correction (int8 or int16)."""
    limit = {torch.int8: 127, torch.int16: 32767}.get(error_bits.dtype)
    if limit is None:
        raise refuse("reconstruct_fp32_param", "error_bits of int8 or int16", error_bits)
    if narrow.dtype not in _DIGITS:
        raise refuse("reconstruct_fp32_param", "weights of bfloat16 or float16", narrow)
    return narrow.float() + _times_power(error_bits.float() / limit, _half_place(narrow))


def is_published(state: Mapping[str, Any]) -> bool:
    """Is this state of a parameter one of the published package?"""
    return "error_bits" in state or any("::" in str(name) for name in state)


def read_published(
    call: str, state: Mapping[str, Any], parameter: Tensor, rule: str
) -> tuple[Tensor | None, dict[str, Tensor]]:
    """The whole weight (None: it has no correction) and the states, float32, of a published state of a parameter."""
    moments = {}
    for name, is_variance in MOMENTS[rule].items():
        if f"{name}::quantized" in state:
            codes, scales = state[f"{name}::quantized"], state[f"{name}::scales"]
            moments[name] = _decode(call, codes, scales, parameter, is_variance=is_variance)
        elif isinstance(state.get(name), Tensor):
            if state[name].shape != parameter.shape:
                expected = f"{name} of shape {tuple(parameter.shape)}"
                raise refuse(call, expected, state[name], "Load it into the model it is of.")
            moments[name] = state[name].float()
    bits = state.get("error_bits")
    if bits is None:
        return None, moments
    if bits.shape != parameter.shape:
        raise refuse(call, f"error_bits of shape {tuple(parameter.shape)}", bits, "Load it into the model it is of.")
    return reconstruct_fp32_param(parameter.detach(), _error_bits(call, bits)), moments


def _error_bits(call: str, bits: Tensor) -> Tensor:
    """Corrections as integers, whatever dtype they were saved in."""
    if bits.dtype in (torch.int8, torch.int16):
        return bits
    if bits.dtype not in _DIGITS:
        raise refuse(call, "error_bits of int8, int16, or saved as bfloat16 or float16", bits)
    values = bits.float()
    whole = values.isfinite() & (values == values.round()) & (values.abs() <= 127)
    return values.to(torch.int8) if bool(whole.all()) else bits.view(torch.int16)


def _decode(call: str, codes: Tensor, scales: Tensor, parameter: Tensor, *, is_variance: bool) -> Tensor:
    size, groups = parameter.numel(), -(-parameter.numel() // _GROUP)
    if codes.numel() != size or scales.numel() != groups:
        got = f"{codes.numel()} codes and {scales.numel()} scales"
        raise refuse(call, f"{size} codes and {groups} scales", got, "Load it with the sharding it was saved with.")
    scale = scales.float().repeat_interleave(_GROUP)[:size]
    code = codes.reshape(-1).float()
    if is_variance:
        return (code / 255.0 * scale).square().reshape(parameter.shape)
    y = code / 127.0
    return (y / (2.0 - y.abs()) * scale).reshape(parameter.shape)
