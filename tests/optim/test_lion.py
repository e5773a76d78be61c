from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.optim import reference
from tests.optim.test_lamb import problem, walk
from torch import nn

from hasten.optim import Lion
from hasten.optim.lion import signs


@given(seed=st.integers(0, 99), weight_decay=st.sampled_from([0.0, 0.5]), shape=st.sampled_from([(4, 3), (5,), ()]))
def test_equals_the_slow_reference(seed: int, weight_decay: float, shape: tuple[int, ...]) -> None:
    x, gradients = problem(seed, shape, steps=8)
    options = {"lr": 0.1, "betas": (0.8, 0.95), "weight_decay": weight_decay}
    path = walk(Lion([nn.Parameter(x.clone())], **options), gradients)
    torch.testing.assert_close(path, reference.lion(x, gradients, **options))


@given(seed=st.integers(0, 99), power=st.integers(-60, 60))
def test_every_weight_moves_by_lr_and_the_scale_of_the_gradient_does_not_matter(seed: int, power: int) -> None:
    x, gradients = problem(seed)
    one = walk(Lion([nn.Parameter(x.clone())], lr=0.125), gradients)
    two = walk(Lion([nn.Parameter(x.clone())], lr=0.125), [2.0**power * g for g in gradients])
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    torch.testing.assert_close((one[1] - one[0]).abs(), torch.full_like(x, 0.125))


def test_signs_keep_nan() -> None:
    found = signs(torch.tensor([float("nan"), -0.0, -float("inf"), 1e-45]))
    assert found[0].isnan()
    assert found[1:].tolist() == [0.0, -1.0, 1.0]


def test_against_a_peer() -> None:
    peer = pytest.importorskip("lion_pytorch", reason="optional peer")
    x, gradients = problem(0, steps=50)
    options = {"lr": 0.1, "betas": (0.9, 0.99), "weight_decay": 0.1}
    path = walk(Lion([nn.Parameter(x.clone())], **options), gradients)
    torch.testing.assert_close(path, walk(peer.Lion([nn.Parameter(x.clone())], **options), gradients))
