"""What a trained model costs to use: a method that makes training cheaper may make every prediction dearer."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hasten._core.batch import get_inputs

__all__ = ["inference_cost"]


def inference_cost(model: nn.Module, test: Any, device: torch.device, *, samples: int = 128) -> dict[str, float]:
    """Milliseconds and FLOPs per sample of the evaluated model on one test batch; empty for data it cannot batch.

    Args:
        model: what is evaluated, wrappers included.
        test: the workload's test data; its first `samples` samples are used.
        device: where the model is.
        samples: batch size of the measurement.

    Returns:
        {"ms": median milliseconds per sample, "flops": FLOPs per sample, "parameters": number of parameters}.
    """
    inputs = _first(test, samples)
    if inputs is None:
        return {}
    training = model.training
    model.eval()
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            model(inputs)
        times = [_seconds(model, inputs, device) for _ in range(7)]
    model.train(training)
    return {
        "ms": 1e3 * statistics.median(times) / len(inputs),
        "flops": counter.get_total_flops() / len(inputs),
        "parameters": float(sum(p.numel() for p in model.parameters())),
    }


def _first(test: Any, samples: int) -> Tensor | None:
    if not isinstance(test, (tuple, list, dict)):
        return None
    try:
        inputs = get_inputs(test)
    except (TypeError, ValueError):  # test data may be anything that the user's own metric understands
        return None
    return inputs[:samples] if isinstance(inputs, Tensor) else None


def _seconds(model: nn.Module, inputs: Tensor, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    model(inputs)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
