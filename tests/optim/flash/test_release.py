from __future__ import annotations

import copy
import gc
import pickle
import warnings
import weakref

import pytest
import torch
from tests.optim.flash.releasing import StepwiseSGD, data, equal, gradients, make, network, train, twins, weights
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau
from torch.utils.checkpoint import checkpoint as checkpointed

from hasten.optim import EMA
from hasten.optim.flash.cast import cast_model
from hasten.optim.flash.release import GradientRelease, enable_gradient_release


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


# The same training --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equals_the_plain_loop_bit_for_bit(dtype: torch.dtype) -> None:
    one, two = twins()
    plain, released = make(one.to(dtype)), make(two.to(dtype))
    enable_gradient_release(two, released)
    for step in range(4):
        for model, optimizer in ((one, plain), (two, released)):
            optimizer.zero_grad()
            model(data(step).to(dtype)).square().mean().backward()
            optimizer.step()
        assert equal(weights(one), weights(two))
        assert gradients(two) == [None] * 6
    for p, q in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(plain.state[p]["momentum_buffer"], released.state[q]["momentum_buffer"])


def test_equals_the_plain_loop_on_a_cast_model() -> None:
    one, two = twins()
    for model in (one, two):
        cast_model(model, full_precision_layers="4")
    optimizer = make(two)
    with enable_gradient_release(two, optimizer):
        for step in range(3):
            two(data(step).bfloat16()).square().mean().backward()
    plain = make(one)
    for step in range(3):
        plain.zero_grad()
        one(data(step).bfloat16()).square().mean().backward()
        plain.step()
    assert equal(weights(one), weights(two))


