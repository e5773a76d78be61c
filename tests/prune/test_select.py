"""Exactly k, by a total order: checked against a stable sort, for any scores."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from hasten.prune import keep_largest, keep_largest_each, keep_per_row, select

VALUES = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, 1e-45, -1e-45, 3e38, -3e38, math.inf, -math.inf, 0.5])


def by_sorting(scores: list[Tensor], k: int) -> list[Tensor]:
    """The same by a stable sort of everything."""
    flat = torch.cat([score.double().reshape(-1) for score in scores])
    kept = torch.zeros(len(flat), dtype=torch.bool)
    kept[flat.sort(descending=True, stable=True).indices[:k]] = True
    parts = kept.split([score.numel() for score in scores])
    return [part.reshape(score.shape) for part, score in zip(parts, scores, strict=True)]


@st.composite
def scores_and_k(draw: st.DrawFn) -> tuple[list[Tensor], int]:
    shapes = draw(st.lists(arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5), min_size=1, max_size=4))
    dtype = draw(st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]))
    some = VALUES | st.floats(allow_nan=False, width=32)
    found = [torch.tensor(draw(st.lists(some, min_size=math.prod(s), max_size=math.prod(s)))) for s in shapes]
    scores = [value.to(dtype).reshape(shape) for value, shape in zip(found, shapes, strict=True)]
    return scores, draw(st.integers(0, sum(score.numel() for score in scores)))


@settings(deadline=None, max_examples=150)
@given(scores_and_k())
def test_keeps_what_a_stable_sort_keeps(given_: tuple[list[Tensor], int]) -> None:
    scores, k = given_
    masks = keep_largest(scores, k)
    assert sum(int(mask.sum()) for mask in masks) == k
    for mask, expected in zip(masks, by_sorting(scores, k), strict=True):
        assert torch.equal(mask, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("digit", [4, 11, 13])
def test_in_pieces_as_in_one(dtype: torch.dtype, digit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors larger than a piece, with many ties across pieces."""
    generator = torch.Generator().manual_seed(0)
    scores = [
        torch.randint(-5, 5, (70, 3), generator=generator).to(dtype),
        torch.randn(90, generator=generator).to(dtype),
    ]
    monkeypatch.setattr(select, "PIECE", 17)
    monkeypatch.setattr(select, "DIGIT", digit)
    for k in (0, 1, 40, 41, 150, 299, 300):
        for mask, expected in zip(keep_largest(scores, k), by_sorting(scores, k), strict=True):
            assert torch.equal(mask, expected)


@pytest.mark.parametrize("value", [0.0, -3.5, math.inf, -math.inf])
@pytest.mark.parametrize("k", [0, 1, 7, 12])
def test_constant_scores_keep_the_first(value: float, k: int) -> None:
    masks = keep_largest([torch.full((4,), value), torch.full((2, 4), value)], k)
    assert torch.cat([mask.reshape(-1) for mask in masks]).tolist() == [True] * k + [False] * (12 - k)


def test_masks_are_nested_as_k_grows() -> None:
    score = torch.randint(0, 4, (50,), generator=torch.Generator().manual_seed(1)).float()
    masks = [keep_largest([score], k)[0] for k in range(51)]
    assert all(bool((less <= more).all()) for less, more in itertools.pairwise(masks))


def test_the_hand_cases() -> None:
    assert keep_largest([torch.tensor([0.1, -0.2, 0.3, -0.4]).abs()], 2)[0].tolist() == [False, False, True, True]
    masks = keep_largest([torch.tensor([0.1, 0.9]), torch.tensor([0.2, 0.3])], 2)
    assert [mask.tolist() for mask in masks] == [[False, True], [False, True]]


def test_order_of_tensors_does_not_matter_without_ties() -> None:
    a, b = torch.randn(2, 30, generator=torch.Generator().manual_seed(2))
    first, second = keep_largest([a, b], 20), keep_largest([b, a], 20)
    assert torch.equal(first[0], second[1])
    assert torch.equal(first[1], second[0])


def test_strides_do_not_matter() -> None:
    score = torch.randn(6, 4, generator=torch.Generator().manual_seed(3))
    assert torch.equal(keep_largest([score.T], 9)[0], keep_largest([score.T.contiguous()], 9)[0])


def test_scores_of_parameters_are_fine() -> None:
    mask = keep_largest([torch.nn.Parameter(torch.tensor([1.0, 2.0]))], 1)[0]
    assert mask.tolist() == [False, True]
    assert not mask.requires_grad


def test_each_tensor_by_itself() -> None:
    scores = [torch.tensor([3.0, 2.0, 1.0]), torch.tensor([1.0, 1.0])]
    assert [mask.tolist() for mask in keep_largest_each(scores, [1, 1])] == [[True, False, False], [True, False]]


@settings(deadline=None, max_examples=60)
@given(arrays.arrays("float32", arrays.array_shapes(min_dims=1, max_dims=3, max_side=6), elements=VALUES), st.data())
def test_rows_keep_exactly_k(values: object, data: st.DataObject) -> None:
    score = torch.as_tensor(values)
    k = data.draw(st.integers(0, score.shape[-1]))
    mask = keep_per_row(score, k)
    for row, kept in zip(score.reshape(-1, score.shape[-1]), mask.reshape(-1, score.shape[-1]), strict=True):
        assert torch.equal(kept, by_sorting([row], k)[0])


def test_rows_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    score = torch.randint(0, 3, (23, 4), generator=torch.Generator().manual_seed(4)).float()
    whole = keep_per_row(score, 2)
    monkeypatch.setattr(select, "PIECE", 9)
    assert torch.equal(keep_per_row(score, 2), whole)


def test_bad_scores_are_refused() -> None:
    with pytest.raises(ValueError, match=r"prune\.keep_largest: expected scores without NaN, got NaN in layer"):
        keep_largest([torch.ones(2), torch.tensor([1.0, math.nan])], 1, names=["other", "layer"])
    with pytest.raises(TypeError, match="expected scores of 16, 32 or 64-bit floats, got tensor 0"):
        keep_largest([torch.ones(2, dtype=torch.int64)], 1)
    for k in (-1, 3, 1.0, True):
        with pytest.raises(ValueError, match="k from 0 to 2"):
            keep_largest([torch.ones(2)], k)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="k from 0 to 4, the entries of a row"):
        keep_per_row(torch.ones(2, 4), 5)
    with pytest.raises(ValueError, match="scores without NaN"):
        keep_per_row(torch.full((2, 2), math.nan), 1)
