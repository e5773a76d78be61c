"""From a program to live objects: the order of things, their random streams, and what does not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.contract import images
from tests.contract.battery import IMAGES, SMALL
from torch import Tensor, nn

from hasten import methods
from hasten._core.surgery import Report
from hasten.bench.build import base_optimizer, build, build_model, check_batch, checked_loss
from hasten.optim import SAM
from hasten.program import Program, ProgramError, Scheduled, bind, call
from hasten.schedules import constant, over

CPU = torch.device("cpu")
BASE = IMAGES.program


def made(program: Program, seed: int = 0) -> Any:
    return build(program, seed=seed, device=CPU)


def digest(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def same(one: nn.Module, two: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(digest(one), digest(two), strict=True))


def test_the_seed_decides_the_weights_and_nothing_else_does() -> None:
    one, _ = build_model(BASE, 0)
    state = torch.get_rng_state()
    torch.manual_seed(99)
    two, _ = build_model(BASE, 0)
    assert same(one, two)
    assert not same(one, build_model(BASE, 1)[0])
    torch.set_rng_state(state)
    build_model(BASE, 5)
    assert torch.equal(torch.get_rng_state(), state)


def drawing(model: nn.Module, *, generator: torch.Generator) -> Report:
    """A surgery that draws: from its own generator and, carelessly, from the global one."""
    model.add_module("extra", nn.Linear(2, 2))
    model.register_buffer("noise", torch.rand(3, generator=generator))
    return Report("drawing", ("extra",))


def test_a_surgery_draws_from_streams_of_its_own() -> None:
    program = BASE.append("surgery", "b", bind(drawing), stage=20)
    alone, reports = build_model(program, 0)
    behind, _ = build_model(program.append("surgery", "a", bind(drawing), stage=10), 0)
    assert torch.equal(alone.noise, behind.noise)
    assert torch.equal(alone.extra.weight, behind.extra.weight)
    assert reports["b"].changed == ("extra",)
    first = build_model(BASE, 0)[0]
    assert all(torch.equal(a, b) for a, b in zip(digest(first), digest(alone), strict=False))


def test_surgery_comes_before_the_optimizer() -> None:
    built = made(BASE.append("surgery", "b", bind(drawing)))
    held = {id(p) for group in built.optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in built.model.parameters()} == held


def finds_nothing(model: nn.Module, *, generator: torch.Generator) -> Report:
    return Report("finds_nothing").warn_if_empty("something")


def returns_nothing(model: nn.Module, *, generator: torch.Generator) -> None:
    return None


def test_a_surgery_without_effect_is_an_error_and_needs_a_report() -> None:
    with pytest.raises(
        ProgramError, match="x: expected something to change in this model, found nothing. Leave it out"
    ):
        build_model(BASE.append("surgery", "x", bind(finds_nothing)), 0)
    with pytest.raises(TypeError, match="surgery 'x': expected a Report of what changed, got None"):
        build_model(BASE.append("surgery", "x", bind(returns_nothing)), 0)


def test_a_model_is_a_module() -> None:
    with pytest.raises(TypeError, match="program.model: expected a function that returns an nn.Module, got Scheduled"):
        build_model(BASE.set(model=BASE.schedule), 0)


def test_on_the_meta_device_nothing_is_paid_for() -> None:
    with torch.device("meta"):
        model, reports = build_model(BASE.then(SMALL["blurpool"], SMALL["stochastic_depth"]), 0)
    assert all(p.is_meta for p in model.parameters())
    assert set(reports) == {"blurpool", "stochastic_depth"}


def test_groups_remember_the_learning_rate_they_began_with() -> None:
    built = made(BASE.then(methods.sam()))
    assert [group["initial_lr"] for group in built.optimizer.param_groups] == [images.LEARNING_RATE] * 2
    assert isinstance(built.optimizer, SAM)
    assert type(base_optimizer(built.optimizer)) is torch.optim.SGD


def double(loss: Any) -> Any:
    return lambda outputs, batch: 2 * loss(outputs, batch)


def plus_one(loss: Any) -> Any:
    return lambda outputs, batch: loss(outputs, batch) + 1


def test_losses_wrap_innermost_first() -> None:
    batch = (torch.zeros(2, 3), torch.tensor([0, 1]))
    plain = made(BASE).loss(batch[0], batch)
    program = BASE.append("losses", "double", bind(double), stage=10).append("losses", "more", bind(plus_one), stage=20)
    torch.testing.assert_close(made(program).loss(batch[0], batch), 2 * plain + 1)


class OnBatch:
    def __init__(self, note: str) -> None:
        self.note = note

    def on_batch(self, batch: Any, run: Any) -> Any:
        return batch


def transform(batch: Any, *, generator: torch.Generator, strength: float = 1.0) -> Any:
    return batch


def test_transforms_and_hooks_share_one_order() -> None:
    program = (
        BASE.append("batch", "late", bind(transform), stage=60)
        .append("batch", "early", bind(transform), stage=10)
        .append("hooks", "middle", call(OnBatch, note="m"), stage=40)
        .append("hooks", "with_late", call(OnBatch, note="w"), stage=60)
    )
    assert [t.name for t in made(program).transforms] == ["early", "middle", "late", "with_late"]


def test_schedules_among_the_arguments_are_told_apart() -> None:
    built = made(BASE.then(methods.progressive_resizing()))
    (found,) = built.transforms
    assert set(found.scheduled) == {"scale"}
    assert found.fixed == {"increment": 4, "mode": "bilinear"}


def test_a_batch_transform_on_the_clock_of_seconds_is_refused() -> None:
    strength = call(Scheduled, schedule=over(constant(), "10min"), unit="seconds")
    program = BASE.append("batch", "noise", bind(transform, strength=strength))
    for refusing in (check_batch, made):
        with pytest.raises(
            ValueError,
            match=r"batch transform 'noise': expected a schedule that gives every run the same data, "
            r"got one in seconds for strength\. Use unit='progress', or a unit that counts\.",
        ):
            refusing(program)
    strength = call(Scheduled, schedule=constant(0.5), unit="sample")
    program = BASE.append("batch", "noise", bind(transform, strength=strength))
    check_batch(program)
    (found,) = made(program).transforms
    assert set(found.scheduled) == {"strength"}


def test_a_schedule_must_be_bound_to_a_clock() -> None:
    program = BASE.set(schedule=BASE.schedule["schedule"])
    with pytest.raises(TypeError, match=r"program\.schedule: expected a Scheduled, got Warmup.*Use call\(Scheduled"):
        made(program)


def test_gradient_functions_run_before_the_base_optimizers_step() -> None:
    built = made(BASE.then(methods.gradient_clipping(1e-3), methods.sam()))
    for p in built.model.parameters():
        p.grad = torch.ones_like(p)
    base_optimizer(built.optimizer).step()
    norm = torch.nn.utils.get_total_norm([p.grad for p in built.model.parameters()])
    assert float(norm) == pytest.approx(1e-3, rel=1e-4)


@pytest.mark.parametrize(
    ("losses", "fix"),
    [
        (torch.tensor(1.0), r"got Tensor of shape \(\).*Do not average over the batch: use reduction='none'"),
        (torch.zeros(4, 1), r"got Tensor of shape \(4, 1\).*Average over everything but the batch, for example"),
        (torch.zeros(4, 5), "got.*Average over everything but the batch"),
        (torch.zeros(3), r"got Tensor of shape \(3,\)"),
        (1.0, "got 1.0 for targets"),
        (None, "got None for targets"),
        ([torch.tensor(1.0)] * 4, r"got \[tensor"),
    ],
)
def test_a_loss_is_one_value_per_sample(losses: Any, fix: str) -> None:
    batch = (torch.zeros(4, 2), torch.zeros(4))
    with pytest.raises(ValueError, match=rf"loss: expected one value per sample, shape \(4,\), {fix}"):
        checked_loss(losses, batch, 4)
    assert checked_loss(torch.ones(4), batch, 4).sum() == 4


@pytest.mark.parametrize("norm", [nn.BatchNorm1d(2), nn.BatchNorm2d(2), nn.SyncBatchNorm(2)])
def test_batch_norm_and_microbatches_do_not_meet(norm: nn.Module) -> None:
    from hasten.bench.build import _check_microbatch

    model = nn.Sequential(nn.Linear(2, 2), norm)
    with pytest.raises(ValueError, match=rf"expected a model without batch norm, got 1 \({type(norm).__name__}\)"):
        _check_microbatch(BASE.set(microbatch=4), model)
    for size in (None, 8, 9):
        _check_microbatch(BASE.set(microbatch=size), model)
    _check_microbatch(BASE.set(microbatch=4), nn.Sequential(nn.GroupNorm(1, 2), nn.LayerNorm(2)))
