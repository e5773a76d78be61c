"""Which channel each element of a tensor belongs to, and what operations say about channels.

A `Field` tags a tensor: `ids` has the tensor's rank and is broadcast over it; where two elements differ in a tag they
belong to different channels, and an element goes when any of its tags goes. The output of a convolution has one field
of shape (1, channels, 1, 1); the queries of attention have one of (1, heads, 1, features); a weight matrix has two, of
(rows, 1) and (1, columns). A dimension without a field (batch, time, an image) never changes its size.

Beside each tag stands whether its elements are exactly zero, whatever the input: a row of zeros in a weight makes such a
channel, `relu` keeps it, a sigmoid does not.

An operation moves fields to its result and leaves `Facts`: ids that go together, ids that cannot go, sums over ids.
Nothing is decided here; `groups` solves all facts at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["Facts", "Field", "Fields", "aligned", "join", "merge", "reshaped", "summed"]

Ids = NDArray[np.int64]
Flags = NDArray[np.bool_]
Shape = Sequence[int]


@dataclass(frozen=True, eq=False)
class Field:
    """Tags of a tensor's elements: `ids` and `zero` have its rank, and size 1 where they do not vary."""

    ids: Ids
    zero: Flags

    @property
    def axes(self) -> frozenset[int]:
        """The dimensions along which the tag varies."""
        return frozenset(axis for axis, size in enumerate(self.ids.shape) if size > 1)

    def map(self, move: Callable[[NDArray], NDArray]) -> Field:
        """The field with both arrays moved the same way."""
        return Field(move(self.ids), move(self.zero))


Fields = tuple[Field, ...]  # of one tensor; no two vary along the same axis


@dataclass
class Facts:
    """What a run of a model says about ids, in arrays of them."""

    count: int = 0  # ids given out
    pairs: list[tuple[Ids, Ids]] = field(default_factory=list)  # these go together
    fixed: list[tuple[Ids, str]] = field(default_factory=list)  # these stay, and why
    sums: list[tuple[Ids, Flags]] = field(default_factory=list)  # summed over; True where the summand is zero
    grids: list[Ids] = field(default_factory=list)  # what remains must be a grid
    heads: list[Ids] = field(default_factory=list)  # of products with one matrix for each
    views: list[tuple[str, Ids]] = field(default_factory=list)  # shapes that a module's code asked for
    sizes: list[tuple[str, Ids]] = field(default_factory=list)  # shapes that a module's attributes may speak of
    work: list[tuple[int, list[Ids]]] = field(default_factory=list)  # MACs, proportional to what remains of each

    def fresh(self, size: int) -> Ids:
        """New ids."""
        self.count += size
        return np.arange(self.count - size, self.count, dtype=np.int64)

    def pair(self, first: Ids, second: Ids) -> None:
        """Elements of `first` go together with those of `second`, broadcast."""
        if first is not second:
            one, two = np.broadcast_arrays(first, second)
            self.pairs.append((one.ravel(), two.ravel()))

    def fix(self, ids: Ids, why: str) -> None:
        """These ids stay."""
        self.fixed.append((ids.ravel(), why))

    def fix_along(self, fields: Fields, axes: Sequence[int], why: str) -> Fields:
        """Fix the fields that vary along one of `axes`; returns the others."""
        rest = []
        for one in fields:
            if one.axes.intersection(axes):
                self.fix(one.ids, f"{why} runs along it")
            else:
                rest.append(one)
        return tuple(rest)


def aligned(fields: Fields, rank: int) -> Fields:
    """Fields of a tensor as broadcasting sees it: with dimensions of size 1 in front."""
    return tuple(one.map(lambda a: a.reshape((1,) * (rank - a.ndim) + a.shape)) for one in fields)


def merge(facts: Facts, one: Field, axes: Sequence[int]) -> Field:
    """What differs only along `axes` goes together; the field does not vary along them any more."""
    for axis in axes:
        if one.ids.shape[axis] > 1:
            first = one.ids.take([0], axis)
            facts.pair(first, one.ids)
            one = Field(first, one.zero.all(axis, keepdims=True))
    return one


def summed(facts: Facts, fields: Fields, axes: Sequence[int]) -> Fields:
    """Fields after a sum over `axes`, whose dimensions keep size 1.

    A tag that varies along summed axes only is gone: its elements may go where they are zero. One that varies along
    others, too (features of heads), is merged: a part of each head cannot go.
    """
    rest = []
    for one in fields:
        if one.axes and one.axes <= set(axes):
            facts.sums.append((one.ids.ravel(), one.zero.ravel()))
        else:
            rest.append(merge(facts, one, axes))
    return tuple(rest)


