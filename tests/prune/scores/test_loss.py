from __future__ import annotations

import pytest
import torch
from tests.prune import reference
from torch import nn
from torch.nn import functional as F

from hasten._core.checks import NonFiniteError
from hasten.prune.scores import gradients, grasp, movement, saliency
from hasten.prune.scores.data import Data


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()


def batches(*sizes: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    g = torch.Generator().manual_seed(1)
    return [(torch.randn(n, 4, generator=g).double(), torch.randint(0, 3, (n,), generator=g)) for n in sizes]


def named(model: nn.Module) -> dict[str, nn.Parameter]:
    return dict(model.named_parameters())


def test_hand_case() -> None:
    w, g = torch.tensor([2.0, -1.0, 3.0]), torch.tensor([1.0, 1.0, -1.0])
    assert saliency(w, g).tolist() == [2, 1, 3]
    assert movement(w, g).tolist() == [-2, 1, 3], "kept are weights that a step makes larger"


@pytest.mark.parametrize("sizes", [(7,), (4, 4), (5, 3, 1)])
def test_gradients_are_of_the_mean_over_all_samples(sizes: tuple[int, ...]) -> None:
    model, parts = network(), batches(*sizes)
    found = gradients(model, named(model), Data(parts))
    for mean, expected in zip(found.values(), reference.gradient(model, parts, F.cross_entropy), strict=True):
        torch.testing.assert_close(mean, expected)


def test_losses_per_sample_are_averaged() -> None:
    model, parts = network(), batches(6)
    each = gradients(model, named(model), Data(parts, lambda x, y: F.cross_entropy(x, y, reduction="none")))
    for one, other in zip(each.values(), gradients(model, named(model), Data(parts)).values(), strict=True):
        torch.testing.assert_close(one, other)


def test_gradients_of_half_weights_are_float32() -> None:
    model = network().bfloat16()
    ((x, y),) = batches(4)
    found = gradients(model, named(model), Data((x.bfloat16(), y)))
    assert {g.dtype for g in found.values()} == {torch.float32}


def test_what_the_loss_does_not_reach_has_no_gradient() -> None:
    model = nn.ModuleDict({"used": nn.Linear(2, 2), "unused": nn.Linear(2, 2)})
    model.forward = lambda x: model["used"](x)
    found = gradients(model, named(model), Data((torch.ones(3, 2), torch.zeros(3, dtype=torch.long))))
    assert not found["unused.weight"].any()
    assert found["used.weight"].any()


@pytest.mark.parametrize("sizes", [(8,), (5, 3)])
def test_grasp_is_the_change_of_the_norm_of_the_gradient(sizes: tuple[int, ...]) -> None:
    model, parts = network(), batches(*sizes)
    x, y = (torch.cat(part) for part in zip(*parts, strict=True))
    found = grasp(model, named(model), Data(parts))
    for score, expected in zip(found.values(), reference.grasp(model, x, y), strict=True):
        torch.testing.assert_close(score, expected, rtol=1e-5, atol=1e-9)


def test_grasp_keeps_what_the_flow_of_gradients_needs() -> None:
    """To first order, removing w changes |g|^2 by -2 w (H g): high scores are costly to remove."""
    model, ((x, y),) = network(), batches(8)
    found = grasp(model, named(model), Data((x, y)))
    values = [p.detach().clone() for p in model.parameters()]
    before, share = reference.squared_norm_of_gradient(model, values, x, y), 1e-4
    best = found["0.weight"].argmax()
    values[0].view(-1)[best] *= 1 - share  # a part of the way to 0
    after = reference.squared_norm_of_gradient(model, values, x, y)
    assert after < before
    assert (after - before) / share == pytest.approx(-2 * found["0.weight"].max().item(), rel=1e-2)


def test_grasp_divides_logits() -> None:
    model, parts = network(), batches(8)
    hot = grasp(model, named(model), Data(parts), temperature=200.0)
    loss = Data(parts, lambda outputs, y: F.cross_entropy(outputs / 200, y))
    for one, other in zip(hot.values(), grasp(model, named(model), loss).values(), strict=True):
        torch.testing.assert_close(one, other)


def test_grasp_through_attention() -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.5)
    data = Data((torch.randn(2, 3, 8), torch.randn(2, 3, 8)), nn.functional.mse_loss)
    assert all(score.abs().sum() > 0 for name, score in grasp(model, named(model), data).items() if "weight" in name)


def test_a_linear_loss_has_no_curvature() -> None:
    model = nn.Linear(2, 1)
    found = grasp(model, named(model), Data((torch.ones(1, 2), torch.ones(1, 1)), lambda x, _: x.sum()))
    assert not any(score.any() for score in found.values())


def test_bad_losses_are_refused() -> None:
    model, (batch,) = network(), batches(4)
    for loss, error, text in [
        (lambda x, _: x.detach().mean(), TypeError, "a loss with a gradient"),
        (lambda x, _: 1.0, TypeError, "a loss with a gradient"),
        (lambda x, _: x.sum() * float("nan"), NonFiniteError, "a finite loss"),
        (lambda x, _: (x - x).abs().sqrt().mean(), NonFiniteError, "in that of 0.weight"),
    ]:
        with pytest.raises(error, match=text):
            gradients(model, named(model), Data(batch, loss))
    with pytest.raises(TypeError, match="batches with targets"):
        gradients(model, named(model), Data(batch[0]))
    with pytest.raises(ValueError, match="at least one batch, got none"):
        gradients(model, named(model), Data([]))
    with pytest.raises(ValueError, match="temperature > 0"):
        grasp(model, named(model), Data(batch), temperature=0.0)
