from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hasten.bench.stats.multiplicity import benjamini_hochberg, holm

p_values = st.lists(st.floats(0, 1), min_size=1, max_size=6)


def closed_testing(p: list[float]) -> list[float]:
    """Holm by its definition: the largest Bonferroni p over all intersections that contain the hypothesis."""
    m = len(p)
    sets = [s for size in range(1, m + 1) for s in itertools.combinations(range(m), size)]
    bonferroni = {s: min(1.0, len(s) * min(p[i] for i in s)) for s in sets}
    return [max(bonferroni[s] for s in sets if i in s) for i in range(m)]


@settings(max_examples=60, deadline=None)
@given(p_values)
def test_holm_is_closed_testing_with_bonferroni(p: list[float]) -> None:
    assert holm(p).tolist() == pytest.approx(closed_testing(p))


@settings(max_examples=60, deadline=None)
@given(p_values)
def test_benjamini_hochberg_is_scipys(p: list[float]) -> None:
    assert benjamini_hochberg(p).tolist() == pytest.approx(stats.false_discovery_control(p).tolist())


@given(p_values, st.randoms())
def test_order_of_questions_does_not_matter(p: list[float], random: object) -> None:
    order = list(range(len(p)))
    random.shuffle(order)  # type: ignore[attr-defined]
    for adjust in (holm, benjamini_hochberg):
        assert adjust([p[i] for i in order]).tolist() == pytest.approx(adjust(p)[order].tolist())


def test_unanswered_questions_keep_their_place() -> None:
    assert holm([0.01, 1.0, 1.0]).tolist() == pytest.approx([0.03, 1.0, 1.0])


def test_empty_and_bad_families() -> None:
    assert holm([]).tolist() == []
    assert benjamini_hochberg(np.array([])).tolist() == []
    with pytest.raises(ValueError, match=r"p-values in \[0, 1\]"):
        holm([0.5, 1.5])
    with pytest.raises(ValueError, match="list of p-values"):
        benjamini_hochberg([[0.5]])
