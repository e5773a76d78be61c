from __future__ import annotations

import copy
import gc
import pickle
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.optim.flash.distributed import RankError, run_distributed
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau
from torch.optim.sgd import sgd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint as checkpointed

from hasten.optim import EMA
from hasten.optim.flash.cast import cast_model
from hasten.optim.flash.release import DelayedNorm, GradientRelease, enable_gradient_release


class StepwiseSGD(torch.optim.SGD):
    """torch's SGD with `step_param`, by the same kernel."""

    def step_param(self, parameter: nn.Parameter) -> None:
        for group in self.param_groups:
            if any(parameter is p for p in group["params"]):
                state, buffers = self.state[parameter], [self.state[parameter].get("momentum_buffer")]
                with torch.no_grad():
                    sgd([parameter], [parameter.grad], buffers, foreach=False, lr=group["lr"], dampening=0.0,
                        weight_decay=group["weight_decay"], momentum=group["momentum"], nesterov=False,
                        maximize=False)  # fmt: skip
                state["momentum_buffer"] = buffers[0]
                return
        raise AssertionError("not one of my parameters")


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))


def make(model: nn.Module, lr: float = 0.1) -> StepwiseSGD:
    return StepwiseSGD(model.parameters(), lr=lr, momentum=0.9, weight_decay=0.01, foreach=False)


def data(seed: int = 0) -> Tensor:
    return torch.randn(6, 4, generator=torch.Generator().manual_seed(seed))


