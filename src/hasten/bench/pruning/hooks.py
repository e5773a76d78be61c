"""What happens in a run of a pruning study beside training: masks are held, and the best epoch is kept."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from hasten._core.batch import batch_size, get_inputs, take, to_device
from hasten._core.checks import NonFiniteError

from ..build import base_optimizer
from ..source import default_collate, tensors_of
from ..train import evaluate
from .cut import hold_masks

__all__ = ["HoldMasks", "KeepBest", "mean_loss"]


class HoldMasks:
    """Pruned entries stay 0 through every step, whatever the optimizer does (`hasten.prune.hold`)."""

    def setup(self, run: Any) -> None:
        """Attach to the model's masks and to the optimizer; a model without masks is left alone."""
        self.handle = hold_masks(run.model, base_optimizer(run.optimizer))


class KeepBest:
    """Looks at the held-out part after every epoch, off the clock, and hands out the weights that did best on it.

    The first of equals is kept. The test data are not looked at.

    Args:
        held_out: `(seed) -> data`.
        score: `(model, data) -> number`.
        minimize: a lower score is better.
    """

    def __init__(
        self, held_out: Callable[[int], Any], score: Callable[[nn.Module, Any], float], minimize: bool
    ) -> None:
        self.held_out, self.score, self.minimize = held_out, score, minimize
        self.step, self.best = -1, math.nan
        self.weights: dict[str, Tensor] = {}

    def setup(self, run: Any) -> None:
        """Load the held-out part."""
        with run.ledger.off("data"):
            self.data = to_device(self.held_out(run.seed), run.device)

    def after_step(self, run: Any) -> None:
        """Look, where an epoch or the run ends."""
        tick = run.tick.after
        if tick.in_epoch and tick.step != tick.end:
            return
        with run.ledger.off("evaluation"), run.autocast():
            found = evaluate(run.model, self.score, self.data, seed=run.seed, step=tick.step)
            if not math.isfinite(found):
                raise NonFiniteError(f"the score of the held-out part became {found} at step {tick.step}.")
            if self.step < 0 or (found < self.best if self.minimize else found > self.best):
                self.step, self.best = tick.step, found
                self.weights = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}

    def for_eval(self, model: nn.Module, run: Any) -> nn.Module:
        """A copy with the best weights so far."""
        if self.step < 0:
            return model
        best = copy.deepcopy(model)
        best.load_state_dict(self.weights)
        return best

    def state_dict(self) -> dict[str, Any]:
        """What was best."""
        return {"step": self.step, "best": self.best, "weights": self.weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.step, self.best, self.weights = state["step"], state["best"], state["weights"]


@torch.no_grad()
def mean_loss(model: nn.Module, data: Any, *, loss: Callable[[Any, Any], Tensor], size: int = 256) -> float:
    """The workload's own loss, averaged over a part of the training data; for metrics that cannot be asked of it.

    Args:
        model: in evaluation mode.
        data: tensors or a dataset.
        loss: `(outputs, batch) -> Tensor (batch,)`.
        size: samples of a pass; the last ones may be fewer.
    """
    total, samples = 0.0, 0
    device = next(model.parameters()).device
    for batch in _batches(data, size):
        batch = to_device(batch, device)
        total += float(loss(model(get_inputs(batch)), batch).double().sum())
        samples += batch_size(batch)
    return total / samples


def _batches(data: Any, size: int) -> Iterator[Any]:
    """All samples in order."""
    tensors = tensors_of(data)
    n = len(data) if tensors is None else len(tensors[0])
    for start in range(0, n, size):
        if tensors is not None:
            yield take(data, slice(start, start + size))
            continue
        batch = default_collate([data[i] for i in range(start, min(start + size, n))])
        yield tuple(batch) if isinstance(batch, list) else batch
