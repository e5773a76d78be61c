"""The state of a parameter: what is made, read, written and refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.optim.flash.cases import contents, prepared, randn, same
from torch import nn

from hasten.optim.flash import FlashAdamW, join_weight
from hasten.optim.flash.slots import (
    Slot,
    check_state,
    codes_name,
    correction_dtype,
    is_current,
    local,
    new_state,
    read_states,
    read_weight,
    scales_name,
    write_states,
    write_weight,
    zeros_for,
)


def group(**options: Any) -> dict[str, Any]:
    return {"master_weight_bits": 24, "quantize": True, "group_size": 32, "capturable": False, **options}


def tensors(state: dict[str, Any]) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    return {name: (x.dtype, tuple(x.shape)) for name, x in state.items() if isinstance(x, torch.Tensor)}


def test_new_states() -> None:
    p = torch.ones(5, 7, dtype=torch.bfloat16)
    step, shape = (torch.float32, ()), (5, 7)
    assert tensors(new_state(p, "adam", group())) == {
        "step": step, "correction": (torch.int8, shape), "exp_avg_codes": (torch.int8, shape),
        "exp_avg_scales": (torch.bfloat16, (2,)), "exp_avg_sq_codes": (torch.uint8, shape),
        "exp_avg_sq_scales": (torch.bfloat16, (2,)),
    }  # fmt: skip
    assert tensors(new_state(p, "momentum", group(quantize=False, master_weight_bits=32))) == {
        "step": step, "correction": (torch.int16, shape), "momentum_buffer": (torch.float32, shape),
    }  # fmt: skip
    assert tensors(new_state(p.float(), "lion", group(group_size=512))) == {
        "step": step, "exp_avg_codes": (torch.int8, shape), "exp_avg_scales": (torch.bfloat16, (1,)),
    }  # fmt: skip
    assert tensors(new_state(p, "plain", group(master_weight_bits=None))) == {"step": step}
    assert not any(x.any() for x in new_state(p, "adam", group()).values() if isinstance(x, torch.Tensor))


def test_which_parameters_have_a_correction() -> None:
    for dtype, bits, expected in (
        (torch.bfloat16, 24, torch.int8), (torch.float16, 32, torch.int16), (torch.bfloat16, None, None),
        (torch.float32, 24, None), (torch.float64, 32, None),
    ):  # fmt: skip
        assert correction_dtype(torch.zeros(1, dtype=dtype), group(master_weight_bits=bits)) == expected


def test_states_lie_in_memory_as_the_parameter_does() -> None:
    base = torch.zeros(8, 6, dtype=torch.bfloat16)
    assert zeros_for(base.t(), torch.int8).stride() == (1, 6)
    channels = torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last)
    assert zeros_for(channels, torch.int8).stride() == channels.stride()
    gaps = base[:, ::2].t()
    assert zeros_for(gaps, torch.float32).is_contiguous(), "where there are gaps, in the order of the elements"
    p = nn.Parameter(base)
    assert not zeros_for(p, torch.bfloat16).requires_grad


@pytest.mark.parametrize("rule", ["adam", "momentum", "lion", "plain"])
def test_states_are_read_as_they_were_written(rule: str) -> None:
    p = torch.zeros(5, 7, dtype=torch.bfloat16)
    for options in (group(), group(quantize=False), group(group_size=64)):
        state = new_state(p, rule, options)
        names = list(read_states(state, rule, options["group_size"]))
        values = {name: randn(5, 7, seed=i).square() for i, name in enumerate(names)}
        write_states(state, rule, values, options)
        back = read_states(state, rule, options["group_size"])
        assert list(back) == names
        for name, value in back.items():
            if options["quantize"]:
                assert codes_name(name) in state
                assert scales_name(name) in state
                assert float((value - values[name]).square().sum() / values[name].square().sum()) < 1e-3
            else:
                assert torch.equal(value, values[name])
        write_states(state, rule, back, options)
        again = read_states(state, rule, options["group_size"])
        assert all(torch.equal(again[name], back[name]) for name in names)
        check_state("Optimizer", p, state, options, rule)


def test_weights_are_read_as_they_were_written() -> None:
    x = randn(40, seed=0)
    for dtype in (torch.bfloat16, torch.float16):
        p = nn.Parameter(torch.zeros(40, dtype=dtype))
        state = new_state(p, "plain", group(master_weight_bits=32))
        write_weight(p, state, x)
        torch.testing.assert_close(read_weight(p, state), x, rtol=2.0**-22, atol=0)
        assert torch.equal(read_weight(p, state), join_weight(p.detach(), state["correction"]))
        bare = new_state(p, "plain", group(master_weight_bits=None))
        write_weight(p, bare, x)
        assert torch.equal(p.detach(), x.to(dtype))
        write_weight(p, bare, x, salt=1)
        assert not torch.equal(p.detach(), x.to(dtype)), "some are rounded away from the nearest"
        assert torch.equal(read_weight(p, bare), p.detach().float())
    wide = nn.Parameter(torch.zeros(40, dtype=torch.float64))
    write_weight(wide, {}, x.double())
    assert read_weight(wide, {}).dtype == torch.float64
    assert read_weight(wide, {}).data_ptr() != wide.data_ptr()


def test_a_state_that_does_not_fit_is_refused() -> None:
    p = torch.zeros(40, dtype=torch.bfloat16)
    changes: list[tuple[str, Any]] = [
        ("correction", torch.zeros(40, dtype=torch.int16)), ("correction", torch.zeros(39, dtype=torch.int8)),
        ("exp_avg_codes", torch.zeros(40, dtype=torch.uint8)), ("exp_avg_codes", torch.zeros(41, dtype=torch.int8)),
        ("exp_avg_scales", torch.zeros(1, dtype=torch.bfloat16)), ("exp_avg_scales", torch.zeros(2)),
        ("exp_avg_sq_codes", torch.zeros(40, dtype=torch.int8)), ("exp_avg_sq_scales", None),
    ]  # fmt: skip
    for name, value in changes:
        state = {**new_state(p, "adam", group()), name: value}
        with pytest.raises(ValueError, match=f"Optimizer: expected {name} of shape"):
            check_state("Optimizer", p, state, group(), "adam")
    with pytest.raises(TypeError, match=r"parameters of dtype bfloat16, .*low bits.*, got .*float16"):
        check_state("Optimizer", p.half(), new_state(p, "adam", group()), group(), "adam")
    check_state("Optimizer", p, new_state(p, "adam", group()), group(), "adam")


def test_every_tensor_of_a_state_is_looked_at_before_a_step() -> None:
    p = torch.zeros(40, 2, dtype=torch.bfloat16)
    changes: list[tuple[str, Any]] = [
        ("step", 5), ("step", torch.zeros((), dtype=torch.int64)), ("step", torch.zeros(2)),
        ("correction", torch.zeros(39, 2, dtype=torch.int8)), ("correction", torch.zeros(2, 40, dtype=torch.int8).t()),
        ("exp_avg_codes", torch.zeros(39, 2, dtype=torch.int8)), ("exp_avg_codes", torch.zeros(40, 2)),
        ("exp_avg_codes", None), ("exp_avg_codes", torch.zeros(40, 2, dtype=torch.int8, device="meta")),
        ("exp_avg_sq_codes", torch.zeros(1, 2, dtype=torch.uint8)),
        ("exp_avg_scales", torch.zeros(2, dtype=torch.bfloat16)), ("exp_avg_scales", torch.zeros(3)),
        ("exp_avg_sq_scales", torch.zeros(6, dtype=torch.bfloat16)[::2]), ("exp_avg_sq_scales", None),
        ("exp_avg_sq_scales", torch.zeros(3, dtype=torch.bfloat16, device="meta")), ("weight_digits", 10),
    ]  # fmt: skip
    assert is_current(p, new_state(p, "adam", group()), group(), "adam")
    for name, value in changes:
        assert not is_current(p, {**new_state(p, "adam", group()), name: value}, group(), "adam"), (name, value)
    state = new_state(p, "adam", group())
    assert not is_current(p, state, group(group_size=64), "adam")
    assert not is_current(torch.zeros(41, 2, dtype=torch.bfloat16), state, group(), "adam")
    plain = group(quantize=False)
    assert is_current(p, new_state(p, "adam", plain), plain, "adam")
    assert not is_current(p, {**new_state(p, "adam", plain), "exp_avg_sq": torch.zeros(39, 2)}, plain, "adam")
    gaps = torch.zeros(40, 4, dtype=torch.bfloat16)[:, ::2]
    assert is_current(gaps, new_state(gaps, "adam", group()), group(), "adam")


@pytest.mark.parametrize("backend", ["auto", "eager"])
def test_a_parameter_of_another_size_or_a_state_of_other_groups_is_refused_before_anything_is_written(
    backend: str,
) -> None:
    for resized in (torch.zeros(3000, 2), torch.zeros(3, 2)):
        p, optimizer = prepared("bf16c8", "adam", shape=(40, 2), backend=backend)
        optimizer.step()
        p.grad = None
        p.data = resized.bfloat16()
        p.grad = torch.ones_like(p)
        with pytest.raises(
            ValueError, match=r"expected exp_avg_codes of shape \(\d+, 2\).*got Tensor of shape \(40, 2\)"
        ):
            optimizer.step()
        assert torch.equal(p.detach(), resized.bfloat16())
    for before, after in ((32, 256), (256, 32)):
        p, optimizer = prepared("bf16c8", "adam", backend=backend, group_size=before)
        optimizer.step()
        optimizer.param_groups[0]["group_size"] = after
        with pytest.raises(ValueError, match="expected exp_avg_scales of shape"):
            optimizer.step()


def test_what_can_be_set_right_in_a_state_is_set_right() -> None:
    p, optimizer = prepared("bf16c8", "adam", t=3)
    q, other = prepared("bf16c8", "adam", t=3)
    state = other.state[q]
    for name in ("exp_avg_scales", "exp_avg_sq_scales"):
        apart = torch.empty(2 * len(state[name]), dtype=torch.bfloat16)[::2]
        state[name] = apart.copy_(state[name])
    state["step"] = 3
    optimizer.step()
    other.step()
    assert same(contents(p, optimizer), contents(q, other))


def test_a_slot_steps_the_local_shard() -> None:
    p = nn.Parameter(torch.ones(3))
    slot = Slot(p, torch.ones(3), {}, {}, {}, "plain", 0)
    assert slot.parameter is p
    assert local(p) is p


def test_counters() -> None:
    p, optimizer = prepared("bf16c8", "adam", t=0)
    for expected in (1, 2, 3):
        optimizer.step()
        assert optimizer.state[p]["step"].item() == expected
    assert optimizer.state[p]["step"].device.type == "cpu"
    q = nn.Parameter(torch.ones(3))
    q.grad = torch.ones(3)
    FlashAdamW([q], capturable=True).step()
