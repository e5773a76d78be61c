from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.data import reference

from hasten.data import cutmix, draw_boxes


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(
    size=st.integers(1, 5),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    alpha=st.sampled_from([0.0, 0.3, 1.0, 5.0]),
    uniform=st.booleans(),
    per_sample=st.booleans(),
    seed=st.integers(0, 9999),
)
def test_equals_the_slow_reference_and_the_weight_is_the_replaced_fraction(
    size: int, height: int, width: int, alpha: float, uniform: bool, per_sample: bool, seed: int
) -> None:
    x = torch.randn(size, 2, height, width, generator=generator(1))
    options = {"alpha": alpha, "uniform_sampling": uniform}
    cut, targets = cutmix((x, torch.arange(size)), per_sample=per_sample, generator=generator(seed), **options)
    boxes = draw_boxes(height, width, count=size if per_sample else 1, generator=generator(seed), **options)
    assert bool((boxes[:, :2] <= height).all() & (boxes[:, 2:] <= width).all() & (boxes >= 0).all())
    expected, fractions = reference.paste(x, targets.second.tolist(), boxes.expand(size, 4).tolist())
    assert torch.equal(cut, expected)
    assert targets.weight.tolist() == torch.tensor(fractions, dtype=torch.float64).float().tolist()


def test_sides_follow_the_kept_area() -> None:
    boxes = draw_boxes(64, 32, count=500, alpha=1.0, uniform_sampling=True, generator=generator())
    height, width = boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]
    inside = (boxes[:, 0] > 0) & (boxes[:, 1] < 64) & (boxes[:, 2] > 0) & (boxes[:, 3] < 32)
    assert int(inside.sum()) > 20
    # Both sides are the same share of the image, each cut to whole pixels.
    assert bool((height - 2 * width)[inside].ge(0).all() & (height - 2 * width)[inside].le(1).all())


def test_uniform_sampling_covers_every_pixel_equally_often() -> None:
    counts = {}
    for uniform in (False, True):
        boxes = draw_boxes(9, 9, count=40_000, alpha=1.0, uniform_sampling=uniform, generator=generator())
        rows = torch.arange(9)
        covered = (rows >= boxes[:, :1]) & (rows < boxes[:, 1:2])
        counts[uniform] = covered.double().mean(0)
    assert float(counts[True].max() - counts[True].min()) < 0.015, "about 4 standard errors"
    assert float(counts[False].max() - counts[False].min()) > 0.1


def test_alpha_0_cuts_nothing_and_draws_are_deterministic() -> None:
    x, y = torch.randn(4, 3, 8, 8), torch.arange(4)
    cut, targets = cutmix((x, y), alpha=0.0, generator=generator())
    assert cut is x
    assert targets.weight.tolist() == [0] * 4
    assert draw_boxes(8, 8, count=2, alpha=0.0, generator=generator())[:, 1].sum() == \
        draw_boxes(8, 8, count=2, alpha=0.0, generator=generator())[:, 0].sum()  # fmt: skip
    kept, state = x.clone(), torch.get_rng_state()
    one, two = (cutmix((x, y), generator=generator(5)) for _ in range(2))
    assert torch.equal(one[0], two[0])
    assert torch.equal(x, kept)
    assert torch.equal(torch.get_rng_state(), state)


def test_any_dtype_and_memory_format() -> None:
    for dtype in (torch.uint8, torch.bfloat16, torch.float64):
        x = torch.arange(4).view(4, 1, 1, 1).expand(4, 3, 6, 6).to(dtype)
        assert cutmix((x, torch.arange(4)), generator=generator())[0].dtype == dtype
    wide = torch.randn(4, 3, 6, 6).contiguous(memory_format=torch.channels_last)
    assert cutmix((wide, torch.arange(4)), generator=generator())[0].is_contiguous(memory_format=torch.channels_last)


def test_bad_input_is_refused() -> None:
    x, y = torch.randn(4, 3, 8, 8), torch.arange(4)
    with pytest.raises(ValueError, match=r"got Tensor of shape \(4, 7\).*cutmix is for images"):
        cutmix((torch.zeros(4, 7, dtype=torch.long), y), generator=generator())
    with pytest.raises(ValueError, match="alpha >= 0"):
        cutmix((x, y), alpha=-1.0, generator=generator())
    with pytest.raises(ValueError, match="Mix a batch once"):
        cutmix(cutmix((x, y), generator=generator()), generator=generator())
    with pytest.raises(TypeError, match=r"torch\.Generator"):
        cutmix((x, y), generator=3)
