"""Where a pruning study calls the room `hasten.prune`: masks of a strategy, and what a pruned model takes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from hasten import prune
from hasten._core.batch import get_inputs
from hasten._core.rng import stream

__all__ = ["SAMPLES", "masks_of", "measured", "whole_entries_only"]

SAMPLES = 32  # of the batch whose prediction is timed, and for which MACs are counted
STRUCTURED = ("channel", "head")  # patterns whose masked parts can be taken out of the model


def masks_of(
    model: nn.Module,
    strategy: str,
    ratio: float,
    *,
    pattern: str,
    batches: Sequence[Any],
    loss: Callable[[Any, Any], Tensor],
    seed: int,
) -> Any:
    """The masks of a strategy at a compression ratio; the model stays as it is.

    Args:
        model: the dense one.
        strategy: its name.
        ratio: parameters of the whole model / those that are left.
        pattern: "unstructured", "2:4", "channel", ...
        batches: of the training data, for strategies that look at data.
        loss: the workload's, one value per sample.
        seed: where draws come from: strategies with the same seed see the same ones at every ratio.
    """
    return prune.compute(
        model,
        strategy=strategy,
        compression=ratio,
        pattern=pattern,
        batch=[(get_inputs(batch), batch) for batch in batches],
        loss_fn=lambda outputs, batch: loss(outputs, batch).mean(),
        generator=stream(seed, f"prune/{strategy}"),
    )


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


def whole_entries_only(model: nn.Module) -> bool:
    """Whether every masked entry of a model is 0, as it must be after any training."""
    parameters = dict(model.named_parameters())
    return all(bool((parameters[name][~mask] == 0).all()) for name, mask in prune.masks_of(model).items())
