"""The loss side of MixUp and CutMix: interpolate the losses of the two targets instead of building dense targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._core.batch import MixedTargets, get_targets, replace_parts
from .._core.checks import refuse
from ._per_sample import Loss, per_sample

__all__ = ["Interpolated", "interpolated"]


@dataclass(frozen=True)
class Interpolated:
    """A loss that understands `MixedTargets`; see `interpolated`."""

    loss: Loss

    def __call__(self, outputs: Any, batch: Any) -> Tensor:
        """One value per sample, (batch,)."""
        targets = get_targets(batch)
        if not isinstance(targets, MixedTargets):
            return self.loss(outputs, batch)
        first = per_sample("interpolated", self.loss(outputs, replace_parts(batch, targets=targets.first)))
        second = per_sample("interpolated", self.loss(outputs, replace_parts(batch, targets=targets.second)))
        if targets.weight.shape != first.shape:
            raise refuse("interpolated", f"a mixing weight per sample, shape {tuple(first.shape)}", targets.weight)
        return torch.lerp(first, second, targets.weight.to(first.dtype))


def interpolated(loss: Loss) -> Interpolated:
    """Teach `loss` mixed targets: `(1 - weight) * loss(first) + weight * loss(second)`, per sample.

    For a loss that is linear in its targets, such as cross entropy, this equals the loss of the mixed dense targets,
    and works with class indices and with any other target the loss takes. Ordinary targets pass through unchanged.
    Costs one more evaluation of the loss, not of the model.

    Args:
        loss: `loss(outputs, batch) -> (batch,)`.

    Returns:
        A loss.

    Source: arXiv 1710.09412, 1905.04899.
    """
    return Interpolated(loss)
