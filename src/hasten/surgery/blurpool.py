"""BlurPool (arXiv 1904.11486): a low-pass filter before each subsampling, so that a shift moves features, not noise.

The filter is the 3x3 binomial `[1, 2, 1]^T [1, 2, 1] / 16`, one per channel, with a border of zeros. A convolution
with stride `s` becomes `conv_s(blur(x))` (blur first, the cheap order) or `blur_s(conv_1(x))` (the paper's order, up to
`s * s` times dearer); a max-pooling `(k, s)` becomes `blur_s(maxpool_1(x))`. Output shapes do not change.

`BlurConv2d` is an `nn.Conv2d` that holds the very `Parameter` objects of the layer it replaces: state_dict keys, tied
weights and the membership in an optimizer's groups stay as they were. The filter is no state: it is made where the
input lies, without a copy from the host.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._core.checks import check, refuse_type, whole
from .._core.surgery import Report, parents_of, replace_modules

__all__ = ["BlurConv2d", "BlurMaxPool2d", "apply_blurpool", "blur2d"]

_Module = TypeVar("_Module", bound=nn.Module)


def blur2d(
    x: Tensor,  # (batch, channels, height, width)
    stride: int | tuple[int, int] = 1,
) -> Tensor:
    """Blur each channel with the 3x3 binomial filter, borders padded with zeros, keeping every `stride`-th pixel.

    `y[i, j] = sum_{a, b in -1..1} K[a, b] x[s i + a, s j + b]`, `K = [1, 2, 1]^T [1, 2, 1] / 16`. At a border the zeros
    count, so a constant image darkens there (by 1/4 along an edge), and a map one pixel wide is halved along that axis.

    Args:
        x: floating point, (batch, channels, height, width).
        stride: step along both axes, or one for each; 1 keeps the size.

    Returns:
        (batch, channels, ceil(height / stride), ceil(width / stride)), the dtype that a convolution of `x` has.

    Raises:
        TypeError: `x` is not a floating-point tensor of 4 dimensions.

    >>> blur2d(torch.ones(1, 1, 5, 5), stride=2)[0, 0].tolist()
    [[0.5625, 0.75, 0.5625], [0.75, 1.0, 0.75], [0.5625, 0.75, 0.5625]]
    """
    if x.ndim != 4 or not x.is_floating_point():
        fix = "Pass images as x.float(), with the channels second."
        raise refuse_type("blur2d", "floating-point x of shape (batch, channels, height, width)", x, fix)
    channels = x.shape[1]
    line = 0.5 - 0.25 * torch.arange(-1, 2, dtype=x.dtype, device=x.device).abs()  # [1, 2, 1] / 4, exact in any float
    kernel = (line[:, None] * line).expand(channels, 1, 3, 3)
    return F.conv2d(x, kernel, stride=stride, padding=1, groups=channels)


def _share(module: nn.Module, cls: type[_Module]) -> _Module:
    """A `cls` with the state of `module`: the same parameters, buffers and hooks, in registries of its own."""
    new = cls.__new__(cls)
    new.__dict__.update(module.__dict__)
    for registry in ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"):
        new.__dict__[registry] = copy.copy(module.__dict__[registry])
    return new


class BlurConv2d(nn.Conv2d):
    """`nn.Conv2d` with a blur beside its stride; use `BlurConv2d.of(conv)` or `apply_blurpool`.

    Args:
        *args, **kwargs: as for `nn.Conv2d` (groups, dilation, padding modes included; they concern the convolution,
            the blur always pads with zeros).
        blur_first: True blurs the input, then convolves with the stride; False convolves at full size, then blurs
            with the stride.
    """

    def __init__(self, *args: Any, blur_first: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.blur_first = blur_first

    @classmethod
    def of(cls, conv: nn.Conv2d, *, blur_first: bool = True) -> BlurConv2d:
        """The blurred form of `conv`, sharing its parameters and hooks."""
        new = _share(conv, cls)
        new.blur_first = blur_first
        return new

    def forward(
        self,
        x: Tensor,  # (batch, in_channels, height, width)
    ) -> Tensor:
        """Blur and convolve: (batch, out_channels, ...) of the size that the plain convolution gives."""
        if self.blur_first:
            return self._conv_forward(blur2d(x), self.weight, self.bias)
        return blur2d(self._dense(x), cast(tuple[int, int], self.stride))

    def _dense(self, x: Tensor) -> Tensor:
        """The convolution at stride 1."""
        padding = self.padding
        if self.padding_mode != "zeros":
            x, padding = F.pad(x, self._reversed_padding_repeated_twice, mode=self.padding_mode), 0
        return F.conv2d(x, self.weight, self.bias, 1, padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        """The layer's arguments."""
        return f"{super().extra_repr()}, blur_first={self.blur_first}"


