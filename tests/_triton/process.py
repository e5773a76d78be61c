"""Checks of the GPU kernels in a process of their own: what they need must be set before triton is imported.

Reads requests, one JSON object a line ({"check": name, "arguments": {...}}), and answers each by a line with the
traceback of what failed, or null.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hasten._triton import flash, flash_kernels
from hasten.optim import flash as flash_optimizers
from hasten.optim.flash import backends, slots, triton_tables

SIZES = (1, 31, 33, 1000, 1056)
BITS = {0: None, 8: 24, 16: 32}  # of the correction -> of the weight


def exact_root(x: Tensor) -> Tensor:
    """The root as IEEE 754 rounds it; torch's own, of a long vector on a CPU, is off by one place now and then."""
    return torch.from_numpy(np.sqrt(x.numpy()))


def parameters(sizes: tuple[int, ...], dtype: torch.dtype) -> list[torch.nn.Parameter]:
    torch.manual_seed(0)
    return [torch.nn.Parameter(torch.randn(size).to(dtype)) for size in sizes]


def pair(kind: str, sizes: tuple[int, ...], weight: str, bits: int, **options: Any) -> tuple[Any, Any]:
    """Two optimizers of equal parameters."""
    dtype = getattr(torch, weight)
    made = {"lr": 1e-2, "master_weight_bits": BITS[bits], **options}
    one, two = (getattr(flash_optimizers, kind)(parameters(sizes, dtype), **made) for _ in range(2))
    return one, two


def all_parameters(optimizer: Any) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


@torch.no_grad()
def step_both(eager: Any, kernel: Any, gradients: list[Tensor]) -> None:
    for optimizer in (eager, kernel):
        for parameter, gradient in zip(all_parameters(optimizer), gradients, strict=True):
            parameter.grad = gradient.to(parameter.dtype)
    backends.run(list(eager._slots()), "eager")
    triton_tables.step_triton(list(kernel._slots()))


