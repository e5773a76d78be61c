"""A decoder-only transformer, from a tiny one for characters to the shape of GPT-2.

Token plus learned position embeddings, pre-norm blocks, a final layer norm, a linear head.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hasten._core.checks import check

from .transformer import Residual, pre_norm_block

__all__ = ["GPT", "gpt_small"]

_HEAD_STD = 0.02  # logits start near 0, the loss near log(vocabulary); the value is GPT-2's (Radford et al. 2019)
# GPT-2's .02 suits embeddings of 768 features and more. At 64 features 600 steps of `charlm` then end anywhere between
# 2.9 and 3.3 bits, depending on the seed; with .5 they end between 2.86 and 2.91.
_EMBEDDING_STD = 0.5


class GPT(nn.Module):
    """A causal language model; small by default, `gpt_small` has the shape of GPT-2.

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
        blocks = (pre_norm_block(width, heads, expansion * width, causal=True) for _ in range(depth))
        self.blocks = nn.Sequential(*blocks)
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


def gpt_small(vocabulary: int = 50257, context: int = 1024, width: int = 768, depth: int = 12, heads: int = 12) -> GPT:
    """A GPT in the shape of the smallest GPT-2 (Radford et al. 2019): 124,439,808 parameters, the head tied.

    The shape and the parameter count are GPT-2's; the initialisation is that of `GPT`, and there is no dropout.

    Args:
        vocabulary: number of tokens; 50,257 are the byte pairs of GPT-2.
        context: longest sequence.
        width, depth, heads: as in `GPT`; smaller ones make scaled models of the same kind.
    """
    return GPT(vocabulary, context, width, depth, heads, tied=True)
