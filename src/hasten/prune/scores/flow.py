"""SynFlow: how much of the flow from input to output passes through each weight, when all weights are positive.

R is the sum of the outputs of the network with `|w|` for its weights, 1 for its inputs and no nonlinearity; a weight
scores `|w| dR/d|w|`, the part of R that passes through it. What flows into a neuron flows out of it, so all layers on
a chain share the same R, and a layer with few weights has large scores: it is not emptied as long as others have more.
It needs many rounds, since one removal changes the flow of all others; `strategies` does a hundred.

R is a product over layers and leaves the range of float32 in deep networks. So everything is computed in float64 and
divided by R, one module at a time: a module's weights are widened when it is called and again in the backward pass,
and never lie around as a whole.

Norms would undo what flows: a batch norm becomes its scale in evaluation mode, `|gamma| / sqrt(var + eps)`, another
norm `|gamma|`; both add `|beta|`. Activations pass on what they get.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import activation as activations
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.utils.checkpoint import checkpoint

from ..._core.batch import map_tensors
from ..._core.checks import NonFiniteError
from .data import Data, inputs_of, undisturbed

__all__ = ["synflow"]

# MultiheadAttention lives among them; what is monotone and elementwise passes on what it gets.
_ELEMENTWISE = tuple(
    getattr(activations, name) for name in activations.__all__
    if name not in ("GLU", "MultiheadAttention", "Softmax", "Softmax2d", "LogSoftmax", "Softmin")
)  # fmt: skip
_OVER_CHANNELS = (_NormBase, nn.GroupNorm)  # batch and instance norms are the first
_OVER_FEATURES = (nn.LayerNorm, nn.RMSNorm)


def synflow(model: nn.Module, parameters: Mapping[str, nn.Parameter], data: Data) -> dict[str, Tensor]:
    """The share of the flow that passes through each entry, at least float32 and at least 0.

    Args:
        model: runs with `|w|` for w and is left as it was.
        parameters: by name; of them `data.masks`, where given, takes entries away.
        data: the first sample of its first batch gives shapes; whole numbers (tokens) are taken as they are.

    Returns:
        Scores; those of a layer without bias that everything passes through add up to 1. All are 0 if nothing flows.

    Raises:
        NonFiniteError: the flow is beyond float64.

    >>> model = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Linear(1, 1, bias=False))
    >>> with torch.no_grad():
    ...     _ = model[0].weight.copy_(torch.tensor([[-3.0, 1.0]])), model[1].weight.fill_(2)
    >>> synflow(model, dict(model.named_parameters()), Data(torch.zeros(1, 2)))
    {'0.weight': tensor([[0.7500, 0.2500]]), '1.weight': tensor([[1.]])}

    Source: arXiv 2006.05467.
    """
    wanted = list(parameters.values())
    masks = {} if data.masks is None else {id(parameters[name]): mask for name, mask in data.masks.items()}
    with undisturbed(model, data, trained=wanted), torch.enable_grad(), _positive(model, masks):
        flow = _total(model(map_tensors(_ones, inputs_of(next(data.on(wanted[0].device))))))
        if not torch.isfinite(flow):
            raise NonFiniteError(
                f"{data.call}: expected a flow within float64, got {flow.item()}. Is the network too deep?"
            )
        share = flow / flow.detach() if flow > 0 else flow
        found = torch.autograd.grad(share, wanted, allow_unused=True)
    return {name: _share(p, part) for (name, p), part in zip(parameters.items(), found, strict=True)}


def _share(parameter: nn.Parameter, gradient: Tensor | None) -> Tensor:
    wide = torch.promote_types(parameter.dtype, torch.float32)
    if gradient is None:
        return torch.zeros_like(parameter, dtype=wide, requires_grad=False)
    return gradient.to(wide).mul_(parameter.detach()).abs_()  # the gradient has the sign of the weight


def _ones(tensor: Tensor) -> Tensor:
    first = tensor[:1]
    return torch.ones_like(first, dtype=torch.float64) if first.is_floating_point() else first


def _total(outputs: Any) -> Tensor:
    """The sum over all tensors of floats of the outputs."""
    sums: list[Tensor] = []
    map_tensors(lambda tensor: sums.append(tensor.sum()) if tensor.is_floating_point() else None, outputs)
    return torch.stack([part.double() for part in sums]).sum()


@contextlib.contextmanager
def _positive(model: nn.Module, masks: Mapping[int, Tensor]) -> Iterator[None]:
    """Inside, modules compute with the absolute values of their weights, in float64."""
    changed = []
    try:
        for module in model.modules():
            forward = _replacement(module, masks)
            if forward is not None:
                changed.append((module, module.__dict__.get("forward")))
                module.forward = forward
        yield
    finally:
        for module, own in changed:
            del module.forward
            if own is not None:  # a forward that somebody had put on the instance
                module.forward = own


def _replacement(module: nn.Module, masks: Mapping[int, Tensor]) -> Callable[..., Any] | None:
    if isinstance(module, (*_OVER_CHANNELS, *_OVER_FEATURES)):
        return functools.partial(_scaled, module)
    if isinstance(module, _ELEMENTWISE):
        return lambda x, *_, **__: x
    if any(p is not None for p in module._parameters.values()):
        return functools.partial(_widened, module, module.forward, masks)
    return None


def _scaled(norm: Any, x: Tensor, *_: Any, **__: Any) -> Tensor:
    """A norm without what it takes from the data."""

    def shaped(values: Tensor) -> Tensor:
        wide = values.double()
        return wide.view(-1, *(1,) * (x.ndim - 2)) if isinstance(norm, _OVER_CHANNELS) else wide

    weight, bias = getattr(norm, "weight", None), getattr(norm, "bias", None)
    if isinstance(norm, _BatchNorm) and norm.running_var is not None:
        x = x / shaped(norm.running_var + norm.eps).sqrt()
    if weight is not None:
        x = x * shaped(weight).abs()
    return x if bias is None else x + shaped(bias).abs()


def _widened(
    module: nn.Module, forward: Callable[..., Any], masks: Mapping[int, Tensor], /, *args: Any, **kwargs: Any
) -> Any:
    """The module's forward pass with wide weights, that are made again in the backward pass and not kept."""

    def run(*args: Any, **kwargs: Any) -> Any:
        own = _weights(module)
        try:
            for holder, name, parameter in own:
                wide = parameter.abs().double()
                mask = masks.get(id(parameter))
                holder._parameters[name] = wide if mask is None else wide * mask  # type: ignore[assignment]
            return forward(*args, **kwargs)
        finally:
            for holder, name, parameter in own:
                holder._parameters[name] = parameter

    return checkpoint(run, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)


def _weights(module: nn.Module) -> list[tuple[nn.Module, str, nn.Parameter]]:
    """The module's own parameters; attention also reads those of its output projection."""
    holders = [module, module.out_proj] if isinstance(module, nn.MultiheadAttention) else [module]
    return [(holder, name, p) for holder in holders for name, p in holder._parameters.items() if p is not None]
