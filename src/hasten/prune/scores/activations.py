"""Scores from what layers are called with, collected batch by batch: only sums over rows are kept.

    activation           |w_ij| E|x_j|              the mean size of what the entry adds to its output
    wanda                |w_ij| ||x_j||_2           the same with the norm over all rows; compared within a row
    channel_activation   E|y_i|                     the mean size of the output channel, for all its entries

x_j is what the entry is multiplied with: for a convolution the pixels that its place of the kernel meets, so padding
and stride are counted as they are. A bias is scored like an input of the layer's mean size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..._core.checks import NonFiniteError
from ..targets import Targets
from .data import Data, inputs_of, undisturbed
from .matrices import CONVOLUTIONS, TRANSPOSED, batched
from .sites import Seen, Site, sites, watch

__all__ = ["Sums", "activation", "channel_activation", "run", "wanda", "wide"]


def wanda(matrices: Tensor, squares: Tensor) -> Tensor:
    """`|w_ij| ||x_j||_2` for matrices (groups, outputs, columns) and the sums of squares of inputs (groups, columns).

    >>> wanda(torch.tensor([[[1.0, -2.0]]]), torch.tensor([[16.0, 1.0]]))
    tensor([[[4., 2.]]])

    Source: arXiv 2306.11695.
    """
    return matrices.detach().abs() * squares.sqrt().unsqueeze(1)


def activation(model: nn.Module, targets: Targets, data: Data) -> dict[str, Tensor]:
    """`|w_ij| E|x_j|`, and for a bias `|b_i|` times the mean of `E|x_j|` over the inputs of its layer.

    >>> from hasten.prune.targets import find
    >>> layer = nn.Linear(2, 1)
    >>> _ = torch.nn.init.ones_(layer.weight), torch.nn.init.ones_(layer.bias)
    >>> activation(layer, find(layer), Data(torch.tensor([[1.0, -3.0]])))
    {'weight': tensor([[1., 3.]]), 'bias': tensor([2.])}
    """
    found, sums = sites(model, targets.parameters), Sums(power=1)
    run(model, found, data, sums)
    scores, means = {}, {}
    for site in found:
        mean = sums.mean(site)
        scores[site.name] = site.restore(site.matrices(site.weight.detach()).abs() * mean.unsqueeze(1))
        means[site.name] = mean.mean()
    for name, weight in _biases(targets).items():
        bias = targets.parameters[name].detach().abs()
        scores[name] = bias * means[weight] if weight else bias
    return {name: scores[name] for name in targets.names}


def channel_activation(model: nn.Module, targets: Targets, data: Data) -> dict[str, Tensor]:
    """`E|y_i|` over samples and places for all entries of output channel i, its bias included.

    y is what the layer itself gives, before any norm or nonlinearity that follows.
    """
    found, means = sites(model, targets.parameters), Outputs()
    run(model, found, data, means)
    return per_channel(targets, found, {site.name: means.mean(site) for site in found})


def per_channel(targets: Targets, found: Sequence[Site], values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Scores that give all entries of an output channel, and its bias, the value of the channel: (groups, outputs)."""
    scores = {}
    for site in found:
        matrices = site.matrices(site.weight)
        scores[site.name] = site.restore(values[site.name].unsqueeze(-1).expand(matrices.shape))
    for name, weight in _biases(targets).items():
        bias = targets.parameters[name].detach()
        scores[name] = values[weight].reshape(bias.shape) if weight else bias.abs()
    return {name: scores[name] for name in targets.names}


def _biases(targets: Targets) -> dict[str, str | None]:
    """The weight that each bias belongs to; None where that is not pruned."""
    found: dict[str, str | None] = {}
    for names in targets.layers.values():
        matrices = [name for name in names if targets.parameters[name].ndim > 1]
        found |= {name: matrices[0] if matrices else None for name in names if name not in matrices}
    return found


@torch.no_grad()
def run(model: nn.Module, found: Sequence[Site], data: Data, seen: Seen) -> None:
    """Run the model on all batches, in evaluation mode, and tell `seen` of every call of the sites' layers."""
    with undisturbed(model, data), watch(found, seen):
        for batch in data.on(found[0].weight.device):
            model(inputs_of(batch))


def wide(tensor: Tensor) -> torch.dtype:
    """The dtype of sums over a tensor: its own, at least float32."""
    return torch.promote_types(tensor.dtype, torch.float32)


class Sums:
    """Sums over rows of `|x_j|^power`, (groups, columns) for each weight, and how many rows there were.

    Args:
        power: 1 or 2.
    """

    def __init__(self, power: int) -> None:
        self.power = power
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, Tensor] = {}

    def __call__(self, site: Site, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Take note of a call of the site's layer."""
        samples: list[int] = []

        def prepare(x: Tensor) -> Tensor:
            """Sums over the batch, so that windows are taken of one sample only."""
            samples.append(x.shape[0])
            return x.to(wide(x)).abs().pow_(self.power).sum(0, keepdim=True)

        blocks = site.rows(args, kwargs, prepare)
        samples *= 1 if len(samples) == len(blocks) else len(blocks)  # groups of a convolution have one input
        self.add(site, [block.sum(0) for block in blocks],
                 [count * block.shape[0] for count, block in zip(samples, blocks, strict=True)])  # fmt: skip

    def add(self, site: Site, blocks: Sequence[Tensor], counts: Sequence[int]) -> None:
        """Add the sums of a call, and how many rows each group had."""
        sums, rows = torch.stack(list(blocks)), torch.tensor(counts, device=blocks[0].device)
        if not bool(sums.isfinite().all()):
            raise NonFiniteError(f"prune: expected finite activations, got NaN or infinity at {site.name}.")
        if site.name in self.sums:
            sums, rows = sums + self.sums[site.name], rows + self.counts[site.name]
        self.sums[site.name], self.counts[site.name] = sums, rows

    def total(self, site: Site) -> Tensor:
        """The sums, (groups, columns); 0 where the layer was never called."""
        if site.name in self.sums:
            return self.sums[site.name]
        matrices = site.matrices(site.weight.detach())
        return matrices.new_zeros(self._shape(matrices), dtype=wide(matrices))

    def mean(self, site: Site) -> Tensor:
        """The sums, divided by the number of rows."""
        total = self.total(site)
        return total / self.counts[site.name].unsqueeze(1) if site.name in self.counts else total

    @staticmethod
    def _shape(matrices: Tensor) -> tuple[int, ...]:
        return matrices.shape[0], matrices.shape[2]


class Outputs(Sums):
    """Sums over rows of the size of what layers give, (groups, outputs)."""

    def __init__(self) -> None:
        super().__init__(power=1)

    def __call__(self, site: Site, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        matrices = site.matrices(site.weight)
        if site.attribute == "weight":
            y = batched(site.layer, site.layer.forward(*args, **kwargs))
            last = y.movedim(1, -1) if isinstance(site.layer, (*CONVOLUTIONS, *TRANSPOSED)) else y
            blocks = list(last.reshape(-1, *matrices.shape[:2]).unbind(1))
        else:  # what a projection of attention gives is not to be seen; its bias is left out
            blocks = [x @ w.T for x, w in zip(site.rows(args, kwargs, lambda x: x), matrices, strict=True)]
        self.add(site, [y.abs().sum(0, dtype=wide(y)) for y in blocks], [len(y) for y in blocks])

    @staticmethod
    def _shape(matrices: Tensor) -> tuple[int, ...]:
        return matrices.shape[0], matrices.shape[1]
