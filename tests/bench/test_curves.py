"""Curve kinds: where the points lie, and that a cyclic run's points are the computations they are said to be."""

from __future__ import annotations

import functools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.contract import battery
from tests.contract.battery import IMAGES, NAMES, SMALL, TEXT, resumes_to_the_bit, run

from hasten.bench.curves import Curve, branch_schedule
from hasten.bench.train import Point, Result
from hasten.program import Program

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


@given(
    st.sets(st.integers(1, 100), min_size=1, max_size=6).map(sorted), st.sampled_from(["cyclic", "separate", "branch"])
)
def test_every_point_comes_once(ends: list[int], kind: str) -> None:
    curve = Curve(kind, tuple(ends), tuple(end - 1 for end in ends) if kind == "branch" else ())
    cycles = [cycle for points in curve.runs() for cycle in curve.cycles(points)]
    assert Counter(point for _, _, point in cycles) == Counter(range(len(ends)))
    assert {point: end for _, end, point in cycles} == dict(enumerate(ends))
    assert all(start < end for start, end, _ in cycles)


@pytest.mark.parametrize("ends", [(), (0,), (3, 3), (5, 4), (-1, 2)])
def test_ends_increase(ends: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="Curve: expected increasing positive ends"):
        Curve("cyclic", ends)


def test_kinds_have_names() -> None:
    with pytest.raises(ValueError, match="Curve: expected kind among cyclic, separate, branch, got 'circular'"):
        Curve("circular", (1,))


def test_a_curve_too_short_for_its_points_is_refused() -> None:
    with pytest.raises(ValueError, match="got 10 for 4 points with mult=2 after a warm-up of 8. Train longer, ask for"):
        Curve.of("cyclic", 10, points=4, mult=2.0, warmup=8)


def program_of(name: str) -> Program:
    return IMAGES.program if name == "base" else IMAGES.program.then(SMALL[name])


@functools.cache
def cyclic_points(name: str) -> list[Point]:
    """Of all four cycles."""
    return run(program_of(name), cycles=tuple(Curve("cyclic", ENDS).cycles((0, 1, 2, 3)))).points


@pytest.mark.parametrize("name", ["base", *REVERSIBLE])
def test_the_first_cyclic_point_is_the_first_separate_one(name: str) -> None:
    alone = run(program_of(name), cycles=tuple(Curve("separate", ENDS).cycles((0,))))
    assert facts(cyclic_points(name)[:1]) == facts(alone.points)


@pytest.mark.parametrize("name", ["base", *REVERSIBLE])
def test_a_longer_curve_begins_with_the_shorter_one(name: str) -> None:
    """The prefix property: nothing in the first cycles knows that a fourth one follows."""
    three = run(program_of(name), cycles=tuple(Curve("cyclic", ENDS[:3]).cycles((0, 1, 2))))
    assert facts(cyclic_points(name)[:3]) == facts(three.points)


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


# Branch curves --------------------------------------------------------------------------------------------------------

WARMUP, DECAY = 2, 0.5
BRANCH = Curve.of("branch", 16, points=3, mult=2.0, warmup=WARMUP, decay=DECAY)
TIMELESS = [name for name in NAMES if SMALL[name].card.horizon == "none"]


def branched(name: str) -> Program:
    """A program of the battery with the schedule of a branch curve."""
    program = IMAGES.program.replace(schedule=branch_schedule(WARMUP, DECAY))
    return program if name == "base" else program.then(SMALL[name])


def branch_run(program: Program, points: tuple[int, ...] = (0, 1, 2), **options):
    return run(program, cycles=tuple(BRANCH.cycles(points)), forks=BRANCH.leaves(points), **options)


@functools.cache
def whole_branch(name: str) -> Result:
    """Of all three branches."""
    return branch_run(branched(name))


def test_where_branches_leave_the_trunk() -> None:
    assert (BRANCH.ends, BRANCH.forks) == ((4, 8, 16), (3, 5, 9))
    tenth = Curve.of("branch", 80, points=3, mult=2.0, warmup=0, decay=0.1)
    assert (tenth.ends, tenth.forks) == ((11, 34, 80), (10, 31, 72))


