from __future__ import annotations

import pytest
from hypothesis import strategies as st

from hasten import schedules as s

HORIZON = 10_000  # every schedule drawn fits into a run of this length

fractions = st.floats(0, 1)
milestones = st.lists(st.floats(0.01, 0.99), min_size=1, max_size=4, unique=True).map(
    lambda values: tuple(sorted(values))
)

monotone = st.one_of(
    st.builds(s.linear, end=fractions),
    st.builds(s.cosine, fractions),
    st.builds(s.polynomial, st.floats(0.1, 5), floor=fractions),
    st.builds(s.step, milestones, gamma=fractions),
    st.builds(s.exponential, st.floats(0.5, 1)),
    st.builds(s.exponential, floor=fractions),
    st.builds(s.wsd, st.floats(0.01, 1), kind=st.sampled_from(s.WSD.kinds)),
    st.builds(s.constant, fractions),
    st.builds(s.rex, st.floats(1e-3, 10), floor=fractions),
    st.builds(s.inverse_sqrt, st.floats(1e-3, 1e5)),
    st.builds(s.power, st.floats(1, 1e5), st.floats(-2, -0.01), decay=st.just(0.0) | st.floats(0.01, 1)),
    st.builds(s.infinite, st.floats(0.01, 50), constant=st.floats(0.1, 1), minimum=st.floats(0.001, 0.1),
              anneal_at=st.floats(50, 200), anneal=st.floats(1, 200)),
)  # fmt: skip
leaves = st.one_of(
    monotone,
    st.builds(s.linear, start=fractions, end=fractions),
    st.builds(s.one_cycle, st.floats(0.1, 0.9), start=fractions, end=fractions, kind=st.sampled_from(s.OneCycle.kinds)),
    st.builds(s.cyclic, st.floats(1, 50), mult=st.floats(1, 3), warmup=st.none() | st.floats(0, 50), floor=fractions),
    st.builds(s.power, st.floats(1, 1e5), warmup=st.floats(0, 20), decay=st.just(0.0) | st.floats(0.01, 0.5)),
    st.builds(s.infinite, st.floats(0, 50), warmup=st.floats(0, 20), constant=st.floats(0.1, 1)),
)


def _nest(inner: st.SearchStrategy) -> st.SearchStrategy:
    kinds = st.sampled_from(s.Warmup.kinds)
    return st.one_of(
        st.builds(s.warmup, inner, st.integers(0, 20) | st.floats(0, 20), kind=kinds, start=fractions),
        st.builds(s.then, leaves, st.floats(60, 100), inner),
        st.builds(s.rewarm, leaves, st.floats(60, 100), inner, st.integers(0, 20) | st.floats(0, 20)),
        st.builds(s.over, inner, st.floats(1000, 20_000)),
        st.builds(s.scale, inner, fractions),
        st.builds(s.floor, inner, fractions),
    )


@pytest.fixture(scope="session")
def any_schedule() -> st.SearchStrategy:
    """Schedules of every kind, nested, with values in [0, 1], valid for T = 10,000."""
    return st.recursive(leaves, _nest, max_leaves=4)


@pytest.fixture(scope="session")
def monotone_schedule() -> st.SearchStrategy:
    """Schedules of one phase that never rise."""
    return monotone
