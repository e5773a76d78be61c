"""What every optimizer of the room has in common, one battery for all of them."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from hasten.optim import APOLLO, LAMB, LARS, SAM, SPAM, APOLLOMini, Lion, Muon, StableSPAM
from hasten.optim._per_tensor import adam_state, adamw, count

OPTIMIZERS: dict[str, tuple[type, dict[str, Any]]] = {
    "lamb": (LAMB, {}),
    "lamb_all": (LAMB, {"exclude_vectors": False, "bias_correction": False, "max_grad_norm": 1.0, "max_trust": 5.0}),
    "lars": (LARS, {"trust_coefficient": 0.1}),
    "lars_no_momentum": (LARS, {"momentum": 0.0}),
    "lion": (Lion, {"weight_decay": 0.1}),
    "apollo": (APOLLO, {"rank": 2, "update_proj_gap": 2, "weight_decay": 0.1}),
    "apollo_adamw": (APOLLO, {"rank": None}),
    "apollo_mini": (APOLLOMini, {"update_proj_gap": 3}),
    "spam": (SPAM, {"reset_interval": 3, "warmup_steps": 2, "clip_start": 1, "threshold": 2.0}),
    "stable_spam": (StableSPAM, {"reset_interval": 3, "t_max": 5, "weight_decay": 0.1}),
    "muon": (Muon, {}),
    "muon_adamw": (Muon, {"use_muon": False}),
}
every = pytest.mark.parametrize("name", OPTIMIZERS)


def build(name: str, params: Any, **options: Any) -> torch.optim.Optimizer:
    cls, own = OPTIMIZERS[name]
    return cls(params, **{"lr": 0.05, **own, **options})


def network(dtype: torch.dtype = torch.float32) -> nn.Module:
    """Matrices both ways, filters, vectors."""
    return nn.Sequential(nn.Conv1d(1, 4, 3), nn.Flatten(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 2)).to(dtype)


def closure_for(model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> Callable[[], torch.Tensor]:
    dtype = next(model.parameters()).dtype
    x = torch.randn(8, 1, 4, generator=torch.Generator().manual_seed(step)).to(dtype)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (model(x) - 1).square().mean()
        loss.backward()
        return loss

    return closure


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> list[torch.Tensor]:
    for step in steps:
        optimizer.step(closure_for(model, optimizer, step))
    return [p.detach().clone() for p in model.parameters()]


def equal(one: list[torch.Tensor], two: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def stepped(name: str, start: torch.Tensor, gradient: torch.Tensor, **options: Any) -> torch.Tensor:
    p = nn.Parameter(start.clone(memory_format=torch.preserve_format))
    p.grad = gradient.clone(memory_format=torch.preserve_format)
    before = p.grad.clone()
    optimizer = build(name, [p], **options)
    for _ in range(3):
        assert optimizer.step() is None
    assert torch.equal(p.grad, before) or before.isnan().any(), "the gradient is left alone"
    return p.detach()


@every
def test_it_trains(name: str) -> None:
    model = network()
    optimizer = build(name, model.parameters(), lr=5e-3 if "lars" not in name else 0.1)
    first = optimizer.step(closure_for(model, optimizer, 0)).item()
    train(model, optimizer, range(1, 60))
    assert optimizer.step(closure_for(model, optimizer, 0)).item() < 0.8 * first


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_resumed_run_has_the_same_bits(name: str, dtype: torch.dtype) -> None:
    model = network(dtype)
    optimizer = build(name, model.parameters())
    train(model, optimizer, range(4))
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    expected = train(model, optimizer, range(4, 8))
    file.seek(0)
    stored = torch.load(file, weights_only=True)
    other_model = network(dtype)
    other_model.load_state_dict(stored["model"])
    other = build(name, other_model.parameters())
    other.load_state_dict(stored["optimizer"])
    assert other.state_dict()["param_groups"] == stored["optimizer"]["param_groups"]
    assert equal(train(other_model, other, range(4, 8)), expected)
    wide = torch.promote_types(dtype, torch.float32)
    for state in other.state.values():
        for key, value in state.items():
            assert not isinstance(value, torch.Tensor) or key == "step" or value.dtype == wide, "state is wide"


@every
def test_deepcopy_and_pickle_go_on_alike(name: str) -> None:
    model = network()
    optimizer = build(name, model.parameters())
    train(model, optimizer, range(4))
    copies = [copy.deepcopy((model, optimizer)), pickle.loads(pickle.dumps((model, optimizer)))]
    expected = train(model, optimizer, range(4, 8))
    for other_model, other in copies:
        assert equal(train(other_model, other, range(4, 8)), expected)


@every
def test_inside_sam(name: str) -> None:
    """The base steps from the weights themselves with the gradient uphill, and SAM's state holds all of it."""
    model, plain_model = network(), network()
    plain_model.load_state_dict(model.state_dict())
    sam, plain, uphill = SAM(build(name, model.parameters()), rho=0.1), build(name, plain_model.parameters()), []
    sam.base.register_step_pre_hook(lambda *_: uphill.append([p.grad.clone() for p in model.parameters()]))
    moved = train(model, sam, range(4))
    for gradients in uphill:
        for p, gradient in zip(plain_model.parameters(), gradients, strict=True):
            p.grad = gradient
        plain.step()
    assert equal(moved, list(plain_model.parameters()))
    other_model = copy.deepcopy(model)
    other = SAM(build(name, other_model.parameters()), rho=0.1)
    other.load_state_dict(sam.state_dict())
    assert equal(train(other_model, other, range(4, 6)), train(model, sam, range(4, 6)))


