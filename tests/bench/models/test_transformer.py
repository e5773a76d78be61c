from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from hasten.bench.models.transformer import Residual, SelfAttention, pre_norm_block


def by_hand(attention: SelfAttention, x: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """Two heads of three features, one after the other; `hidden` (batch or 1, time, time): what a query cannot see."""
    query, key, value = attention.qkv(x).chunk(3, dim=-1)
    heads = []
    for h in range(2):
        q, k, v = (part[..., 3 * h : 3 * h + 3] for part in (query, key, value))
        scores = (q @ k.transpose(1, 2) / math.sqrt(3)).masked_fill(hidden, -math.inf)
        heads.append(scores.softmax(-1) @ v)
    return attention.out(torch.cat(heads, dim=-1))


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("causal", [False, True])
def test_attention_by_hand(x, causal):
    torch.manual_seed(0)
    attention = SelfAttention(width=6, heads=2, causal=causal)
    hidden = torch.ones(1, 5, 5).triu(1).bool() if causal else torch.zeros(1, 5, 5).bool()
    torch.testing.assert_close(attention(x), by_hand(attention, x, hidden))


def test_attention_with_a_mask_by_hand(x):
    torch.manual_seed(0)
    attention = SelfAttention(width=6, heads=2)
    visible = torch.tensor([[True, True, False, True, False], [True] * 5])
    expected = by_hand(attention, x, ~visible[:, None, :].expand(2, 5, 5))
    torch.testing.assert_close(attention(x, visible), expected)
    moved = x.clone()
    moved[0, 2] += 1
    torch.testing.assert_close(attention(moved, visible)[0, [0, 1, 3, 4]], attention(x, visible)[0, [0, 1, 3, 4]])
    assert not torch.allclose(attention(moved)[0, 0], attention(x)[0, 0])


def test_attention_refuses_what_does_not_fit(x):
    with pytest.raises(ValueError, match=r"SelfAttention: expected a width divisible by heads, got \(6, 4\)"):
        SelfAttention(6, 4)
    with pytest.raises(ValueError, match="SelfAttention: expected no mask, being causal"):
        SelfAttention(6, 2, causal=True)(x, torch.ones(2, 5, dtype=torch.bool))


def test_a_residual_passes_on_what_else_its_branch_takes(x):
    assert torch.equal(Residual(nn.Identity())(x), 2 * x)

    class Scale(nn.Module):
        def forward(self, x: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
            return x * by

    assert torch.equal(Residual(Scale())(x, torch.tensor(3.0)), x + 3 * x)


def test_a_pre_norm_block_by_hand(x):
    torch.manual_seed(0)
    block = pre_norm_block(6, 2, 7)
    (norm, attention), (second, first, gelu, last) = (residual.branch for residual in block)
    middle = x + attention(norm(x))
    torch.testing.assert_close(block(x), middle + last(gelu(first(second(middle)))))
    assert (first.out_features, attention.causal) == (7, False)
    assert pre_norm_block(6, 2, 7, causal=True)[0].branch[1].causal
