"""Which arms, taken together, show how methods combine? Sets of methods only; `interactions` reads the numbers.

The methods of an arm are compared as they are written, `mixup(0.2)` and `mixup(0.4)` are two methods, and relative to
the baseline: what the baseline has as well is in every arm and cancels. An arm that lacks a method of the baseline
belongs to no design.

| design | arms | what it shows |
|---|---|---|
| pair | base, A, B, A + B | whether the effects of two methods add up |
| left out | the largest recipe, and it without one method | what the method does beside all others |
| factorial | all 2^k subsets of k methods | every pair, and every method left out |
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from ..._core.checks import check, near, refuse_type

__all__ = ["Cell", "Design", "design_of"]


@dataclass(frozen=True)
class Cell:
    """Arms of which one contrast is read; fields as in `schema.Interaction`."""

    kind: str  # "pair" or "left_out"
    arm: str
    parts: tuple[str, ...]
    method: str


@dataclass(frozen=True)
class Design:
    """The designs that a study holds.

    Args:
        pairs: one cell for every two methods whose arms alone and together exist.
        recipe: the arm with the most methods of which some are left out in other arms, "" without one.
        left_out: one cell for every method of the recipe that an arm lacks, and nothing else.
        factorial: the largest set of methods, two at least, whose subsets all are arms; () without one.
    """

    pairs: tuple[Cell, ...]
    recipe: str
    left_out: tuple[Cell, ...]
    factorial: tuple[str, ...]


def design_of(methods: Mapping[str, Sequence[str]], baseline: str) -> Design:
    """The designs among the arms of a study.

    Where several arms have the same methods (a control), the first stands for all.

    Args:
        methods: arm -> its methods as they are written.
        baseline: one of the arms.

    >>> design = design_of({"base": [], "a": ["x"], "b": ["y"], "both": ["x", "y"]}, "base")
    >>> [(cell.arm, cell.parts, cell.method) for cell in (*design.pairs, *design.left_out)]
    [('both', ('a', 'b'), ''), ('both', ('b',), 'x'), ('both', ('a',), 'y')]
    >>> design.factorial
    ('x', 'y')
    """
    check(baseline in methods, "design_of", "the baseline's methods", baseline, near(baseline, methods))
    for name, own in methods.items():
        if isinstance(own, str):
            raise refuse_type("design_of", f"a list of methods for {name!r}", own, f"Write [{own!r}].")
    common = frozenset(methods[baseline])
    arms: dict[frozenset[str], str] = {frozenset(): baseline}
    order: dict[str, None] = {}  # methods in order of appearance: sets have none
    for name, own in methods.items():
        if common <= set(own):
            arms.setdefault(frozenset(own) - common, name)
            order.update(dict.fromkeys(method for method in own if method not in common))
    sets = {own: tuple(method for method in order if method in own) for own in arms}
    recipe = _recipe(arms)
    return Design(
        pairs=tuple(
            Cell("pair", name, tuple(arms[frozenset([method])] for method in sets[own]), "")
            for own, name in arms.items()
            if len(own) == 2 and all(frozenset([method]) in arms for method in own)
        ),
        recipe=arms[recipe] if recipe else "",
        left_out=tuple(
            Cell("left_out", arms[recipe], (arms[recipe - {method}],), method)
            for method in sets[recipe]
            if recipe - {method} in arms
        )
        if recipe
        else (),
        factorial=_factorial(sets),
    )


def _recipe(arms: Mapping[frozenset[str], str]) -> frozenset[str]:
    """The largest set with two methods or more of which one is left out somewhere; the first of equal ones."""
    found = [own for own in arms if len(own) >= 2 and any(own - {method} in arms for method in own)]
    return max(found, key=len, default=frozenset())


def _factorial(sets: Mapping[frozenset[str], tuple[str, ...]]) -> tuple[str, ...]:
    """The largest of `sets`, two methods at least, all of whose subsets are there."""
    for own in sorted(sets, key=len, reverse=True):
        parts = (frozenset(part) for size in range(len(own)) for part in combinations(own, size))
        if len(own) >= 2 and 2 ** len(own) <= len(sets) and all(part in sets for part in parts):
            return sets[own]
    return ()
