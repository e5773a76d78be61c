"""A tiny decoder-only transformer for characters or bytes.

Token plus learned position embeddings, pre-norm blocks, a final layer norm, a linear head. Every residual addition is
a `Residual` module with a submodule `branch`, and every weight sits in a plain `nn.Linear`, `nn.Embedding` or
`nn.LayerNorm`, so that surgeries can find what they look for.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hasten._core.checks import check

__all__ = ["GPT", "CausalAttention", "Residual"]

_HEAD_STD = 0.02  # logits start near 0, the loss near log(vocabulary); the value is GPT-2's (Radford et al. 2019)
# GPT-2's .02 suits embeddings of 768 features and more. At 64 features 600 steps of `charlm` then end anywhere between
# 2.9 and 3.3 bits, depending on the seed; with .5 they end between 2.86 and 2.91.
_EMBEDDING_STD = 0.5


class Residual(nn.Module):
    """`x + branch(x)`; a branch may return a scalar zero (a dropped branch of stochastic depth)."""

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        """The sum, in the shape of `x`."""
        return x + self.branch(x)


class CausalAttention(nn.Module):
    """Multi-head self-attention in which position t sees positions 0..t.

    Args:
        width: features per position, a multiple of `heads`.
        heads: attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        check(heads >= 1 and width % heads == 0, "CausalAttention", "a width divisible by heads", (width, heads))
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        x: Tensor,  # (batch, time, width)
    ) -> Tensor:  # (batch, time, width)
        """Attended features."""
        batch, time, width = x.shape
        heads = self.qkv(x).view(batch, time, 3, self.heads, width // self.heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)  # each (batch, heads, time, width / heads)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out(attended.transpose(1, 2).reshape(batch, time, width))


def _block(width: int, heads: int, hidden: int) -> nn.Sequential:
    attention = nn.Sequential(nn.LayerNorm(width), CausalAttention(width, heads))
    feed_forward = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
    return nn.Sequential(Residual(attention), Residual(feed_forward))


class GPT(nn.Module):
    """A small causal language model.

    Args:
        vocabulary: number of tokens.
        context: longest sequence; shorter ones are accepted.
        width: features per position.
        depth: blocks (attention and feed-forward each).
        heads: attention heads; divides `width`.
        expansion: hidden units of the feed-forward part, in multiples of `width`.
        tied: whether the head shares the token embedding's weight; the head has no bias either way.

    Init, all normal: linear weights with standard deviation 1/sqrt(fan_in), in the last layer of each branch divided
    by sqrt(2 * depth), so that the residual stream keeps its size at any depth; the head .02; embeddings .5, or .02 if
    tied to the head. Biases 0, layer norms 1 and 0.

    >>> GPT(vocabulary=65, context=16, width=32, depth=1, heads=2)(torch.zeros(3, 8, dtype=torch.long)).shape
    torch.Size([3, 8, 65])
    """

    def __init__(
        self,
        vocabulary: int = 256,
        context: int = 64,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
        expansion: int = 4,
        tied: bool = False,
    ) -> None:
        super().__init__()
        sizes = (vocabulary, context, width, depth, heads, expansion)
        check(min(sizes) >= 1, "GPT", "sizes of at least 1", sizes)
        self.context = context
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(_block(width, heads, expansion * width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        if tied:
            self.head.weight = self.tokens.weight
        self._initialise(depth)

    def _initialise(self, depth: int) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear) and module is not self.head:
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
                nn.init.zeros_(module.bias)
        for module in self.modules():
            if isinstance(module, Residual):
                last = [m for m in module.branch.modules() if isinstance(m, nn.Linear)][-1]
                nn.init.normal_(last.weight, std=(2 * depth * last.in_features) ** -0.5)
        tied = self.head.weight is self.tokens.weight
        nn.init.normal_(self.positions.weight, std=_HEAD_STD if tied else _EMBEDDING_STD)
        nn.init.normal_(self.tokens.weight, std=_HEAD_STD if tied else _EMBEDDING_STD)
        if not tied:
            nn.init.normal_(self.head.weight, std=_HEAD_STD)

    def forward(
        self,
        tokens: Tensor,  # (batch, time) integers, time <= context
    ) -> Tensor:  # (batch, time, vocabulary)
        """Logits of the next token at every position."""
        time = tokens.shape[1]
        check(time <= self.context, "GPT", f"at most {self.context} tokens", time, "Pass context= a larger number.")
        x = self.tokens(tokens) + self.positions(torch.arange(time, device=tokens.device))
        return self.head(self.norm(self.blocks(x)))
