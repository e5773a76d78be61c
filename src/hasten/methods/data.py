"""Methods that change the data that training sees: mixing, shrinking, selecting."""

from __future__ import annotations

from hasten._core.checks import check, finite, fraction
from hasten._core.clock import Scheduled
from hasten.data import cutmix as cutmix_batch
from hasten.data import mixup as mixup_batch
from hasten.data import resize, resizing_schedule, selection_active
from hasten.losses import interpolated
from hasten.program import Card, Program, bind, call, method

from .hooks import SelectiveBackprop

__all__ = ["cutmix", "mixup", "progressive_resizing", "selective_backprop"]


@method(
    Card(
        summary="Train on convex combinations of pairs of samples; the loss is interpolated alike.",
        component="data",
        action="retrofit",
        touches={"batch": "append", "losses": "append"},
        conflicts={"cutmix": "both mix the batch, and the targets of a mixed batch cannot be mixed again"},
        needs={"float_inputs"},
        cost="a second loss evaluation per step",
        evidence=("benchmarks/records/2026-11-22_fashion_mnist",),
        source="arXiv 1710.09412",
    )
)
def mixup(program: Program, name: str, alpha: float = 0.2, per_sample: bool = False) -> Program:
    """Mix samples (see `hasten.data.mixup`); published curves: costs at short budgets, pays at long ones."""
    check(finite(name, "alpha", alpha) >= 0, name, "alpha >= 0", alpha)
    mixed = program.append("batch", name, bind(mixup_batch, alpha=alpha, per_sample=per_sample), stage=60)
    return mixed.append("losses", name, bind(interpolated), stage=20)


@method(
    Card(
        summary="Paste a box of another image; the loss is interpolated by area.",
        component="data",
        action="retrofit",
        touches={"batch": "append", "losses": "append"},
        conflicts={"mixup": "both mix the batch, and the targets of a mixed batch cannot be mixed again"},
        needs={"images"},
        cost="a second loss evaluation per step",
        source="arXiv 1905.04899",
    )
)
def cutmix(
    program: Program,
    name: str,
    alpha: float = 1.0,
    uniform_sampling: bool = False,
    per_sample: bool = False,
) -> Program:
    """Paste boxes (see `hasten.data.cutmix`)."""
    check(finite(name, "alpha", alpha) >= 0, name, "alpha >= 0", alpha)
    paste = bind(cutmix_batch, alpha=alpha, uniform_sampling=uniform_sampling, per_sample=per_sample)
    mixed = program.append("batch", name, paste, stage=60)
    return mixed.append("losses", name, bind(interpolated), stage=20)


@method(
    Card(
        summary="Train on smaller images first, on full ones at the end.",
        component="data",
        action="restrict",
        touches={"batch": "append"},
        needs={"images"},
        horizon="reversible",
        cost="none; under torch.compile one compilation per size",
        source="fast.ai's entry to DAWNBench, 2018",
    )
)
def progressive_resizing(
    program: Program,
    name: str,
    initial_scale: float = 0.5,
    delay_fraction: float = 0.5,
    finetune_fraction: float = 0.2,
    increment: int = 4,
    mode: str = "bilinear",
) -> Program:
    """Resize batches by a schedule of progress (see `hasten.data.resize` and `resizing_schedule`)."""
    resizing_schedule(initial_scale, delay_fraction, finetune_fraction)  # refuses what is out of range
    schedule = call(
        resizing_schedule,
        initial_scale=initial_scale,
        delay_fraction=delay_fraction,
        finetune_fraction=finetune_fraction,
    )
    scale = call(Scheduled, schedule=schedule, unit="progress")
    return program.append("batch", name, bind(resize, scale=scale, increment=increment, mode=mode), stage=30)


@method(
    Card(
        summary="Skip the backward pass of samples with low loss, in the middle of training.",
        component="data",
        action="remove",
        touches={"hooks": "append"},
        horizon="reversible",
        exact={"resume", "workers", "microbatch"},
        cost="an extra forward pass per selecting step, charged to the clock and counted in FLOPs",
        source="arXiv 1910.00762",
    )
)
def selective_backprop(
    program: Program,
    name: str,
    keep: float = 0.5,
    start: float = 0.5,
    end: float = 0.9,
    interrupt: int = 2,
) -> Program:
    """Train on the samples with high losses (see `hasten.data.select_by_loss` and `selection_active`)."""
    check(fraction(name, "keep", keep) > 0, name, "keep > 0", keep)
    selection_active(0.0, 0, start=start, end=end, interrupt=interrupt)  # refuses what is out of range
    hook = call(SelectiveBackprop, name=name, keep=keep, start=start, end=end, interrupt=interrupt)
    return program.append("hooks", name, hook, stage=40)
