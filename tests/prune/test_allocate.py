"""How much each tensor keeps: the published fractions, ERK, whole counts, the density of a speed-up."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.prune.nets import MnistNet

from hasten.prune import allocate, find, fraction_to_keep, keep_largest

SHAPES = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=2),
    st.lists(st.integers(1, 30), min_size=1, max_size=4).map(tuple),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize(
    ("compression", "fraction"), [(1, 1.0), (2, 0.494121), (4, 0.241181), (10, 0.0894172), (50, 0.00847654)]
)
def test_the_published_fractions(compression: float, fraction: float) -> None:
    targets = find(MnistNet())
    assert fraction_to_keep(targets.total, targets.prunable, compression=compression) == pytest.approx(
        fraction, rel=1e-5
    )


def test_what_cannot_be_reached_says_the_maximum() -> None:
    with pytest.raises(
        ValueError, match=r"at most 86\.0439 here: 5,010 of 431,080 parameters are not prunable, got 100"
    ):
        fraction_to_keep(431_080, 426_070, compression=100)
    assert fraction_to_keep(431_080, 426_070, compression=86.04) > 0


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "one of compression= and sparsity=, got neither"),
        ({"compression": 2, "sparsity": 0.5}, "got both"),
        ({"compression": 0.5}, "compression of at least 1, got 0.5"),
        ({"compression": float("nan")}, "finite number"),
        ({"sparsity": 1.0}, "sparsity below 1"),
        ({"sparsity": -0.1}, "sparsity in"),
    ],
)
def test_bad_asks_are_refused(asked: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        fraction_to_keep(100, 90, **asked)


@given(st.integers(1, 10**6), st.integers(0, 10**5), st.floats(1, 1000))
def test_compression_is_met_within_one_entry(prunable: int, fixed: int, compression: float) -> None:
    total = prunable + fixed
    if total / compression <= fixed:
        with pytest.raises(ValueError, match="at most"):
            fraction_to_keep(total, prunable, compression=compression)
        return
    left = fixed + round(fraction_to_keep(total, prunable, compression=compression) * prunable)
    assert abs(left - total / compression) <= 0.5 + 1e-6


def test_erk_of_two_layers() -> None:
    assert allocate.erk({"small": (10, 10), "large": (100, 100)}, 0.5) == {"small": 1.0, "large": pytest.approx(0.495)}
    assert allocate.erk({"small": (10, 10), "large": (100, 100)}, 0.5, power=0.0) == {"small": 0.5, "large": 0.5}


@given(SHAPES, st.floats(0.01, 1.0))
def test_erk_keeps_the_sum(shapes: dict[str, tuple[int, ...]], density: float) -> None:
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    found = allocate.erk(shapes, density)
    assert all(0 < value <= 1 + 1e-12 for value in found.values())
    total = sum(found[name] * size for name, size in sizes.items())
    assert total == pytest.approx(density * sum(sizes.values()), rel=1e-9)


@given(SHAPES, st.floats(0.0, 1.0), st.data())
def test_counts_add_up_exactly(shapes: dict[str, tuple[int, ...]], density: float, data: st.DataObject) -> None:
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    densities = {name: data.draw(st.floats(0.0, 1.0)) for name in shapes}
    keep = data.draw(st.integers(0, sum(sizes.values())))
    found = allocate.counts(shapes, densities, keep)
    assert sum(found.values()) == keep
    assert all(0 <= found[name] <= size for name, size in sizes.items())
    same = allocate.counts(shapes, allocate.uniform(shapes, max(density, 0.01)))
    assert all(abs(same[name] - max(density, 0.01) * size) <= 1 for name, size in sizes.items())


def test_counts_refuse_more_than_there_is() -> None:
    with pytest.raises(ValueError, match="keep from 0 to 4"):
        allocate.counts({"a": (4,)}, {"a": 1.0}, 5)


def test_densities_by_scores_are_those_of_global_masks() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = {"a": torch.rand(10, 10, generator=generator), "b": 3 * torch.rand(20, generator=generator)}
    masks = keep_largest(list(scores.values()), 60)
    assert allocate.by_scores(scores, 0.5) == {"a": int(masks[0].sum()) / 100, "b": int(masks[1].sum()) / 20}


@pytest.mark.parametrize("density", [0.0, -0.5, 1.5, float("nan")])
def test_densities_outside_are_refused(density: float) -> None:
    for allocator in (allocate.uniform, allocate.erk):
        with pytest.raises(ValueError, match="density"):
            allocator({"a": (2, 2)}, density)


def test_the_density_of_a_speed_up() -> None:
    macs = {"conv": 600.0, "fc": 300.0}
    uniform = lambda density: {"conv": density, "fc": density}  # noqa: E731
    density = allocate.density_for_speedup(macs, 1000.0, 4.0, uniform)
    assert 1000 / (100 + 900 * density) == pytest.approx(4.0, rel=1e-4)
    assert 1000 / (100 + 900 * density) >= 4.0
    assert allocate.density_for_speedup(macs, 1000.0, 1.0, uniform) == 1.0
    late = lambda density: {"conv": min(1.0, 2 * density), "fc": max(0.0, 2 * density - 1)}  # noqa: E731
    assert allocate.density_for_speedup(macs, 1000.0, 2.0, late) == pytest.approx(1 / 3, abs=1e-4)
    with pytest.raises(ValueError, match=r"less than 10 here: 100 of 1,000 multiply-adds are not prunable, got 10\.0"):
        allocate.density_for_speedup(macs, 1000.0, 10.0, uniform)
    with pytest.raises(ValueError, match="speedup of at least 1"):
        allocate.density_for_speedup(macs, 1000.0, 0.5, uniform)
