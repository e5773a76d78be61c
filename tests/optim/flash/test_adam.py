"""FlashAdamW and FlashAdam against torch's, their states over many steps, and weights that move in small steps."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from tests.optim.flash.cases import randn, with_kernels
from torch import Tensor, nn

from hasten.optim.flash import (
    FlashAdam,
    FlashAdamW,
    cast_model,
    decode_variance,
    encode_variance,
    join_weight,
)
from hasten.optim.flash.companding import dither

each_backend = pytest.mark.parametrize("backend", ["eager", pytest.param("native", marks=with_kernels)])
SHAPES = ((33, 17), (5,), (), (64, 2))


def parameters(dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    return [nn.Parameter(randn(*shape, seed=i).to(dtype)) for i, shape in enumerate(SHAPES)]


def gradients(step: int, scale: float = 1.0) -> list[Tensor]:
    return [scale * randn(*shape, seed=1000 * step + i) for i, shape in enumerate(SHAPES)]


def run(optimizer: torch.optim.Optimizer, owned: list[nn.Parameter], steps: int, scale: float = 1.0) -> None:
    for step in range(steps):
        for p, g in zip(owned, gradients(step, scale), strict=True):
            p.grad = g.to(p.dtype)
        optimizer.step()


def whole(p: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
    """The weight with its low bits."""
    return join_weight(p.detach(), optimizer.state[p].get("correction")).clone()


PARITY: list[dict[str, Any]] = [
    {}, {"weight_decay": 0.1}, {"weight_decay": 0.0}, {"maximize": True, "weight_decay": 0.1}, {"betas": (0.5, 0.9)},
    {"betas": (0.0, 0.0)}, {"eps": 1e-2}, {"lr": 0.0}, {"lr": torch.tensor(3e-3)},
]  # fmt: skip


@each_backend
@pytest.mark.parametrize("ours", [FlashAdamW, FlashAdam])
@pytest.mark.parametrize("options", PARITY, ids=str)
def test_torch_parity_without_quantization(ours: Any, options: dict[str, Any], backend: str) -> None:
    theirs = torch.optim.AdamW if ours is FlashAdamW else torch.optim.Adam
    one, two = parameters(), parameters()
    options = {"lr": 3e-3, **options}
    run(ours(one, quantize=False, backend=backend, **options), one, 100)
    run(theirs(two, **options), two, 100)
    for p, q in zip(one, two, strict=True):  # the kernel rounds once where torch rounds twice, a hundred times
        torch.testing.assert_close(p, q, rtol=1e-6 if backend == "eager" else 3e-6, atol=1e-6)


def test_defaults_are_those_of_torch() -> None:
    for ours, theirs in ((FlashAdamW, torch.optim.AdamW), (FlashAdam, torch.optim.Adam)):
        one, two = ours(parameters()).defaults, theirs(parameters()).defaults
        for name in ("lr", "betas", "eps", "weight_decay", "maximize", "capturable"):
            assert one[name] == two[name]


@each_backend
@pytest.mark.parametrize(("dtype", "bits"), [(torch.float32, None), (torch.bfloat16, 24), (torch.float16, 32)])
def test_quantized_updates_point_the_same_way(dtype: torch.dtype, bits: int | None, backend: str) -> None:
    start = randn(4096, seed=0).to(dtype)
    one, two = nn.Parameter(start.clone()), nn.Parameter(start.float())
    ours = FlashAdamW([one], lr=1e-2, weight_decay=0.0, master_weight_bits=bits, backend=backend)
    theirs = torch.optim.AdamW([two], lr=1e-2, weight_decay=0.0)
    scales = torch.exp(randn(4096, seed=1))
    for step in range(50):
        g = (randn(4096, seed=step + 2) + 0.3) * scales
        one.grad = g.to(dtype)
        two.grad = one.grad.float()
        before = [whole(one, ours), two.detach().clone()]
        ours.step()
        theirs.step()
        after = [whole(one, ours), two.detach().clone()]
        moved, wanted = ((a - b).double() for a, b in zip(after, before, strict=True))
        assert float(nn.functional.cosine_similarity(moved, wanted, dim=0)) > 0.99, step
        assert float((moved - wanted).square().sum() / wanted.square().sum()) < 2e-2, step


# Small variances beside large ones ------------------------------------------------------------------------------------


@each_backend
@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.9, 0.99])
def test_no_step_explodes_where_variances_are_small(sparsity: float, backend: str) -> None:
    """The published coding takes steps of up to 10 000 learning rates here; float32 takes 1 to 3."""
    generator, lr, count = torch.Generator().manual_seed(0), 1e-3, 16_384
    scale = 1e-3 * torch.exp(torch.randn(count, generator=generator))
    p = nn.Parameter(torch.zeros(count))
    optimizer = FlashAdamW([p], lr=lr, weight_decay=0.0, backend=backend)
    largest = 0.0
    for _ in range(400):
        g = (torch.randn(count, generator=generator) + 0.1) * scale
        p.grad = g * (torch.rand(count, generator=generator) >= sparsity)
        before = p.detach().clone()
        optimizer.step()
        largest = max(largest, float((p.detach() - before).abs().max()) / lr)
    assert 0.5 < largest < 4.0


# The variance after gradients have become smaller ---------------------------------------------------------------------


def falling(steps: int, count: int = 1024) -> Any:
    generator = torch.Generator().manual_seed(0)
    for step in range(2 * steps):
        yield torch.randn(count, generator=generator) * (1.0 if step < steps else 0.1)


def root_ratio(v: Tensor, exact: Tensor) -> float:
    return float(v.sqrt().double().mean() / exact.sqrt().double().mean())


@with_kernels
def test_the_variance_follows_its_gradients() -> None:
    p = nn.Parameter(torch.zeros(1024))
    optimizer = FlashAdamW([p], lr=0.0, backend="native")
    exact = torch.zeros(1024, dtype=torch.float64)
    for g in falling(3000):
        p.grad = g
        optimizer.step()
        exact = 0.999 * exact + 0.001 * g.double().square()
    state = optimizer.state[p]
    assert root_ratio(decode_variance(state["exp_avg_sq_codes"], state["exp_avg_sq_scales"]), exact) == pytest.approx(
        1.0, abs=0.05
    )


@pytest.mark.parametrize("dithered", [True, False])
def test_scales_rounded_to_the_nearest_would_not_follow(dithered: bool) -> None:
    """The same in the codec alone: with scales to the nearest (a dither of half a step) the root stays where it was."""
    codes, scales = encode_variance(torch.zeros(1024))
    exact = torch.zeros(1024, dtype=torch.float64)
    for step, g in enumerate(falling(3000), 1):
        v = 0.999 * decode_variance(codes, scales) + 0.001 * g.square()
        codes, scales = encode_variance(v, dither=dither(step) if dithered else 0x8000)
        exact = 0.999 * exact + 0.001 * g.double().square()
    ratio = root_ratio(decode_variance(codes, scales), exact)
    if dithered:
        assert ratio == pytest.approx(1.0, abs=0.05)
    else:
        assert ratio > 2.0


# Steps below the last place of a 16-bit weight ------------------------------------------------------------------------


def far_from_zero(bits: int | None, dtype: torch.dtype, **options: Any) -> float:
    """How far a weight of 1 gets in 200 steps of 2e-4: bfloat16's last place is 2^-8 below it."""
    p = nn.Parameter(torch.ones(4096, dtype=dtype))
    optimizer = FlashAdamW([p], lr=2e-4, weight_decay=0.0, master_weight_bits=bits, **options)
    for _ in range(200):
        p.grad = torch.ones_like(p)
        optimizer.step()
    return 1.0 - float(whole(p, optimizer).mean())


