"""`MaddnessLinear` and `MaddnessConv2d`: layers whose product is trees and tables.

A layer is made from the dense one and a sample of its inputs, is trained in mode "finetune" and used in mode "frozen"
(modes.py). It takes float32, bfloat16 or float16 (widened exactly) and gives the dtype it was given.

The state of a layer loads into a layer of the same sizes and the same mode, which `MaddnessLinear(...)` makes without
data. Which mode a state is in shows in its keys: `tables` or `luts`.

Source: arXiv:2106.10860; straight-through training follows arXiv:2311.10207.
"""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..._core.checks import check, refuse, refuse_type, whole
from .estimator import Maddness
from .modes import MODES, MaddnessLayer, fit_rows, layer_options, new_estimator
from .operators import maddness_conv2d, maddness_linear
from .patches import Geometry, geometry_of, patch_rows

__all__ = ["MODES", "MaddnessConv2d", "MaddnessLayer", "MaddnessLinear"]

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


class MaddnessLinear(MaddnessLayer):
    """A linear layer by trees and tables; make it with `from_linear`, or empty to load a state.

    Args:
        in_features, out_features: D and M.
        ncodebooks: C, at most D; more is more exact and slower.
        leaves: K, 16, 32 or 64.
        mode: "finetune" or "frozen".
        lut_scale: one scale for each output ("per_output") or one for all ("shared").
        accumulate: exact sums, or "avg" (rounded averages of bytes, the faster kernel without VNNI).
        upcast_every: codebooks that are averaged before they are summed.
        round_tables: fine-tune with tables rounded to 8 bits in the forward pass.

    >>> MaddnessLinear(8, 3, ncodebooks=2)
    MaddnessLinear(in_features=8, out_features=3, ncodebooks=2, leaves=16, mode='finetune')
    """

    def __init__(self, in_features: int, out_features: int, ncodebooks: int = 16, leaves: int = 16, **options: Any):
        super().__init__(in_features, out_features, ncodebooks, leaves, **options)
        self.in_features, self.out_features = in_features, out_features

    @classmethod
    def like(cls, linear: nn.Linear, ncodebooks: int, leaves: int = 16, **options: Any) -> Self:
        """An empty layer of the sizes of `linear`."""
        return cls(linear.in_features, linear.out_features, ncodebooks, leaves, **options)

    @classmethod
    def from_linear(
        cls,
        linear: nn.Linear,
        inputs: Tensor,  # (..., D)
        *,
        ncodebooks: int = 16,
        leaves: int = 16,
        mode: str = "finetune",
        round_tables: bool = True,
        **options: Any,
    ) -> Self:
        """Learn trees and tables from a sample of the layer's inputs.

        Args:
            linear: the layer; it is not changed ("exact" mode keeps it).
            inputs: what it is given in use, any leading dimensions, finite; some thousand rows or more.
            ncodebooks: C, at most D.
            leaves: K, 16, 32 or 64.
            mode: "finetune", "frozen" or "exact".
            round_tables: fine-tune with tables rounded to 8 bits in the forward pass.
            **options: of `hasten.matmul.Maddness`: ridge, lut_scale, accumulate, ...; `split_metric` is "output" here.

        Returns:
            The layer, in the training mode of `linear`.

        Raises:
            TypeError: not an `nn.Linear`, or an input that is not a float tensor.
            ValueError: inputs of another width, none, not finite; `ncodebooks` above D.

        >>> layer = MaddnessLinear.from_linear(nn.Linear(8, 3), torch.randn(100, 8), ncodebooks=4, mode="frozen")
        >>> layer.eval()(torch.randn(2, 5, 8)).shape
        torch.Size([2, 5, 3])

        Source: arXiv:2106.10860.
        """
        if not isinstance(linear, nn.Linear):
            raise refuse_type("MaddnessLinear.from_linear", "an nn.Linear", linear, "Use MaddnessConv2d for nn.Conv2d.")
        fix = f"Pass what the layer is given: (..., {linear.in_features})."
        good = isinstance(inputs, Tensor) and inputs.ndim > 0 and inputs.shape[-1] == linear.in_features
        check(good, "MaddnessLinear.from_linear", f"inputs (..., {linear.in_features})", inputs, fix)
        rows = inputs.detach().reshape(-1, linear.in_features)
        estimator = new_estimator(ncodebooks, leaves, options)
        numbers = fit_rows("MaddnessLinear.from_linear", estimator, rows, linear.weight)
        return cls.from_estimator(linear, estimator, numbers, mode=mode, round_tables=round_tables)

    @classmethod
    def from_estimator(
        cls,
        linear: nn.Linear,
        estimator: Maddness,
        rows: np.ndarray,  # (R, D)
        *,
        mode: str = "finetune",
        round_tables: bool = True,
    ) -> Self:
        """The layer of an estimator that has been fitted to the layer's inputs already.

        Args:
            linear: the layer.
            estimator: fitted.
            rows: some of its rows, float32, from which the width of the soft sign is taken.
            mode, round_tables: as for `from_linear`.

        Returns:
            The layer, in the training mode of `linear`.
        """
        layer = cls.like(linear, estimator.ncodebooks, estimator.leaves, **layer_options(estimator, round_tables))
        layer._learn(estimator, rows, linear.weight.detach(), linear.bias, linear, mode)
        return layer.train(linear.training)

    def forward(
        self,
        x: Tensor,  # (..., D)
    ) -> Tensor:  # (..., M)
        """The approximate `x @ weight.T + bias`, in the dtype of `x`."""
        if self.mode == "exact" and self.exact is not None:
            return self.exact(x)
        self._check_input(x)
        if x.ndim == 0 or x.shape[-1] != self.columns:
            raise refuse("MaddnessLinear", f"x of shape (..., {self.columns})", x, "Check the layer before.")
        if self.mode == "frozen":
            return maddness_linear(x, *self._packed(), self.accumulate, self.upcast_every)
        out = self._soft(x.reshape(-1, self.columns).float(), self.split_dims)
        return out.to(x.dtype).view(*x.shape[:-1], self.outputs)

    def extra_repr(self) -> str:
        """The layer's arguments."""
        return f"in_features={self.in_features}, out_features={self.out_features}, {super().extra_repr()}"