def random_gradients(optimizer: Any, step: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(step)
    return [torch.randn(p.shape, generator=draw) * 10.0 ** (step % 3 - 1) for p in all_parameters(optimizer)]


def assert_equal(one: Tensor, two: Tensor, what: str) -> None:
    """The same bits, but for NaN in floats: which one, and so its bits, is anybody's choice."""
    assert one.dtype == two.dtype, what
    assert one.shape == two.shape, what
    if one.is_floating_point():
        same = (one == two) & (torch.signbit(one) == torch.signbit(two)) | (one.isnan() & two.isnan())
    else:
        same = one == two
    bad = (~same).nonzero()
    assert not len(bad), f"{what}: {len(bad)} of {one.numel()} differ, the first at {bad[0].tolist()}"


def assert_same(eager: Any, kernel: Any) -> None:
    for one, two in zip(all_parameters(eager), all_parameters(kernel), strict=True):
        assert_equal(one.detach(), two.detach(), f"weight of {one.numel()}")
        for name, value in eager.state[one].items():
            if isinstance(value, Tensor):
                assert_equal(value, kernel.state[two][name], f"{name} of {one.numel()}")


# Under the interpreter -----------------------------------------------------------------------------------------------


def steps(kind: str, weight: str, bits: int, count: int = 3, sizes: Any = SIZES, **options: Any) -> None:
    """Some steps give the bits of the eager backend."""
    eager, kernel = pair(kind, tuple(sizes), weight, bits, **options)
    for step in range(count):
        step_both(eager, kernel, random_gradients(eager, step))
        assert_same(eager, kernel)


def patterns(weight: str, bits: int, stochastic: bool) -> None:
    """Weights of any bits, NaN and infinities among them, are decoded and encoded alike."""
    options = {"lr": 1.0, "momentum": 0.0, "stochastic_rounding": stochastic}
    eager, kernel = pair("FlashSGD", (4000,), weight, bits, **options)
    step_both(eager, kernel, [torch.zeros(4000)])  # makes the states
    draw = torch.Generator().manual_seed(1)
    words = torch.randint(-(2**15), 2**15, (4000,), generator=draw).to(torch.int16)
    edge = [0x7F80, 0x7F7F, -0x80, -0x81, 0x7BFF, 0x7C00, -0x8000, 0, 1, 0x7FC0]
    words[: 20 * len(edge)] = torch.tensor(edge).to(torch.int16).repeat(20)
    low = torch.randint(-(2**15), 2**15, (4000,), generator=draw).to(torch.int16)
    for step in range(3):
        for optimizer in (eager, kernel):
            parameter = all_parameters(optimizer)[0]
            parameter.data = words.view(parameter.dtype).clone()
            if bits:
                correction = optimizer.state[parameter]["correction"]
                correction.copy_(low.to(correction.dtype))
        step_both(eager, kernel, [torch.zeros(4000) if step == 0 else torch.randn(4000, generator=draw)])
        assert_same(eager, kernel)


def specials(kind: str, weight: str, quantize: bool) -> None:
    """NaN, infinities, and gradients at both ends of the range, in the bits of the eager backend."""
    if weight == "float16":
        values = [float("nan"), float("inf"), -float("inf"), 0.0, 6e-8, 65504.0]
    else:
        values = [float("nan"), float("inf"), -float("inf"), 0.0, 1e-45, 1e-39, 2e-38, 1e-30, 1e18, 3e36, 3e38, -3e38]
    size = 64 * (len(values) + 1)  # a value for each second group; the others stay as they are
    eager, kernel = pair(kind, (size,), weight, 0 if weight == "float32" else 8, quantize=quantize)
    gradient = torch.full((size,), 1e-3)
    for place, value in enumerate(values):
        gradient[64 * place + 5] = value
        if value in (0.0, 1e-45, 1e-39, 2e-38, 1e-30):
            gradient[64 * place : 64 * place + 32] = value
    for step in range(3):
        step_both(eager, kernel, [gradient if step < 2 else torch.full((size,), 1e-3)])
        assert_same(eager, kernel)
    scales = [value for name, value in kernel.state[all_parameters(kernel)[0]].items() if name.endswith("_scales")]
    for scale in scales:
        assert scale.isnan().any(), "a group that is not finite has a scale"
        assert scale[1::2].isfinite().all(), "a group took over what its neighbour holds"


def late(kind: str, weight: str, count: int) -> None:
    """Dither, salt and bias correction at a late step."""
    options = {"stochastic_rounding": True} if kind != "FlashAdam" else {}
    eager, kernel = pair(kind, (100,), weight, 0, **options)
    for step in range(2):
        step_both(eager, kernel, random_gradients(eager, step))
        for optimizer in (eager, kernel):
            optimizer.state[all_parameters(optimizer)[0]]["step"].fill_(count + step)
    assert_same(eager, kernel)


def layouts() -> None:
    """Dense parameters in any order of memory, gradients in another one, empty tensors."""
    kernel_parts, eager_parts = [], []
    for parts in (kernel_parts, eager_parts):
        torch.manual_seed(0)
        image = torch.randn(4, 3, 5, 7).bfloat16().to(memory_format=torch.channels_last)
        parts += [image, torch.randn(40, 30).bfloat16().t(), torch.empty(0, 3).bfloat16(), torch.randn(8, 9).bfloat16()]
    kernel, eager = (
        flash_optimizers.FlashAdamW([torch.nn.Parameter(part) for part in parts])
        for parts in (kernel_parts, eager_parts)
    )
    for step in range(2):
        gradients = random_gradients(eager, step)
        gradients[3] = gradients[3].t().contiguous().t()
        step_both(eager, kernel, gradients)
        assert_same(eager, kernel)
    assert kernel.state[all_parameters(kernel)[2]]["step"] == 2


class Counting:
    """The kernels, and how often each is launched."""

    def __init__(self) -> None:
        self.real, self.launches = flash_kernels.load(), Counter()

    def __getattr__(self, name: str) -> Any:
        kernels = self

        class Kernel:
            def __getitem__(self, grid: Any) -> Any:
                kernels.launches[name] += 1
                return getattr(kernels.real, name)[grid]

        return Kernel()


def launches() -> None:
    """One launch for each kind of tensor, whatever their number; tables stay while addresses do."""
    made = [torch.randn(64).bfloat16() for _ in range(9)] + [torch.randn(16) for _ in range(3)]
    many = [torch.nn.Parameter(tensor) for tensor in [*made, torch.empty(0)]]
    groups = [{"params": many[:4]}, {"params": many[4:], "weight_decay": 0.0, "lr": 1e-3}]
    kernel = flash_optimizers.FlashAdamW(groups, lr=1e-2)
    counting, uploads = Counting(), []
    load, upload = flash_kernels.load, flash._upload
    flash_kernels.load = lambda: counting  # type: ignore[assignment]
    flash._upload = lambda values, *rest, **named: (uploads.append(values.size), upload(values, *rest, **named))[1]
    try:
        for _ in range(3):
            for parameter in many:
                parameter.grad = torch.ones_like(parameter)
            with torch.no_grad():
                triton_tables.step_triton(list(kernel._slots()))
        assert counting.launches == {"step": 3 * 2}, counting.launches
        assert len(uploads) == 2 * (2 + 3), uploads  # of each kind, `fixed` and `owners` once, and numbers each time
        kinds = [kind for tables in flash._tables.values() for kind in tables]
        assert {(kind.weight, kind.bits) for kind in kinds} == {("bfloat16", 8), ("float32", 0)}
    finally:
        flash_kernels.load, flash._upload = load, upload


def tables_end_with_their_parameter() -> None:
    before = len(flash._tables)
    steps("FlashLion", "bfloat16", 8, count=1, sizes=(5,))
    assert len(flash._tables) == before


def capturable(kind: str, tensors: bool, odd: bool, **options: Any) -> None:
    """With counters on the device, which makes the numbers, the results are the same up to the last bits."""
    options = {"weight_decay": 0.1, **options}
    sizes = (1, 33, 1000) if odd else (64, 100)
    eager, kernel = pair(kind, sizes, "bfloat16", 16, quantize=False, **options)
    for group in kernel.param_groups:
        group["capturable"] = True
    for step in range(4):
        gradients = random_gradients(eager, step)
        for optimizer in (eager, kernel):
            optimizer.param_groups[0]["lr"] = 1e-2 / (step + 1)
            for parameter, gradient in zip(all_parameters(optimizer), gradients, strict=True):
                parameter.grad = gradient.to(parameter.dtype)
        found = list(kernel._slots())
        if tensors:  # as learning rates that lie on a GPU are handed down
            lr = torch.tensor(1e-2 / (step + 1), dtype=torch.float64 if odd else torch.float32)
            decay = 0.1 * lr if kernel.decoupled else 0.0
            found = [replace_options(slot, lr=lr, decay=decay) for slot in found]
        with torch.no_grad():
            backends.run(list(eager._slots()), "eager")
            triton_tables.step_triton(found)
    for one, two in zip(all_parameters(eager), all_parameters(kernel), strict=True):
        assert kernel.state[two]["step"].item() == 4
        x, y = (slots.read_weight(p, o.state[p]) for p, o in ((one, eager), (two, kernel)))
        torch.testing.assert_close(x, y, rtol=1e-6, atol=1e-7)


def replace_options(slot: Any, **options: Any) -> Any:
    made = replace(slot, options={**slot.options, **options})
    made.parameter = slot.parameter
    return made


def numbers_on_device(rule: str, beta1: float) -> None:
    """`_prepare` makes the numbers that rules.py makes, and the dither and salt."""
    kind = {"adam": "FlashAdamW", "lion": "FlashLion", "momentum": "FlashSGDW", "plain": "FlashSGD"}[rule]
    own = {"momentum": beta1, "dampening": 0.25} if rule == "momentum" else {}
    own = {"betas": (beta1, 0.999)} if rule in ("adam", "lion") else own
    kernel = getattr(flash_optimizers, kind)(parameters((8, 8, 8), torch.bfloat16), weight_decay=0.1, **own)
    for parameter in all_parameters(kernel):
        parameter.grad = torch.zeros_like(parameter)
    for t in (1, 2, 1000, 100_000):
        for lr in (1e-3, 0.0, 1e-40, 1e-320, float("nan")):
            made = [replace_options(slot, lr=lr) for slot in kernel._slots()]
            for slot in made:
                slot.state["step"] = torch.tensor(float(t))
            expected = triton_tables._numbers(made)
            for slot in made:
                slot.state["step"] -= 1
            settings, _ = triton_tables._settings(made)
            numbers = torch.zeros(3 * 12)
            flash_kernels.load().prepare[(1,)](
                torch.from_numpy(settings.addresses), torch.from_numpy(settings.values), numbers,
                numbers.view(torch.int32), 3, RULE=rule, BLOCK=4,
            )  # fmt: skip
            found = numbers.view(3, 12).numpy()
            used = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] if rule == "adam" else [0, 1, 2, 3, 4, 5]
            np.testing.assert_allclose(found[:, used], expected[:, used], rtol=1.2e-7, err_msg=f"{t} {lr}")
            np.testing.assert_array_equal(found.view(np.int32)[:, 10:], expected.view(np.int32)[:, 10:])
            assert all(slot.state["step"] == t for slot in made)