def test_24_bits_follow_float32_where_16_stall() -> None:
    exact = far_from_zero(None, torch.float32)
    assert exact == pytest.approx(0.04, rel=1e-2)
    assert far_from_zero(None, torch.bfloat16) == 0.0
    assert far_from_zero(24, torch.bfloat16) == pytest.approx(exact, rel=0.08)  # 13.1 places a step are taken as 13
    assert far_from_zero(32, torch.bfloat16) == pytest.approx(exact, rel=1e-3)
    assert far_from_zero(24, torch.float16) == pytest.approx(exact, rel=0.01)


@each_backend
def test_stochastic_rounding_follows_in_the_mean_and_is_reproducible(backend: str) -> None:
    options = {"stochastic_rounding": True, "backend": backend}
    exact, found = far_from_zero(None, torch.float32), far_from_zero(None, torch.bfloat16, **options)
    # 4096 weights of 200 rounding steps of at most 2^-8: a standard error of 2^-9 * sqrt(200) / 64.
    assert found == pytest.approx(exact, abs=4 * 2.0**-9 * math.sqrt(200) / 64)
    assert far_from_zero(None, torch.bfloat16, **options) == found


def test_a_model_of_24_bits_trains_like_one_of_32() -> None:
    """Regression with one layer and a learning rate that bfloat16 alone does not see."""
    x = randn(256, 16, seed=0)
    target = x @ randn(16, 1, seed=1) * 0.1 + 3.0
    losses = {}
    for name, dtype, bits in (("fp32", torch.float32, None), ("24", torch.bfloat16, 24), ("16", torch.bfloat16, None)):
        torch.manual_seed(0)
        layer = nn.Linear(16, 1)
        nn.init.constant_(layer.bias, 2.5)
        if dtype == torch.bfloat16:
            cast_model(layer, dtype)
        optimizer = FlashAdamW(layer.parameters(), lr=1e-3, weight_decay=0.0, master_weight_bits=bits)
        for _ in range(600):
            optimizer.zero_grad()
            loss = (layer(x.to(dtype)).float() - target).square().mean()
            loss.backward()
            optimizer.step()
        losses[name] = loss.item()
    assert losses["24"] == pytest.approx(losses["fp32"], rel=0.2, abs=2e-3)
    assert losses["16"] > 3 * losses["24"]


def test_bad_options_are_refused() -> None:
    p = [nn.Parameter(torch.ones(2))]
    for options, text in (
        ({"betas": (1.0, 0.9)}, r"betas in \[0, 1\)"), ({"betas": (0.9, -0.1)}, r"betas in \[0, 1\)"),
        ({"betas": 0.9}, "two numbers for betas"), ({"eps": -1e-8}, "eps >= 0"), ({"lr": -1.0}, "lr >= 0"),
        ({"weight_decay": -0.1}, "weight_decay >= 0"), ({"amsgrad": True}, "amsgrad=False.*Use torch.optim"),
    ):  # fmt: skip
        for cls in (FlashAdamW, FlashAdam):
            with pytest.raises(ValueError, match=f"{cls.__name__}: expected {text}"):
                cls(p, **options)
