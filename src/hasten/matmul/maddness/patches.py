"""The rows of a convolution: one for each output pixel, its patch of `channels x height x width` in that order.

Channel-major order keeps a codebook's contiguous columns within few channels. The row matrix is never held whole
except for training: calibration takes sampled rows, inference the columns that the trees look at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..._core.checks import refuse, refuse_type

__all__ = ["Geometry", "geometry_of", "looked_at", "patch_columns", "patch_rows"]


@dataclass(frozen=True)
class Geometry:
    """How a convolution walks over its input; `padding` is (left, right, top, bottom), as `F.pad` takes it."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    padding_mode: str = "constant"

    def numbers(self) -> list[int]:
        """As one list, for operators: kernel, stride, dilation and padding; the border is zeros."""
        return [*self.kernel, *self.stride, *self.dilation, *self.padding]

    @classmethod
    def of(cls, numbers: Sequence[int]) -> Geometry:
        """The geometry of such a list.

        >>> Geometry.of(Geometry((3, 2), padding=(1, 1, 0, 0)).numbers())
        Geometry(kernel=(3, 2), stride=(1, 1), dilation=(1, 1), padding=(1, 1, 0, 0), padding_mode='constant')
        """
        a, b, c, d, e, f, *padding = numbers
        return cls((a, b), (c, d), (e, f), (padding[0], padding[1], padding[2], padding[3]))

    def unpadded(self) -> Geometry:
        """The same for images that have their border already."""
        return replace(self, padding=(0, 0, 0, 0), padding_mode="constant")

    def pad(self, x: Tensor) -> Tensor:
        """`x` (batch, channels, height, width) with its border."""
        return F.pad(x, self.padding, mode=self.padding_mode) if any(self.padding) else x

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the output for an input of this size.

        >>> Geometry((3, 3), stride=(2, 2), padding=(1, 1, 1, 1)).size(7, 8)
        (4, 4)
        """
        left, right, top, bottom = self.padding
        lengths = (height + top + bottom, width + left + right)
        out = [
            (length - d * (k - 1) - 1) // s + 1
            for length, k, s, d in zip(lengths, self.kernel, self.stride, self.dilation, strict=True)
        ]
        return out[0], out[1]


def geometry_of(conv: nn.Conv2d) -> Geometry:
    """The geometry of a convolution.

    Args:
        conv: any stride, padding (a string too), padding mode and dilation; `groups=1`.

    Raises:
        TypeError: not an `nn.Conv2d`.
        ValueError: several groups.

    >>> geometry_of(nn.Conv2d(1, 1, (3, 5), padding="same")).padding
    (2, 2, 1, 1)
    """
    if not isinstance(conv, nn.Conv2d):
        raise refuse_type("MaddnessConv2d", "an nn.Conv2d", conv, "Use MaddnessLinear for nn.Linear.")
    if conv.groups != 1:
        fix = "Keep this layer dense: a group's patch has too few columns for tables to pay."
        raise refuse("MaddnessConv2d", "a convolution with groups=1", f"groups={conv.groups}", fix)
    kernel, stride, dilation = _two(conv.kernel_size), _two(conv.stride), _two(conv.dilation)
    if conv.padding == "same":
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        padding = (totals[1] // 2, totals[1] - totals[1] // 2, totals[0] // 2, totals[0] - totals[0] // 2)
    elif conv.padding == "valid":
        padding = (0, 0, 0, 0)
    else:
        high, wide = _two(conv.padding)  # type: ignore[arg-type]
        padding = (wide, wide, high, high)
    return Geometry(
        kernel, stride, dilation, padding, "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    )


def patch_columns(
    x: Tensor,  # (batch, channels, height, width), with its border
    columns: Tensor,  # (U,) int64
    geometry: Geometry,
    rows: tuple[int, int],  # height and width of the output
) -> Tensor:
    """Some columns of the row matrix: a shifted view of a plane for each, nothing else of the matrix is made.

    Args:
        x: input, padded already.
        columns: which ones, on the CPU: `(channel * kernel_height + i) * kernel_width + j`.
        geometry: of the convolution.
        rows: output size.

    Returns:
        (U, batch * height * width), contiguous: column-major rows.

    >>> x = torch.arange(9.0).view(1, 1, 3, 3)
    >>> patch_columns(x, torch.tensor([0, 3]), Geometry((2, 2)), (2, 2)).tolist()
    [[0.0, 1.0, 3.0, 4.0], [4.0, 5.0, 7.0, 8.0]]
    """
    (high, wide), (down, right), (dy, dx) = geometry.kernel, geometry.stride, geometry.dilation
    out = x.new_empty(len(columns), x.shape[0], *rows)
    for target, column in zip(out, columns.tolist(), strict=True):
        channel, i, j = column // (high * wide), column // wide % high * dy, column % wide * dx
        ends = i + down * (rows[0] - 1) + 1, j + right * (rows[1] - 1) + 1
        target.copy_(x[:, channel, i : ends[0] : down, j : ends[1] : right])
    return out.flatten(1)


def looked_at(
    x: Tensor,  # (batch, channels, height, width), without its border
    split_dims: Tensor,  # (C, L)
    geometry: Geometry,
) -> tuple[Tensor, Tensor]:
    """The columns that trees look at, as they look at them, of the whole row matrix, which is made.

    Args:
        x: input.
        split_dims: of the trees.
        geometry: of the convolution.

    Returns:
        (batch * height * width, C L) float32, and the split dimensions as places among these columns.

    >>> rows, dims = looked_at(torch.arange(9.0).view(1, 1, 3, 3), torch.tensor([[3, 0]]), Geometry((2, 2)))
    >>> rows.tolist(), dims.tolist()
    ([[4.0, 0.0], [5.0, 1.0], [7.0, 3.0], [8.0, 4.0]], [[0, 1]])
    """
    g = geometry
    patches = F.unfold(g.pad(x.float()), g.kernel, dilation=g.dilation, stride=g.stride)  # (batch, D, places)
    rows = patches.index_select(1, split_dims.flatten()).transpose(1, 2).flatten(0, 1)
    return rows, torch.arange(rows.shape[1], device=x.device).view(split_dims.shape)


def patch_rows(
    x: Tensor,  # (batch, channels, height, width), without its border
    rows: Tensor,  # (R,) int64
    geometry: Geometry,
) -> Tensor:
    """Some rows of the row matrix.

    Args:
        x: input.
        rows: which ones: `(image * output_height + y) * output_width + x`.
        geometry: of the convolution.

    Returns:
        (R, channels * kernel_height * kernel_width).

    >>> patch_rows(torch.arange(9.0).view(1, 1, 3, 3), torch.tensor([3]), Geometry((2, 2))).tolist()
    [[4.0, 5.0, 7.0, 8.0]]
    """
    high, wide = geometry.size(x.shape[2], x.shape[3])
    x = geometry.pad(x)
    image, y, left = rows // (high * wide), rows // wide % high, rows % wide
    i = y[:, None] * geometry.stride[0] + torch.arange(geometry.kernel[0]) * geometry.dilation[0]  # (R, kernel height)
    j = left[:, None] * geometry.stride[1] + torch.arange(geometry.kernel[1]) * geometry.dilation[1]
    channel = torch.arange(x.shape[1])[None, :, None, None]
    return x[image[:, None, None, None], channel, i[:, None, :, None], j[:, None, None, :]].flatten(1)


def _two(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
