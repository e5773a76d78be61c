from __future__ import annotations

import pytest
import torch
from scipy import stats

from hasten._core.batch import MixedTargets
from hasten.data._draw import beta, generator_for, image_inputs, integer, mixed_with


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 4.0, 50.0])
def test_beta_follows_its_distribution(alpha: float) -> None:
    draws = beta("test", alpha, 4000, generator())
    assert draws.dtype == torch.float64
    # A Kolmogorov-Smirnov test at a fixed seed; for a small alpha only away from the ends, where ties of 0 and 1 are.
    inner = draws[(draws > 1e-9) & (draws < 1 - 1e-9)].numpy()
    low, high = stats.beta.cdf([1e-9, 1 - 1e-9], alpha, alpha)
    assert stats.kstest((stats.beta.cdf(inner, alpha, alpha) - low) / (high - low), "uniform").pvalue > 0.01


@pytest.mark.parametrize("alpha", [1e-3, 1e-8, 1e-300])
def test_beta_of_a_tiny_alpha_is_a_coin_and_never_a_half_or_nan(alpha: float) -> None:
    draws = beta("test", alpha, 2000, generator())
    at_the_ends = (draws < 1e-6) | (draws > 1 - 1e-6)
    assert float(at_the_ends.double().mean()) > 0.97
    assert 0.4 < float(draws.mean()) < 0.6


def test_beta_of_zero_is_zero_and_bad_values_are_refused() -> None:
    assert beta("test", 0, 3, generator()).tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match=r"test: expected alpha >= 0, got -1"):
        beta("test", -1, 1, generator())
    with pytest.raises(ValueError, match="a finite number for alpha, got nan"):
        beta("test", float("nan"), 1, generator())


def test_integers_include_both_ends() -> None:
    assert set(integer(2, 4, 100, generator()).tolist()) == {2, 3, 4}


def test_checks() -> None:
    with pytest.raises(TypeError, match=r"call: expected a torch\.Generator, got None\. Pass generator="):
        generator_for("call", None)
    with pytest.raises(ValueError, match=r"\(batch, channels, height, width\), got Tensor of shape \(2, 3\)"):
        image_inputs("call", (torch.zeros(2, 3), torch.zeros(2)))


def test_targets_of_any_structure_are_mixed() -> None:
    order, weight = torch.tensor([1, 0]), torch.zeros(2)
    boxes, classes = torch.arange(8.0).view(2, 4), torch.tensor([3, 4])
    mixed = mixed_with("call", (None, {"boxes": boxes, "classes": classes}), order, weight)
    assert mixed.second["classes"].tolist() == [4, 3]
    assert torch.equal(mixed.second["boxes"], boxes.flip(0))
    assert mixed.first["classes"] is classes
    with pytest.raises(ValueError, match="targets that are not mixed yet"):
        mixed_with("call", (None, MixedTargets(classes, classes, weight)), order, weight)
    with pytest.raises(ValueError, match=r"targets of shape \(batch = 2, \.\.\.\), got Tensor of shape \(3,\)"):
        mixed_with("call", (None, torch.zeros(3)), order, weight)
    with pytest.raises(ValueError, match="one target per sample, as a tensor"):
        mixed_with("call", (None, [3, 4]), order, weight)