@every
def test_groups_have_their_own_options(name: str) -> None:
    model, extra = network(), nn.Parameter(torch.ones(3, 2))
    parts = [{"params": model[0].parameters(), "lr": 0.0, "weight_decay": 0.0}, {"params": model[2].parameters()}]
    optimizer = build(name, parts)
    optimizer.add_param_group({"params": [extra], "lr": 0.5})
    extra.grad = torch.ones_like(extra)
    before = copy.deepcopy(model)
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    assert torch.equal(model[0].weight, before[0].weight)
    assert not torch.equal(model[2].weight, before[2].weight)
    assert not torch.equal(extra.detach(), torch.ones(3, 2))
    assert torch.equal(model[4].weight, before[4].weight)


@every
def test_bad_options_of_groups_are_refused(name: str) -> None:
    optimizer = build(name, [nn.Parameter(torch.ones(2))])
    with pytest.raises(ValueError, match=r"expected lr >= 0, got -1"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.ones(2))], "lr": -1.0})
    assert len(optimizer.param_groups) == 1
    with pytest.raises(TypeError, match="param_group must be a dict"):
        optimizer.add_param_group([nn.Parameter(torch.ones(2))])


@every
def test_learning_rates_as_tensors_and_schedulers(name: str) -> None:
    one, two = network(), network()
    two.load_state_dict(one.state_dict())
    runs = [(one, build(name, one.parameters(), lr=torch.tensor(0.5))), (two, build(name, two.parameters(), lr=0.5))]
    for model, optimizer in runs:
        scheduler = lr_scheduler.ExponentialLR(optimizer, 0.5)
        for step in range(3):
            train(model, optimizer, range(step, step + 1))
            scheduler.step()
        assert float(optimizer.param_groups[0]["lr"]) == 0.0625
    assert isinstance(runs[0][1].param_groups[0]["lr"], torch.Tensor)
    assert equal(list(one.parameters()), list(two.parameters()))


@every
def test_maximize_climbs(name: str) -> None:
    start, gradient = torch.randn(5, 4), torch.randn(5, 4)
    up = stepped(name, start, gradient, maximize=True)
    assert torch.equal(up, stepped(name, start, -gradient))
    assert not torch.equal(up, stepped(name, start, gradient))


@every
def test_no_gradient_no_state_and_the_loss_of_the_closure(name: str) -> None:
    model = network()
    model[0].weight.requires_grad_(False)
    optimizer = build(name, model.parameters())
    assert optimizer.step() is None
    assert not optimizer.state
    assert optimizer.state_dict()["state"] == {}
    assert optimizer.step(closure_for(model, optimizer, 0)).requires_grad
    assert model[0].weight not in optimizer.state


@every
@pytest.mark.parametrize("shape", [(), (1,), (7,), (4, 3), (3, 4), (2, 3, 4), (2, 1, 3, 3)])
def test_a_zero_gradient_and_no_decay_changes_nothing(name: str, shape: tuple[int, ...]) -> None:
    start = torch.randn(shape)
    assert torch.equal(stepped(name, start, torch.zeros(shape), weight_decay=0.0), start)
    moved = stepped(name, start, torch.randn(shape))
    assert moved.shape == start.shape
    assert moved.isfinite().all()
    assert not torch.equal(moved, start)


@every
@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 3)])
def test_empty_tensors(name: str, shape: tuple[int, ...]) -> None:
    assert stepped(name, torch.empty(shape), torch.empty(shape)).shape == shape


@every
def test_memory_order_does_not_matter(name: str) -> None:
    start, gradient = torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
    expected = stepped(name, start, gradient)
    for x, g in ((start.T.contiguous().T, gradient), (start, gradient.T.contiguous().T)):
        torch.testing.assert_close(stepped(name, x, g), expected, rtol=1e-2 if "muon" in name else 1e-9, atol=1e-9)
    images = torch.randn(4, 3, 2, 2), torch.randn(4, 3, 2, 2)
    last = [tensor.contiguous(memory_format=torch.channels_last) for tensor in images]
    torch.testing.assert_close(stepped(name, *last), stepped(name, *images), rtol=1e-3, atol=1e-3)


