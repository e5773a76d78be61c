"""The kernel against the reference and against the readable step, for every format, rule and layout."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from tests.optim.flash.cases import KINDS, RULES, check_step, contents, prepared, randn, same, with_kernels
from tests.optim.flash.test_eager import OPTIONS, views
from torch import nn

from hasten.optim.flash import FlashAdamW, FlashSGD, decode_momentum, join_weight, split_weight
from hasten.optim.flash.companding import GROUP_SIZES, in_memory_order

pytestmark = with_kernels
SLACK = 0.03  # of a code: the kernel's reciprocal has a relative error of 1.4e-4, of 127 codes


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", KINDS)
def test_against_the_reference(kind: str, rule: str) -> None:
    for quantize, t in itertools.product((True, False), (0, 1, 1000)):
        p, optimizer = prepared(kind, rule, quantize=quantize, t=t, backend="native", seed=t)
        check_step(p, optimizer, kind, slack=SLACK)


@pytest.mark.parametrize(("rule", "options"), OPTIONS, ids=str)
def test_options_against_the_reference(rule: str, options: dict[str, Any]) -> None:
    for kind, quantize, t in itertools.product(("f32", "bf16c8", "f16c16"), (True, False), (0, 3)):
        p, optimizer = prepared(kind, rule, quantize=quantize, t=t, backend="native", **options)
        check_step(p, optimizer, kind, slack=SLACK)


@pytest.mark.parametrize("group_size", GROUP_SIZES)
@pytest.mark.parametrize("size", [1, 31, 33, 512, 1025])
def test_group_sizes_and_tails(group_size: int, size: int) -> None:
    for rule in ("adam", "lion"):
        p, optimizer = prepared("bf16c8", rule, shape=(size,), group_size=group_size, backend="native", t=5)
        check_step(p, optimizer, "bf16c8", slack=SLACK)


@pytest.mark.parametrize("kind", ["bf16", "f16"])
def test_stochastic_rounding_is_that_of_the_readable_step(kind: str) -> None:
    for size in (1, 100, 5000):
        p, optimizer = prepared(kind, "plain", shape=(size,), stochastic_rounding=True, backend="native", t=2)
        q, plain = prepared(kind, "plain", shape=(size,), stochastic_rounding=True, backend="eager", t=2)
        before = p.detach().clone()
        optimizer.step()
        plain.step()
        # The weight before it is rounded may differ in its last place, and then be rounded the other way: rarely.
        assert int((p != q).sum()) <= size // 1000
        assert not torch.equal(p, before)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", KINDS)
def test_one_step_is_the_readable_step(kind: str, rule: str) -> None:
    for quantize in (True, False):
        p, optimizer = prepared(kind, rule, shape=(20_000,), quantize=quantize, backend="native", t=3)
        q, plain = prepared(kind, rule, shape=(20_000,), quantize=quantize, backend="eager", t=3)
        optimizer.step()
        plain.step()
        one, two = contents(p, optimizer), contents(q, plain)
        assert one["step"] == two["step"] == 4
        for name in one:
            if name.endswith("_codes"):
                difference = (one[name].int() - two[name].int()).abs()
                assert int(difference.max()) <= 1
                assert int(difference.sum()) <= 0.015 * difference.numel()
            elif name.endswith("_scales"):
                assert int((one[name].view(torch.int16) - two[name].view(torch.int16)).abs().max()) <= 1
        found = join_weight(p, one.get("correction")) if KINDS[kind][1] else p.float()
        wanted = join_weight(q, two.get("correction")) if KINDS[kind][1] else q.float()
        assert float((found != wanted).float().mean()) < (0.05 if kind == "bf16c8" else 0.5)
        place = {"f32": 2.0**-22, "bf16": 2.0**-7, "f16": 2.0**-10, "bf16c8": 2.0**-15, "f16c8": 2.0**-18}
        torch.testing.assert_close(found, wanted, rtol=place.get(kind, 2.0**-22), atol=4e-6)


@pytest.mark.parametrize("kind", ["bf16c8", "f16c8"])
def test_every_pair_goes_through_the_kernel_and_comes_back(kind: str) -> None:
    """A step of SGD with the learning rate 0 joins and splits, and nothing else."""
    dtype, _ = KINDS[kind]
    narrow = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype)
    for first in range(-128, 128, 32):
        correction = torch.arange(first, first + 32).to(torch.int8).repeat_interleave(2**16)
        pairs = narrow.repeat(32)
        kept = torch.from_numpy(~join_weight(pairs, correction).isnan().numpy()) & ~((pairs == 0) & (correction < 0))
        p = nn.Parameter(pairs[kept].clone())
        optimizer = FlashSGD([p], lr=0.0, backend="native")
        low = optimizer._state_of(p)["correction"].copy_(correction[kept])
        p.grad = torch.zeros_like(p)
        optimizer.step()
        assert torch.equal(p.detach().view(torch.int16), pairs[kept].view(torch.int16))
        assert torch.equal(low, correction[kept])


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("kind", ["bf16c8", "bf16c16", "f16c8", "f16c16", "bf16", "f16", "f32"])
def test_weights_are_split_as_in_python(kind: str) -> None:
    """Of a float32 weight: any pattern, as the difference of weight and gradient."""
    dtype, bits = KINDS[kind]
    drawn = torch.randint(-(2**31), 2**31, (1 << 15,), generator=torch.Generator().manual_seed(0))
    x = drawn.to(torch.int32).view(torch.float32)
    largest = torch.finfo(torch.float32).max
    special = [0.0, -0.0, math.inf, -math.inf, math.nan, largest, -largest, 3.3895e38, 3.39e38, 65504.0, 65519.9,
               65520.0, 65535.9, 65536.0, -65536.0, 2.0**-14, 2.0**-24, 2.0**-25, 2.0**-149]  # fmt: skip
    x = torch.cat([x, torch.tensor(special)])
    if kind.startswith("f16"):
        x = torch.cat([x, randn(1 << 14, seed=1) * torch.exp2(30 * torch.rand(1 << 14) - 18)])
    start = x.to(dtype)
    p = nn.Parameter(start.clone())
    optimizer = FlashSGD([p], lr=0.0, master_weight_bits=bits, backend="native")
    if bits is not None:  # x itself is what the optimizer holds
        narrow, low = split_weight(x, dtype, bits)
        with torch.no_grad():
            p.copy_(narrow)
        optimizer._state_of(p)["correction"].copy_(low)
    p.grad = torch.zeros_like(p)
    optimizer.step()
    expected = start if bits is None else split_weight(join_weight(*split_weight(x, dtype, bits)), dtype, bits)[0]
    torch.testing.assert_close(p.detach(), expected, rtol=0, atol=0, equal_nan=True)
    if bits is not None:
        assert torch.equal(optimizer.state[p]["correction"], split_weight(x, dtype, bits)[1])


@pytest.mark.parametrize("kind", ["f32", "bf16c8", "bf16c16", "f16c8"])
@pytest.mark.parametrize("rule", RULES)
def test_zero_gradients_change_nothing_in_a_thousand_steps(kind: str, rule: str) -> None:
    p, optimizer = prepared(kind, rule, shape=(1000,), backend="native", weight_decay=0.0)
    p.grad = torch.zeros_like(p)
    for name, value in optimizer.state[p].items():
        if isinstance(value, torch.Tensor) and name != "correction":
            value.zero_()
    before = contents(p, optimizer)
    for _ in range(1000):
        optimizer.step()
    after = contents(p, optimizer)
    assert after.pop("step") == 1000
    before.pop("step")
    assert same(before, after)


@pytest.mark.parametrize("layout", views())
@pytest.mark.parametrize("rule", ["adam", "momentum"])
def test_layouts(layout: str, rule: str) -> None:
    """Memory in another order is stepped in that order; memory with gaps is left to the readable step."""
    view = views()[layout]
    gaps = layout in ("gaps", "transposed_gaps", "columns")
    p, optimizer = prepared("bf16c8", rule, parameter=view, backend="auto", t=2)
    q, plain = prepared("bf16c8", rule, parameter=views()[layout], backend="eager", t=2)
    assert optimizer.explain()[0].backend == ("eager" if gaps else "native")
    with torch.no_grad():
        for name, value in plain.state[q].items():
            if isinstance(value, torch.Tensor):
                optimizer.state[p][name].copy_(value)
        p.copy_(q)
    surroundings = view.untyped_storage().tolist() if layout == "slice" else None
    optimizer.step()
    plain.step()
    one, two = join_weight(p, optimizer.state[p]["correction"]), join_weight(q, plain.state[q]["correction"])
    torch.testing.assert_close(one, two, rtol=2.0**-15, atol=2e-7)
    for name in optimizer.state[p]:
        if name.endswith("_codes"):
            assert optimizer.state[p][name].stride() == plain.state[q][name].stride()
            difference = optimizer.state[p][name].int() - plain.state[q][name].int()
            assert difference.numel() == 0 or int(difference.abs().max()) <= 1
    if surroundings is not None:
        after = view.untyped_storage().tolist()
        assert after[:10] == surroundings[:10]
        assert after[10 + 48 :] == surroundings[10 + 48 :]


def test_channels_last_is_the_permuted_tensor() -> None:
    x, g = randn(4, 6, 5, 5, seed=0).bfloat16(), randn(4, 6, 5, 5, seed=1).bfloat16()
    one = nn.Parameter(x.to(memory_format=torch.channels_last))
    two = nn.Parameter(x.permute(0, 2, 3, 1).contiguous())
    for p, gradient in ((one, g), (two, g.permute(0, 2, 3, 1).contiguous())):
        p.grad = gradient
        optimizer = FlashAdamW([p], lr=0.1, backend="native")
        for _ in range(3):
            optimizer.step()
    assert torch.equal(one.permute(0, 2, 3, 1), two)


def test_a_thousand_small_tensors_and_empty_ones() -> None:
    sizes = [(i * 37) % 130 for i in range(1000)]
    assert 0 in sizes
    found = []
    for backend in ("native", "eager"):
        parameters = [nn.Parameter(randn(size, seed=i).bfloat16()) for i, size in enumerate(sizes)]
        optimizer = FlashAdamW(parameters, lr=0.01, backend=backend)
        for i, p in enumerate(parameters):
            p.grad = randn(*p.shape, seed=i + 7).bfloat16()
        optimizer.step()
        assert all(int(optimizer.state[p]["step"]) == 1 for p in parameters)
        found.append([join_weight(p, optimizer.state[p]["correction"]) for p in parameters])
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=2.0**-15, atol=2e-7)


def test_unaligned_memory() -> None:
    size, parts = 1000, {}
    for offset in (0, 1, 3, 7, 15):
        for dtype in (torch.bfloat16, torch.int8, torch.uint8):
            parts[offset, dtype] = torch.zeros(size + 16, dtype=dtype)[offset : offset + size]
    expected = None
    for offset in (0, 1, 3, 7, 15):
        p, optimizer = prepared("bf16c8", "adam", parameter=parts[offset, torch.bfloat16], backend="native")
        state = optimizer.state[p]
        state["exp_avg_codes"] = parts[offset, torch.int8].copy_(state["exp_avg_codes"])
        state["exp_avg_sq_codes"] = parts[offset, torch.uint8].copy_(state["exp_avg_sq_codes"])
        p.grad = torch.zeros(size + 16, dtype=torch.bfloat16)[15 - offset : 15 - offset + size].copy_(p.grad)
        optimizer.step()
        expected = expected or contents(p, optimizer)
        assert same(contents(p, optimizer), expected)


def test_threads_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        p, optimizer = prepared("bf16c8", "adam", shape=(420_001,), backend="native", t=1)
        optimizer.step()
        found.append(contents(p, optimizer))
    assert same(found[1], found[0])
    assert same(found[2], found[0])


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("scale", [8e-34, 1e-30, 1e-20, 1e-8, 1.0, 1e10, 1e30, 5e36])
def test_momentum_over_the_range_of_scales(scale: float) -> None:
    g = randn(2, 32, seed=0)
    g = (g / g.abs().amax(1, keepdim=True)).flatten() * torch.tensor(scale)
    p = nn.Parameter(torch.zeros(64))
    p.grad = g.clone()
    optimizer = FlashSGD([p], lr=0.0, momentum=0.9, backend="native")
    optimizer.step()
    state = optimizer.state[p]
    back = decode_momentum(state["momentum_buffer_codes"], state["momentum_buffer_scales"])
    assert float((back - g).double().square().sum() / g.double().square().sum()) < 2e-4


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("scale", [1e-18, 1e-12, 1e-8, 1.0, 1e8, 1e18])
def test_adam_over_the_range_of_gradients(scale: float) -> None:
    """The first steps do not depend on the size of the gradient, as long as it is far from epsilon."""
    g = randn(1000, seed=0)
    moved = []
    for factor, backend in ((1.0, "eager"), (scale, "native")):
        p = nn.Parameter(torch.zeros(1000))
        optimizer = FlashAdamW([p], lr=1.0, eps=0.0, weight_decay=0.0, backend=backend)
        for _ in range(3):
            p.grad = g * factor
            optimizer.step()
        moved.append(p.detach().clone())
    torch.testing.assert_close(moved[1], moved[0], rtol=0.03, atol=0.03)


@pytest.mark.usefixtures("each_isa")
@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("rule", ["adam", "momentum", "lion"])
def test_a_gradient_that_is_not_finite(rule: str, bad: float) -> None:
    """It reaches its own weight, and the scale of its group says that the group's state is lost."""
    found = []
    for backend in ("native", "eager"):
        p, optimizer = prepared("bf16c8", rule, shape=(200,), backend=backend)
        p.grad[70] = bad
        optimizer.step()
        state = contents(p, optimizer)
        expected = [False] * 7
        expected[2] = True
        for name in state:
            if name.endswith("_scales"):
                assert state[name].isnan().tolist() == expected, name
            elif name.endswith("_codes"):
                assert not state[name][64:96].any()
                assert state[name][:64].any()
        if rule != "lion":
            assert not p[70].isfinite()
        elif math.isnan(bad):
            assert p[70].isnan()
        assert p[:70].isfinite().all()
        assert p[71:].isfinite().all()
        found.append(join_weight(p, state["correction"]))
    torch.testing.assert_close(found[0], found[1], rtol=2.0**-15, atol=1e-6, equal_nan=True)


def test_memory_order_of_codes_is_the_parameters() -> None:
    p, optimizer = prepared("bf16c8", "adam", parameter=views()["transposed"], backend="native")
    for name in ("correction", "exp_avg_codes", "exp_avg_sq_codes"):
        assert optimizer.state[p][name].stride() == p.stride()
        assert in_memory_order(optimizer.state[p][name]).shape == (24,)
