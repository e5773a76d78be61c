"""The parts of the transformers: residual additions, self-attention, and the pre-norm block of GPT and ViT.

Every residual addition is a `Residual` module with a submodule `branch`, and every weight sits in a plain `nn.Linear`,
`nn.Embedding`, `nn.LayerNorm` or `nn.Conv2d`, so that surgeries can find what they look for.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from hasten._core.checks import check

__all__ = ["Residual", "SelfAttention", "feed_forward", "pre_norm_block"]


class Residual(nn.Module):
    """`x + branch(x)`; a branch may return a scalar zero (a dropped branch of stochastic depth)."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """The sum, in the shape of `x`; `others` go to the branch as they are."""
        return x + self.branch(x, *others)


class SelfAttention(nn.Module):
    """Multi-head self-attention: `softmax(Q K^T / sqrt(width / heads)) V` per head, then a linear map of all heads.

    Args:
        width: features per position, a multiple of `heads`.
        heads: attention heads.
        causal: whether position t sees positions 0..t only.
    """

    def __init__(self, width: int, heads: int, *, causal: bool = False) -> None:
        super().__init__()
        check(heads >= 1 and width % heads == 0, "SelfAttention", "a width divisible by heads", (width, heads))
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        x: Tensor,  # (batch, time, width)
        visible: Tensor | None = None,  # (batch, time) bool
    ) -> Tensor:  # (batch, time, width)
        """Attended features; nobody looks at positions that are not `visible`, which causal attention does not take."""
        check(visible is None or not self.causal, "SelfAttention", "no mask, being causal", visible)
        batch, time, _ = x.shape
        heads = self.qkv(x).view(batch, time, 3, self.heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)  # each (batch, heads, time, width / heads)
        mask = None if visible is None else visible[:, None, None, :]  # the same for all heads and queries
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=self.causal)
        return self.out(attended.transpose(1, 2).flatten(2))


def feed_forward(width: int, hidden: int) -> list[nn.Module]:
    """The layers of `linear(gelu(linear(x)))` with `hidden` units in between."""
    return [nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width)]


def pre_norm_block(width: int, heads: int, hidden: int, *, causal: bool = False) -> nn.Sequential:
    """`x + attention(norm(x))`, then `x + feed_forward(norm(x))`."""
    attention = nn.Sequential(nn.LayerNorm(width), SelfAttention(width, heads, causal=causal))
    mixing = nn.Sequential(nn.LayerNorm(width), *feed_forward(width, hidden))
    return nn.Sequential(Residual(attention), Residual(mixing))
