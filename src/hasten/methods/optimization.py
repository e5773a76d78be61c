"""Methods that change the objective or the algorithm that minimises it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from hasten._core.call import name_of as call_name
from hasten._core.checks import check, finite, fraction, near, positive, refuse, whole
from hasten._core.clock import UNITS
from hasten._core.surgery import Report
from hasten.losses import label_smoothing as smooth_loss
from hasten.optim import (
    EMA,
    SAM,
    FlashAdamW,
    FlashLion,
    FlashSGD,
    cast_model,
    clip_adaptive,
    clip_norm,
    clip_value,
)
from hasten.program import Card, Program, ProgramError, bind, call, method

from .hooks import ControllerHook

__all__ = ["ema", "flash_adamw", "flash_lion", "flash_sgd", "gradient_clipping", "label_smoothing", "sam"]


@method(
    Card(
        summary="Mix the targets with the uniform distribution.",
        component="optimization",
        action="retrofit",
        touches={"losses": "append"},
        needs={"cross_entropy"},
        cost="nothing measurable",
        evidence=("benchmarks/records/2026-11-22_digits", "benchmarks/records/2026-11-22_fashion_mnist"),
        source="arXiv 1512.00567",
    )
)
def label_smoothing(program: Program, name: str, smoothing: float = 0.1) -> Program:
    """Smooth the targets of a cross-entropy loss (see `hasten.losses.label_smoothing`)."""
    fraction(name, "smoothing", smoothing)
    return program.append("losses", name, bind(smooth_loss, smoothing=smoothing), stage=10)


@method(
    Card(
        summary="Evaluate an exponential moving average of the weights.",
        component="optimization",
        action="retrofit",
        touches={"hooks": "append"},
        horizon="reversible",
        cost="one more copy of the weights, one pass over them per update",
        source="Polyak & Juditsky 1992",
    )
)
def ema(
    program: Program,
    name: str,
    half_life: float = 0.02,
    start: float = 0.0,
    update_interval: int = 1,
    unit: str = "progress",
) -> Program:
    """Average the weights (see `hasten.optim.EMA`); `half_life` in `unit`, by default a fraction of the training."""
    positive(name, "half_life", half_life)
    whole(name, "update_interval", update_interval, low=1)
    if unit not in UNITS:
        raise refuse(name, f"unit among {', '.join(UNITS)}", repr(unit), near(unit, UNITS))
    controller = bind(EMA, half_life=half_life, start=start, update_interval=update_interval)
    hook = call(ControllerHook, controller=controller, when="after_step", unit=unit)
    return program.append("hooks", name, hook, stage=80)


def _sam_over(groups: Any, *, base: Callable[[Any], Any], rho: float, epsilon: float, interval: int) -> SAM:
    return SAM(base(groups), rho=rho, epsilon=epsilon, interval=interval)


@method(
    Card(
        summary="Take the gradient at the worst point nearby, for flatter minima.",
        component="optimization",
        action="replace",
        touches={"optimizer": "wrap"},
        cost="a second forward and backward pass on every SAM step",
        source="arXiv 2010.01412",
    )
)
def sam(
    program: Program,
    name: str,
    rho: float = 0.05,
    epsilon: float = 1e-12,
    interval: int = 1,
) -> Program:
    """Sharpness-aware minimisation around the program's optimizer (see `hasten.optim.SAM`)."""
    check(finite(name, "rho", rho) >= 0, name, "rho >= 0", rho)
    whole(name, "interval", interval, low=1)
    wrapped = bind(_sam_over, base=program.optimizer, rho=rho, epsilon=epsilon, interval=interval)
    return program.set(optimizer=wrapped)


CLIPPING = {"norm": (clip_norm, "max_norm"), "value": (clip_value, "limit"), "adaptive": (clip_adaptive, "clipping")}


@method(
    Card(
        summary="Bound the gradient before each update: its norm, its values, or its norm relative to the weights'.",
        component="optimization",
        action="restrict",
        touches={"gradients": "append"},
        cost="one pass over the gradients",
        source="arXiv 1211.5063; adaptive: arXiv 2102.06171",
    )
)
def gradient_clipping(program: Program, name: str, threshold: float = 1.0, kind: str = "norm") -> Program:
    """Clip gradients; `kind` is "norm", "value" or "adaptive" (a threshold of 0.01 to 0.16 suits the last)."""
    if kind not in CLIPPING:
        raise refuse("gradient_clipping", f"kind among {', '.join(CLIPPING)}", repr(kind), near(kind, CLIPPING))
    positive(name, "threshold", threshold)
    function, argument = CLIPPING[kind]
    return program.append("gradients", name, bind(function, **{argument: threshold}), stage=50)


# Flash optimizers -----------------------------------------------------------------------------------------------------


def _cast(model: nn.Module, *, generator: Any = None) -> Report:
    """The last surgery: weights and all in bfloat16, but for norms over the batch."""
    return cast_model(model, torch.bfloat16)


