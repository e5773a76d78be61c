"""What a strategy may look at besides the weights, and a forward pass that leaves no trace."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from ..._core.batch import get_inputs, get_targets, map_tensors, to_device
from ..._core.checks import NonFiniteError, describe, refuse, refuse_type
from ..._core.norm import frozen_batch_norm_statistics
from ..._core.rng import fork, stream

__all__ = ["Data", "inputs_of", "samples", "undisturbed"]


@dataclass(frozen=True)
class Data:
    """Batches, a loss and a source of chance.

    Args:
        batches: one batch (`(inputs, targets)`, a dict, or a tensor where no loss is needed), or something that gives
            batches each time it is iterated over: a list, a DataLoader. A list of two tensors is one batch.
        loss_fn: `loss_fn(outputs, targets)`, a mean over the batch; values for each sample are averaged. None:
            cross-entropy.
        generator: for strategies that draw; None: always the same draws.
        call: what errors call the caller.
        masks: what the model wears or earlier rounds have kept, by name of parameter.
    """

    batches: Any = None
    loss_fn: Callable[[Any, Any], Tensor] | None = None
    generator: torch.Generator | None = None
    call: str = "prune.compute"
    masks: Mapping[str, Tensor] | None = None

    @property
    def seed(self) -> int:
        """Seeds what a model draws during a pass."""
        return 0 if self.generator is None else self.generator.initial_seed()

    def worn(self, name: str, weight: Tensor) -> Tensor:
        """A tensor of a parameter's shape, 0 where its mask is; below a parametrization the weight itself is not."""
        mask = None if self.masks is None else self.masks.get(name)
        return weight.detach() if mask is None else weight.detach().masked_fill(~mask, 0)

    def draws(self) -> torch.Generator:
        """The generator, or a fresh one that always starts the same."""
        return stream(0, "prune") if self.generator is None else self.generator

    def on(self, device: torch.device) -> Iterator[Any]:
        """The batches, one after the other, on `device`."""
        count = 0
        for batch in [self.batches] if _is_batch(self.batches) else self.batches:
            count += 1
            yield to_device(batch, device)
        if not count:
            raise refuse(self.call, "at least one batch", "none", "Pass batch= one, or a loader that is not empty.")

    def loss(self, outputs: Any, batch: Any) -> Tensor:
        """The loss of a batch, one finite number with a gradient."""
        if self.loss_fn is None and not isinstance(outputs, Tensor):
            raise refuse_type(self.call, "logits, for the default loss", outputs, "Pass loss_fn(outputs, targets).")
        if isinstance(batch, Tensor):
            raise refuse_type(self.call, "batches with targets, for a loss", batch, "Pass batch=(inputs, targets).")
        value = (self.loss_fn or F.cross_entropy)(outputs, get_targets(batch))
        if not isinstance(value, Tensor) or not value.requires_grad:
            fix = "Compute it from the outputs, without detach or no_grad."
            raise refuse_type(self.call, "a loss with a gradient", describe(value), fix)
        value = value.mean()
        if not torch.isfinite(value):
            fix = "Score with finite inputs and weights."
            raise NonFiniteError(f"{self.call}: expected a finite loss, got {value.item()}. {fix}")
        return value


def repeatable(batches: Any) -> Any:
    """`batches`, as a list if they could be iterated over only once."""
    return list(batches) if isinstance(batches, Iterator) else batches


def _is_batch(batches: Any) -> bool:
    if isinstance(batches, (Tensor, Mapping, tuple)):
        return True
    if isinstance(batches, list):
        return len(batches) == 2 and all(isinstance(part, Tensor) for part in batches)
    if isinstance(batches, Iterable):
        return False
    raise refuse_type("prune.compute", "batch= a batch or a loader", batches, "Pass (inputs, targets) or a DataLoader.")


def inputs_of(batch: Any) -> Any:
    """What the model is called with: the batch's inputs, or the batch itself if it is a tensor."""
    return batch if isinstance(batch, Tensor) else get_inputs(batch)


def samples(batch: Any) -> int:
    """Number of samples: the first dimension of the first tensor of the inputs."""
    found: list[int] = []
    map_tensors(lambda tensor: found.append(tensor.shape[0] if tensor.ndim else 1), inputs_of(batch))
    return found[0] if found else 1


@contextlib.contextmanager
def undisturbed(model: nn.Module, data: Data, *, trained: Iterable[nn.Parameter] = ()) -> Iterator[None]:
    """Inside, the model runs in evaluation mode, and afterwards it is as it was; so are the global generators.

    Where gradients of the parameters `trained` are asked for, batch norms normalise by the batch, as they do in
    training, but take no note of it. Dropout is off in any case: it would be part of the scores.

    >>> model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    >>> with undisturbed(model, Data()):
    ...     model.training
    False
    >>> model.training
    True
    """
    trained = list(trained)
    modes = [(module, module.training) for module in model.modules()]
    asked = [(parameter, parameter.requires_grad) for parameter in trained]
    by_batch = (_BatchNorm, nn.RNNBase) if trained else ()  # cuDNN knows no gradient of an RNN in evaluation mode
    with fork(data.seed, "prune"), frozen_batch_norm_statistics(model):
        try:
            for module, _ in modes:
                module.training = isinstance(module, by_batch)
            for parameter in trained:
                parameter.requires_grad_(True)
            yield
        finally:
            for module, mode in modes:
                module.training = mode
            for parameter, was in asked:
                parameter.requires_grad_(was)
