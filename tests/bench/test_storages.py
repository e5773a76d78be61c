"""Bytes against sums by hand: every storage once, at the fullest moment."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hasten.bench.memory import Part
from hasten.bench.storages import (
    SavedTensors,
    module_bytes,
    optimizer_bytes,
    saved_bytes,
    storage_bytes,
    tensors_in,
)
from hasten.optim import SAM

# Storages -------------------------------------------------------------------------------------------------------------


def test_a_storage_counts_once_and_whole() -> None:
    x = torch.zeros(10, 4)
    assert storage_bytes([x]) == 160
    assert storage_bytes([x, x.t(), x[3], x.view(-1), x.detach()]) == 160
    assert storage_bytes([x[3]]) == 160  # a view keeps all of it
    assert storage_bytes([x, x.clone(), x.half()]) == 160 + 160 + 80
    assert storage_bytes([x, x.half()], ignore=[x[0]]) == 80
    assert storage_bytes([]) == storage_bytes([torch.zeros(0)]) == 0


def test_tensors_of_other_kinds() -> None:
    from torch.testing._internal.two_tensor import TwoTensor

    dense = torch.eye(3)
    assert storage_bytes([dense.to_sparse()]) == 3 * (2 * 8 + 4)  # two indices and a value for each
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch: "in beta state"
        starts, places, values = torch.arange(4), torch.arange(3), torch.ones(3)
        compressed = [
            torch.sparse_csr_tensor(starts, places, values, (3, 3)),
            torch.sparse_csc_tensor(starts, places, values, (3, 3)),
        ]
    assert [storage_bytes([x]) for x in compressed] == [(4 + 3) * 8 + 3 * 4] * 2
    assert storage_bytes([TwoTensor(dense, dense.clone())]) == 2 * 36
    with torch.device("meta"):
        weights = [torch.empty(1 << 20, 1 << 20) for _ in range(2)]
    assert storage_bytes([*weights, weights[0].t()]) == 2 * 4 << 40  # what it would be


def test_tensors_are_found_in_plain_data() -> None:
    a, b = torch.zeros(1), torch.zeros(2)
    part = Part("x", 1, True, "")
    assert list(tensors_in({"a": [a, {"b": (b, "text", 3)}], "c": None, "d": part})) == [a, b]
    assert list(tensors_in([{a}, Part])) == [a]


# Modules and optimizers -----------------------------------------------------------------------------------------------


class Tied(nn.Module):
    """A language model's first and last layer with one weight, and a buffer that is a part of it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(10, 4), nn.Linear(4, 10, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("first", self.embed.weight.detach()[0])

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embed(x))


def test_tied_weights_count_once() -> None:
    net = Tied()
    assert module_bytes(net) == {"parameters": 160, "buffers": 0, "gradients": 0}
    net(torch.arange(3)).sum().backward()
    assert module_bytes(net)["gradients"] == 160
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    optimizer.step()
    assert optimizer_bytes(optimizer) == 160


def test_buffers_and_frozen_weights() -> None:
    net = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5))
    net[0].requires_grad_(False)
    net(torch.randn(4, 3)).sum().backward()
    assert module_bytes(net) == {
        "parameters": 4 * (20 + 10),
        "buffers": 4 * 10 + 8,  # two statistics, and the number of batches
        "gradients": 4 * 10,
    }


def after_a_step(kind: Any, **arguments: Any) -> tuple[int, int]:
    """Bytes of the state of an optimizer of one layer, 20 weights in two tensors, before and after its first step."""
    layer = nn.Linear(4, 4)
    optimizer = kind(layer.parameters(), **arguments)
    before = optimizer_bytes(optimizer)
    layer(torch.randn(2, 4)).sum().backward()
    optimizer.step()
    return before, optimizer_bytes(optimizer)


