"""Exponential moving average of the weights, kept beside the model and evaluated in a copy of it."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from .._core.checks import below_one, positive, refuse, whole
from .._core.wrappers import unwrapped

__all__ = ["EMA"]


def _averageable(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers of floating point (or complex), by name; a tied one once."""
    named: dict[str, Tensor] = dict(model.named_parameters())
    for name, buffer in model.named_buffers():
        owner, _, attribute = name.rpartition(".")
        if attribute not in model.get_submodule(owner)._non_persistent_buffers_set:
            named[name] = buffer
    return {name: value for name, value in named.items() if value.is_floating_point() or value.is_complex()}


class EMA:
    """Controller: after each optimizer step, `average = s * average + (1 - s) * weights`, `s = 2 ** (-dt / half_life)`.

    `dt` is the time since the last update, in the unit of `t`: what was averaged `half_life` ago counts half. The
    average covers trainable parameters and floating-point buffers (batch-norm statistics); everything else (frozen
    parameters, counters) is that of the model. Evaluation uses `evaluated(model)`, a copy: training never sees it.

    Use it for image models and noisy training; not with another average of weights, and not with a `half_life` that is
    a large part of the run (docs/methods/ema.md).

    Args:
        model: the model; wrappers of torch.compile and DistributedDataParallel are looked through.
        optimizer: not used; controllers take it.
        half_life: in the unit of `t` (optimizer steps, if `t` counts them), above 0.
        start: progress `t / T` at which averaging begins, in [0, 1); before, the average is the current weights.
        update_interval: update at every so many calls of `step`; saves time, changes the average little while it
            is far below the half-life.

    Averages are float32 at least: in bfloat16 the small steps of an average would round away. They cost the memory of
    one more copy of the weights.

    >>> model = nn.Linear(1, 1, bias=False)
    >>> ema = EMA(model, half_life=10)
    >>> for t in range(11):
    ...     _ = nn.init.constant_(model.weight, float(t > 0))
    ...     ema.step(t, 100)
    >>> round(ema.evaluated(model).weight.item(), 6)
    0.5
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any = None,
        *,
        half_life: float,
        start: float = 0.0,
        update_interval: int = 1,
    ) -> None:
        self.half_life = positive("EMA", "half_life", half_life)
        self.start = below_one("EMA", "start", start)
        self.update_interval = whole("EMA", "update_interval", update_interval, low=1)
        self.model = unwrapped(model)
        self.averages: dict[str, Tensor] = {}
        self.last: float | None = None  # time of the last update
        self.calls = 0

    @torch.no_grad()
    def step(self, t: float, T: float | None = None) -> None:
        """Take the weights into the average. Call it once after every optimizer step.

        The first call from `start` on copies the weights. A `t` below the last one is a clock that started again (a new
        cycle of a curve): the time since then counts.

        Args:
            t: now, in the unit of `half_life`.
            T: the length of training in the same unit; needed where `start > 0`.
        """
        self.calls += 1
        if self.start > 0 and t / positive("EMA.step", "T", 0.0 if T is None else T) < self.start:
            self.averages, self.last = {}, None
            return
        if self.last is not None and (self.calls - 1) % self.update_interval:
            return
        since = 0.0 if self.last is None else t - self.last if t >= self.last else t
        self._update(2.0 ** (-since / self.half_life))
        self.last = float(t)

    def _update(self, decay: float) -> None:
        averages, values = [], []
        for name, value in _averageable(self.model).items():
            if isinstance(value, nn.Parameter) and not value.requires_grad and name not in self.averages:
                continue  # never trained: the model's own value serves
            wide = torch.promote_types(value.dtype, torch.float32)
            if name not in self.averages:
                self.averages[name] = value.detach().to(wide, copy=True)
                continue
            self.averages[name] = self.averages[name].to(value.device)
            averages.append(self.averages[name])
            values.append(value.detach().to(wide))
        if averages:
            get_ema_multi_avg_fn(decay)(averages, values, None)

    @torch.no_grad()
    def evaluated(self, model: nn.Module) -> nn.Module:
        """A copy of `model` with the averaged weights, in their own dtypes; before the first update a plain copy.

        Raises:
            ValueError: an average has no counterpart of the same shape in `model`.
        """
        averaged = copy.deepcopy(unwrapped(model))
        self._check_fit("EMA.evaluated", averaged, self.averages)
        targets = _averageable(averaged)
        for name, value in self.averages.items():
            targets[name].copy_(value)
        return averaged

    def rebind(self, model: nn.Module, optimizer: Any = None) -> None:
        """Average this model from now on; what is averaged so far is kept, by name."""
        raw = unwrapped(model)
        self._check_fit("EMA.rebind", raw, self.averages)
        self.model = raw

    def state_dict(self) -> dict[str, Any]:
        """Averages and clock: plain data."""
        return {"averages": dict(self.averages), "last": self.last, "calls": self.calls}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a state, bit for bit."""
        self._check_fit("EMA.load_state_dict", self.model, state["averages"])
        self.averages = {name: value.clone() for name, value in state["averages"].items()}
        self.last, self.calls = state["last"], state["calls"]

    @staticmethod
    def _check_fit(call: str, model: nn.Module, averages: dict[str, Tensor]) -> None:
        targets = _averageable(model)
        for name, value in averages.items():
            if name not in targets or targets[name].shape != value.shape:
                got = f"shape {tuple(targets[name].shape)}" if name in targets else "no such tensor"
                fix = "Use the model that was averaged."
                raise refuse(call, f"{name} of shape {tuple(value.shape)} in the model", got, fix)
