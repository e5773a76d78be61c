"""One run in progress: the order of a step, what hooks see, and the state between steps."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.contract import images
from tests.contract.battery import IMAGES, SMALL
from torch import Tensor, nn

from hasten import methods
from hasten.bench.build import build
from hasten.bench.checkpoint import pack, unpack
from hasten.bench.ledger import Ledger
from hasten.bench.run import NonFiniteError, Run
from hasten.bench.source import BatchSource
from hasten.bench.train import weights_digest
from hasten.program import Program, Scheduled, Tick, bind, call
from hasten.schedules import over, warmup, wsd

CPU = torch.device("cpu")
BASE = IMAGES.program
SEEN: list[Any] = []


@pytest.fixture(autouse=True)
def forget() -> None:
    SEEN.clear()


class Witness:
    """A hook that writes down when it is called, and with what."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0

    def setup(self, run: Run) -> None:
        SEEN.append((self.name, "setup", type(run.optimizer).__name__))

    def before_step(self, run: Run) -> None:
        SEEN.append((self.name, "before_step", run.model.training))

    def on_batch(self, batch: Any, run: Run) -> Any:
        SEEN.append((self.name, "on_batch", len(batch[0])))
        return batch

    def on_loss(self, losses: Tensor, batch: Any, run: Run) -> Tensor:
        SEEN.append((self.name, "on_loss", tuple(losses.shape)))
        return losses

    def after_step(self, run: Run) -> None:
        self.count += 1
        SEEN.append((self.name, "after_step", all(p.grad is not None for p in run.model.parameters())))

    def for_eval(self, model: nn.Module, run: Run) -> nn.Module:
        SEEN.append((self.name, "for_eval", model is run.model))
        return nn.Sequential(model)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count = state["count"]
        SEEN.append((self.name, "load", self.count))


class Silent:
    """A hook with no method at all: every one is optional."""


def live(program: Program, *, steps: int = 6, seed: int = 0) -> tuple[Run, list[Tick], Iterator[Any]]:
    source = BatchSource(program.data.build()(0), program.sampler.build(), batch_size=8, seed=seed, device=CPU)
    run = Run(program, build(program, seed=seed, device=CPU), seed=seed, device=CPU, ledger=Ledger(CPU))
    return run, [Tick(k, 0, steps, 0.0, source.steps_per_epoch, 8) for k in range(steps)], source.batches(0)


def watched(*names: str, base: Program = BASE) -> Program:
    for position, name in enumerate(names):
        base = base.append("hooks", name, call(Witness, name=name), stage=50 + position)
    return base


def test_the_moments_of_a_step_in_order() -> None:
    run, ticks, batches = live(watched("a", "b"))
    run.step(ticks[0], batches)
    run.predictor()
    assert [event[:2] for event in SEEN] == [
        ("a", "setup"), ("b", "setup"), ("a", "before_step"), ("b", "before_step"), ("a", "on_batch"),
        ("b", "on_batch"), ("a", "on_loss"), ("b", "on_loss"), ("a", "after_step"), ("b", "after_step"),
        ("b", "for_eval"), ("a", "for_eval"),
    ]  # fmt: skip
    facts = {event[:2]: event[2] for event in SEEN}
    assert facts["a", "setup"] == "SGD"
    assert facts["a", "before_step"] is True  # model.train() comes first
    assert facts["a", "on_loss"] == (8,)
    assert facts["a", "after_step"] is True  # gradients are still readable
    assert (facts["b", "for_eval"], facts["a", "for_eval"]) == (True, False)  # last in, first out


def test_a_hook_may_have_no_methods_and_no_state() -> None:
    run, ticks, batches = live(BASE.append("hooks", "silent", call(Silent)))
    run.step(ticks[0], batches)
    assert run.state_dict()["hooks"] == {}


def test_on_loss_is_called_in_the_first_pass_only_and_not_while_scoring() -> None:
    program = watched("a", base=BASE).then(methods.sam(), methods.selective_backprop(start=0.0, interrupt=0))
    run, ticks, batches = live(program)
    run.step(ticks[0], batches)
    assert [event[2] for event in SEEN if event[1] == "on_loss"] == [(4,)]
    assert run.ledger.scored_samples == 8


def double_loss(losses: Tensor, batch: Any, run: Run) -> Tensor:
    return 2 * losses


class Doubling:
    on_loss = staticmethod(double_loss)


