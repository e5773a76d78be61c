from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hasten.bench.stats.pareto import contributions, hypervolume, non_dominated

Array = NDArray[np.float64]


def dominates(one: Array, two: Array) -> bool:
    return bool((one <= two).all() and (one < two).any())


def optimal(points: Array, epsilon: Array | float = 0.0) -> list[bool]:
    """The definition, point by point."""
    return [not any(dominates(other, point - epsilon) for other in points) for point in points]


def inclusion_exclusion(points: Array, reference: Array) -> float:
    """The volume of a union of boxes, over all subsets of them."""
    total = 0.0
    for size in range(1, len(points) + 1):
        for subset in itertools.combinations(points, size):
            sides = np.maximum(reference - np.max(subset, axis=0), 0.0)
            total += (-1) ** (size + 1) * float(np.prod(sides))
    return total


# Small whole numbers make ties on single axes and equal points frequent.
def sets(axes: int, most: int = 9) -> Any:
    coordinate = st.one_of(st.integers(0, 4).map(float), st.floats(0, 4))
    return st.lists(st.lists(coordinate, min_size=axes, max_size=axes), min_size=1, max_size=most).map(np.array)


@given(st.integers(1, 4).flatmap(lambda axes: sets(axes, 12)), st.sampled_from([0.0, 0.5, 1.0]))
def test_non_dominated_is_the_definition(points: Array, epsilon: float) -> None:
    assert non_dominated(points, epsilon=epsilon).tolist() == optimal(points, epsilon)


@given(sets(2, 12), st.sampled_from([0.0, 0.25, 1.0]), st.sampled_from([0.0, 1.0]))
def test_two_axes_with_a_noise_of_their_own(points: Array, first: float, second: float) -> None:
    noise = np.array([first, second])
    assert non_dominated(points, epsilon=noise.tolist()).tolist() == optimal(points, noise)


@given(st.lists(sets(2, 6), min_size=1, max_size=4), st.integers(2, 3))
def test_many_sets_at_once_are_each_alone(found: list[Array], axes: int) -> None:
    width = min(map(len, found))
    batch = np.stack([np.pad(points[:width], ((0, 0), (0, axes - 2))) for points in found])
    assert non_dominated(batch).tolist() == [non_dominated(points).tolist() for points in batch]
    corner = np.full(axes, 5.0)
    assert hypervolume(batch, corner) == pytest.approx([float(hypervolume(points, corner)) for points in batch])


@given(st.integers(2, 3).flatmap(sets), st.floats(0, 1), st.floats(0, 1))
def test_more_noise_keeps_more_points_and_never_none(points: Array, one: float, two: float) -> None:
    few, many = (non_dominated(points, epsilon=e) for e in sorted((one, two)))
    assert few.any()
    assert (few <= many).all()


def test_equal_points_do_not_dominate_each_other() -> None:
    assert non_dominated([[1.0, 2.0], [1.0, 2.0], [1.0, 3.0], [2.0, 2.0]]).tolist() == [True, True, False, False]


def test_a_direction_for_every_axis() -> None:
    points = [[1.0, 0.8, 5.0], [2.0, 0.8, 5.0], [3.0, 0.9, 9.0], [3.0, 0.9, 5.0]]
    assert non_dominated(points, maximize=[1]).tolist() == [True, False, False, True]
    assert non_dominated(points, maximize=[1, 2]).tolist() == [True, False, True, False]


def test_an_infinitely_bad_point_is_one_that_is_missing() -> None:
    points = [[1.0, 0.8], [np.inf, -np.inf], [np.inf, -np.inf]]
    assert non_dominated(points, maximize=[1]).tolist() == [True, False, False]
    assert non_dominated(points[1:], maximize=[1]).tolist() == [True, True]
    assert non_dominated([[np.inf, 1.0], [np.inf, 2.0]]).tolist() == [True, False]


def test_no_points() -> None:
    for axes in (2, 3):
        assert non_dominated(np.empty((0, axes))).tolist() == []
        assert float(hypervolume(np.empty((0, axes)), [1.0] * axes)) == 0.0


@given(st.integers(2, 3).flatmap(sets))
def test_hypervolume_is_that_of_the_union_of_boxes(points: Array) -> None:
    corner = np.full(points.shape[1], 3.5)  # some points lie outside
    assert float(hypervolume(points, corner)) == pytest.approx(inclusion_exclusion(points, corner), abs=1e-9)


@given(st.integers(2, 3).flatmap(lambda axes: sets(axes, 30)))
def test_hypervolume_of_whole_numbers_is_a_count_of_cells(points: Array) -> None:
    points, size = np.floor(points), 5
    cells = np.array(list(itertools.product(range(size), repeat=points.shape[1])))
    covered = (points[None] <= cells[:, None]).all(axis=-1).any(axis=-1)
    assert float(hypervolume(points, [float(size)] * points.shape[1])) == covered.sum()


