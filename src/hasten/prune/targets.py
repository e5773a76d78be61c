"""Which parameters of a model may be pruned: weights and biases of its linear and convolution layers, each tensor once.

Left out are the classifier (a model cannot do without one of its classes), what `ignore` names, and every tensor that
something else uses as well: the embedding that is tied to a linear layer would lose what the layer loses.
"""

from __future__ import annotations

import fnmatch
import warnings
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from .._core.checks import describe, near, refuse, refuse_type
from .places import Place, bare, computed, join, places

__all__ = ["NoClassifierWarning", "Targets", "bare", "find", "ignored"]

LAYERS = (
    nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
)  # fmt: skip
HEADS = ("fc", "classifier", "head", "heads", "lm_head", "score")  # of torchvision, timm, transformers and our bench
PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class NoClassifierWarning(UserWarning):
    """No layer is known as the classifier, so all layers are prunable."""


@dataclass(frozen=True)
class Targets:
    """The prunable parameters of a model.

    Args:
        layers: names of parameters by the name of the layer that holds them, in model order.
        parameters: the parameters by name; a tied one has the first of its names.
        total: entries of all parameters of the model, tied ones once.
    """

    layers: Mapping[str, list[str]]
    parameters: Mapping[str, nn.Parameter]
    total: int
    names: tuple[str, ...] = field(init=False)
    prunable: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.parameters))
        object.__setattr__(self, "prunable", sum(p.numel() for p in self.parameters.values()))


def find(
    model: nn.Module, ignore: str | nn.Module | Sequence[str | nn.Module] = (), *, call: str = "prune.compute"
) -> Targets:
    """The parameters of `model` that may be pruned: of linear, (transposed) convolution and attention layers.

    The classifier is left out: a layer with the attribute `is_classifier = True`, or, where no layer has the attribute,
    the last layer of `model.fc`, `classifier`, `head`, `heads`, `lm_head` or `score`, or the linear layer that ends an
    `nn.Sequential`. `is_classifier = False` makes a layer prunable in any case.

    Args:
        model: the model; what torch.compile and DistributedDataParallel put around it is looked through.
        ignore: what to leave out: names of modules (with all in them) or of parameters, patterns of names
            (`"blocks.*.out"`), modules.
        call: what an error calls the caller.

    Returns:
        Names, parameters and counts.

    Raises:
        ValueError: nothing is prunable, a weight is not finite, `ignore` names what is not there.
        TypeError: a prunable weight is quantized, on the meta device, sharded or not of 16, 32 or 64-bit floats.

    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 10))
    >>> targets = find(net)
    >>> targets.names, targets.prunable, targets.total
    (('0.weight', '0.bias'), 40, 218)
    """
    model = bare(model)
    if not isinstance(model, nn.Module):
        raise refuse_type(call, "a torch.nn.Module", model)
    _refuse_quantized(model, call)
    held = places(model)
    skipped = ignored(model, held, ignore, call) | _classifiers(model, call, warn=not ignore)
    _refuse_computed(model, skipped, call)
    seen = {id(place.parameter) for place in held if not _prunable(place.module, place.layer, place.attribute, skipped)}
    layers: dict[str, list[str]] = {}
    parameters: dict[str, nn.Parameter] = {}
    for place in held:
        if id(place.parameter) not in seen:
            seen.add(id(place.parameter))
            _check_weight(call, place.name, place.parameter)
            parameters[place.name] = place.parameter
            layers.setdefault(place.layer, []).append(place.name)
    if not parameters:
        fix = "Prunable are Linear, Conv and MultiheadAttention layers that are no classifier and not ignored."
        raise refuse(call, "a model with a prunable layer", f"{type(model).__name__} with none", fix)
    return Targets(layers, parameters, sum(p.numel() for p in model.parameters()))


def _prunable(module: nn.Module, layer: str, attribute: str, skipped: Set[str]) -> bool:
    if layer in skipped or join(layer, attribute) in skipped:
        return False
    if isinstance(module, nn.MultiheadAttention):
        return attribute in PROJECTIONS
    return isinstance(module, LAYERS) and attribute in ("weight", "bias")


