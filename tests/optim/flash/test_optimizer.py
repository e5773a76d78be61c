"""What all flash optimizers share: options, what is refused, what is skipped, and the company they keep."""

from __future__ import annotations

import copy
import io
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.optim.flash.cases import contents, prepared, randn, same
from torch import Tensor, nn
from torch.optim import lr_scheduler

from hasten.optim import SAM
from hasten.optim.flash import FlashAdam, FlashAdamW, FlashLion, FlashSGD, FlashSGDW, cast_model, join_weight

OPTIMIZERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "adamw": (FlashAdamW, {}), "adam": (FlashAdam, {"weight_decay": 0.1}), "lion": (FlashLion, {"weight_decay": 0.1}),
    "sgd": (FlashSGD, {}), "momentum": (FlashSGD, {"momentum": 0.9}),
    "sgdw": (FlashSGDW, {"momentum": 0.9, "weight_decay": 0.1}),
}  # fmt: skip
every = pytest.mark.parametrize("name", OPTIMIZERS)


def build(name: str, params: Any, **options: Any) -> Any:
    cls, own = OPTIMIZERS[name]
    return cls(params, **{"lr": 0.01, **own, **options})


def one(dtype: torch.dtype = torch.bfloat16, size: int = 40, value: float | None = None) -> nn.Parameter:
    return nn.Parameter((randn(size, seed=3) if value is None else torch.full((size,), value)).to(dtype))


def network() -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2))
    cast_model(model, torch.bfloat16)
    return model


def closure_for(model: nn.Module, optimizer: Any, step: int) -> Callable[[], Tensor]:
    x = randn(8, 4, seed=step).bfloat16()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (model(x).float() - 1).square().mean()
        loss.backward()
        return loss

    return closure


def train(model: nn.Module, optimizer: Any, steps: range) -> list[Tensor]:
    for step in steps:
        optimizer.step(closure_for(model, optimizer, step))
    return [p.detach().clone() for p in model.parameters()]


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@every
def test_it_trains_and_the_closure_returns_the_loss(name: str) -> None:
    model = network()
    optimizer = build(name, model.parameters(), lr=0.05 if "sgd" in name or name == "momentum" else 0.01)
    first = optimizer.step(closure_for(model, optimizer, 0)).item()
    train(model, optimizer, range(1, 60))
    assert optimizer.step(closure_for(model, optimizer, 0)).item() < 0.5 * first
    assert optimizer.step() is None


@every
def test_deepcopy_and_pickle_go_on_alike(name: str) -> None:
    model = network()
    optimizer = build(name, model.parameters(), skip_nonfinite=True, backend="eager", compress_state_dict=False)
    train(model, optimizer, range(3))
    copies = [copy.deepcopy((model, optimizer)), pickle.loads(pickle.dumps((model, optimizer)))]
    expected = train(model, optimizer, range(3, 6))
    for other_model, other in copies:
        assert (other.backend, other.skip_nonfinite, other.compress_state_dict) == ("eager", True, False)
        assert equal(train(other_model, other, range(3, 6)), expected)
        for p, q in zip(model.parameters(), other_model.parameters(), strict=True):
            assert same(contents(p, optimizer), contents(q, other))


@every
def test_a_resumed_run_has_the_same_bits(name: str) -> None:
    model = network()
    optimizer = build(name, model.parameters())
    train(model, optimizer, range(3))
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    expected = train(model, optimizer, range(3, 6))
    file.seek(0)
    stored = torch.load(file, weights_only=True)
    other_model = network()
    other_model.load_state_dict(stored["model"])
    other = build(name, other_model.parameters())
    other.load_state_dict(stored["optimizer"])
    assert equal(train(other_model, other, range(3, 6)), expected)


@every
def test_groups_have_options_of_their_own(name: str) -> None:
    still, slow, fast = one(), one(), one()
    optimizer = build(
        name, [{"params": [still], "lr": 0.0, "weight_decay": 0.0}, {"params": [slow], "lr": 0.05}], lr=1.0
    )
    optimizer.add_param_group({"params": [fast], "lr": 0.5, "master_weight_bits": 32, "quantize": False})
    assert optimizer.param_groups[2]["group_size"] == 32
    start = still.detach().clone()
    for p in (still, slow, fast):
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert torch.equal(still.detach(), start)
    moved = [(start.float() - join_weight(p.detach(), optimizer.state[p]["correction"])).mean() for p in (slow, fast)]
    assert float(moved[1] / moved[0]) == pytest.approx(10, rel=0.35)
    assert optimizer.state[fast]["correction"].dtype == torch.int16
    assert not any("_codes" in key for key in optimizer.state[fast])
    with pytest.raises(ValueError, match="lr >= 0"):
        optimizer.add_param_group({"params": [one()], "lr": -1.0})
    with pytest.raises(ValueError, match="group_size among"):
        optimizer.add_param_group({"params": [one()], "group_size": 48})
    assert len(optimizer.param_groups) == 3


