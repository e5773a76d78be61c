from __future__ import annotations

import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.losses import reference
from torch import Tensor
from torch.nn.functional import cross_entropy

from hasten._core.batch import MixedTargets
from hasten.losses import LabelSmoothing, interpolated, label_smoothing, smoothing_term


def draw(shape: tuple[int, ...], seed: int = 0, scale: float = 3.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape, generator=generator) * scale
    return logits, torch.randint(0, shape[-1], shape[:-1], generator=generator)


@given(batch=st.integers(1, 9), classes=st.integers(2, 12), s=st.floats(0, 1), seed=st.integers(0, 999))
def test_equals_torch_and_dense_targets(batch: int, classes: int, s: float, seed: int) -> None:
    logits, targets = draw((batch, classes), seed)
    ours = label_smoothing(reference.per_sample_cross_entropy, smoothing=s)(logits, (None, targets))
    torch.testing.assert_close(ours, cross_entropy(logits, targets, label_smoothing=s, reduction="none"),
                               rtol=1e-6, atol=2e-6)  # fmt: skip
    dense = reference.dense_cross_entropy(logits, reference.smoothed_one_hot(targets, classes, s))
    torch.testing.assert_close(ours.double(), dense, rtol=1e-6, atol=2e-6)


def test_middle_dimensions_are_averaged_and_ignored_positions_do_not_count() -> None:
    logits, targets = draw((3, 7, 5))
    targets[0, 2:], targets[1, :] = -100, -100
    ours = label_smoothing(reference.per_sequence_cross_entropy, smoothing=0.2)(logits, {"x": None, "y": targets})
    flat = cross_entropy(logits.transpose(1, 2), targets, label_smoothing=0.2, reduction="none")
    torch.testing.assert_close(ours, flat.sum(1) / (targets != -100).sum(1).clamp(min=1))
    assert ours[1] == 0
    torch.testing.assert_close(smoothing_term(logits), -logits.log_softmax(-1).mean((1, 2)))


def test_golden_values_and_bounds() -> None:
    assert smoothing_term(torch.zeros(2, 8)).tolist() == pytest.approx([math.log(8)] * 2)
    assert smoothing_term(torch.tensor([[math.log(3.0), 0.0]])).item() == pytest.approx(math.log(4) - math.log(3) / 2)
    logits, _ = draw((50, 6))
    assert bool((smoothing_term(logits) >= math.log(6)).all())


def test_gradient_equals_torch() -> None:
    logits, targets = draw((4, 6))
    one, two = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    label_smoothing(reference.per_sample_cross_entropy)(one, (None, targets)).sum().backward()
    cross_entropy(two, targets, label_smoothing=0.1, reduction="sum").backward()
    torch.testing.assert_close(one.grad, two.grad)


def test_composes_with_mixed_targets_in_either_order() -> None:
    logits, first = draw((6, 4))
    _, second = draw((6, 4), seed=1)
    weight = torch.linspace(0, 0.5, 6)
    batch = (None, MixedTargets(first, second, weight))
    loss = reference.per_sample_cross_entropy
    inner = interpolated(label_smoothing(loss, smoothing=0.3))(logits, batch)
    outer = label_smoothing(interpolated(loss), smoothing=0.3)(logits, batch)
    torch.testing.assert_close(inner, outer)
    one, two = (reference.smoothed_one_hot(targets, 4, 0.3) for targets in (first, second))
    dense = (1 - weight)[:, None] * one + weight[:, None] * two
    torch.testing.assert_close(inner.double(), reference.dense_cross_entropy(logits, dense), rtol=1e-6, atol=1e-6)


def test_zero_is_the_plain_loss_and_one_ignores_the_targets() -> None:
    logits, targets = draw((4, 6))
    loss = reference.per_sample_cross_entropy
    assert torch.equal(label_smoothing(loss, smoothing=0.0)(logits, (None, targets)), loss(logits, (None, targets)))
    torch.testing.assert_close(label_smoothing(loss, smoothing=1.0)(logits, (None, targets)), smoothing_term(logits))


def test_half_precision_is_computed_in_float32() -> None:
    logits, targets = draw((8, 1000), scale=1.0)
    term = smoothing_term(logits.bfloat16())
    assert term.dtype == torch.float32
    torch.testing.assert_close(term, smoothing_term(logits.bfloat16().float()))
    wrapped = label_smoothing(reference.per_sample_cross_entropy)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = torch.nn.functional.linear(torch.ones(2, 3), torch.ones(5, 3))
        assert wrapped(outputs, (None, torch.tensor([0, 1]))).dtype == torch.float32
    assert smoothing_term(logits.double()).dtype == torch.float64
    assert wrapped(logits[:1], (None, targets[:1])).shape == (1,)


def test_pickles_compiles_and_compares() -> None:
    logits, targets = draw((4, 6))
    wrapped = label_smoothing(reference.per_sample_cross_entropy, smoothing=0.2)
    assert pickle.loads(pickle.dumps(wrapped)) == wrapped == LabelSmoothing(reference.per_sample_cross_entropy, 0.2)
    compiled = torch.compile(wrapped, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(logits, (None, targets)), wrapped(logits, (None, targets)))


def test_bad_input_is_refused() -> None:
    logits, targets = draw((4, 6))
    loss = reference.per_sample_cross_entropy
    for smoothing in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="smoothing"):
            label_smoothing(loss, smoothing=smoothing)
    scalar = label_smoothing(lambda outputs, batch: loss(outputs, batch).mean())
    with pytest.raises(ValueError, match=r"shape \(batch,\), got Tensor of shape \(\).*reduction='none'"):
        scalar(logits, (None, targets))
    with pytest.raises(TypeError, match="floating-point logits, got"):
        smoothing_term({"logits": logits})
    with pytest.raises(ValueError, match=r"\(batch, \.\.\., classes >= 2\), got Tensor of shape \(4, 1\)"):
        smoothing_term(torch.zeros(4, 1))
    with pytest.raises(ValueError, match=r"shape \(4,\)"):
        smoothing_term(torch.zeros(4))
