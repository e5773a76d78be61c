"""Codes and scales: golden values, bounds, fixed points, ends of the range, and a slow reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.optim.flash import reference
from torch import Tensor

from hasten.optim.flash import decode_momentum, decode_variance, encode_momentum, encode_variance
from hasten.optim.flash.companding import GROUP_SIZES, check_group_size, dither, encode_root, group_count, is_dense

every_group_size = pytest.mark.parametrize("group_size", GROUP_SIZES)
DITHERS = (0, 1, 0x7FFF, 0x8000, 0xFFFF)


def gaussian(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_golden_momentum() -> None:
    codes, scales = encode_momentum(torch.tensor([1.0, 0.5, -0.25, 0.0, -1.0]))
    # 254 m / (1 + |m|) = 127, 84.67, -50.8, 0, -127
    assert codes.tolist() == [127, 85, -51, 0, -127]
    assert codes.dtype == torch.int8
    assert scales.tolist() == [1.0]
    assert scales.dtype == torch.bfloat16
    decoded = decode_momentum(codes, scales)
    assert decoded.tolist() == pytest.approx([1.0, 85 / 169, -51 / 203, 0.0, -1.0], rel=1e-6)
    assert decoded[0] == 1.0, "the largest is exact"


def test_golden_variance() -> None:
    codes, scales = encode_variance(torch.tensor([4.0, 1.0, 0.01, 0.0, 1e-12]))
    # 255 sqrt(v) / 2 = 255, 127.5, 12.75, 0, 0.0001
    assert codes.tolist() == [255, 128, 13, 0, 1]
    assert codes.dtype == torch.uint8
    assert scales.tolist() == [2.0]
    expected = [4.0, (128 / 255 * 2) ** 2, (13 / 255 * 2) ** 2, 0.0, (2 / 255) ** 2]
    assert decode_variance(codes, scales).tolist() == pytest.approx(expected, rel=1e-6)


def test_golden_dither() -> None:
    # 1 + 2^-8 lies in the middle of two bfloat16 numbers, 1 and 1 + 2^-7.
    m = torch.tensor([1.0 + 2**-8])
    found = [encode_momentum(m, dither=d)[1].item() for d in (0, 0x7FFF, 0x8000, 0xFFFF)]
    assert found == [1.0, 1.0, 1.0 + 2**-7, 1.0 + 2**-7]
    assert [dither(t) for t in (0, 1, 2)] == [0, 0x9E37, 0x3C6E]
    walked = np.sort([dither(t) for t in range(1, 101)])
    assert np.diff(walked, prepend=0, append=65536).max() < 3 * 65536 / 100, "spread evenly"
    assert len({dither(t) for t in range(65536)}) == 65536
    assert [reference.dither(t) for t in range(3000)] == [dither(t) for t in range(3000)]


def test_dithered_scales_are_right_in_the_mean() -> None:
    m = torch.full((1,), 1.0 + 0.3 * 2**-7)
    scales = [encode_momentum(m, dither=dither(t))[1].double().item() for t in range(1, 5001)]
    assert np.mean(scales) == pytest.approx(float(m), abs=2**-7 * 1e-3)


@every_group_size
def test_against_the_reference(group_size: int) -> None:
    m = gaussian(3 * group_size + 17, seed=group_size) ** 3
    for d in DITHERS:
        codes, scales = encode_momentum(m, group_size=group_size, dither=d)
        exact, largest = reference.exact_codes(m.numpy(), group_size, is_variance=False)
        assert np.abs(codes.numpy() - exact).max() < 0.5 + 1e-4
        assert scales.tolist() == [reference.stored_scale(s, d) for s in largest]
        np.testing.assert_allclose(
            decode_momentum(codes, scales, group_size=group_size).numpy(),
            reference.decode_momentum(codes, scales, group_size), rtol=1e-6,
        )  # fmt: skip
        root = m.abs()
        codes, scales = encode_root(root, group_size=group_size, dither=d)
        exact, largest = reference.exact_codes(root.numpy(), group_size, is_variance=True)
        assert np.abs(codes.numpy() - exact).max() < 0.5 + 1e-4
        assert scales.tolist() == [reference.stored_scale(s, d) for s in largest]
        np.testing.assert_allclose(
            decode_variance(codes, scales, group_size=group_size).numpy(),
            reference.decode_root(codes, scales, group_size) ** 2, rtol=1e-6,
        )  # fmt: skip


def test_monotone_and_symmetric() -> None:
    m = torch.linspace(-1, 1, 20001).view(-1, 1)
    grouped = torch.cat([m, torch.ones_like(m)], 1).repeat_interleave(16, 1)  # groups of 32 with the largest size 1
    codes, scales = encode_momentum(grouped)
    first = codes[:, 0].int()
    assert bool((first.diff() >= 0).all())
    assert first.unique().tolist() == list(range(-127, 128)), "every code is used"
    flipped, same = encode_momentum(-grouped)
    assert torch.equal(flipped, -codes)
    assert torch.equal(same, scales)
    assert torch.equal(decode_momentum(-codes, scales), -decode_momentum(codes, scales))
    variance = encode_variance(grouped.clamp(min=0).square())[0][:, 0].int()
    assert bool((variance.diff() >= 0).all())
    assert variance.unique().tolist() == list(range(256))


def test_error_bounds() -> None:
    """Half a code: s (1 + |z|)^2 / 508 for momentum, s / 510 for a root; both with a scale that is right."""
    for seed in range(4):
        m = gaussian(4096, seed=seed) * 10.0 ** (seed - 2)
        m[::32] = 2.0 ** (seed - 5) * 100  # a scale that bfloat16 holds, the largest of its group
        s = m.view(-1, 32).abs().amax(1, keepdim=True)
        m = torch.where((m.view(-1, 32).abs() == s) | (m.view(-1, 32).abs() < s), m.view(-1, 32), 0).view(-1)
        codes, scales = encode_momentum(m)
        held = scales.float().view(-1, 1)
        error = (decode_momentum(codes, scales) - m).view(-1, 32).abs()
        z = (m.view(-1, 32) / s).abs()
        rounding = (held - s).abs() * 1.0  # of the scale: at most 2^-7 of it
        assert bool((rounding <= s * 2**-7).all())
        assert bool((error <= s * (1 + z) ** 2 / 508 * (1 + 0.01) + z * rounding).all())
        root = m.abs()
        codes, scales = encode_variance(root.square())
        error = (decode_variance(codes, scales).sqrt() - root).view(-1, 32).abs()
        small = z < 1 / 255  # a code of 1 instead of 0
        assert bool((error <= s / 510 * 1.01 + z * rounding)[~small].all())
        assert bool((error <= s / 255 * 1.01)[small].all())


@given(
    size=st.integers(1, 300), group_size=st.sampled_from(GROUP_SIZES), one=st.integers(0, 65535),
    two=st.integers(0, 65535), seed=st.integers(0, 2**31), spread=st.floats(0, 8),
)  # fmt: skip
def test_a_second_encoding_keeps_the_bits(
    size: int, group_size: int, one: int, two: int, seed: int, spread: float
) -> None:
    m = gaussian(size, seed=seed) * torch.exp(spread * gaussian(size, seed=seed + 1))
    codes, scales = encode_momentum(m, group_size=group_size, dither=one)
    again = encode_momentum(decode_momentum(codes, scales, group_size=group_size), group_size=group_size, dither=two)
    assert torch.equal(again[0], codes)
    assert torch.equal(again[1], scales)
    codes, scales = encode_variance(m.square(), group_size=group_size, dither=one)
    again = encode_variance(decode_variance(codes, scales, group_size=group_size), group_size=group_size, dither=two)
    assert torch.equal(again[0], codes)
    assert torch.equal(again[1], scales)


@pytest.mark.parametrize("d", DITHERS)
def test_every_code_under_every_scale_is_a_fixed_point(d: int) -> None:
    mantissas = torch.arange(0x3F80, 0x4000).to(torch.int16).view(torch.bfloat16)
    scales = torch.cat([mantissas * 2.0**k for k in (-60, -7, 0, 1, 50)])
    positive = torch.arange(1, 255).to(torch.uint8)
    lines = torch.cat([torch.full((254, 1), 255, dtype=torch.uint8), positive.view(-1, 1)], 1)
    for scale in scales[:: 1 if d in (0, 0xFFFF) else 16]:
        held = scale.repeat(254)
        codes = torch.zeros(254, 32, dtype=torch.uint8)
        codes[:, :2] = lines
        found = encode_variance(decode_variance(codes, held), dither=d)
        assert torch.equal(found[0], codes)
        assert torch.equal(found[1], held)
        signed = torch.zeros(254, 32, dtype=torch.int8)
        signed[:, 0] = 127
        signed[:, 1] = torch.arange(-127, 127).to(torch.int8)
        found = encode_momentum(decode_momentum(signed, held), dither=d)
        assert torch.equal(found[0], signed)
        assert torch.equal(found[1], held)


@pytest.mark.parametrize("size", [1, 31, 32, 33, 63, 1000, 1025, 4097])
@every_group_size
def test_the_last_group_is_independent_of_padding(size: int, group_size: int) -> None:
    m = gaussian(size, seed=size)
    padded = torch.cat([m, torch.zeros(-size % group_size)])
    for encode, decode, x in (
        (encode_momentum, decode_momentum, m), (encode_variance, decode_variance, m.square())
    ):  # fmt: skip
        full = torch.cat([x, padded[size:]])
        codes, scales = encode(x, group_size=group_size)
        whole, same = encode(full, group_size=group_size)
        assert codes.shape == (size,)
        assert scales.shape == (group_count(size, group_size),) == (math.ceil(size / group_size),)
        assert torch.equal(codes, whole[:size])
        assert torch.equal(scales, same)
        back = decode(whole, same, group_size=group_size)
        assert torch.equal(decode(codes, scales, group_size=group_size), back[:size])


@given(
    shape=st.lists(st.integers(0, 5), min_size=0, max_size=4), group_size=st.sampled_from(GROUP_SIZES),
    order=st.randoms(use_true_random=False),
)  # fmt: skip
def test_any_shape_and_order_of_memory(shape: list[int], group_size: int, order: object) -> None:
    axes = list(range(len(shape)))
    order.shuffle(axes)  # type: ignore[attr-defined]
    m = gaussian(math.prod(shape)).view(shape).permute(axes)
    assert is_dense(m)
    flat = m.as_strided((m.numel(),), (1,)) if m.numel() else m.reshape(-1)
    for encode, decode, x, line in (
        (encode_momentum, decode_momentum, m, flat), (encode_variance, decode_variance, m.square(), flat.square())
    ):  # fmt: skip
        codes, scales = encode(x, group_size=group_size)
        expected, same = encode(line.clone(), group_size=group_size)
        assert codes.shape == x.shape
        assert torch.equal(scales, same)
        back = decode(codes, scales, group_size=group_size)
        assert back.shape == x.shape
        if m.numel():
            assert torch.equal(codes.as_strided((m.numel(),), (1,)), expected)
            assert torch.equal(back.as_strided((m.numel(),), (1,)), decode(expected, same, group_size=group_size))


def test_channels_last_groups_follow_memory() -> None:
    m = gaussian(2, 8, 4, 4).to(memory_format=torch.channels_last)
    codes, scales = encode_momentum(m)
    assert codes.is_contiguous(memory_format=torch.channels_last)
    expected, same = encode_momentum(m.permute(0, 2, 3, 1).contiguous())
    assert torch.equal(codes.permute(0, 2, 3, 1), expected)
    assert torch.equal(scales, same)


def test_what_is_dense() -> None:
    x = torch.zeros(4, 6)
    assert all(is_dense(y) for y in (x, x.t(), x[1:3], torch.zeros(()), torch.zeros(0, 3), x[:, :1].t()[:, :1]))
    assert not any(is_dense(y) for y in (x[:, ::2], x[:, 1:], torch.zeros(1).expand(3), x[::2].t()))


@pytest.mark.parametrize("scale", [1e-38, 7e-34, 8e-34, 1e-30, 1e-20, 1e-8, 1.0, 1e10, 1e30, 5e36])
def test_momentum_over_the_range_of_scales(scale: float) -> None:
    m = gaussian(2, 32)
    m = m / m.abs().amax(1, keepdim=True) * torch.tensor(scale)
    codes, scales = encode_momentum(m)
    back = decode_momentum(codes, scales)
    if scale < 2.0**-110:
        assert not codes.any()
        assert not scales.any()
    else:
        assert float((back - m).double().square().sum() / m.double().square().sum()) < 2e-4


@pytest.mark.parametrize("scale", [1e-36, 1e-30, 1e-20, 1e-8, 1.0, 1e10, 1e30, 1e37])
def test_variance_over_the_range_of_scales(scale: float) -> None:
    v = gaussian(64).square()
    v = v / v.max() * torch.tensor(scale)
    codes, scales = encode_variance(v)
    back = decode_variance(codes, scales)
    assert float((back - v).double().square().sum() / v.double().square().sum()) < 1e-3
    assert bool((back > 0).all())


def test_a_variance_above_zero_never_becomes_zero() -> None:
    v = torch.exp(20 * gaussian(4096)).clamp(1e-30, 1e30)
    v[::7] = 0.0
    for group_size in GROUP_SIZES:
        codes, scales = encode_variance(v, group_size=group_size)
        back = decode_variance(codes, scales, group_size=group_size)
        assert torch.equal(codes > 0, v > 0)
        assert torch.equal((back > 0)[v == 0], torch.zeros(len(v[v == 0]), dtype=torch.bool))
    assert not encode_variance(torch.zeros(64))[0].any()
    assert not encode_momentum(torch.zeros(64))[0].any()
    assert not encode_momentum(torch.zeros(64))[1].any()


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan, 2.0**122])
def test_a_group_that_is_not_finite(bad: float) -> None:
    m = gaussian(96)
    m[40] = bad
    good = encode_momentum(gaussian(96))
    codes, scales = encode_momentum(m)
    assert scales.isnan().tolist() == [False, True, False]
    assert not codes[32:64].any()
    assert decode_momentum(codes, scales)[32:64].isnan().all()
    for start in (0, 64):
        assert torch.equal(codes[start : start + 32], good[0][start : start + 32])
    if bad > 0 or math.isnan(bad):
        codes, scales = encode_root(m.abs())
        assert scales.isnan().tolist() == [False, True, False]
        assert decode_variance(codes, scales)[32:64].isnan().all()


def test_small_values_beside_large_ones_and_noise() -> None:
    """The mean error of Gaussian numbers, as the specification's table has it (softsign 2.5e-5, root 8.5e-6)."""
    m = gaussian(1 << 18)
    codes, scales = encode_momentum(m, dither=0x8000)
    assert float((decode_momentum(codes, scales) - m).square().sum() / m.square().sum()) < 3.5e-5
    v = m.square()
    codes, scales = encode_variance(v, dither=0x8000)
    assert float((decode_variance(codes, scales) - v).square().sum() / v.square().sum()) < 3e-5


def test_bad_input_is_refused() -> None:
    for size in (0, 16, 33, 1024):
        with pytest.raises(ValueError, match="group_size"):
            check_group_size("Optimizer", size)
    with pytest.raises(ValueError, match=r"Optimizer: expected group_size among 32, 64, 128, 256, 512, got 48"):
        check_group_size("Optimizer", 48)
    assert [check_group_size("Optimizer", size) for size in GROUP_SIZES] == list(GROUP_SIZES)
