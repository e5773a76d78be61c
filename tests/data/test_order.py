"""The order of samples: a pure function of (seed, epoch), and a permutation."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hasten.data.order import in_order, shuffled


@given(st.integers(0, 200), st.integers(0, 1000), st.integers(-5, 1 << 40))
def test_every_sample_once(n: int, epoch: int, seed: int) -> None:
    order = shuffled(n, epoch, seed=seed)
    assert order.dtype == torch.long
    assert sorted(order.tolist()) == list(range(n))
    assert torch.equal(order, shuffled(n, epoch, seed=seed))


def test_epochs_and_seeds_differ() -> None:
    orders = {tuple(shuffled(50, epoch, seed=seed).tolist()) for epoch in range(5) for seed in range(5)}
    assert len(orders) == 25


def test_the_order_must_never_change() -> None:
    """Stored studies are resumed by it: another order would be another computation under the same fingerprint."""
    assert shuffled(8, 0, seed=0).tolist() == [7, 3, 4, 5, 0, 1, 6, 2]
    assert shuffled(8, 3, seed=1).tolist() == [2, 6, 1, 0, 7, 5, 3, 4]


def test_in_order_is_in_order() -> None:
    for epoch in (0, 7):
        assert in_order(4, epoch, seed=9).tolist() == [0, 1, 2, 3]
    assert in_order(0, 0, seed=0).dtype == torch.long


def test_global_generators_are_left_alone() -> None:
    state = torch.get_rng_state()
    shuffled(9, 0, seed=0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("order", [shuffled, in_order])
@pytest.mark.parametrize(
    ("n", "epoch", "reason"),
    [
        (-1, 0, "at least 0 for n, got -1"),
        (1.5, 0, "for n, got 1.5"),
        (4, -1, "for epoch, got -1"),
        (4, True, "for epoch"),
    ],
)
def test_bad_arguments(order, n, epoch, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"{order.__name__}: expected a whole number of .*{reason}"):
        order(n, epoch, seed=0)