def join(
    facts: Facts,
    shapes: Sequence[Shape],
    operands: Sequence[Fields],
    zero: Callable[[list[Flags]], Flags],
    why: str,
) -> Fields:
    """Fields of an elementwise operation on operands that are broadcast.

    Tags that meet along an axis go together. Where an operand has a size above 1 and no tag, its size is fixed, and so
    are the tags that meet it.

    Args:
        facts: what is learned is added here.
        shapes: shapes of the operands, all of one rank.
        operands: their fields.
        zero: whether the result is zero, from whether each operand is.
        why: the operation in words, for what it fixes.
    """
    left = [(place, one) for place, fields in enumerate(operands) for one in fields if one.axes]
    found = []
    while left:
        cluster, axes = [left.pop(0)], frozenset[int]()
        while axes != (axes := axes.union(*(one.axes for _, one in cluster))):
            cluster += [pair for pair in left if pair[1].axes & axes]
            left = [pair for pair in left if not pair[1].axes & axes]
        found.append(_joined(facts, shapes, cluster, sorted(axes), zero, why))
    return tuple(found)


def _joined(
    facts: Facts,
    shapes: Sequence[Shape],
    cluster: list[tuple[int, Field]],
    axes: list[int],
    zero: Callable[[list[Flags]], Flags],
    why: str,
) -> Field:
    """The one field that a cluster of tags becomes."""
    shape = np.broadcast_shapes(*(one.ids.shape for _, one in cluster))
    ids = np.broadcast_to(cluster[0][1].ids, shape)
    zeros = [np.zeros(shape, bool) for _ in shapes]
    for place, one in cluster:
        facts.pair(ids, one.ids)
        zeros[place] = zeros[place] | one.zero
    for place, operand in enumerate(shapes):
        tagged = frozenset[int]().union(*(one.axes for where, one in cluster if where == place))
        if any(operand[axis] > 1 and axis not in tagged for axis in axes):
            facts.fix(ids, f"{why} meets a tensor of fixed size")
    return Field(ids, zero(zeros))


def reshaped(facts: Facts, fields: Fields, before: Shape, after: Shape, module: str) -> Fields:
    """Fields of a view: each is reshaped over the runs of dimensions in which the view changes something."""
    runs = _runs(before, after)
    return tuple(_reshaped(facts, one, before, after, runs, module) for one in fields if one.axes)


def _reshaped(
    facts: Facts, one: Field, before: Shape, after: Shape, runs: list[tuple[range, range]], module: str
) -> Field:
    touched = [bool(one.axes.intersection(old)) for old, _ in runs]
    inside = [before[d] if hit else 1 for (old, _), hit in zip(runs, touched, strict=True) for d in old]
    outside = [after[d] if hit else 1 for (_, new), hit in zip(runs, touched, strict=True) for d in new]
    result = _tidy(one.map(lambda a: np.broadcast_to(a, inside).reshape(outside)))
    changed = any(
        hit and [before[d] for d in old if before[d] > 1] != [after[d] for d in new if after[d] > 1]
        for (old, new), hit in zip(runs, touched, strict=True)
    )
    if changed:
        facts.views.append((module, result.ids))
    if len(result.axes) > 1:
        facts.grids.append(result.ids)
    return result


def _runs(before: Shape, after: Shape) -> list[tuple[range, range]]:
    """Shortest runs of dimensions of equal product, in order; they cover both shapes."""
    runs, i, j = [], 0, 0
    while i < len(before) or j < len(after):
        old, new = i, j
        i, j = min(i + 1, len(before)), min(j + 1, len(after))
        while (left := math.prod(before[old:i])) != (right := math.prod(after[new:j])):
            if left < right:
                i += 1
            else:
                j += 1
        if i == len(before) or j == len(after):  # what is left over on one side has size 1
            if all(size == 1 for size in before[i:]) and all(size == 1 for size in after[j:]):
                i, j = len(before), len(after)
        runs.append((range(old, i), range(new, j)))
    return runs


def _tidy(one: Field) -> Field:
    """The field without the axes along which its ids are all the same (a batch that a view had to repeat them over)."""
    for axis in one.axes:
        first = one.ids.take([0], axis)
        if (first == one.ids).all():
            one = Field(first, one.zero.all(axis, keepdims=True))
    return one
