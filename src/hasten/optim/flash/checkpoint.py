"""State that leaves an optimizer and comes back: exactly, to and from torch.optim, and across shardings.

Three forms of a state are understood when it is loaded: codes (as they are), float32 or other floating states under
torch's names (encoded again, which gives the codes they came from), and those of the published package (compat.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..._core.checks import refuse
from .compat import is_published, read_published
from .rules import MOMENTS
from .slots import (
    check_state,
    codes_name,
    correction_dtype,
    local,
    new_state,
    read_states,
    read_weight,
    scales_name,
    write_states,
    write_weight,
    zeros_for,
)

__all__ = ["adopt", "export", "export_to_torch", "get_fp32", "set_fp32"]


def adopt(call: str, state: dict[str, Any], parameter: Tensor, group: Mapping[str, Any], rule: str) -> None:
    """Bring a loaded state, in place, into the form that steps work on.

    Raises:
        TypeError, ValueError: it does not belong to this parameter, or holds what this optimizer has no place for.
    """
    here = local(parameter)
    for name, value in list(state.items()):
        if isinstance(value, Tensor):
            state[name] = local(value)
    if is_published(state):
        weight, moments = read_published(call, state, here, rule)
        step = state.get("step", 0)
        state.clear()
        state.update(new_state(here, rule, group), step=_counter(step, here, group))
        placed = {name: zeros_for(here, torch.float32).copy_(value) for name, value in moments.items()}
        write_states(state, rule, placed, group)
        if weight is not None:
            write_weight(here, state, weight)
        return
    known = {"step", "correction", "correction_of"}
    known |= {form for name in MOMENTS[rule] for form in (name, codes_name(name), scales_name(name))}
    unknown = sorted(name for name, value in state.items() if name not in known and value is not None)
    if unknown:
        fix = f"Load a state of this kind of optimizer, or remove these entries from it: {', '.join(unknown)}."
        raise refuse(call, f"a state of {', '.join(sorted(MOMENTS[rule])) or 'no moments'}", ", ".join(unknown), fix)
    state["step"] = _counter(state.get("step", 0), here, group)
    fresh = new_state(here, rule, group)
    _adopt_moments(state, here, group, rule)
    if correction_dtype(here, group) is None:
        if state.get("correction") is not None:
            check_state(call, here, state, group, rule)  # says what the low bits belong to
        state.pop("correction", None)
        state.pop("correction_of", None)
    for name, value in fresh.items():
        state.setdefault(name, value)
    low = state.get("correction")
    if low is not None and low.shape == here.shape:
        placed = zeros_for(here, low.dtype)
        state["correction"] = low if low.stride() == placed.stride() else placed.copy_(low)
    check_state(call, here, state, group, rule)


def _counter(step: Any, parameter: Tensor, group: Mapping[str, Any]) -> Tensor:
    device = parameter.device if group["capturable"] else torch.device("cpu")
    return torch.as_tensor(step, dtype=torch.float32).reshape(()).to(device)


def _adopt_moments(state: dict[str, Any], parameter: Tensor, group: Mapping[str, Any], rule: str) -> None:
    """Encode or decode what was saved in another form, or in another order of memory."""
    for name in MOMENTS[rule]:
        held = state.get(codes_name(name), state.get(name))
        if held is None:
            state.pop(name, None)  # torch's SGD keeps None before its first step
            continue
        fits = codes_name(name) in state if group["quantize"] else name in state and state[name].dtype == torch.float32
        placed = zeros_for(parameter, torch.float32)
        if held.shape != parameter.shape or (fits and held.stride() == placed.stride()):
            continue  # as it is, or of a shape that check_state will refuse
        value = read_states(state, rule, group["group_size"])[name]
        write_states(state, rule, {name: placed.copy_(value)}, group)


def _owners(optimizer: Any) -> dict[int, tuple[Tensor, dict[str, Any]]]:
    """Parameter and group of each index of a state_dict."""
    owners: dict[int, tuple[Tensor, dict[str, Any]]] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            owners[len(owners)] = (parameter, group)
    return owners


def export(state_dict: dict[str, Any], optimizer: Any, *, expand: bool) -> dict[str, Any]:
    """A state_dict of torch's form with the states as they are, or in float32 where `expand` or a DTensor says so."""
    owners, found = _owners(optimizer), {}
    for index, state in state_dict["state"].items():
        parameter, group = owners[index]
        rule = optimizer._rule_of(group)
        sharded = local(parameter) is not parameter
        exported = dict(state)
        if (expand or sharded) and group["quantize"]:
            for name, value in read_states(state, rule, group["group_size"]).items():
                exported[name] = value
                exported.pop(codes_name(name), None)
                exported.pop(scales_name(name), None)
        if sharded:
            exported = {
                name: _as_dtensor(value, parameter) if _is_shaped(value, parameter) else value
                for name, value in exported.items()
            }
        found[index] = exported
    return {**state_dict, "state": found}


