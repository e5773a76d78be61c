from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from tests.optim.flash.checkpoints import (
    BF16,
    FP16,
    FP32,
    FP64,
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

from hasten.optim.flash import FlashAdamW, cast_model


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


# Round trips --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize(
    ("dtype", "bits", "quantize"),
    [(BF16, 24, True), (BF16, 32, True), (BF16, None, True), (BF16, 24, False), (FP16, 24, True), (FP16, 32, False),
     (FP16, None, False), (FP32, 24, True), (FP32, None, False)],
)  # fmt: skip
def test_the_next_hundred_steps_are_the_same(
    name: str, compress: bool, dtype: torch.dtype, bits: int | None, quantize: bool
) -> None:
    options = {"master_weight_bits": bits, "quantize": quantize, "compress_state_dict": compress}
    one = MAKERS[name](parameters(dtype), **options)
    train(one, 0, 7)
    stored, _ = on_disk({"weights": weights(one), "optimizer": one.state_dict()})
    for started in (0, 2):  # a fresh optimizer, and one that has stepped already
        two = MAKERS[name](parameters(dtype), **options)
        train(two, 50, started)
        with torch.no_grad():
            for p, value in zip(weights(two), stored["weights"], strict=True):
                p.copy_(value)
        two.load_state_dict(stored["optimizer"])
        assert same_bits(states(two), states(one))
        assert same_bits(two.state_dict(), one.state_dict())
    train(one, 7, 100)
    train(two, 7, 100)
    assert same_bits(weights(two), weights(one))
    assert same_bits(states(two), states(one)), "corrections and moments too"


def test_stochastic_rounding_goes_on_with_the_same_chances() -> None:
    options = {"master_weight_bits": None, "stochastic_rounding": True}
    one = MAKERS["AdamW"](parameters(), **options)
    train(one, 0, 3)
    two = MAKERS["AdamW"](copied(one.param_groups[0]["params"]), **options)
    two.load_state_dict(on_disk(one.state_dict())[0])
    train(one, 3, 20)
    train(two, 3, 20)
    assert same_bits(weights(two), weights(one))


def test_size_on_disk() -> None:
    model = nn.Sequential(*[nn.Linear(512, 512) for _ in range(4)]).to(BF16)
    optimizer = FlashAdamW(model.parameters())
    train(optimizer, 0, 1)
    size, count = on_disk({"model": model.state_dict(), "optimizer": optimizer.state_dict()})[1], 4 * (512 * 512 + 512)
    assert size / count <= 5.2, "2 of the weight, 1 of the correction, 2 * 1.0625 of the moments"


def test_before_the_first_step() -> None:
    one = FlashAdamW(parameters())
    assert one.state_dict()["state"] == {} == one.torch_state_dict()["state"]
    two = FlashAdamW(parameters())
    train(two, 0, 1)
    two.load_state_dict(on_disk(one.state_dict())[0])
    assert not any(states(two)), "loading the state of a fresh optimizer is starting again"


def test_what_is_loaded_is_a_copy() -> None:
    one, two = (FlashAdamW(parameters()) for _ in range(2))
    train(one, 0, 1)
    two.load_state_dict(one.state_dict())
    before = snapshot(one)
    train(two, 1, 1)
    assert same_bits(snapshot(one), before)


def test_groups_with_options_of_their_own() -> None:
    def make() -> FlashAdamW:
        own = parameters()
        return FlashAdamW(
            [{"params": own[:2], "lr": 1e-2, "master_weight_bits": 32},
             {"params": own[2:4], "quantize": False, "betas": (0.8, 0.9)},
             {"params": own[4:], "group_size": 64, "weight_decay": 0.0, "decouple_lr": True}],
        )  # fmt: skip

    one, two = make(), make()
    train(one, 0, 3)
    one.param_groups[0]["lr"] = 5e-3
    with torch.no_grad():
        for p, value in zip(weights(two), weights(one), strict=True):
            p.copy_(value)
    two.load_state_dict(on_disk(one.state_dict())[0])
    assert two.param_groups[0]["lr"] == 5e-3
    assert two.param_groups[2]["initial_lr"] == 1e-3
    train(one, 3, 20)
    train(two, 3, 20)
    assert same_bits(snapshot(two), snapshot(one))