def test_what_on_loss_returns_is_trained_on() -> None:
    plain, ticks, batches = live(BASE)
    double, _, others = live(BASE.append("hooks", "double", call(Doubling)))
    assert double.step(ticks[0], others) == pytest.approx(2 * plain.step(ticks[0], batches), rel=1e-6)


def test_the_loss_is_the_mean_over_the_batch() -> None:
    run, ticks, batches = live(BASE)
    inputs, targets = next(live(BASE)[2])
    expected = nn.functional.cross_entropy(run.model(inputs), targets).item()
    assert run.step(ticks[0], batches) == pytest.approx(expected, rel=1e-6)


def test_learning_rates_follow_the_schedule_of_their_groups() -> None:
    run, ticks, batches = live(BASE, steps=4)
    run.optimizer.param_groups[1]["initial_lr"] = 1.0
    seen = []
    for tick in ticks:
        run.step(tick, batches)
        seen.append([group["lr"] for group in run.optimizer.param_groups])
    multipliers = [0.0, 1.0, 0.75, 0.25]  # one step of warm-up, then a cosine over three
    assert seen == [[pytest.approx(0.05 * m), pytest.approx(m)] for m in multipliers]


def test_streams_depend_on_name_seed_and_step() -> None:
    run, ticks, _ = live(BASE)

    def draw(name: str, step: int, of: Run = run) -> int:
        of.tick = ticks[step]
        return int(torch.randint(1 << 60, (), generator=of.generator(name)))

    assert draw("x", 1) == draw("x", 1)
    assert len({draw("x", 1), draw("x", 2), draw("y", 1), draw("x", 1, live(BASE, seed=1)[0])}) == 4


def test_dropout_draws_the_same_whatever_else_draws() -> None:
    """The forward pass is seeded by (seed, step): what a transform or a hook draws globally does not move it."""
    noisy = BASE.replace(model=call(images.model, dropout=0.5))
    one, ticks, batches = live(noisy)
    two, _, others = live(noisy)
    losses = []
    for run, of in ((one, batches), (two, others)):
        losses.append([])
        for tick in ticks[:3]:
            torch.rand(int(torch.randint(9, ())))
            losses[-1].append(run.step(tick, of))
    assert losses[0] == losses[1]
    assert weights_digest(one.model) == weights_digest(two.model)


def test_microbatches_of_mixed_targets() -> None:
    program = BASE.then(SMALL["cutmix"])
    whole, ticks, batches = live(program)
    parts, _, others = live(program.replace(microbatch=3))
    assert parts.step(ticks[0], others) == pytest.approx(whole.step(ticks[0], batches), rel=1e-5)


def infinite_loss(outputs: Tensor, batch: Any) -> Tensor:
    return outputs.sum(1) * float("inf")


def exploding_loss(outputs: Tensor, batch: Any) -> Tensor:
    """Finite itself, with a gradient that is not: the square root at 0."""
    return (outputs * 0).sum(1).abs().sqrt() + outputs.sum(1)


@pytest.mark.parametrize(
    ("loss", "others", "reason"),
    [
        (infinite_loss, (), r"the training loss became (nan|inf|-inf) at step 0\. Lower the learning rate, lengthen"),
        (infinite_loss, ("selective_backprop",), r"the losses became (nan|inf|-inf) while scoring step 0"),
        (exploding_loss, ("gradient_clipping",), "clip_norm: expected finite gradients, got .*nan"),
        (exploding_loss, ("sam",), "SAM.step: expected a finite gradient norm, got nan"),
    ],
)
def test_numbers_that_are_not_finite_end_the_run_where_they_arise(loss: Any, others: Any, reason: str) -> None:
    always = {**SMALL, "selective_backprop": methods.selective_backprop(start=0.0, interrupt=0)}
    run, ticks, batches = live(BASE.replace(loss=bind(loss)).then(*(always[name] for name in others)))
    with pytest.raises(NonFiniteError, match=reason):
        run.step(ticks[0], batches)


def scalar_loss(outputs: Tensor, batch: Any) -> Tensor:
    return nn.functional.cross_entropy(outputs, batch[1])


def test_a_scalar_loss_is_refused_with_the_fix_also_while_scoring() -> None:
    run, ticks, batches = live(BASE.replace(loss=bind(scalar_loss)))
    with pytest.raises(ValueError, match=r"loss: expected one value per sample, shape \(8,\), got .*reduction='none'"):
        run.step(ticks[0], batches)
    with pytest.raises(ValueError, match="loss: expected one value per sample"):
        run.score(next(batches))
    assert run.model.training  # also after the error


