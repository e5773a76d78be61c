"""Casting a model to 16 bits, except where 16 bits hurt.

The model itself holds bfloat16 weights; the optimizer keeps what the cast cut off. Everything is decided before
anything is changed:

- **parameters** become `dtype` unless a kept layer holds them;
- **buffers** stay as they are (a rotary embedding's frequencies in bfloat16 are off by more than a radian at position
  4096); `keep_buffers` changes that;
- **kept layers** are in float32 afterwards, whatever they were: batch and instance norms (their kernels take a 16-bit
  input beside float32 weights), and whatever the caller names. A named layer gets a hook that widens its inputs.

Parameters and buffers stay the *same objects* and get new data, as in `model.to(dtype)`: ties, an optimizer's groups,
parametrizations and the flat weights of an LSTM hold afterwards what they held before. A tie is an object that two
modules hold, never an equal address, so freed memory that is used again cannot tie what was not tied.

Differs from the published reference: buffers are kept; keyword arguments and nested inputs are widened, dictionaries
and dataclasses of outputs narrowed; a pattern without a match warns; the result is a report that can be undone.
"""

from __future__ import annotations

import copy
import dataclasses
import itertools
import warnings
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from ..._core.checks import refuse, refuse_type
from ..._core.surgery import NoEffectWarning, Report
from ..._core.wrappers import unwrapped, wrapper_of

__all__ = ["cast_floats", "cast_model"]

Layers = str | nn.Module | Iterable[str | nn.Module] | None

# What a cast may touch. Narrower floats (float8, float4) mean nothing without the scales beside them.
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_CALL = "cast_model"


