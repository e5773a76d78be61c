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


Tagged = tuple[Sequence[int], Fields]  # a tensor: its shape and its fields


def _multiplied(run: Run, left: Tagged, right: Tagged) -> Fields:
    """Fields of `left @ right`, of matrices or batches of them, of one rank and broadcast."""
    rank = len(left[0])
    shapes = [*left[0][:-1], 1, left[0][-1]], [*right[0][:-2], 1, *reversed(right[0][-2:])]
    rows = tuple(one.map(lambda a: np.expand_dims(a, rank - 1)) for one in left[1])
    columns = tuple(one.map(lambda a: np.expand_dims(np.swapaxes(a, -1, -2), rank - 2)) for one in right[1])
    product = join(run.facts, shapes, (rows, columns), either, run.why)
    run.facts.work.append((math.prod(np.broadcast_shapes(*map(tuple, shapes))), [one.ids for one in product]))
    many = [one for one in product if rank in one.axes and len(one.axes) > 1]
    run.facts.heads += [one.ids for one in many]  # one product for each head, and no part of a head goes
    return tuple(one.map(lambda a: a.squeeze(rank)) for one in summed(run.facts, product, [rank]))


def _tagged(run: Run, tensor: Tensor) -> Tagged:
    return tensor.shape, run.of(tensor)


def _transposed(shape: Sequence[int], fields: Fields) -> Tagged:
    return [*shape[:-2], *reversed(shape[-2:])], tuple(one.map(lambda a: np.swapaxes(a, -1, -2)) for one in fields)


# Matrices -------------------------------------------------------------------------------------------------------------


@rule("mm", "bmm")
def _mm(run: Run, func: Any, args: tuple, kwargs: dict, out: Tensor) -> Fields:
    return _multiplied(run, _tagged(run, args[0]), _tagged(run, args[1]))


@rule("addmm", "baddbmm")
def _addmm(run: Run, func: Any, args: tuple, kwargs: dict, out: Tensor) -> Fields:
    return add_to(run, _mm(run, func, args[1:], kwargs, out), out.shape, args[0])


@rule("linear")
def _linear(run: Run, func: Any, args: tuple, kwargs: dict, out: Tensor) -> Fields:
    """`x @ weight.T + bias`, where it is not taken apart before."""
    x, weight, bias = args[0], args[1], argument(func, args, kwargs, "bias")
    rank = max(2, x.ndim)
    left = [*(1,) * (rank - x.ndim), *x.shape], aligned(run.of(x), rank)
    right = _transposed([*(1,) * (rank - 2), *weight.shape], aligned(run.of(weight), rank))
    fields = _multiplied(run, left, right)
    if x.ndim < 2:
        fields = tuple(one.map(lambda a: a[0]) for one in fields)
    return add_to(run, fields, out.shape, bias)


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
    masks = (argument(func, args, kwargs, name) for name in ("attn_mask", "attn_bias"))
    mask = next((mask for mask in masks if mask is not None), None)
    rank, times = query.ndim, query.shape[1] // key.shape[1]
    queries, keys, values = _tagged(run, query), *(_repeated(*_tagged(run, t), times) for t in (key, value))
    # The scale depends on how many features there are, also where there is one head and nothing else to tell them from.
    queries, keys = ((shape, _whole(run, fields, rank - 1)) for shape, fields in (queries, keys))
    shape = [*query.shape[:-1], key.shape[-2]]
    scores = add_to(run, _multiplied(run, queries, _transposed(*keys)), shape, mask)
    scores = run.facts.fix_along(scores, [rank - 1], run.why)
    weights = tuple(one.but(never([one.zero])) for one in scores)
    result = _multiplied(run, (shape, weights), values)
    return result if isinstance(out, Tensor) else [result, *(() for _ in out[1:])]


def _whole(run: Run, fields: Fields, axis: int) -> Fields:
    return tuple(merge(run.facts, one, [axis]) if one.axes == {axis} else one for one in fields)


def _repeated(shape: Sequence[int], fields: Fields, times: int) -> Tagged:
    """Keys or values, of which each head serves `times` queries."""
    spread = tuple(one.map(lambda a: np.repeat(a, times, 1)) if 1 in one.axes else one for one in fields)
    return [shape[0], shape[1] * times, *shape[2:]], spread
