"""A multilayer perceptron."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from torch import Tensor, nn

from hasten._core.checks import check

__all__ = ["MLP"]


class MLP(nn.Module):
    """Linear-ReLU layers, then a linear classifier; inputs of any shape are flattened.

    Use it where inputs have no order to exploit, or as the cheapest model of a smoke test; not for images that should
    be learned well.

    Args:
        in_features: numbers per input, after flattening; at least 1.
        classes: number of logits; at least 1.
        widths: units of each hidden layer; empty means a linear model.

    Init: torch's default for `nn.Linear` (uniform in ±1/sqrt(fan_in), weights and biases).

    >>> import torch
    >>> MLP(4, 3)(torch.zeros(5, 2, 2)).shape
    torch.Size([5, 3])
    """

    def __init__(self, in_features: int, classes: int, widths: Sequence[int] = (64, 64)) -> None:
        super().__init__()
        sizes = (in_features, *widths, classes)
        check(min(sizes) >= 1, "MLP", "in_features, classes and widths of at least 1", sizes)
        layers: list[nn.Module] = [nn.Flatten()]
        for inside, outside in itertools.pairwise(sizes[:-1]):
            layers += [nn.Linear(inside, outside), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.head = nn.Linear(sizes[-2], classes)

    def forward(
        self,
        x: Tensor,  # (batch, ...) with in_features numbers per sample
    ) -> Tensor:  # (batch, classes)
        """Logits of a batch."""
        return self.head(self.features(x))
