"""Which sets of entries a mask may keep: any, n of m neighbours, blocks, channels.

A pattern sees one tensor at a time. Its *units* are what it keeps or drops as a whole; each has the sum of the scores
of its entries. Neighbours are neighbours along the reduction of the product that a weight takes part in: the inputs of
a linear layer; for a convolution the weight is seen as (out, kernel..., in), so they are input channels.

    unstructured    every entry
    n:m             in each group of m neighbours exactly n are kept; the density is n / m
    block(h,w)      h outputs by w neighbours
    channel         an output channel: all entries of one index of the first dimension
    head            a head of an attention layer, which only the model knows (`hasten.prune.structure`)
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .._core.checks import check, fraction, refuse, refuse_type, whole
from .select import keep_largest, keep_per_row

__all__ = ["NM", "Block", "Channel", "Head", "Pattern", "Unstructured", "parse"]


class Pattern(Protocol):
    """What a pattern has: `str(pattern)` is the text that `parse` reads."""

    @property
    def density(self) -> float | None:
        """The density that the pattern fixes; None: any."""

    def check(self, name: str, shape: torch.Size) -> None:
        """Refuse a tensor that it does not divide."""

    def covers(self, shape: torch.Size) -> bool:
        """Whether tensors of this shape are pruned at all; biases are not by most."""

    def units(self, score: Tensor) -> Tensor:
        """Scores of the units."""

    def spread(self, kept: Tensor, shape: torch.Size) -> Tensor:
        """The mask of a tensor whose units are kept by a bool tensor like `units`."""

    def project(self, score: Tensor, density: float | None = None) -> Tensor:
        """The mask that keeps `round(density * units)` units, those of the largest scores."""


class _Free:
    """A pattern whose density can be any; all but `n:m`."""

    density: float | None = None

    def check(self, name: str, shape: torch.Size) -> None:
        """Refuse a tensor that the pattern does not divide; any is fine unless a subclass says so."""

    def covers(self, shape: torch.Size) -> bool:
        """Matrices and filters."""
        return len(shape) > 1

    def units(self, score: Tensor) -> Tensor:
        """Scores of the units; here, of the entries."""
        return score

    def spread(self, kept: Tensor, shape: torch.Size) -> Tensor:
        """The mask of the kept units; here, themselves."""
        return kept

    def project(self, score: Tensor, density: float | None = None) -> Tensor:
        """The mask that keeps exactly `round(density * units)` units; all entries where the pattern does not apply."""
        call = f"prune.{type(self).__name__}.project"
        if density is None:
            raise refuse(call, "a density", "None", "Pass density= the share to keep.")
        fraction(call, "density", density)
        if not self.covers(score.shape):
            return torch.ones(score.shape, dtype=torch.bool, device=score.device)
        self.check("score", score.shape)
        units = self.units(score)
        return self.spread(keep_largest([units], round(density * units.numel()))[0], score.shape)


@dataclass(frozen=True)
class Unstructured(_Free):
    """Any entries, of any tensor.

    >>> Unstructured().project(torch.tensor([0.1, 0.2, 0.3, 0.4]), 0.5)
    tensor([False, False,  True,  True])
    """

    def covers(self, shape: torch.Size) -> bool:
        """Every tensor."""
        return True

    def __str__(self) -> str:
        return "unstructured"


@dataclass(frozen=True)
class NM:
    """Exactly `n` of every `m` neighbours along the reduction; ties go to the first. Biases are kept.

    The weight of a transposed convolution, (in, out / groups, kernel...), is grouped along its outputs.

    Args:
        n, m: 0 < n <= m.

    >>> NM(2, 4).project(torch.tensor([[3.0, 1.0, 2.0, 0.5]]))
    tensor([[ True, False,  True, False]])
    """

    n: int
    m: int

    def __post_init__(self) -> None:
        whole("prune.NM", "m", self.m, low=1)
        whole("prune.NM", "n", self.n, low=1)
        check(self.n <= self.m, "prune.NM", f"n of at most m = {self.m}", self.n)

    @property
    def density(self) -> float:
        """`n / m`."""
        return self.n / self.m

    def check(self, name: str, shape: torch.Size) -> None:
        """Refuse a weight whose inputs are no multiple of `m`."""
        fix = f"Leave it out: ignore=[{name!r}]."
        check(shape[1] % self.m == 0, f"prune, pattern {self}", f"inputs of {name} as a multiple of {self.m}",
              tuple(shape), fix)  # fmt: skip

    def covers(self, shape: torch.Size) -> bool:
        """Matrices and filters."""
        return len(shape) > 1

    def units(self, score: Tensor) -> Tensor:
        """The entries, (groups, m): what is kept in a group depends on this group alone."""
        return _neighbours(score).reshape(-1, self.m)

    def spread(self, kept: Tensor, shape: torch.Size) -> Tensor:
        """The mask, from (groups, m)."""
        return _entries(kept, shape)

    def project(self, score: Tensor, density: float | None = None) -> Tensor:
        """The mask of the `n` largest scores of every group; `density` can only be `n / m`."""
        if density is not None and not math.isclose(density, self.density):
            raise refuse("prune.NM.project", f"density {self.density:g} of {self}", f"{density}", "Leave it out.")
        if not self.covers(score.shape):
            return torch.ones(score.shape, dtype=torch.bool, device=score.device)
        self.check("score", score.shape)
        return self.spread(keep_per_row(self.units(score), self.n), score.shape)

    def __str__(self) -> str:
        return f"{self.n}:{self.m}"


@dataclass(frozen=True)
class Block(_Free):
    """Blocks of `height` outputs by `width` neighbours. Biases are kept.

    >>> Block(1, 2).project(torch.tensor([[3.0, 1.0, 2.0, 0.5]]), 0.5)
    tensor([[ True,  True, False, False]])
    """

    height: int
    width: int

    def __post_init__(self) -> None:
        whole("prune.Block", "height", self.height, low=1)
        whole("prune.Block", "width", self.width, low=1)

    def check(self, name: str, shape: torch.Size) -> None:
        """Refuse a weight whose outputs or reduction the blocks do not divide."""
        rows, columns = shape[0], math.prod(shape[1:])
        fits = rows % self.height == 0 and columns % self.width == 0
        expected = f"{name} as outputs by reduction in multiples of {self.height} by {self.width}"
        check(fits, f"prune, pattern {self}", expected, (rows, columns), f"Leave it out: ignore=[{name!r}].")

    def units(self, score: Tensor) -> Tensor:
        """The sum of the scores of each block, (rows of blocks, columns of blocks)."""
        flat = _neighbours(score).reshape(score.shape[0], -1)
        return flat.unflatten(1, (-1, self.width)).unflatten(0, (-1, self.height)).sum(dim=(1, 3))

    def spread(self, kept: Tensor, shape: torch.Size) -> Tensor:
        """The mask, from (rows of blocks, columns of blocks)."""
        return _entries(kept.repeat_interleave(self.height, 0).repeat_interleave(self.width, 1), shape)

    def __str__(self) -> str:
        return f"block({self.height},{self.width})"


@dataclass(frozen=True)
class Channel(_Free):
    """Output channels, of one tensor. Which channels of several tensors go together is said by `structure`.

    >>> Channel().project(torch.tensor([[3.0, 1.0], [2.0, 0.5]]), 0.5)
    tensor([[ True,  True],
            [False, False]])
    """

    def units(self, score: Tensor) -> Tensor:
        """The sum of the scores of each channel, (channels,)."""
        return score.flatten(1).sum(1)

    def spread(self, kept: Tensor, shape: torch.Size) -> Tensor:
        """The mask, from (channels,)."""
        return kept.view(-1, *[1] * (len(shape) - 1)).expand(shape).clone()

    def __str__(self) -> str:
        return "channel"


@dataclass(frozen=True)
class Head(_Free):
    """Heads of attention layers: a name only, since one tensor does not say where its heads are."""

    def units(self, score: Tensor) -> Tensor:
        """Refused: it takes the model."""
        fix = "Pass pattern='head' with the model to prune.compute."
        raise refuse("prune.Head", "a model, whose attention layers know their heads", score, fix)

    def __str__(self) -> str:
        return "head"


def parse(pattern: str | Pattern) -> Pattern:
    """The pattern of a text: "unstructured", "2:4", "block(4,4)", "channel" or "head"; a pattern is itself.

    >>> parse("2:4"), parse("block(4, 1)")
    (NM(n=2, m=4), Block(height=4, width=1))
    """
    call = "prune.patterns.parse"
    if not isinstance(pattern, str):
        if hasattr(pattern, "project"):
            return pattern
        raise refuse_type(call, "a pattern or its text", pattern)
    text = pattern.replace(" ", "")
    plain = {"unstructured": Unstructured, "channel": Channel, "head": Head}
    if text in plain:
        return plain[text]()
    if found := re.fullmatch(r"(\d+):(\d+)", text):
        return NM(int(found[1]), int(found[2]))
    if found := re.fullmatch(r"block\((\d+),(\d+)\)", text):
        return Block(int(found[1]), int(found[2]))
    raise refuse(call, 'pattern among "unstructured", "2:4", "block(4,4)", "channel", "head"', repr(pattern))


def _neighbours(tensor: Tensor) -> Tensor:
    """(out, in, kernel...) as (out, kernel..., in)."""
    return tensor.movedim(1, -1)


def _entries(mask: Tensor, shape: torch.Size) -> Tensor:
    """The way back from any shape of (out, kernel..., in)."""
    out, inside, *kernel = shape
    return mask.reshape(out, *kernel, inside).movedim(-1, 1).contiguous()
