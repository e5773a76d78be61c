"""What the loop costs over a loop written by hand: digits CNN, batch 64, one thread.

Both train the same model on the same batches with the same schedule. They take turns in one process, a few steps at a
time, and CPU time of the process is counted, so a busy machine disturbs both alike. `no hooks` is the bare program;
`four hooks` adds four hooks that do nothing but exist (every moment is called).

    python benchmarks/loop_overhead.py --json
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from _idle import IdleHook
from _record import emit

from hasten._core.clock import Tick
from hasten.bench.build import build
from hasten.bench.ledger import Ledger
from hasten.bench.run import Run
from hasten.bench.source import BatchSource
from hasten.bench.workloads import load
from hasten.program import Program, call

CPU = torch.device("cpu")


def by_hand(program: Program, total: int) -> Callable[[], None]:
    """The loop that a careful person writes for this workload."""
    torch.manual_seed(0)
    inputs, targets = program.data.build()(0)
    model = program.model.build()
    optimizer = program.optimizer.build()(program.param_groups.build()(model))
    schedule = program.schedule.build().schedule
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(min(step, total), total))
    loss_function = torch.nn.CrossEntropyLoss()
    model.train()

    def batches() -> Iterator[tuple[Any, Any]]:
        for epoch in itertools.count():
            order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(epoch))
            for start in range(0, len(inputs) - 63, 64):
                index = order[start : start + 64]
                yield inputs[index], targets[index]

    source = batches()

    def step() -> None:
        x, y = next(source)
        optimizer.zero_grad(set_to_none=True)
        loss = loss_function(model(x), y)
        loss.backward()
        optimizer.step()
        scheduler.step()
        if not torch.isfinite(loss):
            raise ArithmeticError("diverged")

    return step


def by_loop(program: Program, total: int) -> Callable[[], None]:
    """One step of hasten's loop."""
    source = BatchSource(program.data.build()(0), program.sampler.build(), batch_size=64, seed=0, device=CPU)
    run = Run(program, build(program, seed=0, device=CPU), seed=0, device=CPU, ledger=Ledger(CPU))
    batches, steps = source.batches(0), itertools.count()

    def step() -> None:
        k = next(steps)
        run.step(Tick(k % total, 0, total, run.ledger.seconds, source.steps_per_epoch, 64), batches)

    return step


def measure(loops: dict[str, Callable[[], None]], rounds: int, steps: int) -> dict[str, list[float]]:
    """CPU seconds per step of each loop, one value a round, the order turned round every time."""
    found: dict[str, list[float]] = {name: [] for name in loops}
    for step in loops.values():
        for _ in range(5):
            step()
    for position in range(rounds):
        names = list(loops) if position % 2 == 0 else list(reversed(loops))
        for name in names:
            begun = time.process_time()
            for _ in range(steps):
                loops[name]()
            found[name].append((time.process_time() - begun) / steps)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--steps", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(1)
    program = load("digits").program
    hooked = program
    for number in range(4):
        hooked = hooked.append("hooks", f"idle{number}", call(IdleHook))
    total = 10**6
    loops = {"by hand": by_hand(program, total)}
    loops |= {"no hooks": by_loop(program, total), "four hooks": by_loop(hooked, total)}
    found = measure(loops, options.rounds, options.steps)
    base = found["by hand"]
    for name, times in found.items():
        ratios = [a / b for a, b in zip(times, base, strict=True)]
        emit(
            options.json,
            claim="loop overhead",
            arm=name,
            value=1e3 * statistics.median(times),
            unit="CPU ms per step",
            ratio=statistics.median(ratios),
            interval=[statistics.quantiles(ratios, n=20)[0], statistics.quantiles(ratios, n=20)[-1]],
            n=len(times),
            runs=[round(1e3 * seconds, 4) for seconds in times],
        )


if __name__ == "__main__":
    main()
