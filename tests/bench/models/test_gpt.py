from __future__ import annotations

import doctest
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hasten.bench.models import GPT, gpt
from hasten.bench.models.gpt import gpt_small
from hasten.bench.models.transformer import Residual


class Dropped(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros(())


def small(**change: object) -> GPT:
    torch.manual_seed(0)
    return GPT(**{"vocabulary": 11, "context": 8, "width": 12, "depth": 2, "heads": 3, **change}).eval()


def test_no_position_sees_the_future():
    model = small()
    tokens = torch.randint(0, 11, (3, 8), generator=torch.Generator().manual_seed(1))
    changed = tokens.clone()
    changed[:, 5:] = (changed[:, 5:] + 1) % 11
    before, after = model(tokens), model(changed)
    torch.testing.assert_close(before[:, :5], after[:, :5])
    assert not torch.allclose(before[:, 5:], after[:, 5:])


def test_a_shorter_sequence_gives_the_same_logits():
    model = small()
    tokens = torch.randint(0, 11, (2, 8), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(model(tokens[:, :3]), model(tokens)[:, :3])


def test_dropped_branches_leave_the_embeddings():
    model = small()
    residuals = [m for m in model.modules() if isinstance(m, Residual)]
    assert len(residuals) == 4
    for residual in residuals:
        residual.branch = Dropped()
    tokens = torch.tensor([[1, 2, 3]])
    embedded = model.tokens(tokens) + model.positions(torch.arange(3))
    torch.testing.assert_close(model(tokens), model.head(model.norm(embedded)))


@pytest.mark.parametrize("tied", [False, True])
def test_the_first_loss_is_near_that_of_guessing(tied):
    torch.manual_seed(0)
    model = GPT(vocabulary=256, tied=tied)
    tokens = torch.randint(0, 256, (8, 65), generator=torch.Generator().manual_seed(1))
    loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    assert loss.item() == pytest.approx(math.log(256), abs=0.1)


def test_a_tied_head_is_the_embedding():
    model = small(tied=True)
    assert model.head.weight is model.tokens.weight
    assert small().head.weight is not small().tokens.weight


def test_initial_scales():
    torch.manual_seed(0)
    model = GPT(vocabulary=256, width=64, depth=2)
    attention, feed_forward = (residual.branch for residual in model.blocks[0])
    expected = {
        attention[1].qkv: 1 / 8,
        attention[1].out: 1 / 8 / 2,  # sqrt(2 * depth) = 2
        feed_forward[1]: 1 / 8,
        feed_forward[3]: 1 / 16 / 2,
        model.tokens: 0.5,
        model.head: 0.02,
    }
    for module, std in expected.items():
        assert module.weight.std().item() == pytest.approx(std, rel=0.05)
    assert all(not m.bias.any() for m in model.modules() if isinstance(m, nn.Linear) and m.bias is not None)


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="GPT: expected at most 8 tokens, got 9"):
        small()(torch.zeros(1, 9, dtype=torch.long))
    with pytest.raises(ValueError, match="a width divisible by heads"):
        small(heads=5)
    with pytest.raises(ValueError, match="GPT: expected sizes of at least 1"):
        small(depth=0)


def test_a_scaled_gpt_small_is_a_tied_gpt_of_that_shape():
    model = gpt_small(vocabulary=11, context=8, width=12, depth=3, heads=3)
    assert model.head.weight is model.tokens.weight
    assert (len(model.blocks), model.context, model.tokens.weight.shape) == (3, 8, (11, 12))
    assert model(torch.zeros(2, 5, dtype=torch.long)).shape == (2, 5, 11)


def test_example():
    assert doctest.testmod(gpt).failed == 0
