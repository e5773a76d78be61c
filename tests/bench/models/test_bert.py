from __future__ import annotations

import doctest

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hasten.bench.models import BERT, bert
from hasten.surgery import apply_stochastic_depth
from hasten.surgery.stochastic_depth import draw_stochastic_depth


def small(**change: object) -> BERT:
    torch.manual_seed(0)
    return BERT(**{"vocabulary": 11, "context": 8, "width": 12, "heads": 3, "classes": 4, **change})


TOKENS = torch.tensor([[1, 5, 6, 7], [1, 9, 10, 2]])


@pytest.mark.parametrize("head", ["classes", "tokens"])
def test_padding_changes_nothing_for_the_other_tokens(head):
    model = small(head=head, depth=3)
    padded = F.pad(TOKENS, (0, 4))
    expected, got = model(TOKENS), model(padded)
    torch.testing.assert_close(got if head == "classes" else got[:, :4], expected)
    unpadded = F.pad(TOKENS, (0, 4), value=3)
    assert not torch.allclose(model(unpadded)[0], got[0])


def test_another_token_can_be_the_padding():
    model = small(padding=10)
    torch.testing.assert_close(model(F.pad(TOKENS[:1], (0, 2), value=10)), model(TOKENS[:1]))
    assert not torch.allclose(model(F.pad(TOKENS[:1], (0, 2))), model(TOKENS[:1]))


def test_every_position_sees_every_other():
    model = small(head="tokens", depth=1)
    changed = TOKENS.clone()
    changed[:, 3] = 4
    before, after = model(TOKENS), model(changed)
    assert all(not torch.allclose(before[:, place], after[:, place], atol=1e-7) for place in range(4))


def test_the_parts_by_hand():
    model = small(depth=1)
    x = model.norm(model.tokens(TOKENS) + model.positions.weight[:4] + model.segments.weight[0])
    (block,) = model.blocks
    x = block.attention_norm(x + block.attention.branch(x))
    first, gelu, last = block.feed_forward.branch
    x = block.norm(x + last(gelu(first(x))))
    pooled = torch.tanh(model.head[0](x[:, 0]))
    torch.testing.assert_close(model(TOKENS), model.head[2](pooled))


def test_segments():
    model = small()
    assert torch.equal(model(TOKENS), model(TOKENS, torch.zeros_like(TOKENS)))
    assert not torch.allclose(model(TOKENS), model(TOKENS, torch.tensor([[0, 0, 1, 1]] * 2)))
    without = small(segments=0)
    assert without.segments is None
    assert without(TOKENS).shape == (2, 4)
    with pytest.raises(ValueError, match="BERT: expected no segments, .* Pass segments=2"):
        without(TOKENS, torch.zeros_like(TOKENS))


def test_the_head_of_tokens_shares_the_embedding():
    model = small(head="tokens")
    assert model.head[-1].weight is model.tokens.weight
    assert model(TOKENS).shape == (2, 4, 11)
    torch.manual_seed(0)
    large = BERT(vocabulary=2000, width=64, head="tokens")
    assert large.tokens.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert all(not m.bias.any() for m in large.modules() if isinstance(m, (nn.Linear, nn.LayerNorm)))


def test_stochastic_depth_passes_the_mask_on():
    model = small(depth=2)
    padded = F.pad(TOKENS, (0, 4))
    expected = model(padded)
    names = apply_stochastic_depth(model, drop_rate=0.5).changed
    assert len(names) == 4
    torch.testing.assert_close(model.eval()(padded), expected)
    model.train()
    draw_stochastic_depth(model, 2, torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(padded), model(TOKENS))


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="BERT: expected at most 8 tokens, got 9"):
        small()(torch.ones(1, 9, dtype=torch.long))
    with pytest.raises(ValueError, match="BERT: expected head among .*, got 'token'. Did you mean tokens"):
        small(head="token")
    with pytest.raises(ValueError, match="BERT: expected sizes of at least 1"):
        small(depth=0)
    with pytest.raises(ValueError, match="BERT: expected segments of at least 0, got -1"):
        small(segments=-1)


def test_example():
    assert doctest.testmod(bert).failed == 0
