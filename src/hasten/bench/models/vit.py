"""The vision transformer (arXiv 2010.11929), by default in the shape of DeiT-Ti (arXiv 2012.12877).

An image is cut into patches, each patch becomes a token by one linear map (a convolution whose stride is its kernel),
a learned class token goes in front, learned positions are added; then pre-norm blocks, a layer norm, and a linear
classifier of the class token. No distillation token, no dropout.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hasten._core.checks import check

from .transformer import pre_norm_block

__all__ = ["ViT"]

_STD = 0.02  # of every initial weight (arXiv 2010.11929's released code and DeiT's)


class ViT(nn.Module):
    """A vision transformer: `ViT()` has DeiT-Ti's 5,717,416 parameters; `ViT(32, 4, classes=10)` takes CIFAR images.

    Args:
        image: height and width of the images, a multiple of `patch`; the positions are learned, so other sizes are
            refused.
        patch: height and width of a patch.
        in_channels: channels of the image.
        classes: number of logits.
        width: features per token.
        depth: blocks (attention and feed-forward each).
        heads: attention heads; divides `width`.
        expansion: hidden units of the feed-forward part, in multiples of `width`.

    Init: all weights normal with standard deviation .02, biases 0, layer norms 1 and 0.

    >>> ViT(image=32, patch=8, classes=10, width=48, depth=1)(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        image: int = 224,
        patch: int = 16,
        in_channels: int = 3,
        classes: int = 1000,
        width: int = 192,
        depth: int = 12,
        heads: int = 3,
        expansion: int = 4,
    ) -> None:
        super().__init__()
        sizes = (image, patch, in_channels, classes, width, depth, heads, expansion)
        check(min(sizes) >= 1, "ViT", "sizes of at least 1", sizes)
        check(image % patch == 0, "ViT", "an image size divisible by patch", (image, patch), "Pass patch=.")
        self.image = image
        self.patches = nn.Conv2d(in_channels, width, patch, stride=patch)
        self.class_token = nn.Parameter(torch.empty(1, 1, width))
        self.positions = nn.Parameter(torch.empty(1, 1 + (image // patch) ** 2, width))
        self.blocks = nn.Sequential(*(pre_norm_block(width, heads, expansion * width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)
        for parameter in (self.class_token, self.positions):
            nn.init.normal_(parameter, std=_STD)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                nn.init.normal_(module.weight, std=_STD)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # each has one here

    def forward(
        self,
        x: Tensor,  # (batch, in_channels, image, image)
    ) -> Tensor:  # (batch, classes)
        """Logits of a batch of images."""
        wanted = (self.image, self.image)
        fix = "Resize the images, or build the model with image= their size."
        check(x.shape[2:] == wanted, "ViT", f"images of {wanted}", tuple(x.shape), fix)
        tokens = self.patches(x).flatten(2).transpose(1, 2)  # (batch, patches, width)
        first = self.class_token.expand(len(x), -1, -1)
        x = torch.cat([first, tokens], dim=1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])
