"""States that another optimizer wrote, torch's or the published package's, and those that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.optim.flash.checkpoints import (
    BF16,
    FP16,
    FP32,
    MAKERS,
    copied,
    expanded_state,
    join,
    on_disk,
    parameters,
    same_bits,
    snapshot,
    states,
    stepped,
    train,
    weights,
)
from torch import Tensor, nn

from hasten.optim.flash import FlashAdam, FlashAdamW, FlashSGD, compute_ecc_bits
from hasten.optim.flash.companding import encode_momentum, encode_variance


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


# torch.optim --------------------------------------------------------------------------------------------------------

PAIRS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "AdamW": (lambda p: torch.optim.AdamW(p, lr=1e-3), lambda p, **o: FlashAdamW(p, **o)),
    "Adam": (lambda p: torch.optim.Adam(p, lr=1e-3, weight_decay=0.1), lambda p, **o: FlashAdam(p, **o)),
    "momentum": (
        lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, dampening=0.3),
        lambda p, **o: FlashSGD(p, momentum=0.5, **o),
    ),
    "SGD": (lambda p: torch.optim.SGD(p, lr=1e-2), lambda p, **o: FlashSGD(p, **o)),
}


@pytest.mark.parametrize("quantize", [False, True])
@pytest.mark.parametrize("name", PAIRS)
def test_from_torch_and_back(name: str, quantize: bool) -> None:
    theirs, ours = PAIRS[name]
    one = theirs(parameters(FP32))
    train(one, 0, 5)
    two = ours(copied(one.param_groups[0]["params"]), quantize=quantize)
    loaded = on_disk(one.state_dict())[0]
    if not quantize:
        for group in loaded["param_groups"]:
            group["quantize"] = False
    two.load_state_dict(loaded)
    three = theirs(copied(one.param_groups[0]["params"]))
    three.load_state_dict(on_disk(two.torch_state_dict())[0])
    for optimizer in (one, two, three):
        train(optimizer, 5, 5)
    close = {"rtol": 1e-5, "atol": 1e-6} if not quantize else {"rtol": 1e-2, "atol": 5e-4}
    for reference, here, back in zip(weights(one), weights(two), weights(three), strict=True):
        torch.testing.assert_close(here, reference, **close)
        torch.testing.assert_close(back, reference, **close)
    assert one.state_dict()["param_groups"] == three.state_dict()["param_groups"]
    if not quantize:
        assert same_bits(on_disk(two.torch_state_dict())[0]["param_groups"], three.state_dict()["param_groups"])


def test_the_uncompressed_form_loads_into_torch() -> None:
    one = FlashAdamW(parameters(), compress_state_dict=False)
    train(one, 0, 3)
    two = torch.optim.AdamW(copied(one.param_groups[0]["params"]))
    two.load_state_dict(on_disk(one.state_dict())[0])
    train(two, 3, 1)
    assert int(two.state[two.param_groups[0]["params"][0]]["step"]) == 4


def test_states_of_torch_at_16_bits() -> None:
    one = torch.optim.AdamW(parameters(BF16))
    train(one, 0, 5)
    two = FlashAdamW(copied(one.param_groups[0]["params"]))
    two.load_state_dict(one.state_dict())
    assert not any(state["correction"].any() for state in states(two)), "torch remembers no low bits"
    expected = [one.state[p]["exp_avg"].float() for p in one.param_groups[0]["params"]]
    for index, value in enumerate(expected):
        limit = value.abs().max() * 0.01 if value.numel() else 0.0
        assert bool(((expanded_state(two, index)["exp_avg"] - value).abs() <= limit).all())


def test_dampening_after_a_state_of_torch() -> None:
    """torch's SGD counts no steps; only a first step takes the whole gradient."""
    one = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.5, dampening=0.5)
    train(one, 0, 1)
    two = FlashSGD([nn.Parameter(one.param_groups[0]["params"][0].detach().clone())], momentum=0.5, quantize=False)
    two.load_state_dict(one.state_dict())
    train(one, 1, 1)
    train(two, 1, 1)
    torch.testing.assert_close(weights(two), weights(one))


def test_states_of_old_and_unstarted_torch() -> None:
    two = FlashAdamW(parameters(FP32, [(3,)]))
    stored = torch.optim.AdamW(parameters(FP32, [(3,)])).state_dict()
    stored["state"] = {0: {"step": 7, "exp_avg": torch.ones(3), "exp_avg_sq": torch.ones(3)}}
    two.load_state_dict(stored)
    (state,) = states(two)
    assert same_bits(state["step"], torch.tensor(7.0))
    sgd = FlashSGD(parameters(FP32, [(3,)]), momentum=0.9)
    stored = torch.optim.SGD(parameters(FP32, [(3,)]), momentum=0.9).state_dict()
    stored["state"] = {0: {"momentum_buffer": None}}
    sgd.load_state_dict(stored)
    train(sgd, 0, 1)
    assert int(states(sgd)[0]["step"]) == 1


