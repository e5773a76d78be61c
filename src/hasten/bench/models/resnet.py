"""The small residual network for 32x32 images (He et al., arXiv 1512.03385, section 4.2).

Depth 6n+2: a stem convolution, three stages of n blocks with 16, 32 and 64 channels, global pooling, a classifier.
One departure from the paper: where a stage halves the image, the shortcut is a strided 1x1 convolution with batch norm
(its option B), not sub-sampling with padded zeros (option A). So every strided operation is a module that a surgery can
find. It costs 2,752 parameters: ResNet-20 has 272,474 with option B, 269,722 with option A.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from hasten._core.checks import check

__all__ = ["ResidualBlock", "ResNet"]


class ResidualBlock(nn.Module):
    """`relu(shortcut(x) + branch(x))`, the branch two 3x3 convolutions with batch norm.

    `branch` may be replaced by anything whose result can be added to the shortcut's, a scalar zero included (a dropped
    branch of stochastic depth).

    Args:
        inside: input channels.
        outside: output channels.
        stride: stride of the first convolution and of the shortcut.
    """

    def __init__(self, inside: int, outside: int, stride: int = 1) -> None:
        super().__init__()
        self.branch: nn.Module = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
            nn.Conv2d(outside, outside, 3, padding=1, bias=False),
            nn.BatchNorm2d(outside),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            projection = nn.Conv2d(inside, outside, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(outside))

    def forward(
        self,
        x: Tensor,  # (batch, inside, height, width)
    ) -> Tensor:  # (batch, outside, height / stride, width / stride), rounded up
        """The block's output."""
        return F.relu(self.shortcut(x) + self.branch(x))


class ResNet(nn.Module):
    """ResNet-8, -14, -20, -32, ... for small images.

    Args:
        depth: layers with weights, 6n+2 with n >= 1; 8 and 20 are the usual small ones.
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
        super().__init__()
        check(depth >= 8 and depth % 6 == 2, "ResNet", "a depth of 6n+2 (8, 14, 20, ...)", depth, "Pass depth=20.")
        check(min(in_channels, classes, width) >= 1, "ResNet", "sizes of at least 1", (in_channels, classes, width))
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        blocks: list[nn.Module] = []
        inside = width
        for stage in range(3):
            for position in range((depth - 2) // 6):
                outside = width * 2**stage
                blocks.append(ResidualBlock(inside, outside, stride=2 if stage and not position else 1))
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