def weights(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def equal(one: list[Tensor], two: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range = range(4)) -> list[Tensor]:
    """The plain loop, which does not know whether gradients are released."""
    for step in steps:
        optimizer.zero_grad()
        model(data(step)).square().mean().backward()
        optimizer.step()
    return weights(model)


def twins() -> tuple[nn.Sequential, nn.Sequential]:
    model = network()
    return model, copy.deepcopy(model)


def gradients(model: nn.Module) -> list[Tensor | None]:
    return [p.grad for p in model.parameters()]


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


# GradScaler ---------------------------------------------------------------------------------------------------------


def scaled_loop(
    model: nn.Module, optimizer: torch.optim.Optimizer, scaler: GradScaler, losses: list[Callable[[Tensor], Tensor]]
) -> list[float]:
    scales = []
    for step, spoil in enumerate(losses):
        optimizer.zero_grad()
        scaler.scale(spoil(model(data(step)).square().mean())).backward()
        scaler.step(optimizer)
        scaler.update()
        scales.append(scaler.get_scale())
    return scales


def test_with_a_scaler_all_is_as_without_release() -> None:
    one, two = twins()
    plain, released = make(one), make(two)
    scalers = [GradScaler("cpu", init_scale=2.0**10, growth_interval=2) for _ in range(2)]
    enable_gradient_release(two, released, grad_scaler=scalers[1])
    losses = [lambda x: x] * 5 + [lambda x: x * float("inf")] + [lambda x: x] * 3
    expected = scaled_loop(one, plain, scalers[0], losses)
    assert scaled_loop(two, released, scalers[1], losses) == expected
    assert expected[5] == expected[4] / 2, "not finite: the scale shrinks"
    assert expected[-1] > expected[5], "and grows again"
    assert equal(weights(one), weights(two))


def test_only_the_parameters_whose_gradients_are_not_finite_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    optimizer, before = make(model), weights(model)
    scaler = GradScaler("cpu", init_scale=8.0)
    enable_gradient_release(model, optimizer, grad_scaler=scaler)
    middle = model[0](data())
    middle.register_hook(lambda gradient: gradient * float("nan"))
    scaler.scale(model[1](middle).square().mean()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 4.0
    assert torch.equal(model[0].weight, before[0])
    assert not torch.equal(model[1].weight, before[1])
    assert model[1].weight.isfinite().all()
    assert gradients(model) == [None, None]


def test_float16_gradients_are_unscaled_in_float32() -> None:
    model = nn.Linear(2, 1, bias=False).half()
    optimizer, seen = StepwiseSGD(model.parameters(), lr=1.0), []
    scaler = GradScaler("cpu", init_scale=2.0**16)
    enable_gradient_release(
        model, optimizer, grad_scaler=scaler, pre_step=lambda p, _: bool(seen.append(p.grad.clone())) or True
    )
    x = torch.full((1, 2), 2.0**-10, dtype=torch.float16)
    scaler.scale((model(x) * 2.0**-14).float().sum() * 2.0**-10).backward()
    assert seen[0].dtype == torch.float32
    assert seen[0].tolist() == [[2.0**-34] * 2], "nothing that float16 holds"
    assert model.weight.dtype == torch.float16


def test_a_disabled_scaler_is_none_and_an_unscaled_loss_is_refused() -> None:
    one, two = twins()
    optimizer, scaler = make(two), GradScaler("cpu", enabled=False)
    enable_gradient_release(two, optimizer, grad_scaler=scaler)
    scaled_loop(two, optimizer, scaler, [lambda x: x] * 4)
    assert equal(train(one, make(one)), weights(two))
    model = network()
    optimizer = make(model)
    enable_gradient_release(model, optimizer, grad_scaler=GradScaler("cpu"))
    with pytest.raises(ValueError, match=r"a scaled loss, got an unscaled one\. Call grad_scaler\.scale\(loss\)"):
        model(data()).sum().backward()


def test_unscaling_by_hand_is_an_error() -> None:
    model = network()
    optimizer, scaler = make(model), GradScaler("cpu")
    enable_gradient_release(model, optimizer, grad_scaler=scaler)
    scaler.scale(model(data()).sum()).backward()
    with pytest.raises(RuntimeError, match="already been called"):
        scaler.unscale_(optimizer)


# Clipping -----------------------------------------------------------------------------------------------------------


class Recorder(StepwiseSGD):
    """Keeps the gradients it is given, in order."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.given: list[tuple[nn.Parameter, Tensor]] = []

    def step_param(self, parameter: nn.Parameter) -> None:
        self.given.append((parameter, parameter.grad.clone()))
        super().step_param(parameter)


@pytest.mark.parametrize("call_step", [True, False])
@pytest.mark.parametrize("limit", [1e-3, 0.3, 1e3])
def test_clipping_by_the_last_norm_and_what_is_known_of_this_one(limit: float, call_step: bool) -> None:
    model = network()
    optimizer = Recorder(model.parameters(), lr=0.5)
    handle = enable_gradient_release(model, optimizer, clip_norm=limit)
    assert handle.gradient_norm is None
    last = 0.0
    for step in range(5):
        x = data(step) * (50 if step == 3 else 1)  # a spike
        raw = torch.autograd.grad(model(x).square().mean(), list(model.parameters()))
        raw = {id(p): g for p, g in zip(model.parameters(), raw, strict=True)}
        optimizer.given.clear()
        model(x).square().mean().backward()
        if call_step:
            optimizer.step()
        squares = 0.0
        for parameter, given in optimizer.given:
            squares += float(raw[id(parameter)].double().square().sum())
            factor = min(1.0, limit / max(last, squares**0.5))
            torch.testing.assert_close(given, raw[id(parameter)] * factor, rtol=1e-4, atol=1e-9)
            assert float(given.norm()) <= limit * (1 + 1e-5)
        last = squares**0.5
        if call_step:
            assert float(handle.gradient_norm) == pytest.approx(last, rel=1e-5)


def test_a_loose_limit_changes_no_bit() -> None:
    one, two = twins()
    optimizer = make(two)
    enable_gradient_release(two, optimizer, clip_norm=1e6)
    assert equal(train(two, optimizer), train(one, make(one)))


def test_clipping_after_the_scaler_and_gradients_that_are_not_finite() -> None:
    one, two = twins()
    optimizers, scaler = (make(one), make(two)), GradScaler("cpu", init_scale=2.0**8)
    handle = enable_gradient_release(one, optimizers[0], clip_norm=0.1)
    scaled = enable_gradient_release(two, optimizers[1], clip_norm=0.1, grad_scaler=scaler)
    train(one, optimizers[0], range(3))
    scaled_loop(two, optimizers[1], scaler, [lambda x: x] * 3)
    assert equal(weights(one), weights(two)), "norms are of unscaled gradients"
    assert float(handle.gradient_norm) == float(scaled.gradient_norm)
    scaled_loop(two, optimizers[1], scaler, [lambda x: x * float("nan")])
    assert float(scaled.gradient_norm) == float(handle.gradient_norm), "dropped gradients have no norm"


def test_a_gradient_that_is_not_finite_spoils_no_other() -> None:
    clipping = DelayedNorm(1.0)
    factors = [float(clipping.factor(torch.tensor(norm))) for norm in (2.0, float("nan"), float("inf"), 0.0)]
    assert factors == [0.5, 0.5, 0.5, 0.5]
    clipping.end_of_step()
    clipping.end_of_step()
    assert float(clipping.last) == 2.0
    zero = DelayedNorm(1.0)
    assert float(zero.factor(torch.tensor(0.0))) == 1.0
    huge = DelayedNorm(1.0)
    assert [float(huge.factor(torch.tensor(norm))) for norm in (1e30, 1e30)] == pytest.approx([1e-30, 0.5**0.5 * 1e-30])


class CountReads(TorchDispatchMode):
    """How often a tensor was read into Python, which on a GPU waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


def test_clipping_reads_no_tensor_and_unscaling_one_per_parameter() -> None:
    for scaler, expected in ((None, 0), (GradScaler("cpu"), 6)):
        model = network()
        optimizer = make(model)
        enable_gradient_release(model, optimizer, clip_norm=0.1, grad_scaler=scaler)
        for _ in range(2):
            loss = model(data()).square().mean()
            loss = loss if scaler is None else scaler.scale(loss)
            with CountReads() as reads:
                loss.backward()
            assert reads.count == expected
            optimizer.step()


@pytest.mark.gpu
def test_on_a_gpu_nothing_waits_and_gradients_do_not_add_up() -> None:
    model = nn.Sequential(*[nn.Linear(1024, 1024, bias=False) for _ in range(16)]).cuda()
    optimizer = StepwiseSGD(model.parameters(), lr=1e-3)
    peaks = []
    for release in (False, True):
        handle = enable_gradient_release(model, optimizer, clip_norm=1.0) if release else None
        for _ in range(2):
            optimizer.zero_grad()
            loss = model(torch.randn(8, 1024, device="cuda")).square().mean()
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            torch.cuda.set_sync_debug_mode("error")
            try:
                loss.backward()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        peaks.append(torch.cuda.max_memory_allocated())
        if handle is None:
            optimizer.step()
    size = 4 * 1024 * 1024
    assert peaks[0] - peaks[1] > 12 * size


# Several processes --------------------------------------------------------------------------------------------------


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1))  # 5 rows and 1 on two ranks: uneven, empty shards