@every
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_gradient_reaches_the_weights(name: str, bad: float) -> None:
    start, gradient = torch.randn(4, 3), torch.randn(4, 3)
    gradient[1, 2] = bad
    p = nn.Parameter(start)
    p.grad = gradient
    optimizer = build(name, [p])
    optimizer.step()
    if name == "lion" and bad > 0:
        assert p.isfinite().all(), "the sign of infinity is 1"
    else:
        assert not p[1, 2].isfinite()


@every
def test_gradients_of_another_kind_are_refused_and_nothing_is_changed(name: str) -> None:
    good, table = nn.Parameter(torch.ones(2, 2)), nn.Embedding(4, 2, sparse=True)
    good.grad = torch.ones(2, 2)
    table(torch.tensor([1])).sum().backward()
    optimizer = build(name, [good, table.weight])
    with pytest.raises(TypeError, match=r"\.step: expected dense gradients, got one of layout torch.sparse_coo"):
        optimizer.step()
    assert torch.equal(good.detach(), torch.ones(2, 2))
    complex_ = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    complex_.grad = torch.ones_like(complex_)
    with pytest.raises(TypeError, match="expected real floating-point parameters"):
        build(name, [complex_]).step()


@every
def test_no_global_generator_is_touched(name: str) -> None:
    model = network()
    optimizer = build(name, model.parameters())
    train(model, optimizer, range(1))
    before = torch.get_rng_state()
    optimizer.step()
    assert torch.equal(before, torch.get_rng_state())


@every
def test_a_bfloat16_parameter_is_rounded_once_per_step(name: str) -> None:
    start, gradient = torch.randn(6, 4).bfloat16(), torch.randn(6, 4).bfloat16()
    p, wide = nn.Parameter(start.clone()), nn.Parameter(start.float())
    p.grad, wide.grad = gradient.clone(), gradient.float()
    build(name, [p]).step()
    build(name, [wide]).step()
    assert torch.equal(p.detach(), wide.detach().bfloat16())


@every
def test_the_options_of_a_foreign_state_are_completed(name: str) -> None:
    p = nn.Parameter(torch.ones(2, 2))
    p.grad = torch.ones(2, 2)
    optimizer = build(name, [p])
    optimizer.load_state_dict({"state": {}, "param_groups": [{"lr": 0.25, "params": [0]}]})
    optimizer.step()
    assert optimizer.param_groups[0]["lr"] == 0.25


@every
def test_bad_options(name: str) -> None:
    params = [nn.Parameter(torch.ones(2))]
    cls = OPTIMIZERS[name][0]
    cases = [
        ({"lr": -1.0}, ValueError, "lr >= 0, got -1"), ({"lr": float("nan")}, ValueError, "a finite number for lr"),
        ({"lr": torch.ones(2)}, ValueError, "a tensor of one element"),
        ({"weight_decay": -0.1}, ValueError, "weight_decay >= 0"), ({"maximize": 1}, TypeError, "True or False"),
    ]  # fmt: skip
    for options, error, text in cases:
        with pytest.raises(error, match=rf"^{cls.__name__}: expected .*{text}"):
            build(name, params, **options)
    if "betas" in build(name, params).defaults:
        for betas in ((1.0, 0.9), (0.9, -0.1), (0.9,), 0.9, (float("nan"), 0.9)):
            with pytest.raises(ValueError, match="betas"):
                build(name, params, betas=betas)
    if "eps" in build(name, params).defaults:
        with pytest.raises(ValueError, match="eps >= 0"):
            build(name, params, eps=-1e-8)


def test_adamw_has_the_bits_of_torch() -> None:
    mine, theirs, state = torch.randn(5, 3), nn.Parameter(torch.empty(5, 3)), {}
    theirs.data.copy_(mine)
    state = adam_state(mine)
    peer = torch.optim.AdamW([theirs], lr=0.1, weight_decay=0.3, betas=(0.8, 0.95), foreach=False)
    for _ in range(20):
        theirs.grad = torch.randn(5, 3)
        peer.step()
        group = {"lr": 0.1, "weight_decay": 0.3, "betas": (0.8, 0.95), "eps": 1e-8}
        adamw(mine, theirs.grad, state, group, count(state))
        assert torch.equal(mine, theirs.detach())


def test_golden_first_steps() -> None:
    """From weights [3, 4] and gradients [1, -2], by hand."""
    expected = {
        "lamb": 3 - 0.05 * 5 / 2**0.5, "lars": 3 - 0.05 * 0.1 * 5 / 5**0.5, "lion": 2.95,
        "spam": 2.95, "stable_spam": 2.95, "apollo_adamw": 2.95, "muon_adamw": 2.95,
    }  # fmt: skip
    for name, value in expected.items():
        p = nn.Parameter(torch.tensor([[3.0, 4.0]], dtype=torch.float64))
        p.grad = torch.tensor([[1.0, -2.0]], dtype=torch.float64)
        build(name, [p], weight_decay=0.0).step()
        assert p[0, 0].item() == pytest.approx(value, abs=1e-5), name