def captured() -> None:
    """What a CUDA graph has captured is its own: later steps with other gradients leave it as it is."""
    _, kernel = pair("FlashAdamW", (33, 40), "bfloat16", 8, capturable=True)
    eager, _ = pair("FlashAdamW", (33, 40), "bfloat16", 8, capturable=True)
    first, second = random_gradients(kernel, 0), random_gradients(kernel, 1)
    step_both(eager, kernel, first)
    buckets = triton_tables._buckets(list(kernel._slots()))
    kept = [parameter.grad for parameter in all_parameters(kernel)]  # as a graph keeps its memory
    runs: list[Any] = []
    real = flash_kernels.load()

    class Recorded:
        def __init__(self, kernel: Any) -> None:
            self.kernel = kernel

        def __getitem__(self, grid: Any) -> Any:
            return lambda *tensors, **named: runs.append(lambda: self.kernel[grid](*tensors, **named))

    recorded = SimpleNamespace(step=Recorded(real.step), prepare=Recorded(real.prepare))
    for bucket in buckets:
        tables = flash._tables[bucket.owner][bucket.kind]
        size = len(tables.moving)
        tables.spare = torch.empty(size, dtype=torch.int64)  # in place of pinned memory, which needs a GPU
        flash._launch(recorded, bucket, capturing=True)
        assert tables.spare is None
        assert len(tables.captured) == 5, "addresses, owners, pinned memory, what was copied from it, numbers"
    step_both(eager, kernel, second)
    for run in runs:
        run()
    for parameter, gradient in zip(all_parameters(eager), first, strict=True):
        parameter.grad = gradient.to(parameter.dtype)
    with torch.no_grad():
        backends.run(list(eager._slots()), "eager")
    assert_same(eager, kernel)
    assert len(kept) == 2