def test_mixed_dtypes_in_a_group_and_frozen_parameters() -> None:
    owned = [one(dtype) for dtype in (torch.bfloat16, torch.float32, torch.float16, torch.float64)]
    frozen, idle = nn.Parameter(torch.ones(4), requires_grad=False), one()
    optimizer = FlashAdamW([*owned, frozen, idle], lr=0.1, weight_decay=0.0)
    for p in owned:
        p.grad = torch.ones_like(p)
    starts = [p.detach().clone() for p in owned]
    optimizer.step()
    for p, start in zip(owned, starts, strict=True):
        assert p.dtype == start.dtype
        assert (start - p.detach()).double().mean() == pytest.approx(0.1, rel=0.05)
        assert ("correction" in optimizer.state[p]) == (p.element_size() == 2)
    assert frozen not in optimizer.state
    assert idle not in optimizer.state
    assert set(optimizer.explain()) == {0, 1, 2, 3}
    assert optimizer.explain()[3].backend == "eager"


def test_a_look_makes_no_state() -> None:
    p, q = one(), one()
    optimizer = FlashAdamW([{"params": [p]}, {"params": [q], "group_size": 64}])
    assert optimizer.explain() == {}, "no gradient, nothing to step"
    q.grad = torch.ones_like(q)
    assert set(optimizer.explain()) == {1}
    assert not optimizer.state


def test_gradients_of_another_dtype() -> None:
    """torch allows none but the parameter's own unless asked; whoever sets one wider is stepped as well."""
    p, q = one(), one()
    optimizer, plain = FlashAdamW([p], lr=0.1), FlashAdamW([q], lr=0.1, backend="eager")
    if not hasattr(p, "grad_dtype"):
        pytest.skip("this torch has no gradients of another dtype")
    p.grad_dtype = q.grad_dtype = torch.float32
    p.grad, q.grad = randn(40, seed=5), randn(40, seed=5)
    assert optimizer.explain()[0].backend == "eager"
    optimizer.step()
    plain.step()
    assert same(contents(p, optimizer), contents(q, plain))


SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "lambda": lambda o: lr_scheduler.LambdaLR(o, lambda t: 0.9**t),
    "multiplicative": lambda o: lr_scheduler.MultiplicativeLR(o, lambda t: 0.9),
    "step": lambda o: lr_scheduler.StepLR(o, 2),
    "multistep": lambda o: lr_scheduler.MultiStepLR(o, [1, 3]),
    "constant": lambda o: lr_scheduler.ConstantLR(o, total_iters=2),
    "linear": lambda o: lr_scheduler.LinearLR(o, total_iters=4),
    "exponential": lambda o: lr_scheduler.ExponentialLR(o, 0.8),
    "polynomial": lambda o: lr_scheduler.PolynomialLR(o, total_iters=4),
    "cosine": lambda o: lr_scheduler.CosineAnnealingLR(o, 4),
    "restarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "cyclic": lambda o: lr_scheduler.CyclicLR(o, 0.001, 0.01, step_size_up=2),
    "onecycle": lambda o: lr_scheduler.OneCycleLR(o, 0.01, total_steps=6),
    "plateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0),
    "sequential": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, total_iters=2), lr_scheduler.ExponentialLR(o, 0.5)], [2]
    ),
    "chained": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, total_iters=2), lr_scheduler.ExponentialLR(o, 0.5)]
    ),
}


@pytest.mark.parametrize("schedule", SCHEDULERS)
def test_every_scheduler_of_torch(schedule: str) -> None:
    """The same learning rates and momenta as torch's optimizer gets, and the weights that they make."""
    for ours, theirs, options in (
        (FlashAdamW, torch.optim.AdamW, {}), (FlashSGD, torch.optim.SGD, {"momentum": 0.9})
    ):  # fmt: skip
        runs = []
        for cls, more in ((ours, {"quantize": False}), (theirs, {})):
            p = one(torch.float32)
            optimizer = cls([p], lr=0.01, **options, **more)
            scheduler, seen = SCHEDULERS[schedule](optimizer), []
            for step in range(5):
                p.grad = randn(40, seed=step)
                optimizer.step()
                scheduler.step(*([1.0] if schedule == "plateau" else []))
                group = optimizer.param_groups[0]
                seen.append((float(group["lr"]), group.get("betas"), group.get("momentum")))
            runs.append((seen, p.detach()))
        assert runs[0][0] == runs[1][0]
        torch.testing.assert_close(runs[0][1], runs[1][1], rtol=1e-6, atol=1e-6)


