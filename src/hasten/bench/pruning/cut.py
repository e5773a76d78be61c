"""Where a pruning study calls the room `hasten.prune`: masks of a strategy, and what a pruned model takes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hasten._core.batch import get_inputs
from hasten._core.checks import NonFiniteError, check
from hasten._core.rng import stream
from hasten.prune import apply, find, hold, masks_of, patterns, strategies
from hasten.prune.count import report
from hasten.prune.plan import compute, reconstruct
from hasten.prune.structure import materialize

__all__ = ["SAMPLES", "check_arm", "cut", "held", "hold_masks", "measured", "parameters_of", "pattern_of"]

FINE = 1e-5  # seconds: of a clock that can time a round of two milliseconds
ROUNDS = 31  # in which a model and the dense one take turns
SAMPLES = 32  # of the batch whose prediction is timed, and for which MACs are counted
STRUCTURED = ("channel", "head")  # patterns whose masked parts can be taken out of the model


def pattern_of(arm: str, default: str) -> tuple[str, str]:
    """The strategy and the pattern of an arm, "strategy" or "strategy@pattern".

    >>> pattern_of("lamp", "unstructured"), pattern_of("channel_l2@channel", "unstructured")
    (('lamp', 'unstructured'), ('channel_l2', 'channel'))
    """
    name, at, pattern = arm.rpartition("@")
    return (name, pattern) if at else (arm, default)


def check_arm(call: str, arm: str, default: str) -> None:
    """Refuse a strategy or a pattern that is not known, or that has one density only and so no curve."""
    strategy, pattern = pattern_of(arm, default)
    strategies.get(strategy, call=call)
    free = patterns.parse(pattern).density is None
    fix = "Use unstructured, a block, channel or head."
    check(free, call, "a pattern that can have any density, for a curve", pattern, fix)


def parameters_of(call: str, model: nn.Module) -> tuple[int, int]:
    """Entries of all parameters and of the prunable ones; refuses a model that has none of these."""
    targets = find(model, call=call)
    return targets.total, targets.prunable


def cut(
    model: nn.Module,
    strategy: str,
    ratio: float,
    *,
    pattern: str,
    batches: Sequence[Any],
    loss: Callable[[Any, Any], Tensor],
    seed: int,
) -> None:
    """Prune a model in place to a compression ratio, by a strategy's masks (and its weights, where it changes them).

    Args:
        model: the dense one.
        strategy: its name.
        ratio: parameters of the whole model / those that are left.
        pattern: "unstructured", "block(4,4)", "channel", ...
        batches: of the training data, for strategies that look at data.
        loss: the workload's, one value per sample.
        seed: where draws come from: strategies with the same seed see the same ones at every ratio.
    """
    asked = {"compression": ratio, "pattern": pattern, "batch": [(get_inputs(batch), batch) for batch in batches]}
    layerwise = strategies.get(strategy, call="hasten prune").layerwise
    if layerwise is not None and layerwise.mend:
        masks = reconstruct(model, strategy, **asked)
    else:
        masks = compute(
            model,
            strategy,
            loss_fn=lambda outputs, batch: loss(outputs, batch).mean(),
            generator=stream(seed, f"prune/{strategy}"),
            **asked,
        )
    apply(model, masks)


def measured(model: nn.Module, dense: nn.Module, inputs: Any, pattern: str = "unstructured") -> dict[str, Any]:
    """What a model takes beside the dense one it came from, as plain data.

    Zeros in weights are multiplied like other numbers, so the time of a masked model is measured as it is. Channels and
    heads are taken out first. Where one thread computes all, its processor time is measured, which other processes do
    not lengthen.

    Args:
        model: pruned, or another one for the same inputs.
        dense: what it is compared with; both take turns while they are timed.
        inputs: of one batch.
        pattern: of the masks.
    """
    removed = pattern in STRUCTURED
    if removed:
        model, _ = materialize(model, (inputs,))
    clock = _clock(next(dense.parameters()).device)
    found = report(model, (inputs,), baseline=dense, rounds=ROUNDS, clock=clock)  # one argument, whatever it is
    assert found.macs is not None and found.theoretical_speedup is not None and found.comparison is not None
    if not math.isfinite(found.compression * found.theoretical_speedup):
        raise NonFiniteError("no weight is left that is multiplied with anything.")
    compared = found.comparison
    return {
        "parameters": found.sizes.total,
        "nonzero": found.sizes.nonzero,
        "compression": found.compression,
        "bytes": dict(found.sizes.bytes),
        "macs": found.macs.total,
        "macs_nonzero": found.macs.nonzero,
        "speedup": found.theoretical_speedup,
        "latency": {
            "ms": 1e3 * compared.model.median,
            "low": 1e3 * compared.model.low,
            "high": 1e3 * compared.model.high,
        },
        "relative": {"ratio": compared.ratio, "low": compared.low, "high": compared.high},
        "where": compared.model.where,
        "removed": removed,
    }


def _clock(device: torch.device) -> Callable[[], float]:
    """Processor time of this thread where it alone computes and the system counts finely enough, else wall time."""
    fine = time.get_clock_info("thread_time").resolution <= FINE
    return time.thread_time if fine and device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter


def hold_masks(model: nn.Module, optimizer: Any) -> Any:
    """Keep masked entries at 0 through every step; None for a model without masks."""
    return hold(model, optimizer) if masks_of(model) else None


def held(model: nn.Module) -> bool:
    """Whether every masked entry of a model is 0, as it must be after any training."""
    parameters = dict(model.named_parameters())
    return all(bool((parameters[name][~mask] == 0).all()) for name, mask in masks_of(model).items())
