"""What operations do to channels: small models, of which places are zeroed, cut and compared on other inputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from tests.prune.structure.test_materialize import assert_same, zero_rows
from tests.prune.structure.zoo import ZOO, images, make, shaken
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from hasten.prune.structure import groups, materialize
from hasten.prune.structure.fields import _runs
from hasten.prune.structure.groups import _components


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ZOO)
def test_zeros_anywhere(name: str, seed: int) -> None:
    """Whatever is zero, what is removed was not needed: no run on the examples ever has to say so."""
    model, inputs = make(name)
    draw = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            for dim, size in enumerate(parameter.shape[:2]):
                places = draw.permutation(size)[: draw.integers(0, size // 2 + 1)]
                if draw.random() < 0.7:
                    parameter.index_fill_(dim, torch.from_numpy(places), 0)
    small, removed = materialize(model, inputs)
    assert "what passes views" not in removed.kept
    other = pytree.tree_map(lambda t: images(*t.shape, seed=9) if t.is_floating_point() else t.flip(0), inputs)
    assert_same(small, model, other)


class Between(nn.Module):
    """A layer, something, and a layer that reads it."""

    def __init__(self, act: Callable[[Tensor], Tensor], first: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.act, self.first, self.last = act, first, last

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.act(self.first(x)))


STAY_ZERO = {
    "relu": F.relu, "hardswish": F.hardswish, "mish": F.mish, "softsign": F.softsign, "abs": torch.abs,
    "scaled": lambda x: 3 * x / 2, "clamped": lambda x: x.clamp(-1, 1), "itself": lambda x: x + x * x.sigmoid(),
    "in place": lambda x: x.clone().relu_().mul_(2), "divided": lambda x: x / (1 + x.abs()),
    "masked": lambda x: x * (torch.arange(5) < 3)[:, None], "turned": lambda x: x.transpose(0, 1).transpose(0, 1),
    "flattened": lambda x: x.flatten(0, 1).unflatten(0, (-1, 5)), "stacked": lambda x: torch.stack([x, x]).sum(0),
    "joined": lambda x: torch.cat([x, x.tanh()], 1), "selected": lambda x: x[:, 2], "sliced": lambda x: x[:, 1:4],
    "looked up": lambda x: x[:, torch.tensor([3, 1])], "rolled": lambda x: x.roll(1, 1).flip(0),
    "sum": lambda x: x.sum(1), "mean": lambda x: x.mean(1), "largest": lambda x: x.amax(1, keepdim=True),
    "best": lambda x: x.topk(2, 1).values,
    "repeated": lambda x: x.repeat(1, 2, 1), "spread": lambda x: x[:, :, None].expand(-1, -1, 3, -1).flatten(1, 2),
    "padded": lambda x: F.pad(x, (0, 0, 1, 1)), "running": lambda x: x.cumsum(1), "even": lambda x: x.chunk(5, 1)[2],
    "half": lambda x: x.half().float(), "like": lambda x: x + torch.zeros_like(x),
    "square": lambda x: x.view(x.shape) ** 2,
}  # fmt: skip


@pytest.mark.parametrize("name", STAY_ZERO)
def test_zero_stays_zero(name: str) -> None:
    net = shaken(Between(STAY_ZERO[name], nn.Linear(3, 6), nn.Linear(6, 2)))
    zero_rows(net.first)
    small, removed = materialize(net, images(2, 5, 3))
    assert removed.groups == {"first.weight, dimension 0": (6, 4)}
    assert_same(small, net, images(4, 5, 3, seed=7))


MOVE_ZERO = {
    "sigmoid": torch.sigmoid, "exp": torch.exp, "one more": lambda x: x + 1, "to the 0": lambda x: x**0,
    "at least": lambda x: x.clamp(min=0.5), "is 0": lambda x: (x == 0).float(),
    "padded": lambda x: F.pad(x, (0, 0, 1, 1), value=1.0),
    "filled": lambda x: x.masked_fill(x < 1, 2.0), "chosen": lambda x: torch.where(x > 1, x, 1.0),
    "softmax": lambda x: x.softmax(1), "with ones": lambda x: x * torch.ones_like(x) + torch.ones_like(x),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVE_ZERO)
def test_zero_moves(name: str) -> None:
    net = shaken(Between(MOVE_ZERO[name], nn.Linear(3, 6), nn.Linear(6, 2)))
    zero_rows(net.first)
    small, removed = materialize(net, images(2, 5, 3))
    assert removed.groups == {}
    with torch.no_grad():
        net.last.weight[:, :2] = 0  # nobody reads it, so it may go
    small, removed = materialize(net, images(2, 5, 3))
    assert removed.groups == {"first.weight, dimension 0": (6, 4)}
    assert_same(small, net, images(2, 5, 3, seed=7))


HOLD = {
    "mean": lambda x: x - x.mean(-1, keepdim=True), "softmax": lambda x: x.softmax(-1),
    "norm": lambda x: F.normalize(x, dim=-1),
    "largest": lambda x: x * x.amax(-1, keepdim=True), "one": lambda x: x * x[..., :1],
    "some": lambda x: x * x[..., 2:3],
    "constant": lambda x: x * torch.arange(6.0), "sorted": lambda x: x.sort(-1).values,
    "uneven": lambda x: torch.cat(x.split([2, 4], -1), -1),
    "looked up": lambda x: x[..., torch.arange(6)], "unknown": lambda x: torch.linalg.qr(x).R[..., :1, :] + x,
    "bits": lambda x: x.view(torch.int32).view(torch.float32), "unbound": lambda x: torch.stack(x.unbind(-1), -1),
}  # fmt: skip


@pytest.mark.parametrize("name", HOLD)
def test_what_looks_at_all_channels_holds_them(name: str) -> None:
    net, inputs = shaken(Between(HOLD[name], nn.Linear(3, 6), nn.Linear(6, 2))), images(2, 5, 3)
    assert [g for g in groups(net, inputs) if g.slices[0].name == "first.weight"] == []
    zero_rows(net.first)
    small, removed = materialize(net, inputs)
    assert removed.groups == {}
    assert any(key.startswith("first.weight, dimension 0: 2 of 6") for key in removed.kept)
    assert_same(small, net, images(2, 5, 3, seed=7))


def test_a_mean_that_is_thrown_away_holds_nothing() -> None:
    def act(x: Tensor) -> Tensor:
        x.mean(-1)
        return x

    assert len(groups(Between(act, nn.Linear(3, 6), nn.Linear(6, 2)), images(2, 5, 3))[0]) == 6


def test_zeros_that_are_padded_to_channels_stay() -> None:
    """The shortcut of the first ResNet: new channels are zeros."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x).relu()
            return self.c(F.pad(x, (0, 0, 0, 0, 2, 2)) + self.b(x).relu())

    net = shaken(Net())
    zero_rows(net.a, rows=1)
    zero_rows(net.b, rows=3)
    small, removed = materialize(net, images(2, 3, 4, 4))
    assert removed.groups == {"a.weight, dimension 0": (4, 3)}
    assert removed.kept == {"b.weight, dimension 0: 3 of 8": "constant_pad_nd adds places that stay"}
    assert_same(small, net, images(2, 3, 5, 5, seed=7))


