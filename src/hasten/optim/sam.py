"""Sharpness-aware minimization (arXiv 2010.01412), around any optimizer.

A step looks at the gradient `g` at the weights `w`, climbs to `w + e`, `e = rho * g / (norm(g) + epsilon)` with one
norm over all parameters, takes the gradient there, puts `w` back and lets the base optimizer step with that gradient.
It costs a second forward and backward pass; with `interval = k` only every `k`-th step is one, the others are plain.

`w` is put back from a copy, so it keeps its bits (subtracting `e` would not), also when the closure fails.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import LBFGS, Optimizer

from .._core.checks import NonFiniteError, check, finite, refuse_type, whole

__all__ = ["SAM"]

# Hooks around the state of the optimizer: one registry with the base, whose methods run them.
_STATE_HOOKS = (
    "_optimizer_state_dict_pre_hooks", "_optimizer_state_dict_post_hooks",
    "_optimizer_load_state_dict_pre_hooks", "_optimizer_load_state_dict_post_hooks",
)  # fmt: skip


class SAM(Optimizer):
    """Wrap `base` so that each step uses the gradient at the worst point nearby.

    `param_groups`, `state` and `defaults` are the base's own objects: a learning-rate scheduler may hold either one.
    Step hooks of the base see the second gradient (clip there); step hooks of this class run around the whole step.

    The closure does what `torch.optim.LBFGS` asks for: clear the gradients, compute the loss, call `backward()`, return
    the loss. It is called once in a plain step, twice in a SAM step. The second pass must not move batch-norm
    statistics: run it inside `frozen_batch_norm_statistics` (see docs/methods/sam.md).

    Use it for image models on long budgets; not for training that sees its data once. Not with a GradScaler.

    Args:
        base: any optimizer that needs no closure of its own.
        rho: length of the climb, at least 0; 0 costs the second pass for nothing. With `interval` 10, try 0.5.
        epsilon: added to the norm, so that zero gradients give no climb.
        interval: every so many-th step is a SAM step; 1 is every one.

    Attributes:
        needs_closure: True, for loops that ask.
        steps: steps taken, part of the state.

    >>> w = torch.nn.Parameter(torch.tensor([1.0]))
    >>> sam = SAM(torch.optim.SGD([w], lr=1.0), rho=0.05)
    >>> def closure():
    ...     sam.zero_grad()
    ...     loss = 0.5 * w.square().sum()
    ...     loss.backward()
    ...     return loss
    >>> _ = sam.step(closure)
    >>> w.grad
    tensor([1.0500])

    Source: arXiv 2010.01412.
    """

    needs_closure = True
    base: Optimizer
    rho: float
    epsilon: float
    interval: int
    steps: int

    def __init__(self, base: Optimizer, *, rho: float = 0.05, epsilon: float = 1e-12, interval: int = 1) -> None:
        if not isinstance(base, Optimizer):
            raise refuse_type("SAM", "a torch optimizer as base", base, "Build it first: SAM(torch.optim.SGD(...)).")
        if isinstance(base, LBFGS) or getattr(base, "needs_closure", False):
            raise refuse_type("SAM", "a base that needs no closure", base, "Wrap SGD, AdamW or the like.")
        check(finite("SAM", "rho", rho) >= 0, "SAM", "rho >= 0", rho, "Pass rho= a number of at least 0.")
        check(finite("SAM", "epsilon", epsilon) >= 0, "SAM", "epsilon >= 0", epsilon, "Pass epsilon= at least 0.")
        whole("SAM", "interval", interval, low=1)
        # Not super().__init__, which would build groups and state of its own.
        self.__setstate__({"base": base, "rho": rho, "epsilon": epsilon, "interval": interval, "steps": 0})

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in ("base", "rho", "epsilon", "interval", "steps")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        shared = {name: getattr(state["base"], name) for name in _STATE_HOOKS}
        super().__setstate__({**state, **shared})

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The base's groups."""
        return self.base.param_groups

    @property
    def state(self) -> Any:  # type: ignore[override]
        """The base's state."""
        return self.base.state

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        """The base's defaults."""
        return self.base.defaults

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base, and thereby here."""
        self.base.add_param_group(param_group)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients."""
        self.base.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        """The base's state, and under "sam" the number of steps taken."""
        return {**self.base.state_dict(), "sam": {"steps": self.steps}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over a `state_dict()` of this class."""
        check("sam" in state_dict, "SAM.load_state_dict", "a state of SAM", sorted(state_dict),
              "Load a plain optimizer's state with sam.base.load_state_dict(...).")  # fmt: skip
        self.base.load_state_dict({name: value for name, value in state_dict.items() if name != "sam"})
        self.steps = int(state_dict["sam"]["steps"])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step.

        Args:
            closure: clears the gradients, computes the loss, calls `backward()`, returns the loss.

        Returns:
            What the closure returned at `w` (its first call).

        Raises:
            TypeError: no closure.
            NonFiniteError: the norm of the gradient is not finite; the weights are unchanged.
        """
        if closure is None:
            fix = "Call step(closure); the closure clears the gradients, computes the loss and calls backward()."
            raise refuse_type("SAM.step", "a closure", closure, fix)
        evaluate = torch.enable_grad()(closure)
        loss = evaluate()
        if (self.steps + 1) % self.interval == 0:
            self._gradient_uphill(evaluate)
        self.base.step()
        self.steps += 1
        return loss

    def _gradient_uphill(self, evaluate: Callable[[], Any]) -> None:
        """Replace the gradients by those at `w + e`; the weights come back bit for bit."""
        moved = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        gradients = [p.grad for p in moved]
        norm = torch.nn.utils.get_total_norm(gradients).item()
        if not norm < float("inf"):
            fix = "Lower the learning rate or clip; the weights were not changed."
            raise NonFiniteError(f"SAM.step: expected a finite gradient norm, got {norm}. {fix}")
        weights = [p.clone() for p in moved]
        try:
            torch._foreach_add_(moved, gradients, alpha=self.rho / (norm + self.epsilon))
            evaluate()
        finally:
            _restore(moved, weights)


def _restore(params: list[Tensor], weights: list[Tensor]) -> None:
    torch._foreach_copy_(params, weights)
