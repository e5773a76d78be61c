"""Rules of operations that look along axes: sums, means, softmax, norms, pooling, look-ups.

A sum may lose what is zero. A mean divides by the size, a norm takes statistics over it: what they run along stays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .fields import Field, Fields, Flags, aligned, join, merge, summed
from .rules import Run, argument, axes_of, never, rule

__all__: list[str] = []


def _squeezed(fields: Fields, axes: list[int], out: Tensor, rank: int) -> Fields:
    """Fields without reduced axes, unless they were kept."""
    if out.ndim == rank:
        return fields
    return tuple(one.map(lambda a: a.squeeze(tuple(axes))) for one in fields)


@rule("sum")
def _sum(run: Run, func: Any, args: tuple, kwargs: dict, out: Tensor) -> Fields:
    rank = args[0].ndim
    axes = axes_of(argument(func, args, kwargs, "dim"), rank)
    return _squeezed(summed(run.facts, run.of(args[0]), axes), axes, out, rank)


_ZERO_STAYS = {"mean", "amax", "amin", "max", "min", "var", "std", "linalg_vector_norm", "norm", "topk", "sort",
               "cumsum", "flip", "roll", "median"}  # fmt: skip


@rule("mean", "amax", "amin", "max", "min", "var", "std", "var_mean", "linalg_vector_norm", "norm", "topk", "sort",
      "cumsum", "flip", "roll", "median", "_softmax", "_log_softmax", "_safe_softmax", "logsumexp", "prod", "argmax",
      "argmin", "any", "all")  # fmt: skip
def _along(run: Run, func: Any, args: tuple, kwargs: dict, out: Any) -> Any:
    rank, name = args[0].ndim, func.overloadpacket.__name__
    dims = argument(func, args, kwargs, "dims" if name in ("flip", "roll") else "dim")
    axes = axes_of(dims, rank)
    fields = run.facts.fix_along(run.of(args[0]), axes, run.why)
    if name not in _ZERO_STAYS:
        fields = tuple(Field(one.ids, np.zeros_like(one.zero)) for one in fields)
    if isinstance(out, Tensor):
        return _squeezed(fields, axes, out, rank)
    return [_squeezed(fields, axes, each, rank) for each in out]


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool2d_with_indices", "max_pool3d_with_indices", "max_pool2d",
      "adaptive_max_pool2d", "adaptive_max_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d",
      "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_avg_pool1d", "upsample_nearest1d", "upsample_nearest2d",
      "upsample_nearest3d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_linear1d", "upsample_trilinear3d",
      "_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_bilinear2d_aa", "reflection_pad1d",
      "reflection_pad2d", "reflection_pad3d", "replication_pad1d", "replication_pad2d", "replication_pad3d")  # fmt: skip
def _in_space(run: Run, func: Any, args: tuple, kwargs: dict, out: Any) -> Any:
    """Operations on what lies behind the channels (batch first), each channel by itself."""
    rank = args[0].ndim
    space = int("".join(filter(str.isdigit, func.overloadpacket.__name__))[-1])
    fields = run.facts.fix_along(run.of(args[0]), range(rank - space, rank), run.why)
    return fields if isinstance(out, Tensor) else [fields for _ in out]


@rule("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(run: Run, func: Any, args: tuple, kwargs: dict, out: Tensor) -> Fields:
    """Channels, seen as (groups, channels of a group), transposed: no group may lose more than another."""

    def move(array: np.ndarray) -> np.ndarray:
        return array.reshape(args[1], -1).T.reshape(array.shape)

    fields = run.of(args[0])
    run.facts.grids += [one.ids.reshape(args[1], -1) for one in fields if one.axes == {1}]
    return tuple(one.map(move) if one.axes == {1} else one for one in fields)


@rule("pixel_shuffle")
def _pixel_shuffle(run: Run, func: Any, args: tuple, kwargs: dict, out: Tensor) -> Fields:
    """Channels, seen as (channels, pixels), moved into space: all pixels of a channel go together."""
    rank, factor = args[0].ndim, args[1]
    fields = run.facts.fix_along(run.of(args[0]), [rank - 2, rank - 1], run.why)
    plain = tuple(one for one in run.facts.fix_along(fields, range(rank - 3), run.why) if one.axes == {rank - 3})
    shape = (*(1,) * (rank - 3), -1, factor**2)
    merged = (merge(run.facts, one.map(lambda a: a.reshape(shape)), [rank - 2]) for one in plain)
    return tuple(one.map(lambda a: a.reshape(*shape[:-1], 1, 1)) for one in merged)


# Norms ----------------------------------------------------------------------------------------------------------------


@rule("native_batch_norm", "_native_batch_norm_legit_no_training", "_native_batch_norm_legit", "cudnn_batch_norm",
      "miopen_batch_norm", "_batch_norm_no_update", "_batch_norm_with_update")  # fmt: skip
def _batch_norm(run: Run, func: Any, args: tuple, kwargs: dict, out: Any) -> Any:
    x, affine = args[0], isinstance(args[1], Tensor)
    vectors = [t for t in args[1:5] if isinstance(t, Tensor)]  # weight, bias, mean, variance
    shapes = [tuple(x.shape), *((1, len(t), *(1,) * (x.ndim - 2)) for t in vectors)]
    operands = [run.of(x), *(_as_channels(run.of(t), x.ndim) for t in vectors)]

    def zero(zeros: list[Flags]) -> Flags:
        """Where scale and shift are; without them, where the input and its mean are."""
        return zeros[1] & zeros[2] if affine else zeros[0] & zeros[1]

    fields = join(run.facts, shapes, operands, zero if len(vectors) > 1 else never, run.why)
    run.facts.sizes += [(run.module, one.ids) for one in fields]
    return [fields, *(() for _ in out[1:])]


def _as_channels(fields: Fields, rank: int) -> Fields:
    """Fields of a vector as broadcast over a tensor whose dimension 1 it runs along."""
    return tuple(one.map(lambda a: a.reshape(1, -1, *(1,) * (rank - 2))) for one in fields)


@rule("native_layer_norm", "_fused_rms_norm", "rms_norm")
def _layer_norm(run: Run, func: Any, args: tuple, kwargs: dict, out: Any) -> Any:
    x, vectors = args[0], [t for t in args[2:4] if isinstance(t, Tensor)]
    last = range(x.ndim - len(args[1]), x.ndim)
    for one in run.of(x):
        if one.axes.intersection(last):
            run.facts.fix(one.ids, f"{run.why} takes statistics over it")
    shapes = [tuple(x.shape), *((*(1,) * last.start, *args[1]) for _ in vectors)]
    fields = join(run.facts, shapes, [run.of(x), *(aligned(run.of(t), x.ndim) for t in vectors)], never, run.why)
    return fields if isinstance(out, Tensor) else [fields, *(() for _ in out[1:])]


@rule("native_group_norm")
def _group_norm(run: Run, func: Any, args: tuple, kwargs: dict, out: Any) -> Any:
    x, weight, bias, count = args[0], args[1], args[2], args[6]
    space = (1,) * (x.ndim - 2)
    fields = run.facts.fix_along(run.of(x), range(2, x.ndim), run.why)
    fields = tuple(_by_group(run, one, count) if 1 in one.axes else one for one in fields)
    vectors = [t for t in (weight, bias) if t is not None]
    shapes = [tuple(x.shape), *((1, len(t), *space) for t in vectors)]
    operands = [fields, *(_as_channels(run.of(t), x.ndim) for t in vectors)]
    zero = (lambda zeros: zeros[1] & zeros[2]) if len(vectors) == 2 else never
    return [join(run.facts, shapes, operands, zero, run.why), (), ()]


def _by_group(run: Run, one: Field, count: int) -> Field:
    """Channels of a group go together: their statistics are of all of them."""
    flat = one.ids.reshape(count, -1)
    run.facts.pair(flat[:, :1], flat)
    run.facts.sizes += [(run.module, flat), (run.module, one.ids)]
    return one


# Look-ups -------------------------------------------------------------------------------------------------------------


@rule("embedding")
def _embedding(run: Run, func: Any, args: tuple, kwargs: dict, out: Tensor) -> Fields:
    fields = run.facts.fix_along(run.of(args[0]), [0], run.why)
    return aligned(tuple(one.map(lambda a: a[0]) for one in fields), out.ndim)


@rule("index_select")
def _index_select(run: Run, func: Any, args: tuple, kwargs: dict, out: Tensor) -> Fields:
    """Places that are looked up stay; unless each is repeated, as keys are for the queries that share them."""
    x, (axis,), index = args[0], axes_of(args[1], args[0].ndim), args[2]
    times, rest = divmod(len(index), x.shape[axis])
    once = torch.arange(x.shape[axis], device=index.device)
    if rest or not torch.equal(index, once.repeat_interleave(times)):
        return run.facts.fix_along(run.of(x), [axis], run.why)
    fields = tuple(o.map(lambda a: np.repeat(a, times, axis)) if axis in o.axes else o for o in run.of(x))
    run.facts.views += [(run.module, one.ids) for one in fields if axis in one.axes]
    return fields


@rule("index")
def _index(run: Run, func: Any, args: tuple, kwargs: dict, out: Tensor) -> Fields:
    """`x[..., indices, ...]`: what is looked along stays; the other dimensions move where the indices' end."""
    x, indices = args[0], list(args[1])
    used = [axis for axis, index in enumerate(indices) if index is not None]
    for index in indices:
        run.facts.fix_along(run.of(index), range(x.ndim), run.why)
    if any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices):
        return _all_fixed(run, run.of(x))
    if used != list(range(used[0], used[-1] + 1)):
        return _all_fixed(run, run.of(x))
    fields = run.facts.fix_along(run.of(x), used, run.why)
    new = (1,) * (out.ndim - x.ndim + len(used))
    cut = used[0], used[-1] + 1
    return tuple(one.map(lambda a: a.reshape(*a.shape[: cut[0]], *new, *a.shape[cut[1] :])) for one in fields)


def _all_fixed(run: Run, fields: Fields) -> Fields:
    for one in fields:
        run.facts.fix(one.ids, run.why)
    return ()
