"""Gradient release where more than one gradient counts: loss scaling, clipping by the whole norm, several processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.optim.flash.distributed import RankError, run_distributed
from tests.optim.flash.releasing import StepwiseSGD, data, equal, gradients, make, network, train, twins, weights
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.utils._python_dispatch import TorchDispatchMode

from hasten.optim.flash.cast import cast_model
from hasten.optim.flash.release import DelayedNorm, enable_gradient_release


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


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
