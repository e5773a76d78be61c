"""Patterns: exact counts in every group, the layout of convolutions, texts, sizes that do not divide."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.prune import NM, Block, Channel, Head, Unstructured
from hasten.prune.patterns import parse


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 4), st.sampled_from([2, 4, 8]), st.integers(1, 3), st.integers(1, 5), st.booleans())
def test_every_group_keeps_exactly_n_even_with_ties(n: int, m: int, groups: int, out: int, constant: bool) -> None:
    n = min(n, m)
    score = torch.zeros(out, groups * m) if constant else torch.randint(0, 3, (out, groups * m)).float()
    mask = NM(n, m).project(score)
    assert (mask.reshape(out, groups, m).sum(-1) == n).all()
    kept, dropped = score.masked_fill(~mask, 9.0), score.masked_fill(mask, -9.0)
    assert (kept.reshape(-1, m).amin(1) >= dropped.reshape(-1, m).amax(1)).all()


def test_convolutions_are_grouped_along_their_inputs() -> None:
    score = torch.randn(3, 8, 2, 2, generator=torch.Generator().manual_seed(0))
    mask = NM(2, 4).project(score)
    assert mask.shape == score.shape
    assert (mask.permute(0, 2, 3, 1).reshape(-1, 4).sum(1) == 2).all()
    one = score[1, :4, 0, 1]
    assert mask[1, :4, 0, 1].tolist() == [bool(value >= one.sort().values[2]) for value in one]


def test_nm_refuses_what_it_does_not_divide() -> None:
    with pytest.raises(
        ValueError, match=r"pattern 2:4: expected inputs of fc\.weight as a multiple of 4, got \(3, 6\)"
    ):
        NM(2, 4).check("fc.weight", torch.Size([3, 6]))
    with pytest.raises(ValueError, match="multiple of 4"):
        NM(2, 4).project(torch.zeros(3, 6))
    with pytest.raises(ValueError, match=r"density 0\.5 of 2:4"):
        NM(2, 4).project(torch.zeros(3, 4), 0.25)
    with pytest.raises(ValueError, match="n of at most m = 4"):
        NM(5, 4)
    with pytest.raises(ValueError, match="whole number"):
        NM(0, 4)


def test_nm_and_blocks_leave_biases() -> None:
    assert NM(1, 4).project(torch.zeros(5)).all()
    assert Block(2, 2).project(torch.zeros(5), 0.5).all()
    assert Unstructured().project(torch.arange(5.0), 0.4).tolist() == [False, False, False, True, True]


def test_blocks_are_kept_whole() -> None:
    score = torch.tensor([[1.0, 1, 5, 5], [1, 1, 5, 5], [2, 2, 9, 0], [2, 2, 0, 0]])
    mask = Block(2, 2).project(score, 0.5)
    assert mask.tolist() == [[False, False, True, True], [False, False, True, True],
                             [False, False, True, True], [False, False, True, True]]  # fmt: skip
    conv = Block(2, 3).project(torch.rand(4, 3, 2, 1), 0.25)
    blocks = conv.permute(0, 2, 3, 1).reshape(2, 2, 2, 3)
    per_block = blocks.sum(dim=(1, 3))
    assert sorted(per_block.reshape(-1).tolist()) == [0, 0, 0, 6]
    with pytest.raises(
        ValueError, match=r"pattern block\(2,3\): expected w as outputs by reduction in multiples of 2 by 3"
    ):
        Block(2, 3).check("w", torch.Size([4, 4]))


def test_channels_are_kept_whole() -> None:
    score = torch.tensor([[[1.0, 2.0]], [[4.0, 0.0]], [[0.0, 1.0]]])
    mask = Channel().project(score, 2 / 3)
    assert mask.tolist() == [[[True, True]], [[True, True]], [[False, False]]]


def test_heads_need_a_model() -> None:
    with pytest.raises(ValueError, match="whose attention layers know their heads"):
        Head().project(torch.zeros(4, 4), 0.5)


@pytest.mark.parametrize("pattern", [Unstructured(), NM(2, 4), Block(4, 1), Channel(), Head()])
def test_text_of_a_pattern_is_the_pattern(pattern: object) -> None:
    assert parse(str(pattern)) == pattern
    assert parse(pattern) is pattern  # type: ignore[arg-type]


def test_other_texts_are_refused() -> None:
    for text in ("", "4:2", "2:4:8", "block(4)", "Channel", "0:4"):
        with pytest.raises(ValueError, match="pattern among|n of at most|whole number"):
            parse(text)
    with pytest.raises(TypeError, match="a pattern or its text"):
        parse(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("density", [-0.1, 1.1, float("nan")])
def test_densities_outside_are_refused(density: float) -> None:
    with pytest.raises(ValueError, match="density"):
        Unstructured().project(torch.ones(4), density)


@pytest.mark.parametrize("pattern", [Unstructured(), Block(2, 2), Channel()])
def test_projection_twice_is_once(pattern: Unstructured | Block | Channel) -> None:
    score = torch.rand(8, 4, generator=torch.Generator().manual_seed(1))
    mask = pattern.project(score, 0.25)
    assert torch.equal(pattern.project(score * mask, 0.25), mask)
