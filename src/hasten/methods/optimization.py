"""Methods that change the objective or the algorithm that minimises it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hasten._core.checks import check, finite, fraction, near, positive, refuse, whole
from hasten._core.clock import UNITS
from hasten.losses import label_smoothing as smooth_loss
from hasten.optim import EMA, SAM, clip_adaptive, clip_norm, clip_value
from hasten.program import Card, Program, bind, call, method

from .hooks import ControllerHook

__all__ = ["ema", "gradient_clipping", "label_smoothing", "sam"]


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
