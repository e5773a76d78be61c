"""An AdamW step on a GPU: hasten's 7.125 bytes a parameter against torch's fused AdamW, and against a plain copy.

The arms take turns, a few steps at a time, timed by CUDA events. Gradients are there already: only `step()` is timed.
`of copy` is the bandwidth of a step (bytes it must move / time) over that of a large copy on the same GPU, measured in
the same rounds: 1 is as fast as memory allows.

    python benchmarks/flash_gpu.py --json                          a transformer's tensors, 100 million parameters
    python benchmarks/flash_gpu.py --json --layout small           2000 tensors of 4096 elements: launches and the host
    python benchmarks/flash_gpu.py --json --peers                  and the published flashoptim, and our slow backends
    python benchmarks/flash_gpu.py --interpret                     no GPU: one step of a tiny model, checked, not timed

Without a GPU it says so and ends with status 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from _record import emit

from hasten.optim.flash import FlashAdamW

SMALL = 4096
OPTIONS = {"lr": 1e-4, "weight_decay": 0.01}


@dataclass(frozen=True)
class Arm:
    """An optimizer under test."""

    make: Callable[[list[torch.Tensor]], Any]
    dtype: torch.dtype
    moved: float  # bytes a step must read and write for each parameter


def hasten_arm(backend: str, **options: Any) -> Callable[[list[torch.Tensor]], Any]:
    return lambda parameters: FlashAdamW(parameters, backend=backend, **OPTIONS, **options)


def torch_arm(parameters: list[torch.Tensor]) -> Any:
    return torch.optim.AdamW(parameters, fused=True, **OPTIONS)


def published(parameters: list[torch.Tensor]) -> Any:
    import flashoptim

    return flashoptim.FlashAdamW(parameters, master_weight_bits=24, **OPTIONS)


# Moved: weight, correction and states both ways, the gradient once, scales of 2 bytes for 32 elements both ways.
ARMS = {
    "torch fused fp32": Arm(torch_arm, torch.float32, 28.0),
    "torch fused bf16": Arm(torch_arm, torch.bfloat16, 14.0),
    "hasten 24 bits": Arm(hasten_arm("triton"), torch.bfloat16, 12.25),
    "hasten 24 bits, capturable": Arm(hasten_arm("triton", capturable=True), torch.bfloat16, 12.25),
    "hasten 32 bits": Arm(hasten_arm("triton", master_weight_bits=32), torch.bfloat16, 14.25),
    "hasten 16 bits, stochastic": Arm(
        hasten_arm("triton", master_weight_bits=None, stochastic_rounding=True), torch.bfloat16, 10.25
    ),
}
PEERS = {
    "flashoptim 24 bits": Arm(published, torch.bfloat16, 12.25),
    "hasten compiled": Arm(hasten_arm("compiled"), torch.bfloat16, 12.25),
    "hasten eager": Arm(hasten_arm("eager"), torch.bfloat16, 12.25),
}


def shapes(layout: str, total: int) -> list[tuple[int, ...]]:
    """Shapes of about `total` parameters: layers of a transformer, or small tensors of one size."""
    if layout == "small":
        return [(SMALL,)] * max(1, total // SMALL)
    width = 4096 if total >= 5 * 10**8 else 1024 if total >= 2 * 10**7 else 64
    layer = [(3 * width, width), (width, width), (4 * width, width), (width, 4 * width), (width,), (width,)]
    size = sum(torch.Size(shape).numel() for shape in layer)
    return layer * max(1, round(total / size))


def parameters(sizes: list[tuple[int, ...]], dtype: torch.dtype, device: str) -> list[torch.Tensor]:
    made = [torch.nn.Parameter(0.02 * torch.randn(size, device=device).to(dtype)) for size in sizes]
    for one in made:
        one.grad = (1e-3 * torch.randn(one.shape, device=device)).to(dtype)
    return made


def milliseconds(run: Callable[[], Any], steps: int) -> float:
    """Time of one of `steps` runs, on the GPU's clock."""
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    begin.record()
    for _ in range(steps):
        run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / steps


