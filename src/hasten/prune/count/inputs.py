"""How a model is called with example inputs, and how many samples those are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from hasten._core.checks import refuse, refuse_type

__all__ = ["call", "check_model", "device_of", "samples_of"]


def call(model: nn.Module, inputs: Any) -> Any:
    """The model's output: a tuple holds its positional arguments, a dict those by name, all else is its one argument.

    >>> call(nn.Bilinear(2, 3, 4), (torch.ones(5, 2), torch.ones(5, 3))).shape
    torch.Size([5, 4])
    """
    if isinstance(inputs, tuple):
        return model(*inputs)
    return model(**inputs) if isinstance(inputs, dict) else model(inputs)


def check_model(name: str, model: nn.Module) -> None:
    """Refuse, in the name of a call, what is no model, or one whose weights hold no numbers yet."""
    if not isinstance(model, nn.Module):
        raise refuse_type(name, "a torch.nn.Module", model, "Pass the model itself.")
    for parameter_name, parameter in model.named_parameters():
        if nn.parameter.is_lazy(parameter):
            what = f"{parameter_name}, which has no shape yet"
            raise refuse(name, "parameters that have values", what, "Call the model once on example inputs first.")
        if parameter.is_meta:
            what, fix = f"{parameter_name} on the meta device", "Load the weights first, with assign=True."
            raise refuse(name, "parameters that have values", what, fix)


def samples_of(name: str, inputs: Any, samples: int | None = None) -> int:
    """`samples`, or the first dimension of the first tensor of `inputs`.

    >>> samples_of("macs", {"x": torch.ones(3, 2)})
    3
    """
    if samples is None:
        first = next((leaf for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)), None)
        fix = "Pass samples=, the number of samples in these inputs."
        if first is None or first.ndim == 0:
            raise refuse_type(name, "inputs whose first tensor has a batch dimension", inputs, fix)
        samples = first.shape[0]
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
        raise refuse(name, "at least one sample", repr(samples), "Pass example inputs that are not empty.")
    return samples


def device_of(model: nn.Module, inputs: Any) -> torch.device:
    """Where the model computes: the device of its first parameter or buffer, else that of the first input tensor."""
    for group in (model.parameters(), model.buffers(), tree_leaves(inputs)):
        for tensor in group:
            if isinstance(tensor, Tensor):
                return tensor.device
    return torch.device("cpu")