def test_torch_has_no_such_optimizer() -> None:
    for make in (MAKERS["Lion"], MAKERS["SGDW"]):
        with pytest.raises(ValueError, match=r"torch_state_dict: expected an optimizer that torch has.*state_dict\(\)"):
            make(parameters()).torch_state_dict()


def test_decoupled_decay_means_the_same_to_torch() -> None:
    one = FlashAdamW(parameters(FP32), lr=1e-2, weight_decay=1e-3, decouple_lr=True, quantize=False)
    train(one, 0, 1)
    one.param_groups[0]["lr"] = 5e-3  # a scheduler's
    two = torch.optim.AdamW(copied(one.param_groups[0]["params"]))
    two.load_state_dict(one.torch_state_dict())  # and shares no buffer with it
    train(one, 1, 3)
    train(two, 1, 3)
    torch.testing.assert_close(weights(two), weights(one), rtol=1e-5, atol=1e-6)


# Refusals -----------------------------------------------------------------------------------------------------------


def refused(stored: Any, match: str, two: Any, error: type[Exception] = ValueError) -> None:
    before = snapshot(two)
    with pytest.raises(error, match=match):
        two.load_state_dict(stored)
    assert same_bits(snapshot(two), before), "an optimizer that refuses is as it was"
    train(two, 90, 1)


@pytest.mark.parametrize(("saved", "now"), [(BF16, FP16), (FP16, BF16), (BF16, FP32), (FP16, FP32)])
def test_another_dtype_is_an_error(saved: torch.dtype, now: torch.dtype) -> None:
    names = [str(dtype).removeprefix("torch.") for dtype in (saved, now)]
    match = f"FlashAdamW: expected parameters of dtype {names[0]}.*got {names[1]}. Cast the model to {names[0]},"
    for compress in (True, False):
        refused(stepped(saved, compress_state_dict=compress).state_dict(), match, stepped(now), TypeError)


def test_states_without_low_bits_fit_any_dtype() -> None:
    two = stepped(BF16)
    two.load_state_dict(stepped(FP32).state_dict())
    assert not states(two)[0]["correction"].any()


def change(stored: dict[str, Any], **entries: Any) -> dict[str, Any]:
    """The third parameter's state, with these entries instead (a function of the former); None leaves one out."""
    state = {**stored["state"][2]}
    for name, new in entries.items():
        value = new(state[name]) if callable(new) else new
        state.pop(name, None)
        if value is not None:
            state[name] = value
    return {**stored, "state": {**stored["state"], 2: state}}


def options(stored: dict[str, Any], **changed: Any) -> dict[str, Any]:
    return {**stored, "param_groups": [{**group, **changed} for group in stored["param_groups"]]}


def test_what_does_not_fit_changes_nothing() -> None:
    stored, plain = stepped().state_dict(), stepped(quantize=False).state_dict()
    cut, gone = (lambda value: value[:-1]), (lambda value: None)
    cases = [
        (change(stored, exp_avg_codes=cut), r"exp_avg_codes of shape \(33, 17\) and dtype torch.int8, got Tensor of"),
        (change(stored, exp_avg_codes=lambda v: v.float()), "dtype torch.int8, got .*float32"),
        (change(stored, exp_avg_sq_scales=cut), r"exp_avg_sq_scales of shape \(18,\)"),
        (change(stored, exp_avg_sq_scales=lambda v: v.half()), "dtype torch.bfloat16, got .*float16"),
        (change(stored, exp_avg_scales=gone), r"exp_avg_scales of shape \(18,\).*got none"),
        (change(stored, exp_avg_codes=gone), r"exp_avg_codes of shape \(33, 17\).*got none"),
        (change(stored, exp_avg_codes=gone, exp_avg_scales=gone), "got one without exp_avg"),
        (change(stored, step=gone), "a state with step"),
        (change(stored, correction=cut), r"correction of shape \(33, 17\)"),
        (change(stored, correction=lambda v: v.float()), "dtype torch.int8, got .*float32"),
        (change(stored, correction=gone), "correction and weight_digits, or neither"),
        (change(stored, weight_digits=gone), "correction and weight_digits, or neither"),
        (change(stored, max_exp_avg_sq=torch.ones(33, 17)), "got max_exp_avg_sq. Load a state of this kind"),
        (change(plain, exp_avg=cut), r"exp_avg of shape \(33, 17\)"),
        (change(plain, exp_avg=gone), "got one without exp_avg"),
        ({**stored, "param_groups": []}, "different number of parameter groups"),
        (options(stored, lr=-1.0), "lr"),
        (options(stored, group_size=33), "group_size among"),
        (options(stored, group_size=64), r"expected exp_avg_scales of shape \(1,\)"),
        (options(stored, master_weight_bits=None), "no correction with master_weight_bits=None"),
        (options(stored, master_weight_bits=32), "dtype torch.int16, got .*int8"),
    ]  # fmt: skip
    for case, match in cases:
        refused(case, match, stepped())
        refused(case, match, FlashAdamW(parameters()))


