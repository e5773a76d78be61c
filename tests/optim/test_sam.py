from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.optim import reference
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from hasten._core.norm import frozen_batch_norm_statistics
from hasten.optim import SAM, clip_norm


def closure_for(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, seen: list | None = None
) -> object:
    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        if seen is not None:
            seen.append([p.detach().clone() for p in model.parameters()])
        return loss

    return closure


def data(seed: int = 0) -> torch.Tensor:
    return torch.randn(8, 4, generator=torch.Generator().manual_seed(seed))


def network() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def equal(one: list[torch.Tensor], two: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_golden_on_a_parabola() -> None:
    w = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    sam, at_base = SAM(torch.optim.SGD([w], lr=0.1)), []
    sam.base.register_step_pre_hook(lambda *_: at_base.append((w.item(), w.grad.item())))

    def closure() -> torch.Tensor:
        sam.zero_grad()
        loss = 0.5 * w.square().sum()
        loss.backward()
        return loss

    assert sam.step(closure).item() == 0.5, "the loss at the weights, not uphill"
    assert at_base == [(1.0, pytest.approx(1.05, abs=1e-12))], "weights restored before the base step"
    assert w.item() == pytest.approx(1 - 0.105, abs=1e-12)


@given(rho=st.floats(0, 1), seed=st.integers(0, 99))
def test_equals_the_slow_reference(rho: float, seed: int) -> None:
    torch.manual_seed(seed)
    model, x = network().double(), data(seed).double()
    expected = [p.detach().clone() for p in model.parameters()]

    def gradient_at(values: list[torch.Tensor]) -> list[torch.Tensor]:
        probe = copy.deepcopy(model)
        for p, value in zip(probe.parameters(), values, strict=True):
            p.data = value.clone()
        return list(torch.autograd.grad(probe(x).square().mean(), list(probe.parameters())))

    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.3), rho=rho)
    for _ in range(3):
        expected = reference.sam_step(expected, gradient_at, rho, 1e-12, 0.3)
        sam.step(closure_for(model, sam, x))
    for p, value in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(p.detach(), value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_come_back_bit_for_bit(dtype: torch.dtype) -> None:
    model, x, seen = network().to(dtype), data().to(dtype), []
    before = weights(model)
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.0), rho=0.3)
    sam.step(closure_for(model, sam, x, seen))
    assert equal(weights(model), before)
    assert len(seen) == 2
    assert not equal(seen[1], before)
    climb = torch.cat([(a - b).float().flatten() for a, b in zip(seen[1], before, strict=True)]).norm()
    assert float(climb) == pytest.approx(0.3, rel=1e-4 if dtype == torch.float32 else 0.05)


def test_only_every_interval_th_step_climbs_and_the_others_are_plain() -> None:
    one, two, x, seen = network(), network(), data(), []
    two.load_state_dict(one.state_dict())
    sam = SAM(torch.optim.SGD(one.parameters(), lr=0.1, momentum=0.9), interval=3)
    plain = torch.optim.SGD(two.parameters(), lr=0.1, momentum=0.9)
    counts = []
    for step in range(6):
        seen.clear()
        sam.step(closure_for(one, sam, x, seen))
        counts.append(len(seen))
        if step < 2:
            plain.step(closure_for(two, plain, x))
            assert equal(weights(one), weights(two))
    assert counts == [1, 1, 2, 1, 1, 2]
    assert sam.steps == 6


def test_a_failing_closure_leaves_the_weights() -> None:
    model, x, calls = network(), data(), []
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1))
    inner = closure_for(model, sam, x)

    def closure() -> torch.Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise MemoryError("second pass")
        return inner()

    before = weights(model)
    with pytest.raises(MemoryError, match="second pass"):
        sam.step(closure)
    assert equal(weights(model), before)
    assert sam.steps == 0


def test_a_norm_that_is_not_finite_is_an_error_and_changes_nothing() -> None:
    for bad in (float("nan"), float("inf")):
        model, x = network(), data()
        before = weights(model)
        sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1))
        with pytest.raises(RuntimeError, match=r"a finite gradient norm, got (nan|inf)\. Lower the learning rate"):
            sam.step(closure_for(model, sam, x * bad))
        assert equal(weights(model), before)


def test_zero_gradients_and_parameters_without_one() -> None:
    model = network()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1))
    sam.step(closure_for(model, sam, data()))
    assert torch.equal(model[0].weight, before)
    w = nn.Parameter(torch.ones(2))
    flat = SAM(torch.optim.SGD([w], lr=0.1))

    def closure() -> torch.Tensor:
        flat.zero_grad()
        loss = (w * 0).sum()
        loss.backward()
        return loss

    flat.step(closure)
    assert torch.equal(w.detach(), torch.ones(2))


def test_batch_norm_statistics_move_once_under_the_context() -> None:
    model, x = reference.network(), data()
    sam, passes = SAM(torch.optim.SGD(model.parameters(), lr=0.1)), []

    def closure() -> torch.Tensor:
        sam.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss

    def guarded() -> torch.Tensor:
        passes.append(1)
        if len(passes) == 2:
            with frozen_batch_norm_statistics(model):
                return closure()
        return closure()

    sam.step(guarded)
    assert int(model[1].num_batches_tracked) == 1


