"""Curve kinds: where the points lie, and that a cyclic run's points are the computations they are said to be."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contract import battery
from tests.contract.battery import IMAGES, NAMES, SMALL, TEXT, run

from hasten.bench.curves import Curve
from hasten.bench.train import Point

REVERSIBLE = [name for name in NAMES if SMALL[name].card.horizon != "irreversible"]
ENDS = (3, 5, 8, 12)


def facts(points: list[Point]) -> list[tuple]:
    return [(p.point, p.step, p.metric, p.train_loss, p.flops) for p in points]


def test_points_and_runs() -> None:
    cyclic, separate = Curve("cyclic", (4, 10)), Curve("separate", (4, 10))
    assert (cyclic.runs(), separate.runs()) == (((0, 1),), ((0,), (1,)))
    assert cyclic.cycles((0, 1)) == [(0, 4, 0), (4, 10, 1)]
    assert [separate.cycles(points) for points in separate.runs()] == [[(0, 4, 0)], [(0, 10, 1)]]


def test_geometric_budgets() -> None:
    assert Curve.of("cyclic", 512, points=6, mult=2.0, warmup=8).ends == (16, 32, 64, 128, 256, 512)


@given(st.sets(st.integers(1, 100), min_size=1, max_size=6).map(sorted), st.sampled_from(["cyclic", "separate"]))
def test_every_point_comes_once(ends: list[int], kind: str) -> None:
    curve = Curve(kind, tuple(ends))
    cycles = [cycle for points in curve.runs() for cycle in curve.cycles(points)]
    assert Counter(point for _, _, point in cycles) == Counter(range(len(ends)))
    assert {point: end for _, end, point in cycles} == dict(enumerate(ends))
    assert all(start < end for start, end, _ in cycles)


@pytest.mark.parametrize("ends", [(), (0,), (3, 3), (5, 4), (-1, 2)])
def test_ends_increase(ends: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="Curve: expected increasing positive ends"):
        Curve("cyclic", ends)


def test_kinds_have_names() -> None:
    with pytest.raises(ValueError, match="Curve: expected kind among cyclic, separate, got 'circular'"):
        Curve("circular", (1,))


def test_a_curve_too_short_for_its_points_is_refused() -> None:
    with pytest.raises(ValueError, match="got 10 for 4 points with mult=2 after a warm-up of 8. Train longer, ask for"):
        Curve.of("cyclic", 10, points=4, mult=2.0, warmup=8)


@pytest.mark.parametrize("name", ["base", *REVERSIBLE])
def test_the_first_cyclic_point_is_the_first_separate_one(name: str) -> None:
    program = IMAGES.program if name == "base" else IMAGES.program.then(SMALL[name])
    cyclic, separate = Curve("cyclic", ENDS), Curve("separate", ENDS)
    whole = run(program, cycles=tuple(cyclic.cycles((0, 1, 2, 3))))
    alone = run(program, cycles=tuple(separate.cycles((0,))))
    assert facts(whole.points[:1]) == facts(alone.points)


@pytest.mark.parametrize("name", ["base", *REVERSIBLE])
def test_a_longer_curve_begins_with_the_shorter_one(name: str) -> None:
    """The prefix property: nothing in the first cycles knows that a fourth one follows."""
    program = IMAGES.program if name == "base" else IMAGES.program.then(SMALL[name])
    four = run(program, cycles=tuple(Curve("cyclic", ENDS).cycles((0, 1, 2, 3))))
    three = run(program, cycles=tuple(Curve("cyclic", ENDS[:3]).cycles((0, 1, 2))))
    assert facts(four.points[:3]) == facts(three.points)


def test_a_later_cyclic_point_is_another_computation_than_a_separate_one() -> None:
    cyclic = run(TEXT.program, TEXT, cycles=((0, 3, 0), (3, 6, 1)))
    separate = run(TEXT.program, TEXT, cycles=((0, 6, 1),))
    assert cyclic.points[1].step == separate.points[0].step
    assert cyclic.points[1].metric != separate.points[0].metric


def test_irreversible_methods_are_why_there_are_separate_curves() -> None:
    """In a cyclic run what is frozen at the end of a cycle stays frozen, so the second point is not what it says."""
    program = IMAGES.program.then(SMALL["layer_freezing"])
    second = run(program, cycles=((0, 6, 0), (6, 12, 1))).points[1].flops
    assert second < 2 * run(program, cycles=((0, 6, 0),)).points[0].flops
    assert battery.SMALL["layer_freezing"].card.horizon == "irreversible"
