"""Which points does no other point beat, and how much room do they cover? Geometry only; `frontier` applies it.

Every axis is a cost unless it is named in `maximize`. Point a dominates point b if it is at least as good on every
axis and better on one. Equal points do not dominate each other.

**Tolerance.** With `epsilon` a point is dominated only by what dominates it after it was improved by epsilon on
every axis: what lies within the noise of the frontier stays on it. So epsilon > 0 gives more points, never fewer,
and always some: the relation has no cycles. (In evolutionary optimization epsilon-dominance goes the other way: there
a point may be removed by one that is almost as good, which thins a frontier out.)

**Hypervolume.** The volume of what the points dominate, down to a reference point. Exact, by sweeping: O(n log n) on
two axes, O(n^2 log n) on three. Points that are not better than the reference on every axis add nothing. The result is
the same, to the bit, in any order of the points and with any dominated point added.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..._core.checks import check

__all__ = ["contributions", "hypervolume", "non_dominated"]

Array = NDArray[np.float64]


def _costs(call: str, points: ArrayLike, maximize: Sequence[int]) -> Array:
    """`points` with every axis to be minimized, checked."""
    array = np.array(points, dtype=np.float64)
    check(array.ndim >= 2 and array.shape[-1] >= 1, call, "points of shape (points, axes)", array,
          "Pass one row per point.")  # fmt: skip
    check(not np.isnan(array).any(), call, "points without NaN", array, "Leave failed runs out, or pass inf.")
    axes = array.shape[-1]
    check(all(0 <= axis < axes for axis in maximize), call, f"axes 0 to {axes - 1} in maximize", tuple(maximize),
          "Name the positions of the axes that are better when higher.")  # fmt: skip
    array[..., list(maximize)] *= -1
    return array


def non_dominated(
    points: ArrayLike, *, maximize: Sequence[int] = (), epsilon: float | Sequence[float] = 0.0
) -> NDArray[np.bool_]:
    """Which points are dominated by no other.

    Two axes are sorted, O(n log n); other numbers of axes are compared in pairs, O(n^2) in time and memory.

    Args:
        points: shape (..., points, axes), no NaN; leading axes hold many sets at once, resamples for example. An
            infinitely bad point stands for one that is missing.
        maximize: positions of the axes on which higher is better.
        epsilon: noise per axis, at least 0, in the unit of the axis, or one number for all; 0 = plain dominance.

    Returns:
        Shape (..., points).

    >>> non_dominated([[1.0, 70.0], [2.0, 75.0], [3.0, 74.0]], maximize=[1]).tolist()
    [True, True, False]
    >>> non_dominated([[1.0, 70.0], [2.0, 75.0], [3.0, 74.0]], maximize=[1], epsilon=[0.0, 2.0]).tolist()
    [True, True, True]
    """
    costs = _costs("non_dominated", points, maximize)
    slack = np.broadcast_to(np.asarray(epsilon, dtype=np.float64), costs.shape[-1:])
    check(bool(np.isfinite(slack).all() and (slack >= 0).all()), "non_dominated", "epsilon >= 0", epsilon,
          "Pass the noise of each axis, or 0.")  # fmt: skip
    return ~(_beaten_2d if costs.shape[-1] == 2 else _beaten)(costs, costs - slack)


def _beaten(costs: Array, credited: Array) -> NDArray[np.bool_]:
    """Per row of `credited`: does any row of `costs` dominate it?"""
    shape = (*costs.shape[:-1], costs.shape[-2])  # (..., credited, costs)
    as_good, better = np.ones(shape, dtype=bool), np.zeros(shape, dtype=bool)
    for axis in range(costs.shape[-1]):
        one, two = credited[..., :, None, axis], costs[..., None, :, axis]
        as_good &= two <= one
        better |= two < one
    return np.asarray((as_good & better).any(axis=-1))


def _beaten_2d(costs: Array, credited: Array) -> NDArray[np.bool_]:
    """The same on two axes: the lowest second cost among those no dearer on the first axis decides."""
    order = np.argsort(costs[..., 0], axis=-1, kind="stable")
    first, second = (np.take_along_axis(costs[..., axis], order, axis=-1) for axis in (0, 1))
    lowest = np.minimum.accumulate(second, axis=-1)
    none = np.full((*lowest.shape[:-1], 1), np.inf)
    lowest = np.concatenate([none, lowest], axis=-1)  # entry k: among the k cheapest
    x, y = credited[..., 0], credited[..., 1]
    as_cheap = np.take_along_axis(lowest, _count_below(first, x, ties=True), axis=-1)
    cheaper = np.take_along_axis(lowest, _count_below(first, x, ties=False), axis=-1)
    # the sentinel is no point: an infinite y is as bad as it, and beaten only by points
    return (as_cheap < y) | ((cheaper <= y) & (_count_below(first, x, ties=False) > 0))


def _count_below(ordered: Array, values: Array, *, ties: bool) -> NDArray[np.intp]:
    """How many of `ordered` (sorted along the last axis) lie below each value, or at it with `ties`."""
    n, m = ordered.shape[-1], values.shape[-1]
    both = np.concatenate([ordered, values] if ties else [values, ordered], axis=-1)
    order = np.argsort(both, axis=-1, kind="stable")  # equal numbers keep their order: the earlier part counts
    seen = np.cumsum((order < n) if ties else (order >= m), axis=-1)
    place = np.empty_like(order)
    np.put_along_axis(place, order, np.broadcast_to(np.arange(n + m), order.shape), axis=-1)
    return np.take_along_axis(seen, place[..., n:] if ties else place[..., :m], axis=-1)


def hypervolume(points: ArrayLike, reference: ArrayLike, *, maximize: Sequence[int] = ()) -> Array:
    """The volume between `points` and `reference`: of everything that a point dominates and the reference does not.

    Normalise the axes first (each to [0, 1], say): the volume is in the product of their units. Compare hypervolumes
    only with the same reference.

    Args:
        points: shape (..., points, axes) with two or three axes, no NaN; there may be no points.
        reference: shape (axes,), finite: the bad corner.
        maximize: positions of the axes on which higher is better.

    Returns:
        Shape (...).

    >>> float(hypervolume([[1.0, 3.0], [2.0, 1.0]], [4.0, 4.0]))
    7.0
    """
    costs, corner = _costs("hypervolume", points, maximize), np.array(reference, dtype=np.float64)
    axes = costs.shape[-1]
    check(axes in (2, 3), "hypervolume", "two or three axes", costs, "Choose two or three of them.")
    check(corner.shape == (axes,) and bool(np.isfinite(corner).all()), "hypervolume", f"a reference of {axes} numbers",
          corner, "Pass one finite number per axis.")  # fmt: skip
    corner[list(maximize)] *= -1
    inside = np.asarray((costs < corner).all(axis=-1, keepdims=True))
    costs = np.where(inside, costs, corner)
    check(bool(np.isfinite(costs).all()), "hypervolume", "finite points", costs, "No volume is infinite.")
    if costs.ndim == 2:  # leave out what adds nothing, so that it does not even change a rounding
        costs = costs[inside[:, 0] & non_dominated(costs)]
        costs = np.unique(costs, axis=0)
    return (_area if axes == 2 else _volume)(costs, corner)


def _area(costs: Array, corner: Array) -> Array:
    """Two axes: a staircase along the first, its height the best second cost so far."""
    order = np.argsort(costs[..., 0], axis=-1, kind="stable")
    x, y = (np.take_along_axis(costs[..., axis], order, axis=-1) for axis in (0, 1))
    end = np.full((*x.shape[:-1], 1), corner[0])
    height = corner[1] - np.minimum.accumulate(y, axis=-1)
    return np.asarray((np.diff(x, axis=-1, append=end) * height).sum(axis=-1))


def _volume(costs: Array, corner: Array) -> Array:
    """Three axes: slices along the third, each with the area of the points that have begun."""
    order = np.argsort(costs[..., 2], axis=-1, kind="stable")
    ordered = np.take_along_axis(costs, order[..., None], axis=-2)
    z = ordered[..., 2]
    thickness = np.diff(z, axis=-1, append=np.full((*z.shape[:-1], 1), corner[2]))
    total = np.zeros(z.shape[:-1])
    for k in range(z.shape[-1]):
        total = total + thickness[..., k] * _area(ordered[..., : k + 1, :2], corner[:2])
    return total


def contributions(groups: Sequence[ArrayLike], reference: ArrayLike, *, maximize: Sequence[int] = ()) -> list[float]:
    """Per group of points, what the hypervolume of all groups loses without it.

    Exactly 0 for a group whose points are all dominated by others, and for what another group has as well.

    Args:
        groups: one array of shape (points, axes) per group.
        reference: shape (axes,), finite.
        maximize: positions of the axes on which higher is better.

    >>> contributions([[[1.0, 3.0]], [[2.0, 1.0]], [[3.0, 3.0]]], [4.0, 4.0])
    [1.0, 4.0, 0.0]
    """
    arrays = [np.asarray(group, dtype=np.float64) for group in groups]
    check(len(arrays) > 0, "contributions", "at least one group", "none", "Pass one array of points per group.")
    whole = float(hypervolume(np.concatenate(arrays), reference, maximize=maximize))
    rest = [np.concatenate([arrays[0][:0], *arrays[:k], *arrays[k + 1 :]]) for k in range(len(arrays))]
    return [whole - float(hypervolume(others, reference, maximize=maximize)) for others in rest]
