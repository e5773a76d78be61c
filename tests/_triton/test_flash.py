"""The GPU kernels of the flash optimizers: bit for bit the eager backend's under Triton's interpreter, on a CPU.

Triton reads `TRITON_INTERPRET` when it is imported, so each mode has a process of its own (process.py), and nothing of
it reaches the tests that share this one.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from hasten.optim.flash import FlashAdamW, FlashLion, FlashSGDW, backends, slots

HERE = Path(__file__).parent
has_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")

FORMATS = [("float32", 0), ("bfloat16", 0), ("bfloat16", 8), ("bfloat16", 16)]
FORMATS += [("float16", 0), ("float16", 8), ("float16", 16)]

Check = Callable[..., None]


@contextmanager
def process(**environment: str) -> Iterator[Check]:
    """A function that runs a check of process.py."""
    command = [sys.executable, "-W", "ignore", str(HERE / "process.py")]
    outer = {name: value for name, value in os.environ.items() if not name.startswith("TRITON_")}
    with subprocess.Popen(
        command, env={**outer, **environment}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None

        def check(name: str, **arguments: Any) -> None:
            print(json.dumps({"check": name, "arguments": arguments}), file=child.stdin, flush=True)
            answer = child.stdout.readline()
            failure = json.loads(answer) if answer else "the process ended"
            if failure is not None:
                pytest.fail(failure, pytrace=False)

        yield check
        child.stdin.close()


@pytest.fixture(scope="module")
def interpreted() -> Iterator[Check]:
    with process(TRITON_INTERPRET="1") as check:
        yield check


@pytest.fixture(scope="module")
def compiler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Check]:
    with process(TRITON_CACHE_DIR=str(tmp_path_factory.mktemp("triton"))) as check:
        yield check


# Under the interpreter -----------------------------------------------------------------------------------------------


@has_triton
@pytest.mark.parametrize(("weight", "bits"), FORMATS)
@pytest.mark.parametrize("kind", ["FlashAdamW", "FlashLion", "FlashSGDW"])
def test_every_format_has_the_bits_of_the_eager_backend(interpreted: Check, kind: str, weight: str, bits: int):
    momentum = {"momentum": 0.9} if kind == "FlashSGDW" else {}
    interpreted("steps", kind=kind, weight=weight, bits=bits, weight_decay=0.1, **momentum)


@has_triton
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("FlashAdam", {"weight_decay": 0.1}),
        ("FlashAdam", {"maximize": True, "eps": 0.0}),
        ("FlashAdamW", {"decouple_lr": True, "betas": (0.0, 0.5)}),
        ("FlashAdamW", {"lr": 0.0}),
        ("FlashSGD", {"weight_decay": 0.1}),
        ("FlashSGD", {"momentum": 0.9, "weight_decay": 0.1, "dampening": 0.3}),
        ("FlashSGD", {"momentum": 0.9, "nesterov": True, "maximize": True}),
        ("FlashSGDW", {"weight_decay": 0.1}),
        ("FlashLion", {"maximize": True}),
    ],
)
@pytest.mark.parametrize("quantize", [True, False])
def test_every_option(interpreted: Check, kind: str, options: dict[str, Any], quantize: bool):
    interpreted("steps", kind=kind, weight="bfloat16", bits=8, sizes=(1, 33, 100), quantize=quantize, **options)


@has_triton
@pytest.mark.parametrize("group_size", [32, 64, 128, 256, 512])
@pytest.mark.parametrize("size", [1, 511, 512, 513, 1025])
def test_every_group_size_and_tail(interpreted: Check, group_size: int, size: int):
    options = {"sizes": (size,), "group_size": group_size, "count": 2}
    interpreted("steps", kind="FlashAdamW", weight="float32", bits=0, **options)


@has_triton
@pytest.mark.parametrize(
    ("weight", "bits", "stochastic"),
    [(*form, False) for form in FORMATS[1:]] + [("bfloat16", 0, True), ("float16", 0, True)],
)
def test_weights_of_any_bits(interpreted: Check, weight: str, bits: int, stochastic: bool):
    interpreted("patterns", weight=weight, bits=bits, stochastic=stochastic)


@has_triton
@pytest.mark.parametrize("kind", ["FlashAdamW", "FlashLion"])
@pytest.mark.parametrize("weight", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("quantize", [True, False])
def test_what_is_not_finite_or_nearly_nothing(interpreted: Check, kind: str, weight: str, quantize: bool):
    interpreted("specials", kind=kind, weight=weight, quantize=quantize)


@has_triton
@pytest.mark.parametrize("weight", ["bfloat16", "float16"])
@pytest.mark.parametrize("count", [65_535, 10_000_019])
@pytest.mark.parametrize("kind", ["FlashAdamW", "FlashAdam", "FlashSGD"])
def test_late_steps(interpreted: Check, kind: str, weight: str, count: int):
    interpreted("late", kind=kind, weight=weight, count=count)


@has_triton
def test_any_dense_layout_and_empty_tensors(interpreted: Check):
    interpreted("layouts")


@has_triton
def test_one_launch_for_each_kind_of_tensor(interpreted: Check):
    interpreted("launches")


@has_triton
def test_tables_end_with_their_parameter(interpreted: Check):
    interpreted("tables_end_with_their_parameter")


@has_triton
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("FlashAdamW", {}),
        ("FlashAdam", {}),
        ("FlashLion", {}),
        ("FlashSGDW", {"momentum": 0.9, "dampening": 0.5}),
        ("FlashSGD", {}),
    ],
)
@pytest.mark.parametrize("tensors", [False, True])
@pytest.mark.parametrize("odd", [False, True])
def test_numbers_that_stay_on_the_device(
    interpreted: Check, kind: str, options: dict[str, Any], tensors: bool, odd: bool
):
    interpreted("capturable", kind=kind, tensors=tensors, odd=odd, **options)


@has_triton
@pytest.mark.parametrize(
    ("rule", "beta1"), [("adam", 0.9), ("adam", 0.0), ("lion", 0.9), ("momentum", 0.9), ("plain", 0)]
)
def test_the_device_makes_the_same_numbers(interpreted: Check, rule: str, beta1: float):
    interpreted("numbers_on_device", rule=rule, beta1=beta1)


@has_triton
def test_what_a_graph_captured_is_its_own(interpreted: Check):
    interpreted("captured")


# Compiled, for a GPU that need not be there --------------------------------------------------------------------------


@has_triton
@pytest.mark.parametrize("capability", [80, 90])
def test_the_kernel_compiles_and_moves_memory_in_vectors(compiler: Check, capability: int):
    compiler("compiles", capability=capability, vectors=True)


@has_triton
@pytest.mark.parametrize(
    "kind",
    [
        {"rule": "momentum", "weight": "float16", "bits": 0, "stochastic": True, "nesterov": True, "coupled": True},
        {"rule": "lion", "weight": "float16", "bits": 8, "group_size": 512},
        {"rule": "plain", "weight": "bfloat16", "bits": 16, "quantized": False},
        {"rule": "adam", "weight": "float32", "bits": 0, "quantized": False},
    ],
)
def test_other_kernels_compile(compiler: Check, kind: dict[str, Any]):
    compiler("compiles", capability=90, vectors=False, aligned=False, **kind)


@has_triton
@pytest.mark.parametrize("rule", ["adam", "momentum"])
def test_the_kernel_that_makes_numbers_compiles(compiler: Check, rule: str):
    compiler("prepare_compiles", capability=90, rule=rule)


@has_triton
@pytest.mark.parametrize("capturable", [False, True])
def test_an_optimizer_reaches_compiled_kernels(compiler: Check, capturable: bool):
    compiler("binds", capturable=capturable)


def test_importing_hasten_does_not_import_triton():
    code = "import sys, hasten.optim.flash, hasten._triton.flash; assert 'triton' not in sys.modules"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


# On a GPU ------------------------------------------------------------------------------------------------------------


def made(kind: Any, backend: str, **options: Any) -> tuple[list[torch.nn.Parameter], Any]:
    torch.manual_seed(0)
    sizes = ((300, 200), (1000,), (33,), (1,), (64, 3, 5, 5))
    found = [torch.nn.Parameter(torch.randn(size, device="cuda").bfloat16()) for size in sizes]
    return found, kind(found, lr=1e-2, backend=backend, **options)


def draw(parameters: list[torch.nn.Parameter], step: int) -> None:
    torch.manual_seed(100 + step)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, device="cuda").to(parameter.dtype)


def assert_close(one: Any, two: Any) -> None:
    """Equal, but for last bits, and for codes at the border of two (which may turn a sign of Lion's)."""
    for p, q in zip(one[0], two[0], strict=True):
        x, y = slots.read_weight(p, one[1].state[p]), slots.read_weight(q, two[1].state[q])
        assert ((x - y).abs() <= 2.0**-16 * x.abs() + 1e-3).float().mean() > 0.999
        assert (x == y).float().mean() > 0.8 or x.numel() < 100


@pytest.mark.gpu
@pytest.mark.parametrize("kind", [FlashAdamW, FlashLion, FlashSGDW])
@pytest.mark.parametrize("quantize", [True, False])
def test_gpu_agrees_with_eager(kind: Any, quantize: bool):
    momentum = {"momentum": 0.9} if kind is FlashSGDW else {}
    one, two = (made(kind, backend, quantize=quantize, weight_decay=0.1, **momentum) for backend in ("eager", "triton"))
    for step in range(5):
        for parameters, optimizer in (one, two):
            draw(parameters, step)
            optimizer.step()
    assert_close(one, two)


@pytest.mark.gpu
def test_gpu_is_chosen():
    parameters, optimizer = made(FlashAdamW, "auto")
    draw(parameters, 0)
    assert {backends.choose(slot, "auto").backend for slot in optimizer._slots()} == {"triton"}


@pytest.mark.gpu
@pytest.mark.parametrize("tensor", [False, True])
def test_gpu_replays_a_cuda_graph(tensor: bool):
    lr = torch.tensor(1e-2, device="cuda") if tensor else 1e-2
    torch.manual_seed(0)
    plain, graphed = (made(FlashAdamW, "triton", capturable=capturable) for capturable in (False, True))
    graphed[1].param_groups[0]["lr"] = lr
    for parameters, _ in (plain, graphed):
        draw(parameters, 0)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            graphed[1].step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        graphed[1].step()
    for step in range(1, 4):
        fresh = [parameter.grad for parameter in graphed[0]]
        torch.manual_seed(100 + step)
        for gradient in fresh:
            gradient.copy_(torch.randn(gradient.shape, device="cuda"))
        if tensor:
            lr.fill_(1e-2 / step)
        graph.replay()
    for step in (0, 0, 1, 2, 3):
        draw(plain[0], step)
        plain[1].param_groups[0]["lr"] = 1e-2 / max(step, 1) if tensor else 1e-2
        plain[1].step()
    assert all(graphed[1].state[p]["step"].item() == 5 for p in graphed[0])
    assert_close(plain, graphed)


@pytest.mark.gpu
@pytest.mark.parametrize(("capturable", "message"), [(False, "capturable=True"), (True, "a step before the capture")])
def test_gpu_refuses_to_capture_what_would_go_wrong(monkeypatch: pytest.MonkeyPatch, capturable: bool, message: str):
    parameters, optimizer = made(FlashAdamW, "triton", capturable=capturable)
    draw(parameters, 0)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(ValueError, match=message):
        optimizer.step()


@pytest.mark.gpu
def test_gpu_survives_new_gradients_and_parameters_without_one():
    one, two = (made(FlashAdamW, backend) for backend in ("eager", "triton"))
    for step in range(4):
        for parameters, optimizer in (one, two):
            optimizer.zero_grad()
            draw(parameters, step)
            if step == 2:
                parameters[0].grad = None
            optimizer.step()
    assert_close(one, two)