def test_options_of_the_checkpoint_are_those_that_go_on() -> None:
    """As in torch: the saved groups replace the constructor's."""
    one, two = FlashAdamW(parameters(), master_weight_bits=32, quantize=False), FlashAdamW(parameters())
    train(one, 0, 2)
    two.load_state_dict(one.state_dict())
    train(two, 2, 1)
    assert two.state[two.param_groups[0]["params"][0]]["correction"].dtype == torch.int16


def test_scheduler_beside_it() -> None:
    def make(own: list[nn.Parameter]) -> tuple[FlashAdamW, Any]:
        optimizer = FlashAdamW(own, lr=1e-2, decouple_lr=True, weight_decay=1e-3)
        return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=50)

    def run(optimizer: FlashAdamW, scheduler: Any, start: int, steps: int) -> None:
        for step in range(start, start + steps):
            train(optimizer, step, 1)
            scheduler.step()

    one, plan = make(parameters())
    run(one, plan, 0, 10)
    stored, _ = on_disk({"optimizer": one.state_dict(), "plan": plan.state_dict()})
    two, other = make(copied(one.param_groups[0]["params"]))
    two.load_state_dict(stored["optimizer"])
    other.load_state_dict(stored["plan"])
    run(one, plan, 10, 30)
    run(two, other, 10, 30)
    assert same_bits(snapshot(two), snapshot(one))


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "save"])
def test_copies_of_the_whole_optimizer(how: str) -> None:
    one = FlashAdamW(parameters(), compress_state_dict=False, skip_nonfinite=True, backend="eager")
    train(one, 0, 3)
    if how == "deepcopy":
        two = copy.deepcopy(one)
    elif how == "pickle":
        two = pickle.loads(pickle.dumps(one))
    else:
        file = io.BytesIO()
        torch.save(one, file)
        file.seek(0)
        two = torch.load(file, weights_only=False)
    assert (two.backend, two.compress_state_dict, two.skip_nonfinite) == ("eager", False, True)
    train(one, 3, 5)
    train(two, 3, 5)
    assert same_bits(snapshot(two), snapshot(one))


def test_model_and_optimizer_copied_together_stay_together() -> None:
    model = nn.Linear(4, 3).to(BF16)
    optimizer = FlashAdamW(model.parameters())
    train(optimizer, 0, 1)
    other, twin = copy.deepcopy((model, optimizer))
    assert all(p is q for p, q in zip(other.parameters(), twin.param_groups[0]["params"], strict=True))


def test_tied_weights() -> None:
    def make() -> tuple[nn.Module, FlashAdamW]:
        torch.manual_seed(3)
        model = nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 9, bias=False)).to(BF16)
        model[1].weight = model[0].weight
        return model, FlashAdamW(model.parameters())

    (model, one), (other, two) = make(), make()
    train(one, 0, 3)
    stored, _ = on_disk({"model": model.state_dict(), "optimizer": one.state_dict()})
    whole = one.get_fp32_model_state_dict(model)
    assert same_bits(whole["0.weight"], whole["1.weight"])
    other.load_state_dict(stored["model"])
    two.load_state_dict(stored["optimizer"])
    train(one, 3, 3)
    train(two, 3, 3)
    assert same_bits(snapshot(two), snapshot(one))
    two.set_fp32_model_state_dict(other, one.get_fp32_model_state_dict(model))
    assert same_bits(snapshot(two), snapshot(one))


# Orders of memory ---------------------------------------------------------------------------------------------------


def images(channels_last: bool, shape: tuple[int, ...] = (8, 6, 3, 3)) -> nn.Parameter:
    value = torch.randn(shape, generator=torch.Generator().manual_seed(2)).to(BF16)
    return nn.Parameter(value.to(memory_format=torch.channels_last) if channels_last else value)


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("channels_last", [True, False])
def test_the_other_order_of_memory(channels_last: bool, compress: bool) -> None:
    one, two, three = (
        FlashAdamW([images(order)], compress_state_dict=compress)
        for order in (channels_last, not channels_last, channels_last)
    )
    train(one, 0, 5)
    stored, _ = on_disk(one.state_dict())
    for other in (two, three):
        with torch.no_grad():
            weights(other)[0].copy_(weights(one)[0])
        other.load_state_dict(stored)
    (left,), (right,), (third,) = states(one), states(two), states(three)
    assert same_bits(third, left)
    assert right["correction"].equal(left["correction"]), "by element, not by place in memory"
    assert right["correction"].stride() == right["exp_avg_codes"].stride() == weights(two)[0].stride()
    for name in ("exp_avg", "exp_avg_sq"):
        saved, got = (expanded_state(optimizer)[name] for optimizer in (one, two))
        assert (saved - got).abs().max() <= 0.02 * saved.abs().max(), "groups are others: encoded again"
    train(two, 5, 3)
    train(one, 5, 3)
    assert (join(two, 0) - join(one, 0)).abs().max() < 1e-3


