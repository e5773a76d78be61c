from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.optim import reference
from torch import Tensor, nn

from hasten.optim import LAMB, LARS
from hasten.optim.lamb import trust_ratio


def walk(optimizer: torch.optim.Optimizer, gradients: list[Tensor]) -> list[Tensor]:
    """The weights after every step."""
    (p,) = optimizer.param_groups[0]["params"]
    path = []
    for gradient in gradients:
        p.grad = gradient.clone()
        optimizer.step()
        path.append(p.detach().clone())
    return path


def problem(seed: int, shape: tuple[int, ...] = (4, 3), steps: int = 6) -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn((steps + 1, *shape), generator=generator, dtype=torch.float64)
    return draws[0], list(draws[1:])


@given(
    seed=st.integers(0, 99),
    weight_decay=st.sampled_from([0.0, 0.1]),
    bias_correction=st.booleans(),
    max_weight_norm=st.sampled_from([None, 1.0]),
    max_trust=st.sampled_from([None, 2.0]),
    shape=st.sampled_from([(4, 3), (2, 3, 2), (5,)]),
)
def test_lamb_equals_the_slow_reference(
    seed: int, weight_decay: float, bias_correction: bool, max_weight_norm: float | None, max_trust: float | None,
    shape: tuple[int, ...],
) -> None:  # fmt: skip
    x, gradients = problem(seed, shape)
    options = {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": weight_decay}
    bounds = {"max_weight_norm": max_weight_norm, "max_trust": max_trust}
    optimizer = LAMB([nn.Parameter(x.clone())], **options, **bounds, bias_correction=bias_correction)
    given_ = {key: value for key, value in bounds.items() if value is not None}
    slow = reference.lamb(x, gradients, **options, **given_, bias_correction=bias_correction, adapt=len(shape) > 1)
    torch.testing.assert_close(walk(optimizer, gradients), slow, rtol=1e-9, atol=1e-12)


def test_vectors_are_adapted_where_asked() -> None:
    x, gradients = problem(0, (5,))
    options = {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-6, "weight_decay": 0.1}
    path = walk(LAMB([nn.Parameter(x.clone())], **options, exclude_vectors=False), gradients)
    torch.testing.assert_close(path, reference.lamb(x, gradients, **options))


@given(seed=st.integers(0, 99), size=st.sampled_from([1e-6, 1.0, 1e6]), power=st.integers(-20, 20))
def test_a_step_is_as_long_as_lr_times_the_weights_whatever_the_gradient(seed: int, size: float, power: int) -> None:
    x, gradients = problem(seed, steps=3)
    paths = []
    for factor in (1.0, 2.0**power):
        p = nn.Parameter(size * x)
        optimizer, path = LAMB([p], lr=0.01, eps=0.0, weight_decay=0.0), []
        for gradient in gradients:
            before = p.detach().clone()
            path += walk(optimizer, [factor * gradient])
            assert (p.detach() - before).norm().item() == pytest.approx(0.01 * before.norm().item(), rel=1e-9)
        paths.append(path)
    torch.testing.assert_close(paths[0], paths[1], rtol=1e-9, atol=0.0)


def test_max_grad_norm_clips_all_gradients_together() -> None:
    def run(scale_by_hand: bool) -> list[Tensor]:
        generator = torch.Generator().manual_seed(0)
        params = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((4, 3), (3, 2), (3,))]
        groups = [{"params": params[:1]}, {"params": params[1:], "lr": 0.01}]
        optimizer = LAMB(groups, lr=0.1, eps=0.1, max_grad_norm=None if scale_by_hand else 1.0)
        for size in (10.0, 1e-3, 3.0):  # the second is below the limit, and left alone
            for p in params:
                p.grad = size * torch.randn(p.shape, generator=generator)
            if scale_by_hand:
                norm = torch.cat([p.grad.flatten() for p in params]).norm().item()
                for p in params:
                    p.grad *= min(1.0, 1.0 / norm)
            optimizer.step()
        return [p.detach() for p in params]

    torch.testing.assert_close(run(True), run(False))
    with pytest.raises(ValueError, match=r"max_grad_norm 1.0 in every group, got 2.0\. Pass it to the constructor"):
        LAMB([{"params": [nn.Parameter(torch.ones(1))], "max_grad_norm": 2.0}], max_grad_norm=1.0)