class MaddnessConv2d(MaddnessLayer):
    """A convolution by trees and tables; make it with `from_conv`, or empty to load a state.

    Its rows are patches of `channels x height x width` in that order, its codebooks contiguous parts of them: if C
    divides the number of channels, a codebook is some whole channels.

    Args:
        in_channels, out_channels: channels.
        kernel_size, stride, padding, dilation, padding_mode: as for `nn.Conv2d`; groups are always 1.
        ncodebooks, leaves, **options: as for `MaddnessLinear`.

    >>> MaddnessConv2d(8, 3, 3, padding=1, ncodebooks=4)
    MaddnessConv2d(8, 3, kernel_size=(3, 3), padding=(1, 1, 1, 1), ncodebooks=4, leaves=16, mode='finetune')
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] | str = 0,
        dilation: int | tuple[int, ...] = 1,
        padding_mode: PaddingMode = "zeros",
        *,
        ncodebooks: int = 16,
        leaves: int = 16,
        **options: Any,
    ) -> None:
        shape: dict[str, Any] = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
        like = nn.Conv2d(in_channels, out_channels, padding_mode=padding_mode, bias=False, device="meta", **shape)
        geometry = geometry_of(like)
        columns = in_channels * geometry.kernel[0] * geometry.kernel[1]
        super().__init__(columns, out_channels, ncodebooks, leaves, **options)
        self.in_channels, self.out_channels, self.geometry = in_channels, out_channels, geometry

    @classmethod
    def like(cls, conv: nn.Conv2d, ncodebooks: int, leaves: int = 16, **options: Any) -> Self:
        """An empty layer of the sizes of `conv`."""
        options |= {"ncodebooks": ncodebooks, "leaves": leaves, "padding_mode": conv.padding_mode}
        size = (conv.in_channels, conv.out_channels, conv.kernel_size)
        return cls(*size, conv.stride, conv.padding, conv.dilation, **options)

    @classmethod
    def from_conv(
        cls,
        conv: nn.Conv2d,
        inputs: Tensor,  # (batch, channels, height, width)
        *,
        ncodebooks: int = 16,
        leaves: int = 16,
        mode: str = "finetune",
        round_tables: bool = True,
        max_rows: int = 16384,
        seed: int = 0,
        **options: Any,
    ) -> Self:
        """Learn trees and tables from a sample of the layer's inputs.

        Args:
            conv: the layer, any stride, padding and dilation, `groups=1`; it is not changed ("exact" mode keeps it).
            inputs: images that it is given in use, finite.
            ncodebooks: C, at most `in_channels * kernel height * kernel width`.
            leaves: K, 16, 32 or 64.
            mode: "finetune", "frozen" or "exact".
            round_tables: fine-tune with tables rounded to 8 bits in the forward pass.
            max_rows: learn from at most so many patches, drawn without replacement.
            seed: of that draw.
            **options: of `hasten.matmul.Maddness`, as for `MaddnessLinear`.

        Returns:
            The layer, in the training mode of `conv`.

        Raises:
            TypeError: not an `nn.Conv2d`, or an input that is not a float tensor.
            ValueError: several groups; inputs of another shape, none, not finite; `ncodebooks` too large.

        >>> layer = MaddnessConv2d.from_conv(nn.Conv2d(4, 3, 3), torch.randn(8, 4, 6, 6), ncodebooks=4)
        >>> layer(torch.randn(1, 4, 6, 6)).shape
        torch.Size([1, 3, 4, 4])

        Source: arXiv:2106.10860.
        """
        call = "MaddnessConv2d.from_conv"
        geometry = geometry_of(conv)
        fix = f"Pass what the layer is given: (batch, {conv.in_channels}, height, width)."
        good = isinstance(inputs, Tensor) and inputs.ndim == 4 and inputs.shape[1] == conv.in_channels
        check(good, call, f"inputs (batch, {conv.in_channels}, height, width)", inputs, fix)
        whole(call, "max_rows", max_rows, low=1)
        high, wide = geometry.size(inputs.shape[2], inputs.shape[3])
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(max(0, inputs.shape[0] * high * wide), generator=generator)[:max_rows].sort().values
        rows = patch_rows(inputs.detach(), order, geometry)
        estimator = new_estimator(ncodebooks, leaves, options)
        numbers = fit_rows("MaddnessConv2d.from_conv", estimator, rows, conv.weight.flatten(1))
        return cls.from_estimator(conv, estimator, numbers, mode=mode, round_tables=round_tables)

    @classmethod
    def from_estimator(
        cls,
        conv: nn.Conv2d,
        estimator: Maddness,
        rows: np.ndarray,  # (R, D)
        *,
        mode: str = "finetune",
        round_tables: bool = True,
    ) -> Self:
        """The layer of an estimator that has been fitted to the layer's patches already; see `MaddnessLinear`."""
        layer = cls.like(conv, estimator.ncodebooks, estimator.leaves, **layer_options(estimator, round_tables))
        layer._learn(estimator, rows, conv.weight.detach().flatten(1), conv.bias, conv, mode)
        return layer.train(conv.training)

    def forward(
        self,
        x: Tensor,  # (batch, channels, height, width) or without the batch
    ) -> Tensor:
        """The approximate convolution, in the dtype of `x`."""
        if self.mode == "exact" and self.exact is not None:
            return self.exact(x)
        self._check_input(x)
        if x.ndim not in (3, 4) or x.shape[-3] != self.in_channels:
            expected = f"x of shape (batch, {self.in_channels}, height, width)"
            raise refuse("MaddnessConv2d", expected, x, "Check the layer before.")
        if x.ndim == 3:
            return self.forward(x[None])[0]
        size = self.geometry.size(x.shape[2], x.shape[3])
        if min(size) < 1:
            fix = "Pass larger images."
            raise refuse("MaddnessConv2d", f"images no smaller than the kernel {self.geometry.kernel}", x, fix)
        if self.mode == "frozen":
            return maddness_conv2d(x, *self._packed(), self.geometry, self.accumulate, self.upcast_every)
        g = self.geometry
        patches = F.unfold(
            g.pad(x.float()), g.kernel, dilation=g.dilation, stride=g.stride
        )  # (batch, D, height * width)
        # Only the columns that a tree looks at are kept for the backward pass.
        rows = patches.index_select(1, self.split_dims.flatten()).transpose(1, 2).flatten(0, 1)
        local = torch.arange(rows.shape[1], device=x.device).view(self.split_dims.shape)
        out = self._soft(rows, local).view(x.shape[0], *size, self.outputs)
        return out.permute(0, 3, 1, 2).contiguous().to(x.dtype)

    def extra_repr(self) -> str:
        """The layer's arguments."""
        default = Geometry(self.geometry.kernel)
        names = ("stride", "dilation", "padding", "padding_mode")
        changed = [n for n in names if getattr(self.geometry, n) != getattr(default, n)]
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.geometry.kernel}"]
        parts += [f"{name}={getattr(self.geometry, name)!r}" for name in changed]
        return ", ".join([*parts, super().extra_repr()])