def test_strides_of_single_elements_say_nothing() -> None:
    """A 1 x 1 kernel lies in memory alike in both formats, with other strides: nothing is lost."""
    one, two = (FlashAdamW([images(order, (8, 6, 1, 1))]) for order in (True, False))
    train(one, 0, 5)
    two.load_state_dict(one.state_dict())
    (left,), (right,) = states(one), states(two)
    assert left["correction"].stride() != right["correction"].stride() == weights(two)[0].stride()
    assert same_bits(right, left)


# Parameters that change between steps --------------------------------------------------------------------------------


@pytest.mark.parametrize("quantize", [True, False])
def test_another_memory_format_between_steps(quantize: bool) -> None:
    one, two = (FlashAdamW([images(False)], lr=1e-2, quantize=quantize) for _ in range(2))
    train(one, 0, 5)
    train(two, 0, 5)
    (own,) = two.param_groups[0]["params"]
    own.data = own.data.to(memory_format=torch.channels_last)
    train(one, 5, 1)
    train(two, 5, 1)
    assert two.state[own]["correction"].stride() == own.stride()
    difference = (join(one, 0) - join(two, 0)).abs().max()
    assert difference < 1e-3 if quantize else difference == 0, "each element keeps its own low bits and moments"


def test_a_cast_between_steps() -> None:
    for dtype in (FP16, FP32):
        optimizer = stepped()
        (first, *_) = optimizer.param_groups[0]["params"]
        first.data = first.data.to(dtype)
        before = snapshot(optimizer)
        with pytest.raises(TypeError, match="parameters of dtype bfloat16, which the low bits in the state belong to"):
            train(optimizer, 2, 1)
        assert same_bits(snapshot(optimizer), before)
    optimizer = stepped(FP32)
    for p in optimizer.param_groups[0]["params"]:
        p.data = p.data.to(BF16)
    train(optimizer, 2, 1)
    assert all("correction" in state for state in states(optimizer)), "from here on, nothing more is lost"


def test_options_changed_between_steps() -> None:
    one, two = MAKERS["SGD"](parameters()), torch.optim.SGD(parameters(), lr=1e-2, weight_decay=0.1)
    for optimizer in (one, two):
        train(optimizer, 0, 2)
        optimizer.param_groups[0]["momentum"] = 0.9
        train(optimizer, 2, 3)
    for mine, theirs in zip(weights(one), weights(two), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=2e-2, atol=2e-2)
    optimizer = stepped()
    optimizer.param_groups[0]["quantize"] = False
    train(optimizer, 2, 1)
    assert states(optimizer)[0]["exp_avg"].any()
    assert "exp_avg_codes" not in states(optimizer)[0]


# Models in float32 --------------------------------------------------------------------------------------------------


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Linear(7, 3)
        self.register_buffer("table", torch.randn(3, dtype=FP64))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.first(x).float()).to(x.dtype))


@pytest.mark.parametrize("dtype", [BF16, FP16])
@pytest.mark.parametrize("bits", [24, 32])
def test_whole_weights_in_and_out(dtype: torch.dtype, bits: int) -> None:
    whole = Model()
    wanted = copy.deepcopy(whole.state_dict())
    model = Model()
    cast_model(model, dtype)
    optimizer = FlashAdamW(model.parameters(), master_weight_bits=bits)
    optimizer.set_fp32_model_state_dict(model, wanted)
    got = optimizer.get_fp32_model_state_dict(model)
    assert list(got) == list(wanted)
    for name, value in got.items():
        assert value.dtype == wanted[name].dtype
        if bits == 32 or ("first" not in name and "last" not in name):
            assert same_bits(value, wanted[name])
        else:
            digits = 7 if dtype == BF16 else 10
            place = 2.0 ** (wanted[name].abs().log2().floor() - digits)
            assert bool(((value - wanted[name]).abs() <= place / 512).all())
    assert not got["first.weight"].requires_grad
    got["norm.weight"].zero_()
    assert model.norm.weight.all(), "a copy"


