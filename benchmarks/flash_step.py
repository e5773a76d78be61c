"""An optimizer step on a CPU: hasten's flash optimizers against torch's fused AdamW, and against memory itself.

The arms take turns, one step at a time, the order turned round every round; gradients are there already, only `step()`
is timed, by the clock and by CPU time of the process. `ratio` is the median over the rounds of an arm's time over that
of `torch AdamW fused fp32` in the same round, `interval` a 95 % interval of that median (its order statistics).

    python benchmarks/flash_step.py --json                  one tensor of 50 million parameters, and 1000 of 1000
    python benchmarks/flash_step.py --json --peers          8-bit AdamW of bitsandbytes and torchao beside
    python benchmarks/flash_step.py --json --release        bytes of gradients, with and without gradient release
    python benchmarks/flash_step.py --json --peak           peak of a process that trains 100 million parameters

`floor_ns` is what a step must move over the bandwidth of an in-place `add_` on a large tensor, measured in the same
rounds and with as many threads: no step on this machine can be faster, if its tensors are not in a cache.

`bytes_per_param` counts live tensors (hasten.optim.memory_report), gradients included.

Peers at their best: sizes are multiples of 256, since torchao keeps others in float32 without a word; its first step
compiles and is not timed. Both have float32 weights, as they ask for, and torchao a second arm of bfloat16 ones.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from _intervals import median_interval
from _record import emit
from torch import Tensor, nn

from hasten.optim import FlashAdamW, FlashLion, FlashSGD, cast_model, enable_gradient_release, memory_report

BASE, COPY = "torch AdamW fused fp32", "in-place add_"
OPTIONS = {"lr": 1e-4, "weight_decay": 0.01}
PEER_SIZE = 10_485_760  # a multiple of 256
BANDWIDTH_BYTES = 2**28
FP32, BF16 = torch.float32, torch.bfloat16

Make = Callable[[list[nn.Parameter]], Any]


@dataclass(frozen=True)
class Arm:
    """An optimizer under test."""

    make: Make
    dtype: torch.dtype
    moved: float  # bytes that a step must read and write for each parameter
    peer: str = "hasten"


def torch_adamw(**options: Any) -> Make:
    return lambda parameters: torch.optim.AdamW(parameters, **OPTIONS, **options)


def torch_sgd(parameters: list[nn.Parameter]) -> Any:
    return torch.optim.SGD(parameters, lr=1e-4, momentum=0.9, fused=True)


# Moved: weight, correction and states both ways, the gradient once, scales of 2 bytes for 32 elements both ways.
ARMS = {
    BASE: Arm(torch_adamw(fused=True), FP32, 28.0, "torch"),
    "torch AdamW foreach fp32": Arm(torch_adamw(foreach=True), FP32, 28.0, "torch"),
    "torch AdamW fused bf16": Arm(torch_adamw(fused=True), BF16, 14.0, "torch"),
    "torch SGD fused fp32": Arm(torch_sgd, FP32, 20.0, "torch"),
    "FlashAdamW": Arm(lambda ps: FlashAdamW(ps, **OPTIONS), BF16, 12.25),
    "FlashAdamW, 32 bits": Arm(lambda ps: FlashAdamW(ps, master_weight_bits=32, **OPTIONS), BF16, 14.25),
    "FlashSGD, momentum": Arm(lambda ps: FlashSGD(ps, lr=1e-4, momentum=0.9), BF16, 10.125),
    "FlashLion": Arm(lambda ps: FlashLion(ps, **OPTIONS), BF16, 10.125),
}  # fmt: skip


def peers() -> dict[str, Arm]:
    """8-bit AdamW of others, as far as they are installed; a line on standard error for those that are not."""
    found: dict[str, Arm] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from bitsandbytes.optim import AdamW8bit

            found["bitsandbytes AdamW8bit"] = Arm(lambda ps: AdamW8bit(ps, **OPTIONS), FP32, 16.06, "bitsandbytes")
        except ImportError:
            print("bitsandbytes is not installed: left out (pip install bitsandbytes)", file=sys.stderr)
        try:
            from torchao.optim import AdamW8bit as Ao

            found["torchao AdamW8bit"] = Arm(lambda ps: Ao(ps, **OPTIONS), FP32, 16.06, "torchao")
            found["torchao AdamW8bit bf16"] = Arm(
                lambda ps: Ao(ps, bf16_stochastic_round=True, **OPTIONS), BF16, 10.06, "torchao"
            )
        except ImportError:
            print("torchao is not installed: left out (pip install torchao)", file=sys.stderr)
    return found


def parameters(sizes: list[int], dtype: torch.dtype, kept: dict[Any, list[Tensor]]) -> list[nn.Parameter]:
    """Parameters with gradients; arms of one dtype share the gradients, which no step changes."""
    generator = torch.Generator().manual_seed(0)
    if dtype not in kept:
        kept[dtype] = [(1e-3 * torch.randn(size, generator=generator)).to(dtype) for size in sizes]
    made = [nn.Parameter((0.02 * torch.randn(size, generator=generator)).to(dtype)) for size in sizes]
    for one, gradient in zip(made, kept[dtype], strict=True):
        one.grad = gradient
    return made


def timed(run: Callable[[], Any]) -> tuple[float, float]:
    """Seconds of a run by the clock, and CPU seconds of the process."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(runs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """(wall, CPU) seconds of each run, one pair a round, the order turned round every time."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for run in runs.values():
        for _ in range(2):
            run()  # makes states, compiles
    for position in range(rounds):
        for name in list(runs) if position % 2 == 0 else list(reversed(runs)):
            found[name].append(timed(runs[name]))
    return found


