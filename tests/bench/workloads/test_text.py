from __future__ import annotations

import doctest

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from hasten.bench.workloads import text
from hasten.bench.workloads.text import byte_tokens, frequent_words, sequence_cross_entropy, windows


@given(length=st.integers(2, 200), context=st.integers(1, 50))
def test_every_target_follows_its_input_and_comes_once(length, context):
    if context >= length:
        with pytest.raises(ValueError, match=f"windows: expected more than {context} tokens, got {length}"):
            windows(torch.arange(length), context)
        return
    inputs, targets = windows(torch.arange(length), context)
    assert inputs.shape == targets.shape == ((length - 1) // context, context)
    assert torch.equal(targets, inputs + 1)
    assert targets.flatten().tolist() == list(range(1, targets.numel() + 1))


def test_windows_are_views():
    tokens = torch.arange(100)
    inputs, targets = windows(tokens, 10)
    assert inputs.untyped_storage().data_ptr() == targets.untyped_storage().data_ptr() == tokens.data_ptr()


def test_bytes_are_tokens():
    tokens = byte_tokens(b"a\x00\xff")
    assert tokens.tolist() == [97, 0, 255]
    assert tokens.dtype == torch.int64


@given(words=st.lists(st.sampled_from("abcdef"), min_size=1), first=st.integers(0, 5))
def test_words_are_numbered_by_how_frequent_they_are(words, first):
    kinds = sorted(set(words))
    every = frequent_words(words, len(kinds), first=first)
    assert list(every.values()) == list(range(first, first + len(kinds)))
    ranked = [(-words.count(word), word) for word in every]
    assert ranked == sorted(ranked)
    assert frequent_words(reversed(words), len(kinds), first=first) == every  # the order of the text does not matter
    few = frequent_words(words, 1)
    assert few == {ranked[0][1]: 0}
    with pytest.raises(ValueError, match=f"frequent_words: expected at least 7 different words, got {len(kinds)}"):
        frequent_words(words, 7)


def test_loss_is_the_mean_over_each_sequence():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 7, generator=generator)
    targets = torch.randint(0, 7, (3, 4), generator=generator)
    losses = sequence_cross_entropy(logits, {"input_ids": targets, "labels": targets})
    assert losses.shape == (3,)
    for i in range(3):
        assert losses[i].item() == pytest.approx(F.cross_entropy(logits[i], targets[i]).item(), rel=1e-6)


def test_example():
    assert doctest.testmod(text).failed == 0