def test_the_first_step_starts_from_the_whole_weights() -> None:
    whole, model = nn.Linear(33, 17), nn.Linear(33, 17).to(BF16)
    one = FlashAdamW(whole.parameters(), lr=1e-5)
    two = FlashAdamW(model.parameters(), lr=1e-5, master_weight_bits=32)
    two.set_fp32_model_state_dict(model, whole.state_dict())
    for p, q in zip(whole.parameters(), model.parameters(), strict=True):
        q.grad = torch.randn_like(q)
        p.grad = q.grad.float()
    one.step()
    two.step()
    for name, value in two.get_fp32_model_state_dict(model).items():
        assert same_bits(value, whole.state_dict()[name])


def test_whole_weights_have_the_names_of_the_bare_model() -> None:
    model = nn.Sequential(nn.Linear(4, 3))
    whole = {name: value.clone() for name, value in model.state_dict().items()}
    cast_model(model)
    optimizer = FlashAdamW(model.parameters(), master_weight_bits=32)
    wrapped = torch.compile(nn.DataParallel(model))
    for names in (whole, dict(zip(wrapped.state_dict(), whole.values(), strict=True))):
        optimizer.set_fp32_model_state_dict(model, {name: torch.zeros_like(value) for name, value in whole.items()})
        optimizer.set_fp32_model_state_dict(wrapped, names)
        found = optimizer.get_fp32_model_state_dict(wrapped)
        assert found.keys() == whole.keys()
        assert all(torch.equal(found[name], value) for name, value in whole.items())


def test_frozen_weights_and_those_of_others_are_rounded_and_get_no_state() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)).to(BF16)
    model[1].requires_grad_(False)
    optimizer = FlashAdamW([*model[0].parameters(), *model[1].parameters()])
    wanted = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)).state_dict()
    optimizer.set_fp32_model_state_dict(model, wanted)
    assert set(map(id, optimizer.state)) == set(map(id, model[0].parameters()))
    got = optimizer.get_fp32_model_state_dict(model)
    for name in ("1.weight", "2.weight"):
        assert got[name].dtype == FP32
        assert same_bits(got[name], wanted[name].to(BF16).float())
    assert (got["0.weight"] - wanted["0.weight"]).abs().max() < 1e-4


def test_whole_weights_that_do_not_fit_change_nothing() -> None:
    model = Model()
    cast_model(model, BF16)
    optimizer = FlashAdamW(model.parameters())
    good = optimizer.get_fp32_model_state_dict(model)
    before = copy.deepcopy(model.state_dict())
    other = {name: value + 1 for name, value in good.items()}
    cases: list[tuple[Any, type[Exception], str]] = [
        ({k: v for k, v in other.items() if k != "last.bias"}, ValueError, r"missing \['last.bias'\], unknown \[\]"),
        ({**other, "more": torch.ones(1)}, ValueError, r"missing \[\], unknown \['more'\]"),
        ({**other, "last.bias": torch.ones(4)}, ValueError, r"last.bias of shape \(3,\), got Tensor of shape \(4,\)"),
        ({**other, "last.bias": [1.0, 2.0, 3.0]}, TypeError, "a tensor for last.bias"),
        ({**other, "last.bias": torch.ones(3, dtype=torch.int64)}, TypeError, "last.bias of a dtype like"),
    ]
    for case, error, match in cases:
        with pytest.raises(error, match=f"set_fp32_model_state_dict: expected.*{match}"):
            optimizer.set_fp32_model_state_dict(model, case)
        assert same_bits(dict(model.state_dict()), dict(before))
        assert not optimizer.state


class Counting(nn.Linear):
    count: Any = None

    def get_extra_state(self) -> Any:
        return self.count

    def set_extra_state(self, state: Any) -> None:
        self.count = state


def test_extra_state_comes_along() -> None:
    one, two = nn.Sequential(Counting(2, 2)), nn.Sequential(Counting(2, 2))
    one[0].count = {"seen": 3}
    optimizer = FlashAdamW(two.parameters())
    optimizer.set_fp32_model_state_dict(two, FlashAdamW(one.parameters()).get_fp32_model_state_dict(one))
    assert two[0].count == {"seen": 3}
    assert same_bits(two[0].weight.detach(), one[0].weight.detach())
