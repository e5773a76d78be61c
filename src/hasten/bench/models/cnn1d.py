"""A convolutional network for time series."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from hasten._core.checks import check

__all__ = ["CNN1d"]


class CNN1d(nn.Module):
    """1-D convolution, batch norm, ReLU per layer; then global average pooling over time and a linear classifier.

    The fully convolutional network of Wang et al. (arXiv 1611.06455), narrower by default and with strides. Series of
    any length at least 1 are accepted; all of one batch have one length.

    Args:
        in_channels: variables measured at each time.
        classes: number of logits.
        widths: output channels per layer.
        kernels: odd kernel length per layer, in samples.
        strides: stride per layer.

    Init: torch's defaults (uniform in ±1/sqrt(fan_in); batch-norm scale 1, shift 0).

    >>> import torch
    >>> CNN1d(in_channels=2, classes=3)(torch.zeros(4, 2, 96)).shape
    torch.Size([4, 3])
    """

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 2,
        widths: Sequence[int] = (32, 64, 64),
        kernels: Sequence[int] = (7, 5, 3),
        strides: Sequence[int] = (1, 2, 2),
    ) -> None:
        super().__init__()
        shape = (tuple(widths), tuple(kernels), tuple(strides))
        check(len(widths) == len(kernels) == len(strides) > 0, "CNN1d", "one kernel and one stride per width", shape)
        check(min(in_channels, classes, *widths, *kernels, *strides) >= 1, "CNN1d", "sizes of at least 1", shape)
        check(all(k % 2 for k in kernels), "CNN1d", "odd kernels", tuple(kernels), "Padding is symmetric: use 3, 5, 7.")
        layers: list[nn.Module] = []
        inside = in_channels
        for outside, kernel, stride in zip(widths, kernels, strides, strict=True):
            convolution = nn.Conv1d(inside, outside, kernel, stride=stride, padding=kernel // 2, bias=False)
            layers += [convolution, nn.BatchNorm1d(outside), nn.ReLU()]
            inside = outside
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool1d(1)
        self.head = nn.Linear(inside, classes)

    def forward(
        self,
        x: Tensor,  # (batch, in_channels, time)
    ) -> Tensor:  # (batch, classes)
        """Logits of a batch of series."""
        return self.head(self.pool(self.features(x)).flatten(1))
