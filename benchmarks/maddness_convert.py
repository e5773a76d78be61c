"""ResNet-20 on Fashion-MNIST with its convolutions as tables: what it costs in accuracy, and what it brings in time.

    python benchmarks/maddness_convert.py --json --weights FILE         train or load, convert, fine-tune, test
    python benchmarks/maddness_convert.py --json --weights FILE --time  time what FILE holds, on one thread
    python benchmarks/maddness_convert.py --json --smoke                all of it on made-up images, in seconds

dense                    as trained; the others start from it
planner                  the layers that `maddnessify` finds faster as tables here, within --budget, then fine-tuned
forced                   all 3x3 convolutions but the first, whatever the clock says; --factor codebooks for each input
                         channel, --leaves leaves; converted from front to back with training between, then fine-tuned
..., not fine-tuned      the same layers replaced at once, and nothing trained

All are frozen (8-bit tables, compiled kernels) before they are tested. Fine-tuning copies the dense network's outputs
on training images (distillation), straight through the tables. Test images are looked at once in a run, at its end;
`held_out` is the accuracy on validation images. `lost`: points of accuracy below dense, with a 95 % interval of the
paired bootstrap over test images. FILE keeps the weights of all arms; --arms names those to convert (again), --more
trains on with what it holds.

With --time all arms run the same images in turn, in batches of 128 and of 1; `ms` is the median, with a 95 % interval
from the order of the values; `ratio` the median over rounds of dense's time over the arm's (above 1: faster).
"""

from __future__ import annotations

import argparse
import copy
import functools
import itertools
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from _fashion_resnet import Images, fashion, invented, logits, new_model, train
from _intervals import median_interval
from _record import emit
from torch import Tensor, nn

from hasten._core.surgery import NoEffectWarning
from hasten.matmul import MaddnessConv2d, finetune_mode, freeze, maddnessify, parameter_groups, prepare, progressive
from hasten.matmul.maddness.planner import Entry, Plan

CLAIM = "maddness_convert"
ARMS = ("planner", "forced")
SMOKE = {
    "depth": 8, "width": 4, "images": 600, "held_out": 100, "dense_steps": 60, "calibration": 128, "stage_steps": 1,
    "per_stage": 3, "steps": 3, "batch": 32,
}  # fmt: skip
Setup = argparse.Namespace
Tune = Callable[[nn.Module, int, str], None]  # model, steps, what to call it


# Models ---------------------------------------------------------------------------------------------------------------


def trained(setup: Setup, images: Images) -> nn.Module:
    """The dense network."""
    torch.manual_seed(setup.seed)
    model = new_model(setup.width, setup.depth)
    groups = [{"params": list(model.parameters()), "lr": 0.2, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}]
    train(
        model, images, torch.optim.SGD(groups), setup.dense_steps,
        lambda batch, out: F.cross_entropy(out, batch.y), seed=setup.seed, label="dense", half=True,
    )  # fmt: skip
    return model.eval()


def planned(dense: nn.Module, batches: list[Tensor], setup: Setup) -> tuple[nn.Module, Plan]:
    """What the planner makes of it."""
    model = copy.deepcopy(dense)
    return model, maddnessify(model, batches, budget=setup.budget).plan


def forced(dense: nn.Module, batches: list[Tensor], setup: Setup) -> tuple[nn.Module, Plan]:
    """All 3x3 convolutions but the first as tables at once."""
    model = copy.deepcopy(dense)
    entries = [
        Entry(name, True, "forced", setup.factor * module.in_channels, setup.leaves)
        for name, module in dense.named_modules()
        if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) and not name.startswith("stem")
    ]
    return model, maddnessify(model, batches, plan=Plan(tuple(entries))).plan


