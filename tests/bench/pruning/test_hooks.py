"""The best epoch is kept by the held-out part alone, and masks are held."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import TensorDataset

from hasten._core.clock import Tick
from hasten.bench.ledger import Ledger
from hasten.bench.pruning.hooks import HoldMasks, KeepBest, mean_loss
from hasten.bench.run import NonFiniteError
from hasten.prune.masks import apply


class Stub:
    """As much of a run as the hooks look at."""

    def __init__(self, model: nn.Module, optimizer: object = None) -> None:
        self.model, self.optimizer, self.seed, self.device = model, optimizer, 0, torch.device("cpu")
        self.ledger, self.tick = Ledger(self.device), Tick(0, 0, 10, steps_per_epoch=3)

    def autocast(self) -> object:
        import contextlib

        return contextlib.nullcontext()


def weight(model: nn.Module, held_out: object) -> float:
    """A score that reads the weight, and what mode the model is in."""
    assert not model.training
    return model.weight.item()


def trained(hook: KeepBest, run: Stub, weights: list[float]) -> None:
    """One step per weight."""
    for step, value in enumerate(weights):
        run.tick = Tick(step, 0, len(weights), steps_per_epoch=3)
        run.model.weight.data.fill_(value)
        hook.after_step(run)


def keeper(*, minimize: bool = False, score=weight) -> tuple[KeepBest, Stub]:
    hook, run = KeepBest(lambda seed: torch.ones(2), score, minimize), Stub(nn.Linear(1, 1, bias=False))
    hook.setup(run)
    return hook, run


def test_it_looks_where_an_epoch_or_the_run_ends() -> None:
    looked = []
    hook, run = keeper(score=lambda model, held_out: looked.append(model.weight.item()) or 0.0)
    trained(hook, run, [0, 1, 2, 3, 4, 5, 6, 7])
    assert looked == [2, 5, 7]  # steps 3 and 6, and the end
    assert run.ledger.excluded["evaluation"] > 0


@pytest.mark.parametrize(("minimize", "best"), [(False, 7.0), (True, -1.0)])
def test_the_best_weights_are_handed_out_as_a_copy(minimize: bool, best: float) -> None:
    hook, run = keeper(minimize=minimize)
    trained(hook, run, [9, 9, 7, 9, 9, -1, 9, 3])
    found = hook.for_eval(run.model, run)
    assert found.weight.item() == best
    assert run.model.weight.item() == 3.0
    assert found is not run.model


def test_the_first_of_equals_is_kept_and_nothing_before_the_first_look() -> None:
    hook, run = keeper(score=lambda model, held_out: 1.0)
    assert hook.for_eval(run.model, run) is run.model
    trained(hook, run, [0, 1, 2, 3, 4, 5])
    assert hook.step == 3


def test_its_state_goes_on() -> None:
    hook, run = keeper()
    trained(hook, run, [9, 9, 7, 9, 9, 1])
    other, _ = keeper()
    other.load_state_dict(hook.state_dict())
    assert other.for_eval(run.model, run).weight.item() == 7.0
    assert (other.step, other.best) == (3, 7.0)


def test_a_score_that_is_no_number_fails_the_run() -> None:
    hook, run = keeper(score=lambda model, held_out: math.nan)
    with pytest.raises(NonFiniteError, match="the score of the held-out part became nan at step 1"):
        trained(hook, run, [1.0])


def test_masked_entries_stay_zero_under_momentum_and_weight_decay() -> None:
    torch.manual_seed(0)
    model = nn.Linear(4, 4)
    apply(model, {"weight": torch.eye(4, dtype=torch.bool)})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    HoldMasks().setup(Stub(model, optimizer))
    for _ in range(5):
        optimizer.zero_grad()
        model(torch.randn(8, 4)).square().sum().backward()
        optimizer.step()
    assert torch.equal(model.weight != 0, torch.eye(4, dtype=torch.bool))


def test_a_model_without_masks_is_left_alone() -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    HoldMasks().setup(Stub(model, optimizer))
    assert not optimizer._optimizer_step_pre_hooks


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_the_mean_loss_is_over_samples_whatever_the_last_batch(size: int) -> None:
    torch.manual_seed(0)
    model, inputs, targets = nn.Linear(3, 2), torch.randn(7, 3), torch.randint(0, 2, (7,))

    def loss(outputs: torch.Tensor, batch: tuple) -> torch.Tensor:
        return F.cross_entropy(outputs, batch[1], reduction="none")

    expected = loss(model(inputs), (inputs, targets)).mean().item()
    for data in ((inputs, targets), TensorDataset(inputs, targets)):
        assert mean_loss(model, data, loss=loss, size=size) == pytest.approx(expected, rel=1e-6)
