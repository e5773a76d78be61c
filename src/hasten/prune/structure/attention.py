"""`nn.MultiheadAttention` with fewer heads than its width is made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["NarrowAttention"]


class NarrowAttention(nn.MultiheadAttention):
    """Attention whose heads are fewer than `embed_dim / head_dim`, as `materialize` leaves it.

    Arguments, masks and results of `forward` are those of `nn.MultiheadAttention`, and so are the names of the
    parameters: `in_proj_weight` has shape (3 * heads * head_dim, embed_dim), `out_proj.weight` (embed_dim, heads *
    head_dim). The class of torch cannot be used, because it takes the size of a head from `embed_dim / num_heads`.
    """

    @classmethod
    def of(cls, module: nn.MultiheadAttention) -> NarrowAttention:
        """The attention of `module`, whose weights have been cut; it shares its parameters and hooks."""
        new = cls.__new__(cls)
        new.__dict__.update(module.__dict__)
        new.num_heads = module.out_proj.weight.shape[1] // module.head_dim
        # What TransformerEncoderLayer asks before it hands the weights to a fused kernel, which knows full width only.
        new._qkv_same_embed_dim = False
        return new

    def forward(
        self,
        query: Tensor,  # (time, batch, embed_dim), (batch, time, embed_dim) if batch_first, or (time, embed_dim)
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,  # (batch, keys), True where nobody looks, or added to the scores
        need_weights: bool = True,
        attn_mask: Tensor | None = None,  # (queries, keys) or (batch * heads, queries, keys)
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attended features in the layout of `query`, and the weights of the heads or their mean if asked for."""
        batched, swapped = query.ndim == 3, query.ndim == 3 and not self.batch_first
        if swapped:
            query, key, value = (t.transpose(0, 1) for t in (query, key, value))
        elif not batched:
            query, key, value = (t.unsqueeze(0) for t in (query, key, value))
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        q, k, v = (t.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for t in self._projected(query, key, value))
        mask = self._mask(attn_mask, key_padding_mask, q)
        p = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
            weights = F.dropout((scores if mask is None else scores + mask).softmax(-1), p, self.training)
            heads = weights @ v
        else:
            heads = F.scaled_dot_product_attention(q, k, v, mask, p)
        out = self.out_proj(heads.transpose(1, 2).flatten(2))
        if weights is not None and average_attn_weights:
            weights = weights.mean(1)
        if not batched:
            return out.squeeze(0), None if weights is None else weights.squeeze(0)
        return out.transpose(0, 1) if swapped else out, weights

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        if self.in_proj_weight is not None:
            weights = self.in_proj_weight.chunk(3)
        else:
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return [F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True)]

    def _mask(self, attn_mask: Tensor | None, padding: Tensor | None, query: Tensor) -> Tensor | None:
        """What is added to the scores (batch, heads, queries, keys)."""
        batch, heads = query.shape[:2]
        if attn_mask is not None and attn_mask.ndim == 3:
            attn_mask = attn_mask.unflatten(0, (batch, heads))
        if padding is not None:
            padding = padding.view(batch, 1, 1, -1)
        masks = [_added(mask, query) for mask in (attn_mask, padding) if mask is not None]
        return sum(masks[1:], masks[0]) if masks else None


def _added(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(like.dtype)
    return torch.zeros(mask.shape, dtype=like.dtype, device=like.device).masked_fill(mask, float("-inf"))
