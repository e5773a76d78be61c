from __future__ import annotations

import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.losses import reference
from torch.nn.functional import mse_loss, one_hot

from hasten._core.batch import MixedTargets, get_targets
from hasten.losses import Interpolated, interpolated


@given(batch=st.integers(1, 9), classes=st.integers(2, 9), seed=st.integers(0, 999))
def test_equals_dense_targets(batch: int, classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, classes, generator=generator)
    first, second = torch.randint(0, classes, (2, batch), generator=generator)
    weight = torch.rand(batch, generator=generator)
    ours = interpolated(reference.per_sample_cross_entropy)(logits, (None, MixedTargets(first, second, weight)))
    dense = (1 - weight)[:, None] * one_hot(first, classes) + weight[:, None] * one_hot(second, classes)
    torch.testing.assert_close(ours.double(), reference.dense_cross_entropy(logits, dense), rtol=1e-6, atol=1e-6)


def test_ordinary_targets_pass_through() -> None:
    logits, targets = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    loss = reference.per_sample_cross_entropy
    assert torch.equal(interpolated(loss)(logits, (None, targets)), loss(logits, (None, targets)))


def test_weights_at_the_ends_and_other_losses() -> None:
    def squared(outputs: torch.Tensor, batch: object) -> torch.Tensor:
        return mse_loss(outputs, get_targets(batch), reduction="none").mean(1)

    outputs, first, second = torch.randn(3, 2, 5).unbind(0)
    for weight, targets in ((0.0, first), (1.0, second)):
        batch = {"inputs": outputs, "labels": MixedTargets(first, second, torch.full((2,), weight))}
        torch.testing.assert_close(interpolated(squared)(outputs, batch), squared(outputs, (None, targets)))


def test_pickles_compiles_and_has_the_gradient_of_dense_targets() -> None:
    wrapped = interpolated(reference.per_sample_cross_entropy)
    assert pickle.loads(pickle.dumps(wrapped)) == wrapped == Interpolated(reference.per_sample_cross_entropy)
    batch = (None, MixedTargets(torch.tensor([0, 1]), torch.tensor([2, 2]), torch.tensor([0.25, 0.5])))
    logits = torch.zeros(2, 3, requires_grad=True)
    torch.compile(wrapped, backend="aot_eager", fullgraph=True)(logits, batch).sum().backward()
    dense = torch.tensor([[0.75, 0, 0.25], [0, 0.5, 0.5]])
    torch.testing.assert_close(logits.grad, 1 / 3 - dense)


def test_bad_input_is_refused() -> None:
    logits, classes = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    batch = (None, MixedTargets(classes, classes, torch.zeros(4)))
    with pytest.raises(ValueError, match="interpolated: expected a loss that returns one value per sample"):
        interpolated(lambda outputs, batch: outputs.sum())(logits, batch)
    with pytest.raises(TypeError, match="a loss that returns a tensor, got 1.0"):
        interpolated(lambda outputs, batch: 1.0)(logits, batch)
    short = (None, MixedTargets(classes, classes, torch.zeros(1)))
    with pytest.raises(ValueError, match=r"a mixing weight per sample, shape \(4,\), got Tensor of shape \(1,\)"):
        interpolated(reference.per_sample_cross_entropy)(logits, short)