@every
@pytest.mark.parametrize("backend", ["auto", "eager"])
def test_a_learning_rate_in_a_tensor(name: str, backend: str) -> None:
    lr = torch.tensor(0.02)
    found = []
    for value in (lr, 0.02):
        p = one()
        optimizer = build(name, [p], lr=value, backend=backend)
        scheduler = lr_scheduler.ExponentialLR(optimizer, 0.5)
        for step in range(3):
            p.grad = randn(40, seed=step).bfloat16()
            optimizer.step()
            scheduler.step()
        found.append(contents(p, optimizer))
        assert float(optimizer.param_groups[0]["lr"]) == pytest.approx(0.0025)
    assert isinstance(lr, Tensor)
    for a, b in zip(found[0].values(), found[1].values(), strict=True):
        torch.testing.assert_close(a.float(), b.float(), rtol=1e-6, atol=1.0 if not a.is_floating_point() else 1e-6)
    with pytest.raises(ValueError, match="lr as a number or a tensor of one element"):
        build(name, [one()], lr=torch.ones(2))


# Weight decay ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [FlashAdamW, FlashLion, FlashSGDW])
def test_decoupled_decay_follows_the_rate_of_each_group(cls: Any) -> None:
    """weight_decay * lr / initial_lr a step, with the first learning rate of the group, not of the constructor."""
    p, q = one(torch.float32, value=1.0), one(torch.float32, value=1.0)
    groups = [{"params": [p], "lr": 0.1}, {"params": [q], "lr": 0.001, "weight_decay": 0.02}]
    optimizer = cls(groups, lr=1.0, weight_decay=0.01, decouple_lr=True)
    assert [group["initial_lr"] for group in optimizer.param_groups] == [0.1, 0.001]
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda t: 0.5**t)
    expected = [1.0, 1.0]
    for step in range(3):
        p.grad, q.grad = torch.zeros_like(p), torch.zeros_like(q)
        optimizer.step()
        scheduler.step()
        expected = [expected[0] * (1 - 0.01 * 0.5**step), expected[1] * (1 - 0.02 * 0.5**step)]
    assert p.tolist() == pytest.approx([expected[0]] * 40, rel=1e-6)
    assert q.tolist() == pytest.approx([expected[1]] * 40, rel=1e-6)


def test_decouple_lr_of_a_learning_rate_in_a_tensor_and_of_zero() -> None:
    p = one(torch.float32, value=1.0)
    lr = torch.tensor(0.1)
    optimizer = FlashAdamW([p], lr=lr, weight_decay=0.01, decouple_lr=True)
    lr.mul_(0.5)
    p.grad = torch.zeros_like(p)
    optimizer.step()
    assert p.tolist() == pytest.approx([1 - 0.01 * 0.5] * 40, rel=1e-6)
    zero = FlashAdamW([p], lr=0.0, weight_decay=0.01, decouple_lr=True)
    with pytest.raises(ValueError, match=r"FlashAdamW: expected initial_lr above 0 with decouple_lr, got 0\.0\. Build"):
        zero.step()
    FlashAdamW([p], lr=0.0, weight_decay=0.0, decouple_lr=True).step()


# What is refused ------------------------------------------------------------------------------------------------------


