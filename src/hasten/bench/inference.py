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
    """Milliseconds and FLOPs per sample of the evaluated model on one test batch; empty where there is no such batch.

    Test data may be anything that the user's own metric understands: a dataset, or inputs that the metric prepares
    before it calls the model. A trained model must not be lost for that, so what the model does not take is left out.

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
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            with FlopCounterMode(display=False) as counter:
                model(inputs)
            times = [_seconds(model, inputs, device) for _ in range(7)]
    except (TypeError, ValueError, RuntimeError):
        return {}
    finally:
        for module, mode in modes:  # one by one: frozen norms stay in evaluation mode
            module.training = mode
    return {
        "ms": 1e3 * statistics.median(times) / len(inputs),
        "flops": counter.get_total_flops() / len(inputs),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def _first(test: Any, samples: int) -> Tensor | None:
    if not isinstance(test, (tuple, list, dict)):
        return None
    try:
        inputs = get_inputs(test)
    except (TypeError, ValueError):
        return None
    return inputs[:samples] if isinstance(inputs, Tensor) and inputs.ndim and len(inputs) else None


def _seconds(model: nn.Module, inputs: Tensor, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    model(inputs)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
