"""Counted FLOPs against sums by hand; one count per kind of pass, off a copy that leaves no trace."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hasten.bench.flops import FlopCounter
from hasten.surgery import StochasticDepth, freeze_layers


def loss(outputs: Tensor, batch: Any) -> Tensor:
    return outputs.square().mean(1)


def model() -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.branch = StochasticDepth(nn.Linear(5, 5), 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


def batch(size: int = 4) -> tuple[Tensor, Tensor]:
    return torch.randn(size, 5), torch.zeros(size)


def count(counter: FlopCounter, of: Any, *, backward: bool) -> float:
    return counter.count(counter.key(of, backward=backward), of, loss, backward=backward)


def test_a_pass_by_hand() -> None:
    """A matrix product of (b, i) and (i, o) takes 2 b i o; backward, one for the weight and one for a moving input."""
    counter, b = FlopCounter(model()), batch()
    forward = 2 * 4 * (5 * 7 + 7 * 3)
    assert count(counter, b, backward=False) == forward
    assert count(counter, b, backward=True) == forward + 2 * 4 * (5 * 7 + 2 * 7 * 3)


def test_frozen_layers_have_no_backward() -> None:
    net = model()
    counter, b = FlopCounter(net), batch()
    whole = count(counter, b, backward=True)
    freeze_layers(net, 1)
    assert count(counter, b, backward=True) == whole - 2 * 4 * (5 * 7 + 7 * 3)  # neither weight, nor the way to it
    net.requires_grad_(False)
    assert count(counter, b, backward=True) == count(counter, b, backward=False)


def test_the_count_follows_shape_and_branches_and_is_made_once_for_each() -> None:
    net = nn.Sequential(nn.Linear(5, 5), Branching())
    branch = net[1].branch
    counter = FlopCounter(net)
    branch.set_mask(torch.tensor(True))
    kept = count(counter, batch(), backward=True)
    branch.set_mask(torch.tensor(False))
    assert count(counter, batch(), backward=True) < kept
    assert count(counter, batch(8), backward=False) == 2 * count(counter, batch(4), backward=False)
    assert len(counter.known) == 4
    counter.model = None  # type: ignore[assignment]  # from here on every answer must come from memory
    assert count(counter, batch(), backward=True) < kept


def test_a_compiled_graph_computes_every_branch() -> None:
    net = nn.Sequential(nn.Linear(5, 5), Branching())
    branch = net[1].branch
    eager, compiled = FlopCounter(net), FlopCounter(net, compiled=True)
    branch.set_mask(torch.tensor(False))
    dropped = count(eager, batch(), backward=True)
    every = count(compiled, batch(), backward=True)
    assert every == dropped + 2 * 4 * (5 * 5) * 3  # the branch: forward, its weight, its moving input
    assert branch.kept is False  # the copy was changed, not the layer
    branch.set_mask(torch.tensor(True))
    assert count(compiled, batch(), backward=True) == count(eager, batch(), backward=True) == every
    assert (len(compiled.known), len(eager.known)) == (1, 2)


def test_a_compiled_run_is_charged_for_dropped_branches() -> None:
    from tests.contract import battery

    program = battery.IMAGES.program.then(battery.SMALL["stochastic_depth"])
    plain = battery.run(battery.IMAGES.program).points[-1].flops
    assert battery.run(program).points[-1].flops < plain
    assert battery.run(program.replace(compile="eager")).points[-1].flops == plain


def test_a_dict_and_a_tuple_are_counted_alike() -> None:
    counter, (x, y) = FlopCounter(model()), batch()
    assert counter.key((x, y), backward=True) == counter.key({"x": x, "y": y}, backward=True)


def test_counting_leaves_no_trace() -> None:
    net = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Dropout(0.5))
    net(torch.randn(4, 5)).sum().backward()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    grads = [p.grad for p in net.parameters()]
    copies = [grad.clone() for grad in grads if grad is not None]
    given, state = batch(), torch.get_rng_state()
    count(FlopCounter(net), given, backward=True)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    for p, grad, copy in zip(net.parameters(), grads, copies, strict=True):
        assert p.grad is grad
        assert torch.equal(grad, copy)
    assert torch.equal(torch.get_rng_state(), state)


def test_inputs_that_are_no_tensor_share_one_key() -> None:
    assert FlopCounter(model()).key((["a"], torch.zeros(1)), backward=True)[0] == ()
    with pytest.raises(TypeError):
        FlopCounter(model()).key("no batch", backward=True)