@pytest.mark.parametrize(
    ("kind", "arguments", "size"),
    [
        (torch.optim.SGD, {"lr": 0.1}, 0),
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}, 4 * 20),
        (torch.optim.AdamW, {"lr": 0.1}, 8 * 20 + 2 * 4),  # two moments, and a count of steps for each tensor
        (torch.optim.AdamW, {"lr": 0.1, "foreach": True}, 8 * 20 + 2 * 4),
        (torch.optim.AdamW, {"lr": 0.1, "amsgrad": True}, 12 * 20 + 2 * 4),
        (torch.optim.RMSprop, {"lr": 0.1}, 4 * 20 + 2 * 4),
    ],
)
def test_the_state_of_optimizers_by_hand(kind: Any, arguments: dict[str, Any], size: int) -> None:
    assert after_a_step(kind, **arguments) == (0, size)


def test_a_learning_rate_in_a_tensor_is_state_too() -> None:
    assert after_a_step(torch.optim.SGD, lr=torch.tensor(0.1)) == (4, 4)


def test_a_wrapper_shows_the_state_of_its_base_and_weights_in_a_state_are_not_counted_again() -> None:
    layer = nn.Linear(4, 4)
    base = torch.optim.SGD(layer.parameters(), lr=0.1)
    assert optimizer_bytes(SAM(base)) == 0
    base.state[layer.weight] = {"master": layer.weight.detach(), "inner": {"sum": torch.zeros(5)}, "name": "x"}
    assert optimizer_bytes(SAM(base)) == optimizer_bytes(base) == 20


# What autograd keeps --------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 9), min_size=2, max_size=6), st.integers(1, 8))
def test_a_chain_of_layers_keeps_what_each_of_them_was_given(widths: list[int], batch: int) -> None:
    net = nn.Sequential(*(nn.Linear(i, o) for i, o in itertools.pairwise(widths)))
    x = torch.ones(batch, widths[0])
    watch = SavedTensors([*net.parameters(), x])
    with watch.watching():
        y = net(x)
    kept = 4 * batch * sum(widths[1:-1])
    assert watch.bytes == watch.peak == kept
    y.sum().backward()
    assert (watch.bytes, watch.peak) == (0, kept)


def test_what_was_given_counts_unless_it_is_ignored() -> None:
    net, x = nn.Linear(3, 2), torch.ones(4, 3)
    assert saved_bytes(lambda: net(x), ignore=net.parameters()) == 4 * 12
    assert saved_bytes(lambda: net(x), ignore=[*net.parameters(), x[0]]) == 0


def test_the_fullest_moment_and_not_the_sum_of_passes() -> None:
    net, x = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)), torch.ones(8, 3)

    def passes(*sizes: int) -> None:
        for size in sizes:
            net(x[:size]).sum().backward()

    ignore = [*net.parameters(), x]
    assert saved_bytes(lambda: passes(8), ignore=ignore) == 4 * 8 * 5
    assert saved_bytes(lambda: passes(2, 4, 2), ignore=ignore) == 4 * 4 * 5
    assert saved_bytes(lambda: [net(x), net(x)], ignore=ignore) == 2 * 4 * 8 * 5  # both graphs are alive
    with torch.no_grad():
        assert saved_bytes(lambda: net(x), ignore=ignore) == 0


def test_activation_checkpointing_keeps_the_ends_only() -> None:
    inner = nn.Sequential(*(nn.Sequential(nn.Linear(5, 5), nn.Tanh()) for _ in range(4)))
    x = torch.ones(8, 5)
    ignore = [*inner.parameters(), x]
    assert saved_bytes(lambda: inner(x), ignore=ignore) == 4 * 4 * 8 * 5
    chain = saved_bytes(lambda: checkpoint(inner, 2 * x.requires_grad_(), use_reentrant=False), ignore=ignore)
    assert chain == 4 * 8 * 5


def test_watching_changes_no_gradient() -> None:
    net, x = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)), torch.randn(4, 3)
    net(x).square().sum().backward()
    plain = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    net.zero_grad()
    with SavedTensors().watching():
        net(x).square().sum().backward()
    assert all(torch.equal(a, p.grad) for a, p in zip(plain, net.parameters(), strict=True))


def test_compiled_graphs_are_seen_too() -> None:
    net, x = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)), torch.ones(4, 3)
    compiled = torch.compile(net, backend="aot_eager")
    compiled(x)
    assert saved_bytes(lambda: compiled(x), ignore=[*net.parameters(), x]) == 4 * 4 * 5