def copying(size: int) -> Callable[[], Any]:
    """A copy of `size` bytes."""
    source, target = (torch.zeros(size, dtype=torch.uint8, device="cuda") for _ in range(2))
    return lambda: target.copy_(source)


def measure(runs: dict[str, Callable[[], Any]], rounds: int, steps: int) -> dict[str, list[float]]:
    """Milliseconds of each run, one value a round, the order turned round every time."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        for _ in range(5):
            run()  # compiles, and makes states and tables
    for position in range(rounds):
        for name in list(runs) if position % 2 == 0 else list(reversed(runs)):
            found[name].append(milliseconds(runs[name], steps))
    return found


def chosen_arms(*, peers: bool) -> dict[str, Arm]:
    arms = dict(ARMS)
    if peers:
        arms |= PEERS
        if importlib.util.find_spec("flashoptim") is None:
            print("flashoptim is not installed: left out (pip install flashoptim)", file=sys.stderr)
            del arms["flashoptim 24 bits"]
    return arms


def time_all(options: argparse.Namespace) -> None:
    arms, sizes = chosen_arms(peers=options.peers), shapes(options.layout, options.params)
    count = sum(torch.Size(size).numel() for size in sizes)
    runs: dict[str, Callable[[], Any]] = {}
    for name, arm in arms.items():
        runs[name] = arm.make(parameters(sizes, arm.dtype, "cuda")).step
    copied = 2**29
    found = measure({"copy": copying(copied), **runs}, options.rounds, options.steps)
    base = found["torch fused fp32"]
    for name, times in found.items():
        ratios = [a / b for a, b in zip(times, base, strict=True)]
        moved = 2.0 * copied if name == "copy" else arms[name].moved * count
        bandwidths = [moved / time / 1e6 for time in times]
        of_copy = [
            bandwidth * time / (2.0 * copied / 1e6) for bandwidth, time in zip(bandwidths, found["copy"], strict=True)
        ]
        emit(
            options.json,
            claim=f"flash step, {options.layout}",
            arm=name,
            value=statistics.median(times),
            unit="ms",
            ratio=None if name == "copy" else statistics.median(ratios),
            interval=None if name == "copy" else [min(ratios), max(ratios)],
            n=len(times),
            parameters=count,
            tensors=len(sizes),
            gigabytes_per_second=statistics.median(bandwidths),
            of_copy=statistics.median(of_copy),
            gpu=torch.cuda.get_device_name(),
            runs=[round(time, 5) for time in times],
        )


def check_interpreted(options: argparse.Namespace) -> None:
    """One step of every arm of ours that a kernel steps, against the eager backend, on the CPU."""
    import numpy as np

    from hasten.optim.flash import join_weight, triton_tables

    np.seterr(all="ignore")
    sizes = shapes(options.layout, options.params)
    for name, arm in ARMS.items():
        if not name.startswith("hasten"):
            continue
        joined = []
        for kernel in (False, True):
            torch.manual_seed(0)
            weights = parameters(sizes, arm.dtype, "cpu")
            optimizer = arm.make(weights)
            if kernel:
                with torch.no_grad():
                    triton_tables.step_triton(list(optimizer._slots()))
            else:
                optimizer.backend = "eager"
                optimizer.step()
            joined.append([join_weight(w.detach(), optimizer.state[w].get("correction")) for w in weights])
        for expected, found in zip(*joined, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
        print(f"{name}: one step of {len(sizes)} tensors agrees with the eager backend")
    print("There is no GPU here, or it was not asked for: nothing was timed.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--params", type=int, default=None, help="how many parameters, about")
    parser.add_argument("--layout", choices=("transformer", "small"), default="transformer")
    parser.add_argument("--peers", action="store_true", help="slow or published ones beside")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--interpret", action="store_true", help="check a step on the CPU, under Triton's interpreter")
    options = parser.parse_args()
    if options.interpret:
        os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported
        options.params = options.params or 2 * SMALL
        return check_interpreted(options)
    if not torch.cuda.is_available():
        sys.exit("flash_gpu.py: there is no GPU (no CUDA device), so there is nothing to time. Try --interpret.")
    options.params = options.params or (2000 * SMALL if options.layout == "small" else 10**8)
    return time_all(options)


if __name__ == "__main__":
    main()
