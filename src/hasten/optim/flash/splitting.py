"""Weight splitting: a float32 weight as a 16-bit weight, with which the model computes, and the bits lost by rounding.

The split is one of bit patterns, in integers only. Of a float32 pattern `b`, bfloat16 keeps the upper 16 bits. Rounding
to the nearest, the rest is a signed distance, and the two add up to the pattern again:

    16 bits    n = (b + 2^15) >> 16         c = b - (n << 16)           b = (n << 16) + c        exact
     8 bits    n = (b + 2^7 + 2^15) >> 16   c = ((b + 2^7) >> 8) - (n << 8)    b ~ ((n << 8) + c) << 8

With 8 bits the error is at most 1/512 of the distance between bfloat16 neighbours, with 16 bits it is none. float16 is
float32 with a shorter exponent: of the pattern of `x * 2^-112` it keeps bits 13 to 27, so the same works there, on size
and sign apart, and 16 bits (of which 13 are used) are exact wherever float16 has all of its digits, from 2^-14 on.

What differs from the published scheme (arXiv 2602.23349), which stores the residual in units of the last place: no
exponents to look up, half the error bound, a 32-bit form that loses nothing, infinities that stay infinite. The price:
`n` rounds ties upward, and the 8-bit form decides ties on 24 bits, so `n` is the other neighbour, at most 0.502 of a
step away, for 0.2 % of all values. NaN becomes the canonical one. A finite value that would round to infinity on 24
bits keeps them by truncation.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..._core.checks import refuse, refuse_type

__all__ = ["CORRECTIONS", "join_weight", "round_randomly", "split_weight"]

CORRECTIONS = {24: torch.int8, 32: torch.int16}  # bits of the whole weight -> dtype of the correction
NARROW = (torch.bfloat16, torch.float16)

_SIZE, _INFINITY, _NAN = 0x7FFFFFFF, 0x7F800000, 0x7FC00000
_HALF_INFINITY, _HALF_NAN = 0x0F800000, 0x0FC00000  # of float16, as patterns of x * 2^-112


def split_weight(x: Tensor, dtype: torch.dtype = torch.bfloat16, bits: int = 24) -> tuple[Tensor, Tensor]:
    """A float32 tensor as a 16-bit tensor and its correction.

    Args:
        x: any shape, float32.
        dtype: torch.bfloat16 or torch.float16.
        bits: of the two together: 24 (correction int8) or 32 (int16).

    Returns:
        The 16-bit weights and the correction, of the shape of `x`.

    Raises:
        TypeError: `x` is not float32. ValueError: another dtype or number of bits.

    >>> narrow, correction = split_weight(torch.tensor([1.0 + 2**-9]))
    >>> narrow.item(), correction.item()
    (1.0, 64)
    >>> join_weight(narrow, correction).item() == 1.0 + 2**-9
    True

    Source: arXiv 2602.23349 (the idea; the scheme is another one).
    """
    if x.dtype != torch.float32:
        raise refuse_type("split_weight", "a float32 tensor", x, "Pass x.float().")
    _check_format("split_weight", dtype, bits)
    pattern = torch.where(x.isnan(), _NAN, x.view(torch.int32))
    return _split_bfloat16(pattern, bits) if dtype == torch.bfloat16 else _split_float16(x, pattern, bits)


def join_weight(narrow: Tensor, correction: Tensor | None) -> Tensor:
    """The float32 tensor of which `split_weight` made these two.

    Args:
        narrow: any shape, bfloat16 or float16.
        correction: int8 or int16 of the same shape; None is none, and the result is `narrow` in float32.

    Raises:
        ValueError: other dtypes, or shapes that differ.
    """
    if correction is None:
        return narrow.float()
    bits = {value: key for key, value in CORRECTIONS.items()}.get(correction.dtype, 0)
    _check_format("join_weight", narrow.dtype, bits)
    if narrow.shape != correction.shape:
        fix = "Pass what split_weight returned."
        raise refuse("join_weight", f"a correction of shape {tuple(narrow.shape)}", correction, fix)
    word, low = narrow.view(torch.int16).to(torch.int32), correction.to(torch.int32)
    if narrow.dtype == torch.bfloat16:
        pattern = (word << 16) + (low if bits == 32 else low << 8)
        return pattern.view(torch.float32)
    size = ((word & 0x7FFF) << 13) + (low if bits == 32 else low << 5)
    value = size.view(torch.float32) * 2.0**112
    value = torch.where(size >= _HALF_INFINITY, torch.where(size > _HALF_INFINITY, torch.nan, torch.inf), value)
    return torch.where(word < 0, -value, value)


def round_randomly(x: Tensor, dtype: torch.dtype, salt: int) -> Tensor:
    """`x` in 16 bits, rounded up or down with the chances that make the mean exact (stochastic rounding).

    The chance of element `i`, in the order of memory, is a hash of `i` and `salt`: no generator, the same on every
    machine. With the salt of a step, training resumes exactly.

    Args:
        x: any shape, float32.
        dtype: torch.bfloat16 or torch.float16.
        salt: a number of 32 bits, another one for each tensor and step.
    """
    flat = x.reshape(-1)
    chance = _hash(torch.arange(flat.numel(), device=x.device), salt).to(torch.int32)
    pattern = torch.where(flat.isnan(), _NAN, flat.view(torch.int32))
    if dtype == torch.bfloat16:
        return ((pattern + chance) >> 16).to(torch.int16).view(dtype).reshape(x.shape)
    size = _float16_size(flat, pattern)
    word = (size + (chance >> 3)) >> 13
    return _signed_word(word, pattern).view(dtype).reshape(x.shape)


def _check_format(call: str, dtype: torch.dtype, bits: int) -> None:
    if dtype not in NARROW:
        raise refuse(call, "torch.bfloat16 or torch.float16", str(dtype), "Wider weights need no correction.")
    if bits not in CORRECTIONS:
        raise refuse(call, "24 or 32 bits (correction int8 or int16)", repr(bits), "Pass one of these.")


def _split_bfloat16(pattern: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    if bits == 32:
        return ((pattern + 0x8000) >> 16).to(torch.int16).view(torch.bfloat16), pattern.to(torch.int16)
    size = pattern & _SIZE
    pattern = torch.where((size < _INFINITY) & (size > _INFINITY - 0x81), pattern & ~0xFF, pattern)
    rounded = pattern + 0x80
    return ((rounded + 0x8000) >> 16).to(torch.int16).view(torch.bfloat16), (rounded >> 8).to(torch.int8)


def _split_float16(x: Tensor, pattern: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    size = _float16_size(x, pattern)
    if bits == 32:
        word = (size + 0x1000) >> 13
        low = (size - (word << 13)).to(torch.int16)
    else:
        near = (size < _HALF_INFINITY) & (size > _HALF_INFINITY - 0x11)
        rounded = torch.where(near, _HALF_INFINITY - 0x20, size) + 0x10
        word, low = (rounded + 0x1000) >> 13, (rounded >> 5).to(torch.int8)
    return _signed_word(word, pattern).view(torch.float16), low


def _float16_size(x: Tensor, pattern: Tensor) -> Tensor:
    """The pattern of `|x| * 2^-112`, where float16's range ends cut to its infinity and NaN."""
    size = (x.abs() * 2.0**-112).view(torch.int32)
    over = torch.where((pattern & _SIZE) > _INFINITY, _HALF_NAN, _HALF_INFINITY)
    return torch.where(size > _HALF_INFINITY, over, size)


def _signed_word(word: Tensor, pattern: Tensor) -> Tensor:
    return (word | ((pattern >> 16) & 0x8000)).to(torch.int16)


def _hash(places: Tensor, salt: int) -> Tensor:
    """16 bits of each place, in 64-bit integers that are cut to 32 bits; the kernels do the same in 32 bits."""
    word = 0xFFFFFFFF
    x = (places * 0x9E3779B1 + salt) & word
    x = ((x ^ (x >> 15)) * 0x85EBCA77) & word
    x = ((x ^ (x >> 13)) * 0xC2B2AE3D) & word
    return x >> 16
