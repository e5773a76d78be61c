"""The readable step against the reference, for every format and rule; the compiled one against the readable one."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from tests.optim.flash.cases import (
    KINDS,
    RULES,
    check_step,
    contents,
    in_order,
    prepared,
    randn,
    same,
    snapshot,
    with_kernels,
)
from torch import nn

from hasten.optim.flash import FlashAdam, FlashAdamW, FlashSGDW, eager, join_weight
from hasten.optim.flash.companding import GROUP_SIZES
from hasten.optim.flash.slots import read_weight

SLACK = 3e-3  # of a code: float32 instead of float64

OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("adam", {"maximize": True}), ("adam", {"betas": (0.0, 0.0)}), ("adam", {"eps": 1.0}), ("adam", {"lr": 0.0}),
    ("adam", {"weight_decay": 0.0}), ("adam", {"cls": FlashAdam, "weight_decay": 0.1}),
    ("momentum", {"weight_decay": 0.1}), ("momentum", {"dampening": 0.5}), ("momentum", {"nesterov": True}),
    ("momentum", {"cls": FlashSGDW, "weight_decay": 0.1}), ("momentum", {"maximize": True, "weight_decay": 0.1}),
    ("plain", {"weight_decay": 0.1}), ("plain", {"cls": FlashSGDW, "weight_decay": 0.1, "maximize": True}),
    ("lion", {"maximize": True}), ("lion", {"betas": (0.5, 0.0)}),
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", KINDS)
def test_against_the_reference(kind: str, rule: str) -> None:
    for quantize, t in itertools.product((True, False), (0, 1, 1000)):
        p, optimizer = prepared(kind, rule, quantize=quantize, t=t, backend="eager", seed=t)
        check_step(p, optimizer, kind, slack=SLACK)


@pytest.mark.parametrize(("rule", "options"), OPTIONS, ids=str)
def test_options_against_the_reference(rule: str, options: dict[str, Any]) -> None:
    for kind, quantize, t in itertools.product(("f32", "bf16c8", "f16c16"), (True, False), (0, 3)):
        p, optimizer = prepared(kind, rule, quantize=quantize, t=t, backend="eager", **options)
        check_step(p, optimizer, kind, slack=SLACK)


@pytest.mark.parametrize("group_size", GROUP_SIZES)
@pytest.mark.parametrize("size", [1, 31, 33, 512, 1025])
def test_group_sizes_and_tails(group_size: int, size: int) -> None:
    for rule in ("adam", "lion"):
        p, optimizer = prepared("bf16c8", rule, shape=(size,), group_size=group_size, backend="eager", t=5)
        check_step(p, optimizer, "bf16c8", slack=SLACK)


@pytest.mark.parametrize("kind", ["bf16", "f16"])
def test_stochastic_rounding(kind: str) -> None:
    p, optimizer = prepared(kind, "adam", stochastic_rounding=True, backend="eager", t=2)
    p2, again = prepared(kind, "adam", stochastic_rounding=True, backend="eager", t=2)
    p3, later = prepared(kind, "adam", stochastic_rounding=True, backend="eager", t=3)
    check_step(p, optimizer, kind, slack=SLACK)
    again.step()
    later.step()
    assert torch.equal(p, p2), "the same step of the same parameter rounds alike"
    assert not torch.equal(p, p3)


def test_float64_stays_float64() -> None:
    start, gradient = randn(50, seed=0).double(), randn(50, seed=1).double()
    one, two = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    ours = FlashAdamW([one], lr=0.01, quantize=False, backend="eager")
    theirs = torch.optim.AdamW([two], lr=0.01)
    for step in range(20):
        one.grad, two.grad = gradient * (step + 1), gradient * (step + 1)
        ours.step()
        theirs.step()
    # The moments are float32, the weight is not.
    torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-6)
    assert not torch.equal(one, one.float().double())


def views() -> dict[str, torch.Tensor]:
    """Memory that a parameter may live in, 3 x 8 or 2 x 3 x 4 x 4."""
    base = torch.zeros(1000, dtype=torch.bfloat16)
    return {
        "transposed": torch.zeros(8, 3, dtype=torch.bfloat16).t(),
        "gaps": base[: 3 * 16].view(3, 16)[:, ::2],
        "transposed_gaps": base[: 8 * 6].view(8, 6)[:, ::2].t(),
        "columns": base[:30].view(3, 10)[:, 1:9],
        "channels_last": torch.zeros(2, 3, 4, 4, dtype=torch.bfloat16).to(memory_format=torch.channels_last),
        "slice": base[5 : 5 + 24].view(3, 8),
        "scalar": torch.zeros((), dtype=torch.bfloat16),
        "empty": torch.zeros(0, 3, dtype=torch.bfloat16),
    }


@pytest.mark.parametrize("layout", views())
@pytest.mark.parametrize("rule", ["adam", "momentum", "plain"])
def test_layouts(layout: str, rule: str) -> None:
    """Every element keeps its own correction and its own state, whatever its memory looks like."""
    view = views()[layout]
    p, optimizer = prepared("bf16c8", rule, parameter=view, backend="eager", quantize=False)
    q, plain = prepared("bf16c8", rule, shape=tuple(view.shape), backend="eager", quantize=False)
    assert p.data_ptr() == view.data_ptr()
    for name, value in plain.state[q].items():
        if isinstance(value, torch.Tensor):
            optimizer.state[p][name].copy_(value)
    with torch.no_grad():
        p.copy_(q)
    for _ in range(3):
        p.grad = torch.empty_like(p).copy_(q.grad)
        optimizer.step()
        plain.step()
    for name, value in contents(p, optimizer).items():
        torch.testing.assert_close(value, contents(q, plain)[name].reshape(value.shape), rtol=0, atol=0)
    assert torch.equal(join_weight(p, optimizer.state[p]["correction"]), join_weight(q, plain.state[q]["correction"]))


@pytest.mark.parametrize("backend", ["eager", pytest.param("native", marks=with_kernels)])
def test_gradients_in_another_order_of_memory(backend: str) -> None:
    for gradient in (
        randn(8, 3, seed=1).bfloat16().t(), randn(1, 8, seed=1).bfloat16().expand(3, 8),
        randn(3, 16, seed=1).bfloat16()[:, ::2], torch.ones((), dtype=torch.bfloat16).expand(3, 8),
    ):  # fmt: skip
        p, optimizer = prepared("bf16c8", "adam", shape=(3, 8), backend=backend)
        q, plain = prepared("bf16c8", "adam", shape=(3, 8), backend=backend)
        p.grad, q.grad = gradient, gradient.contiguous()
        assert p.grad.stride() != q.grad.stride()
        optimizer.step()
        plain.step()
        assert same(contents(p, optimizer), contents(q, plain))


def test_zero_gradients_change_nothing_in_a_thousand_steps() -> None:
    for kind, rule in itertools.product(("f32", "bf16c8", "bf16c16", "f16c8"), RULES):
        p, optimizer = prepared(kind, rule, shape=(100,), backend="eager", weight_decay=0.0)
        p.grad = torch.zeros_like(p)
        for name, value in optimizer.state[p].items():
            if isinstance(value, torch.Tensor) and name != "correction":
                value.zero_()
        before = contents(p, optimizer)
        for _ in range(1000 if (kind, rule) == ("bf16c8", "adam") else 100):
            optimizer.step()
        after = contents(p, optimizer)
        assert after.pop("step") == (1000 if (kind, rule) == ("bf16c8", "adam") else 100)
        before.pop("step")
        assert same(before, after)


# torch.compile --------------------------------------------------------------------------------------------------------


def compare_compiled(kind: str, rule: str, **options: Any) -> None:
    for t in (0, 1, 2):
        p, optimizer = prepared(kind, rule, backend="compiled", t=t, **options)
        q, plain = prepared(kind, rule, backend="eager", t=t, **options)
        expected = snapshot(q, plain)["x"]
        optimizer.step()
        plain.step()
        found, wanted = (in_order(y, read_weight(y, o.state[y])) for y, o in ((p, optimizer), (q, plain)))
        moved = abs(wanted - expected).max()
        torch.testing.assert_close(
            torch.from_numpy(found), torch.from_numpy(wanted), rtol=2.0**-16, atol=float(moved) * 1e-4
        )
        for name, value in contents(p, optimizer).items():
            if name.endswith("_codes"):
                difference = (value.int() - contents(q, plain)[name].int()).abs()
                assert int(difference.max()) <= 1
                assert int(difference.sum()) <= 0.005 * difference.numel() + 1
            elif name.endswith("_scales"):
                torch.testing.assert_close(value, contents(q, plain)[name], rtol=2.0**-7, atol=0)


@pytest.fixture
def graphs_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The step as torch.compile captures it, run without code generation, which takes a C++ compiler half a minute."""
    torch._dynamo.reset()
    captured = torch.compile(eager._stepped, dynamic=True, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(eager, "_compiled", lambda: captured)


@pytest.mark.usefixtures("graphs_only")
@pytest.mark.parametrize(("kind", "rule"), [("bf16c8", "adam"), ("f16c16", "lion"), ("f32", "momentum")])
def test_captured_as_one_graph(kind: str, rule: str) -> None:
    compare_compiled(kind, rule)


def test_a_new_learning_rate_is_no_new_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    torch._dynamo.reset()
    compiled: list[int] = []

    def count(graph: Any, inputs: Any) -> Any:
        compiled.append(1)
        return graph.forward

    captured = torch.compile(eager._stepped, dynamic=True, backend=count)
    monkeypatch.setattr(eager, "_compiled", lambda: captured)
    _, optimizer = prepared("bf16c8", "adam", backend="compiled")
    optimizer.step()
    first = len(compiled)
    assert first >= 1
    for lr in (0.1, 0.02, 0.003, 4e-4):
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
    assert len(compiled) == first


@pytest.mark.filterwarnings("ignore:bf16 and fp16 are mixed")  # scales of bfloat16 beside weights of float16
@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("kind", "options"),
    [("f32", {}), ("bf16c8", {}), ("bf16c8", {"quantize": False}), ("f16c16", {}),
     ("bf16", {"stochastic_rounding": True})],
    ids=str,
)  # fmt: skip
def test_compiled(kind: str, rule: str, options: dict[str, Any]) -> None:
    torch._dynamo.reset()
    eager._compiled.cache_clear()
    compare_compiled(kind, rule, **options)


def test_deepcopies_step_alike() -> None:
    p, optimizer = prepared("bf16c8", "adam", backend="eager", t=4)
    q, other = copy.deepcopy((p, optimizer))
    q.grad = p.grad.clone()
    optimizer.step()
    other.step()
    assert same(contents(p, optimizer), contents(q, other))