def sharded_training(rank: int, world: int, clip: float | None, spoil: bool, release: bool) -> dict[str, Any]:
    """Three steps of FSDP2; `spoil`: one rank's loss is infinite in the second."""
    from torch.distributed.fsdp import fully_shard

    model = small()
    for layer in (model[0], model[2], model):
        fully_shard(layer)
    optimizer, scaler, order = make(model), GradScaler("cpu", init_scale=16.0, enabled=spoil), []
    names = {id(p): name for name, p in model.named_parameters()}
    handle = None
    if release:
        note = lambda p, _: order.append(names[id(p)]) or True  # noqa: E731
        handle = enable_gradient_release(model, optimizer, clip_norm=clip, grad_scaler=scaler, pre_step=note)
    for step in range(3):
        optimizer.zero_grad()
        loss = model(data(step * world + rank)).square().mean()
        if spoil and step == 1 and rank == 0:
            loss = loss * float("inf")
        scaler.scale(loss).backward()
        if release:
            assert gradients(model) == [None] * 4
        scaler.step(optimizer)
        scaler.update()
    weights = {name: p.full_tensor().detach() for name, p in model.named_parameters()}
    norm = handle and handle.gradient_norm
    return {"weights": weights, "scale": scaler.get_scale(), "norm": norm, "order": order}


