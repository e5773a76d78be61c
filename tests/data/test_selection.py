from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hasten.data import select_by_loss, selection_active, selection_weights


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_golden_weights() -> None:
    assert selection_weights(4, keep=0.5).tolist() == pytest.approx([1 / 16, 3 / 16, 5 / 16, 7 / 16], abs=1e-15)
    assert selection_weights(3, keep=1.0).tolist() == pytest.approx([1 / 3] * 3)
    assert selection_weights(2, keep=0.25).tolist() == pytest.approx([1 / 28, 27 / 28])


def test_first_draws_follow_the_weights() -> None:
    losses, source, counts = torch.tensor([3.0, 0.5, 7.0, 1.0]), generator(), torch.zeros(4)
    for _ in range(4000):
        counts[select_by_loss(losses, keep=0.5, generator=source)[0]] += 1
    expected = torch.tensor([5.0, 1.0, 7.0, 3.0]) / 16
    torch.testing.assert_close(counts / 4000, expected, rtol=0, atol=0.025)  # about 3 standard errors


@pytest.mark.parametrize("keep", [0.25, 0.5, 0.8])
def test_inclusion_rises_with_the_rank_of_the_loss(keep: float) -> None:
    size = 8
    order = torch.randperm(size, generator=generator(1))
    losses, source, counts = order.float(), generator(2), torch.zeros(size)
    for _ in range(4000):
        chosen = select_by_loss(losses, keep=keep, generator=source)
        counts[losses[chosen].long()] += 1
    assert counts.tolist() == sorted(counts.tolist())
    assert int(counts.sum()) == 4000 * int(keep * size)


@given(
    losses=st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=40), keep=st.floats(1e-6, 1), seed=st.integers(0, 99)
)
def test_indices_are_distinct_valid_and_as_many_as_asked(losses: list[float], keep: float, seed: int) -> None:
    chosen = select_by_loss(torch.tensor(losses), keep=keep, generator=generator(seed))
    assert chosen.dtype == torch.long
    assert len(set(chosen.tolist())) == len(chosen) == max(1, int(keep * len(losses) + 1e-9))
    assert set(chosen.tolist()) <= set(range(len(losses)))


def test_keep_1_is_a_permutation_and_rounding_does_not_lose_a_sample() -> None:
    chosen = select_by_loss(torch.rand(50), keep=1.0, generator=generator())
    assert sorted(chosen.tolist()) == list(range(50))
    assert len(select_by_loss(torch.rand(100), keep=0.29, generator=generator())) == 29


def test_deterministic_and_free_of_the_losses_scale() -> None:
    losses = torch.tensor([0.3, 0.1, 0.2, 0.9, 0.5])
    state = torch.get_rng_state()
    one = select_by_loss(losses, generator=generator(4))
    assert torch.equal(one, select_by_loss(losses * 1000 - 5, generator=generator(4)))
    assert torch.equal(one, select_by_loss(losses.bfloat16(), generator=generator(4)))
    assert torch.equal(torch.get_rng_state(), state)


def test_when_selection_is_active() -> None:
    assert [selection_active(p, 0) for p in (0.49, 0.5, 0.89, 0.9)] == [False, True, True, False]
    assert [selection_active(0.5, k, interrupt=3) for k in range(6)] == [True, True, False, True, True, False]
    assert all(selection_active(0.5, k, interrupt=0) for k in range(6))
    assert [selection_active(0.5, k) for k in range(4)] == [True, False, True, False]


def test_bad_input_is_refused() -> None:
    losses = torch.rand(4)
    for keep in (0.0, -0.5, 1.5):
        with pytest.raises(ValueError, match="keep"):
            select_by_loss(losses, keep=keep, generator=generator())
    with pytest.raises(ValueError, match=r"finite losses, got 2 of 3 not finite\. Training diverges"):
        select_by_loss(torch.tensor([1.0, float("nan"), float("inf")]), generator=generator())
    for bad in (torch.rand(2, 2), torch.tensor(1.0), torch.zeros(0)):
        with pytest.raises(ValueError, match=r"one loss per sample, shape \(batch,\)"):
            select_by_loss(bad, generator=generator())
    with pytest.raises(TypeError, match=r"torch\.Generator"):
        select_by_loss(losses, generator=None)
    with pytest.raises(ValueError, match="0 <= start <= end <= 1"):
        selection_active(0.5, 0, start=0.9, end=0.5)
    with pytest.raises(ValueError, match="1 would never select"):
        selection_active(0.5, 0, interrupt=1)
    with pytest.raises(ValueError, match="at least 0 for step"):
        selection_active(0.5, -1)