@pytest.mark.parametrize(
    ("before", "after", "runs"),
    [
        ((2, 12), (2, 3, 4), [((0,), (0,)), ((1,), (1, 2))]),
        ((5, 2, 12), (5, 8, 3), [((0,), (0,)), ((1, 2), (1, 2))]),
        ((2, 1, 3), (2, 3), [((0,), (0,)), ((1, 2), (1,))]),
        ((2, 3), (1, 2, 3, 1, 1), [((0,), (0, 1)), ((1,), (2, 3, 4))]),
        ((1,), (), [((0,), ())]),
        ((), (1, 1), [((), (0, 1))]),
        ((6, 4), (4, 6), [((0, 1), (0, 1))]),
        ((2, 3, 4), (24,), [((0, 1, 2), (0,))]),
    ],
)
def test_runs(before: tuple[int, ...], after: tuple[int, ...], runs: list) -> None:
    assert [(tuple(old), tuple(new)) for old, new in _runs(before, after)] == runs


def test_components() -> None:
    pairs = [(np.array([5, 3]), np.array([4, 4])), (np.array([0]), np.array([6])), (np.array([6]), np.array([2]))]
    assert _components(8, pairs).tolist() == [0, 1, 0, 3, 3, 3, 0, 7]
    assert _components(3, []).tolist() == [0, 1, 2]
    chain = np.arange(1000)
    assert (_components(1001, [(chain, chain + 1)]) == 0).all()
