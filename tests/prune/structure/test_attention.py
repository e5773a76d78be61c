"""Attention with all its heads is torch's; with fewer, it is what materialize leaves."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from tests.prune.structure.zoo import images, shaken
from torch import Tensor, nn

from hasten.prune.masks import apply
from hasten.prune.structure import NarrowAttention, head_masks, materialize

LATER = torch.ones(5, 5).triu(1).bool()
PADDED = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize(
    "masks",
    [{}, {"attn_mask": LATER}, {"attn_mask": images(8, 5, 5)}, {"key_padding_mask": PADDED},
     {"attn_mask": LATER, "key_padding_mask": PADDED}],
)  # fmt: skip
def test_whole_attention_is_that_of_torch(batch_first: bool, weights: bool, average: bool, masks: Any) -> None:
    theirs = shaken(nn.MultiheadAttention(12, 4, batch_first=batch_first))
    x = images(2, 5, 12) if batch_first else images(5, 2, 12)
    options = {"need_weights": weights, "average_attn_weights": average, **masks}
    found, expected = (layer(x, x, x, **options) for layer in (NarrowAttention.of(theirs), theirs))
    torch.testing.assert_close(found, expected)


def test_other_keys_and_no_batch() -> None:
    theirs = shaken(nn.MultiheadAttention(12, 3, kdim=6, vdim=7, bias=False))
    query, key, value = images(4, 12), images(5, 6), images(5, 7)
    padding = torch.tensor([False, False, False, True, True])
    for masks in ({}, {"key_padding_mask": padding}):
        found, expected = (layer(query, key, value, **masks) for layer in (NarrowAttention.of(theirs), theirs))
        torch.testing.assert_close(found, expected)


class Net(nn.Module):
    """Attention whose weights are thrown away, as usual."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 4, batch_first=True, **options)

    def forward(self, x: Tensor, padding: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        return self.attention(x, x, x, key_padding_mask=padding, attn_mask=mask)[0]


@pytest.mark.parametrize("inputs", [(images(2, 5, 12),), (images(2, 5, 12), PADDED), (images(2, 5, 12), PADDED, LATER)])
def test_fewer_heads(inputs: tuple[Tensor, ...]) -> None:
    net = shaken(Net())
    masked = apply(net, head_masks(net, inputs, density=0.5))
    small, removed = materialize(masked, inputs)
    assert removed.groups == {"attention.in_proj_weight, dimension 0": (4, 2)}
    torch.testing.assert_close(small(*inputs), masked(*inputs))
    assert small.state_dict().keys() == copy.deepcopy(Net()).state_dict().keys()


def test_keys_of_its_own_hold_the_heads() -> None:
    net, inputs = shaken(Net(add_bias_kv=True)), images(2, 5, 12)
    masked = apply(net, head_masks(net, inputs, density=0.5))
    small, removed = materialize(masked, inputs)
    assert removed.groups == {}
    assert removed.kept["attention.out_proj.weight, dimension 1: 6 of 12"].endswith("written in the code of attention")
    torch.testing.assert_close(small(inputs), masked(inputs))