@pytest.mark.parametrize("on", ["sam", "base"])
def test_schedulers_work_on_either(on: str) -> None:
    model, x = network(), data()
    sam = SAM(torch.optim.SGD(model.parameters(), lr=1.0))
    scheduler = LambdaLR(sam if on == "sam" else sam.base, lambda step: 1 / (1 + step))
    rates = []
    for _ in range(3):
        rates.append((sam.param_groups[0]["lr"], sam.base.param_groups[0]["lr"]))
        sam.step(closure_for(model, sam, x))
        scheduler.step()
    assert rates == [(1.0, 1.0), (0.5, 0.5), (1 / 3, 1 / 3)]


def make(model: nn.Module) -> SAM:
    return SAM(torch.optim.AdamW(model.parameters(), lr=0.01), rho=0.1, interval=2)


def run(model: nn.Module, sam: SAM, steps: range) -> list[torch.Tensor]:
    for step in steps:
        sam.step(closure_for(model, sam, data(step)))
    return weights(model)


def test_deepcopy_and_pickle_go_on_alike() -> None:
    model = network()
    sam = make(model)
    run(model, sam, range(3))
    copies = [copy.deepcopy((model, sam)), pickle.loads(pickle.dumps((model, sam)))]
    expected = run(model, sam, range(3, 6))
    for other_model, other in copies:
        assert other.param_groups is other.base.param_groups
        assert other.param_groups[0]["params"][0] is next(other_model.parameters())
        assert equal(run(other_model, other, range(3, 6)), expected)


def test_state_dict_round_trip_is_exact() -> None:
    model = network()
    sam = make(model)
    run(model, sam, range(3))
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "sam": sam.state_dict()}, file)
    file.seek(0)
    stored = torch.load(file, weights_only=True)
    expected = run(model, sam, range(3, 6))
    other_model = network()
    other_model.load_state_dict(stored["model"])
    other = make(other_model)
    other.load_state_dict(stored["sam"])
    assert other.steps == 3
    assert other.param_groups is other.base.param_groups
    assert equal(run(other_model, other, range(3, 6)), expected)


def test_groups_are_one_and_the_same() -> None:
    model, extra = network(), nn.Parameter(torch.zeros(3))
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1))
    sam.add_param_group({"params": [extra], "lr": 0.7})
    assert len(sam.base.param_groups) == len(sam.param_groups) == 2
    assert sam.param_groups[1]["lr"] == 0.7
    sam.base.add_param_group({"params": [nn.Parameter(torch.zeros(2))]})
    assert len(sam.param_groups) == 3
    assert sam.defaults is sam.base.defaults
    assert sam.state is sam.base.state
    assert isinstance(sam, torch.optim.Optimizer)
    assert sam.needs_closure
    assert "lr: 0.7" in repr(sam)


def test_hooks_of_both_run_once_and_clipping_on_the_base_acts_once() -> None:
    model, x, calls = network(), data(), []
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1))
    sam.register_step_pre_hook(lambda *_: calls.append("sam before"))
    sam.register_step_post_hook(lambda *_: calls.append("sam after"))
    sam.base.register_step_pre_hook(lambda *_: clip_norm(model.parameters(), max_norm=1e-3))
    sam.base.register_step_pre_hook(lambda *_: calls.append("base"))
    sam.register_state_dict_post_hook(lambda _, state: {**state, "note": 1})
    before = weights(model)
    sam.step(closure_for(model, sam, x))
    assert calls == ["sam before", "base", "sam after"]
    moved = torch.cat([(a - b).flatten() for a, b in zip(weights(model), before, strict=True)]).norm()
    assert float(moved) == pytest.approx(1e-4, rel=1e-3)
    assert sam.state_dict()["note"] == 1


def test_compiled_autocast_and_zero_grad() -> None:
    model, x = network(), data()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    sam = SAM(torch.optim.SGD(model.parameters(), lr=0.1))

    def closure() -> torch.Tensor:
        sam.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = compiled(x[:1]).float().square().mean()
        loss.backward()
        return loss

    before = weights(model)
    sam.step(closure)
    assert not equal(weights(model), before)
    sam.zero_grad(set_to_none=False)
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_bad_input_is_refused() -> None:
    base = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(TypeError, match=r"a torch optimizer as base, got <class .*Build it first"):
        SAM(torch.optim.SGD)
    with pytest.raises(TypeError, match="a base that needs no closure"):
        SAM(SAM(base))
    with pytest.raises(TypeError, match="a base that needs no closure"):
        SAM(torch.optim.LBFGS([nn.Parameter(torch.zeros(1))]))
    for options, text in (
        ({"rho": -1.0}, "rho >= 0"), ({"epsilon": -1.0}, "epsilon >= 0"), ({"interval": 0}, "at least 1 for interval")
    ):  # fmt: skip
        with pytest.raises(ValueError, match=text):
            SAM(base, **options)
    with pytest.raises(TypeError, match=r"SAM\.step: expected a closure, got None\. Call step\(closure\)"):
        SAM(base).step()
    with pytest.raises(ValueError, match=r"a state of SAM, got .*sam\.base\.load_state_dict"):
        SAM(base).load_state_dict(base.state_dict())