@given(
    st.integers(200, 800), st.integers(1, 4), st.integers(0, 8), st.floats(0.1, 0.9), st.sampled_from([1.0, 1.5, 2.0])
)
def test_a_trunk_is_what_all_its_branches_share(
    total: int, points: int, warmup: int, decay: float, mult: float
) -> None:
    """Up to a fork the schedule of that budget is the schedule of the longest one; the fork is as late as it can be."""
    curve = Curve.of("branch", total, points=points, mult=mult, warmup=warmup, decay=decay)
    schedule = branch_schedule(warmup, decay).build().schedule
    for fork, end in zip(curve.forks, curve.ends, strict=True):
        own = np.asarray(schedule(np.arange(end), end))
        np.testing.assert_array_equal(own[:fork], schedule(np.arange(fork), 10 * total))
        assert (own[fork + 1 :] < 1).all()


@pytest.mark.parametrize("name", ["base", *TIMELESS])
def test_a_point_of_a_branch_curve_is_a_separate_run_with_its_schedule(name: str) -> None:
    program, whole = branched(name), whole_branch(name)
    for point, end in enumerate(BRANCH.ends):
        alone = run(program, cycles=((0, end, point),))
        assert facts(whole.points[point : point + 1]) == facts(alone.points)
    assert whole.weights == alone.weights


@pytest.mark.parametrize("name", ["base", *TIMELESS])
def test_the_trunk_goes_on_as_if_there_had_been_no_branch(name: str) -> None:
    """The prefix property, and its mirror image: neither earlier nor later branches change a point."""
    program, three = branched(name), whole_branch(name)
    assert facts(branch_run(program, (0, 1)).points) == facts(three.points[:2])
    assert facts(branch_run(program, (1, 2)).points) == facts(three.points[1:])
    assert branch_run(program, (2,)).weights == three.weights


@pytest.mark.parametrize("name", ["base", "sam", "blurpool"])
def test_a_branch_curve_resumes_to_the_bit(name: str, tmp_path: Path) -> None:
    """On the trunk before and after a branch, on a branch, right after a point: wherever a kill may come."""
    program, straight = branched(name), whole_branch(name)
    saves = BRANCH.steps((0, 1, 2))  # a checkpoint after every step, but for the last one of a cycle, and at each point
    resumes_to_the_bit(straight, range(1, saves + 1), functools.partial(branch_run, program), tmp_path)


def test_other_branches_are_not_on_the_clock_of_a_point() -> None:
    found = branch_run(branched("base"))
    clock = sum(found.phases.values())
    assert found.points[-1].seconds == pytest.approx(clock, rel=0.5)
    assert found.excluded["branches"] > 0
    assert run(branched("base"), cycles=((0, 16, 0),)).excluded["branches"] == 0
    assert [point.step for point in found.points] == list(BRANCH.ends)
    assert len({point.flops / point.step for point in found.points}) == 1  # FLOPs stand on the same clock


def test_steps_of_a_curve() -> None:
    cyclic, separate = Curve("cyclic", (4, 8, 16)), Curve("separate", (4, 8, 16))
    assert cyclic.steps((0, 1, 2)) == 16
    assert sum(separate.steps(points) for points in separate.runs()) == 28
    assert BRANCH.steps((0, 1, 2)) == 9 + 1 + 3 + 7
    assert BRANCH.steps((0,)) == 4


@pytest.mark.parametrize(("kind", "forks", "message"), [
    ("cyclic", (1, 2), "no forks of a cyclic curve"),
    ("branch", (), "increasing forks, each before its end"),
    ("branch", (4, 5), "increasing forks, each before its end"),
    ("branch", (2, 2), "increasing forks, each before its end"),
    ("branch", (2, 8), "increasing forks, each before its end"),
])  # fmt: skip
def test_forks_fit_their_ends(kind: str, forks: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Curve(kind, (4, 8), forks)


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.1, 2.0])
def test_the_decay_is_a_share(decay: float) -> None:
    with pytest.raises(ValueError, match="decay"):
        Curve.of("branch", 16, points=3, mult=2.0, warmup=2, decay=decay)


def test_a_budget_too_short_to_decay_is_refused() -> None:
    with pytest.raises(ValueError, match="every budget has updates that decay"):
        Curve.of("branch", 7, points=3, mult=2.0, warmup=0, decay=0.2)
