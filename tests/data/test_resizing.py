from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hasten._core.clock import Schedule, Scheduled, Tick
from hasten.data import ResizingSchedule, mixup, resize, resizing_schedule, scaled_size


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(size=st.integers(1, 300), scale=st.floats(0.01, 1), increment=st.integers(1, 40))
def test_sizes_are_multiples_near_the_scale(size: int, scale: float, increment: int) -> None:
    out = scaled_size(size, scale, increment)
    assert 1 <= out <= size
    assert out % increment == 0 or out == size
    if increment <= scale * size <= size - increment:
        assert abs(out - scale * size) <= increment / 2 + 1e-9


@pytest.mark.parametrize("mode", ["bilinear", "crop"])
def test_images_shrink_and_targets_stay(mode: str) -> None:
    x, y = torch.rand(2, 3, 33, 20), torch.arange(2)
    out, targets = resize((x, y), scale=0.5, mode=mode, generator=generator())
    assert out.shape == (2, 3, 16, 12)  # 16.5 and 10 to multiples of 4, halves up
    assert targets is y


def test_scale_1_and_sizes_that_stay_return_the_batch_itself() -> None:
    batch = (torch.rand(2, 3, 30, 30), torch.arange(2))
    assert resize(batch, scale=1.0, generator=generator()) is batch
    assert resize(batch, scale=0.99, increment=40, generator=generator()) is batch


def test_bilinear_keeps_constants_means_and_memory_format() -> None:
    constant = torch.full((1, 2, 32, 32), 0.7)
    torch.testing.assert_close(resize((constant, torch.zeros(1)), scale=0.5, generator=generator())[0],
                               torch.full((1, 2, 16, 16), 0.7))  # fmt: skip
    # Antialiased: a checkerboard turns grey; picking every second pixel would give all black or all white.
    board = ((torch.arange(32)[:, None] + torch.arange(32)) % 2).float().expand(1, 1, 32, 32)
    grey = resize((board, torch.zeros(1)), scale=0.5, generator=generator())[0]
    assert float((grey[..., 2:-2, 2:-2] - 0.5).abs().max()) < 0.05
    wide = torch.rand(2, 4, 16, 16).contiguous(memory_format=torch.channels_last)
    out = resize((wide, torch.zeros(2)), scale=0.5, generator=generator())[0]
    assert out.is_contiguous(memory_format=torch.channels_last)
    half = resize((wide.bfloat16(), torch.zeros(2)), scale=0.5, generator=generator())[0]
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), out, atol=0.01, rtol=0)


def test_crops_are_windows_drawn_from_the_generator() -> None:
    x = torch.arange(64).view(1, 1, 8, 8).to(torch.uint8)
    corners = set()
    for seed in range(200):
        out = resize((x, torch.zeros(1)), scale=0.5, mode="crop", generator=generator(seed))[0]
        top, left = divmod(int(out[0, 0, 0, 0]), 8)
        assert torch.equal(out, x[:, :, top : top + 4, left : left + 4])
        corners.add((top, left))
    assert corners == {(top, left) for top in range(5) for left in range(5)}


def test_dicts_and_mixed_targets() -> None:
    batch = mixup({"pixel_values": torch.rand(2, 3, 16, 16), "labels": torch.arange(2)}, generator=generator())
    out = resize(batch, scale=0.5, generator=generator())
    assert out["pixel_values"].shape == (2, 3, 8, 8)
    assert out["labels"] is batch["labels"]


def test_golden_values_of_the_schedule() -> None:
    s = resizing_schedule()
    assert [s(p, 1.0) for p in (0.0, 0.5, 0.65, 0.8, 1.0)] == pytest.approx([0.5, 0.5, 0.75, 1.0, 1.0])
    np.testing.assert_allclose(s(np.array([0, 65, 100]), 100), [0.5, 0.75, 1.0])
    assert isinstance(s(65, 100), float)
    step = resizing_schedule(0.25, 0.6, 0.4)
    assert [step(p, 10) for p in (5, 6)] == [0.25, 1.0]


@given(scale=st.floats(0.01, 1), delay=st.floats(0, 1), share=st.floats(0, 1))
def test_the_schedule_rises_from_its_start_to_1(scale: float, delay: float, share: float) -> None:
    s = resizing_schedule(scale, delay, (1 - delay) * share)
    values = s(np.linspace(0, 1, 50), 1.0)
    assert bool((np.diff(values) >= -1e-12).all())
    assert values[-1] == pytest.approx(1.0)
    assert delay == 0 or values[0] == pytest.approx(scale)


def test_the_schedule_is_a_value_of_the_clock() -> None:
    s = resizing_schedule()
    assert pickle.loads(pickle.dumps(s)) == s == ResizingSchedule()
    assert isinstance(s, Schedule)
    assert s.body is s
    assert not s.anytime
    assert Scheduled(s, "progress").at(Tick(165, 100, 200)) == pytest.approx(0.75)
    assert Scheduled(s, "step").at(Tick(165, 100, 200)) == pytest.approx(0.75)


def test_bad_input_is_refused() -> None:
    batch = (torch.rand(2, 3, 8, 8), torch.arange(2))
    for scale, text in ((0.0, "scale > 0"), (1.5, r"scale in \[0, 1\], got 1\.5"), (-1.0, r"scale in \[0, 1\]")):
        with pytest.raises(ValueError, match=text):
            resize(batch, scale=scale, generator=generator())
    with pytest.raises(ValueError, match=r"mode among 'bilinear', 'crop', got 'bilinea'\. Did you mean bilinear"):
        resize(batch, scale=0.5, mode="bilinea", generator=generator())
    with pytest.raises(ValueError, match="at least 1 for increment, got 0"):
        resize(batch, scale=0.5, increment=0, generator=generator())
    with pytest.raises(TypeError, match=r"dtype torch\.uint8\. Scale images.*mode='crop'"):
        resize((torch.zeros(2, 3, 8, 8, dtype=torch.uint8), None), scale=0.5, generator=generator())
    with pytest.raises(ValueError, match="resize is for images"):
        resize((torch.zeros(2, 3), None), scale=0.5, generator=generator())
    with pytest.raises(ValueError, match="T, the length of the run, got None"):
        resizing_schedule()(1)
    with pytest.raises(ValueError, match=r"delay_fraction \+ finetune_fraction <= 1, got 1\.2"):
        resizing_schedule(0.5, 0.7, 0.5)
    with pytest.raises(ValueError, match="initial_scale > 0"):
        resizing_schedule(0.0)