def ignored(model: nn.Module, held: Sequence[Place], ignore: Any, call: str) -> set[str]:
    """Names of modules and parameters that `ignore` leaves out, with all that is in them."""
    wanted = [ignore] if isinstance(ignore, (str, nn.Module)) else list(ignore)
    modules = dict(model.named_modules(remove_duplicate=False))
    names = [*modules, *(place.name for place in held)]
    found: set[str] = set()
    for one in wanted:
        if isinstance(one, nn.Module):
            hits = [name for name, module in modules.items() if module is one]
        elif isinstance(one, str):
            hits = [name for name in names if name and fnmatch.fnmatchcase(name, one)]
        else:
            raise refuse_type(call, "ignore= names, patterns or modules", one)
        if not hits:
            fix = near(one, filter(None, names)) if isinstance(one, str) else "Pass a module of this model."
            raise refuse(call, "ignore= what the model has", describe(one), fix)
        found |= {name for name in names for hit in hits if not hit or name == hit or name.startswith(f"{hit}.")}
    return found


def _classifiers(model: nn.Module, call: str, *, warn: bool) -> set[str]:
    """Names of the layers that are classifiers, by their mark or by their place."""
    layers = {name: module for name, module in model.named_modules() if isinstance(module, LAYERS)}
    marks = {name: module.is_classifier for name, module in layers.items() if hasattr(module, "is_classifier")}
    if marks:
        return {name for name, marked in marks.items() if marked}
    found = {last for head in HEADS if (last := _last(model, head)) is not None}
    if not found and isinstance(model, nn.Sequential) and len(layers) > 1:
        name = list(layers)[-1]
        found = {name} if isinstance(layers[name], nn.Linear) else set()
    if not found and len(layers) > 1 and warn:
        message = f"{call}: no classifier found in {type(model).__name__}, all layers are prunable."
        fix = "Set is_classifier = True on its last layer, or False if it has none."
        warnings.warn(f"{message} {fix}", NoClassifierWarning, stacklevel=4)
    return found


def _last(model: nn.Module, head: str) -> str | None:
    """The name of the last layer of the child `head`."""
    child = model._modules.get(head)
    names = [name for name, module in child.named_modules() if isinstance(module, LAYERS)] if child is not None else []
    return f"{head}.{names[-1]}".removesuffix(".") if names else None


def _refuse_quantized(model: nn.Module, call: str) -> None:
    fix = "Prune the model first, quantize it then."
    for name, module in model.named_modules():
        if ".quantized" in type(module).__module__ and type(module).__module__.startswith("torch."):
            raise refuse_type(call, "weights of floats", f"the quantized {type(module).__name__} {name!r}", fix)


def _refuse_computed(model: nn.Module, skipped: Set[str], call: str) -> None:
    fix = "Remove what computes it (remove_parametrizations, torch.nn.utils.prune.remove), or ignore it."
    for module, layer, attribute in computed(model):
        if _prunable(module, layer, attribute, skipped):
            got = f"{join(layer, attribute)}, which is computed from others"
            raise refuse(call, "weights that are parameters", got, fix)


def _check_weight(call: str, name: str, parameter: nn.Parameter) -> None:
    """Refuse a weight whose entries cannot be compared."""
    if is_lazy(parameter):
        raise refuse_type(call, "initialized weights", f"the lazy {name}", "Run the model once first.")
    if parameter.is_meta:
        raise refuse_type(call, "weights with values", f"{name} on the meta device", "Load the model first.")
    if type(parameter.data) is not Tensor:
        fix = "Prune before weights are sharded or quantized."
        raise refuse_type(call, "weights that are plain tensors", f"{name}, a {type(parameter.data).__name__}", fix)
    if parameter.dtype not in DTYPES:
        fix = "Prune the model first, quantize it then."
        raise refuse_type(call, "weights of 16, 32 or 64-bit floats", f"{name} of {parameter.dtype}", fix)
    low, high = parameter.detach().aminmax() if parameter.numel() else (torch.zeros(()), torch.zeros(()))
    if not (low.isfinite() and high.isfinite()):  # both are NaN if any is
        fix = "Load weights of a training that has not diverged."
        raise refuse(call, "finite weights", f"{name} from {low.item():g} to {high.item():g}", fix)