def tensors_in(value: Any) -> Iterator[Tensor]:
    """The plain tensors of a tensor, of which torchao's hold several."""
    if isinstance(value, Tensor) and hasattr(value, "__tensor_flatten__"):
        for name in value.__tensor_flatten__()[0]:
            yield from tensors_in(getattr(value, name))
    elif isinstance(value, Tensor):
        yield value


def bytes_per_param(optimizer: Any) -> float:
    """Bytes of weights, gradients and states for each parameter."""
    held = [p for group in optimizer.param_groups for p in group["params"]]
    wrapped = any(hasattr(v, "__tensor_flatten__") for p in held for v in optimizer.state[p].values())
    if not wrapped:
        return memory_report(optimizer).bytes_per_parameter
    values = [v for p in held for v in (p.data, p.grad, *optimizer.state[p].values())]
    sizes = {t.data_ptr(): t.untyped_storage().nbytes() for value in values for t in tensors_in(value)}
    return sum(sizes.values()) / sum(p.numel() for p in held)


def time_steps(options: argparse.Namespace, claim: str, arms: dict[str, Arm], sizes: list[int], rounds: int) -> None:
    """One line for each arm, and one for the bandwidth."""
    count, kept = sum(sizes), {}
    optimizers = {name: arm.make(parameters(sizes, arm.dtype, kept)) for name, arm in arms.items()}
    buffer = torch.zeros(BANDWIDTH_BYTES // 4)
    repeats = max(1, round(2e6 / count))  # of small steps, so that a round is long enough for the clock

    def repeated(optimizer: Any) -> Callable[[], Any]:
        return lambda: [optimizer.step() for _ in range(repeats)]

    runs: dict[str, Callable[[], Any]] = {COPY: lambda: buffer.add_(1.0)}
    runs |= {name: repeated(optimizer) for name, optimizer in optimizers.items()}
    found = measure(runs, rounds)
    speeds = [2 * BANDWIDTH_BYTES / wall / 1e9 for wall, _ in found.pop(COPY)]
    shared = {"threads": torch.get_num_threads(), "n": rounds}
    emit(options.json, claim=claim, arm=COPY, value=statistics.median(speeds), unit="GB/s",
         interval=median_interval(speeds)[1], runs=[round(speed, 3) for speed in speeds], **shared)  # fmt: skip
    scale = 1e9 / count / repeats
    for name, times in found.items():
        arm, optimizer = arms[name], optimizers[name]
        wall, cpu = ([pair[k] * scale for pair in times] for k in (0, 1))
        base = [[pair[k] * scale for pair in found[BASE]] for k in (0, 1)]
        ratios, cpu_ratios = (
            [a / b for a, b in zip(own, other, strict=True)] for own, other in zip((wall, cpu), base, strict=True)
        )
        floor = arm.moved / statistics.median(speeds) if 4 * count >= 2**28 else None  # small ones stay in a cache
        size = bytes_per_param(optimizer)
        emit(
            options.json,
            claim=claim,
            arm=name,
            value=statistics.median(wall),
            unit="ns per parameter",
            ratio=statistics.median(ratios),
            interval=median_interval(ratios)[1],
            ns_per_param=statistics.median(wall),
            cpu_ns_per_param=statistics.median(cpu),
            ratio_vs_torch_fused=statistics.median(ratios),
            cpu_ratio_vs_torch_fused=statistics.median(cpu_ratios),
            cpu_interval=median_interval(cpu_ratios)[1],
            bytes_per_param=size,
            bytes_moved=arm.moved,
            floor_ns=floor,
            peer=arm.peer,
            parameters=count,
            tensors=len(sizes),
            runs=[round(one, 4) for one in wall],
            cpu_runs=[round(one, 4) for one in cpu],
            **shared,
        )
        if not options.json:
            least = f", floor by bytes {floor:.3f} ns" if floor else ""
            middle = statistics.median(cpu)
            print(f"    CPU {middle:.3f} ns, ratio {statistics.median(cpu_ratios):.3f}; {size:.4f} bytes{least}")


# Models: gradient release, and the peak of a process ------------------------------------------------------------------


def transformer(count: int) -> tuple[nn.Module, Tensor]:
    """Encoder layers with about `count` parameters, and a batch for them; activations are small beside the weights."""
    width = 1024 if count >= 2 * 10**7 else 256
    layers = max(1, round(count / (12 * width**2)))
    torch.manual_seed(0)
    blocks = [nn.TransformerEncoderLayer(width, 8, 4 * width, 0.0, batch_first=True) for _ in range(layers)]
    return nn.Sequential(*blocks), torch.randn(1, 32, width)


MODEL_ARMS: dict[str, tuple[Make, torch.dtype, bool]] = {
    BASE: (torch_adamw(fused=True), FP32, False),
    "torch AdamW fused bf16": (torch_adamw(fused=True), BF16, False),
    "FlashAdamW": (lambda ps: FlashAdamW(ps, **OPTIONS), BF16, False),
    "FlashAdamW, gradient release": (lambda ps: FlashAdamW(ps, **OPTIONS), BF16, True),
}


def train_model(name: str, count: int, steps: int) -> dict[str, float]:
    """A few steps of training; bytes for each parameter: at rest after a backward pass, and gradients at their most."""
    make, dtype, release = MODEL_ARMS[name]
    model, batch = transformer(count)
    if dtype != FP32:
        cast_model(model, dtype)
    optimizer = make(list(model.parameters()))
    held = list(model.parameters())
    size, most = sum(p.numel() for p in held), 0

    def gradients(*_: Any) -> bool:
        nonlocal most
        most = max(most, sum(p.grad.nbytes for p in held if p.grad is not None))
        return True

    if release:
        enable_gradient_release(model, optimizer, pre_step=gradients)
    batch, at_rest = batch.to(dtype), 0.0
    for _ in range(steps):
        optimizer.zero_grad()
        model(batch).float().square().mean().backward()
        gradients()
        if optimizer.state:
            at_rest = memory_report(optimizer).bytes_per_parameter
        optimizer.step()
    return {"parameters": size, "bytes_per_param": at_rest, "gradient_bytes_per_param": most / size}


def report_release(options: argparse.Namespace) -> None:
    """Bytes that live tensors take after a backward pass, and those of gradients at their most."""
    for name in MODEL_ARMS:
        found = train_model(name, options.params or 10**7, 2)
        fields = {key: value for key, value in found.items() if key != "parameters"}
        emit(options.json, claim="bytes after backward", arm=name, value=found["bytes_per_param"],
             unit="bytes per parameter", n=1, parameters=found["parameters"], **fields)  # fmt: skip
        if not options.json:
            print(f"    gradients at their most: {found['gradient_bytes_per_param']:.4f} bytes per parameter")


def high_water() -> int:
    """The most memory that this process ever had, in bytes (Linux)."""
    with open("/proc/self/status") as file:
        return 1024 * int(next(line.split()[1] for line in file if line.startswith("VmHWM")))


def in_process(arm: str, options: argparse.Namespace) -> None:
    """What `--peak` starts: train, and print what it took beyond what was there before."""
    torch.set_num_threads(options.threads)
    for name in MODEL_ARMS:
        train_model(name, 10**6, 2)  # what a first step loads: libraries, half of torch
    before = high_water()
    found = train_model(arm, options.params, 3)
    print(json.dumps({**found, "peak": high_water() - before}))


def report_peak(options: argparse.Namespace) -> None:
    """Peak memory of fresh processes, above what they had before there was a model."""
    count = options.params or 10**8
    found: dict[str, list[dict[str, float]]] = {name: [] for name in MODEL_ARMS}
    for _ in range(options.repeats):
        for name in MODEL_ARMS:
            arguments = [__file__, "--in-process", name, "--params", str(count), "--threads", str(options.threads)]
            done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=True)
            found[name].append(json.loads(done.stdout))
    for name, runs in found.items():
        size = runs[0]["parameters"]
        peaks = [run["peak"] / size for run in runs]
        base = [run["peak"] / size for run in found[BASE]]
        ratios = [a / b for a, b in zip(peaks, base, strict=True)]
        saved = statistics.median(b - a for a, b in zip(peaks, base, strict=True))
        counted = runs[0]["bytes_per_param"]
        by_count = found[BASE][0]["bytes_per_param"] - counted
        emit(
            options.json,
            claim="peak of a process",
            arm=name,
            value=statistics.median(peaks),
            unit="bytes per parameter",
            ratio=statistics.median(ratios),
            interval=[min(ratios), max(ratios)],
            n=len(runs),
            parameters=size,
            bytes_per_param=counted,
            gradient_bytes_per_param=runs[0]["gradient_bytes_per_param"],
            saved=saved,
            saved_by_count=by_count,
            threads=options.threads,
            runs=peaks,
        )
        if not options.json:
            print(f"    tensors {counted:.4f} bytes; saved {saved:.3f}, by counting tensors {by_count:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--params", type=int, default=None, help="parameters of the one tensor, or of the model")
    parser.add_argument("--tensors", type=int, default=1000, help="of 1000 elements, in the second case; 0: none")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--peers", action="store_true", help="slow; only what is installed")
    parser.add_argument("--release", action="store_true")
    parser.add_argument("--peak", action="store_true", help="Linux")
    parser.add_argument("--repeats", type=int, default=1, help="processes of each arm under --peak")
    parser.add_argument("--in-process", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_process:
        return in_process(options.in_process, options)
    torch.set_num_threads(options.threads)
    if options.release:
        return report_release(options)
    if options.peak:
        return report_peak(options)
    if options.peers:
        size = min(options.params or PEER_SIZE, PEER_SIZE) // 256 * 256
        arms = {name: ARMS[name] for name in (BASE, "torch AdamW fused bf16", "FlashAdamW")} | peers()
        return time_steps(options, f"step, peers, {size} parameters", arms, [size], min(options.rounds, 7))
    time_steps(options, "step, one tensor", ARMS, [options.params or 50_000_000], options.rounds)
    if options.tensors:
        name = f"step, {options.tensors} tensors of 1000"
        time_steps(options, name, ARMS, [1000] * options.tensors, options.rounds)
    return None


if __name__ == "__main__":
    main()
