"""Optimizers in the middle of a training, made up at random, and one step of them held against the reference."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from tests.optim.flash import reference
from torch import Tensor, nn

from hasten._core import dispatch
from hasten.optim.flash import FlashAdamW, FlashLion, FlashSGD, join_weight, split_weight
from hasten.optim.flash.companding import in_memory_order, is_dense
from hasten.optim.flash.rules import MOMENTS
from hasten.optim.flash.slots import codes_name, read_states, read_weight, scales_name

with_kernels = pytest.mark.skipif(not dispatch.native_available(), reason=dispatch.native_reason())

# dtype and master_weight_bits
KINDS: dict[str, tuple[torch.dtype, int | None]] = {
    "f32": (torch.float32, None),
    "bf16": (torch.bfloat16, None), "bf16c8": (torch.bfloat16, 24), "bf16c16": (torch.bfloat16, 32),
    "f16": (torch.float16, None), "f16c8": (torch.float16, 24), "f16c16": (torch.float16, 32),
}  # fmt: skip
RULES: dict[str, tuple[Any, dict[str, Any]]] = {
    "adam": (FlashAdamW, {"lr": 0.01, "weight_decay": 0.1}),
    "momentum": (FlashSGD, {"lr": 0.01, "momentum": 0.9}),
    "plain": (FlashSGD, {"lr": 0.01}),
    "lion": (FlashLion, {"lr": 0.01, "weight_decay": 0.1}),
}


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def prepared(kind: str, rule: str, *, shape: tuple[int, ...] = (1000,), t: int = 0, seed: int = 0, cls: Any = None,
             parameter: Tensor | None = None, **options: Any) -> tuple[nn.Parameter, Any]:  # fmt: skip
    """A parameter with weight, gradient and state, and its optimizer after step `t`."""
    dtype, bits = KINDS[kind]
    of_rule, own = RULES[rule]
    p = nn.Parameter(torch.zeros(shape, dtype=dtype) if parameter is None else parameter)
    optimizer = (cls or of_rule)([p], **{"master_weight_bits": bits, **own, **options})
    x, g = randn(*p.shape, seed=seed), randn(*p.shape, seed=seed + 1)
    state = optimizer._state_of(p)
    with torch.no_grad():
        if bits is None:
            p.copy_(x)
        else:
            narrow, low = split_weight(x, dtype, bits)
            p.copy_(narrow)
            state["correction"].copy_(low)
    p.grad = (g * torch.exp(randn(*p.shape, seed=seed + 2))).to(dtype)
    generator = torch.Generator().manual_seed(seed + 3)
    for name, is_variance in MOMENTS[rule].items():
        if state.get(name) is not None:
            moment = randn(*p.shape, seed=seed + 4)
            state[name].copy_(moment.square() if is_variance else moment)
            continue
        codes, scales = state[codes_name(name)], state[scales_name(name)]
        codes.copy_(torch.randint(0 if is_variance else -127, 256 if is_variance else 128, codes.shape,
                                  generator=generator))  # fmt: skip
        scales.copy_(torch.exp(torch.randn(scales.shape, generator=generator)))
    state["step"].fill_(t)
    return p, optimizer


def moves(ours: Any, theirs: Any, backend: str, steps: int = 50, **options: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """How far each step moves 4096 weights, bfloat16 with a correction and float32 ones, by the same gradients."""
    start = randn(4096, seed=0).bfloat16()
    one, two = nn.Parameter(start.clone()), nn.Parameter(start.float())
    narrow, wide = ours([one], backend=backend, **options), theirs([two], **options)
    before = [start.float(), start.float()]
    for step in range(steps):
        one.grad = (randn(4096, seed=step) + 0.2).bfloat16()
        two.grad = one.grad.float()
        narrow.step()
        wide.step()
        after = [join_weight(one, narrow.state[one]["correction"]), two.detach().clone()]
        yield after[0] - before[0], after[1] - before[1]
        before = after


def in_order(p: Tensor, x: Tensor) -> np.ndarray:
    """A tensor of the parameter's shape in the order of the parameter's memory, float64."""
    if not is_dense(p):
        return x.detach().double().reshape(-1).numpy()
    placed = torch.empty_like(p, dtype=torch.float64, requires_grad=False).copy_(x.detach())
    return in_memory_order(placed).numpy()


def snapshot(p: Tensor, optimizer: Any) -> dict[str, Any]:
    """What a step reads, as float64 numbers in the order of memory."""
    group, state = optimizer.param_groups[0], optimizer.state[p]
    rule = optimizer._rule_of(group)
    moments = [in_order(p, value) for value in read_states(state, rule, group["group_size"]).values()]
    m, v = (*moments, None, None)[:2]
    root = None if v is None else np.sqrt(v)
    return {
        "x": in_order(p, read_weight(p, state)),
        "g": in_order(p, p.grad),
        "t": int(state["step"]),
        "m": m,
        "root": root,
    }


def last_places(x: np.ndarray, kind: str, *, stochastic: bool = False) -> np.ndarray:
    """By how much rounding may change a weight of this kind."""
    dtype, bits = KINDS[kind]
    if dtype == torch.float32:
        return np.zeros_like(x)
    name = str(dtype).removeprefix("torch.")
    lowest = 1 - reference.BIAS[name]
    exponent = np.maximum(np.frexp(np.abs(x) * (1 + 2.0**-8))[1] - 1, lowest)
    step = 2.0 ** (exponent - reference.DIGITS[name])
    if bits is None:
        return step * (1.0 if stochastic else 0.5)
    return step / (512 if bits == 24 else 2**14)


def check_step(p: Tensor, optimizer: Any, kind: str, *, slack: float) -> None:
    """Step once and hold everything against the reference; codes may be off by half a code and `slack`."""
    group, state = optimizer.param_groups[0], optimizer.state[p]
    rule = optimizer._rule_of(group)
    before = snapshot(p, optimizer)
    options = {"decoupled": optimizer.decoupled, **group}
    t = before["t"] + 1
    x, m, root = reference.step(rule, t, before["x"], before["g"], before["m"], before["root"], options)
    # What float32 may lose in the update: by its largest terms.
    drive = np.abs(before["g"]) + (0 if optimizer.decoupled else group["weight_decay"]) * np.abs(before["x"])
    sizes = [None if value is None else np.abs(value) for value in (before["m"], before["root"])]
    largest, largest_m, _ = reference.step(
        rule, t, 0 * before["x"], drive, *sizes, {**options, "maximize": False, "lr": abs(group["lr"])}
    )
    gradient = p.grad.clone()
    optimizer.step()
    assert torch.equal(p.grad, gradient)
    assert int(state["step"]) == t

    tolerance = 4e-7 * (np.abs(before["x"]) + np.abs(x)) + 4e-6 * np.abs(largest)
    tolerance = tolerance + last_places(x, kind, stochastic=group["stochastic_rounding"])
    error = np.abs(in_order(p, read_weight(p, state)) - x)
    if rule == "lion":  # where the sign is decided by rounding, either will do
        b1 = group["betas"][0]
        sign = -1 if group["maximize"] else 1
        mean, terms = b1 * before["m"] + (1 - b1) * sign * before["g"], b1 * sizes[0] + (1 - b1) * drive
        error = np.where(np.abs(mean) < 1e-5 * terms, 0, error)
    worst = int(np.argmax(error - tolerance)) if error.size else 0
    assert bool((error <= tolerance).all()), (worst, error[worst], tolerance[worst], x[worst])

    for (name, is_variance), exact in zip(MOMENTS[rule].items(), (m, root), strict=False):
        if not group["quantize"]:
            found = in_order(p, state[name])
            expected = exact**2 if is_variance else exact
            np.testing.assert_allclose(found, expected, rtol=2e-6, atol=0 if is_variance else 1e-6 * largest_m.max())
            continue
        codes, size = in_memory_order(state[codes_name(name)]).numpy().astype(float), group["group_size"]
        wanted, maxima = reference.exact_codes(exact, size, is_variance=is_variance)
        assert np.abs(codes - wanted).max() < 0.5 + slack, name
        d = reference.dither(t)
        for stored, s in zip(state[scales_name(name)].tolist(), maxima, strict=True):
            near = [reference.stored_scale(s * (1 + k * 1e-6), d) for k in (-1, 0, 1)]
            assert stored in near, (name, stored, near)


def contents(p: Tensor, optimizer: Any) -> dict[str, Tensor]:
    """The weight and every tensor of the state, copied."""
    tensors = {name: value for name, value in optimizer.state[p].items() if isinstance(value, Tensor)}
    return {name: value.detach().clone() for name, value in {"weight": p, **tensors}.items()}


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    """Equal bits; NaN is equal to NaN."""
    return one.keys() == two.keys() and all(
        a.dtype == b.dtype and torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(0), b.nan_to_num(0))
        for a, b in zip(one.values(), two.values(), strict=True)
    )
