"""Which operations multiply, how often, and with which operand that may be a weight.

torch's own formulas (`torch.utils.flop_counter`, half of their FLOPs) serve where there are some, those that somebody
registered for an operation of their own included; what follows is what they leave out: products with vectors, the
attention kernel of CPUs, recurrent layers in one operation, bilinear layers.

    matrix products       m k n for (m, k) @ (k, n), and so many for each of a batch
    convolution           numel(weight) for each sample and output position; products with padded zeros are products
    transposed            numel(weight) for each sample and input position, also where padding crops the output
    attention             T S (d + e) for each head; a causal mask does not halve it
    recurrent layers      numel(weights) for each step of each sequence
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Product", "has_formula", "products"]

aten = torch.ops.aten


class Product(NamedTuple):
    """Multiply-accumulates of an operation, and the operands among which a weight may be, the likeliest first."""

    macs: int
    operands: tuple[Tensor, ...] = ()


def has_formula(operation: Any) -> bool:
    """Are the products of an operation (an overload packet, such as `torch.ops.aten.mm`) known?"""
    return operation in _OWN or operation in _formulas()


def products(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> list[Product]:
    """The products of one operation that was run; none where there is no formula.

    Args:
        operation: the overload packet.
        args, kwargs: what it was called with.
        out: what it returned.

    >>> a, b = torch.ones(2, 3), torch.ones(3, 4)
    >>> [product.macs for product in products(aten.mm, (a, b), {}, a @ b)]
    [24]
    """
    if operation in _OWN:
        return _OWN[operation](*args)
    formulas = _formulas()
    if operation not in formulas:
        return []
    macs = formulas[operation](*args, **kwargs, out_val=out) // 2
    return [Product(macs, tuple(args[position] for position in _OPERANDS.get(operation, ())))]


def _formulas() -> dict[Any, Any]:
    """Torch's table, which somebody may have added to; asked for late, since its module loads triton."""
    from torch.utils.flop_counter import flop_registry

    return flop_registry


# Where the factors stand; a layer's weight is the second one (x @ W).
_OPERANDS = {
    aten.mm: (1, 0),
    aten.addmm: (2, 1),
    aten.bmm: (1, 0),
    aten.baddbmm: (2, 1),
    aten._scaled_mm: (1, 0),
    aten.convolution: (1,),
    aten._convolution: (1,),
    aten.cudnn_convolution: (1,),
    aten._slow_conv2d_forward: (1,),
    aten.convolution_overrideable: (1,),
}


def _dot(a: Tensor, b: Tensor) -> list[Product]:  # (n,), (n,)
    return [Product(a.numel(), (b, a))]


def _mv(matrix: Tensor, vector: Tensor) -> list[Product]:  # (m, n), (n,)
    return [Product(matrix.numel(), (matrix, vector))]


def _addmv(bias: Tensor, matrix: Tensor, vector: Tensor) -> list[Product]:
    return _mv(matrix, vector)


def _int_mm(a: Tensor, b: Tensor) -> list[Product]:  # (m, k), (k, n)
    return [Product(a.shape[0] * b.numel(), (b, a))]


def _addbmm(bias: Tensor, a: Tensor, b: Tensor) -> list[Product]:  # (b, m, k), (b, k, n)
    return [Product(a.shape[1] * b.numel(), (b, a))]


def _trilinear(a: Tensor, weight: Tensor, b: Tensor, *_: Any) -> list[Product]:  # (b, i), (o, i, j), (b, j)
    return [Product(a.shape[0] * weight.numel(), (weight,))]


def _attention(query: Tensor, key: Tensor, value: Tensor, *_: Any) -> list[Product]:  # (b, heads, time, channels)
    batch, heads, tokens, channels = query.shape  # keys and values may have fewer heads, which several queries share
    return [Product(batch * heads * tokens * key.shape[2] * (channels + value.shape[3]))]


def _recurrent(inputs: Tensor, weights: list[Tensor]) -> list[Product]:
    """Each matrix meets each step of each sequence once; biases have one dimension."""
    steps = math.prod(inputs.shape[:-1])  # (time, batch, channels), or (steps of all sequences, channels)
    return [Product(steps * weight.numel(), (weight,)) for weight in weights if weight.ndim == 2]


def _mkldnn_layer(inputs: Tensor, *args: Any) -> list[Product]:
    return _recurrent(inputs, list(args[:2]))


def _cudnn_layers(inputs: Tensor, weights: list[Tensor], *_: Any) -> list[Product]:
    return _recurrent(inputs, weights)


_OWN: dict[Any, Callable[..., list[Product]]] = {
    aten.dot: _dot,
    aten.vdot: _dot,
    aten.mv: _mv,
    aten.addmv: _addmv,
    aten._int_mm: _int_mm,
    aten.addbmm: _addbmm,
    aten._trilinear: _trilinear,
    aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    aten.mkldnn_rnn_layer: _mkldnn_layer,
    aten._cudnn_rnn: _cudnn_layers,
}