@every
def test_options_that_are_refused(name: str) -> None:
    cls = OPTIMIZERS[name][0].__name__
    for options, text in (
        ({"foreach": True}, "foreach=None or False"), ({"differentiable": True}, "differentiable=False"),
        ({"master_weight_bits": 16}, "master_weight_bits among 24, 32, None"), ({"group_size": 48}, "group_size among"),
        ({"stochastic_rounding": True}, "stochastic_rounding only without a correction"), ({"lr": math.nan}, "lr"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"{cls}: expected .*{text}"):
            build(name, [one()], **options)
    with pytest.raises(ValueError, match=f"{cls}: expected backend among auto.*'nativ'.*native"):
        build(name, [one()], backend="nativ")
    with pytest.raises(TypeError, match="fused or backend"):
        build(name, [one()], fused=True, backend="eager")
    build(name, [one()], foreach=False, stochastic_rounding=True, master_weight_bits=None)


@every
@pytest.mark.parametrize("kind", ["sparse", "complex"])
def test_a_gradient_it_cannot_use_is_refused_and_nothing_changes(name: str, kind: str) -> None:
    good = one()
    bad = nn.Parameter(torch.ones(4, 2, dtype=torch.complex64 if kind == "complex" else torch.float32))
    optimizer = build(name, [good, bad])
    good.grad = torch.ones_like(good)
    optimizer.step()
    before = contents(good, optimizer)
    bad.grad = torch.ones_like(bad).to_sparse() if kind == "sparse" else torch.ones_like(bad)
    with pytest.raises(TypeError, match="dense gradients" if kind == "sparse" else "real floating-point"):
        optimizer.step()
    assert same(contents(good, optimizer), before)
    assert torch.equal(bad.detach(), torch.ones_like(bad))


def test_step_param_steps_one_parameter() -> None:
    p, q, stranger = one(), one(), one()
    optimizer = FlashAdamW([{"params": [p]}, {"params": [q], "lr": 0.1}], lr=0.01)
    other = FlashAdamW([{"params": [(p2 := one())]}, {"params": [(q2 := one())], "lr": 0.1}], lr=0.01)
    for x in (p, q, p2, q2):
        x.grad = randn(40, seed=1).bfloat16()
    optimizer.step_param(q)
    assert p not in optimizer.state
    optimizer.step_param(p)
    other.step()
    assert same(contents(p, optimizer), contents(p2, other))
    assert same(contents(q, optimizer), contents(q2, other))
    with pytest.raises(ValueError, match="step_param: expected a parameter of this optimizer"):
        optimizer.step_param(stranger)
    late = one()
    optimizer.add_param_group({"params": [late]})
    optimizer.step_param(late)
    assert not optimizer.state[late], "no gradient, no step"


# What is not finite ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.inf, math.nan])
@pytest.mark.parametrize("backend", ["auto", "eager"])
def test_a_gradient_that_is_not_finite_reaches_its_weight_as_in_torch(bad: float, backend: str) -> None:
    for ours, theirs, options in (
        (FlashAdamW, torch.optim.AdamW, {}), (FlashSGD, torch.optim.SGD, {"momentum": 0.9}),
        (FlashSGD, torch.optim.SGD, {}),
    ):  # fmt: skip
        p, q = one(torch.float32, 100), one(torch.float32, 100)
        optimizer, plain = ours([p], lr=0.1, backend=backend, **options), theirs([q], lr=0.1, **options)
        p.grad = randn(100, seed=0)
        p.grad[40] = bad
        q.grad = p.grad.clone()
        optimizer.step()
        plain.step()
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6, equal_nan=True)
        for name, value in optimizer.state[p].items():
            if name.endswith("_scales"):
                assert value.isnan().tolist() == [False, True, False, False]


@every
def test_skipping_steps_that_are_not_finite(name: str) -> None:
    p, q = one(), one()
    optimizer = build(name, [p, q], skip_nonfinite=True)
    p.grad, q.grad = torch.ones_like(p), torch.ones_like(q)
    optimizer.step()
    before = contents(p, optimizer), contents(q, optimizer)
    for bad in (math.nan, math.inf, -math.inf):
        q.grad = torch.ones_like(q)
        q.grad[7] = bad
        optimizer.step()
        assert same(contents(p, optimizer), before[0])
        assert same(contents(q, optimizer), before[1])
    q.grad = torch.ones_like(q)
    optimizer.step()
    assert int(optimizer.state[p]["step"]) == 2
    assert not same(contents(p, optimizer), before[0])


# Company --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["adamw", "momentum", "sgd"])
def test_inside_sam_low_bits_are_kept(name: str) -> None:
    """The base steps from the whole weight: SAM puts the 16 bits back, the correction was never touched."""
    model, plain_model = network(), network()
    sam, plain, uphill = (
        SAM(build(name, model.parameters(), lr=1e-3), rho=0.1),
        build(name, plain_model.parameters(), lr=1e-3),
        [],
    )
    sam.base.register_step_pre_hook(lambda *_: uphill.append([p.grad.clone() for p in model.parameters()]))
    for step in range(5):
        sam.step(closure_for(model, sam, step))
    for gradients in uphill:
        for p, gradient in zip(plain_model.parameters(), gradients, strict=True):
            p.grad = gradient
        plain.step()
    for p, q in zip(model.parameters(), plain_model.parameters(), strict=True):
        assert same(contents(p, sam.base), contents(q, plain))
        assert sam.base.state[p]["correction"].any(), "there are low bits to keep"
    other_model = copy.deepcopy(model)
    other = SAM(build(name, other_model.parameters(), lr=1e-3), rho=0.1)
    other.load_state_dict(sam.state_dict())
    for step in range(2):
        sam.step(closure_for(model, sam, step))
        other.step(closure_for(other_model, other, step))
    assert equal(list(model.parameters()), list(other_model.parameters()))


