"""The table of the native step is reused only while everything is where it was; whatever differs is seen."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hasten._native import ext
from hasten.optim.flash import FlashAdamW, FlashSGD
from hasten.optim.flash.plan import Plan

pytestmark = pytest.mark.skipif(ext is None, reason="no compiled module")

SHAPES = ((40, 3), (513,), (7,), (8, 8))


def made(**options: Any) -> tuple[list[nn.Parameter], FlashAdamW]:
    generator = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape, generator=generator).bfloat16()) for shape in SHAPES]
    groups = [{"params": parameters[:2]}, {"params": parameters[2:], "lr": 1e-2}]
    return parameters, FlashAdamW(groups, **options)


def gradients(parameters: list[nn.Parameter], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)


def contents(parameters: list[nn.Parameter], optimizer: FlashAdamW) -> list[Any]:
    values: list[Any] = [p.detach().clone() for p in parameters]
    for parameter in parameters:
        values += [v.clone() if isinstance(v, Tensor) else v for v in optimizer.state[parameter].values()]
    return values


def same(one: list[Any], two: list[Any]) -> bool:
    return all(torch.equal(a, b) if isinstance(a, Tensor) else a == b for a, b in zip(one, two, strict=True))


def count_reuse(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    found: list[bool] = []
    real = Plan.step

    def step(self: Plan, *args: Any) -> bool:
        found.append(real(self, *args))
        return found[-1]

    monkeypatch.setattr(Plan, "step", step)
    return found


def test_steps_reuse_the_table_and_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    reused = count_reuse(monkeypatch)
    parameters, optimizer = made()
    others, fresh = made()
    for seed in range(6):
        gradients(parameters, seed)
        gradients(others, seed)
        optimizer.step()
        fresh.__dict__.pop("_plan", None)
        fresh.step()
    assert reused == [True] * 5
    assert same(contents(parameters, optimizer), contents(others, fresh))


def _new_memory(parameters: list[nn.Parameter], optimizer: FlashAdamW) -> None:
    parameters[0].data = parameters[0].data.clone()


def _fewer(parameters: list[nn.Parameter], optimizer: FlashAdamW) -> None:
    parameters[1].grad = None


def _other_strides(parameters: list[nn.Parameter], optimizer: FlashAdamW) -> None:
    assert parameters[0].grad is not None
    parameters[0].grad = parameters[0].grad.t().contiguous().t()


def _state_replaced(parameters: list[nn.Parameter], optimizer: FlashAdamW) -> None:
    optimizer.state[parameters[0]] = copy.deepcopy(optimizer.state[parameters[0]])


def _tensor_replaced(parameters: list[nn.Parameter], optimizer: FlashAdamW) -> None:
    state = optimizer.state[parameters[0]]
    state["exp_avg_codes"] = state["exp_avg_codes"].clone()


def _loaded(parameters: list[nn.Parameter], optimizer: FlashAdamW) -> None:
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))


def _eager(parameters: list[nn.Parameter], optimizer: FlashAdamW) -> None:
    optimizer.backend = "eager"


def _careful(parameters: list[nn.Parameter], optimizer: FlashAdamW) -> None:
    optimizer.skip_nonfinite = True


def _another_parameter(parameters: list[nn.Parameter], optimizer: FlashAdamW) -> None:
    extra = nn.Parameter(torch.ones(5).bfloat16())
    extra.grad = torch.ones_like(extra)
    optimizer.add_param_group({"params": [extra]})


def _state_shared(parameters: list[nn.Parameter], optimizer: FlashAdamW) -> None:
    for value in optimizer.state[
        parameters[0]
    ].values():  # as a queue to another process does: new memory, same objects
        if isinstance(value, Tensor):
            value.share_memory_()


def _new_memory_of_a_state(parameters: list[nn.Parameter], optimizer: FlashAdamW) -> None:
    codes = optimizer.state[parameters[1]]["exp_avg_sq_codes"]
    codes.data = codes.data.clone()


def _member_replaced(parameters: list[nn.Parameter], optimizer: FlashAdamW) -> None:
    gradient = parameters[0].grad
    parameters[0] = nn.Parameter(parameters[0].detach().clone())
    parameters[0].grad = gradient
    optimizer.param_groups[0]["params"][0] = parameters[0]


def _member_appended(parameters: list[nn.Parameter], optimizer: FlashAdamW) -> None:
    parameters.append(nn.Parameter(torch.ones(5).bfloat16()))
    parameters[-1].grad = torch.ones(5).bfloat16()
    optimizer.param_groups[1]["params"].append(parameters[-1])


def _group_replaced(parameters: list[nn.Parameter], optimizer: FlashAdamW) -> None:
    optimizer.param_groups[0] = {**optimizer.param_groups[0], "lr": 0.5}


def _negative_view(parameters: list[nn.Parameter], optimizer: FlashAdamW) -> None:
    gradient = parameters[1].grad
    assert gradient is not None
    parameters[1].grad = torch._neg_view(-gradient)


def _turned(parameters: list[nn.Parameter], optimizer: FlashAdamW) -> None:
    parameters[3].data = parameters[3].data.t()  # its gradient stays as it lies


CHANGES = [_new_memory, _fewer, _other_strides, _state_replaced, _tensor_replaced, _loaded, _eager, _careful,
           _another_parameter, _state_shared, _new_memory_of_a_state, _member_replaced, _member_appended,
           _group_replaced, _negative_view, _turned]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__.lstrip("_"))
def test_what_differs_is_seen(change: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for keeps in (True, False):
        reused = count_reuse(monkeypatch)
        parameters, optimizer = made()
        for seed in range(2):
            gradients(parameters, seed)
            optimizer.step()
        gradients(parameters, 2)
        change(parameters, optimizer)
        if not keeps:
            optimizer.__dict__.pop("_plan", None)
        optimizer.step()
        assert reused[1:] in ([], [False])
        results.append(contents(parameters, optimizer))
    assert same(*results)


def test_members_that_are_exchanged_are_the_ones_that_move() -> None:
    parameters, optimizer = made()
    old = parameters[0]
    for seed in range(2):
        gradients(parameters, seed)
        optimizer.step()
    _member_replaced(parameters, optimizer)
    before = [old.detach().clone(), parameters[0].detach().clone()]
    old.grad = torch.ones_like(old)
    optimizer.step()
    assert torch.equal(old, before[0])
    assert not torch.equal(parameters[0], before[1])


def test_states_that_are_shared_with_a_process_go_on() -> None:
    parameters, optimizer = made()
    for seed in range(4):
        gradients(parameters, seed)
        optimizer.step()
        _state_shared(parameters, optimizer)
    assert float(optimizer.state[parameters[0]]["step"]) == 4.0


def test_options_of_a_group_count_at_once() -> None:
    parameters, optimizer = made(weight_decay=0.0)
    gradients(parameters, 0)
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.0
    before = [p.detach().clone() for p in parameters]
    gradients(parameters, 1)
    optimizer.step()
    moved = [not torch.equal(a, p) for a, p in zip(before, parameters, strict=True)]
    assert moved == [False, False, True, True]


def test_a_silent_parameter_is_noticed_when_it_speaks() -> None:
    parameters, optimizer = made()
    for seed in range(2):
        gradients(parameters, seed)
        parameters[2].grad = None
        optimizer.step()
    assert parameters[2] not in optimizer.state
    gradients(parameters, 3)
    optimizer.step()
    assert float(optimizer.state[parameters[2]]["step"]) == 1.0


def test_copies_of_an_optimizer_have_no_table_of_the_first() -> None:
    parameters, optimizer = made()
    gradients(parameters, 0)
    optimizer.step()
    assert isinstance(optimizer.__dict__["_plan"], Plan)
    assert "_plan" not in copy.deepcopy(optimizer).__dict__


def test_a_group_that_begins_to_have_momentum_gets_another_table() -> None:
    parameter = nn.Parameter(torch.ones(64).bfloat16())
    optimizer = FlashSGD([parameter], lr=0.1)
    for momentum in (0.0, 0.0, 0.9, 0.9):
        optimizer.param_groups[0]["momentum"] = momentum
        parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    assert "momentum_buffer_codes" in optimizer.state[parameter]