def tuner(dense: nn.Module, images: Images, setup: Setup) -> Tune:
    """What trains a network, for so many steps, to give what `dense` gives."""

    def loss(batch: Images, out: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            wanted = dense(batch.x)
        return F.cross_entropy(out, wanted.float().softmax(1))

    def tune(model: nn.Module, steps: int, label: str) -> None:
        optimizer = torch.optim.Adam(parameter_groups(model, setup.lr))
        train(model, images, optimizer, steps, loss, seed=setup.seed + steps, label=label, size=setup.batch)

    return tune


def tuned(dense: nn.Module, plan: Plan, batches: list[Tensor], tune: Tune, setup: Setup) -> nn.Module:
    """The layers of a plan converted from front to back with training between, then all trained together."""
    model = copy.deepcopy(dense)
    stages = itertools.count(1)
    progressive(
        model, batches, lambda model: tune(model, setup.stage_steps, f"stage {next(stages)}"),
        plan=plan, per_stage=setup.per_stage,
    )  # fmt: skip
    tune(model, setup.steps, "all")
    freeze(model)
    return model.eval()


def resumed(model: nn.Module, tune: Tune, setup: Setup) -> nn.Module:
    """Tables opened, trained once more, frozen; a network without any as it is."""
    if not tables_of(model):
        return model
    finetune_mode(model)
    tune(model, setup.steps, "more")
    freeze(model)
    return model.eval()


def loaded(setup: Setup, state: dict[str, Tensor]) -> nn.Module:
    """A network with the weights of a file."""
    model = new_model(setup.width, setup.depth).eval()
    if any(name.endswith(".luts") for name in state):
        prepare(model, state)
    model.load_state_dict(state)
    return model


def tables_of(model: nn.Module) -> dict[str, list[int]]:
    """Codebooks and leaves of each convolution by tables."""
    layers = {name: module for name, module in model.named_modules() if isinstance(module, MaddnessConv2d)}
    return {name: [layer.ncodebooks, layer.leaves] for name, layer in layers.items()}


# Results --------------------------------------------------------------------------------------------------------------


def accuracy(model: nn.Module, images: Images) -> float:
    return float((logits(model, images).argmax(1) == images.y).double().mean())


def bootstrap(differences: Tensor) -> list[float]:
    """A 95 % interval of the mean of values in {-1, 0, 1}: resampled counts."""
    counts = np.array([(differences == value).sum() for value in (-1, 0, 1)])
    drawn = np.random.default_rng(0).multinomial(len(differences), counts / len(differences), 10_000)
    means = (drawn[:, 2] - drawn[:, 0]) / len(differences)
    return [float(bound) for bound in np.quantile(means, (0.025, 0.975))]


def tested(
    models: dict[str, nn.Module], plans: Mapping[str, Plan], images: Images, held_out: Images, as_json: bool
) -> None:
    """One line for each arm."""
    right = {arm: (logits(model, images).argmax(1) == images.y).int() for arm, model in models.items()}
    for arm, model in models.items():
        worse = right["dense"] - right[arm]
        value = float(right[arm].double().mean())
        tables = tables_of(model)
        emit(
            as_json, claim=CLAIM, arm=arm, value=value, unit="accuracy", interval=bootstrap(right[arm]),
            n=len(images), lost=100 * float(worse.double().mean()), lost_interval=[100 * b for b in bootstrap(worse)],
            held_out=accuracy(model, held_out), layers=len(tables), tables=tables,
            reasons=[str(entry) for entry in plans[arm].entries] if arm in plans else None,
        )  # fmt: skip


def timed(models: dict[str, nn.Module], images: Images, seconds: float, as_json: bool) -> None:
    """All arms in turn, in batches of 128 and of 1."""
    models = {**models, "dense, bfloat16": copy.deepcopy(models["dense"]).bfloat16()}
    for model in models.values():
        model.to(memory_format=order_of(model))
    for size in (128, 1):
        inputs = {arm: images.x[:size].contiguous(memory_format=order_of(model)) for arm, model in models.items()}
        inputs["dense, bfloat16"] = inputs["dense"].bfloat16()
        times = take_turns({arm: functools.partial(model, inputs[arm]) for arm, model in models.items()}, seconds)
        for arm, found in times.items():
            value, interval = median_interval([1e3 * s for s in found])
            ratio = statistics.median(a / b for a, b in zip(times["dense"], found, strict=True))
            emit(
                as_json, claim=f"{CLAIM}_time", arm=arm, value=value, unit="ms", ms=value, ratio=ratio,
                interval=interval, n=len(found), batch=size, threads=1, runs=[round(1e3 * s, 4) for s in found],
            )  # fmt: skip


def order_of(model: nn.Module) -> torch.memory_format:
    """Tables take and give one channel after the other; dense convolutions are faster pixel by pixel."""
    return torch.contiguous_format if tables_of(model) else torch.channels_last


@torch.no_grad()
def take_turns(runs: dict[str, Any], seconds: float) -> dict[str, list[float]]:
    """Seconds of each run in rounds in which all take turns, the order turned round every round; at least 7."""
    times: dict[str, list[float]] = {arm: [] for arm in runs}
    for run in (*runs.values(), *runs.values()):
        run()
    begun, position = time.perf_counter(), 0
    while position < 7 or time.perf_counter() - begun < seconds:
        for arm in runs if position % 2 == 0 else reversed(runs):
            start = time.perf_counter()
            runs[arm]()
            times[arm].append(time.perf_counter() - start)
        position += 1
    return times


# The command ----------------------------------------------------------------------------------------------------------


def convert(setup: Setup, file: dict[str, Any]) -> None:
    """Train what is missing, convert what is asked for, test all of it."""
    images, held_out, test = images_of(setup)
    if "dense" not in file:
        file["dense"] = trained(setup, images).state_dict()
        save(setup, file)
    dense = loaded(setup, file["dense"])
    models, plans = {"dense": dense}, dict[str, Plan]()
    print(f"dense: {accuracy(dense, held_out):.4f} held out", file=sys.stderr, flush=True)
    batches, tune = list(images.x[: setup.calibration].split(128)), tuner(dense, images, setup)
    for arm in setup.arms.split(","):
        if setup.more and arm in file:
            models[arm] = resumed(loaded(setup, file[arm]), tune, setup)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", NoEffectWarning)  # a planner that refuses all layers is a result
                plain, plan = (planned if arm == "planner" else forced)(dense, batches, setup)
            words = f"{plan}\n{arm}, not fine-tuned: {accuracy(plain, held_out):.4f} held out"
            print(words, file=sys.stderr, flush=True)
            plans[arm], models[f"{arm}, not fine-tuned"] = plan, plain
            models[arm] = tuned(dense, plan, batches, tune, setup) if plan.converted else dense
        print(f"{arm}: {accuracy(models[arm], held_out):.4f} held out", file=sys.stderr, flush=True)
        file[arm] = models[arm].state_dict()
        save(setup, file)
    tested(models, plans, test, held_out, setup.json)


def images_of(setup: Setup) -> tuple[Images, Images, Images]:
    return (invented if setup.smoke else fashion)(setup.held_out, setup.images)


def save(setup: Setup, file: dict[str, Any]) -> None:
    if setup.weights:
        torch.save(file, setup.weights)


def settings() -> Setup:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="JSON lines, not words")
    parser.add_argument("--weights", type=Path, help="file of all weights, read and written")
    parser.add_argument("--smoke", action="store_true", help="a small network and made-up images")
    parser.add_argument("--time", action="store_true", help="time what the file holds")
    parser.add_argument("--seconds", type=float, default=20.0, help="with --time, of all rounds of a batch size")
    parser.add_argument("--arms", default=",".join(ARMS), help="to convert")
    parser.add_argument("--more", action="store_true", help="fine-tune what the file holds for --steps more")
    parser.add_argument("--budget", type=float, default=0.05, help="the planner's limit of a layer's NMSE")
    parser.add_argument("--factor", type=int, default=2, help="forced codebooks for each input channel")
    parser.add_argument("--leaves", type=int, default=16, help="forced leaves, 16, 32 or 64")
    parser.add_argument("--depth", type=int, default=20, help="layers of the network, 6 n + 2")
    parser.add_argument("--width", type=int, default=16, help="channels of its first stage")
    parser.add_argument("--images", type=int, help="at most so many to train on and to test on")
    parser.add_argument("--held-out", type=int, default=5000, help="images for validation")
    parser.add_argument("--dense-steps", type=int, default=3000, help="of 128 images, for the dense network")
    parser.add_argument("--calibration", type=int, default=512, help="images from which trees and tables are learned")
    parser.add_argument("--per-stage", type=int, default=3, help="layers converted between two trainings")
    parser.add_argument("--stage-steps", type=int, default=25, help="of each of these trainings")
    parser.add_argument("--steps", type=int, default=400, help="of fine-tuning when all are converted")
    parser.add_argument("--batch", type=int, default=64, help="images of a step of fine-tuning")
    parser.add_argument("--lr", type=float, default=1e-3, help="of fine-tuning with Adam; a tenth for the trees")
    parser.add_argument("--seed", type=int, default=0)
    if parser.parse_args().smoke:
        parser.set_defaults(**SMOKE)
    return parser.parse_args()


def main() -> None:
    setup = settings()
    torch.set_num_threads(1)
    file = torch.load(setup.weights) if setup.weights and setup.weights.exists() else {}
    if not setup.time:
        convert(setup, file)
    elif "dense" in file:
        models = {arm: loaded(setup, file[arm]) for arm in ("dense", *ARMS) if arm in file}
        timed(models, images_of(setup)[2], setup.seconds, setup.json)
    else:
        sys.exit("maddness_convert --time: expected --weights with a file that holds networks. Run it without --time.")


if __name__ == "__main__":
    main()
