"""The residual networks of He et al. (arXiv 1512.03385): for small images (section 4.2) and for ImageNet (section 4.1).

`ResNet` has depth 6n+2: a stem convolution, three stages of n blocks with 16, 32 and 64 channels, global pooling, a
classifier. `ImageNetResNet` has four stages with 64 to 512 channels (times 4 with bottleneck blocks). Two departures
from the paper, both usual today:

- Where a stage halves the image, the shortcut is always a strided 1x1 convolution with batch norm (option B), never
  sub-sampling with padded zeros (option A, the paper's choice for small images). So every strided operation is a module
  that a surgery can find. In `ResNet` it costs 2,752 parameters: ResNet-20 has 272,474 with option B, 269,722 with A.
- A strided bottleneck block strides in its 3x3 convolution, not in the 1x1 before it ("version 1.5").
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from hasten._core.checks import check, near, refuse

__all__ = ["BottleneckBlock", "ImageNetResNet", "ResNet", "ResidualBlock"]

_STEMS = ("imagenet", "small")


def _convolution(inside: int, outside: int, size: int, stride: int = 1) -> list[nn.Module]:
    """A convolution that keeps the image's size up to its stride, and its batch norm."""
    # no bias: the batch norm behind the convolution subtracts it again
    convolution = nn.Conv2d(inside, outside, size, stride=stride, padding=size // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outside)]


class ResidualBlock(nn.Module):
    """`relu(shortcut(x) + branch(x))`, the branch two 3x3 convolutions with batch norm.

    `branch` may be replaced by anything whose result can be added to the shortcut's, a scalar zero included (a dropped
    branch of stochastic depth).

    Args:
        inside: input channels.
        outside: output channels.
        stride: stride of the branch and of the shortcut.
    """

    def __init__(self, inside: int, outside: int, stride: int = 1) -> None:
        super().__init__()
        self.branch: nn.Module = nn.Sequential(*self._layers(inside, outside, stride))
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            self.shortcut = nn.Sequential(*_convolution(inside, outside, 1, stride))

    @staticmethod
    def _layers(inside: int, outside: int, stride: int) -> list[nn.Module]:
        return [*_convolution(inside, outside, 3, stride), nn.ReLU(), *_convolution(outside, outside, 3)]

    def forward(
        self,
        x: Tensor,  # (batch, inside, height, width)
    ) -> Tensor:  # (batch, outside, height / stride, width / stride), rounded up
        """The block's output."""
        return F.relu(self.shortcut(x) + self.branch(x))


class BottleneckBlock(ResidualBlock):
    """A `ResidualBlock` whose branch is a 1x1, a 3x3 and a 1x1 convolution with batch norm, a quarter as wide."""

    @staticmethod
    def _layers(inside: int, outside: int, stride: int) -> list[nn.Module]:
        narrow = outside // 4
        first = [*_convolution(inside, narrow, 1), nn.ReLU()]
        return [*first, *_convolution(narrow, narrow, 3, stride), nn.ReLU(), *_convolution(narrow, outside, 1)]


class _Stages(nn.Module):
    """Stem, blocks in stages (the first keeps the image's size, the others halve it), global pooling, classifier."""

    def __init__(
        self,
        stem: list[nn.Module],
        inside: int,
        block: type[ResidualBlock],
        widths: Sequence[int],  # output channels per stage
        counts: Sequence[int],  # blocks per stage
        classes: int,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(*stem)
        blocks: list[nn.Module] = []
        for stage, (outside, count) in enumerate(zip(widths, counts, strict=True)):
            for position in range(count):
                blocks.append(block(inside, outside, stride=2 if stage and not position else 1))
                inside = outside
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(inside, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(
        self,
        x: Tensor,  # (batch, in_channels, height, width)
    ) -> Tensor:  # (batch, classes)
        """Logits of a batch of images."""
        return self.head(self.pool(self.blocks(self.stem(x))).flatten(1))


class ResNet(_Stages):
    """ResNet-8, -14, -20, ..., -56 for small images.

    Args:
        depth: layers with weights, 6n+2 with n >= 1; 8 and 20 are the usual small ones, 56 has 855,770 parameters.
        in_channels: channels of the image.
        classes: number of logits.
        width: channels of the first stage; the others have 2x and 4x as many.

    Init: convolutions normal with variance 2/fan_out (He et al., arXiv 1502.01852), batch-norm scale 1 and shift 0,
    classifier as torch's default (uniform in ±1/sqrt(fan_in)).

    >>> import torch
    >>> ResNet(8)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(self, depth: int = 8, in_channels: int = 3, classes: int = 10, width: int = 16) -> None:
        check(depth >= 8 and depth % 6 == 2, "ResNet", "a depth of 6n+2 (8, 14, 20, ...)", depth, "Pass depth=20.")
        check(min(in_channels, classes, width) >= 1, "ResNet", "sizes of at least 1", (in_channels, classes, width))
        stem = [*_convolution(in_channels, width, 3), nn.ReLU()]
        widths, counts = (width, 2 * width, 4 * width), ((depth - 2) // 6,) * 3
        super().__init__(stem, width, ResidualBlock, widths, counts, classes)


# depth: the block and how many of it each stage has (arXiv 1512.03385, table 1)
_IMAGENET: dict[int, tuple[type[ResidualBlock], tuple[int, int, int, int]]] = {
    18: (ResidualBlock, (2, 2, 2, 2)),
    34: (ResidualBlock, (3, 4, 6, 3)),
    50: (BottleneckBlock, (3, 4, 6, 3)),
    101: (BottleneckBlock, (3, 4, 23, 3)),
}


class ImageNetResNet(_Stages):
    """ResNet-18 (11,689,512 parameters), -34, -50 (25,557,032) or -101, of images of any size.

    Args:
        depth: 18, 34, 50 or 101; the last two have bottleneck blocks.
        in_channels: channels of the image.
        classes: number of logits.
        width: channels of the first stage, before the 4x of bottleneck blocks; 64 is the paper's. The other stages have
            2x, 4x and 8x as many.
        stem: "imagenet" for a 7x7 convolution and a max-pooling, which make a quarter of the height and width of a
            large image (224); "small" for one 3x3 convolution, which keeps the size of a small one (32).

    Init: as `ResNet`; the last batch norm of a branch is not zeroed.

    >>> import torch
    >>> ImageNetResNet(18, classes=10, width=8, stem="small")(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self, depth: int = 18, in_channels: int = 3, classes: int = 1000, width: int = 64, stem: str = "imagenet"
    ) -> None:
        call, sizes = "ImageNetResNet", (in_channels, classes, width)
        check(depth in _IMAGENET, call, f"a depth among {', '.join(map(str, _IMAGENET))}", depth, "Pass depth=18.")
        check(min(sizes) >= 1, call, "sizes of at least 1", sizes)
        if stem not in _STEMS:
            raise refuse(call, f"stem among {', '.join(map(repr, _STEMS))}", repr(stem), near(stem, _STEMS))
        large = stem == "imagenet"
        size, stride = (7, 2) if large else (3, 1)
        first = [*_convolution(in_channels, width, size, stride), nn.ReLU()]
        if large:
            first.append(nn.MaxPool2d(3, stride=2, padding=1))
        block, counts = _IMAGENET[depth]
        expansion = 4 if block is BottleneckBlock else 1
        widths = tuple(width * expansion * 2**stage for stage in range(4))
        super().__init__(first, width, block, widths, counts, classes)
