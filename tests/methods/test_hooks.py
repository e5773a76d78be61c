"""The adapters between controllers and the loop: when they are called, with which clock, and what they keep."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hasten.methods.hooks import ControllerHook, DrawStochasticDepth, SelectiveBackprop
from hasten.program import Tick
from hasten.surgery import StochasticDepth


class Controller:
    def __init__(self, model: nn.Module, optimizer: Any) -> None:
        self.model, self.optimizer = model, optimizer
        self.seen: list[tuple[float, float | None]] = []

    def step(self, t: float, T: float | None) -> None:
        self.seen.append((t, T))

    def rebind(self, model: nn.Module, optimizer: Any) -> None:
        self.model, self.optimizer = model, optimizer

    def evaluated(self, model: nn.Module) -> nn.Module:
        return nn.Sequential(model)

    def state_dict(self) -> dict[str, Any]:
        return {"seen": list(self.seen)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seen = list(state["seen"])


def run(step: int = 3, **more: Any) -> Any:
    tick = Tick(step, 0, 10, 1.5, steps_per_epoch=5, batch_size=4, tokens_per_sample=2)
    stream = lambda name: torch.Generator().manual_seed(len(name))  # noqa: E731
    return SimpleNamespace(model=nn.Linear(2, 2), optimizer=object(), tick=tick, generator=stream, **more)


def test_a_controller_is_made_once_and_bound_again_after_a_rebuild() -> None:
    hook, first, second = ControllerHook(Controller, "after_step"), run(), run()
    hook.setup(first)
    made = hook.controller
    assert (made.model, made.optimizer) == (first.model, first.optimizer)
    hook.setup(second)
    assert hook.controller is made
    assert (made.model, made.optimizer) == (second.model, second.optimizer)


def test_only_the_moment_that_was_asked_for_exists() -> None:
    before, after = ControllerHook(Controller, "before_step"), ControllerHook(Controller, "after_step")
    assert (hasattr(before, "before_step"), hasattr(before, "after_step")) == (True, False)
    assert (hasattr(after, "before_step"), hasattr(after, "after_step")) == (False, True)
    with pytest.raises(ValueError, match="ControllerHook: expected when 'before_step' or 'after_step', got 'later'"):
        ControllerHook(Controller, "later")


@pytest.mark.parametrize(
    ("unit", "before", "after"),
    [
        ("step", (3, 10), (4, 10)),
        ("epoch", (0.6, 2), (0.8, 2)),
        ("sample", (12, 40), (16, 40)),
        ("token", (24, 80), (32, 80)),
        ("progress", (0.3, 1), (0.4, 1)),
    ],
)
def test_the_clock_before_and_after_a_step(unit: str, before: tuple, after: tuple) -> None:
    """After step k, k + 1 steps are done: the last call of a cycle sees its end."""
    for when, expected in (("before_step", before), ("after_step", after)):
        hook = ControllerHook(Controller, when, unit)
        hook.setup(run())
        getattr(hook, when)(run())
        assert hook.controller.seen == [pytest.approx(expected)]


def test_state_and_evaluation_are_the_controllers() -> None:
    hook = ControllerHook(Controller, "after_step")
    hook.setup(run())
    model = nn.Linear(1, 1)
    assert hook.for_eval(model, run())[0] is model
    hook.after_step(run())
    other = ControllerHook(Controller, "after_step")
    other.setup(run())
    other.load_state_dict(hook.state_dict())
    assert other.controller.seen == hook.controller.seen


def test_masks_are_drawn_for_the_batch_as_it_is_by_then() -> None:
    model = nn.Sequential(StochasticDepth(nn.Linear(2, 2), 0.5, "sample"))
    batch = (torch.zeros(7, 2), torch.zeros(7))
    assert DrawStochasticDepth("deep").on_batch(batch, SimpleNamespace(model=model, generator=run().generator)) is batch
    assert model[0].mask.shape == (7,)


def scoring(losses: Tensor, calls: list[int]) -> Any:
    return lambda batch: calls.append(len(batch[0])) or losses


def test_selection_scores_the_batch_and_keeps_the_high_losses() -> None:
    hook, calls = SelectiveBackprop("pick", keep=0.25, start=0.0, end=1.0, interrupt=0), []
    batch = (torch.arange(8.0)[:, None], torch.arange(8))
    losses = torch.tensor([0.0] * 6 + [1e6, 1e7])
    kept = hook.on_batch(batch, run(score=scoring(losses, calls)))
    assert calls == [8]
    assert len(kept[0]) == len(kept[1]) == 2
    assert torch.equal(kept[0][:, 0].long(), kept[1])  # inputs and targets of the same samples
    again = hook.on_batch(batch, run(score=scoring(losses, calls)))
    assert torch.equal(again[1], kept[1])


@pytest.mark.parametrize(("step", "selects"), [(0, False), (4, False), (5, False), (6, True), (8, True), (9, False)])
def test_outside_its_time_nothing_is_scored(step: int, selects: bool) -> None:
    """From half of the run to 0.9 of it, and there every other step: of 10 steps, the seventh and the ninth."""
    hook, calls = SelectiveBackprop("pick", keep=0.5, start=0.5, end=0.9, interrupt=2), []
    batch = (torch.zeros(4, 2), torch.zeros(4))
    found = hook.on_batch(batch, run(step, score=scoring(torch.ones(4), calls)))
    assert (found is batch) != selects
    assert bool(calls) == selects
