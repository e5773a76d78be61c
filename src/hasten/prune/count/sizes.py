"""What a model takes: parameters, nonzero ones, their ratio, and bytes on disk by layout.

    compression = total / nonzero        over all parameters: weights, biases, norms, classifier; not buffers

This is the whole model's ratio (arXiv 2003.03033): 8 means that one entry of eight is left, 1 that none is 0. It is
neither the sparsity of the pruned layers nor a ratio of bytes: what zeros save on disk depends on how the places of the
others are written down (`layouts`), and below half zeros most layouts take more than the dense one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..places import bare, places
from .inputs import check_counted
from .layouts import LAYOUTS, packed_bytes

__all__ = ["Sizes", "sizes"]


@dataclass(frozen=True)
class Sizes:
    """Parameters and bytes of a model; a parameter that is used in several places counts once.

    Args:
        total: entries of all parameters.
        nonzero: those that are not 0 (a NaN is not).
        bytes: of all parameters in each layout, each in its own dtype. Vectors and scalars stay dense. "2:4" is None
            where no parameter has that pattern; those that do not have it stay dense.
    """

    total: int
    nonzero: int
    bytes: Mapping[str, int | None]

    @property
    def compression(self) -> float:
        """Entries for each nonzero one; infinity where all are 0, 1 of a model without parameters."""
        if self.nonzero:
            return self.total / self.nonzero
        return math.inf if self.total else 1.0

    @property
    def bytes_dense(self) -> int:
        """As the tensors are."""
        return self.bytes["dense"] or 0

    @property
    def bytes_csr(self) -> int:
        """Compressed sparse rows with 32-bit indices."""
        return self.bytes["csr"] or 0

    @property
    def bytes_bitmap(self) -> int:
        """One bit for each entry, and the nonzero values."""
        return self.bytes["bitmap"] or 0

    @property
    def bytes_24(self) -> int | None:
        """Two values of each four and their places; None where no parameter has that pattern."""
        return self.bytes["2:4"]

    @property
    def smallest(self) -> tuple[str, int]:
        """The layout with the fewest bytes, the simplest of equal ones, and its bytes."""
        found = {layout: size for layout, size in self.bytes.items() if size is not None}
        best = min(found, key=lambda layout: found[layout])
        return best, found[best]


def sizes(model: nn.Module) -> Sizes:
    """Count a model's parameters, the nonzero ones, and their bytes in each layout.

    Args:
        model: any module with parameters that have values; zeros count as pruned, however they came there. What a mask
            covers as a parametrization counts as 0, as `finalize` leaves it.

    Returns:
        The sizes.

    Raises:
        TypeError: no module. ValueError: a parameter without values (lazy, or on the meta device), or a
            quantized module, which has none.

    >>> model = nn.Linear(8, 8)
    >>> model.weight.data.triu_(4)[0, 7] = 0.5
    >>> found = sizes(model)
    >>> found.total, found.nonzero, found.compression, found.smallest
    (72, 18, 4.0, ('bitmap', 80))

    Source: size and compression ratio as in arXiv 2003.03033.
    """
    check_counted("sizes", model)
    parameters = _worn(model)
    found: dict[str, int | None] = dict.fromkeys(LAYOUTS, 0)
    patterned = False
    for parameter in parameters:
        for layout in LAYOUTS:
            size = packed_bytes(parameter, layout) if parameter.ndim > 1 else parameter.nbytes
            patterned |= layout == "2:4" and parameter.ndim > 1 and size is not None
            found[layout] = (found[layout] or 0) + (parameter.nbytes if size is None else size)
    if not patterned:
        found["2:4"] = None
    nonzero = sum(int(torch.count_nonzero(parameter)) for parameter in parameters)
    return Sizes(sum(parameter.numel() for parameter in parameters), nonzero, found)


def _worn(model: nn.Module) -> list[Tensor]:
    """All parameters, those below a mask with zeros where it is."""
    masks = {id(place.parameter): place.masked.mask for place in places(bare(model)) if place.masked is not None}
    return [p.detach().masked_fill(~masks[id(p)], 0) if id(p) in masks else p.detach() for p in model.parameters()]