def _carried(program: Program, optimizer: type, names: tuple[str, ...], lr: float, **given: float) -> dict[str, Any]:
    """Options of the program's optimizer, if it is of this kind; over them `lr` unless 0, and what is at least 0."""
    same = program.optimizer.target == call_name(optimizer)
    found = {name: value for name, value in program.optimizer.args if same and name in names}
    found |= {"lr": lr} if lr else {}
    return found | {name: value for name, value in given.items() if value >= 0}


def _flash(program: Program, name: str, optimizer: type, options: dict[str, Any], bits: int, quantize: bool) -> Program:
    """The program with this optimizer, its model cast to bfloat16, and bfloat16 arithmetic."""
    if "lr" not in options:
        fix = f"Pass it: {name}(lr=...)."
        raise ProgramError(f"{name}: expected a learning rate, since the program's optimizer is of another kind. {fix}")
    check(bits in (0, 24, 32), name, "master_weight_bits among 0, 24, 32", bits)
    bound = bind(optimizer, **options, master_weight_bits=bits or None, quantize=quantize)
    changed = program.set(optimizer=bound, precision="bf16")
    return changed.append("surgery", name, bind(_cast), stage=95)


_FLASH = {"optimizer": "replace", "precision": "replace", "surgery": "append"}
_FLASH_EXACT = {"resume", "workers"}  # gradients are bfloat16: summed over microbatches they round
_FLASH_EVIDENCE = ("benchmarks/records/2026-11-28_flash_quality",)


def _others(*names: str) -> dict[str, str]:
    return dict.fromkeys(names, "both replace the optimizer")


@method(
    Card(
        summary="AdamW with 16-bit weights, their lost bits in 8, and 8-bit states: 7.1 bytes a parameter, not 16.",
        component="optimization",
        action="replace",
        touches=_FLASH,
        conflicts=_others("flash_lion", "flash_sgd"),
        exact=_FLASH_EXACT,
        cost="bfloat16 arithmetic; 1 % of error in the states",
        evidence=_FLASH_EVIDENCE,
        source="arXiv 2602.23349",
    )
)
def flash_adamw(
    program: Program,
    name: str,
    lr: float = 0.0,
    weight_decay: float = -1.0,
    master_weight_bits: int = 24,
    quantize: bool = True,
) -> Program:
    """Train in bfloat16 with `hasten.optim.FlashAdamW`.

    `lr` 0 and `weight_decay` below 0 take those of the program's AdamW, with its betas and eps. `master_weight_bits` is
    24, 32 or 0 (no correction).
    """
    names = ("lr", "betas", "eps", "weight_decay")
    options = _carried(program, torch.optim.AdamW, names, lr, weight_decay=weight_decay)
    return _flash(program, name, FlashAdamW, options, master_weight_bits, quantize)


@method(
    Card(
        summary="SGD with 16-bit weights, their lost bits in 8, and 8-bit momentum: 6.1 bytes a parameter, not 12.",
        component="optimization",
        action="replace",
        touches=_FLASH,
        conflicts=_others("flash_adamw", "flash_lion"),
        exact=_FLASH_EXACT,
        cost="bfloat16 arithmetic; 1 % of error in the momentum",
        evidence=_FLASH_EVIDENCE,
        source="arXiv 2602.23349",
    )
)
def flash_sgd(
    program: Program,
    name: str,
    lr: float = 0.0,
    weight_decay: float = -1.0,
    momentum: float = -1.0,
    master_weight_bits: int = 24,
    quantize: bool = True,
) -> Program:
    """Train in bfloat16 with `hasten.optim.FlashSGD`.

    `lr` 0, `weight_decay` and `momentum` below 0 take those of the program's SGD, with its dampening and Nesterov.
    `master_weight_bits` is 24, 32 or 0 (no correction).
    """
    check(momentum < 1, name, "momentum below 1", momentum, "Pass a value in [0, 1), or -1 for the program's.")
    names = ("lr", "momentum", "dampening", "weight_decay", "nesterov")
    options = _carried(program, torch.optim.SGD, names, lr, weight_decay=weight_decay, momentum=momentum)
    return _flash(program, name, FlashSGD, options, master_weight_bits, quantize)


@method(
    Card(
        summary="Lion with 16-bit weights, their lost bits in 8, and 8-bit momentum: 6.1 bytes a parameter, not 12.",
        component="optimization",
        action="replace",
        touches=_FLASH,
        conflicts=_others("flash_adamw", "flash_sgd"),
        exact=_FLASH_EXACT,
        cost="bfloat16 arithmetic; 1 % of error in the momentum",
        source="arXiv 2602.23349; Lion: arXiv 2302.06675",
    )
)
def flash_lion(
    program: Program,
    name: str,
    lr: float = 1e-4,
    weight_decay: float = 0.1,
    beta1: float = 0.9,
    beta2: float = 0.99,
    master_weight_bits: int = 24,
    quantize: bool = True,
) -> Program:
    """Train in bfloat16 with `hasten.optim.FlashLion`; its learning rate is a third to a tenth of AdamW's."""
    positive(name, "lr", lr)
    for beta in (beta1, beta2):
        check(0 <= beta < 1, name, "betas in [0, 1)", beta)
    options = {"lr": lr, "weight_decay": weight_decay, "betas": (beta1, beta2)}
    return _flash(program, name, FlashLion, options, master_weight_bits, quantize)
