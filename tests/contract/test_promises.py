"""What the methods promise beyond running: whose weights are judged, what is charged, what is left alone."""

from __future__ import annotations

import copy
import functools
import itertools
import random
from typing import Any

import numpy as np
import pytest
import torch
from tests.contract import images
from tests.contract.battery import IMAGES, NAMES, PLACES, SMALL, STEPS, WORKLOADS, bits, compatible, judge, run
from torch import Tensor, nn

from hasten import methods
from hasten._core.rng import seed_globals
from hasten.bench.build import build, build_model
from hasten.bench.ledger import Ledger
from hasten.bench.run import Run
from hasten.bench.source import BatchSource
from hasten.bench.train import weights_digest
from hasten.optim import clipping
from hasten.program import Program, Tick, bind, call

BASE = IMAGES.program
BATCH_NORM = BASE.replace(model=call(images.model, norm="batch"))
CPU = torch.device("cpu")


class Judge:
    """A metric that keeps a copy of every model it was given."""

    def __init__(self) -> None:
        self.models: list[nn.Module] = []

    def __call__(self, model: nn.Module, test: Any) -> float:
        self.models.append(copy.deepcopy(model))
        return images.metric(model, test)


def weights(model: nn.Module) -> list[Tensor]:
    return [value.detach().clone() for value in model.parameters()]


def live(program: Program, workload: Any = IMAGES, *, steps: int = STEPS) -> tuple[Run, list[Tick], Any]:
    """A run by hand: (run, its ticks, its batches)."""
    source = BatchSource(
        program.data.build()(0), program.sampler.build(), batch_size=program.batch_size, seed=0, device=CPU
    )
    made = Run(program, build(program, seed=0, device=CPU), seed=0, device=CPU, ledger=Ledger(CPU))
    ticks = [Tick(k, 0, steps, 0.0, source.steps_per_epoch, program.batch_size) for k in range(steps)]
    return made, ticks, source.batches(0)


def test_ema_is_evaluated_in_a_copy_and_training_never_sees_it() -> None:
    judge, plain = Judge(), Judge()
    cycles = ((0, 4, 0), (4, 8, 1))
    averaged = run(BASE.then(methods.ema(half_life=0.5)), metric=judge, cycles=cycles)
    base = run(BASE, metric=plain, cycles=cycles)
    assert averaged.weights == base.weights
    assert averaged.points[1].metric != base.points[1].metric
    for mine, theirs in zip(judge.models, plain.models, strict=True):
        assert all(not torch.equal(a, b) for a, b in zip(weights(mine), weights(theirs), strict=True))


def test_ema_of_a_run_by_hand() -> None:
    """The average that is judged is the recursion over the weights after each step."""
    run_, ticks, batches = live(BASE.then(methods.ema(half_life=0.5)), steps=4)
    expected = None
    for tick in ticks:
        run_.step(tick, batches)
        now = [value.double() for value in weights(run_.model)]
        s = 2.0 ** (-0.25 / 0.5)
        expected = now if expected is None else [s * a + (1 - s) * b for a, b in zip(expected, now, strict=True)]
    assert expected is not None
    for a, b in zip(weights(run_.predictor()), expected, strict=True):
        torch.testing.assert_close(a, b.float(), rtol=1e-6, atol=1e-7)


def test_sam_with_no_radius_is_the_base_optimizer_to_the_bit_also_in_batch_norm() -> None:
    """Both passes draw the same dropout masks, and the second one leaves the running statistics alone."""
    noisy = BASE.replace(model=call(images.model, norm="batch", dropout=0.5))
    assert run(noisy.then(methods.sam(rho=0.0))).weights == run(noisy).weights