def sharded_cases(rank: int, world: int, cases: dict[str, dict]) -> dict[str, dict]:
    return {name: sharded_training(rank, world, **case) for name, case in cases.items()}


def clipped_by_hand(order: list[str], limit: float) -> tuple[dict[str, Tensor], float]:
    """What the ranks do, in one process: the mean over their batches, the rule of clipping as it is written."""
    model, last = small(), 0.0
    optimizer, parameters = make(model), dict(model.named_parameters())
    for step in range(3):
        optimizer.zero_grad()
        torch.stack([model(data(step * 2 + rank)).square().mean() for rank in range(2)]).mean().backward()
        squares = 0.0
        for name in order[:4]:
            squares += float(parameters[name].grad.square().sum())
            parameters[name].grad.mul_(min(1.0, limit / max(last, squares**0.5)))
        last = squares**0.5
        optimizer.step()
    return {name: p.detach() for name, p in parameters.items()}, last


def test_fsdp2() -> None:
    cases = {
        "plain": {"release": False, "clip": None, "spoil": False},
        "released": {"release": True, "clip": 1e6, "spoil": False},
        "spoilt": {"release": False, "clip": None, "spoil": True},
        "spoilt released": {"release": True, "clip": None, "spoil": True},
        "clipped": {"release": True, "clip": 0.05, "spoil": False},
    }
    one, two = run_distributed(sharded_cases, 2, cases=cases)
    for rank in (one, two):
        for name in ("plain", "spoilt"):
            expected, got = rank[name], rank["released" if name == "plain" else "spoilt released"]
            assert all(torch.equal(value, got["weights"][key]) for key, value in expected["weights"].items())
            assert got["scale"] == expected["scale"] == (8.0 if name == "spoilt" else 1.0)
    assert torch.equal(one["clipped"]["norm"], two["clipped"]["norm"])
    weights, norm = clipped_by_hand(one["clipped"]["order"], 0.05)
    assert float(one["clipped"]["norm"]) == pytest.approx(norm, rel=1e-4)
    for name, value in weights.items():
        torch.testing.assert_close(one["clipped"]["weights"][name], value, rtol=1e-4, atol=1e-6)


def wrapped(rank: int, world: int) -> list[str]:
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.nn.parallel import DistributedDataParallel

    messages, cpu = [], torch.device("cpu")
    for wrap in (DistributedDataParallel, lambda model: FullyShardedDataParallel(model, device_id=cpu)):
        model = nn.Sequential(wrap(network()))
        for refuse in (lambda model: enable_gradient_release(model, make(model)), cast_model):
            try:
                refuse(model)
            except TypeError as error:
                messages.append(str(error))
    return messages


def test_wrappers_are_refused() -> None:
    messages = run_distributed(wrapped, 1)[0]
    assert len(messages) == 4
    for message, name in zip(messages[::2], ("DistributedDataParallel", "FullyShardedDataParallel"), strict=True):
        assert f"a model that no wrapper synchronises, got one inside {name}." in message
        assert message.endswith("Use FSDP2 (torch.distributed.fsdp.fully_shard).")
    model = nn.DataParallel(network())
    with pytest.raises(TypeError, match="got one inside DataParallel"):
        enable_gradient_release(model, make(model))


def failing(rank: int, world: int) -> None:
    if rank == 1:
        raise ZeroDivisionError("rank one has a problem")
    torch.distributed.barrier()


def sleeping(rank: int, world: int) -> None:
    import time

    time.sleep(60)


def test_the_first_failure_of_a_group_is_reported() -> None:
    with pytest.raises(RankError, match=r"(?s)rank 1 failed .*ZeroDivisionError: rank one has a problem"):
        run_distributed(failing, 2)
    with pytest.raises(RankError, match="no end in time"):
        run_distributed(sleeping, 1, timeout=1)


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
