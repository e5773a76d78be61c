from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.optim import reference
from torch import nn

from hasten.optim import clip_adaptive, clip_norm, clip_value


def parameter(weight: torch.Tensor, gradient: torch.Tensor | None) -> nn.Parameter:
    made = nn.Parameter(weight)
    made.grad = gradient
    return made


def some(seed: int = 0, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [(4, 3), (5,), (2, 3, 3, 3), (), (1, 7)]
    draw = [torch.randn(2, *shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]
    return [parameter(pair[0].clone(), pair[1].clone() * scale) for pair in draw]


@given(
    seed=st.integers(0, 999),
    scale=st.sampled_from([1e-3, 0.1, 1.0, 1e6]),
    c=st.floats(1e-3, 1),
    floor=st.floats(1e-6, 1),
)
def test_adaptive_equals_the_slow_reference(seed: int, scale: float, c: float, floor: float) -> None:
    params = some(seed, scale, torch.float64)
    expected = [reference.adaptive_clip(p.detach(), p.grad, c, floor) for p in params]
    clip_adaptive(iter(params), clipping=c, floor=floor)
    for p, gradient in zip(params, expected, strict=True):
        torch.testing.assert_close(p.grad, gradient)


def test_adaptive_leaves_small_gradients_alone_and_moves_zero_weights() -> None:
    weight = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    gradient = torch.tensor([[0.02, 0.04], [0.03, 0.04], [3.0, 4.0]])
    p = parameter(weight, gradient.clone())
    clip_adaptive([p], clipping=0.01)
    torch.testing.assert_close(p.grad, torch.tensor([[0.02, 0.04], [0.003, 0.004], [0.6e-5, 0.8e-5]]))
    assert torch.equal(p.grad[0], gradient[0]), "below the limit the factor is exactly 1"
    zero = parameter(torch.ones(2, 2), torch.zeros(2, 2))
    clip_adaptive([zero])
    assert torch.equal(zero.grad, torch.zeros(2, 2))


@given(seed=st.integers(0, 999), scale=st.sampled_from([1e-3, 1.0, 1e3]), max_norm=st.floats(1e-3, 100))
def test_norm_is_bounded_and_directions_stay(seed: int, scale: float, max_norm: float) -> None:
    params = some(seed, scale, torch.float64)
    before = torch.cat([p.grad.flatten() for p in params])
    clip_norm(params, max_norm=max_norm)
    after = torch.cat([p.grad.flatten() for p in params])
    # torch divides by norm + 1e-6
    expected = before * min(1.0, max_norm / (float(before.norm()) + 1e-6))
    torch.testing.assert_close(after, expected)
    assert float(after.norm()) <= max_norm * (1 + 1e-9)


def test_value_clamps_every_entry() -> None:
    p = parameter(torch.zeros(4), torch.tensor([-9.0, -0.5, 0.5, 1e30]))
    clip_value([p], limit=1.0)
    assert p.grad.tolist() == [-1.0, -0.5, 0.5, 1.0]


@pytest.mark.parametrize(
    "clip", [lambda p: clip_norm(p, max_norm=1.0), lambda p: clip_value(p, limit=1.0), clip_adaptive]
)
def test_shared_rules(clip: object) -> None:
    without = parameter(torch.ones(2), None)
    assert clip([without]) is None
    assert without.grad is None
    clip([])
    for bad in (float("nan"), float("inf")):
        params = [parameter(torch.ones(2), torch.ones(2)), parameter(torch.ones(3, 2), torch.full((3, 2), bad))]
        with pytest.raises(
            RuntimeError, match=rf"expected finite gradients, got .* of {bad}\. Lower the learning rate"
        ):
            clip(params)
        assert torch.equal(params[0].grad, torch.ones(2)), "nothing was clipped"
    for dtype in (torch.bfloat16, torch.float16):
        half = some(1, 10.0, dtype)
        weights = [p.detach().clone() for p in half]
        clip(half)
        assert all(p.grad.dtype == dtype and bool(p.grad.isfinite().all()) for p in half)
        assert all(torch.equal(p, w) for p, w in zip(half, weights, strict=True))
    images = parameter(torch.ones(4, 3, 2, 2), torch.ones(4, 3, 2, 2).contiguous(memory_format=torch.channels_last))
    clip([images])
    assert images.grad.is_contiguous(memory_format=torch.channels_last)


def test_as_a_hook_before_the_step() -> None:
    w = parameter(torch.zeros(2), torch.tensor([3.0, 4.0]))
    optimizer = torch.optim.SGD([w], lr=1.0)
    optimizer.register_step_pre_hook(lambda o, *_: clip_norm(o.param_groups[0]["params"], max_norm=1.0))
    optimizer.step()
    torch.testing.assert_close(w.detach(), torch.tensor([-0.6, -0.8]))


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="max_norm > 0, got 0"):
        clip_norm([], max_norm=0.0)
    with pytest.raises(ValueError, match="limit > 0, got -1"):
        clip_value([], limit=-1.0)
    with pytest.raises(ValueError, match="clipping > 0"):
        clip_adaptive([], clipping=0.0)
    with pytest.raises(ValueError, match="floor > 0"):
        clip_adaptive([], floor=0.0)
