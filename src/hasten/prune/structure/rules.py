"""How ATen operations on elements, shapes and axes move fields: one small function for each kind, in a table by name.

A rule takes the run, the operation, its arguments and its result, and returns the fields of the result (a list of them,
where the operation gives several). What is not in the table fixes the fields that reach it: an unknown operation makes
nothing wrong, and is named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from .fields import Facts, Field, Fields, Flags, aligned, join, reshaped

__all__ = ["RULES", "Run", "add_to", "argument", "axes_of", "both", "either", "elementwise", "never", "rule"]

Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}


class Run(Protocol):
    """The forward pass that is watched."""

    facts: Facts
    module: str  # whose code is running
    why: str  # the operation and the module, in words

    def of(self, value: Any) -> Fields:
        """Fields of a tensor; none of anything else."""
        ...


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for operations."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


def argument(func: Any, args: tuple, kwargs: dict, name: str) -> Any:
    """An argument of an operation by its name, as its schema has it; None where there is none."""
    if name in kwargs:
        return kwargs[name]
    for place, declared in enumerate(func._schema.arguments):
        if declared.name == name:
            return args[place] if place < len(args) else declared.default_value
    return None


def axes_of(dims: Any, rank: int) -> list[int]:
    """Dimensions as an operation names them (none of them: all), counted from the front."""
    named = [dims] if isinstance(dims, int) else dims
    return [d % rank for d in named] if named and rank else list(range(rank))


# Whether a result is zero, from whether each operand is.
def either(zeros: list[Flags]) -> Flags:
    """As in a product."""
    return np.logical_or.reduce(zeros)


def both(zeros: list[Flags]) -> Flags:
    """As in a sum."""
    return np.logical_and.reduce(zeros)


def first(zeros: list[Flags]) -> Flags:
    """As in a quotient."""
    return zeros[0]


def never(zeros: list[Flags]) -> Flags:
    """As behind a sigmoid."""
    return np.zeros_like(zeros[0])


# Elements -------------------------------------------------------------------------------------------------------------

_ZERO = {"mul": either, "div": first, "_prelu_kernel": first, "copy": lambda zeros: zeros[-1]}


def elementwise(run: Run, func: Any, args: tuple, kwargs: dict, out: Tensor) -> Fields:
    """Any operation on elements, broadcast."""
    operands = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    zero = _ZERO.get(func.overloadpacket.__name__.rstrip("_"))
    if zero is None:
        zero = both if _keeps_zero(func, args, kwargs) else never
    shapes = [(1,) * (out.ndim - t.ndim) + tuple(t.shape) for t in operands]
    return join(run.facts, shapes, [aligned(run.of(t), out.ndim) for t in operands], zero, run.why)


# Elementwise, but not tagged so.
RULES.update(dict.fromkeys(("copy", "copy_", "hardswish", "_prelu_kernel", "bernoulli", "dropout"), elementwise))


def _keeps_zero(func: Any, args: tuple, kwargs: dict) -> bool:
    """Whether the operation makes 0 of zeros: it is asked."""

    def nought(value: Any) -> Any:
        return torch.zeros((), dtype=value.dtype) if isinstance(value, Tensor) else value

    try:
        args, kwargs = pytree.tree_map(nought, (args, kwargs))
        return bool((func(*args, **kwargs) == 0).all())
    except (RuntimeError, TypeError, ValueError):
        return False


@rule("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like")
def _like(run: Run, func: Any, args: tuple, kwargs: dict, out: Tensor) -> Fields:
    zero = np.ones_like if func.overloadpacket.__name__ == "zeros_like" else np.zeros_like
    return tuple(Field(one.ids, zero(one.zero)) for one in run.of(args[0]))


def add_to(run: Run, fields: Fields, shape: Sequence[int], other: Tensor | None) -> Fields:
    """Fields of a result of `shape` after a bias is added."""
    if other is None:
        return fields
    rank = len(shape)
    bias = (1,) * (rank - other.ndim) + tuple(other.shape)
    return join(run.facts, [shape, bias], [fields, aligned(run.of(other), rank)], both, run.why)


# Shapes ---------------------------------------------------------------------------------------------------------------


@rule("view", "_unsafe_view", "reshape", "_reshape_alias")
def _view(run: Run, func: Any, args: tuple, kwargs: dict, out: Tensor) -> Fields:
    if isinstance(args[1], torch.dtype):
        return run.facts.fix_along(run.of(args[0]), range(out.ndim), run.why)
    return reshaped(run.facts, run.of(args[0]), args[0].shape, out.shape, run.module)


def _moved(func: Any, args: tuple, kwargs: dict, one: Field) -> list[Field]:
    """The field behind an operation that only moves elements: the operation moves the ids. One for each result."""

    def move(array: np.ndarray) -> list[np.ndarray]:
        moved = func(torch.from_numpy(array.copy()).expand(args[0].shape), *args[1:], **kwargs)
        return [_small(tensor) for tensor in ([moved] if isinstance(moved, Tensor) else moved)]

    return [Field(ids, zero) for ids, zero in zip(move(one.ids), move(one.zero), strict=True)]


def _small(moved: Tensor) -> np.ndarray:
    for axis, step in enumerate(moved.stride()):
        if step == 0:  # expanded, and so the same all along
            moved = moved.narrow(axis, 0, 1)
    return moved.contiguous().numpy()


@rule("permute", "transpose", "t", "unsqueeze", "squeeze", "alias", "detach", "lift_fresh", "clone", "_to_copy")
def _move(run: Run, func: Any, args: tuple, kwargs: dict, out: Tensor) -> Fields:
    if func.overloadpacket.__name__ in ("clone", "_to_copy"):
        return run.of(args[0])
    return tuple(_moved(func, args, kwargs, one)[0] for one in run.of(args[0]))


@rule("expand")
def _expand(run: Run, func: Any, args: tuple, kwargs: dict, out: Tensor) -> Fields:
    fields = aligned(run.of(args[0]), out.ndim)
    before = (1,) * (out.ndim - args[0].ndim) + tuple(args[0].shape)
    fresh = []
    for axis, (old, new) in enumerate(zip(before, out.shape, strict=True)):
        if old == 1 < new:  # as many copies as what they will meet: no more is known about them
            ids = run.facts.fresh(new).reshape([-1 if d == axis else 1 for d in range(out.ndim)])
            run.facts.views.append((run.module, ids))
            fresh.append(Field(ids, np.zeros(ids.shape, bool)))
    return (*fields, *fresh)


@rule("repeat")
def _repeat(run: Run, func: Any, args: tuple, kwargs: dict, out: Tensor) -> Fields:
    fields, times = aligned(run.of(args[0]), out.ndim), args[1]
    found = []
    for one in fields:
        counts = [n if axis in one.axes else 1 for axis, n in enumerate(times)]
        found.append(one.map(lambda a, counts=counts: np.tile(a, counts)))
    return tuple(found)


@rule("select", "unbind")
def _select(run: Run, func: Any, args: tuple, kwargs: dict, out: Any) -> Any:
    (axis,) = axes_of(argument(func, args, kwargs, "dim"), args[0].ndim)
    rest = []
    for one in run.of(args[0]):
        if one.axes == {axis}:
            run.facts.fix(one.ids, f"{run.why} takes one place of it")
            continue
        if axis in one.axes:  # queries, keys and values of a head: places along the axis go together
            run.facts.pair(one.ids.take([0], axis), one.ids)
        rest.append(one)
    return _per_result([_moved(func, args, kwargs, one) for one in rest], out)


def _per_result(moved: list[list[Field]], out: Any) -> Any:
    if isinstance(out, Tensor):
        return tuple(one[0] for one in moved)
    return [tuple(one[place] for one in moved) for place in range(len(out))]


@rule("slice")
def _slice(run: Run, func: Any, args: tuple, kwargs: dict, out: Tensor) -> Fields:
    fields = run.of(args[0])
    if out.shape != args[0].shape:
        fields = run.facts.fix_along(fields, axes_of(argument(func, args, kwargs, "dim"), out.ndim), run.why)
    return tuple(_moved(func, args, kwargs, one)[0] for one in fields)


@rule("split", "split_with_sizes", "chunk", "unsafe_split", "unsafe_chunk", "tensor_split")
def _split(run: Run, func: Any, args: tuple, kwargs: dict, out: Sequence[Tensor]) -> list[Fields]:
    (axis,) = axes_of(argument(func, args, kwargs, "dim"), args[0].ndim)
    fields = run.of(args[0])
    if len({part.shape for part in out}) > 1:
        fields = run.facts.fix_along(fields, [axis], run.why)
    moved = [_moved(func, args, kwargs, one) for one in fields]
    for one, parts in zip(fields, moved, strict=True):
        if axis in one.axes:  # parts stay equally long: the same place of each goes
            for part in parts[1:]:
                run.facts.pair(parts[0].ids, part.ids)
            run.facts.views.append((run.module, parts[0].ids))
    return _per_result(moved, out)


@rule("glu")
def _glu(run: Run, func: Any, args: tuple, kwargs: dict, out: Tensor) -> Fields:
    """`a * sigmoid(b)` of the two halves."""
    (axis,) = axes_of(argument(func, args, kwargs, "dim"), out.ndim)
    found = []
    for one in run.of(args[0]):
        if axis in one.axes:
            half, gate = (Field(*each) for each in zip(*(np.split(a, 2, axis) for a in (one.ids, one.zero))))
            run.facts.pair(half.ids, gate.ids)
            run.facts.views.append((run.module, half.ids))
            one = half
        found.append(one)
    return tuple(found)


@rule("cat", "stack")
def _cat(run: Run, func: Any, args: tuple, kwargs: dict, out: Tensor) -> Fields:
    (axis,) = axes_of(argument(func, args, kwargs, "dim"), out.ndim)
    tensors = [t for t in args[0] if t.numel() or t.ndim == out.ndim]  # torch skips empty ones of any rank
    fields, shapes = [run.of(t) for t in tensors], [list(t.shape) for t in tensors]
    if func.overloadpacket.__name__ == "stack":
        fields = [tuple(one.map(lambda a: np.expand_dims(a, axis)) for one in each) for each in fields]
        shapes = [[*shape[:axis], 1, *shape[axis:]] for shape in shapes]
    here = [[one for one in each if axis in one.axes] for each in fields]
    others = [tuple(one for one in each if axis not in one.axes) for each in fields]
    narrow = [[*shape[:axis], 1, *shape[axis + 1 :]] for shape in shapes]
    joined = join(run.facts, narrow, others, both, run.why)
    if not any(here):
        return joined
    if any(one.axes != {axis} for each in here for one in each):
        for each in here:
            run.facts.fix_along(tuple(each), [axis], run.why)
        return joined
    parts = [each[0] if each else _constant(run, shape[axis], axis, out.ndim) for each, shape in zip(here, shapes)]
    ids, zero = (np.concatenate([getattr(part, name) for part in parts], axis) for name in ("ids", "zero"))
    return (*joined, Field(ids, zero))


def _constant(run: Run, size: int, axis: int, rank: int, *, zero: bool = False) -> Field:
    """Elements along an axis that stay."""
    ids = run.facts.fresh(size).reshape([-1 if d == axis else 1 for d in range(rank)])
    run.facts.fix(ids, run.why)
    return Field(ids, np.full(ids.shape, zero))


@rule("constant_pad_nd")
def _pad(run: Run, func: Any, args: tuple, kwargs: dict, out: Tensor) -> Fields:
    pads, rank = args[1], out.ndim
    nought = argument(func, args, kwargs, "value") == 0
    fields = run.of(args[0])
    for place in range(len(pads) // 2):
        axis, (low, high) = rank - 1 - place, pads[2 * place : 2 * place + 2]
        if low or high:
            fields = _padded(run, fields, axis, (low, high), rank, nought)
    return fields


def _padded(run: Run, fields: Fields, axis: int, ends: tuple[int, int], rank: int, nought: bool) -> Fields:
    """Fields with elements that stay at both ends of an axis."""
    plain = [one for one in fields if one.axes == {axis}]
    if min(ends) < 0 or not plain:
        return run.facts.fix_along(fields, [axis], run.why)
    low, high = (_constant(run, size, axis, rank, zero=nought) for size in ends)
    ids, zero = (np.concatenate([getattr(o, n) for o in (low, plain[0], high)], axis) for n in ("ids", "zero"))
    return (*(one for one in fields if one is not plain[0]), Field(ids, zero))
