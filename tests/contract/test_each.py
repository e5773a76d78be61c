"""Every method of the catalogue alone: it trains, it changes something, it resumes, and it keeps what its card says."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from tests.contract import images
from tests.contract.battery import (
    FLASH,
    IMAGES,
    PLACES,
    SMALL,
    STEPS,
    WORKLOADS,
    bits,
    checked,
    judge,
    killed_after,
    resumes_to_the_bit,
    run,
)
from torch import nn

from hasten import methods
from hasten.bench.build import build_model
from hasten.bench.train import Result
from hasten.program import Program, bind, call

SAME_WEIGHTS = ("channels_last", "ema")  # these change how training is laid out or what is evaluated, not the weights
TWO = ((0, 5, 0), (5, 9, 1))  # two cycles, of which an epoch's end (6 steps) splits the second


def made(where: str, name: str) -> Program:
    return WORKLOADS[where].program.then(SMALL[name])


@functools.cache
def baseline(where: str) -> Result:
    return run(WORKLOADS[where].program, WORKLOADS[where], cycles=((0, 24, 0),))


def promising(what: str) -> list[tuple[str, str]]:
    return [(where, name) for where, name in PLACES if what in SMALL[name].card.exact]


def close(one: Result, two: Result, tolerance: float) -> None:
    for a, b in zip(one.points, two.points, strict=True):
        assert a.metric == pytest.approx(b.metric, rel=tolerance)
        assert a.train_loss == pytest.approx(b.train_loss, rel=tolerance)


def test_the_battery_covers_the_catalogue() -> None:
    assert set(SMALL) == set(methods.catalogue()) == {factory.name for factory in methods.OURS}
    assert set(SMALL) <= set(methods.__all__)


@pytest.mark.parametrize(("where", "name"), PLACES)
def test_it_trains_and_changes_something(where: str, name: str) -> None:
    workload, program = WORKLOADS[where], checked(made(where, name), WORKLOADS[where])
    untrained, _ = build_model(program, 0)
    before = judge(untrained, workload)
    found = run(program, workload, cycles=((0, 24, 0),))
    assert found.points[0].metric > before + 0.1
    base = baseline(where)
    if name == "channels_last":
        close(found, base, 1e-4)  # the same function, other kernels
    else:
        assert found.points[0].metric != base.points[0].metric
        assert (found.weights == base.weights) == (name in SAME_WEIGHTS)


@pytest.mark.parametrize(("where", "name"), promising("resume"))
def test_it_resumes_to_the_bit(where: str, name: str, tmp_path: Path) -> None:
    program, workload = made(where, name), WORKLOADS[where]
    straight = run(program, workload, cycles=TWO)
    assert not straight.resumed
    kills = (1, 3, 5, 7, 9)  # after the first step, inside both cycles, at the first point, at the very end
    resumes_to_the_bit(straight, kills, functools.partial(run, program, workload, cycles=TWO), tmp_path)


def test_every_method_promises_to_resume() -> None:
    assert len(promising("resume")) == len(PLACES)


@pytest.mark.parametrize(("where", "name"), PLACES)
def test_it_needs_no_state_from_outside_and_leaves_none(where: str, name: str) -> None:
    program, workload = made(where, name), WORKLOADS[where]
    first = run(program, workload)
    torch.manual_seed(12345)
    before = torch.get_rng_state()
    assert bits(run(program, workload)) == bits(first)
    assert torch.equal(torch.get_rng_state(), before)
    assert run(program, workload, seed=1).weights != first.weights


@pytest.mark.parametrize(("where", "name"), promising("compile"))
def test_compiled_is_the_same_program(where: str, name: str, tmp_path: Path) -> None:
    torch._dynamo.reset()
    program, workload = made(where, name).replace(compile="aot_eager"), WORKLOADS[where]
    torch._dynamo.utils.counters.clear()
    compiled = run(program, workload)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1
    assert not torch._dynamo.utils.counters["graph_break"]
    close(compiled, run(program.replace(compile=None), workload), 1e-5)
    with killed_after(3):
        run(program, workload, checkpoint=tmp_path / "c.pt")
    assert bits(run(program, workload, checkpoint=tmp_path / "c.pt")) == bits(compiled)


def double(program: Program) -> Program:
    """The image program in float64, where the order of a sum hardly shows."""
    return program.replace(model=call(images.model, double=True), data=bind(images.double_data))


@pytest.mark.parametrize("name", [name for where, name in promising("microbatch") if where == "images"])
def test_microbatches_change_rounding_only(name: str) -> None:
    program = double(made("images", name))
    whole = run(program)
    for size in (3, 1):  # 3 does not divide 8
        parts = run(program.replace(microbatch=size))
        close(parts, whole, 1e-6)  # the metric is computed in float32
        assert parts.points[0].train_loss == pytest.approx(whole.points[0].train_loss, rel=1e-11)
        assert parts.points[0].flops == whole.points[0].flops
    assert bits(run(program.replace(microbatch=100))) == bits(whole)


@pytest.mark.parametrize("name", [name for where, name in promising("microbatch") if where == "text"])
def test_microbatches_of_text(name: str) -> None:
    program = made("text", name)
    close(run(program.replace(microbatch=3), WORKLOADS["text"]), run(program, WORKLOADS["text"]), 1e-4)


@pytest.mark.parametrize("name", [name for where, name in PLACES if where == "images"])
def test_microbatches_are_refused_with_batch_norm(name: str) -> None:
    program = made("images", name).replace(model=call(images.model, norm="batch"), microbatch=4)
    with pytest.raises(ValueError, match=r"model without batch norm, got 0\.1 .*group or layer norm"):
        run(program)
    run(program.replace(microbatch=8), cycles=((0, 2, 0),))  # one microbatch is the batch


@pytest.mark.parametrize(("where", "name"), PLACES)
def test_it_runs_under_bf16(where: str, name: str) -> None:
    program, workload = made(where, name).replace(precision="bf16"), WORKLOADS[where]
    kinds = set()

    def metric(model: nn.Module, test: object) -> float:
        kinds.update(p.dtype for p in model.parameters())
        inputs = test[0] if where == "images" else test["input_ids"]  # type: ignore[index]
        kinds.add(model.eval()(inputs).dtype)
        return workload.metric.build()(model, test)

    narrow = run(program, workload, metric=metric)
    # Weights stay wide, outputs are narrow; unless the method makes the weights narrow, too.
    assert kinds == ({torch.bfloat16} if name in FLASH else {torch.float32, torch.bfloat16})
    close(narrow, run(made(where, name), workload), 0.1)


@pytest.mark.parametrize(("where", "name"), PLACES)
def test_batches_of_one_sample(where: str, name: str) -> None:
    result = run(made(where, name).replace(batch_size=1), WORKLOADS[where])
    assert result.points[0].step == STEPS


def test_batches_of_one_sample_with_batch_norm() -> None:
    """Works as long as a channel has several positions to average; torch says so where it has not."""
    program = IMAGES.program.replace(model=call(images.model, norm="batch"), batch_size=1)
    assert run(program).points[0].step == STEPS


@pytest.mark.parametrize("name", [name for where, name in PLACES if where == "images"])
def test_images_of_an_odd_size(name: str) -> None:
    program = made("images", name).replace(data=bind(images.odd_data))
    assert run(program, cycles=((0, 3, 0),)).points[0].step == 3
