from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from hasten.bench.models import SmallCNN
from hasten.bench.workloads import metrics
from hasten.bench.workloads.metrics import accuracy, bits_per_token, evaluation_mode


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(count=st.integers(1, 60), classes=st.integers(2, 6), chunk=st.integers(1, 70), seed=st.integers(0, 99))
def test_accuracy_equals_sklearn_for_any_chunk(count, classes, chunk, seed):
    from sklearn.metrics import accuracy_score

    logits = random(count, classes, seed=seed)
    targets = torch.randint(0, classes, (count,), generator=torch.Generator().manual_seed(seed))
    expected = accuracy_score(targets.numpy(), logits.numpy().argmax(1))
    assert accuracy(nn.Identity(), logits, targets, chunk=chunk) == pytest.approx(expected, abs=1e-15)


@given(sequences=st.integers(1, 9), time=st.integers(1, 7), chunk=st.integers(1, 12), seed=st.integers(0, 99))
def test_bits_per_token_by_hand_for_any_chunk(sequences, time, chunk, seed):
    table = random(5, 5, seed=seed)  # logits of the next token, given this one
    generator = torch.Generator().manual_seed(seed)
    inputs, targets = torch.randint(0, 5, (2, sequences, time), generator=generator)
    logits = table.double().numpy()[inputs.numpy()]
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -np.take_along_axis(logs, targets.numpy()[..., None], axis=-1).mean() / math.log(2)
    assert bits_per_token(lambda x: table[x], inputs, targets, chunk=chunk) == pytest.approx(expected, rel=1e-6)


def test_guessing_costs_the_logarithm_of_the_vocabulary():
    tokens = torch.zeros(3, 4, dtype=torch.long)
    assert bits_per_token(lambda x: torch.zeros(*x.shape, 256), tokens, tokens) == pytest.approx(8.0)


def test_evaluates_in_evaluation_mode_without_gradients_and_restores_every_flag():
    torch.manual_seed(0)
    model = SmallCNN(widths=(4, 4), strides=(1, 2))
    frozen = model.features[1].eval()  # a batch norm that its owner keeps in evaluation mode while training
    seen: list[tuple[bool, bool]] = []
    model.register_forward_hook(lambda module, _, output: seen.append((module.training, output.requires_grad)))
    statistics = model.features[4].running_mean.clone()
    accuracy(model, random(10, 1, 8, 8), torch.zeros(10, dtype=torch.long), chunk=4)
    assert seen == [(False, False)] * 3
    assert torch.equal(model.features[4].running_mean, statistics)
    assert model.training
    assert model.features[4].training
    assert not frozen.training
    assert torch.is_grad_enabled()


def test_flags_come_back_after_an_error():
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("broken")

    model = Broken()
    with pytest.raises(RuntimeError, match="broken"):
        accuracy(model, random(2, 3), torch.zeros(2, dtype=torch.long))
    assert model.training
    with evaluation_mode(model):
        assert not model.training
    assert model.training


def test_chunks_are_consecutive_slices():
    seen: list[int] = []

    def model(x: Tensor) -> Tensor:
        seen.extend(x[:, 0].int().tolist())
        return x

    inputs = torch.arange(7.0)[:, None].repeat(1, 2)
    accuracy(model, inputs, torch.zeros(7, dtype=torch.long), chunk=3)
    assert seen == list(range(7))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_broken_model_has_no_score(bad):
    logits = random(5, 3)
    logits[2, 1] = bad
    assert math.isnan(accuracy(nn.Identity(), logits, torch.zeros(5, dtype=torch.long), chunk=2))
    tokens = torch.ones(1, 5, dtype=torch.long)
    assert math.isnan(bits_per_token(lambda x: torch.full((*x.shape, 3), math.nan), tokens, tokens))


def test_low_precision_outputs_are_scored_in_float32():
    logits, targets = torch.tensor([[1.0, 1.5], [2.0, 1.0]]), torch.tensor([1, 1])
    assert accuracy(lambda x: x.bfloat16(), logits, targets) == 0.5


def test_refuses_what_is_no_test_set():
    targets = torch.zeros(3, dtype=torch.long)
    with pytest.raises(ValueError, match="accuracy: expected as many targets as inputs, at least one, got 2 and 3"):
        accuracy(nn.Identity(), random(2, 3), targets)
    with pytest.raises(ValueError, match="accuracy: expected as many targets as inputs, at least one, got 0 and 0"):
        accuracy(nn.Identity(), random(0, 3), targets[:0])
    with pytest.raises(ValueError, match="accuracy: expected chunk of at least 1, got 0"):
        accuracy(nn.Identity(), random(3, 3), targets, chunk=0)


def test_examples():
    assert doctest.testmod(metrics).failed == 0