# For a GPU that is not there -----------------------------------------------------------------------------------------


def compiles(capability: int, vectors: bool, **named: Any) -> None:
    """The kernel compiles to machine code; where memory is aligned it is moved in vectors."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    step = flash_kernels.load().step
    kind = flash.Kind(
        rule="adam", weight="bfloat16", bits=8, quantized=True, group_size=32, stochastic=False, nesterov=False,
        coupled=False, aligned=True,
    )._replace(**named)  # fmt: skip
    names = {"rule": "RULE", "weight": "WEIGHT", "bits": "BITS", "quantized": "QUANTIZED", "group_size": "GROUP"}
    names |= {"stochastic": "STOCHASTIC", "nesterov": "NESTEROV", "coupled": "COUPLED", "aligned": "ALIGNED"}
    constants = {names[name]: value for name, value in kind._asdict().items()} | {"BLOCK": flash.BLOCK}
    signature = {"fixed": "*i64", "owners": "*i32", "gradients": "*i64", "numbers": "*fp32", "words": "*i32"}
    signature |= dict.fromkeys(constants, "constexpr")
    source = ASTSource(
        fn=step,
        signature=signature,
        constexprs={(step.arg_names.index(name),): value for name, value in constants.items()},
    )
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": flash._WARPS})
    assert made.asm["cubin"]
    assert "local" not in made.asm["ptx"], "registers spill"
    assert ("ld.global.v4" in made.asm["ptx"]) == vectors


def prepare_compiles(capability: int, rule: str) -> None:
    """The kernel that makes numbers needs functions of float64, which come from a library."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    prepare = flash_kernels.load().prepare
    constants = {"RULE": rule, "BLOCK": flash._PREPARED}
    signature = {"addresses": "*i64", "settings": "*fp64", "numbers": "*fp32", "words": "*i32", "count": "i32"}
    source = ASTSource(
        fn=prepare,
        signature=signature | dict.fromkeys(constants, "constexpr"),
        constexprs={(prepare.arg_names.index(name),): value for name, value in constants.items()},
    )
    assert triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm["cubin"]


def binds(capturable: bool) -> None:
    """The whole way from an optimizer to compiled kernels, through Triton's own launcher but for the launch."""
    from triton.backends.compiler import GPUTarget
    from triton.runtime import driver

    driver.set_active(
        SimpleNamespace(
            get_current_target=lambda: GPUTarget("cuda", 90, 32),
            get_current_device=lambda: 0,
            get_current_stream=lambda device=0: 0,
        )
    )
    launched = []

    class Compiled:
        def __init__(self, kernel: Any) -> None:
            self.kernel = kernel

        def __getitem__(self, grid: Any) -> Any:
            return lambda *tensors, **named: launched.append(self.kernel.warmup(*tensors, grid=grid, **named))

    load, real = flash_kernels.load, flash_kernels.load()
    flash_kernels.load = lambda: SimpleNamespace(  # type: ignore[assignment]
        step=Compiled(real.step), prepare=Compiled(real.prepare)
    )
    try:
        optimizer = flash_optimizers.FlashAdamW(parameters((64, 33), torch.bfloat16), capturable=capturable)
        for parameter in all_parameters(optimizer):
            parameter.grad = torch.ones_like(parameter)
        with torch.no_grad():
            triton_tables.step_triton(list(optimizer._slots()))
    finally:
        flash_kernels.load = load
    assert len(launched) == (4 if capturable else 2), "two kinds: one with sizes and addresses that are multiples of 16"
    assert all(one.asm["cubin"] for one in launched)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed stays out of the answers
    torch.set_num_threads(1)
    np.seterr(all="ignore")  # the interpreter computes both sides of every choice
    torch.Tensor.sqrt = exact_root  # type: ignore[method-assign]
    for line in sys.stdin:
        request = json.loads(line)
        failure = None
        try:
            globals()[request["check"]](**request["arguments"])
        except Exception:
            failure = traceback.format_exc()
        print(json.dumps(failure), file=answers, flush=True)


if __name__ == "__main__":
    main()