def _is_shaped(value: Any, parameter: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == local(parameter).shape and value.ndim > 0


def _as_dtensor(value: Tensor, parameter: Any) -> Tensor:
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(
        value, parameter.device_mesh, parameter.placements, run_check=False,
        shape=parameter.shape, stride=parameter.stride(),
    )  # fmt: skip


# The options of torch's optimizers; what is ours only is left out.
_TORCH_OPTIONS = {
    "adam": ("lr", "betas", "eps", "weight_decay", "amsgrad", "maximize", "foreach", "capturable", "differentiable",
             "fused", "decoupled_weight_decay", "initial_lr", "params"),
    "momentum": ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize", "foreach", "differentiable",
                 "fused", "initial_lr", "params"),
}  # fmt: skip


def export_to_torch(state_dict: dict[str, Any], optimizer: Any) -> dict[str, Any]:
    """The state_dict that torch.optim's optimizer of this kind would have."""
    name = type(optimizer).__name__
    kind = {"adam": "adam", "momentum": "momentum", "plain": "momentum"}.get(optimizer.rule)
    if kind is None:
        raise refuse("torch_state_dict", "an optimizer that torch has", name, "Use state_dict().")
    if kind == "momentum" and optimizer.decoupled:
        fix = "Use FlashSGD with weight_decay / lr, or state_dict()."
        raise refuse("torch_state_dict", "an optimizer that torch has (its SGD couples the decay)", name, fix)
    expanded = export(state_dict, optimizer, expand=True)
    states = {
        index: {key: value for key, value in state.items() if key not in ("correction", "correction_of")}
        for index, state in expanded["state"].items()
    }
    if kind == "momentum":  # torch counts no steps here, and knows a missing buffer as None
        states = {index: {"momentum_buffer": state.get("momentum_buffer")} for index, state in states.items()}
    missing = {"foreach": None, "differentiable": False, "fused": None}
    if kind == "adam":
        missing |= {"amsgrad": False, "decoupled_weight_decay": optimizer.decoupled}
    groups = [
        {key: value for key, value in {**missing, **group}.items() if key in _TORCH_OPTIONS[kind]}
        for group in expanded["param_groups"]
    ]
    return {"state": states, "param_groups": groups}


# Models in float32 ----------------------------------------------------------------------------------------------------


def _raw(model: nn.Module) -> nn.Module:
    return model.module if isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)) else model


def _held(optimizer: Any) -> set[int]:
    return {id(p) for group in optimizer.param_groups for p in group["params"]}


@torch.no_grad()
def get_fp32(model: nn.Module, optimizer: Any) -> dict[str, Any]:
    """`FlashOptimizer.get_fp32_model_state_dict`."""
    found: dict[str, Any] = {}
    held = _held(optimizer)
    for name, value in _raw(model).state_dict(keep_vars=True).items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            found[name] = value.detach().clone() if isinstance(value, Tensor) else value
            continue
        state = optimizer.state.get(value, {}) if id(value) in held else {}
        whole = read_weight(local(value), state).float()
        found[name] = whole.clone() if local(value) is value else _as_dtensor(whole, value)
    return found


@torch.no_grad()
def set_fp32(model: nn.Module, optimizer: Any, state_dict: Mapping[str, Tensor]) -> None:
    """`FlashOptimizer.set_fp32_model_state_dict`."""
    call = "set_fp32_model_state_dict"
    targets = _raw(model).state_dict(keep_vars=True)
    missing, extra = sorted(targets.keys() - state_dict.keys()), sorted(state_dict.keys() - targets.keys())
    if missing or extra:
        fix = "Pass the state of a model of the same architecture."
        raise refuse(call, "the model's names", f"missing {missing[:3]}, unknown {extra[:3]}", fix)
    for name, target in targets.items():
        if isinstance(target, Tensor) and state_dict[name].shape != target.shape:
            raise refuse(call, f"{name} of shape {tuple(target.shape)}", state_dict[name])
    held = _held(optimizer)
    for name, target in targets.items():
        if not isinstance(target, Tensor):
            continue
        value = state_dict[name]
        if id(target) in held and target.is_floating_point():
            write_weight(local(target), optimizer._state_of(target), local(value).to(local(target).device))
        else:
            target.copy_(value)