@given(st.integers(2, 3).flatmap(sets), st.data())
def test_a_dominated_point_changes_nothing(points: Array, data: st.DataObject) -> None:
    corner = np.full(points.shape[1], 5.0)
    behind = points[data.draw(st.integers(0, len(points) - 1))] + data.draw(st.sampled_from([0.0, 0.1, 1.0]))
    more = np.vstack([points, behind])
    assert float(hypervolume(more, corner)) == float(hypervolume(points, corner))  # to the bit
    assert non_dominated(more)[:-1].tolist() == non_dominated(points).tolist()
    assert contributions([*points[:, None], behind[None]], corner)[-1] == 0.0


@given(st.integers(2, 3).flatmap(sets), st.data())
def test_a_further_point_never_takes_volume(points: Array, data: st.DataObject) -> None:
    new = data.draw(sets(points.shape[1], 1))
    corner = np.full(points.shape[1], 4.0)
    before, after = float(hypervolume(points, corner)), float(hypervolume(np.vstack([points, new]), corner))
    assert after >= before - 1e-12
    if (new < corner).all() and not (points <= new).all(axis=1).any():
        assert after > before - 1e-12


@given(st.integers(2, 3).flatmap(sets), st.randoms(use_true_random=False))
def test_the_order_of_points_changes_nothing(points: Array, random: Any) -> None:
    order = list(range(len(points)))
    random.shuffle(order)
    corner = np.full(points.shape[1], 4.5)
    assert float(hypervolume(points[order], corner)) == float(hypervolume(points, corner))
    assert non_dominated(points[order]).tolist() == non_dominated(points)[order].tolist()


@given(st.integers(2, 3).flatmap(sets), st.sampled_from([0.25, 8.0]))
def test_a_unit_scales_the_volume_and_not_the_frontier(points: Array, unit: float) -> None:
    corner = np.full(points.shape[1], 4.5)
    scaled, end = points.copy(), corner.copy()
    scaled[:, 0] *= unit
    end[0] *= unit
    assert non_dominated(scaled).tolist() == non_dominated(points).tolist()
    assert float(hypervolume(scaled, end)) == pytest.approx(unit * float(hypervolume(points, corner)))


def test_goldens() -> None:
    assert float(hypervolume([[0.0, 0.0]], [1.0, 1.0])) == 1.0
    assert float(hypervolume([[1.0, 1.0]], [1.0, 1.0])) == 0.0
    assert float(hypervolume([[0.0, 0.5], [0.5, 0.0]], [1.0, 1.0])) == 0.75
    assert float(hypervolume([[0, 0, 2], [0, 2, 0], [2, 0, 0]], [3, 3, 3])) == 19.0  # 27 - 2^3
    assert float(hypervolume([[1.0, 70.0], [2.0, 75.0]], [4.0, 60.0], maximize=[1])) == 10.0 + 2 * 15.0


def test_contributions() -> None:
    one, two = [[0.0, 0.5]], [[0.5, 0.0]]
    assert contributions([one, two], [1.0, 1.0]) == [0.25, 0.25]
    assert contributions([one, one, two], [1.0, 1.0]) == [0.0, 0.0, 0.25]  # what two have, neither adds
    assert contributions([one], [1.0, 1.0]) == [0.5]
    assert contributions([[[0.0, 0.5], [0.5, 0.0]], [[0.9, 0.9]]], [1.0, 1.0]) == [0.74, 0.0]  # the rest covers 0.01


@given(st.integers(2, 3).flatmap(sets))
def test_contributions_are_losses(points: Array) -> None:
    corner = np.full(points.shape[1], 4.5)
    found = contributions(list(points[:, None]), corner)
    whole = float(hypervolume(points, corner))
    for k, loss in enumerate(found):
        rest = inclusion_exclusion(np.delete(points, k, axis=0), corner)
        assert loss == pytest.approx(whole - rest, abs=1e-9)
        assert loss == 0.0 or non_dominated(points)[k]
    assert math.fsum(found) <= whole + 1e-9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: non_dominated([1.0, 2.0]), r"non_dominated: expected points of shape \(points, axes\)"),
        (lambda: non_dominated([[1.0, math.nan]]), "points without NaN.*Leave failed runs out"),
        (lambda: non_dominated([[1.0, 2.0]], maximize=[2]), "axes 0 to 1 in maximize"),
        (lambda: non_dominated([[1.0, 2.0]], epsilon=-1.0), "epsilon >= 0"),
        (lambda: hypervolume([[1.0]], [2.0]), "two or three axes"),
        (lambda: hypervolume([[1.0, 2.0]], [2.0]), "a reference of 2 numbers"),
        (lambda: hypervolume([[1.0, 2.0]], [2.0, math.inf]), "a reference of 2 numbers"),
        (lambda: hypervolume([[-math.inf, 2.0]], [3.0, 3.0]), "finite points"),
        (lambda: contributions([], [1.0, 1.0]), "at least one group"),
    ],
)
def test_bad_input(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
