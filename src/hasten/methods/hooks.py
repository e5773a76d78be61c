"""Adapters from pieces to the loop's hooks. No algorithm lives here: the pieces below do the work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from hasten._core.batch import batch_size, take
from hasten._core.checks import refuse
from hasten.data.selection import select_by_loss, selection_active
from hasten.program import RunState
from hasten.surgery.stochastic_depth import draw_stochastic_depth

__all__ = ["ControllerHook", "DrawStochasticDepth", "SelectiveBackprop"]


class ControllerHook:
    """Any controller (`C(model, optimizer)` with `.step(t, T)`) as a hook.

    Args:
        controller: partial `(model, optimizer) -> controller`.
        when: "before_step" for what changes the model, "after_step" for what follows its weights.
        unit: the clock that `t` and `T` are read from.
    """

    def __init__(self, controller: Callable[..., Any], when: str, unit: str = "step") -> None:
        if when not in ("before_step", "after_step"):
            raise refuse("ControllerHook", "when 'before_step' or 'after_step'", repr(when))
        self.make, self.unit = controller, unit
        self.controller: Any = None
        setattr(self, when, getattr(self, f"_{when}"))

    def setup(self, run: RunState) -> None:
        """Make the controller, or bind it to a rebuilt model."""
        if self.controller is None:
            self.controller = self.make(run.model, run.optimizer)
        else:
            self.controller.rebind(run.model, run.optimizer)

    def _before_step(self, run: RunState) -> None:
        self.controller.step(*run.tick.clock(self.unit))

    def _after_step(self, run: RunState) -> None:
        self.controller.step(*run.tick.after.clock(self.unit))

    def for_eval(self, model: nn.Module, run: RunState) -> nn.Module:
        """The model to evaluate, as the controller gives it."""
        return self.controller.evaluated(model)

    def state_dict(self) -> dict[str, Any]:
        """The controller's state."""
        return self.controller.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the controller, which re-applies what it holds."""
        self.controller.load_state_dict(state)


class DrawStochasticDepth:
    """Draws the masks of every stochastic branch, once a step, for the batch as it is by then."""

    def __init__(self, name: str) -> None:
        self.name = name

    def on_batch(self, batch: Any, run: RunState) -> Any:
        """Draw; the batch stays as it is."""
        draw_stochastic_depth(run.model, batch_size(batch), run.generator(f"hooks/{self.name}"))
        return batch


class SelectiveBackprop:
    """Scores the batch and keeps the samples with high losses; the scoring pass is charged to the ledger."""

    def __init__(self, name: str, keep: float, start: float, end: float, interrupt: int) -> None:
        self.name, self.keep, self.start, self.end, self.interrupt = name, keep, start, end, interrupt

    def on_batch(self, batch: Any, run: RunState) -> Any:
        """The selected part of the batch, or all of it while selection is off."""
        tick = run.tick
        if not selection_active(tick.progress, tick.step, start=self.start, end=self.end, interrupt=self.interrupt):
            return batch
        losses: Tensor = run.score(batch)
        generator = run.generator(f"hooks/{self.name}")
        return take(batch, select_by_loss(losses, keep=self.keep, generator=generator))
