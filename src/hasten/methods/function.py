"""Methods that change the function that is learned: its layers, its layout, which of them still learn."""

from __future__ import annotations

from hasten._core.checks import check, finite, fraction, near, refuse, whole
from hasten.program import Card, Program, bind, call, method
from hasten.prune import gmp
from hasten.surgery import LayerFreezing, apply_blurpool, apply_channels_last, apply_stochastic_depth

from .hooks import ControllerHook, DrawStochasticDepth

__all__ = ["blurpool", "channels_last", "gradual_pruning", "layer_freezing", "stochastic_depth"]

ALLOCATORS = ("global", "uniform", "erk")


@method(
    Card(
        summary="Blur before every strided convolution and max pooling, so that down-sampling does not alias.",
        component="function",
        action="retrofit",
        touches={"surgery": "append"},
        needs={"images"},
        cost="a depthwise 3x3 convolution per down-sampling layer, in training and in inference",
        evidence=("benchmarks/records/2026-11-22_digits", "benchmarks/records/2026-11-22_fashion_mnist"),
        source="arXiv 1904.11486",
    )
)
def blurpool(
    program: Program,
    name: str,
    min_channels: int = 16,
    replace_convs: bool = True,
    replace_maxpools: bool = True,
    blur_first: bool = True,
) -> Program:
    """Low-pass filter before down-sampling (see `hasten.surgery.apply_blurpool` for the arguments)."""
    surgery = bind(
        apply_blurpool,
        min_channels=min_channels,
        replace_convs=replace_convs,
        replace_maxpools=replace_maxpools,
        blur_first=blur_first,
    )
    return program.append("surgery", name, surgery, stage=50)


@method(
    Card(
        summary="Leave out residual branches at random during training.",
        component="function",
        action="remove",
        touches={"surgery": "append", "hooks": "append"},
        exact={"resume", "workers"},
        cost="none in inference; in eager block mode the left-out branches save time",
        source="arXiv 1603.09382",
    )
)
def stochastic_depth(
    program: Program,
    name: str,
    drop_rate: float = 0.2,
    branches: str = "branch",
    distribution: str = "linear",
    mode: str = "block",
) -> Program:
    """Skip residual branches at random (see `hasten.surgery.apply_stochastic_depth`; `mode` is its `method`)."""
    fraction(name, "drop_rate", drop_rate)
    surgery = bind(
        apply_stochastic_depth, drop_rate=drop_rate, branches=branches, distribution=distribution, method=mode
    )  # fmt: skip
    changed = program.append("surgery", name, surgery, stage=60)
    return changed.append("hooks", name, call(DrawStochasticDepth, name=name), stage=90)


@method(
    Card(
        summary="Keep convolution weights and activations in channels-last memory order.",
        component="function",
        action="reorder",
        touches={"surgery": "append"},
        needs={"images"},
        cost="layers without a channels-last kernel transpose",
        evidence=("benchmarks/records/2026-11-22_digits",),
        source="a memory layout of torch",
    )
)
def channels_last(program: Program, name: str) -> Program:
    """The same function in another memory layout: numerically a no-op up to rounding."""
    return program.append("surgery", name, bind(apply_channels_last), stage=90)


@method(
    Card(
        summary="Freeze layers from the input on, as training goes on; frozen layers have no backward pass.",
        component="function",
        action="remove",
        touches={"hooks": "append"},
        horizon="irreversible",
        exact={"resume", "workers", "microbatch"},
        cost="frozen layers stop learning",
        source="arXiv 1706.04983",
    )
)
def layer_freezing(program: Program, name: str, start: float = 0.5, level: float = 1.0) -> Program:
    """Freeze the first layers progressively (see `hasten.surgery.LayerFreezing`)."""
    fraction(name, "start", start)
    fraction(name, "level", level)
    controller = bind(LayerFreezing, start=start, level=level)
    return program.append("hooks", name, call(ControllerHook, controller=controller, when="before_step"), stage=10)


@method(
    Card(
        summary="Drop the smallest weights as training goes on, until the model is so many times smaller.",
        component="function",
        action="remove",
        touches={"hooks": "append"},
        horizon="irreversible",
        exact={"resume", "workers"},
        cost="a bool per weight, a pass over weights and states per step; zeros are multiplied too: no time is saved",
        source="arXiv 1710.01878",
    )
)
def gradual_pruning(
    program: Program,
    name: str,
    compression: float = 4.0,
    start: float = 0.2,
    end: float = 0.8,
    every: int = 10,
    allocator: str = "global",
) -> Program:
    """Gradual magnitude pruning (see `hasten.prune.gmp`): the cubic schedule from `start` to `end` of the training."""
    check(finite(name, "compression", compression) >= 1, name, "compression of at least 1", compression)
    fraction(name, "end", end, low=fraction(name, "start", start))
    whole(name, "every", every, low=1)
    if allocator not in ALLOCATORS:
        raise refuse(name, f"allocator among {', '.join(ALLOCATORS)}", repr(allocator), near(allocator, ALLOCATORS))
    controller = bind(gmp, compression=compression, start=start, end=end, every=every, allocator=allocator)
    return program.append("hooks", name, call(ControllerHook, controller=controller, when="after_step"), stage=20)
