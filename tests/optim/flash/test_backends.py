"""Which backend steps what, and the reason it gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.optim.flash.cases import contents, prepared, same, with_kernels
from torch import nn

from hasten.optim.flash import FlashAdamW, backends, native
from hasten.optim.flash.backends import BACKENDS, check_backend


def with_gradient(p: nn.Parameter) -> nn.Parameter:
    p.grad = torch.ones_like(p)
    return p


def choices(parameters: list[nn.Parameter], **options: Any) -> dict[int, Any]:
    return FlashAdamW(list(map(with_gradient, parameters)), **options).explain()


@with_kernels
def test_the_kernel_steps_what_it_can() -> None:
    base = torch.zeros(8, 8, dtype=torch.bfloat16)
    found = choices([
        nn.Parameter(torch.zeros(3, dtype=torch.bfloat16)), nn.Parameter(torch.zeros(3, dtype=torch.float64)),
        nn.Parameter(base[:, ::2]), nn.Parameter(base.t()), nn.Parameter(torch.zeros(0, dtype=torch.float16)),
    ])  # fmt: skip
    assert [choice.backend for choice in found.values()] == ["native", "eager", "eager", "native", "native"]
    assert "float64" in found[1].why
    assert "gaps" in found[2].why
    assert all(choice.why for choice in found.values())


def test_asked_for() -> None:
    for name in ("eager", "compiled"):
        found = choices([nn.Parameter(torch.zeros(3))], backend=name)
        assert (found[0].backend, found[0].why) == (name, "asked for")
    assert choices([nn.Parameter(torch.zeros(3))], fused=False)[0].backend == "eager"


@with_kernels
def test_a_kernel_that_was_asked_for_and_cannot_says_why() -> None:
    wide = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    assert choices([nn.Parameter(torch.zeros(3))], backend="native")[0].backend == "native"
    assert choices([nn.Parameter(torch.zeros(3))], fused=True)[0].backend == "native"
    with pytest.raises(ValueError, match=r"backend: expected parameters that 'native' can step, got .*float64"):
        choices([wide], backend="native")
    with pytest.raises(ValueError, match=r"fused: expected parameters that .*kernel can.* step, got .*float64"):
        choices([wide], fused=True)


def test_triton_is_for_gpus() -> None:
    with pytest.raises(ValueError, match=r"backend: expected parameters that 'triton' can step, got .*cpu"):
        choices([nn.Parameter(torch.zeros(3))], backend="triton")


def test_refused_before_anything_is_stepped() -> None:
    p, wide = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3, dtype=torch.float64))
    optimizer = FlashAdamW(list(map(with_gradient, (p, wide))), backend="triton")
    with pytest.raises(ValueError, match="triton"):
        optimizer.step()
    assert p.tolist() == [1.0] * 3
    assert int(optimizer.state[p]["step"]) == 0


def test_without_the_compiled_module_everything_is_readable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "ext", None)
    monkeypatch.setattr(native.dispatch, "native_reason", lambda: "no compiler here")
    found = choices([nn.Parameter(torch.zeros(3))])
    assert (found[0].backend, found[0].why) == ("eager", "no compiler here")
    with pytest.raises(ValueError, match="no compiler here"):
        choices([nn.Parameter(torch.zeros(3))], backend="native")


@with_kernels
def test_a_checkpoint_of_one_backend_goes_on_in_another() -> None:
    p, optimizer = prepared("bf16c8", "adam", backend="native", t=3)
    optimizer.step()
    q, other = prepared("bf16c8", "adam", backend="eager", seed=9)
    other.load_state_dict(optimizer.state_dict())
    with torch.no_grad():
        q.copy_(p)
    assert same(contents(p, optimizer), contents(q, other))


def test_parameters_of_one_call_may_go_different_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    stepped: dict[str, int] = {}
    for name in ("native", "eager"):
        monkeypatch.setitem(backends._STEPS, name, lambda slots, name=name: stepped.update({name: len(slots)}))
    monkeypatch.setitem(backends._REFUSALS, "native", lambda slot: "odd" if slot.index % 2 else "")
    optimizer = FlashAdamW([with_gradient(nn.Parameter(torch.zeros(3))) for _ in range(5)])
    optimizer.step()
    assert stepped == {"native": 3, "eager": 2}


def test_names() -> None:
    assert [check_backend("Optimizer", name) for name in BACKENDS] == list(BACKENDS)
    with pytest.raises(ValueError, match=r"Optimizer: expected backend among auto, native, .*, got 'eagre'.*eager"):
        check_backend("Optimizer", "eagre")
