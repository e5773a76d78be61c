from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import nn

from hasten.optim._state import KeepsState


class Strange(KeepsState):
    """State of every kind."""

    def __init__(self, params: Any, lr: float = 1.0) -> None:
        super().__init__(params, {"lr": lr})

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.state[p] = contents()


def contents() -> dict[str, Any]:
    return {
        "step": torch.tensor(3.0),
        "wide": torch.tensor([1 / 3, 1e-30]),
        "double": torch.tensor(1 / 3, dtype=torch.float64),
        "half": torch.tensor([1.5], dtype=torch.float16),
        "codes": torch.tensor([-128, 127], dtype=torch.int8),
        "nothing": torch.empty(0, 3),
        "name": "text",
        "seed": 2**62 + 1,
        "missing": None,
        "inner": {"list": [torch.tensor(1e-8), 2], "pair": (torch.tensor([True]), "x")},
    }


def same(one: Any, two: Any) -> bool:
    assert type(one) is type(two)
    if isinstance(one, torch.Tensor):
        return one.dtype == two.dtype and one.device == two.device and torch.equal(one, two)
    if isinstance(one, dict):
        return list(one) == list(two) and all(same(one[name], two[name]) for name in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(two) and all(map(same, one, two))
    return one == two


def parameter(dtype: torch.dtype = torch.bfloat16) -> nn.Parameter:
    p = nn.Parameter(torch.zeros(2, dtype=dtype))
    p.grad = torch.ones_like(p)
    return p


def stepped() -> Strange:
    optimizer = Strange([parameter(), nn.Parameter(torch.zeros(1))])
    optimizer.step()
    return optimizer


def test_torch_alone_would_cast() -> None:
    plain = torch.optim.SGD([parameter()], momentum=0.9)
    plain.load_state_dict({**plain.state_dict(), "state": {0: {"momentum_buffer": torch.ones(2)}}})
    (state,) = plain.state.values()
    assert state["momentum_buffer"].dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_everything_comes_back_as_it_was(dtype: torch.dtype) -> None:
    file = io.BytesIO()
    torch.save(stepped().state_dict(), file)
    file.seek(0)
    other = Strange([parameter(dtype), nn.Parameter(torch.zeros(1))])
    other.load_state_dict(torch.load(file, weights_only=True))
    assert len(other.state) == 1, "no state for a parameter without a gradient"
    assert same(other.state[other.param_groups[0]["params"][0]], contents())
    assert same(other.state_dict(), stepped().state_dict())


def test_what_is_loaded_is_a_copy_and_the_source_is_left_alone() -> None:
    one, two = stepped(), stepped()
    stored = one.state_dict()
    two.load_state_dict(stored)
    (mine,), (theirs,) = one.state.values(), two.state.values()
    for name in ("step", "wide", "codes"):
        theirs[name].zero_()
    theirs["inner"]["list"][0].zero_()
    assert same(mine, contents())
    assert same(stored["state"][0], contents())


def test_deepcopy_and_pickle() -> None:
    optimizer = stepped()
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        (state,) = other.state.values()
        assert same(state, contents())
        other.load_state_dict(optimizer.state_dict())
        assert same(other.state_dict(), optimizer.state_dict())


def test_hooks_see_the_state_itself_and_the_hiding_leaves_none_behind() -> None:
    optimizer, seen = stepped(), []

    def replace(_: Any, state_dict: dict[str, Any]) -> dict[str, Any]:
        seen.append(state_dict["state"][0]["wide"])
        return {**state_dict, "state": {0: {"wide": torch.ones(5)}}}

    optimizer.register_load_state_dict_pre_hook(replace)
    optimizer.register_load_state_dict_post_hook(lambda o: seen.append(next(iter(o.state.values()))["wide"]))
    optimizer.load_state_dict(stepped().state_dict())
    assert same(seen, [contents()["wide"], torch.ones(5)])
    assert len(optimizer._optimizer_load_state_dict_pre_hooks) == 1


def test_a_state_that_does_not_fit_changes_nothing() -> None:
    optimizer = stepped()
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optimizer.load_state_dict({"state": {}, "param_groups": []})
    assert not optimizer._optimizer_load_state_dict_pre_hooks
    assert same(next(iter(optimizer.state.values())), contents())


def test_a_state_that_a_subclass_refuses_changes_nothing() -> None:
    class Picky(Strange):
        def __setstate__(self, state: dict[str, Any]) -> None:
            super().__setstate__(state)
            if self.param_groups[0]["lr"] < 0:
                raise ValueError("no such learning rate")

    optimizer = Picky([parameter()])
    optimizer.step()
    before, bad = optimizer.state_dict(), optimizer.state_dict()
    bad = {"state": {}, "param_groups": [{**bad["param_groups"][0], "lr": -1.0}]}
    with pytest.raises(ValueError, match="no such learning rate"):
        optimizer.load_state_dict(bad)
    assert same(optimizer.state_dict(), before)


def test_state_of_no_parameter_is_kept() -> None:
    optimizer = stepped()
    stored = optimizer.state_dict()
    stored["state"]["shared"] = {"scale": torch.tensor(0.1)}
    optimizer.load_state_dict(stored)
    assert same(optimizer.state["shared"], {"scale": torch.tensor(0.1)})


def test_the_state_moves_to_the_device_of_the_parameter() -> None:
    other = Strange([nn.Parameter(torch.zeros(2, device="meta")), nn.Parameter(torch.zeros(1))])
    other.load_state_dict(stepped().state_dict())
    (state,) = other.state.values()
    assert state["wide"].device.type == state["inner"]["list"][0].device.type == "meta"
    assert state["wide"].dtype == torch.float32
    assert state["step"].device.type == "cpu"