def test_trust_ratio_at_the_edges() -> None:
    zero, one = torch.zeros(3), torch.ones(3)
    assert trust_ratio(zero, one) == 1
    assert trust_ratio(one, zero) == 1
    assert trust_ratio(torch.empty(0), torch.empty(0)) == 1
    assert trust_ratio(one * 1e-3, one).item() == pytest.approx(1e-3)
    assert trust_ratio(100 * one, one, max_weight_norm=3**0.5).item() == pytest.approx(1)
    assert trust_ratio(100 * one, one, max_trust=7.0) == 7
    assert trust_ratio(one * float("nan"), one).isnan()


@given(seed=st.integers(0, 99), momentum=st.sampled_from([0.0, 0.9]), weight_decay=st.sampled_from([0.0, 0.1]))
def test_lars_equals_the_slow_reference(seed: int, momentum: float, weight_decay: float) -> None:
    x, gradients = problem(seed)
    gradients[2].zero_()
    lrs = [1.0, 0.5, 0.25, 0.25, 0.1, 0.0]  # a schedule: lr is inside the momentum
    p = nn.Parameter(x.clone())
    optimizer, path = LARS([p], momentum=momentum, weight_decay=weight_decay, trust_coefficient=0.1), []
    for gradient, lr in zip(gradients, lrs, strict=True):
        optimizer.param_groups[0]["lr"] = lr
        path += walk(optimizer, [gradient])
    torch.testing.assert_close(path, reference.lars(x, gradients, lrs, momentum, weight_decay, 0.1))


def test_lars_on_vectors_is_sgd() -> None:
    x, gradients = problem(0, (5,))
    peer = torch.optim.SGD([nn.Parameter(x.clone())], lr=0.1, momentum=0.9)
    path = walk(LARS([nn.Parameter(x.clone())], lr=0.1, weight_decay=0.5), gradients)
    torch.testing.assert_close(path, walk(peer, gradients))


def test_lars_has_state_only_with_momentum() -> None:
    x, gradients = problem(0)
    optimizer = LARS([nn.Parameter(x)], momentum=0.0)
    walk(optimizer, gradients)
    assert not any(optimizer.state.values())
    optimizer.param_groups[0]["momentum"] = 0.9
    walk(optimizer, gradients)
    assert next(iter(optimizer.state.values()))["momentum_buffer"].any()


def test_bad_options() -> None:
    params = [nn.Parameter(torch.ones(1))]
    for name in ("max_weight_norm", "max_trust", "max_grad_norm"):
        with pytest.raises(ValueError, match=f"LAMB: expected {name} > 0, got 0.0"):
            LAMB(params, **{name: 0.0})
    with pytest.raises(TypeError, match="LAMB: expected True or False for bias_correction, got None"):
        LAMB(params, bias_correction=None)
    with pytest.raises(ValueError, match="LARS: expected momentum < 1"):
        LARS(params, momentum=1.0)
    with pytest.raises(ValueError, match="LARS: expected trust_coefficient > 0"):
        LARS(params, trust_coefficient=0.0)


def test_against_a_peer() -> None:
    peers = pytest.importorskip("pytorch_optimizer", reason="optional peer")
    x, gradients = problem(0)
    # Its decay is not part of the update and its moments are not corrected; it adds eps to the norm of the update.
    theirs = walk(peers.Lamb([nn.Parameter(x.clone())], lr=0.1, eps=1e-12, adam_debias=True), gradients)
    own = {"lr": 0.1, "eps": 1e-12, "weight_decay": 0.0, "bias_correction": False, "max_weight_norm": 10.0}
    torch.testing.assert_close(walk(LAMB([nn.Parameter(x.clone())], **own), gradients), theirs)
    options = {"lr": 0.5, "momentum": 0.9, "weight_decay": 0.0, "trust_coefficient": 0.01}
    theirs = walk(peers.LARS([nn.Parameter(x.clone())], **options), gradients)
    torch.testing.assert_close(walk(LARS([nn.Parameter(x.clone())], **options), gradients), theirs)
