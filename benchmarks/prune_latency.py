"""Time of a forward pass: a dense ResNet, the same with channels masked, and without them.

The arms take turns, the order turned round every round; `ratio` is the median over the rounds of an arm's time over
that of `dense` in the same round, `interval` a 95 % interval of that median (its order statistics).

    python benchmarks/prune_latency.py --json                      ResNet-20, images of 32, batches of 1 and 64
    python benchmarks/prune_latency.py --json --removed 0.5        other shares of the channels

Channels are removed by norm, the same share of every family; the first and the last layer keep their ends. `masked` is
the model with zeros, `cut` the one that `hasten.prune.structure.materialize` makes of it; their outputs are compared
before anything is timed. `macs_ratio` is what theory promises: multiply-adds of the cut model over the dense one's.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from dataclasses import dataclass

import torch
from _intervals import median_interval
from _record import emit
from torch import Tensor, nn

from hasten.bench.models import ResNet
from hasten.prune.masks import apply
from hasten.prune.structure import channel_masks, materialize

CLAIM = "prune_latency"
SECONDS = 0.02  # a measurement repeats the pass until it takes about as long


@dataclass(frozen=True)
class Arm:
    """A model under test."""

    name: str
    model: nn.Module
    removed: float
    parameters: int
    macs_ratio: float


def arms_of(model: nn.Module, images: Tensor, shares: list[float]) -> list[Arm]:
    """The dense model, and for each share the masked and the cut one."""
    size = sum(p.numel() for p in model.parameters())
    arms = [Arm("dense", model, 0.0, size, 1.0)]
    for share in shares:
        masks = channel_masks(model, images[:1], density=1 - share)
        masked = apply(copy.deepcopy(model), masks)
        cut, removed = materialize(masked, images[:1])
        with torch.inference_mode():
            torch.testing.assert_close(cut(images), masked(images), rtol=1e-3, atol=1e-3)
        ratio = removed.macs[1] / removed.macs[0]
        percent = f"{100 * share:g} % removed"
        arms.append(Arm(f"masked, {percent}", masked, share, size, 1.0))
        arms.append(Arm(f"cut, {percent}", cut, share, removed.parameters[1], ratio))
    return arms


def timed(model: nn.Module, images: Tensor, repeats: int) -> float:
    """Seconds of a pass."""
    start = time.perf_counter()
    for _ in range(repeats):
        model(images)
    return (time.perf_counter() - start) / repeats


@torch.inference_mode()
def measure(arms: list[Arm], images: Tensor, rounds: int) -> dict[str, list[float]]:
    """Seconds of each arm, one value a round."""
    repeats = {}
    for arm in arms:
        timed(arm.model, images, 2)
        repeats[arm.name] = max(1, round(SECONDS / timed(arm.model, images, 2)))
    found: dict[str, list[float]] = {arm.name: [] for arm in arms}
    for position in range(rounds):
        for arm in arms if position % 2 == 0 else reversed(arms):
            found[arm.name].append(timed(arm.model, images, repeats[arm.name]))
    return found


def report(options: argparse.Namespace, arms: list[Arm], batch: int, found: dict[str, list[float]]) -> None:
    """One line for each arm."""
    for arm in arms:
        runs = [1e3 * seconds for seconds in found[arm.name]]
        ratios = [own / dense for own, dense in zip(found[arm.name], found["dense"], strict=True)]
        ratio, interval = median_interval(ratios)
        emit(
            options.json,
            claim=f"{CLAIM}, batch {batch}",
            arm=arm.name,
            value=statistics.median(runs),
            unit="ms",
            ratio=ratio,
            interval=interval,
            n=len(runs),
            runs=[round(one, 4) for one in runs],
            model=f"ResNet-{options.depth}, width {options.width}",
            image=options.image,
            batch=batch,
            removed=arm.removed,
            parameters=arm.parameters,
            macs_ratio=arm.macs_ratio,
            threads=torch.get_num_threads(),
        )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--image", type=int, default=32, help="height and width")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--removed", type=float, nargs="+", default=[0.25, 0.5, 0.75], help="shares of the channels")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    model = ResNet(options.depth, width=options.width).eval()
    for batch in options.batch:
        images = torch.randn(batch, 3, options.image, options.image)
        arms = arms_of(model, images, options.removed)
        report(options, arms, batch, measure(arms, images, options.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
