"""Rules of products: matrices, convolutions, attention.

All are the same: operands with a common axis are multiplied elementwise, broadcast, and summed over that axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from .fields import Field, Fields, aligned, join, merge, summed
from .rules import Run, add_to, argument, both, either, never, rule

__all__ = ["whole_groups"]


def _contract(run: Run, shapes: Sequence[Sequence[int]], fields: Sequence[Fields], axis: int) -> Fields:
    """Multiply two operands that are broadcast, and sum over `axis`, which keeps size 1."""
    product = join(run.facts, shapes, fields, either, run.why)
    run.facts.work.append((math.prod(np.broadcast_shapes(*map(tuple, shapes))), [one.ids for one in product]))
    many = [one for one in product if axis in one.axes and len(one.axes) > 1]
    result = summed(run.facts, product, [axis])
    run.facts.heads += [merge(run.facts, one, [axis]).ids for one in many]  # one product for each head
    return result


def _without(fields: Fields, axis: int) -> Fields:
    return tuple(one.map(lambda a: a.squeeze(axis)) for one in fields)


def _spread(fields: Fields, axis: int) -> Fields:
    return tuple(one.map(lambda a: np.expand_dims(a, axis)) for one in fields)


# Matrices -------------------------------------------------------------------------------------------------------------


def _matmul(run: Run, x: Tensor, y: Tensor) -> Fields:
    """Fields of `x @ y` for two matrices, or two batches of matrices: rows, columns, and what is summed over."""
    left, right = [*x.shape[:-1], 1, x.shape[-1]], [*y.shape[:-2], 1, *reversed(y.shape[-2:])]
    turned = tuple(one.map(lambda a: np.swapaxes(a, -1, -2)) for one in run.of(y))
    fields = _contract(run, (left, right), (_spread(run.of(x), x.ndim - 1), _spread(turned, y.ndim - 2)), x.ndim)
    return _without(fields, x.ndim)


@rule("mm", "bmm")
def _mm(run: Run, func: Any, args: tuple, kwargs: dict, out: Tensor) -> Fields:
    return _matmul(run, args[0], args[1])


@rule("addmm", "baddbmm")
def _addmm(run: Run, func: Any, args: tuple, kwargs: dict, out: Tensor) -> Fields:
    return add_to(run, _matmul(run, args[1], args[2]), out.shape, args[0])


@rule("linear")
def _linear(run: Run, func: Any, args: tuple, kwargs: dict, out: Tensor) -> Fields:
    x, weight, bias = args[0], args[1], args[2] if len(args) > 2 else kwargs.get("bias")
    shapes = ([*x.shape[:-1], 1, x.shape[-1]], [*(1,) * (x.ndim - 1), *weight.shape])
    fields = (_spread(run.of(x), x.ndim - 1), aligned(run.of(weight), x.ndim + 1))
    return add_to(run, _without(_contract(run, shapes, fields, x.ndim), x.ndim), out.shape, bias)


# Convolutions ---------------------------------------------------------------------------------------------------------


def whole_groups(groups: int, inside: int, outside: int) -> bool:
    """Whether a convolution loses whole groups, or the same places of each group: the finer choice of the two.

    Args:
        groups: of the convolution.
        inside, outside: channels of each group.

    >>> whole_groups(64, 1, 1), whole_groups(32, 4, 4), whole_groups(3, 80, 80)
    (True, True, False)
    """
    return groups > 1 and groups >= min(inside, outside)


@rule("convolution", "_convolution")
def _convolution(run: Run, func: Any, args: tuple, kwargs: dict, out: Tensor) -> Fields:
    x, weight, bias, transposed, groups = *args[:3], args[6], args[8]
    space = range(2, x.ndim)
    inputs = run.facts.fix_along(run.of(x), [0, *space], run.why)
    weights = run.facts.fix_along(run.of(weight), space, run.why)
    inside = weight.shape[0] // groups if transposed else weight.shape[1]
    outside = weight.shape[1] if transposed else weight.shape[0] // groups
    sizes = (groups, outside, inside)
    channels = _vectors(inputs, 1, (groups, 1, inside))  # (groups, outside, inside), broadcast
    long = _vectors(weights, 0, (groups, 1, inside) if transposed else (groups, outside, 1))
    short = _vectors(weights, 1, (1, outside, 1) if transposed else (1, 1, inside))
    left, right = [groups, 1, inside], list(sizes)
    if whole_groups(*sizes[:1], inside, outside):
        for one in short:
            run.facts.fix(one.ids, f"{run.why} loses whole groups")
        channels, long, short = _merged(run, channels, [1, 2]), _merged(run, long, [1, 2]), ()
        left, right = [groups, 1, 1], [groups, 1, 1]
    elif groups > 1:
        channels, long = _merged(run, channels, [0]), _merged(run, long, [0])
        left, right = [1, 1, inside], [1, outside, inside]
    pixels = math.prod(x.shape[2:] if transposed else out.shape[2:]) * math.prod(weight.shape[2:])
    product = join(run.facts, (left, right), (channels, (*long, *short)), either, run.why)
    run.facts.work.append((len(x) * math.prod(sizes) * pixels, [one.ids for one in product]))
    result = tuple(_as_output(one, groups, outside, x.ndim) for one in summed(run.facts, product, [2]))
    if bias is None:
        return result
    shape = (1, len(bias), *(1,) * (x.ndim - 2))
    vector = tuple(one.map(lambda a: a.reshape(shape)) for one in run.of(bias))
    return join(run.facts, (tuple(out.shape), shape), (result, vector), both, run.why)


def _vectors(fields: Fields, axis: int, shape: Sequence[int]) -> Fields:
    """The field along an axis, in the shape of a part of (groups, outside, inside)."""
    return tuple(one.map(lambda a: a.reshape(shape)) for one in fields if axis in one.axes)


def _merged(run: Run, fields: Fields, axes: list[int]) -> Fields:
    return tuple(merge(run.facts, one, axes) for one in fields)


def _as_output(one: Field, groups: int, outside: int, rank: int) -> Field:
    shape = (groups, outside, 1)
    return one.map(lambda a: np.broadcast_to(a, shape).reshape(1, -1, *(1,) * (rank - 2)))


# Attention ------------------------------------------------------------------------------------------------------------


@rule("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_flash_attention",
      "_scaled_dot_product_efficient_attention", "_scaled_dot_product_cudnn_attention",
      "_scaled_dot_product_fused_attention_overrideable", "scaled_dot_product_attention")  # fmt: skip
def _attention(run: Run, func: Any, args: tuple, kwargs: dict, out: Any) -> Any:
    query, key, value = args[:3]  # (batch, heads, time, features), fewer heads of keys and values with grouped queries
    mask = argument(func, args, kwargs, "attn_mask")
    mask = argument(func, args, kwargs, "attn_bias") if mask is None else mask
    heads, rank = query.shape[1], query.ndim
    keys, values = (_repeated(run.of(t), heads // t.shape[1]) for t in (key, value))
    keys_shape, values_shape = ([*t.shape[:1], heads, *t.shape[2:]] for t in (key, value))
    features = lambda fields: tuple(merge(run.facts, o, [rank - 1]) if o.axes == {rank - 1} else o for o in fields)
    queries, keys = features(run.of(query)), features(keys)  # the scale depends on how many there are
    shapes = ([*query.shape[:-1], 1, query.shape[-1]], [*keys_shape[:-2], 1, *keys_shape[-2:]])
    scores = _contract(run, shapes, (_spread(queries, rank - 1), _spread(keys, rank - 2)), rank)
    scores = add_to(run, _without(scores, rank), [*query.shape[:-1], key.shape[-2]], mask)
    scores = run.facts.fix_along(scores, [rank - 1], run.why)
    scores = tuple(Field(one.ids, never([one.zero])) for one in scores)
    shapes = ([*query.shape[:-1], 1, key.shape[-2]], [*values_shape[:-2], 1, *reversed(values_shape[-2:])])
    turned = tuple(one.map(lambda a: np.swapaxes(a, -1, -2)) for one in values)
    result = _contract(run, shapes, (_spread(scores, rank - 1), _spread(turned, rank - 2)), rank)
    result = _without(result, rank)
    return result if isinstance(out, Tensor) else [result, *(() for _ in out[1:])]


def _repeated(fields: Fields, times: int) -> Fields:
    """Fields of keys, of which each head serves `times` queries."""
    return tuple(one.map(lambda a: np.repeat(a, times, 1)) if 1 in one.axes else one for one in fields)
