"""The BERT encoder (arXiv 1810.04805), by default in the shape of BERT-tiny (arXiv 1908.08962).

Token, position and segment embeddings with a layer norm, post-norm blocks that never look at padding, and one of two
heads: classes of the whole sequence, read at its first token, or tokens at every position, for masked language
modelling. No dropout.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hasten._core.checks import check, near, refuse

from .transformer import Residual, SelfAttention, feed_forward

__all__ = ["BERT"]

_STD = 0.02  # of every initial weight (arXiv 1810.04805's released code)
_HEADS = ("classes", "tokens")


class _Block(nn.Module):
    """`x = norm(x + attention(x))`, then `norm(x + feed_forward(x))`."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention = Residual(SelfAttention(width, heads))
        self.attention_norm = nn.LayerNorm(width)
        self.feed_forward = Residual(nn.Sequential(*feed_forward(width, hidden)))
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        x: Tensor,  # (batch, time, width)
        visible: Tensor,  # (batch, time) bool
    ) -> Tensor:  # (batch, time, width)
        x = self.attention_norm(self.attention(x, visible))
        return self.norm(self.feed_forward(x))


class BERT(nn.Module):
    """A bidirectional encoder: `BERT()` has BERT-tiny's 4,385,920 parameters, and 258 of its classifier of two classes.

    The first token of a sequence stands for the whole of it (BERT's `[CLS]`) and is never padding. Padding changes
    nothing for the other tokens, so a sequence has the same logits however much of it follows.

    Args:
        vocabulary: number of tokens.
        context: longest sequence; shorter ones are accepted.
        width: features per position.
        depth: blocks (attention and feed-forward each).
        heads: attention heads; divides `width`.
        expansion: hidden units of the feed-forward part, in multiples of `width`.
        segments: kinds of segments ("sentence A", "sentence B"); 0 for no segment embedding.
        padding: the token that is padding.
        head: "classes" for a tanh layer and a classifier of the first token; "tokens" for a GELU layer with a layer
            norm and logits over the vocabulary at every position, which share the token embedding's weight.
        classes: number of logits of the head "classes"; the other does not use it.

    Init: all weights normal with standard deviation .02, biases 0, layer norms 1 and 0.

    >>> tokens = torch.tensor([[1, 5, 6, 0], [1, 7, 0, 0]])  # 0 is padding
    >>> BERT(vocabulary=9, context=4, width=8, classes=3)(tokens).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        vocabulary: int = 30522,
        context: int = 512,
        width: int = 128,
        depth: int = 2,
        heads: int = 2,
        expansion: int = 4,
        segments: int = 2,
        padding: int = 0,
        head: str = "classes",
        classes: int = 2,
    ) -> None:
        super().__init__()
        sizes = (vocabulary, context, width, depth, heads, expansion, classes)
        check(min(sizes) >= 1, "BERT", "sizes of at least 1", sizes)
        check(segments >= 0, "BERT", "segments of at least 0", segments)
        if head not in _HEADS:
            raise refuse("BERT", f"head among {', '.join(map(repr, _HEADS))}", repr(head), near(head, _HEADS))
        self.context, self.padding, self.whole = context, padding, head == "classes"
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.segments = nn.Embedding(segments, width) if segments else None
        self.norm = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(_Block(width, heads, expansion * width) for _ in range(depth))
        between = [nn.Tanh()] if self.whole else [nn.GELU(), nn.LayerNorm(width)]
        last = nn.Linear(width, classes if self.whole else vocabulary)
        self.head = nn.Sequential(nn.Linear(width, width), *between, last)
        if not self.whole:
            last.weight = self.tokens.weight
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=_STD)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(
        self,
        tokens: Tensor,  # (batch, time) integers, time <= context
        segments: Tensor | None = None,  # (batch, time) integers; None means that all are of segment 0
    ) -> Tensor:  # (batch, classes), or (batch, time, vocabulary) of the head "tokens"
        """Logits of each sequence, or of each token."""
        time = tokens.shape[1]
        check(time <= self.context, "BERT", f"at most {self.context} tokens", time, "Pass context= a larger number.")
        check(segments is None or self.segments is not None, "BERT", "no segments", segments, "Pass segments=2.")
        x = self.tokens(tokens) + self.positions(torch.arange(time, device=tokens.device))
        if self.segments is not None:
            x = x + self.segments(torch.zeros_like(tokens) if segments is None else segments)
        x, visible = self.norm(x), tokens != self.padding
        for block in self.blocks:
            x = block(x, visible)
        return self.head(x[:, 0] if self.whole else x)
