"""One controller for training with masks that change: when, how many, which, and what grows again.

    when        `due(t, T, every, schedule)`      every so many steps, and where the schedule reaches its end
    how many    `schedule(t, T)`, an allocator    the density of the whole, and which tensor keeps how much of it
    which       a scorer, a pattern               the entries with the largest scores are kept, exactly that many
    regrow      `exchange(...)`                   per tensor, the least of the kept give way to as many others

The published methods are settings of these four (`hasten.prune.presets`): gradual magnitude pruning has no regrowth,
SET and RigL a constant density, GraNet both. Masks only ever change in `step`, after the optimizer's step; between the
changes `hold` keeps what is masked at zero, with its gradient and the optimizer's state.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from .._core.checks import check, refuse, refuse_type, whole
from .._core.rng import stream
from .hold import Hold
from .masks import Masks, apply, finalize, masks_of
from .patterns import Pattern, parse
from .phases import (
    ALLOCATORS,
    REGROWTHS,
    SCORERS,
    Allocator,
    Regrowth,
    Scorer,
    at_random,
    choose,
    due,
    exchange,
    magnitude,
)
from .places import bare
from .schedules import Schedule, cosine
from .targets import find

__all__ = ["SparseController"]


class SparseController:
    """Masks on a schedule: call `step()` after every `optimizer.step()`.

    Args:
        model: bare or wrapped; under DistributedDataParallel all ranks must come to the same masks, which is checked.
        optimizer: of the model's parameters; its steps are hooked (see `hold`), not replaced.
        pattern: "unstructured", "2:4" (no regrowth), "block(4,4)", "channel", or a pattern. Parameters that it does
            not cover, biases mostly, stay dense.
        allocator: "global" (scores compared over all tensors), "uniform", "erk", or `(shapes, density) -> densities`.
        schedule: `(t, T) -> density`, of the units of all prunable parameters; see `hasten.prune.schedules`.
        scorer: "magnitude", "saliency", or `(weight, gradient) -> score`, higher is kept.
        regrow: None, "gradient", "random", or `(weight, gradient, generator) -> score`, higher grows.
        rate: `(t, T)` -> share of the kept units of each tensor that is exchanged at an update; with `regrow`.
        every: steps between updates.
        steps: T, the length of the training; None: it is given to `step`.
        initial: masks to start from; None: by the scores, where the schedule starts below 1.
        ignore: what stays dense; see `hasten.prune.targets.find`.
        seed: of random regrowth: a draw depends on the seed and the step alone.

    Gradients are those of the step before, whole (accumulated, unscaled); where that step was skipped, as loss scaling
    does, the update waits for the next one. An entry that grows starts at 0, with the state of the optimizer at 0.

    >>> from hasten.prune.schedules import cubic
    >>> model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> controller = SparseController(model, optimizer, "unstructured", "global", cubic(0.25), every=2, steps=20)
    >>> for _ in range(20):
    ...     optimizer.zero_grad()
    ...     model(torch.randn(4, 8)).square().sum().backward()
    ...     optimizer.step()
    ...     controller.step()
    >>> controller.masks.nonzeros, controller.masks.total
    (18, 72)
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        pattern: str | Pattern,
        allocator: str | Allocator,
        schedule: Schedule,
        scorer: str | Scorer = "magnitude",
        regrow: str | Regrowth | None = None,
        *,
        rate: Schedule | None = None,
        every: int = 100,
        steps: int | None = None,
        initial: Mapping[str, Tensor] | None = None,
        ignore: str | nn.Module | Sequence[str | nn.Module] = (),
        seed: int = 0,
    ) -> None:
        call = "prune.SparseController"
        self.pattern, self.schedule, self.seed, self.ignore = parse(pattern), schedule, seed, ignore
        self.allocator: Allocator | None = _one_of(call, "allocator", allocator, ALLOCATORS)
        self.scorer: Scorer = _one_of(call, "scorer", scorer, SCORERS)
        self.regrow: Regrowth | None = None if regrow is None else _one_of(call, "regrow", regrow, REGROWTHS)
        check(regrow is not None or rate is None, call, "rate= only with regrow=", rate, "Pass regrow='gradient'.")
        if self.regrow is not None and self.pattern.density is not None:
            raise refuse(call, "no regrowth with a pattern of fixed density", f"{self.pattern}", "Leave regrow out.")
        self.rate: Schedule = cosine(0.3, end=0.75) if rate is None else rate
        self.every = whole(call, "every", every, low=1)
        self.steps = steps if steps is None else whole(call, "steps", steps, low=1)
        self.t = 0.0
        self.active = True
        self._looks = self.scorer is not magnitude or self.regrow not in (None, at_random)
        self._owed = False  # an update that had no gradients
        self._gradients: dict[str, Tensor] = {}
        self._bind(model, optimizer)
        try:
            self._start(initial)
        except BaseException:
            self.hold.remove()
            raise

    # The four phases ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def step(self, t: float | None = None, T: float | None = None) -> None:
        """Change the masks if it is time to. Call it once after every `optimizer.step()`.

        Args:
            t: steps done, this one included; None: one more than last time.
            T: steps of the training; None: `steps`.
        """
        self.t, T = self.t + 1 if t is None else t, self.steps if T is None else T
        if T is None:
            raise refuse("SparseController.step", "T, the length of the training", "None", "Pass steps= or T.")
        self.steps = T  # type: ignore[assignment]
        if self.active and (self._owed or due(self.t, T, self.every, self.schedule)):
            self._owed = self._looks and not self._gradients
            if not self._owed:
                self._update(self.t, T)
        self._gradients = {}

    def _update(self, t: float, T: float) -> None:
        masks = dict(self.masks)
        scores = {name: self._score(name).masked_fill(~mask, -math.inf) for name, mask in masks.items()}
        density = self.schedule(t, T)
        if density < self._density:
            masks, self._density = choose(scores, density, self.pattern, self.allocator), density
        rate = self.rate(t, T) if self.regrow is not None else 0.0
        if rate > 0 and t < T:
            for index, (name, mask) in enumerate(masks.items()):
                generator = stream(self.seed, "prune.regrow", int(t), index)
                growth = self.regrow(self._weight(name), self._gradients.get(name), generator)  # type: ignore[misc]
                masks[name] = exchange(scores[name], growth, mask, rate, self.pattern)
        self._put_on(masks)

    def _score(self, name: str) -> Tensor:
        score = self.scorer(self._weight(name), self._gradients.get(name))
        if not bool(score.isfinite().all()):
            fix = "The training has diverged, or the scorer divides by zero."
            raise refuse("prune.SparseController", f"finite scores of {name}", "others", fix)
        return score

    def _weight(self, name: str) -> Tensor:
        return self.parameters[name].detach()

    def _look(self) -> None:
        """Before gradients are masked: keep them if the masks change after this step."""
        if not (self.active and self._looks):
            return
        if not (self._owed or self.steps is None or due(self.t + 1, self.steps, self.every, self.schedule)):
            return
        held = {name: parameter.grad for name, parameter in self.parameters.items()}
        self._gradients = {name: grad.detach().clone() for name, grad in held.items() if grad is not None}

    # Masks ----------------------------------------------------------------------------------------------------------

    @property
    def masks(self) -> Masks:
        """The masks as they are, by parameter name."""
        worn = masks_of(self.model)
        return Masks({name: worn[name] for name in self.parameters if name in worn}, pattern=str(self.pattern))

    def densities(self) -> dict[str, float]:
        """The share that is kept, by parameter name."""
        masks = self.masks
        return {name: masks.density(name) for name in masks}

    def to_dense(self) -> nn.Module:
        """Take the masks off and let go: all weights train from here on, those that were masked from 0."""
        self.active = False
        self.hold.remove()
        return finalize(self.model)

    def _start(self, initial: Mapping[str, Tensor] | None) -> None:
        density = float(self.schedule(0, 1))
        if initial is not None:
            if set(initial) != set(self.parameters):
                expected = f"initial masks of {', '.join(self.parameters)}"
                raise refuse("prune.SparseController", expected, f"those of {', '.join(initial)}")
            masks = dict(initial)
        elif density < 1:
            scores = {name: self._score(name) for name in self.parameters}
            masks = choose(scores, density, self.pattern, self.allocator)
        else:
            masks = {name: torch.ones_like(p, dtype=torch.bool) for name, p in self.parameters.items()}
        self._density = density
        self._put_on(masks)

    def _put_on(self, masks: Mapping[str, Tensor]) -> None:
        _check_ranks(masks)
        apply(self.model, masks)
        self.hold.zero_entries()

    # The controller's contract --------------------------------------------------------------------------------------

    def _bind(self, model: nn.Module, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise refuse_type("prune.SparseController", "a torch optimizer", optimizer)
        targets = find(model, self.ignore, call="prune.SparseController")
        covered = {name: p for name, p in targets.parameters.items() if self.pattern.covers(p.shape)}
        for name, parameter in covered.items():
            self.pattern.check(name, parameter.shape)
        stepped = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
        if not any(id(parameter) in stepped for parameter in covered.values()):
            fix = "Build it from the parameters of this model."
            raise refuse("prune.SparseController", "an optimizer of the prunable parameters", "one of others", fix)
        self.model, self.parameters = bare(model), covered
        self.hold = Hold(model, optimizer, self._look)

    def rebind(self, model: nn.Module, optimizer: Optimizer) -> None:
        """Go on with this model and optimizer, under the same masks."""
        masks = self.masks
        self.hold.remove()
        self._bind(model, optimizer)
        if self.active:
            self._put_on(masks)
        else:
            self.hold.remove()

    def evaluated(self, model: nn.Module) -> nn.Module:
        """The trained model itself, which is masked; a copy of it with averaged weights is masked here."""
        return model if not self.active or bare(model) is self.model else apply(model, self.masks)

    def state_dict(self) -> dict[str, Any]:
        """Clock and masks, one bit an entry: plain data."""
        return {"t": self.t, "steps": self.steps, "active": self.active, "density": self._density,
                "owed": self._owed, "masks": self.masks.packed()}  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state and put its masks on."""
        self.t, self.steps, self._density, self._owed = (state[key] for key in ("t", "steps", "density", "owed"))
        if state["active"]:
            self._put_on(Masks.from_packed(state["masks"]))
        elif self.active:
            self.to_dense()


def _one_of(call: str, name: str, value: Any, known: Mapping[str, Any]) -> Any:
    if isinstance(value, str) and value in known:
        return known[value]
    if callable(value):
        return value
    raise refuse(call, f"{name} among {', '.join(known)}, or a function", repr(value))


def _check_ranks(masks: Mapping[str, Tensor]) -> None:
    """Refuse masks that differ between the ranks of a distributed training: they would train different models."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return
    device = next(iter(masks.values())).device
    digest = hashlib.blake2b(digest_size=8)
    for bits in Masks(masks).packed()["bits"].values():
        digest.update(bits.numpy().tobytes())
    own = torch.tensor([int.from_bytes(digest.digest(), "little", signed=True)], device=device)
    everywhere = [torch.zeros_like(own) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(everywhere, own)
    if any(int(other) != int(own) for other in everywhere):
        fix = "Scores must come from what all ranks share: weights and all-reduced gradients."
        raise refuse("prune.SparseController", "the same masks on every rank", "masks that differ", fix)
