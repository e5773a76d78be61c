"""What every entry of the catalogue is put through, and the way to run it: small arguments, few steps."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.contract import images, text
from torch import nn

from hasten import methods
from hasten.bench import checkpoint as checkpoints
from hasten.bench.flops import FlopCounter
from hasten.bench.plan import make_plan
from hasten.bench.train import Result, Task, train
from hasten.bench.workloads.base import Workload, from_module
from hasten.program import Method, Program

IMAGES, TEXT = from_module(images, "images"), from_module(text, "text")
WORKLOADS = {"images": IMAGES, "text": TEXT}

# With arguments that show an effect within a few steps of a tiny model.
SMALL: dict[str, Method] = {
    "blurpool": methods.blurpool(min_channels=4),
    "channels_last": methods.channels_last(),
    "cutmix": methods.cutmix(),
    "ema": methods.ema(half_life=0.3),
    "flash_adamw": methods.flash_adamw(lr=0.01),
    "flash_lion": methods.flash_lion(lr=0.003),
    "flash_sgd": methods.flash_sgd(lr=0.05, momentum=0.9),
    "gradient_clipping": methods.gradient_clipping(0.1),
    "gradual_pruning": methods.gradual_pruning(compression=2.0, every=1),
    "label_smoothing": methods.label_smoothing(0.2),
    "layer_freezing": methods.layer_freezing(start=0.2),
    "mixup": methods.mixup(alpha=1.0),
    "progressive_resizing": methods.progressive_resizing(),
    "sam": methods.sam(rho=0.1),
    "selective_backprop": methods.selective_backprop(start=0.2, end=1.0, interrupt=3),
    "stochastic_depth": methods.stochastic_depth(drop_rate=0.5),
}
NAMES = tuple(SMALL)
IMAGES_ONLY = {name for name in NAMES if SMALL[name].card.needs & {"images", "float_inputs"}}
FLASH = ("flash_adamw", "flash_lion", "flash_sgd")  # these train in bfloat16, whatever the program says
# (workload, method) wherever the workload has what the method needs.
PLACES = [(where, name) for where in WORKLOADS for name in NAMES if where == "images" or name not in IMAGES_ONLY]
STEPS = 6


class Crash(BaseException):
    """A process that ends at once, as a kill would end it."""


def run(
    program: Program,
    workload: Workload = IMAGES,
    *,
    cycles: tuple[tuple[int, int, int], ...] = ((0, STEPS, 0),),
    seed: int = 0,
    metric: Callable[..., float] | None = None,
    workers: int = 0,
    forks: tuple[int, ...] = (),
    **options: Any,
) -> Result:
    """Train a program; a checkpoint at every step where a file is given."""
    test, judge = workload.test.build(), metric or workload.metric.build()
    task = Task(program, seed, cycles, test, judge, workers=workers, forks=forks)
    return train(task, checkpoint_seconds=0.0, **options)


def judge(model: nn.Module, workload: Workload = IMAGES) -> float:
    """The workload's metric of a model."""
    return workload.metric.build()(model, workload.test.build()())


def bits(result: Result) -> tuple[Any, ...]:
    """Everything of a result that must not depend on the machine's day: weights, metrics, losses, FLOPs."""
    points = [(p.point, p.step, p.epoch, p.metric, p.train_loss, p.flops) for p in result.points]
    return result.weights, points, result.scored_samples, result.parameters


@contextmanager
def killed_after(saves: int) -> Iterator[None]:
    """The process dies right after its `saves`-th checkpoint is on the disk."""
    left = [saves]
    real = checkpoints.save

    def save(path: Path, state: dict[str, Any]) -> None:
        real(path, state)
        left[0] -= 1
        if not left[0]:
            raise Crash

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "save", save)
        with pytest.raises(Crash):
            yield


@contextmanager
def counted_once() -> Iterator[None]:
    """Runs of one program meanwhile share their counts of FLOPs, which take longer than a step of a tiny model."""
    known: dict[Any, float] = {}
    real = FlopCounter.__init__

    def sharing(self: FlopCounter, *args: Any, **options: Any) -> None:
        real(self, *args, **options)
        self.known = known

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FlopCounter, "__init__", sharing)
        yield


def resumes_to_the_bit(straight: Result, kills: Iterable[int], again: Callable[..., Result], folder: Path) -> None:
    """Killed after this many checkpoints, `again(checkpoint=file)` goes on to what it came to in one go, `straight`."""
    first, *others = kills

    def killed(saves: int) -> None:
        with killed_after(saves):
            again(checkpoint=folder / f"{saves}.pt")
        found = again(checkpoint=folder / f"{saves}.pt")
        assert found.resumed
        assert bits(found) == bits(straight)

    killed(first)
    with counted_once():
        for saves in others:
            killed(saves)


def compatible(*names: str) -> bool:
    """Whether no card of these conflicts with another one's."""
    return not any(other in SMALL[name].card.conflicts for name in names for other in names)


def checked(program: Program, workload: Workload) -> Program:
    """The program after everything that a plan checks before a study runs (needs, surgery on `meta`)."""
    make_plan(workload, {"base": [], "arm": program}, seeds=1, points=1)
    return program


def combinations() -> list[tuple[str, ...]]:
    """A few sets of methods in which every two meet in all ways: both, either one, neither. Greedy and fixed."""
    draw = random.Random(0)
    candidates = [tuple(name for name in NAMES if draw.random() < 0.6) for _ in range(500)]
    candidates = [names for names in candidates if compatible(*names)]
    wanted = {pattern for names in candidates for pattern in _patterns(names)}
    found = []
    while wanted:
        best = max(candidates, key=lambda names: len(wanted & _patterns(names)))
        wanted -= _patterns(best)
        found.append(best)
    return found


def _patterns(names: tuple[str, ...]) -> set[tuple[str, bool, str, bool]]:
    return {(a, a in names, b, b in names) for a, b in itertools.combinations(NAMES, 2)}