def test_state_goes_round_exactly() -> None:
    program = watched("w").then(*(SMALL[name] for name in ("ema", "sam", "stochastic_depth", "layer_freezing")))
    run, ticks, batches = live(program)
    for tick in ticks[:4]:
        run.step(tick, batches)
    run.loss_sum, run.loss_steps = 3.5, 4
    state = copy.deepcopy(run.state_dict())  # as it comes from a file
    assert set(state) == {"model", "optimizer", "hooks", "ledger", "loss"}
    assert set(state["hooks"]) == {"w", "ema", "layer_freezing"}
    other, _, _ = live(program)
    other.load_state_dict(state)
    assert ("w", "load", 4) in SEEN
    assert weights_digest(other.model) == weights_digest(run.model)
    assert (other.loss_sum, other.loss_steps) == (3.5, 4)
    assert [p.requires_grad for p in other.model.parameters()] == [p.requires_grad for p in run.model.parameters()]
    assert not all(p.requires_grad for p in other.model.parameters())
    one, two = run.step(ticks[4], live(program)[2]), other.step(ticks[4], live(program)[2])
    assert one == two
    assert weights_digest(other.model) == weights_digest(run.model)


def halved(forward: Any) -> Any:
    return lambda inputs: forward(inputs) / 2


def plus(forward: Any) -> Any:
    return lambda inputs: forward(inputs) + 1


def test_prediction_goes_through_its_wrappers() -> None:
    program = BASE.append("predict", "halved", bind(halved), stage=10).append("predict", "plus", bind(plus), stage=20)
    run, _, _ = live(program)
    inputs = torch.randn(2, 1, 8, 8)
    predictor = run.predictor().eval()
    torch.testing.assert_close(predictor(inputs), run.model(inputs) / 2 + 1)
    assert next(predictor.parameters()) is next(run.model.parameters())


def test_bf16_is_an_autocast_of_the_forward_pass() -> None:
    run, ticks, batches = live(BASE.replace(precision="bf16"))
    kinds = set()
    run.model[-1].register_forward_hook(lambda module, inputs, output: kinds.add(output.dtype))
    run.step(ticks[0], batches)
    assert torch.bfloat16 in kinds
    assert {p.grad.dtype for p in run.model.parameters()} == {torch.float32}
    assert not torch.is_autocast_enabled("cpu")


IN_SECONDS = BASE.set(schedule=call(Scheduled, schedule=over(warmup(wsd(), 2), "10s"), unit="seconds"))


def in_time(ticks: list[Tick], seconds: list[float]) -> list[Tick]:
    return [replace(tick, seconds=second) for tick, second in zip(ticks, seconds, strict=False)]


def test_learning_rates_of_a_schedule_in_seconds_are_logged() -> None:
    run, ticks, batches = live(IN_SECONDS)
    for tick in in_time(ticks, [0.0, 1.0, 5.0, 99.0]):
        run.step(tick, batches)
    assert run.logged == [(0, 0.0), (1, 0.5), (2, 1.0), (3, 0.0)]
    plain, ticks, batches = live(BASE)
    plain.step(ticks[0], batches)
    assert plain.logged == []
    assert "logged" not in plain.state_dict()


def test_the_log_goes_round_with_the_state_and_an_old_state_has_none() -> None:
    run, ticks, batches = live(IN_SECONDS)
    ticks = in_time(ticks, [0.0, 1.0, 2.0])
    run.step(ticks[0], batches)
    run.step(ticks[1], batches)
    state = unpack(pack(run.state_dict()))  # as it comes from a file
    other, _, others = live(IN_SECONDS)
    other.load_state_dict(state)
    other.step(ticks[2], others)
    assert other.logged == [(0, 0.0), (1, 0.5), (2, 1.0)]
    del state["logged"]
    other, _, others = live(IN_SECONDS)
    other.load_state_dict(state)
    other.step(ticks[2], others)
    assert other.logged == [(2, 1.0)]


def test_a_log_has_at_most_400_points() -> None:
    run, _, _ = live(IN_SECONDS)
    for step in range(1000):
        run._set_learning_rate(Tick(step, 0, 1000, seconds=step / 100))
    assert [step for step, _ in run.logged] == list(range(0, 1000, 4))


def test_what_was_used_on_a_branch_stays_in_the_log() -> None:
    run, ticks, batches = live(IN_SECONDS)
    trunk = unpack(pack(run.state_dict()))
    run.step(in_time(ticks, [1.0])[0], batches)
    run.rewind(trunk)
    assert run.logged == [(0, 0.5)]