def cast_floats(value: Any, dtype: torch.dtype, *, widen_only: bool = False) -> Any:
    """`value` with every floating-point tensor in it as `dtype`.

    Looks into tuples (named ones too), lists, mappings and dataclasses, which are copied and keep their type; the
    value that came in is not changed. Integers, complex numbers, 8-bit floats and all other objects pass through.

    Args:
        value: a tensor, a container of tensors, or anything else.
        dtype: of the result.
        widen_only: leave tensors that are at least as wide as `dtype`.

    >>> cast_floats({"x": torch.ones(2), "n": [torch.ones(2, dtype=torch.int64)]}, torch.float16)
    {'x': tensor([1., 1.], dtype=torch.float16), 'n': [tensor([1, 1])]}
    """
    if isinstance(value, Tensor):
        wanted = value.dtype in _FLOATS and not (widen_only and value.dtype.itemsize >= dtype.itemsize)
        return value.to(dtype) if wanted else value
    if isinstance(value, (tuple, list)):
        items = [cast_floats(item, dtype, widen_only=widen_only) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if isinstance(value, Mapping):
        items = {key: cast_floats(item, dtype, widen_only=widen_only) for key, item in value.items()}
        return items if type(value) is dict else _filled(value, items)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        new = copy.copy(value)
        for field in dataclasses.fields(value):
            if hasattr(value, field.name):
                item = cast_floats(getattr(value, field.name), dtype, widen_only=widen_only)
                object.__setattr__(new, field.name, item)  # also where the dataclass is frozen
        return new
    return value


def _filled(value: Mapping, items: dict) -> Mapping:
    """A copy of a mapping of any class (OrderedDict, a Hugging Face ModelOutput) with other items."""
    if not isinstance(value, MutableMapping):
        return value
    new = copy.copy(value)
    for key, item in items.items():
        new[key] = item
    return new


class _Widen:
    """Forward pre-hook: inputs of a kept layer, positional and by keyword, at least as wide as its weights."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        return cast_floats(args, self.dtype, widen_only=True), cast_floats(kwargs, self.dtype, widen_only=True)


class _Narrow:
    """Forward hook: outputs of a kept layer in the dtype of the model around it."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __call__(self, module: nn.Module, args: tuple, output: Any) -> Any:
        return cast_floats(output, self.dtype)


def _matches(model: nn.Module, layers: Layers, argument: str) -> set[str]:
    """Names of the modules that `layers` means, a shared module under each of its names."""
    if layers is None:
        return set()
    specs = [layers] if isinstance(layers, (str, nn.Module)) else list(layers)
    named = list(model.named_modules(remove_duplicate=False))
    found: set[str] = set()
    for spec in specs:
        if isinstance(spec, str):
            names = {name for name, _ in named if fnmatchcase(name, spec)}
            if not names:
                message = f"{_CALL}: {argument}: the pattern {spec!r} matched no module's full name."
                warnings.warn(message, NoEffectWarning, stacklevel=4)
        elif isinstance(spec, nn.Module):
            names = {name for name, module in named if module is spec}
            if not names:
                got = f"a {type(spec).__name__} outside it"
                raise refuse(_CALL, f"modules of the model in {argument}", got, "Pass a module that it contains.")
        else:
            raise refuse_type(_CALL, f"names, patterns or modules in {argument}", spec, 'Pass ["lm_head"], say.')
        found |= names
    return found


def _ancestors(name: str) -> Iterator[str]:
    """Names of the modules around `name`, the model itself ("") last.

    >>> list(_ancestors("a.b.c"))
    ['a.b', 'a', '']
    """
    while name:
        name = name.rpartition(".")[0]
        yield name


def _refuse_what_cannot_be_cast(model: nn.Module, dtype: torch.dtype) -> None:
    if not isinstance(model, nn.Module):
        raise refuse_type(_CALL, "a torch module", model, "Pass the model, before the optimizer is built.")
    if dtype not in (torch.bfloat16, torch.float16):
        raise refuse(_CALL, "dtype torch.bfloat16 or torch.float16", dtype, "For others use model.to(dtype).")
    wrapper = wrapper_of(model)
    if wrapper is not None:
        raise refuse_type(_CALL, "a bare model", f"one inside {wrapper}", "Cast the model first, then wrap it.")
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if is_lazy(value):
            raise refuse(_CALL, "initialised parameters", f"the lazy {name}", "Run one batch through the model first.")
        if is_traceable_wrapper_subclass(value):
            fix = "Cast first, then shard (fully_shard) or quantise."
            raise refuse_type(_CALL, "plain tensors", f"{name} as {type(value).__name__}", fix)


def _warn_of_ties_across(model: nn.Module, kept: set[nn.Module], held: set[int]) -> None:
    """A tied parameter that one kept layer holds is kept for all, and the others will compute in float32."""
    for name, module in model.named_modules():
        if module in kept:
            continue
        for attribute, parameter in module._parameters.items():
            if parameter is not None and id(parameter) in held and parameter.dtype in _FLOATS:
                place = f"{name}.{attribute}" if name else attribute
                message = (
                    f"{_CALL}: {place} stays in full precision, as the kept layer it is tied to. Name its layer in "
                )
                message += "full_precision_recast_layers, too, unless what follows that takes float32."
                warnings.warn(message, UserWarning, stacklevel=3)


def _warn_of_shared_memory(model: nn.Module, cast: set[int]) -> None:
    """Different tensors over one memory come apart, as in `model.to`: say so before it happens."""
    named = {id(value): (name, value) for name, value in [*model.named_parameters(), *model.named_buffers()]}
    spans = []
    for name, value in named.values():
        if value.numel() and not value.is_meta and value.layout == torch.strided:
            reach = sum((size - 1) * step for size, step in zip(value.shape, value.stride(), strict=True)) + 1
            start = value.data_ptr()
            spans.append((str(value.device), start, start + reach * value.element_size(), name, id(value) in cast))
    spans.sort()
    for one, two in itertools.pairwise(spans):
        if one[0] == two[0] and two[1] < one[2] and (one[4] or two[4]):
            message = (
                f"{_CALL}: {one[3]} and {two[3]} lie in one memory and come apart; tie them as one Parameter object."
            )
            warnings.warn(message, UserWarning, stacklevel=3)


def _set_data(value: Tensor, dtype: torch.dtype) -> None:
    gradient, value.grad = value.grad, None  # a gradient of another dtype would be refused
    value.data = value.data.to(dtype)
    if gradient is not None:
        value.grad = gradient.to(dtype)


def cast_model(
    model: nn.Module,
    dtype: torch.dtype = torch.bfloat16,
    *,
    selective: bool = True,
    full_precision_layers: Layers = None,
    full_precision_recast_layers: Layers = None,
    keep_buffers: bool | str | Iterable[str] = True,
) -> Report:
    """Cast the weights of `model` to `dtype` in place, keeping in float32 what needs it.

    For training with 16-bit weights; call it on the bare model, before it is wrapped, sharded or compiled and before
    the optimizer is built. The bits that the cast cuts off are gone from the model: an optimizer that keeps low bits
    starts from zero ones. To start from the exact float32 weights, save `model.state_dict()` first and hand it to the
    optimizer's `set_fp32_model_state_dict`. Not for inference with autocast, which wants float32 weights.

    Args:
        model: its parameters and buffers stay the same objects; those of integers, complex numbers and 8-bit floats
            are left alone, gradients follow their parameters.
        dtype: torch.bfloat16, or torch.float16 (whose range ends at 65504).
        selective: keep batch and instance norms, weights and statistics, in float32.
        full_precision_layers: layers to keep in float32 with all they contain: a module, a pattern (`fnmatch`, case
            matters) on the full dotted name, or several. "head" is the model's own head only, "*.head" one at any
            depth below. Inputs are widened, outputs stay float32: for the last layer.
        full_precision_recast_layers: likewise, and floating-point outputs are cast to `dtype`: for layers inside.
        keep_buffers: True leaves buffers as they are; False casts those of layers that are cast; patterns of full
            names ("*.inv_freq") leave those and cast the others. Spectral norm wants its buffers in the weight's
            dtype (False), or its layer kept.

    Returns:
        Report whose `changed` names the tensors with a new dtype. `undo()` takes the hooks away and gives every tensor
        its old dtype, with the values of that moment: bits that the cast cut off do not come back.

    Raises:
        TypeError: not a module; one inside DDP, FSDP or DataParallel; sharded or quantised parameters.
        ValueError: another `dtype`, lazy parameters, a module that is not in the model or is named in both lists.

    Warns:
        NoEffectWarning: nothing to cast, or a pattern without a match.
        UserWarning: a parameter is tied between a kept layer and one that is not; different parameters share memory.

    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 2))
    >>> cast_model(model, full_precision_layers="3").changed
    ('0.weight', '0.bias')
    >>> model(torch.ones(2, 3, 3, 3, dtype=torch.bfloat16)).dtype
    torch.float32

    Source: arXiv 2602.23349.
    """
    _refuse_what_cannot_be_cast(model, dtype)
    model = unwrapped(model)  # names without the prefix of torch.compile
    modules = dict(model.named_modules(remove_duplicate=False))
    outermost, narrow = _named_layers(model, modules, full_precision_layers, full_precision_recast_layers)
    kept = {inner for module in outermost for inner in module.modules()}
    if selective:
        kept |= {module for module in modules.values() if isinstance(module, _NormBase)}
    held = {id(value) for module in kept for value in (*module._parameters.values(), *module._buffers.values())}
    _warn_of_ties_across(model, kept, held)

    wanted = _wanted_dtypes(model, dtype, held, _spared_buffers(model, keep_buffers))
    _warn_of_shared_memory(model, {id(value) for value, _ in wanted.values()})
    report = Report(_CALL)
    for value, new in wanted.values():
        report._undo.append(lambda v=value, old=value.dtype: _set_data(v, old))
        _set_data(value, new)
    report.changed = tuple(wanted)

    for module in outermost:
        _add_hooks(module, dtype if module in narrow else None, report)
    for module in modules.values():
        if isinstance(module, nn.RNNBase):
            module.flatten_parameters()
    if not report._undo:
        report.warn_if_empty(f"floating-point parameters outside kept layers that are not yet {dtype}")
    return report


def _named_layers(
    model: nn.Module, modules: Mapping[str, nn.Module], full_layers: Layers, recast_layers: Layers
) -> tuple[set[nn.Module], set[nn.Module]]:
    """Of the layers that the caller names the outermost, and those whose outputs are cast back."""
    full = _matches(model, full_layers, "full_precision_layers")
    recast = _matches(model, recast_layers, "full_precision_recast_layers")
    narrow = {modules[name] for name in recast}
    both = {modules[name] for name in full} & narrow
    if both:
        names = ", ".join(sorted(name for name, module in modules.items() if module in both))
        raise refuse(_CALL, "a layer in one list only", f"{names} in both", "Leave it in the one you mean.")
    named = full | recast
    return {modules[name] for name in named if not named.intersection(_ancestors(name))}, narrow


def _spared_buffers(model: nn.Module, keep_buffers: bool | str | Iterable[str]) -> set[int]:
    """Ids of the buffers that keep their dtype wherever they are."""
    named = list(model.named_buffers(remove_duplicate=False))
    if isinstance(keep_buffers, bool):
        return {id(value) for _, value in named} if keep_buffers else set()
    spared: set[int] = set()
    for pattern in [keep_buffers] if isinstance(keep_buffers, str) else keep_buffers:
        found = {id(value) for name, value in named if fnmatchcase(name, pattern)}
        if not found:
            message = f"{_CALL}: keep_buffers: the pattern {pattern!r} matched no buffer's full name."
            warnings.warn(message, NoEffectWarning, stacklevel=3)
        spared |= found
    return spared


def _wanted_dtypes(
    model: nn.Module, dtype: torch.dtype, held: set[int], spared: set[int]
) -> dict[str, tuple[Tensor, torch.dtype]]:
    """By full name, each tensor that gets another dtype, once, and that dtype."""
    wanted = {}
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if value.dtype in _FLOATS and (id(value) in held or id(value) not in spared):
            new = torch.promote_types(value.dtype, torch.float32) if id(value) in held else dtype
            if new != value.dtype:
                wanted[name] = (value, new)
    return wanted


def _add_hooks(module: nn.Module, recast: torch.dtype | None, report: Report) -> None:
    """Give a kept layer the hooks it does not have yet."""
    dtypes = [p.dtype for p in module.parameters() if p.dtype in _FLOATS]
    full = max([torch.float32, *dtypes], key=lambda dtype: dtype.itemsize)
    if not any(isinstance(hook, _Widen) for hook in module._forward_pre_hooks.values()):
        report._undo.append(module.register_forward_pre_hook(_Widen(full), with_kwargs=True).remove)
    if recast is not None and not any(isinstance(hook, _Narrow) for hook in module._forward_hooks.values()):
        report._undo.append(module.register_forward_hook(_Narrow(recast)).remove)
