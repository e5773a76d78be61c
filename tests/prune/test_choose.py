from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.prune import reference

from hasten.prune.choose import choose, keep_rows, shares, without
from hasten.prune.patterns import NM, Block, Unstructured

FREE = Unstructured()


def scores_from(seed: int, constant: bool = False) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    shapes = {"a": (4, 8), "b": (4,), "c": (6, 4, 2, 1), "d": (3, 5)}
    return {
        name: torch.ones(shape) if constant else torch.randint(-3, 4, shape, generator=g).float()
        for name, shape in shapes.items()
    }


def test_hand_case() -> None:
    scores = {"a": torch.tensor([0.1, 0.9]), "b": torch.tensor([0.2, 0.3])}
    assert {k: v.tolist() for k, v in choose(scores, 2, scope="global", pattern=FREE).items()} == {
        "a": [False, True],
        "b": [False, True],
    }
    scores["a"] = torch.tensor([0.8, 0.9])
    assert choose(scores, 2, scope="global", pattern=FREE)["a"].all()
    assert choose(scores, 2, scope="layer", pattern=FREE)["a"].tolist() == [False, True]


@given(st.integers(0, 10_000), st.booleans(), st.integers(0, 98), st.sampled_from(["global", "layer", "row"]))
def test_exactly_as_many_and_nested(seed: int, constant: bool, keep: int, scope: str) -> None:
    scores = scores_from(seed, constant)
    keep = max(keep, 4) if scope == "row" else keep  # biases are kept
    few, more = (choose(scores, k, scope=scope, pattern=FREE) for k in (keep, keep + 1))
    assert sum(int(mask.sum()) for mask in few.values()) == keep
    assert list(few) == list(scores)
    assert all((few[name] <= more[name]).all() for name in few)
    if scope == "global":
        expected = reference.keep_largest(list(scores.values()), keep)
        assert all(torch.equal(mask, one) for mask, one in zip(few.values(), expected, strict=True))
    if scope == "layer":
        share = keep / 99
        assert all(abs(int(mask.sum()) - share * mask.numel()) <= 1 for mask in few.values())
    if scope == "row":
        counts = [mask.flatten(1).sum(1) for mask in few.values() if mask.ndim > 1]
        assert all(int(count.max() - count.min()) <= 1 for count in counts)


@given(st.integers(0, 10_000), st.integers(0, 59), st.integers(0, 99), st.sampled_from(["global", "layer", "row"]))
def test_what_is_masked_stays_masked(seed: int, before: int, keep: int, scope: str) -> None:
    scores = scores_from(seed)
    masks = choose(scores_from(seed + 1), 40 + before, scope="global", pattern=FREE)
    del masks["d"]  # a model may wear masks on some of its parameters
    alive = {name: int(masks[name].sum()) if name in masks else score.numel() for name, score in scores.items()}
    keep = min(keep, sum(alive.values()))
    if scope == "row":
        keep = max(keep, alive["b"])
    scores = {name: without(score, masks.get(name)) for name, score in scores.items()}
    found = choose(scores, keep, scope=scope, pattern=FREE, masks=masks)
    assert sum(int(mask.sum()) for mask in found.values()) == keep
    assert all(not (found[name] & ~mask).any() for name, mask in masks.items())


@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 1)), min_size=1, max_size=6), st.floats(0, 1))
def test_shares_add_up_and_never_fall(parts: list[tuple[int, float]], share: float) -> None:
    sizes = {str(i): size for i, (size, _) in enumerate(parts)}
    alive = {str(i): int(size * part) for i, (size, part) in enumerate(parts)}
    keep = int(share * sum(alive.values()))
    found = shares(sizes, alive, keep)
    assert sum(found.values()) == keep
    assert all(0 <= count <= alive[name] for name, count in found.items())
    if keep < sum(alive.values()):
        more = shares(sizes, alive, keep + 1)
        assert sorted(more[name] - found[name] for name in sizes) == [0] * (len(sizes) - 1) + [1]
    if alive == sizes:
        assert all(abs(count - keep / max(1, sum(sizes.values())) * sizes[name]) <= 2 for name, count in found.items())


@given(st.integers(0, 10_000), st.integers(0, 28))
def test_rows_with_little_left_give_to_the_others(seed: int, keep: int) -> None:
    g = torch.Generator().manual_seed(seed)
    score = torch.randn(4, 7, generator=g).masked_fill(torch.rand(4, 7, generator=g) < 0.4, float("-inf"))
    keep = min(keep, int((~score.isneginf()).sum()))
    mask = keep_rows(score, keep)
    assert int(mask.sum()) == keep
    assert not mask[score.isneginf()].any()


def test_patterns() -> None:
    scores = {"a": scores_from(1)["a"], "b": scores_from(1)["b"]}
    pairs = choose(scores, 0, scope="global", pattern=NM(2, 4))
    assert (pairs["a"].unflatten(1, (-1, 4)).sum(-1) == 2).all()
    assert pairs["b"].all()
    blocks = choose(scores, 4 + 16, scope="global", pattern=Block(2, 4))
    assert blocks["b"].all()
    assert sorted(blocks["a"].unflatten(1, (2, 4)).unflatten(0, (2, 2)).sum((1, 3)).flatten().tolist()) == [0, 0, 8, 8]


def test_bad_input() -> None:
    scores = scores_from(0)
    with pytest.raises(ValueError, match=r"room for the biases.*got 4 entries too few"):
        choose(scores, 0, scope="row", pattern=FREE)
    masks = {name: torch.zeros_like(score, dtype=torch.bool) for name, score in scores.items()}
    lowest = {name: without(score, masks[name]) for name, score in scores.items()}
    with pytest.raises(ValueError, match="at most 0 entries to keep, as the others are masked already, got 1"):
        choose(lowest, 1, scope="global", pattern=FREE, masks=masks)
    with pytest.raises(ValueError, match="NaN in d"):
        choose(scores | {"d": torch.tensor([[float("nan")]])}, 1, scope="global", pattern=FREE)
    with pytest.raises(ValueError, match="inputs of d as a multiple of 4"):
        choose(scores, 1, scope="global", pattern=NM(2, 4))
