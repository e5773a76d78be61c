from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.optim import reference
from tests.optim.test_lamb import problem, walk
from torch import Tensor, nn

from hasten.optim import SPAM, StableSPAM
from hasten.optim.spam import clip_spikes

SPAM_OPTIONS = {"threshold": 4.0, "reset_interval": 6, "warmup_steps": 3, "clip_start": 2}
STABLE_OPTIONS = {"gamma1": 0.6, "gamma2": 0.8, "theta": 0.9}


def spiked(seed: int, shape: tuple[int, ...], steps: int) -> tuple[Tensor, list[Tensor]]:
    """Every fourth gradient is 100 times as large as the others."""
    x, gradients = problem(seed, shape, steps)
    return x, [g * 100.0 ** (step % 4 == 3) for step, g in enumerate(gradients)]


@given(seed=st.integers(0, 99), weight_decay=st.sampled_from([0.0, 0.1]), shape=st.sampled_from([(4, 3), (5,), ()]))
def test_spam_equals_the_slow_reference(seed: int, weight_decay: float, shape: tuple[int, ...]) -> None:
    x, gradients = spiked(seed, shape, 16)
    options = {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": weight_decay, **SPAM_OPTIONS}
    path = walk(SPAM([nn.Parameter(x.clone())], **options), gradients)
    torch.testing.assert_close(path, reference.spam(x, gradients, **options), rtol=1e-9, atol=1e-12)


@given(
    seed=st.integers(0, 99),
    weight_decay=st.sampled_from([0.0, 0.1]),
    t_max=st.sampled_from([None, 4, 40]),
    reset_interval=st.sampled_from([1, 5, 100]),
    shape=st.sampled_from([(4, 3), (5,), ()]),
)
def test_stable_spam_equals_the_slow_reference(
    seed: int, weight_decay: float, t_max: int | None, reset_interval: int, shape: tuple[int, ...]
) -> None:
    x, gradients = spiked(seed, shape, 13)
    options = {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-8, "weight_decay": weight_decay, **STABLE_OPTIONS}
    options |= {"reset_interval": reset_interval, "t_max": t_max, "eta_min": 0.25}
    path = walk(StableSPAM([nn.Parameter(x.clone())], **options), gradients)
    torch.testing.assert_close(path, reference.stable_spam(x, gradients, **options), rtol=1e-9, atol=1e-12)


def test_spam_without_its_additions_is_adam() -> None:
    x, gradients = spiked(0, (4, 3), 20)
    mine = SPAM([nn.Parameter(x.clone())], lr=0.1, eps=0.0, threshold=None, reset_interval=None)
    theirs = torch.optim.Adam([nn.Parameter(x.clone())], lr=0.1, eps=0.0)
    torch.testing.assert_close(walk(mine, gradients), walk(theirs, gradients))


def test_a_spike_leaves_the_moments_alone() -> None:
    x, gradients = problem(0, steps=40)
    found = []
    for size in (1.0, 1e6):
        row = []
        for optimizer in (
            SPAM([nn.Parameter(x.clone())], lr=0.01),
            StableSPAM([nn.Parameter(x.clone())], lr=0.01),
            torch.optim.Adam([nn.Parameter(x.clone())], lr=0.01),
        ):
            path = walk(optimizer, [g * size if step == 30 else g for step, g in enumerate(gradients)])
            (state,) = optimizer.state.values()
            row.append((state["exp_avg_sq"].sqrt().max().item(), (path[-1] - path[31]).norm().item()))
        found.append(row)
    calm, spike = found
    for usual, one in zip(calm[:2], spike[:2], strict=True):
        assert one[0] < 10 * usual[0]
        assert one[1] > 0.2 * usual[1], "it goes on learning"
    assert spike[2][0] > 1e3 * calm[2][0], "Adam does not forget"


@given(seed=st.integers(0, 99), power=st.integers(-30, 30))
def test_stable_spam_does_not_see_the_scale_of_the_gradient(seed: int, power: int) -> None:
    x, gradients = spiked(seed, (4, 3), 10)
    one = walk(StableSPAM([nn.Parameter(x.clone())], lr=0.1, eps=0.0), gradients)
    two = walk(StableSPAM([nn.Parameter(x.clone())], lr=0.1, eps=0.0), [2.0**power * g for g in gradients])
    torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12)


@given(seed=st.integers(0, 99), threshold=st.floats(0.1, 100))
def test_clip_spikes(seed: int, threshold: float) -> None:
    g, v = problem(seed)[0] * 10, problem(seed + 100)[0].square()
    v[0, 0] = 0.0
    clipped = clip_spikes(g, v, threshold)
    assert clipped[0, 0] == g[0, 0], "nothing is known there"
    assert torch.equal(clipped.sign(), g.sign())
    known = v > 0
    assert (clipped.square() <= threshold * v * (1 + 1e-9))[known].all()
    assert torch.equal(clipped[g.square() < threshold * v], g[g.square() < threshold * v])


def test_bad_options() -> None:
    params = [nn.Parameter(torch.ones(1))]
    cases = [
        (SPAM, {"threshold": 0.0}, "threshold > 0"), (SPAM, {"reset_interval": 0}, "at least 1 for reset_interval"),
        (SPAM, {"warmup_steps": -1}, "at least 0 for warmup_steps"),
        (SPAM, {"clip_start": 1.5}, "at least 0 for clip_start"), (StableSPAM, {"gamma1": 1.0}, "gamma1 < 1"),
        (StableSPAM, {"theta": -0.1}, r"theta in \[0, 1\]"), (StableSPAM, {"t_max": 0}, "at least 1 for t_max"),
        (StableSPAM, {"reset_interval": 2.5}, "at least 1 for reset_interval"),
        (StableSPAM, {"eta_min": 1.5}, r"eta_min in \[0, 1\]"),
    ]  # fmt: skip
    for cls, options, text in cases:
        with pytest.raises(ValueError, match=rf"^{cls.__name__}: expected .*{text}"):
            cls(params, **options)


def test_against_a_peer() -> None:
    """Without cosines: the peer's are one step ahead of the authors' own code, which ours equals."""
    peers = pytest.importorskip("pytorch_optimizer", reason="optional peer")
    x, gradients = spiked(0, (4, 3), 70)
    common = {"lr": 0.01, "weight_decay": 0.1}
    theirs = peers.SPAM([nn.Parameter(x.clone())], **common, update_proj_gap=100, threshold=50, density=1.0)
    mine = SPAM([nn.Parameter(x.clone())], **common, reset_interval=100, threshold=50.0)
    torch.testing.assert_close(walk(mine, gradients), walk(theirs, gradients))
    theirs = peers.StableSPAM([nn.Parameter(x.clone())], **common, update_proj_gap=30)
    mine = StableSPAM([nn.Parameter(x.clone())], **common, reset_interval=30)
    torch.testing.assert_close(walk(mine, gradients), walk(theirs, gradients))
