from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.data import reference

from hasten._core.batch import MixedTargets
from hasten.data import mixup


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch_of(size: int, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(size, *shape, generator=generator(9)), torch.arange(size)


@given(
    size=st.integers(1, 7),
    alpha=st.sampled_from([0.0, 0.05, 0.2, 1.0, 8.0]),
    per_sample=st.booleans(),
    seed=st.integers(0, 9999),
)
def test_equals_the_slow_reference_with_weights_of_at_most_a_half(
    size: int, alpha: float, per_sample: bool, seed: int
) -> None:
    x, y = batch_of(size, 2, 5, 3)
    mixed, targets = mixup((x, y), alpha=alpha, per_sample=per_sample, generator=generator(seed))
    order = targets.second.tolist()
    assert sorted(order) == list(range(size))
    assert targets.first is y
    assert bool(((targets.weight >= 0) & (targets.weight <= 0.5)).all())
    assert per_sample or len(set(targets.weight.tolist())) == 1
    torch.testing.assert_close(mixed, reference.blend(x, order, targets.weight.tolist()))


def test_alpha_0_is_the_identity() -> None:
    x, y = batch_of(4, 3)
    mixed, targets = mixup((x, y), alpha=0, generator=generator())
    assert mixed is x
    assert targets.weight.tolist() == [0] * 4


def test_per_sample_draws_differ_and_alpha_1_is_uniform() -> None:
    x, y = batch_of(4000, 1)
    _, targets = mixup((x, y), alpha=1.0, per_sample=True, generator=generator())
    assert len(set(targets.weight.tolist())) > 3900
    # min(b, 1 - b) of a uniform b is uniform on [0, 1/2]: mean 1/4, sd 1/sqrt(48), 4 standard errors are 0.0092.
    assert float(targets.weight.mean()) == pytest.approx(0.25, abs=0.0092)


def test_deterministic_under_a_generator_and_the_input_is_untouched() -> None:
    x, y = batch_of(6, 4)
    kept, state = x.clone(), torch.get_rng_state()
    one, two = (mixup((x, y), generator=generator(5)) for _ in range(2))
    other = mixup((x, y), generator=generator(6))
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1].weight, two[1].weight)
    assert not torch.equal(one[0], other[0])
    assert torch.equal(x, kept)
    assert torch.equal(torch.get_rng_state(), state)


def test_dicts_keep_their_kind_and_other_entries() -> None:
    x, y = batch_of(3, 4)
    given_batch = {"x": x, "label": y, "name": ["a", "b", "c"]}
    mixed = mixup(given_batch, generator=generator())
    assert isinstance(mixed["label"], MixedTargets)
    assert mixed["name"] == ["a", "b", "c"]
    assert given_batch["label"] is y


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_are_kept_and_the_weight_is_the_one_used(dtype: torch.dtype) -> None:
    x = torch.tensor([[0.0], [1.0]], dtype=dtype)
    for seed in range(20):
        mixed, targets = mixup((x, torch.arange(2)), alpha=1.0, generator=generator(seed))
        assert mixed.dtype == dtype
        assert targets.weight.dtype == torch.promote_types(dtype, torch.float32)
        if targets.second.tolist() == [1, 0]:
            assert mixed[0].item() == targets.weight[0].item()


def test_channels_last_is_kept() -> None:
    x = torch.randn(3, 4, 5, 5).contiguous(memory_format=torch.channels_last)
    mixed, _ = mixup((x, torch.arange(3)), generator=generator())
    assert mixed.is_contiguous(memory_format=torch.channels_last)


def test_bad_input_is_refused() -> None:
    x, y = batch_of(3, 4)
    with pytest.raises(TypeError, match=r"floating-point inputs, got Tensor of.*int64\. .*tokens cannot be blended"):
        mixup((torch.zeros(3, 4, dtype=torch.long), y), generator=generator())
    with pytest.raises(TypeError, match=r"dtype torch.uint8\. Scale images with x\.float\(\) / 255"):
        mixup((torch.zeros(3, 4, dtype=torch.uint8), y), generator=generator())
    with pytest.raises(ValueError, match="alpha >= 0, got -0.1"):
        mixup((x, y), alpha=-0.1, generator=generator())
    with pytest.raises(ValueError, match="not mixed yet"):
        mixup(mixup((x, y), generator=generator()), generator=generator())
    with pytest.raises(TypeError, match=r"torch\.Generator"):
        mixup((x, y), generator=None)
    with pytest.raises(ValueError, match=r"inputs of shape \(batch, \.\.\.\)"):
        mixup((torch.tensor(1.0), y), generator=generator())
