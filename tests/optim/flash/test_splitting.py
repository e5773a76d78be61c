"""Weight splitting: every pair, every mantissa, every special value, and a slow reference."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tests.optim.flash import reference
from torch import Tensor

from hasten.optim.flash import join_weight, split_weight
from hasten.optim.flash.splitting import CORRECTIONS, round_randomly

KINDS = {"bfloat16": torch.bfloat16, "float16": torch.float16}
both_kinds = pytest.mark.parametrize("kind", KINDS)
both_widths = pytest.mark.parametrize("bits", [24, 32])


def patterns(values: Tensor) -> Tensor:
    """int32 bit patterns as float32."""
    return values.to(torch.int32).view(torch.float32)


def words(narrow: Tensor) -> np.ndarray:
    return narrow.view(torch.int16).numpy().view(np.uint16)


def same_bits(one: Tensor, two: Tensor) -> bool:
    kind = torch.int16 if one.element_size() == 2 else torch.int32
    return one.dtype == two.dtype and torch.equal(one.view(kind), two.view(kind))


def random_floats(seed: int, count: int = 1 << 16) -> Tensor:
    """Every pattern is as likely as any other: all sizes, some NaN."""
    drawn = torch.randint(-(2**31), 2**31, (count,), generator=torch.Generator().manual_seed(seed))
    return patterns(drawn)


def in_range(kind: str) -> Tensor:
    """Floats of the sizes that a format holds, both signs."""
    generator = torch.Generator().manual_seed(1)
    low, high = (-26, 16) if kind == "float16" else (-140, 128)
    exponents = low + (high - low) * torch.rand(1 << 16, generator=generator, dtype=torch.float64)
    return (torch.exp2(exponents) * (1 - 2 * torch.randint(0, 2, (1 << 16,), generator=generator))).float()


@both_kinds
def test_every_pair_of_24_bits_is_what_its_weight_splits_into(kind: str) -> None:
    narrow = torch.arange(-(2**15), 2**15).to(torch.int16).view(KINDS[kind])
    survived = 0
    for first in range(-128, 128, 32):
        correction = torch.arange(first, first + 32).to(torch.int8).repeat_interleave(2**16)
        pairs = narrow.repeat(32)
        x = join_weight(pairs, correction)
        expected = reference.join(words(pairs).astype(np.int64), correction.numpy().astype(np.int64), kind, 24)
        there = torch.from_numpy(~np.isnan(expected)) & ~((pairs == 0) & (correction < 0))
        assert torch.equal(x[there], torch.from_numpy(expected.astype(np.float32))[there])
        again, low = split_weight(x[there], KINDS[kind])
        assert same_bits(again, pairs[there])
        assert torch.equal(low, correction[there])
        survived += int(there.sum())
    # All but the words of NaN, what lies beyond infinity, and what lies below zero.
    nans = 2 * (2 ** reference.DIGITS[kind] - 1)
    assert survived == 2**24 - nans * 256 - 2 * 127 - 2 * 128


@both_kinds
def test_pairs_of_32_bits(kind: str) -> None:
    generator = torch.Generator().manual_seed(0)
    parts = reference.FRACTIONS[kind, 32]
    for _ in range(16):
        narrow = torch.arange(-(2**15), 2**15).to(torch.int16).view(KINDS[kind])
        correction = torch.randint(-parts // 2, parts // 2, (2**16,), generator=generator).to(torch.int16)
        normal = narrow.isfinite() & (narrow.float().abs() >= (2.0**-13 if kind == "float16" else 2.0**-120))
        narrow, correction = narrow[normal], correction[normal]
        x = join_weight(narrow, correction)
        expected = reference.join(words(narrow).astype(np.int64), correction.numpy().astype(np.int64), kind, 32)
        assert torch.equal(x, torch.from_numpy(expected.astype(np.float32)))
        again, low = split_weight(x, KINDS[kind], 32)
        assert same_bits(again, narrow)
        assert torch.equal(low, correction)


@pytest.mark.parametrize(
    ("kind", "field"),
    [("bfloat16", field) for field in (0, 1, 127, 200, 254)]
    + [("float16", field) for field in (102, 112, 113, 127, 142)],
)
def test_every_mantissa(kind: str, field: int) -> None:
    """Error at most 1/512 of a step with 8 bits, none with 16; never more bits and a larger error."""
    step = 2.0 ** (max(field - 127, 1 - reference.BIAS[kind]) - reference.DIGITS[kind])
    exact = kind == "bfloat16" or field >= 113  # float16 has all of its digits from 2^-14 on
    # Below, float32 holds 13 binary digits of a step, and rounds once more.
    bound = step / 512 if exact else step / 512 + step / 2**14
    # What would round to infinity on 24 bits is cut to them.
    top = 65536.0 if kind == "float16" else math.inf
    last_rounded = top - step / 512 if kind == "float16" else float(patterns(torch.tensor([0x7F7FFF7F])))
    other_neighbour = 0
    for sign in (0, -(2**31)):
        for start in range(0, 2**23, 2**20):
            x = patterns(torch.arange(start, start + 2**20) + (field << 23) + sign)
            plain = x.to(KINDS[kind])
            narrow, low = split_weight(x, KINDS[kind])
            error = (join_weight(narrow, low) - x).abs()
            none = (plain.float() - x).abs()
            wide = (join_weight(*split_weight(x, KINDS[kind], 32)) - x).abs()
            cut = error[x.abs() > last_rounded]
            assert float(error[x.abs() <= last_rounded].max()) <= bound
            assert not len(cut) or float(cut.max()) <= step / 256
            assert float(wide.max()) <= (0.0 if exact else step / 2**14)
            assert bool((wide <= error).all())
            assert bool((error <= none + (0.0 if exact else step / 2**13)).all())
            # Also the word alone is a good weight: at most 0.502 of a step away.
            finite = narrow.isfinite()
            assert float((narrow.float() - x).abs()[finite].max()) <= step * (0.5 + 1 / 512 + 2**-13)
            other_neighbour += int((narrow != plain).sum())
    if exact and field != 254:
        assert 0.0015 < other_neighbour / 2**24 < 0.0025


@both_kinds
@both_widths
def test_against_the_reference(kind: str, bits: int) -> None:
    for x in (random_floats(0), random_floats(1), in_range(kind)):
        narrow, low = split_weight(x, KINDS[kind], bits)
        word, correction = reference.split(x.numpy(), kind, bits)
        np.testing.assert_array_equal(words(narrow), word)
        np.testing.assert_array_equal(low.numpy(), correction)


@both_widths
def test_special_values_of_bfloat16(bits: int) -> None:
    largest, subnormal = torch.finfo(torch.float32).max, 2.0**-149
    first_to_infinity, last_of_24 = map(float, patterns(torch.tensor([0x7F7F8000, 0x7F7FFF00])))
    cases = [
        (0.0, 0x0000, 0.0), (-0.0, 0x8000, -0.0), (math.inf, 0x7F80, math.inf), (-math.inf, 0xFF80, -math.inf),
        (torch.finfo(torch.bfloat16).max, 0x7F7F, torch.finfo(torch.bfloat16).max),
        (first_to_infinity, 0x7F80, first_to_infinity),  # infinite in 16 bits, the correction knows better
        (largest, 0x7F80, largest if bits == 32 else last_of_24),
        (-largest, 0xFF80, -largest if bits == 32 else -last_of_24),
        (subnormal, 0x0000, subnormal if bits == 32 else 0.0),
        (2.0**-133, 0x0001, 2.0**-133),
    ]  # fmt: skip
    for x, word, back in cases:
        narrow, low = split_weight(torch.tensor([x]), torch.bfloat16, bits)
        assert words(narrow)[0] == word, x
        assert same_bits(join_weight(narrow, low), torch.tensor([back])), x


@both_widths
def test_special_values_of_float16(bits: int) -> None:
    cases = [
        (0.0, 0x0000, 0.0), (-0.0, 0x8000, -0.0), (math.inf, 0x7C00, math.inf), (-math.inf, 0xFC00, -math.inf),
        (65504.0, 0x7BFF, 65504.0),
        (65520.0, 0x7C00, 65520.0),  # rounds to infinity in 16 bits
        (65536.0, 0x7C00, math.inf),  # is beyond the format
        (-1e30, 0xFC00, -math.inf),
        (2.0**-24, 0x0001, 2.0**-24),
        (2.0**-140, 0x0000, 0.0),
    ]  # fmt: skip
    for x, word, back in cases:
        narrow, low = split_weight(torch.tensor([x]), torch.float16, bits)
        assert words(narrow)[0] == word, x
        assert same_bits(join_weight(narrow, low), torch.tensor([back])), x
    last = torch.tensor([0x477FFFFF]).to(torch.int32).view(torch.float32)  # just below 65536
    assert join_weight(*split_weight(last, torch.float16, bits)).isfinite().all()


@both_kinds
@both_widths
def test_nan_of_any_payload_is_the_canonical_one(kind: str, bits: int) -> None:
    x = patterns(torch.tensor([0x7F800001, 0x7FC00000, 0x7FFFFFFF, 0xFF800001 - 2**32, 0xFFFFFFFF - 2**32]))
    narrow, low = split_weight(x, KINDS[kind], bits)
    assert words(narrow).tolist() == [reference.NAN[kind]] * 5
    assert not low.any()
    assert join_weight(narrow, low).isnan().all()


def test_by_hand() -> None:
    narrow, low = split_weight(torch.tensor([1.0 + 2**-9, -1.0 - 2**-9, 1.0 - 2**-10]))
    assert narrow.tolist() == [1.0, -1.0, 1.0]
    assert low.tolist() == [64, 64, -64]  # the sign is the weight's: corrections add to its size; half a step below 1
    assert split_weight(torch.tensor([1.0 + 2**-9]), torch.float16)[1].tolist() == [0]  # two steps of 2^-10
    assert split_weight(torch.tensor([1.0 + 2**-12]), torch.float16)[1].tolist() == [64]
    assert split_weight(torch.tensor([1.0 + 2**-23]), torch.bfloat16, 32)[1].tolist() == [1]


def test_shapes_and_strides() -> None:
    x = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    for kind in KINDS.values():
        narrow, low = split_weight(x, kind)
        assert narrow.shape == low.shape == x.shape
        assert torch.equal(join_weight(narrow, low), join_weight(narrow.contiguous(), low.contiguous()))
    assert join_weight(*split_weight(torch.tensor(1.5))).item() == 1.5
    assert join_weight(*split_weight(torch.zeros(0, 3))).shape == (0, 3)
    assert torch.equal(join_weight(torch.ones(2, dtype=torch.bfloat16), None), torch.ones(2))
    assert {24: torch.int8, 32: torch.int16} == CORRECTIONS


@both_kinds
def test_random_rounding_is_that_of_the_reference(kind: str) -> None:
    x = in_range(kind)[:3000]
    x = x[x.abs() < (60000 if kind == "float16" else 1e38)]
    for salt in (0, 1, 0xDEADBEEF):
        np.testing.assert_array_equal(
            words(round_randomly(x, KINDS[kind], salt)), reference.round_randomly(x.numpy(), kind, salt)
        )


@both_kinds
def test_random_rounding_is_unbiased(kind: str) -> None:
    step = 2.0**-7 if kind == "bfloat16" else 2.0**-10
    for part in (0.1, 0.5, 0.9):
        x = torch.full((1 << 16,), 1.0 + part * step)
        rounded = round_randomly(x, KINDS[kind], 12345).double()
        assert set(rounded.unique().tolist()) == {1.0, 1.0 + step}
        deviation = step * math.sqrt(part * (1 - part) / len(x))
        assert abs(float(rounded.mean()) - float(x[0])) < 5 * deviation
        over_steps = torch.stack([round_randomly(x[:1], KINDS[kind], salt) for salt in range(0, 10**6, 997)]).double()
        assert abs(float(over_steps.mean()) - float(x[0])) < 5 * step * math.sqrt(part * (1 - part) / len(over_steps))


@both_kinds
def test_random_rounding_of_what_needs_none(kind: str) -> None:
    exact = torch.tensor([0.0, -0.0, 1.0, -1.5, 2.0**-14, math.inf, -math.inf])
    for salt in range(50):
        assert same_bits(round_randomly(exact, KINDS[kind], salt), exact.to(KINDS[kind]))
    assert round_randomly(torch.tensor([math.nan]), KINDS[kind], 7).isnan().all()


def test_bad_input_is_refused() -> None:
    with pytest.raises(TypeError, match=r"split_weight: expected a float32 tensor, got .*float64.*Pass x\.float\(\)"):
        split_weight(torch.zeros(2, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"torch\.bfloat16 or torch\.float16, got torch\.float32"):
        split_weight(torch.zeros(2), torch.float32)
    with pytest.raises(ValueError, match=r"split_weight: expected 24 or 32 bits"):
        split_weight(torch.zeros(2), torch.bfloat16, 16)
    with pytest.raises(ValueError, match=r"join_weight: expected 24 or 32 bits"):
        join_weight(torch.zeros(2, dtype=torch.bfloat16), torch.zeros(2, dtype=torch.int32))
    with pytest.raises(ValueError, match=r"join_weight: expected torch\.bfloat16"):
        join_weight(torch.zeros(2), torch.zeros(2, dtype=torch.int8))
    with pytest.raises(ValueError, match=r"a correction of shape \(2,\)"):
        join_weight(torch.zeros(2, dtype=torch.bfloat16), torch.zeros(3, dtype=torch.int8))