def test_other_kinds_of_optimizers() -> None:
    refused(
        MAKERS["Lion"](parameters()).state_dict() | {"state": {0: {"exp_avg": torch.ones(7, 5)}}}, "step", stepped()
    )
    moving = MAKERS["momentum"](parameters())
    train(moving, 0, 1)
    refused(moving.state_dict(), "a state of exp_avg, exp_avg_sq, got momentum_buffer", stepped())
    amsgrad = torch.optim.AdamW(parameters(), amsgrad=True)
    refused(amsgrad.state_dict(), "FlashAdamW: expected amsgrad=False, got True. Use torch.optim", stepped())
    train(amsgrad, 0, 1)
    refused(amsgrad.state_dict(), "FlashAdamW: expected amsgrad=False, got True. Use torch.optim", stepped())
    coupled = torch.optim.Adam(parameters(), weight_decay=0.1)
    refused(coupled.state_dict(), "expected decoupled_weight_decay=True, got False. Use FlashAdam", stepped())
    decoupled, adam = torch.optim.AdamW(parameters()), FlashAdam(parameters())
    refused(decoupled.state_dict(), "expected decoupled_weight_decay=False, got True. Use FlashAdam", adam)


# The published package ----------------------------------------------------------------------------------------------


def published(whole: Tensor, m: Tensor, v: Tensor, *, bytewidth: int) -> dict[str, Any]:
    """A state as the package `flashoptim` writes it: float16 scales, corrections in the dtype of the weight."""
    narrow = whole.to(BF16)
    bits = compute_ecc_bits(whole, narrow, bytewidth)
    state: dict[str, Any] = {"step": torch.tensor(3.0)}
    state["error_bits"] = bits.to(BF16) if bytewidth == 3 else bits.view(BF16)
    for name, (codes, scales) in {"exp_avg": encode_momentum(m), "exp_avg_sq": encode_variance(v)}.items():
        state |= {f"{name}::quantized": codes, f"{name}::scales": scales.half()}
    return state


@pytest.mark.parametrize("bytewidth", [3, 4])
def test_published_states(bytewidth: int) -> None:
    whole, m = torch.randn(33, 17), torch.randn(33, 17)
    state = published(whole, m, m.square(), bytewidth=bytewidth)
    own = nn.Parameter(whole.to(BF16))
    optimizer = FlashAdamW([own])
    group = {"lr": 1e-3, "initial_lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01,
             "master_bytewidth": bytewidth, "quantize": True, "params": [0]}  # fmt: skip
    stored, _ = on_disk({"state": {0: state}, "param_groups": [group]})
    optimizer.load_state_dict(stored)
    assert optimizer.param_groups[0]["master_weight_bits"] == (24 if bytewidth == 3 else 32)
    place = 2.0 ** (whole.abs().log2().floor() - 7)
    assert bool(((join(optimizer, 0) - whole).abs() <= place * (1 / 250 if bytewidth == 3 else 1e-4)).all())
    moments = expanded_state(optimizer)
    assert (moments["exp_avg"] - m).abs().max() < 0.02 * m.abs().max()
    train(optimizer, 3, 2)
    assert int(optimizer.state[own]["step"]) == 5


def test_a_published_state_that_does_not_fit_leaves_the_weights_alone() -> None:
    whole = torch.ones(4, 3)
    good = published(whole, whole, whole, bytewidth=3)
    good["error_bits"] = torch.full((4, 3), 127, dtype=torch.int8)  # half a place up, which we round to the next weight
    bad = {**good, "exp_avg::scales": torch.ones(5, dtype=FP16)}
    two = FlashAdamW([nn.Parameter(torch.ones(4, 3, dtype=BF16)) for _ in range(2)], lr=1e-5)
    train(two, 0, 1)
    stored = two.state_dict() | {"state": {0: good, 1: bad}}
    refused(stored, "12 codes and 5 scales", two)
    two.load_state_dict({**stored, "state": {0: good}})
    assert bool((weights(two)[0] == 1 + 2**-7).all())
