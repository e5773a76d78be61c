from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.bench.stats.designs import Cell, Design, design_of

NONE = Design((), "", (), ())


def test_a_pair_of_methods() -> None:
    design = design_of({"base": [], "blur": ["blurpool()"], "mix": ["mixup(0.2)"], "all": ["mixup(0.2)", "blurpool()"]},
                       "base")  # fmt: skip
    assert design.pairs == (Cell("pair", "all", ("blur", "mix"), ""),)
    assert design.recipe == "all"
    assert design.left_out == (
        Cell("left_out", "all", ("mix",), "blurpool()"),
        Cell("left_out", "all", ("blur",), "mixup(0.2)"),
    )
    assert design.factorial == ("blurpool()", "mixup(0.2)")


def test_methods_are_what_is_written() -> None:
    assert design_of({"base": [], "a": ["x(1)"], "b": ["y"], "both": ["x(2)", "y"]}, "base").pairs == ()


def test_what_the_baseline_has_cancels() -> None:
    arms = {"base": ["ema"], "a": ["ema", "x"], "b": ["y", "ema"], "both": ["x", "y", "ema"], "bare": [], "odd": ["x"]}
    design = design_of(arms, "base")
    assert design.pairs == (Cell("pair", "both", ("a", "b"), ""),)
    assert design_of({**arms, "base": ["other"]}, "base") == NONE


def test_a_recipe_of_which_each_method_is_left_out() -> None:
    arms = {"base": [], "full": ["x", "y", "z"], "no z": ["x", "y"], "no x": ["y", "z"], "z": ["z"]}
    design = design_of(arms, "base")
    assert (design.recipe, design.pairs, design.factorial) == ("full", (), ())
    assert design.left_out == (Cell("left_out", "full", ("no x",), "x"), Cell("left_out", "full", ("no z",), "z"))


def test_a_recipe_without_a_neighbour_is_none() -> None:
    arms = {"base": [], "big": ["a", "b", "c", "d"], "x": ["x"], "y": ["y"], "both": ["x", "y"]}
    assert design_of(arms, "base").recipe == "both"
    assert design_of({"base": [], "x": ["x"], "y": ["y"]}, "base") == NONE
    assert design_of({"base": []}, "base") == NONE


def test_the_first_of_equal_arms_stands_for_all() -> None:
    arms = {"base": [], "control": [], "a": ["x"], "again": ["x"], "b": ["y"], "both": ["x", "y"]}
    assert design_of(arms, "base").pairs == (Cell("pair", "both", ("a", "b"), ""),)


@given(st.integers(2, 4), st.data())
def test_a_factorial_holds_every_pair_and_one_hole_ends_it(k: int, data: st.DataObject) -> None:
    letters = "wxyz"[:k]
    subsets = ["".join(part) for size in range(k + 1) for part in combinations(letters, size)]
    order = ["", *data.draw(st.permutations(subsets[1:]))]
    design = design_of({name or "base": list(name) for name in order}, "base")
    assert len(design.pairs) == k * (k - 1) // 2
    assert sorted(cell.method for cell in design.left_out) == list(letters)
    assert sorted(design.factorial) == list(letters)
    hole = data.draw(st.sampled_from(subsets[1:]))
    smaller = design_of({name or "base": list(name) for name in order if name != hole}, "base")
    assert len(smaller.factorial) < k


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="design_of: expected the baseline's methods.*Did you mean base"):
        design_of({"base": [], "a": ["x"]}, "bas")
    with pytest.raises(TypeError, match=r"a list of methods for 'a', got xy\. Write \['xy'\]"):
        design_of({"base": [], "a": "xy"}, "base")