def test_sam_moves_batch_norm_statistics_once_a_step() -> None:
    run_, ticks, batches = live(BATCH_NORM.then(methods.sam(rho=0.1)))
    for tick in ticks:
        run_.step(tick, batches)
    tracked = [m.num_batches_tracked for m in run_.model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [int(count) for count in tracked] == [STEPS] * 4
    plain, ticks, batches = live(BATCH_NORM)
    sam, _, others = live(BATCH_NORM.then(methods.sam(rho=0.1)))
    plain.step(ticks[0], batches)
    sam.step(ticks[0], others)
    for a, b in zip(plain.model.buffers(), sam.model.buffers(), strict=True):
        assert torch.equal(a, b)  # of the first pass, at the unperturbed weights


def test_sam_costs_a_second_pass_on_its_steps() -> None:
    base = run(BASE).points[0].flops
    assert run(BASE.then(methods.sam())).points[0].flops == 2 * base
    assert run(BASE.then(methods.sam(interval=3))).points[0].flops == base + base / 3


@pytest.mark.parametrize("others", [(), ("sam",), ("sam", "stochastic_depth")])
def test_gradients_are_clipped_once_a_step(others: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    program = BASE.then(methods.gradient_clipping(0.05), *(SMALL[name] for name in others))
    norms = []
    real = clipping.clip_norm

    def counted(params: list[nn.Parameter], *, max_norm: float) -> None:
        real(params, max_norm=max_norm)
        norms.append(float(torch.nn.utils.get_total_norm([p.grad for p in params])))

    counted.__module__ = real.__module__
    monkeypatch.setattr(clipping, "clip_norm", counted)
    run_, ticks, batches = live(program)
    for tick in ticks:
        before = weights(run_.model)
        run_.step(tick, batches)
        after = weights(run_.model)
        if tick.step == 1:  # no momentum of another gradient yet: the warm-up's first step has a rate of 0
            lr = run_.optimizer.param_groups[0]["lr"]
            moved = torch.nn.utils.get_total_norm([a - b for a, b in zip(after, before, strict=True)])
            assert 0 < float(moved) < 4 * lr * 0.05  # Nesterov's momentum and weight decay add a little
    assert norms == pytest.approx([0.05] * STEPS, rel=1e-4)


@pytest.mark.parametrize(("kind", "threshold"), [("norm", 1e-3), ("value", 1e-4), ("adaptive", 1e-3)])
def test_every_kind_of_clipping_trains_less(kind: str, threshold: float) -> None:
    still, moved = run(BASE.then(methods.gradient_clipping(threshold, kind))), run(BASE)
    start = judge(build_model(BASE, 0)[0])
    assert abs(still.points[0].metric - start) < 0.2 * abs(moved.points[0].metric - start)


def test_frozen_layers_stand_still_and_have_no_backward_pass() -> None:
    program = BASE.then(methods.layer_freezing(start=0.0, level=1.0))
    cycles = ((0, 12, 0), (12, 16, 1))
    judge = Judge()
    frozen, base = run(program, metric=judge, cycles=cycles), run(BASE, cycles=cycles)
    early, late = (dict(model.named_parameters()) for model in judge.models)
    names = list(early)
    still = [torch.equal(early[name], late[name]) for name in names]
    assert (still[0], still[-1]) == (True, False)
    assert still == sorted(still, reverse=True)
    per_step = [frozen.points[0].flops / 12, (frozen.points[1].flops - frozen.points[0].flops) / 4]
    assert per_step[1] < per_step[0] < base.points[0].flops / 12
    assert base.points[1].flops / 16 == base.points[0].flops / 12


def test_selective_backprop_charges_its_scoring_and_saves_backward_passes() -> None:
    """6 steps of 8 samples; selection in steps 3 and 4 (0.2 <= progress, not in every third step), 4 of 8 kept."""
    small = run(BASE.then(methods.selective_backprop(start=0.2, end=1.0, interrupt=3)))
    base = run(BASE)
    assert base.scored_samples == 0
    assert small.scored_samples == 2 * 8
    step = base.points[0].flops / 6
    run_, ticks, batches = live(BASE)
    run_.tick = ticks[0]
    run_.score(next(batches))
    forward = run_.ledger.flops
    assert small.points[0].flops == 4 * step + 2 * (forward + step / 2)
    assert 2 * forward < step < 3 * forward + 1


def test_scoring_is_in_evaluation_mode_and_leaves_no_trace() -> None:
    run_, ticks, batches = live(BATCH_NORM.replace(model=call(images.model, norm="batch", dropout=0.5)))
    run_.model.train()
    next(m for m in run_.model.modules() if isinstance(m, nn.BatchNorm2d)).eval()  # as freezing leaves it
    modes = [module.training for module in run_.model.modules()]
    run_.tick, batch, before = ticks[0], next(batches), weights_digest(run_.model)
    state = torch.get_rng_state()
    one, two = run_.score(batch), run_.score(batch)
    assert torch.equal(one, two)
    assert (one.shape, one.requires_grad) == ((8,), False)
    assert weights_digest(run_.model) == before
    assert [module.training for module in run_.model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


def test_evaluation_changes_nothing_in_training() -> None:
    """Points that are evaluated in between leave the weights, statistics and modes of training as they were."""

    def careless(model: nn.Module, test: Any) -> float:  # never calls eval(), draws, and trains nothing
        torch.rand(3)
        return images.metric(model, test) if not model.training else float("nan")

    program = BATCH_NORM.then(SMALL["stochastic_depth"], SMALL["layer_freezing"])
    for metric in (careless, images.metric):
        once = run(program, cycles=((0, 8, 0),), metric=metric)
        twice = run(program, cycles=((0, 8, 0), (8, 9, 1)), metric=metric)
        assert once.points[0].metric == twice.points[0].metric


def test_a_constant_image_size_stays_free() -> None:
    """Small images first, full ones at the end: the batch's size follows the schedule of progress."""
    run_, ticks, batches = live(BASE.then(methods.progressive_resizing()), steps=10)
    seen = outputs(run_, "progressive_resizing")
    for tick in ticks:
        run_.step(tick, batches)
    assert [batch[0].shape[-1] for batch in seen] == [4] * 7 + [8] * 3  # scale 1/2 up to progress 0.5; 0.67 rounds down


def outputs(run_: Run, name: str) -> list[Any]:
    """What this batch transform returns, step by step, as the run goes on."""
    seen: list[Any] = []
    transform = next(t for t in run_.built.transforms if t.name == name)
    real = transform.function

    def recorded(*args: Any, **kwargs: Any) -> Any:
        seen.append(real(*args, **kwargs))
        return seen[-1]

    transform.function = recorded
    return seen


def test_frozen_parameters_stay_in_the_optimizers_groups() -> None:
    run_, ticks, batches = live(BASE.then(methods.layer_freezing(start=0.0)))
    before = [len(group["params"]) for group in run_.optimizer.param_groups]
    for tick in ticks:
        run_.step(tick, batches)
    frozen = [p for p in run_.model.parameters() if not p.requires_grad]
    assert frozen
    assert all(p.grad is None for p in frozen)
    assert [len(group["params"]) for group in run_.optimizer.param_groups] == before


def test_the_model_of_a_run_is_never_the_compiled_one() -> None:
    run_, _, _ = live(BASE.replace(compile="aot_eager"))
    assert type(run_.model) is nn.Sequential
    assert run_.forward is not run_.model
    assert next(run_.predictor().children()) is run_.model


def global_state() -> tuple[Any, ...]:
    return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()


@pytest.mark.parametrize(("where", "name"), PLACES)
def test_nothing_of_ours_draws_from_a_global_generator(where: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before the forward pass, which is seeded, nor in it or after: these models draw nothing themselves."""
    workload = WORKLOADS[where]
    run_, ticks, batches = live(workload.program.then(SMALL[name]), workload)
    states: list[Any] = []

    def seed(*key: Any) -> None:
        states.append(global_state())
        seed_globals(*key)

    monkeypatch.setattr("hasten.bench.run.seed_globals", seed)
    for tick in ticks:
        before = global_state()
        states.clear()
        run_.step(tick, batches)
        run_.predictor()
        after = global_state()
        seed_globals(0, "forward", tick.step)
        assert after == global_state()
        assert states[0] == before
        assert states[1:] in ([], [after])  # the second pass of SAM


def draws(program: Program, workload: Any, steps: int = 4) -> dict[tuple[str, int], bytes]:
    """The state of every random stream after its step: what was drawn, and how much."""
    run_, ticks, batches = live(program, workload, steps=steps)
    made: dict[tuple[str, int], list[torch.Generator]] = {}
    real = run_.generator

    def generator(name: str) -> torch.Generator:
        made.setdefault((name, run_.tick.step), []).append(found := real(name))
        return found

    run_.generator = generator  # type: ignore[method-assign]
    for tick in ticks:
        run_.step(tick, batches)
    return {key: b"".join(g.get_state().numpy().tobytes() for g in found) for key, found in made.items()}


@functools.cache
def draws_alone(name: str) -> dict[tuple[str, int], bytes]:
    return draws(BASE.then(SMALL[name]), IMAGES)


SHRINKS = ("selective_backprop",)  # fewer samples: what draws per sample later in the step draws less


MEETING = [pair for pair in itertools.permutations(NAMES, 2) if compatible(*pair) and pair[1] not in SHRINKS]


@pytest.mark.parametrize(("one", "two"), MEETING)
def test_a_method_does_not_shift_anothers_draws(one: str, two: str) -> None:
    alone = draws_alone(one)
    both = draws(BASE.then(SMALL[one], SMALL[two]), IMAGES)
    assert alone.items() <= both.items()


def test_a_mixed_batch_is_the_same_beside_another_method() -> None:
    """Not only the draws: mixup's partners and weights at step k, with and without stochastic depth."""

    def mixed(program: Program) -> list[Any]:
        run_, ticks, batches = live(program)
        seen = outputs(run_, "mixup")
        for tick in ticks:
            run_.step(tick, batches)
        return seen

    alone, both = mixed(BASE.then(SMALL["mixup"])), mixed(BASE.then(SMALL["mixup"], SMALL["stochastic_depth"]))
    assert len(alone) == STEPS
    for (x, y), (u, v) in zip(alone, both, strict=True):
        for a, b in ((x, u), (y.second, v.second), (y.weight, v.weight)):
            assert torch.equal(a, b)


def test_the_same_initial_weights_and_order_in_every_arm() -> None:
    """Seeds are paired: a surgery with draws of its own does not shift the model's, nor anybody the sampler's."""
    run_, _, batches = live(BASE)
    reference, first = weights(run_.model), next(batches)
    for name in NAMES:
        other, _, others = live(BASE.then(SMALL[name]))
        for a, b in zip(reference, weights(other.model), strict=True):
            assert torch.equal(a.to(b.dtype), b)  # some methods cast them
        assert torch.equal(first[0], next(others)[0])


@pytest.mark.parametrize(("where", "name"), PLACES)
def test_the_last_weights_do_not_depend_on_how_often_one_looks(where: str, name: str) -> None:
    """`predictor()` hands out the model of that moment and leaves training as it is."""
    workload = WORKLOADS[where]
    runs = []
    for look in (False, True):
        run_, ticks, batches = live(workload.program.then(SMALL[name]), workload)
        for tick in ticks:
            run_.step(tick, batches)
            if look:
                judge(run_.predictor(), workload)
        runs.append(weights_digest(run_.model))
    assert runs[0] == runs[1]


def test_bits_see_a_difference() -> None:
    """The comparison that this battery rests on can fail."""
    assert bits(run(BASE)) == bits(run(BASE))
    assert bits(run(BASE)) != bits(run(BASE, seed=1))
    assert bits(run(BASE)) != bits(run(BASE, cycles=((0, STEPS - 1, 0),)))
    slower = BASE.replace(optimizer=bind(torch.optim.SGD, lr=0.0501, momentum=0.9, nesterov=True))
    assert bits(run(slower)) != bits(run(BASE))
