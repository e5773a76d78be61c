"""Layouts that store a tensor with zeros: what each takes on disk, and how it is packed.

A tensor is a matrix here: its first dimension by the rest, as `tensor.flatten(1)`. z of its n entries are not 0, each
value takes s bytes.

    dense          n s
    csr            z s values, z column numbers and rows + 1 row starts of 4 bytes each (8 where 4 do not reach)
    csr_narrow     the same, each kind of number in the fewest bytes of 1, 2, 4 and 8 that hold the largest
    bitmap         one bit for each entry, ceil(n / 8) bytes, and z s values
    2:4            two values of each four, n s / 2 bytes, and their two places of 2 bits each, ceil(n / 8) bytes

The four of 2:4 are neighbours along dimension 1, the in_features or input channels; none may hold more than two values.
Zeros lose their sign, every other value is kept to the bit. Headers (shape, dtype, names) are the file's own affair and
counted nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from hasten._core.checks import near, refuse

__all__ = ["LAYOUTS", "Packed", "pack", "packed_bytes", "unpack"]

LAYOUTS = ("dense", "csr", "csr_narrow", "bitmap", "2:4")
_NARROW = {1: torch.uint8, 2: torch.uint16, 4: torch.int32, 8: torch.int64}
_LARGEST = {1: 2**8, 2: 2**16, 4: 2**31, 8: 2**63}


class Packed(NamedTuple):
    """A tensor in a layout: the arrays that are stored, and its shape."""

    layout: str
    shape: torch.Size
    parts: Mapping[str, Tensor]

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(part.nbytes for part in self.parts.values())


def packed_bytes(tensor: Tensor, layout: str) -> int | None:
    """Bytes of a tensor in a layout, without packing it; None where it does not have the pattern of 2:4.

    Args:
        tensor: strided, of at least two dimensions, any dtype.
        layout: one of `LAYOUTS`.

    Raises:
        ValueError: another layout, fewer dimensions.

    >>> weight = torch.eye(8)
    >>> {layout: packed_bytes(weight, layout) for layout in LAYOUTS}
    {'dense': 256, 'csr': 100, 'csr_narrow': 49, 'bitmap': 40, '2:4': 136}
    """
    _check("packed_bytes", tensor, layout)
    n, size = tensor.numel(), tensor.element_size()
    if layout == "dense":
        return n * size
    if layout == "2:4":
        return n * size // 2 + -(-n // 8) if _has_two_of_four(tensor) else None
    filled = int(torch.count_nonzero(tensor))
    if layout == "bitmap":
        return -(-n // 8) + filled * size
    columns, starts = _widths(tensor, filled, layout)
    return filled * (size + columns) + (len(tensor) + 1) * starts


def pack(tensor: Tensor, layout: str) -> Packed:
    """Store a tensor in a layout; `unpack` gives it back.

    Args:
        tensor: strided, of at least two dimensions, any dtype.
        layout: one of `LAYOUTS`.

    Raises:
        ValueError: another layout, fewer dimensions, or no 2:4 pattern to store.

    >>> packed = pack(torch.tensor([[0.0, 5.0, 0.0], [7.0, 0.0, 0.0]]), "bitmap")
    >>> packed.parts
    {'bits': tensor([10], dtype=torch.uint8), 'values': tensor([5., 7.])}
    >>> unpack(packed)
    tensor([[0., 5., 0.],
            [7., 0., 0.]])
    """
    _check("pack", tensor, layout)
    tensor = tensor.detach()
    if layout == "dense":
        parts = {"values": tensor.clone()}
    elif layout == "bitmap":
        kept = tensor != 0
        parts = {"bits": _pack_bits(kept.flatten(), 1), "values": tensor[kept]}
    elif layout == "2:4":
        parts = _pack_two_of_four(tensor)
    else:
        parts = _pack_csr(tensor, layout)
    return Packed(layout, tensor.shape, parts)


def unpack(packed: Packed) -> Tensor:
    """The tensor that was packed."""
    values, count = packed.parts["values"], packed.shape.numel()
    if packed.layout == "dense":
        return values.clone()
    if packed.layout == "2:4":
        return _unpack_two_of_four(packed)
    out = values.new_zeros(count)
    if packed.layout == "bitmap":
        out[_unpack_bits(packed.parts["bits"], 1, count).bool()] = values
        return out.view(packed.shape)
    columns, starts = packed.parts["columns"].long(), packed.parts["starts"].long()
    rows = torch.repeat_interleave(torch.arange(len(starts) - 1, device=starts.device), starts.diff())
    out[rows * packed.shape[1:].numel() + columns] = values
    return out.view(packed.shape)


def _check(call: str, tensor: Tensor, layout: str) -> None:
    if layout not in LAYOUTS:
        raise refuse(call, f"layout one of {', '.join(LAYOUTS)}", repr(layout), near(str(layout), LAYOUTS))
    if tensor.ndim < 2 or tensor.layout != torch.strided:
        raise refuse(call, "a strided tensor of at least two dimensions", tensor, "Store a vector as it is.")


def _widths(tensor: Tensor, filled: int, layout: str) -> tuple[int, int]:
    """Bytes of a column number and of a row start."""
    allowed = (1, 2, 4, 8) if layout == "csr_narrow" else (4, 8)
    columns, starts = (
        next(width for width in allowed if largest < _LARGEST[width])
        for largest in (max(tensor.shape[1:].numel() - 1, 0), filled)
    )
    return columns, starts


def _pack_csr(tensor: Tensor, layout: str) -> dict[str, Tensor]:
    matrix = tensor.flatten(1)
    rows, columns = matrix.nonzero(as_tuple=True)
    starts = torch.zeros(len(matrix) + 1, dtype=torch.int64, device=tensor.device)
    starts[1:] = torch.bincount(rows, minlength=len(matrix)).cumsum(0)
    width, start_width = _widths(tensor, len(rows), layout)
    return {
        "values": matrix[rows, columns],
        "columns": columns.to(_NARROW[width]),
        "starts": starts.to(_NARROW[start_width]),
    }


def _groups(tensor: Tensor) -> Tensor:  # (groups, 4)
    """Neighbours along dimension 1, four by four."""
    return tensor.movedim(1, -1).reshape(-1, 4)


def _has_two_of_four(tensor: Tensor) -> bool:
    if tensor.shape[1] % 4 or not tensor.numel():
        return False
    return int(torch.count_nonzero(_groups(tensor), dim=1).max()) <= 2


def _pack_two_of_four(tensor: Tensor) -> dict[str, Tensor]:
    if not _has_two_of_four(tensor):
        fix = "Mask it with the pattern 2:4, or choose another layout."
        raise refuse("pack", "at most two nonzeros of each four along dimension 1", "a tensor with more", fix)
    groups = _groups(tensor)
    first = (groups == 0).to(torch.uint8).argsort(dim=1, stable=True)  # the nonzero ones, then zeros, in order
    places = first[:, :2].sort(dim=1).values
    return {"values": groups.gather(1, places), "places": _pack_bits(places.flatten(), 2)}


def _unpack_two_of_four(packed: Packed) -> Tensor:
    values, shape = packed.parts["values"], packed.shape
    places = _unpack_bits(packed.parts["places"], 2, values.numel()).long().view(-1, 2)
    groups = values.new_zeros(len(values), 4).scatter_(1, places, values)
    return groups.view(shape[0], *shape[2:], shape[1]).movedim(-1, 1).contiguous()


def _pack_bits(numbers: Tensor, bits: int) -> Tensor:  # (n,) -> (ceil(n bits / 8),) uint8, lowest bits first
    each = 8 // bits
    numbers = torch.nn.functional.pad(numbers.to(torch.uint8), (0, -len(numbers) % each)).view(-1, each)
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=numbers.device)
    return (numbers << shifts).sum(1, dtype=torch.uint8)


def _unpack_bits(packed: Tensor, bits: int, count: int) -> Tensor:  # (bytes,) -> (count,) uint8
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8, device=packed.device)
    return ((packed[:, None] >> shifts) & ((1 << bits) - 1)).flatten()[:count]
