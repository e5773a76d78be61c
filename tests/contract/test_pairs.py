"""Methods together: every pair composes or says why not; sets that cover all pairs, and the largest ones, hold."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path

import pytest
from tests.contract import battery, images
from tests.contract.battery import IMAGES_ONLY, NAMES, SMALL, WORKLOADS, bits, compatible, resumes_to_the_bit, run

from hasten.bench.train import Result
from hasten.program import Program, ProgramError, call

PAIRS = list(itertools.combinations(NAMES, 2))
CYCLES = ((0, 4, 0), (4, 7, 1))


def together(where: str, names: tuple[str, ...]) -> Program:
    return WORKLOADS[where].program.then(*(SMALL[name] for name in names))


def fitting(where: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if where == "images" or name not in IMAGES_ONLY)


def largest() -> list[tuple[str, tuple[str, ...]]]:
    """The maximal compatible sets: of methods that exclude each other one."""
    return [(where, names) for where in WORKLOADS for names in _maximal(fitting(where, NAMES))]


def _maximal(among: tuple[str, ...]) -> list[tuple[str, ...]]:
    free = tuple(name for name in among if all(compatible(name, other) for other in among))
    torn = tuple(name for name in among if name not in free)
    found = []
    for size in range(len(torn), -1, -1):
        for chosen in itertools.combinations(torn, size):
            whole = all(name in chosen or not compatible(*chosen, name) for name in torn)
            if compatible(*chosen) and whole:
                found.append(tuple(name for name in among if name in free or name in chosen))
    return found


@pytest.mark.parametrize(("one", "two"), PAIRS)
def test_a_pair_composes_or_says_why_not(one: str, two: str) -> None:
    if not compatible(one, two):
        reason = SMALL[one].card.conflicts.get(two) or SMALL[two].card.conflicts.get(one)
        for order in ((one, two), (two, one)):
            with pytest.raises(ProgramError, match=f"conflicts with .*{reason}.*Leave one out"):
                together("images", order)
        return
    for where in WORKLOADS:
        if fitting(where, (one, two)) != (one, two):
            continue
        program = together(where, (one, two))
        assert program == together(where, (two, one))
        assert program.fingerprint() == together(where, (two, one)).fingerprint()
        assert len({program.fingerprint(), *(together(where, (name,)).fingerprint() for name in (one, two))}) == 3
        assert Program.from_json(program.to_json(), trust=True) == program
        assert program.without(one) == together(where, (two,))
        result = run(battery.checked(program, WORKLOADS[where]), WORKLOADS[where], cycles=((0, 3, 0),))
        assert result.points[0].step == 3


def test_the_sets_cover_every_pair() -> None:
    sets = battery.combinations()
    for one, two in PAIRS:
        met = {(one in names, two in names) for names in sets}
        apart = {(True, False), (False, True), (False, False)}
        assert met == (apart | {(True, True)} if compatible(one, two) else apart)


@pytest.mark.parametrize("where", WORKLOADS)
@pytest.mark.parametrize("names", battery.combinations(), ids="+".join)
def test_sets_resume_to_the_bit(where: str, names: tuple[str, ...], tmp_path: Path) -> None:
    moments = (1, 4) if battery.combinations().index(names) % 2 else (4, 6)  # every method is in sets of both kinds
    _holds(where, fitting(where, names), tmp_path, moments)


@pytest.mark.parametrize(("where", "names"), largest())
def test_the_largest_sets_train_and_resume_to_the_bit(where: str, names: tuple[str, ...], tmp_path: Path) -> None:
    assert len(names) >= len(fitting(where, NAMES)) - 3  # one of mixup and cutmix, one flash optimizer
    battery.checked(together(where, names), WORKLOADS[where])
    moments = (1, 3, 5, 7) if largest().index((where, names)) % 2 else (2, 4, 6)  # each in sets that hardly differ
    _holds(where, names, tmp_path, moments)
    reverse = together(where, names[::-1])
    assert bits(run(reverse, WORKLOADS[where])) == bits(run(together(where, names), WORKLOADS[where]))


def _holds(where: str, names: tuple[str, ...], folder: Path, kills: tuple[int, ...]) -> None:
    program, workload = together(where, names), WORKLOADS[where]
    straight = run(program, workload, cycles=CYCLES)
    resumes_to_the_bit(straight, kills, functools.partial(run, program, workload, cycles=CYCLES), folder)
    _judges_the_average(names, straight, where)


def _judges_the_average(names: tuple[str, ...], straight: Result, where: str) -> None:
    """With EMA among them the same training is judged by other weights; without, nothing changes."""
    if "ema" in names:
        plain = run(together(where, names).without("ema"), WORKLOADS[where], cycles=CYCLES)
        assert plain.weights == straight.weights
        assert plain.points[-1].metric != straight.points[-1].metric


@pytest.mark.parametrize("names", [names for where, names in largest() if where == "images"])
def test_the_largest_sets_hold_with_batch_norm_and_dropout(names: tuple[str, ...], tmp_path: Path) -> None:
    program = together("images", names).replace(model=call(images.model, norm="batch", dropout=0.3))
    straight = run(program, cycles=CYCLES)
    resumes_to_the_bit(straight, (2, 4, 6), functools.partial(run, program, cycles=CYCLES), tmp_path)


def test_everything_is_listed_when_nothing_is_refused() -> None:
    assert sum(not compatible(*pair) for pair in PAIRS) == 4  # mixup and cutmix, and three optimizers
    assert len(largest()) == 2 * 3 + 3
