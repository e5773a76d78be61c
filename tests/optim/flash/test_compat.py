"""Checkpoints of the published package: its formulas, and each form that they are saved in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.optim.flash import reference
from tests.optim.flash.cases import randn
from torch import Tensor, nn

from hasten.optim.flash import (
    FlashAdamW,
    FlashLion,
    FlashSGD,
    compute_ecc_bits,
    join_weight,
    reconstruct_fp32_param,
)
from hasten.optim.flash.slots import read_states

KINDS = {"bfloat16": torch.bfloat16, "float16": torch.float16}
WIDTHS = {3: (127, torch.int8), 4: (32767, torch.int16)}


def samples(kind: str) -> Tensor:
    spread = torch.exp2(torch.linspace(-30, 15, 3000) if kind == "float16" else torch.linspace(-140, 120, 3000))
    x = torch.cat([randn(3000, seed=0), randn(3000, seed=1).sign() * spread, torch.tensor([0.0, 1.0, -1.0, 0.99999])])
    return x[x.to(KINDS[kind]).isfinite()]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_published_correction(kind: str, width: int) -> None:
    limit, dtype = WIDTHS[width]
    x = samples(kind)
    narrow = x.to(KINDS[kind])
    code = compute_ecc_bits(x, narrow, width)
    assert code.dtype == dtype
    expected = [
        reference.published_split(a, b, kind, limit) for a, b in zip(x.tolist(), narrow.tolist(), strict=True)
    ]  # fmt: skip
    # 32767 r needs more digits than float32 has: the last one may differ.
    assert int((code.int() - torch.tensor(expected)).abs().max()) <= (0 if width == 3 else 1)
    back = reconstruct_fp32_param(narrow, code)
    wanted = [
        reference.published_join(b, c, kind, limit) for b, c in zip(narrow.tolist(), code.tolist(), strict=True)
    ]  # fmt: skip
    torch.testing.assert_close(back, torch.tensor(wanted, dtype=torch.float64).float(), rtol=2.0**-23, atol=2.0**-149)
    exponent = np.maximum(np.frexp(narrow.double().numpy())[1] - 1, 1 - reference.BIAS[kind])
    place = torch.from_numpy(2.0 ** (exponent - reference.DIGITS[kind]))
    assert bool(((back - x).double().abs() <= place / (4 * limit) + x.double().abs() * 2.0**-23 + 2.0**-149).all())


def test_by_hand() -> None:
    x = torch.tensor([1.0 + 2**-9, 1.0 - 2**-10])
    code = compute_ecc_bits(x, x.bfloat16())
    # e = 2^-9 of half a place 2^-8: 63.5, away from zero; -2^-10 of 2^-8: -31.75
    assert code.tolist() == [64, -32]
    expected = [1 + 64 / 127 * 2**-8, 1 - 32 / 127 * 2**-8]
    assert reconstruct_fp32_param(x.bfloat16(), code).tolist() == pytest.approx(expected, rel=1e-7)
    codes, scales = reference.published_codes(np.array([1, 0.5, -0.25, 0]), is_variance=False)
    assert (codes.tolist(), scales.tolist()) == ([127, 85, -51, 0], [1.0])
    codes, scales = reference.published_codes(np.array([4, 1, 0.01]), is_variance=True)
    assert (codes.tolist(), scales.tolist()) == ([255, 128, 13], [2.0])


# Loading --------------------------------------------------------------------------------------------------------------

SHAPE = (7, 11)


def published(kind: str = "bfloat16", width: int = 3, *, compressed: bool = True) -> tuple[Tensor, dict[str, Tensor]]:
    """Weights in 16 bits, and the state that belongs to them."""
    x, dtype = randn(*SHAPE, seed=3), KINDS[kind]
    narrow, limit = x.to(dtype), WIDTHS[width][0]
    pairs = zip(x.flatten().tolist(), narrow.flatten().tolist(), strict=True)
    bits = torch.tensor([reference.published_split(a, b, kind, limit) for a, b in pairs]).view(SHAPE)
    state: dict[str, Any] = {"step": torch.tensor(7.0), "error_bits": bits.to(WIDTHS[width][1])}
    for name, moment in (("exp_avg", randn(*SHAPE, seed=4)), ("exp_avg_sq", randn(*SHAPE, seed=5).square())):
        if compressed:
            codes, scales = reference.published_codes(moment.flatten().numpy(), is_variance=name == "exp_avg_sq")
            state[f"{name}::quantized"] = torch.from_numpy(codes).view(SHAPE)
            state[f"{name}::scales"] = torch.from_numpy(scales)
        else:
            state[name] = moment.to(dtype)
    return narrow, state


def loaded(narrow: Tensor, state: dict[str, Any], bits: int = 24, cls: Any = FlashAdamW, **options: Any) -> Any:
    p = nn.Parameter(narrow.clone(memory_format=torch.preserve_format))
    optimizer = cls([p], master_weight_bits=bits, **options)
    saved = optimizer.state_dict()
    saved["state"] = {0: state}
    optimizer.load_state_dict(saved)
    return p, optimizer


def weight_of(p: Tensor, optimizer: Any) -> Tensor:
    return join_weight(p.detach(), optimizer.state[p].get("correction"))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("compressed", [True, False])
def test_a_published_state_is_loaded(kind: str, width: int, compressed: bool) -> None:
    narrow, state = published(kind, width, compressed=compressed)
    p, optimizer = loaded(narrow, dict(state), 24 if width == 3 else 32)
    held = optimizer.state[p]
    assert int(held["step"]) == 7
    assert held["correction"].dtype == WIDTHS[width][1]
    assert not any("::" in name or name == "error_bits" for name in held)
    whole = reconstruct_fp32_param(narrow, state["error_bits"])
    place = 2.0 ** -(reference.DIGITS[kind] + 1 + (8 if width == 3 else 13))
    torch.testing.assert_close(weight_of(p, optimizer), whole, rtol=place, atol=1e-9)
    torch.testing.assert_close(weight_of(p, optimizer), randn(*SHAPE, seed=3), rtol=2 * place + 2**-23, atol=1e-9)
    for name, value in read_states(held, "adam", 32).items():
        if compressed:
            codes, scales = state[f"{name}::quantized"].flatten().numpy(), state[f"{name}::scales"].numpy()
            wanted = reference.published_decode(codes, scales, is_variance=name == "exp_avg_sq").reshape(SHAPE)
        else:
            wanted = state[name].double().numpy()
        assert float(np.square(value.numpy() - wanted).sum() / np.square(wanted).sum()) < 2e-4
    p.grad = torch.ones_like(p)
    optimizer.step()
    assert p.isfinite().all()


@pytest.mark.parametrize("width", WIDTHS)
def test_corrections_saved_in_the_dtype_of_the_weight(width: int) -> None:
    """int8 as numbers, int16 as bits."""
    narrow, state = published(width=width)
    bits = state["error_bits"]
    saved = bits.bfloat16() if width == 3 else bits.view(torch.bfloat16)
    one = loaded(narrow, dict(state), 24 if width == 3 else 32)
    two = loaded(narrow, {**state, "error_bits": saved}, 24 if width == 3 else 32)
    assert torch.equal(weight_of(*one), weight_of(*two))
    assert torch.equal(one[0], two[0])


def test_scales_that_torch_has_cast_to_the_dtype_of_the_weight() -> None:
    narrow, state = published()
    cast = {**state, "exp_avg::scales": state["exp_avg::scales"].bfloat16()}
    one, two = (
        read_states(o.state[p], "adam", 32)["exp_avg"] for p, o in (loaded(narrow, state), loaded(narrow, cast))
    )
    torch.testing.assert_close(one, two, rtol=2.0**-6, atol=1e-6)


def test_into_another_order_of_memory_and_without_quantization() -> None:
    narrow, state = published()
    plain = loaded(narrow, dict(state))
    turned = loaded(narrow.t().contiguous().t(), dict(state), quantize=False)
    assert turned[0].stride() == (1, 7)
    assert torch.equal(weight_of(*plain), weight_of(*turned))
    assert torch.equal(plain[0], turned[0])
    exact = turned[1].state[turned[0]]["exp_avg"]
    wanted = reference.published_decode(
        state["exp_avg::quantized"].flatten().numpy(), state["exp_avg::scales"].numpy(), is_variance=False
    )
    torch.testing.assert_close(exact, torch.from_numpy(wanted).float().view(SHAPE), rtol=1e-6, atol=1e-9)
    again = loaded(narrow.t().contiguous().t(), dict(state))
    a, b = (read_states(o.state[p], "adam", 32)["exp_avg"] for p, o in (plain, again))
    assert float((a - b).square().sum() / a.square().sum()) < 2e-4, "other groups, the same values"


def test_other_rules_and_wide_weights() -> None:
    narrow, state = published()
    moments = {name: value for name, value in state.items() if not name.startswith("exp_avg_sq")}
    p, optimizer = loaded(narrow, dict(moments), cls=FlashLion)
    assert optimizer.state[p]["exp_avg_codes"].any()
    buffer = {name.replace("exp_avg", "momentum_buffer"): value for name, value in moments.items()}
    p, optimizer = loaded(narrow, buffer, cls=FlashSGD, momentum=0.9)
    assert optimizer.state[p]["momentum_buffer_codes"].any()
    wide = {name: value for name, value in state.items() if name != "error_bits"}
    p, optimizer = loaded(narrow.float(), wide)
    assert torch.equal(p.detach(), narrow.float())
    assert "correction" not in optimizer.state[p]


def test_what_does_not_fit_is_refused() -> None:
    narrow, state = published()
    short = {**state, "exp_avg::quantized": state["exp_avg::quantized"].flatten()[:-1]}
    with pytest.raises(ValueError, match="77 codes and 3 scales"):
        loaded(narrow, short)
    with pytest.raises(ValueError, match=r"error_bits of shape \(7, 11\)"):
        loaded(narrow, {**state, "error_bits": state["error_bits"][:3]})
    with pytest.raises(ValueError, match="error_bits of int8, int16"):
        loaded(narrow, {**state, "error_bits": state["error_bits"].double()})
    plain = {
        "error_bits": state["error_bits"],
        "step": state["step"],
        "exp_avg": torch.zeros(3),
        "exp_avg_sq": torch.zeros(3),
    }
    with pytest.raises(ValueError, match=r"exp_avg of shape \(7, 11\)"):
        loaded(narrow, plain)
    with pytest.raises(ValueError, match="error_bits of int8 or int16"):
        reconstruct_fp32_param(narrow, torch.zeros(SHAPE))
    with pytest.raises(ValueError, match="weights of bfloat16 or float16"):
        reconstruct_fp32_param(narrow.float(), state["error_bits"])