def test_a_gradient_scaler_on_the_cpu() -> None:
    model, plain_model = network(), network()
    optimizer, plain = build("adamw", model.parameters()), build("adamw", plain_model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for step in range(3):
        x = randn(8, 4, seed=step).bfloat16()
        optimizer.zero_grad()
        scaler.scale((model(x).float() - 1).square().mean()).backward()
        scaler.step(optimizer)
        scaler.update()
        plain.step(closure_for(plain_model, plain, step))
    assert equal(list(model.parameters()), list(plain_model.parameters())), "a power of two changes no bit"
    before = [p.detach().clone() for p in model.parameters()]
    scaler.scale((model(randn(8, 4, seed=9).bfloat16()).float() * math.inf).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
    assert equal(list(model.parameters()), before)
    assert scaler.get_scale() == 2.0**9


def test_gradient_clipping() -> None:
    p = one(torch.float32)
    optimizer = FlashSGD([p], lr=1.0)
    start = p.detach().clone()
    p.grad = torch.full_like(p, 100.0)
    torch.nn.utils.clip_grad_norm_([p], 1.0)
    optimizer.step()
    assert float((p.detach() - start).norm()) == pytest.approx(1.0, rel=1e-4)


def test_a_compiled_model() -> None:
    model, plain_model = network(), network()
    compiled = torch.compile(model, backend="aot_eager")
    optimizer, plain = build("adamw", compiled.parameters()), build("adamw", plain_model.parameters())
    train(plain_model, plain, range(3))
    for step in range(3):
        optimizer.step(closure_for(compiled, optimizer, step))
    assert equal(list(model.parameters()), list(plain_model.parameters()))


@every
@pytest.mark.parametrize("backend", ["auto", "eager"])
def test_capturable_and_fused_on_the_cpu(name: str, backend: str) -> None:
    found = []
    for options in ({"backend": backend}, {"backend": backend, "capturable": True}):
        p = one()
        optimizer = build(name, [p], **options)
        p.grad = randn(40, seed=2).bfloat16()
        optimizer.step()
        found.append(contents(p, optimizer))
    assert same(found[0], found[1])
    assert found[1]["step"].dtype == torch.float32


def test_step_hooks_of_torch_run() -> None:
    p, calls = one(), []
    optimizer = FlashAdamW([p])
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    optimizer.step()
    assert calls == ["before", "after"]


def test_without_elements_or_gradients_nothing_happens() -> None:
    empty, idle = nn.Parameter(torch.zeros(0, 3, dtype=torch.bfloat16)), one()
    for backend in ("auto", "eager", "compiled"):
        optimizer = FlashAdamW([empty, idle], backend=backend)
        empty.grad = torch.zeros_like(empty)
        optimizer.step()
        assert int(optimizer.state[empty]["step"]) == 1
        assert idle not in optimizer.state
    with pytest.raises(ValueError, match="empty parameter list"):
        FlashAdamW([])


def test_a_zero_dimensional_parameter() -> None:
    p, optimizer = prepared("bf16c8", "adam", shape=(), t=0, backend="auto")
    q, plain = prepared("bf16c8", "adam", shape=(1,), t=0, backend="auto")
    optimizer.step()
    plain.step()
    assert p.item() == q.item()


def test_a_parameter_twice_in_a_group_is_refused() -> None:
    parameter = nn.Parameter(torch.ones(3))
    with pytest.raises(ValueError, match="every parameter once in its group, got 2 entries with repetitions"):
        FlashAdamW([parameter, parameter])


@pytest.mark.parametrize("name", ["quantize", "decouple_lr", "stochastic_rounding", "maximize", "capturable"])
def test_switches_are_on_or_off(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} as True or False"):
        FlashAdamW([nn.Parameter(torch.ones(3))], **{name: "no"})


def test_a_dampening_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="a finite number for dampening"):
        FlashSGD([nn.Parameter(torch.ones(3))], momentum=0.9, dampening=float("nan"))


@pytest.mark.parametrize("step", [float("nan"), float("inf"), -1.0, 2.0**32])
def test_a_number_of_steps_that_makes_no_sense_is_refused(step: float) -> None:
    parameter = nn.Parameter(torch.ones(3))
    parameter.grad = torch.ones(3)
    optimizer = FlashAdamW([parameter])
    optimizer.step()
    state = optimizer.state_dict()
    state["state"][0] = {**state["state"][0], "step": torch.tensor(step)}
    with pytest.raises(ValueError, match="a number of steps of at least 0"):
        optimizer.load_state_dict(state)
    assert float(optimizer.state[parameter]["step"]) == 1.0
