"""Frozen layers as operators of torch: `hasten::maddness_linear` and `hasten::maddness_conv2d`.

Registered with shapes for tracing, so torch.compile and torch.export keep them as one node each. On the CPU they call
the compiled kernels (or their NumPy definition); elsewhere the same numbers come from gathers of torch. A backward
pass through one raises: packed tables hold nothing to train. The error is an operator of its own, so that a graph with
a backward pass can be traced and run forward. A process that loads an exported program must import this module first.

ONNX has no such operators: exported there, a layer becomes comparisons and gathers, the same numbers at a lower speed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from ..._core.checks import refuse_type
from . import kernels
from .define import define
from .fitting import INPUTS
from .packed import Packed, kept, trees_and_tables
from .patches import Geometry, looked_at, patch_columns
from .soft import hard_encode
from .tables import averaging

__all__ = ["maddness_conv2d", "maddness_linear", "torch_scan"]

NO_GRADIENT = (
    "MaddnessLinear/MaddnessConv2d: expected a backward pass through trainable tables, got frozen ones. "
    "Call finetune_mode() on the layer to train, or run under torch.no_grad()."
)


def torch_scan(
    codes: Tensor,  # (N, C) int64
    luts: Tensor,  # (M, C, K) uint8
    scale: Tensor,  # (M,) float32
    offset: Tensor,  # (M,) float32
    accumulate: str = "exact",
    upcast_every: int = 16,
) -> Tensor:
    """Sums of the tables' entries by gathers, on any device: the bits that `numpy_kernels.scan` defines.

    Args:
        codes: leaves.
        luts: packed tables.
        scale, offset: of each output.
        accumulate: "exact", or "avg" for rounded averages of pairs.
        upcast_every: U of "avg".

    Returns:
        (N, M) float32.

    >>> luts = torch.tensor([[[1, 2], [10, 20]]], dtype=torch.uint8)
    >>> torch_scan(torch.tensor([[1, 0]]), luts, torch.tensor([0.5]), torch.tensor([3.0])).tolist()
    [[9.0]]
    """
    codebooks = luts.shape[1]
    rows = luts.permute(1, 2, 0)  # (C, K, M)
    if accumulate == "exact":
        total = torch.zeros(codes.shape[0], luts.shape[0], dtype=torch.int32, device=codes.device)
        for c in range(codebooks):
            total += rows[c][codes[:, c]]
        return total.float() * scale + offset
    group, padded, bias = averaging(codebooks, upcast_every)
    total = torch.zeros(codes.shape[0], luts.shape[0], dtype=torch.int32, device=codes.device)
    for start in range(0, padded, group):
        values = [
            rows[c][codes[:, c]].int() if c < codebooks else torch.zeros_like(total)
            for c in range(start, start + group)
        ]
        while len(values) > 1:
            values = [(a + b + 1) >> 1 for a, b in zip(values[::2], values[1::2], strict=True)]
        total += values[0]
    return total.float() * (scale * group) + (offset - scale * bias)


def _gathered(rows: Tensor, packed: Packed, accumulate: str, upcast_every: int) -> Tensor:
    """Encode and scan by operators of torch alone, on any device."""
    codes = hard_encode(rows, packed.split_dims, packed.thresholds)
    return torch_scan(codes, packed.luts, packed.scale, packed.offset, accumulate, upcast_every)


def _multiply(
    rows: Tensor,  # (N, U), any strides
    packed: Packed,
    accumulate: str,
    upcast_every: int,
) -> Tensor:
    """Encode and scan: (N, M) float32, by the compiled kernels where they can reach."""
    if rows.device.type != "cpu":
        return _gathered(rows, packed, accumulate, upcast_every)
    out = torch.empty(rows.shape[0], packed.outputs)
    bits, bfloat16 = _bits(rows)
    kernels.multiply(
        bits, *trees_and_tables(packed), accumulate, upcast_every, out.numpy(), bfloat16=bfloat16,
        threads=torch.get_num_threads(),
    )  # fmt: skip
    return out


def _convolve(x: Tensor, packed: Packed, geometry: Geometry, accumulate: str, upcast_every: int) -> Tensor:
    """The same of patches: (batch, M, height, width) float32."""
    size = geometry.size(x.shape[2], x.shape[3])
    if x.device.type != "cpu":
        columns, local = kept(lambda: _local_dims(packed.split_dims), packed.split_dims)
        rows = patch_columns(geometry.pad(x), columns, geometry, size).t()
        out = _multiply(rows, packed._replace(split_dims=local), accumulate, upcast_every)
        return out.view(x.shape[0], *size, packed.outputs).permute(0, 3, 1, 2).contiguous()
    out = torch.empty(x.shape[0], packed.outputs, *size)
    before = geometry.padding[2], geometry.padding[0]
    asked = kernels.Filter(geometry.kernel, geometry.stride, before, geometry.dilation, size)
    bits, bfloat16 = _bits(x)
    kernels.convolve(
        bits, asked, *trees_and_tables(packed), accumulate, upcast_every, out.flatten(2).numpy(), bfloat16=bfloat16,
        threads=torch.get_num_threads(),
    )  # fmt: skip
    return out


def _bits(x: Tensor) -> tuple[np.ndarray, bool]:
    """The memory of a tensor, and whether it is of bfloat16, as bits."""
    x = x.detach()
    return (x.view(torch.int16).numpy().view(np.uint16), True) if x.dtype == torch.bfloat16 else (x.numpy(), False)


def _local_dims(split_dims: Tensor) -> tuple[Tensor, Tensor]:
    """The columns that some tree looks at, and the split dimensions as places among them."""
    columns, places = torch.unique(split_dims, return_inverse=True)
    return columns, places.to(torch.int32)


# What an operator takes: x, the tensors of `Packed`, (of a convolution) the numbers of its geometry, and how to sum.
LAYER = "Tensor x, Tensor split_dims, Tensor thresholds, Tensor luts, Tensor scale, Tensor offset"
SUM = "str accumulate, int upcast_every"


@define("maddness_linear", f"({LAYER}, {SUM}) -> Tensor")
def _linear(x: Tensor, *others: Any) -> Tensor:
    packed = Packed(*others[:5])
    out = _multiply(x.reshape(-1, x.shape[-1]), packed, *others[5:])
    return out.to(x.dtype).view(*x.shape[:-1], packed.outputs)


@torch.library.register_fake("hasten::maddness_linear")
def _linear_shape(x: Tensor, *others: Any) -> Tensor:
    return x.new_empty(*x.shape[:-1], Packed(*others[:5]).outputs)


@define("maddness_conv2d", f"({LAYER}, int[] geometry, {SUM}) -> Tensor")
def _conv2d(x: Tensor, *others: Any) -> Tensor:
    return _convolve(x, Packed(*others[:5]), Geometry.of(others[5]), *others[6:]).to(x.dtype)


@torch.library.register_fake("hasten::maddness_conv2d")
def _conv2d_shape(x: Tensor, *others: Any) -> Tensor:
    size = Geometry.of(others[5]).size(x.shape[2], x.shape[3])
    return x.new_empty(x.shape[0], Packed(*others[:5]).outputs, *size)


@define("maddness_no_gradient", "(Tensor grad) -> Tensor")
def _no_gradient(grad: Tensor) -> Tensor:
    raise RuntimeError(NO_GRADIENT)


@torch.library.register_fake("hasten::maddness_no_gradient")
def _no_gradient_shape(grad: Tensor) -> Tensor:
    return torch.empty_like(grad)


def _refuse_gradient(inputs: int) -> Callable[..., tuple[Tensor | None, ...]]:
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return torch.ops.hasten.maddness_no_gradient(grad).new_empty(ctx.shape), *[None] * (inputs - 1)

    return backward


def _keep_shape(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.shape = inputs[0].shape


torch.library.register_autograd("hasten::maddness_linear", _refuse_gradient(8), setup_context=_keep_shape)
torch.library.register_autograd("hasten::maddness_conv2d", _refuse_gradient(9), setup_context=_keep_shape)


def _check_call(call: str, x: Tensor) -> None:
    if x.dtype not in INPUTS:
        raise refuse_type(call, "a float32, bfloat16 or float16 input", x, "Cast it: x.float().")


def maddness_linear(
    x: Tensor,  # (..., D)
    packed: Packed,
    accumulate: str = "exact",
    upcast_every: int = 16,
) -> Tensor:
    """Multiply rows by packed tables: `scale * sum of bytes + offset`, as the operator `hasten::maddness_linear`.

    Args:
        x: rows, float32, bfloat16 or float16 (widened exactly), any leading dimensions and strides.
        packed: the trees and tables.
        accumulate: "exact" or "avg".
        upcast_every: U of "avg".

    Returns:
        (..., M), the dtype of `x`; float32 results are rounded to it last.

    Raises:
        TypeError: another dtype.
        ValueError: a split dimension outside of `x`.
        RuntimeError: in the backward pass.

    Source: arXiv:2106.10860.

    >>> dims, thresholds = torch.zeros(1, 4, dtype=torch.int32), torch.zeros(1, 15)
    >>> luts = torch.arange(16, dtype=torch.uint8).view(1, 1, 16)
    >>> packed = Packed(dims, thresholds, luts, torch.ones(1), torch.ones(1))
    >>> maddness_linear(torch.tensor([[-1.0], [1.0]]), packed).tolist()
    [[1.0], [16.0]]
    """
    _check_call("maddness_linear", x)
    if torch.onnx.is_in_onnx_export():
        out = _gathered(x.reshape(-1, x.shape[-1]).float(), packed, accumulate, upcast_every)
        return out.to(x.dtype).view(*x.shape[:-1], packed.outputs)
    return cast(Tensor, torch.ops.hasten.maddness_linear(x, *packed, accumulate, upcast_every))


def maddness_conv2d(
    x: Tensor,  # (batch, channels, height, width)
    packed: Packed,
    geometry: Geometry,
    accumulate: str = "exact",
    upcast_every: int = 16,
) -> Tensor:
    """Convolve by packed tables, as the operator `hasten::maddness_conv2d`; arguments as for `maddness_linear`.

    Args:
        x: images.
        packed, accumulate, upcast_every: see `maddness_linear`.
        geometry: of the convolution; a border other than zeros is made outside the operator.

    Returns:
        (batch, M, output height, output width), contiguous, the dtype of `x`.

    Raises:
        TypeError: another dtype.
        ValueError: a split dimension outside of a patch.
        RuntimeError: in the backward pass.

    >>> dims, thresholds = torch.zeros(1, 4, dtype=torch.int32), torch.zeros(1, 15)
    >>> luts = torch.arange(16, dtype=torch.uint8).view(1, 1, 16)
    >>> packed = Packed(dims, thresholds, luts, torch.ones(1), torch.ones(1))
    >>> maddness_conv2d(torch.tensor([[[[-1.0, 1.0]]]]), packed, Geometry((1, 1))).tolist()
    [[[[1.0, 16.0]]]]
    """
    _check_call("maddness_conv2d", x)
    if torch.onnx.is_in_onnx_export():
        rows, local = looked_at(x, packed.split_dims, geometry)
        out = _gathered(rows, packed._replace(split_dims=local), accumulate, upcast_every).to(x.dtype)
        return out.view(x.shape[0], *geometry.size(x.shape[2], x.shape[3]), packed.outputs).permute(0, 3, 1, 2)
    if geometry.padding_mode != "constant":
        x, geometry = geometry.pad(x), geometry.unpadded()
    out = torch.ops.hasten.maddness_conv2d(x, *packed, geometry.numbers(), accumulate, upcast_every)
    return cast(Tensor, out)
