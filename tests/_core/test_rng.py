"""Streams that depend on (seed, name, step, rank) and on nothing else."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hasten._core import rng

WORDS = st.text(st.characters(categories=["L", "N"]), max_size=12)
PLACE = st.tuples(st.integers(0, 2**40), WORDS, st.integers(0, 2**40), st.integers(0, 64))


def global_draws() -> tuple[float, float, float]:
    return torch.rand(()).item(), np.random.rand(), random.random()


def draw_and_fail() -> None:
    with rng.fork(2, "inner"):
        global_draws()
        raise RuntimeError("user code")


def test_golden_keys():
    # Stored runs are continued with these keys: they never change.
    assert rng.key(0, "mixup") == 9028703301576470614
    assert rng.key(7, "loader", 3, 1) == 2653198721303573628


@given(PLACE, PLACE)
def test_keys_differ_where_places_do(one, two):
    assert (rng.key(*one) == rng.key(*two)) == (one == two)
    assert 0 <= rng.key(*one) < 2**63


def test_stream_is_fresh_and_equal_each_time():
    first = torch.rand(5, generator=rng.stream(0, "mixup", 3))
    torch.rand(100)
    assert torch.equal(first, torch.rand(5, generator=rng.stream(0, "mixup", 3)))
    for other in (rng.stream(1, "mixup", 3), rng.stream(0, "cutmix", 3), rng.stream(0, "mixup", 4)):
        assert not torch.equal(first, torch.rand(5, generator=other))
    assert not torch.equal(first, torch.rand(5, generator=rng.stream(0, "mixup", 3, rank=1)))


def test_a_stream_leaves_the_global_generators_alone():
    with rng.fork(0, "outside"):
        expected = global_draws()
    with rng.fork(0, "outside"):
        torch.rand(3, generator=rng.stream(0, "inside"))
        assert global_draws() == expected


def test_seed_globals_seeds_all_three():
    with rng.fork(0, "test"):
        rng.seed_globals(5, "dropout", 2)
        first = global_draws()
        rng.seed_globals(5, "dropout", 2)
        assert global_draws() == first
        rng.seed_globals(5, "dropout", 3)
        assert all(a != b for a, b in zip(global_draws(), first, strict=True))


def test_fork_puts_everything_back():
    with rng.fork(1, "outer"):
        before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
        with rng.fork(2, "inner"):
            global_draws()
        after = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert torch.equal(before[0], after[0])
    assert before[1:] == after[1:]


def test_fork_puts_everything_back_after_an_error():
    with rng.fork(1, "outer"):
        expected = global_draws()
    with rng.fork(1, "outer"):
        with pytest.raises(RuntimeError, match="user code"):
            draw_and_fail()
        assert global_draws() == expected
