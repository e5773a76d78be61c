"""Where a pruning study calls the room `hasten.prune`: masks of a strategy, and what a pruned model takes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from hasten import prune
from hasten._core.batch import get_inputs
from hasten._core.rng import stream

__all__ = ["SAMPLES", "cut", "held", "measured", "pattern_of"]

SAMPLES = 32  # of the batch whose prediction is timed, and for which MACs are counted
STRUCTURED = ("channel", "head")  # patterns whose masked parts can be taken out of the model


def pattern_of(arm: str, default: str) -> tuple[str, str]:
    """The strategy and the pattern of an arm, "strategy" or "strategy@pattern".

    >>> pattern_of("lamp", "unstructured"), pattern_of("channel_l2@channel", "unstructured")
    (('lamp', 'unstructured'), ('channel_l2', 'channel'))
    """
    name, at, pattern = arm.rpartition("@")
    return (name, pattern) if at else (arm, default)


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
    layerwise = prune.strategies.get(strategy, call="hasten prune").layerwise
    if layerwise is not None and layerwise.mend:
        masks = prune.reconstruct(model, strategy, **asked)
    else:
        masks = prune.compute(
            model,
            strategy,
            loss_fn=lambda outputs, batch: loss(outputs, batch).mean(),
            generator=stream(seed, f"prune/{strategy}"),
            **asked,
        )
    prune.apply(model, masks)


def measured(model: nn.Module, dense: nn.Module, inputs: Any, pattern: str = "unstructured") -> dict[str, Any]:
    """What a model takes beside the dense one it came from, as plain data.

    Zeros in weights are multiplied like other numbers, so the time of a masked model is measured as it is. Channels and
    heads are taken out first.

    Args:
        model: pruned, or another one for the same inputs.
        dense: what it is compared with; both take turns while they are timed.
        inputs: of one batch.
        pattern: of the masks.
    """
    removed = pattern in STRUCTURED
    if removed:
        model, _ = prune.materialize(copy.deepcopy(model), inputs)
    found = prune.report(model, inputs, baseline=dense)
    assert found.macs is not None and found.baseline_macs is not None and found.comparison is not None
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


def held(model: nn.Module) -> bool:
    """Whether every masked entry of a model is 0, as it must be after any training."""
    parameters = dict(model.named_parameters())
    return all(bool((parameters[name][~mask] == 0).all()) for name, mask in prune.masks_of(model).items())