def test_step_is_not_needed_but_runs_its_hooks() -> None:
    one, two = twins()
    expected = train(one, make(one))
    optimizer, calls = make(two), []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    enable_gradient_release(two, optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert equal(train(two, optimizer), expected)
    assert calls == ["before", "after"] * 4
    assert optimizer.step() is None


def test_a_closure_is_run_and_its_loss_returned() -> None:
    one, two = twins()
    losses = []
    for model, release in ((one, False), (two, True)):
        optimizer = make(model)
        if release:
            enable_gradient_release(model, optimizer)

        def closure(model: nn.Module = model, optimizer: StepwiseSGD = optimizer) -> Tensor:
            optimizer.zero_grad()
            loss = model(data()).square().mean()
            loss.backward()
            return loss

        losses.append([optimizer.step(closure).item() for _ in range(3)])
    assert losses[0] == losses[1]
    assert losses[0][0] > losses[0][-1]
    assert equal(weights(one), weights(two))


@pytest.mark.parametrize("first", ["scheduler", "release"])
def test_schedulers(first: str) -> None:
    one, two = twins()
    results = []
    for model, release in ((one, False), (two, True)):
        optimizer, rate = make(model), lambda step: 1 / (1 + step)
        if release and first == "release":
            handle = enable_gradient_release(model, optimizer)
        schedulers = [LambdaLR(optimizer, rate), ReduceLROnPlateau(optimizer, patience=0)]
        if release and first == "scheduler":
            handle = enable_gradient_release(model, optimizer)
        rates = []
        for step in range(4):  # a warning of LambdaLR ("call optimizer.step() first") would be an error here
            train(model, optimizer, range(step, step + 1))
            schedulers[0].step()
            schedulers[1].step(1.0)
            rates.append(optimizer.param_groups[0]["lr"])
        results.append(rates)
        if release:
            handle.remove()
            train(model, optimizer, range(4, 5))
        else:
            train(model, optimizer, range(4, 5))
    assert results[0] == results[1]
    assert equal(weights(one), weights(two))


def test_tied_weights_are_stepped_once_after_all_contributions() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.middle, self.head = nn.Embedding(5, 4), nn.Linear(4, 4), nn.Linear(4, 5, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.middle(self.embed(x)).tanh())

    one = Tied()
    two = copy.deepcopy(one)
    plain, released, stepped = make(one), make(two), []
    enable_gradient_release(two, released, pre_step=lambda p, _: stepped.append(p) or True)
    for model, optimizer in ((one, plain), (two, released)):
        model(torch.arange(5)).square().mean().backward()
        optimizer.step()
    assert len(stepped) == 3
    assert sum(p is two.embed.weight for p in stepped) == 1
    assert equal(weights(one), weights(two))


def test_a_layer_used_several_times_and_checkpointing() -> None:
    def loss(model: nn.Sequential, checkpoint: bool) -> Tensor:
        x = model[0](data())
        for _ in range(3):
            x = checkpointed(model[2], x, use_reentrant=False) if checkpoint else model[2](x)
        return model[4](x).square().mean()

    for checkpoint in (False, True):
        one, two = twins()
        plain, released = make(one), make(two)
        enable_gradient_release(two, released)
        loss(one, checkpoint).backward()
        plain.step()
        loss(two, checkpoint).backward()
        assert equal(weights(one), weights(two))


def test_compiled() -> None:
    one, two = twins()
    expected = train(one, make(one))
    optimizer = make(two)
    enable_gradient_release(two, optimizer)
    compiled = torch.compile(two, backend="aot_eager", fullgraph=True)
    got = train(compiled, optimizer)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_at_most_one_gradient_is_alive() -> None:
    model = nn.Sequential(*[nn.Linear(16, 16) for _ in range(8)])
    optimizer, alive, most = make(model), weakref.WeakSet(), []

    def count(parameter: nn.Parameter, _: dict) -> bool:
        alive.add(parameter.grad)
        most.append((len(alive), sum(p.grad is not None for p in model.parameters())))
        return True

    enable_gradient_release(model, optimizer, pre_step=count)
    model(torch.randn(4, 16)).sum().backward()
    assert most == [(1, 1)] * 16
    assert not alive


# Which parameters ---------------------------------------------------------------------------------------------------


def test_frozen_and_foreign_parameters() -> None:
    model = network()
    model[0].weight.requires_grad_(False)
    optimizer = StepwiseSGD([p for i in (0, 2) for p in model[i].parameters()], lr=0.1)
    before = weights(model)
    enable_gradient_release(model, optimizer)
    model(data()).square().mean().backward()
    assert [p.grad is None for p in model.parameters()] == [True, True, True, True, False, False]
    moved = [not torch.equal(a, b) for a, b in zip(before, weights(model), strict=True)]
    assert moved == [False, True, True, True, False, False]


def test_two_optimizers_share_a_model() -> None:
    one, two = twins()
    make_both = lambda m: (make(m[0]), make(nn.ModuleList([m[2], m[4]]), lr=0.01))  # noqa: E731
    plain, released = make_both(one), make_both(two)
    handles = [enable_gradient_release(two, optimizer) for optimizer in released]
    for step in range(3):
        one(data(step)).square().mean().backward()
        two(data(step)).square().mean().backward()
        for optimizer in (*plain, *released):
            optimizer.step()
            optimizer.zero_grad()
    assert equal(weights(one), weights(two))
    handles[0].remove()
    two(data()).square().mean().backward()
    assert [g is None for g in gradients(two)] == [False, False, True, True, True, True]


def test_parameters_thawed_or_added_later_are_stepped_by_step_and_then_released() -> None:
    one, two = twins()
    for model in (one, two):
        model[0].requires_grad_(False)
    plain, released = make(one), make(two)
    extra = [nn.Parameter(torch.ones(2)) for _ in range(2)]
    enable_gradient_release(two, released)
    for step in range(3):
        for model, optimizer, scale in ((one, plain, extra[0]), (two, released, extra[1])):
            if step == 1:
                model[0].requires_grad_(True)
                optimizer.add_param_group({"params": [scale], "lr": 0.5})
            optimizer.zero_grad()
            (model(data(step)) * scale).square().mean().backward()
            if step == 2 and model is two:
                assert gradients(two) == [None] * 6
                assert scale.grad is None
            optimizer.step()
            if step == 0:
                scale.grad = None
        assert equal(weights(one), weights(two))
        assert torch.equal(*extra)


def test_groups_are_looked_up_when_they_are_used() -> None:
    model = network()
    optimizer, rates = make(model), set()
    enable_gradient_release(model, optimizer, pre_step=lambda _, group: bool(rates.add(group["lr"])) or True)
    state = optimizer.state_dict()
    state["param_groups"][0]["lr"] = 0.5
    optimizer.load_state_dict(state)
    one = copy.deepcopy(model)
    model(data()).square().mean().backward()
    assert rates == {0.5}
    plain = make(one, lr=0.5)
    assert equal(train(one, plain, range(1)), weights(model))


# Its end ------------------------------------------------------------------------------------------------------------


def test_remove_restores_everything() -> None:
    one, two = twins()
    optimizer = make(two)
    handle = enable_gradient_release(two, optimizer)
    assert handle.active
    train(two, optimizer, range(2))
    handle.remove()
    handle.remove()
    assert not handle.active
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    assert not any(p._post_accumulate_grad_hooks for p in two.parameters())
    before = weights(two)
    two(data(2)).square().mean().backward()
    assert equal(weights(two), before)
    assert all(g is not None for g in gradients(two))
    optimizer.step()
    assert equal(train(one, make(one), range(3)), weights(two))
    with enable_gradient_release(two, optimizer) as again:
        assert again.active
        assert isinstance(again, GradientRelease)
    assert not again.active


def test_the_optimizer_is_held_weakly() -> None:
    model = network()
    optimizer = make(model)
    handle = enable_gradient_release(model, optimizer, clip_norm=1.0)
    gone = weakref.ref(optimizer)
    train(model, optimizer)
    gc.disable()
    try:
        del optimizer
        assert gone() is None, "no reference cycle"
    finally:
        gc.enable()
    assert not handle.active
    before = weights(model)
    model(data()).square().mean().backward()
    assert equal(weights(model), before)
    assert all(g is not None for g in gradients(model)), "a model without an optimizer keeps its gradients"
    enable_gradient_release(model, make(model))


def test_the_handle_need_not_be_held() -> None:
    one, two = twins()
    optimizer = make(two)
    enable_gradient_release(two, optimizer)
    gc.collect()
    assert equal(train(two, optimizer), train(one, make(one)))


def test_copies_have_no_hooks() -> None:
    model = network()
    optimizer = make(model)
    enable_gradient_release(model, optimizer)
    train(model, optimizer, range(1))
    EMA(model, half_life=1)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        other(data()).square().mean().backward()
        assert all(g is not None for g in gradients(other))
    other_model, other = copy.deepcopy((model, optimizer))
    assert equal(train(other_model, other), train(model, optimizer))


# pre_step -----------------------------------------------------------------------------------------------------------


def test_a_veto_frees_the_gradient_without_a_step() -> None:
    model = network()
    optimizer, before = make(model), weights(model)
    enable_gradient_release(model, optimizer, pre_step=lambda p, group: p.ndim == 2 and group["lr"] > 0)
    model(data()).square().mean().backward()
    moved = [not torch.equal(a, b) for a, b in zip(before, weights(model), strict=True)]
    assert moved == [True, False] * 3
    assert gradients(model) == [None] * 6
    assert {id(p) for p in optimizer.state} == {id(p) for p in model.parameters() if p.ndim == 2}


def test_pre_step_may_change_the_gradient_and_must_answer() -> None:
    one, two = twins()
    optimizer = make(two)

    def halve(parameter: nn.Parameter, _: dict) -> bool:
        parameter.grad.mul_(0.5)
        return True

    enable_gradient_release(two, optimizer, pre_step=halve)
    two(data()).square().mean().backward()
    plain = make(one)
    (one(data()).square().mean() * 0.5).backward()
    plain.step()
    assert equal(weights(one), weights(two))
    model = network()
    optimizer = make(model)
    enable_gradient_release(model, optimizer, pre_step=lambda *_: None)
    with pytest.raises(TypeError, match="True or False from pre_step, got None"):
        model(data()).sum().backward()


# Bad input ----------------------------------------------------------------------------------------------------------


def test_bad_input_is_refused() -> None:
    model = network()
    optimizer = make(model)
    with pytest.raises(TypeError, match=r"an optimizer with step_param\(parameter\), got SGD"):
        enable_gradient_release(model, torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(TypeError, match="a torch module"):
        enable_gradient_release(model.parameters(), optimizer)
    with pytest.raises(TypeError, match=r"a torch\.amp\.GradScaler"):
        enable_gradient_release(model, optimizer, grad_scaler=1.0)
    with pytest.raises(TypeError, match="pre_step"):
        enable_gradient_release(model, optimizer, pre_step=True)
    for bad in (0.0, -1.0, float("nan"), True):
        with pytest.raises(ValueError, match="clip_norm"):
            enable_gradient_release(model, optimizer, clip_norm=bad)
    with pytest.raises(ValueError, match="an optimizer of this model's parameters, got 4 that are not"):
        enable_gradient_release(model[0], optimizer)
    assert not any(p._post_accumulate_grad_hooks for p in model.parameters()), "a refusal leaves no hook"
    assert not optimizer._optimizer_step_pre_hooks
    enable_gradient_release(model, optimizer)
    with pytest.raises(ValueError, match=r"not released yet, got some that are\. Call remove\(\)"):
        enable_gradient_release(model, optimizer)


def test_sparse_gradients_are_refused_where_they_arise() -> None:
    model = nn.Embedding(3, 2, sparse=True)
    optimizer = make(model)
    enable_gradient_release(model, optimizer)
    with pytest.raises(TypeError, match="enable_gradient_release: expected dense gradients"):
        model(torch.tensor([1])).sum().backward()
