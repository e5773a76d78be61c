from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.prune import reference

from hasten.prune.owl import densities, outliers

SHARES = st.lists(st.floats(0, 1), min_size=2, max_size=6)


def test_outliers_by_hand() -> None:
    score = torch.tensor([[1.0, 1.0], [1.0, 17.0]])  # mean 5
    assert outliers(score, 3.0) == 0.25
    assert outliers(score, 4.0) == 0
    assert outliers(torch.zeros(3)) == 0
    with pytest.raises(ValueError, match="threshold > 0"):
        outliers(score, 0.0)


def test_as_published_for_matrices_of_one_size() -> None:
    shares = [0.01, 0.03, 0.02, 0.01]
    found = densities(dict(zip("abcd", shares, strict=True)), dict.fromkeys("abcd", (3, 4)), 0.3, 0.08)
    assert list(found.values()) == pytest.approx(reference.owl(shares, 0.3, 0.08))


@given(SHARES, st.floats(0, 1), st.floats(0, 1), st.integers(1, 9))
def test_the_whole_keeps_its_density(shares: list[float], density: float, spread: float, width: int) -> None:
    names = [str(i) for i in range(len(shares))]
    shapes = {name: (i + 1, width) for i, name in enumerate(names)}
    found = densities(dict(zip(names, shares, strict=True)), shapes, density, spread)
    sizes = [math.prod(shape) for shape in shapes.values()]
    kept = math.fsum(d * n for d, n in zip(found.values(), sizes, strict=True))
    assert kept == pytest.approx(density * sum(sizes), abs=1e-9 * sum(sizes))
    assert all(0 <= value <= 1 for value in found.values())
    ordered = [found[name] for name in sorted(names, key=lambda name: shares[int(name)])]
    assert all(one <= two + 1e-12 for one, two in itertools.pairwise(ordered)), "more outliers, denser"
    assert max(found.values()) - min(found.values()) <= 2 * spread + 1e-9


def test_equal_shares_are_uniform() -> None:
    assert densities({"a": 0.1, "b": 0.1}, {"a": (2, 2), "b": (9, 9)}, 0.4) == {"a": 0.4, "b": 0.4}
