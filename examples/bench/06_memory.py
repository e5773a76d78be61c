"""What does training need in memory? Known after three steps, and part by part.

    python examples/bench/06_memory.py
    hasten memory digits --arms base,ema,sam

The parts are exact: every storage counts once, whoever shares it. Below, the counting functions alone, on a model of
one's own.
"""

from __future__ import annotations

import torch
from torch import nn

from hasten.bench.memory import footprint, saved_bytes
from hasten.bench.workloads import load
from hasten.methods import blurpool, ema

KIB = 1024


def main():
    base = load("digits").program
    programs = {"base": base, "ema": base.then(ema()), "blur": base.then(blurpool())}
    programs["batches of 16"] = base.replace(batch_size=16)
    for name, program in programs.items():
        found = footprint(program)
        parts = ", ".join(f"{part.name} {part.bytes / KIB:.0f}" for part in found.parts if part.bytes > KIB)
        print(f"{name}: {found.total / KIB:.0f} KiB = {parts}")

    model = nn.Sequential(nn.Linear(100, 400), nn.ReLU(), nn.Linear(400, 10))
    inputs = torch.randn(256, 100, generator=torch.Generator().manual_seed(0))

    def step(size):
        for part in inputs.split(size):
            model(part).square().sum().backward()

    for size in (256, 64, 16):
        kept = saved_bytes(lambda: step(size), ignore=[inputs, *model.parameters()])  # noqa: B023 (called at once)
        print(f"microbatches of {size}: {kept / KIB:.0f} KiB of activations")


if __name__ == "__main__":
    main()
