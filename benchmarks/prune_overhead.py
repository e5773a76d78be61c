"""What masks cost: of a training step, and of choosing them in a model of 100 million parameters.

    python benchmarks/prune_overhead.py --json              both, in under a minute on two cores

`held`: a step of ResNet-20 (CIFAR-10's shape, batch 128, SGD with momentum) whose masks are held at sparsity 0.9,
against the same step of the same model without masks; the two take turns, the order turned round every round. `ratio`
is the median over the rounds of masked over plain in the same round, by the clock, `interval` a 95 % interval of that
median; `cpu_ratio` is that of CPU time.

`select`: magnitudes of every tensor and exactly k of all of them (`keep_largest`), seconds by the clock. `extra_bytes`
is how far the peak of the process rises beyond the weights while that happens, scores and masks included: 4 and 1 byte
an entry are what they themselves take.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Callable

import torch
from _intervals import median_interval
from _record import emit
from torch import nn

from hasten.bench.models import resnet
from hasten.prune import Masks, apply, find, hold, keep_largest

CLAIM = "pruning overhead"


def by_magnitude(model: nn.Module, sparsity: float) -> Masks:
    parameters = find(model).parameters
    scores = [parameter.detach().abs() for parameter in parameters.values()]
    keep = round((1 - sparsity) * sum(score.numel() for score in scores))
    return Masks(dict(zip(parameters, keep_largest(scores, keep, names=list(parameters)), strict=True)))


def step_of(masked: bool, batch: int, sparsity: float) -> Callable[[], None]:
    """One training step of a ResNet-20 of its own."""
    torch.manual_seed(0)
    model = resnet.ResNet(depth=20)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    if masked:
        hold(apply(model, by_magnitude(model, sparsity)), optimizer)
    x, y = torch.randn(batch, 3, 32, 32), torch.randint(0, 10, (batch,))

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def timed(run: Callable[[], None]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def overhead(options: argparse.Namespace) -> None:
    steps = {arm: step_of(arm == "held", options.batch, options.sparsity) for arm in ("plain", "held")}
    found: dict[str, list[tuple[float, float]]] = {arm: [] for arm in steps}
    for step in steps.values():
        step()
        step()
    for position in range(options.rounds):
        for arm in list(steps) if position % 2 == 0 else list(reversed(steps)):
            found[arm].append(timed(steps[arm]))
    for arm, times in found.items():
        ratios, cpu = ([own[k] / base[k] for own, base in zip(times, found["plain"], strict=True)] for k in (0, 1))
        ratio, interval = median_interval(ratios)
        emit(
            options.json, claim=CLAIM, arm=arm, value=1e3 * statistics.median(wall for wall, _ in times),
            unit="ms per step", ratio=ratio, interval=interval, cpu_ratio=statistics.median(cpu),
            cpu_interval=median_interval(cpu)[1], n=len(times), threads=torch.get_num_threads(), batch=options.batch,
            sparsity=options.sparsity, runs=[round(1e3 * wall, 3) for wall, _ in times],
        )  # fmt: skip


def peak() -> int:
    """Bytes of memory that the process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def selection(options: argparse.Namespace) -> None:
    torch.manual_seed(0)
    side = 4096
    layers = [nn.Linear(side, side, bias=False) for _ in range(max(1, round(options.parameters / side**2)))]
    model = nn.Sequential(*layers, nn.Linear(side, 10))
    count = find(model).prunable
    by_magnitude(nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 2)), options.sparsity)  # loads what is loaded once
    before, times = peak(), []
    for _ in range(options.selections):
        begun = time.perf_counter()
        masks = by_magnitude(model, options.sparsity)
        times.append(time.perf_counter() - begun)
    assert masks.nonzeros == round((1 - options.sparsity) * count)
    value, interval = median_interval(times)
    emit(
        options.json, claim=CLAIM, arm="select", value=value, unit="s", interval=interval, n=len(times),
        parameters=count, extra_bytes=peak() - before, extra_bytes_per_parameter=(peak() - before) / count,
        threads=torch.get_num_threads(), runs=[round(seconds, 3) for seconds in times],
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--parameters", type=float, default=100e6)
    parser.add_argument("--selections", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    selection(options)  # first, so that the peak is its own
    overhead(options)


if __name__ == "__main__":
    main()
