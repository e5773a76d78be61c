"""One run in progress: a step, an evaluation, and the state between them.

`Run` is what hooks see. It holds live objects and where they are; everything random is a function of (seed, name,
step), so its state is the model, the optimizer, the hooks' states, the clock and the points reached.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hasten._core.batch import batch_size, get_inputs, take
from hasten._core.checks import NonFiniteError
from hasten._core.clock import Tick
from hasten._core.norm import frozen_batch_norm_statistics
from hasten._core.rng import fork, seed_globals, stream
from hasten._core.trace import Trace
from hasten.program import Program

from .build import Built, checked_loss
from .flops import FlopCounter
from .ledger import Ledger

__all__ = ["NonFiniteError", "Run"]

LOGGED = 400  # learning rates of a run that are kept, as many as the report draws of a schedule


@dataclass
class _Hooks:
    """The hooks' methods by moment, in stage order, looked up once."""

    before_step: list[Callable[..., Any]]
    on_loss: list[Callable[..., Any]]
    after_step: list[Callable[..., Any]]
    for_eval: list[Callable[..., Any]]


class Run:
    """The state of one training run (`hasten.program.RunState`).

    Of a learning-rate schedule in seconds, whose values no other run will have again, `logged` keeps what was used.
    """

    def __init__(self, program: Program, built: Built, *, seed: int, device: torch.device, ledger: Ledger) -> None:
        self.program, self.seed, self.device, self.ledger = program, seed, device, ledger
        self.model, self.forward, self.optimizer = built.model, built.forward, built.optimizer
        self.built = built
        self.tick = Tick(0, 0, 1)
        self.loss_sum, self.loss_steps = 0.0, 0
        self._trace = Trace(LOGGED) if built.schedule.unit == "seconds" else None
        self._batch: Any = None
        self._passes = 0
        self._flops = FlopCounter(self.model, compiled=program.compile is not None)
        self._modules = list(self.model.modules())
        # A wrapper that evaluates the gradient more than once a step takes the closure; others do not need it.
        self._needs_closure = bool(getattr(self.optimizer, "needs_closure", False))
        hooks = list(built.hooks.values())
        moments = ("before_step", "on_loss", "after_step", "for_eval")
        self._hooks = _Hooks(*([getattr(h, m) for h in hooks if hasattr(h, m)] for m in moments))
        for hook in hooks:
            if hasattr(hook, "setup"):
                hook.setup(self)

    @property
    def logged(self) -> list[tuple[int, float]]:
        """(step, multiplier) of a schedule in seconds, thinned evenly; empty for any other, which can be asked."""
        return [] if self._trace is None else list(self._trace.points)

    def generator(self, name: str) -> torch.Generator:
        """The random stream of this entry at this step."""
        return stream(self.seed, name, self.tick.step)

    def step(self, tick: Tick, batches: Iterator[Any]) -> float:
        """One optimizer step; returns the mean loss of the batch."""
        self.tick, ledger = tick, self.ledger
        if not all(module.training for module in self._modules):  # asking is cheaper than setting
            self.model.train()
        for before in self._hooks.before_step:
            before(self)
        self._set_learning_rate(tick)
        ledger.mark("hooks")
        batch = next(batches)
        ledger.mark("loader")
        for transform in self.built.transforms:
            batch = transform(batch, self, tick)
        self._batch, self._passes = batch, 0
        ledger.mark("batch")
        loss = self.optimizer.step(self._closure) if self._needs_closure else self._plain_step()
        ledger.mark("optimizer")
        for after in self._hooks.after_step:
            after(self)
        value = float(loss)
        if not math.isfinite(value):
            raise NonFiniteError(
                f"the training loss became {value} at step {tick.step}. "
                "Lower the learning rate, lengthen the warm-up, or add gradient_clipping()."
            )
        ledger.mark("hooks")
        return value

    def _plain_step(self) -> Tensor:
        loss = self._closure()
        self.optimizer.step()
        return loss

    def _set_learning_rate(self, tick: Tick) -> None:
        multiplier = self.built.schedule.at(tick)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * multiplier
        if self._trace is not None:
            self._trace.add(tick.step, multiplier)

    def _closure(self) -> Tensor:
        """Zero the gradients, run forward and backward over the batch, return the mean loss."""
        self._passes += 1
        first = self._passes == 1
        self.optimizer.zero_grad(set_to_none=True)
        # Both passes of a step draw the same dropout masks: the second is the same function at other weights.
        seed_globals(self.seed, "forward", self.tick.step)
        samples, total = batch_size(self._batch), None
        statistics = contextlib.nullcontext() if first else frozen_batch_norm_statistics(self.model)
        with statistics:
            for part in self._microbatches(samples):
                self._charge(part, backward=True)
                loss = self._losses(part, first=first).sum() / samples
                self.ledger.mark("forward")
                loss.backward()
                self.ledger.mark("backward")
                total = loss.detach() if total is None else total + loss.detach()
        assert total is not None
        return total

    def _microbatches(self, samples: int) -> Iterator[Any]:
        size = self.program.microbatch
        if size is None or size >= samples:
            yield self._batch
            return
        for start in range(0, samples, size):
            yield take(self._batch, slice(start, start + size))

    def _losses(self, batch: Any, *, first: bool) -> Tensor:
        with self.autocast():
            losses = self.built.loss(self.forward(get_inputs(batch)), batch)
        losses = checked_loss(losses, batch, batch_size(batch))
        if first:
            for on_loss in self._hooks.on_loss:
                losses = on_loss(losses, batch, self)
        return losses

    def autocast(self) -> Any:
        """The precision of forward passes."""
        if self.program.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()

    def score(self, batch: Any) -> Tensor:
        """Losses (batch,) in evaluation mode, without gradients; charged to the clock and to the ledger."""
        self.ledger.scored_samples += batch_size(batch)
        modes = [module.training for module in self._modules]
        self.model.eval()
        try:
            self._charge(batch, backward=False)  # in evaluation mode too: no branch is left out
            with torch.no_grad(), fork(self.seed, "score", self.tick.step), self.autocast():
                losses = self.built.loss(self.forward(get_inputs(batch)), batch)
        finally:
            for module, mode in zip(self._modules, modes, strict=True):  # frozen norms stay in evaluation mode
                module.training = mode
        losses = checked_loss(losses, batch, batch_size(batch))
        if not bool(losses.isfinite().all()):
            raise NonFiniteError(f"the losses became {float(losses.sum())} while scoring step {self.tick.step}.")
        return losses

    def _charge(self, batch: Any, *, backward: bool) -> None:
        key = self._flops.key(batch, backward=backward)
        if key not in self._flops.known:
            with self.ledger.off("counting"), self.autocast():
                self._flops.count(key, batch, self.built.loss, backward=backward)
        self.ledger.flops += self._flops.known[key]

    def predictor(self) -> Predictor:
        """What is evaluated: the model as the hooks hand it out, last hook first, through the `predict` wrappers."""
        model = self.model
        for for_eval in reversed(self._hooks.for_eval):
            model = for_eval(model, self)
        return Predictor(model, self.built.predict)

    def state_dict(self) -> dict[str, Any]:
        """Plain data from which `load_state_dict` continues to the bit."""
        hooks = self.built.hooks
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "hooks": {name: hook.state_dict() for name, hook in hooks.items() if hasattr(hook, "state_dict")},
            "ledger": self.ledger.state_dict(),
            "loss": [self.loss_sum, self.loss_steps],
            **({} if self._trace is None else {"logged": self._trace.state_dict()}),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put a checkpoint's state into the built objects; each hook re-applies what it holds."""
        self._load(state)
        if self._trace is not None and "logged" in state:
            self._trace.load_state_dict(state["logged"])
        self.ledger.load_state_dict(state["ledger"])

    def rewind(self, state: dict[str, Any]) -> None:
        """Go back to an earlier state of this run; what was spent since then is charged to "branches"."""
        self._load(state)
        self.ledger.rewind(state["ledger"])

    def _load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        for name, hook_state in state["hooks"].items():
            self.built.hooks[name].load_state_dict(hook_state)
        self.loss_sum, self.loss_steps = state["loss"]


class Predictor(nn.Module):
    """A model behind evaluation-time wrappers (test-time augmentation); plain when there are none."""

    def __init__(self, model: nn.Module, wrappers: list[Callable[..., Any]]) -> None:
        super().__init__()
        self.model = model
        forward: Callable[..., Any] = model
        for wrap in wrappers:
            forward = wrap(forward)
        self._forward = forward

    def forward(self, inputs: Any) -> Any:
        """The outputs for `inputs`."""
        return self._forward(inputs)
