from __future__ import annotations

import contextlib
import copy
import random

import numpy as np
import pytest
import torch
from torch import nn

from hasten.prune.scores.data import Data, repeatable, samples, undisturbed


def batches_of(batches: object) -> list[object]:
    return list(Data(batches).on(torch.device("cpu")))


def test_one_batch_or_many() -> None:
    x, y = torch.ones(3, 2), torch.zeros(3)
    for one in ((x, y), [x, y], {"input_ids": x, "labels": y}, x, ((x, x), (y, y))):
        assert len(batches_of(one)) == 1
    for many in (
        [(x, y), (x, y)],
        [x, x, x],
        [{"x": x}],
        torch.utils.data.DataLoader([(x[0], y[0])] * 4, batch_size=2),
    ):
        assert len(batches_of(many)) == len(many)
    with pytest.raises(TypeError, match="batch= a batch or a loader, got 3"):
        batches_of(3)


def test_what_can_be_read_once_is_kept() -> None:
    kept = repeatable(iter([(torch.ones(1), torch.ones(1))]))
    assert len(batches_of(kept)) == len(batches_of(kept)) == 1


def test_samples_are_those_of_the_first_tensor() -> None:
    assert samples(({"a": torch.ones(5, 2), "b": torch.ones(3)}, None)) == 5


def test_nothing_is_left_behind() -> None:
    model = nn.Sequential(
        nn.Linear(4, 4),
        nn.BatchNorm1d(4),
        nn.Dropout(0.5),
        nn.Unflatten(1, (2, 2)),
        nn.InstanceNorm1d(2, track_running_stats=True),
    )
    model[1].eval()
    model[0].bias.requires_grad_(False)
    modes, state = [m.training for m in model.modules()], copy.deepcopy(model.state_dict())
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    with contextlib.suppress(KeyError), undisturbed(model, Data(), trained=model.parameters()):
        assert model[1].training, "batch norms see the batch where gradients are asked for"
        assert not model[2].training
        assert model[0].bias.requires_grad
        model(torch.randn(3, 4))
        np.random.rand(), random.random()
        raise KeyError
    assert [m.training for m in model.modules()] == modes
    assert not model[0].bias.requires_grad
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


def test_draws_inside_are_the_same_every_time() -> None:
    drawn = []
    for seed in (1, 1, 2):
        with undisturbed(nn.Linear(1, 1), Data(generator=torch.Generator().manual_seed(seed))):
            drawn.append(torch.rand(1).item())
    assert drawn[0] == drawn[1] != drawn[2]