class BlurMaxPool2d(nn.MaxPool2d):
    """`nn.MaxPool2d` that takes the maximum at stride 1 and strides in a blur; use `.of(pool)` or `apply_blurpool`.

    Raises:
        ValueError: `ceil_mode` or `return_indices`, which a blurred pooling cannot give.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._check_options()

    @classmethod
    def of(cls, pool: nn.MaxPool2d) -> BlurMaxPool2d:
        """The blurred form of `pool`, sharing its hooks."""
        new = _share(pool, cls)
        new._check_options()
        return new

    def _check_options(self) -> None:
        plain = not self.ceil_mode and not self.return_indices
        check(plain, "BlurMaxPool2d", "neither ceil_mode nor return_indices", self, "Keep nn.MaxPool2d here.")

    def forward(
        self,
        x: Tensor,  # (batch, channels, height, width)
    ) -> Tensor:
        """Pool and blur: (batch, channels, ...) of the size that the plain pooling gives."""
        return blur2d(F.max_pool2d(x, self.kernel_size, 1, self.padding, self.dilation), self.stride)


def _strided(module: nn.Conv2d | nn.MaxPool2d) -> bool:
    stride = module.stride
    return max(stride) > 1 if isinstance(stride, tuple) else stride > 1


def _plain(module: nn.Module) -> bool:
    """A layer whose class and options mean what they say: no subclass, nothing that a blur cannot give."""
    if type(module) is nn.MaxPool2d:
        return not module.ceil_mode and not module.return_indices
    return type(module) is nn.Conv2d


def apply_blurpool(
    model: nn.Module,
    *,
    replace_convs: bool = True,
    replace_maxpools: bool = True,
    blur_first: bool = True,
    min_channels: int = 16,
    generator: torch.Generator | None = None,
) -> Report:
    """Blur before every subsampling of `model`, in place.

    Strided `nn.Conv2d` layers with `in_channels >= min_channels` become `BlurConv2d`, strided `nn.MaxPool2d` layers
    `BlurMaxPool2d`. Helps image models on short training budgets; costs step time (see docs/methods/blurpool.md).

    Args:
        model: the model; parameters, their names and their places in an optimizer do not change.
        replace_convs, replace_maxpools: which kinds to replace.
        blur_first: blur before the strided convolution (cheap) rather than after a dense one (the paper's order).
        min_channels: spare convolutions with fewer input channels; 16 spares the stem, 1 spares none.
        generator: not used (nothing here is random); every surgery takes it.

    Returns:
        Report naming the replaced layers; `undo()` puts the old ones back with the weights trained since.

    Raises:
        ValueError: nothing to replace was asked for, or `min_channels` below 1.

    Warns:
        NoEffectWarning: no layer matched.
        UserWarning: layers that subsample but are of a subclass (parametrised, quantised, lazy), use `ceil_mode` or
            return indices; they are named and left as they are.

    >>> model = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2), nn.Conv2d(16, 16, 3, stride=2))
    >>> apply_blurpool(model).changed
    ('1',)

    Source: arXiv 1904.11486.
    """
    call, fix = "apply_blurpool", "Set replace_convs or replace_maxpools to True."
    check(replace_convs or replace_maxpools, call, "a kind of layer to replace", (replace_convs, replace_maxpools), fix)
    whole(call, "min_channels", min_channels, low=1)

    def wanted(module: nn.Module) -> bool:
        if isinstance(module, nn.Conv2d):
            return replace_convs and _strided(module) and module.in_channels >= min_channels
        return isinstance(module, nn.MaxPool2d) and replace_maxpools and _strided(module)

    def make(name: str, module: nn.Module) -> nn.Module | None:
        if not (wanted(module) and _plain(module)):
            return None
        if isinstance(module, nn.MaxPool2d):
            return BlurMaxPool2d.of(module)
        return BlurConv2d.of(cast(nn.Conv2d, module), blur_first=blur_first)

    blurred = (BlurConv2d, BlurMaxPool2d)
    left = [n for _, _, n, m in parents_of(model) if wanted(m) and not _plain(m) and not isinstance(m, blurred)]
    report = replace_modules(model, make, surgery="blurpool")
    if left:
        report.note = f"left as they are: {', '.join(left)}"
        warnings.warn(f"blurpool: layers that subsample but are not plain, {report.note}.", UserWarning, stacklevel=2)
    channels = f", convolutions with in_channels >= {min_channels}" if replace_convs else ""
    kinds = [kind for kind, on in (("nn.Conv2d", replace_convs), ("nn.MaxPool2d", replace_maxpools)) if on]
    return report.warn_if_empty(f"{' or '.join(kinds)} with a stride above 1{channels}")
