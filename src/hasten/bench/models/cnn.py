"""A plain convolutional network for small images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from hasten._core.checks import check

__all__ = ["SmallCNN"]


class SmallCNN(nn.Module):
    """3x3 convolution, batch norm, ReLU per layer; then global average pooling and a linear classifier.

    Down-sampling is done by strided convolutions, without any low-pass filter: they alias, which is what BlurPool
    repairs. The image size is free; padding 1 keeps it in layers of stride 1.

    Args:
        in_channels: channels of the image.
        classes: number of logits.
        widths: output channels per layer.
        strides: stride per layer, as many as `widths`.

    Init: torch's defaults (convolutions without bias and the classifier uniform in ±1/sqrt(fan_in); batch-norm scale
    1, shift 0).

    >>> import torch
    >>> SmallCNN()(torch.zeros(2, 1, 16, 16)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 10,
        widths: Sequence[int] = (8, 16, 16, 32, 32),
        strides: Sequence[int] = (1, 2, 1, 2, 1),
    ) -> None:
        super().__init__()
        check(len(widths) == len(strides) > 0, "SmallCNN", "one stride per width", (tuple(widths), tuple(strides)))
        check(min(in_channels, classes, *widths, *strides) >= 1, "SmallCNN", "sizes of at least 1", tuple(widths))
        layers: list[nn.Module] = []
        inside = in_channels
        for outside, stride in zip(widths, strides, strict=True):
            # no bias: the batch norm behind the convolution subtracts it again
            convolution = nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False)
            layers += [convolution, nn.BatchNorm2d(outside), nn.ReLU()]
            inside = outside
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(inside, classes)

    def forward(
        self,
        x: Tensor,  # (batch, in_channels, height, width)
    ) -> Tensor:  # (batch, classes)
        """Logits of a batch of images."""
        return self.head(self.pool(self.features(x)).flatten(1))
