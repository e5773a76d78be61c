"""Optimizer state in 8 bits: codes that are dense where values are small, and one scale for each group of elements.

A group is `group_size` elements that follow each other in memory (the last one may be shorter). Its scale `s` is its
largest size. Momentum goes through a softsign, the variance through a square root:

    momentum    c = round(254 m / (s + |m|))       in -127 .. 127      m = S c / (254 - |c|)
    variance    c = round(255 sqrt(v) / s)         in 0 .. 255         v = (S c / 255)^2        with s of sqrt(v)

`S` is `s` rounded to bfloat16. Three things differ from the published scheme (arXiv 2602.23349), each because the
published one was seen to fail:

- A variance above zero never gets the code 0. A variance that is rounded to zero beside a momentum that is not makes
  the next step as large as that momentum divided by epsilon. Zero stays zero.
- Scales are bfloat16, not float16, whose range ends at 2^-25: gradients below it lose their state. States from
  2^-110 to 2^122 (8e-34 to 5e36) are kept; below counts as zero, above as not finite.
- Scales are rounded with a dither, `S = upper 16 bits of (bits of s + d)`, where `d` walks through 0 .. 2^16 - 1 from
  step to step (golden ratio, so that its values spread evenly). A variance decays by 0.05 % of its root a step, far
  less than a step of either code or scale. Rounded to the nearest, it would stay where it is, for ever: after a fall of
  the gradients by ten the root stays 2.6 times too large (benchmarks/flash_drift.py). Codes need no dither: relative to
  their group's scale most elements do not move.

A group that is encoded, decoded and encoded again keeps its bits, whatever the dither: the scale is a bfloat16 number
already. So states can go through float32 and back. A group with a value that is not finite gets the scale NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..._core.checks import refuse, whole

__all__ = ["GROUP_SIZES", "decode_momentum", "decode_variance", "dither", "encode_momentum", "encode_variance"]

GROUP_SIZES = (32, 64, 128, 256, 512)

_LARGEST, _SMALLEST = 2.0**122, 2.0**-110


def dither(step: int) -> int:
    """What is added below a scale in this step, in 0 .. 2^16 - 1.

    >>> [dither(step) for step in range(4)]
    [0, 40503, 15470, 55973]
    """
    return (step * 0x9E37) & 0xFFFF


def encode_momentum(m: Tensor, *, group_size: int = 32, dither: int = 0) -> tuple[Tensor, Tensor]:
    """Codes and scales of a momentum.

    Args:
        m: float32, any shape; it is read in the order of memory, so it must be dense.
        group_size: elements that share a scale, one of `GROUP_SIZES`.
        dither: of this step.

    Returns:
        Codes, int8 of the shape (and strides) of `m`, and scales, bfloat16 of shape (groups,).

    >>> codes, scales = encode_momentum(torch.tensor([1.0, 0.5, -0.25, 0.0]))
    >>> codes.tolist(), scales.tolist()
    ([127, 85, -51, 0], [1.0])
    """
    groups = _grouped(m, group_size)  # (groups, group_size)
    used, scales = _scales(groups.abs().amax(1), dither)
    used = used.unsqueeze(1)
    codes = torch.round(groups / ((used + groups.abs()) * (1.0 / 254.0)))
    return _codes(codes, used, m, torch.int8), scales


def decode_momentum(codes: Tensor, scales: Tensor, *, group_size: int = 32) -> Tensor:
    """The momentum of these codes and scales, float32 of the shape of `codes`."""
    groups = _grouped(codes, group_size).float()
    values = scales.float().unsqueeze(1) * (groups / (254.0 - groups.abs()))
    return _like(values, codes)


def encode_variance(v: Tensor, *, group_size: int = 32, dither: int = 0) -> tuple[Tensor, Tensor]:
    """Codes and scales of a variance: as `encode_momentum`, of values of at least 0; codes are uint8.

    >>> codes, scales = encode_variance(torch.tensor([4.0, 1.0, 0.01, 0.0, 1e-12]))
    >>> codes.tolist(), scales.tolist()
    ([255, 128, 13, 0, 1], [2.0])
    """
    return encode_root(v.sqrt(), group_size=group_size, dither=dither)


def encode_root(root: Tensor, *, group_size: int = 32, dither: int = 0) -> tuple[Tensor, Tensor]:
    """Codes and scales of a variance of which the square root is known."""
    groups = _grouped(root, group_size)
    used, scales = _scales(groups.amax(1), dither)
    used = used.unsqueeze(1)
    codes = torch.round(groups * (255.0 / used))
    codes = torch.where(groups > 0, codes.clamp(min=1.0), codes)
    return _codes(codes, used, root, torch.uint8), scales


def decode_variance(codes: Tensor, scales: Tensor, *, group_size: int = 32) -> Tensor:
    """The variance of these codes and scales, float32 of the shape of `codes`."""
    # Divided before it is scaled: so the code 255 is the scale itself, and the group keeps its bits when encoded again.
    root = _grouped(codes, group_size).float() / 255.0 * scales.float().unsqueeze(1)
    return _like(root.square(), codes)


def group_count(size: int, group_size: int) -> int:
    """Groups of a tensor of `size` elements."""
    return -(-size // group_size)


def check_group_size(call: str, group_size: int) -> int:
    """`group_size` if the kernels know it."""
    whole(call, "group_size", group_size, low=1)
    if group_size not in GROUP_SIZES:
        raise refuse(call, f"group_size among {', '.join(map(str, GROUP_SIZES))}", repr(group_size), "Leave it out.")
    return group_size


def in_memory_order(x: Tensor) -> Tensor:
    """A dense tensor as one dimension, in the order of memory, without a copy (channels-last is no obstacle)."""
    return x.reshape(-1) if x.is_contiguous() else x.as_strided((x.numel(),), (1,))


def is_dense(x: Tensor) -> bool:
    """Do the elements fill their memory without gaps or overlaps, in whatever order?"""
    if x.is_contiguous():
        return True
    expected = 1
    for stride, size in sorted((stride, size) for stride, size in zip(x.stride(), x.shape, strict=True) if size != 1):
        if stride != expected:
            return False
        expected *= size
    return True


def _grouped(x: Tensor, group_size: int) -> Tensor:
    """(groups, group_size), filled up with zeros."""
    flat = in_memory_order(x)
    missing = -flat.numel() % group_size
    if missing:
        flat = torch.cat([flat, flat.new_zeros(missing)])
    return flat.view(-1, group_size)


def _like(groups: Tensor, x: Tensor) -> Tensor:
    """Grouped values in the shape and strides of `x`."""
    flat = groups.reshape(-1)[: x.numel()]
    return flat.reshape(x.shape) if x.is_contiguous() else flat.as_strided(x.shape, x.stride())


def _scales(largest: Tensor, dither: int | Tensor) -> tuple[Tensor, Tensor]:
    """By what a group is encoded, 0 where there is nothing to encode, and what is stored; both (groups,)."""
    rounded = ((largest.view(torch.int32) + dither) >> 16).to(torch.int16).view(torch.bfloat16)
    broken = ~(largest < _LARGEST)
    empty = largest < _SMALLEST
    stored = torch.where(broken, torch.nan, torch.where(empty, 0.0, rounded))
    return torch.where(broken | empty, 0.0, largest), stored.to(torch.bfloat16)


def _codes(codes: Tensor, used: Tensor, x: Tensor, dtype: torch.dtype) -> Tensor:
    return _like(torch.where(used > 0, codes, 0.0).to(dtype), x)
