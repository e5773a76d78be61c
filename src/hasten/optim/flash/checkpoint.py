"""State that leaves an optimizer and comes back: exactly, to and from torch.optim, and across shardings.

Three forms of a state are understood when it is loaded: codes (as they are), float32 or other floating states under
torch's names (encoded again, which gives the codes they came from), and those of the published package (compat.py).
One that does not fit is refused, and the optimizer stays as it was.

A shard of a parameter has groups of its own, so codes cannot be cut or joined. What leaves a sharded optimizer is
float32, one DTensor for each state, and each rank encodes its part again: exactly, where the groups are the same.
Corrections go element by element, so weights come back exactly under every sharding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..._core.checks import refuse, refuse_type
from ..._core.wrappers import unwrapped
from .._options import number
from .companding import group_count
from .compat import is_published, read_published
from .rules import MOMENTS
from .slots import (
    check_state,
    codes_name,
    local,
    new_state,
    read_states,
    read_weight,
    scales_name,
    write_states,
    write_weight,
    zeros_for,
)

__all__ = ["adopt", "adopt_group", "export", "export_to_torch", "get_fp32", "set_fp32"]


def adopt(
    call: str, state: dict[str, Any], parameter: Tensor, group: Mapping[str, Any], rule: str, *, complete: bool = True
) -> Tensor | None:
    """Bring a state that was loaded, or that was another tensor's, in place into the form that steps work on.

    Args:
        complete: refuse a state without the moments of its rule; else they start at 0, as they do where
            momentum is switched on later (with dampening torch's first buffer is another: the whole gradient).

    Returns:
        The 16-bit weights (local) that belong to it, where it says so (a published one): for the caller to write.

    Raises:
        TypeError, ValueError: it does not belong to this parameter, lacks something, or holds what this optimizer has
            no place for.
    """
    here = local(parameter)
    if local(parameter) is not parameter:
        _decode_whole(call, state, parameter, group, rule)
    for name, value in list(state.items()):
        if isinstance(value, Tensor):
            value = part_of(value, parameter)
            # The tensors lie where the parameter does (it may have moved), and kernels read scales one after the other.
            state[name] = value if name == "step" else value.to(here.device)
            if str(name).endswith(scales_name("")):
                state[name] = state[name].contiguous()
        elif value is None or value == {}:  # torch's SGD before its first step; names without a value, once flattened
            del state[name]
    if is_published(state):
        return _adopt_published(call, state, here, group, rule)
    _check_names(call, state, rule)
    step = state.get("step", 1 if rule == "momentum" and len(state) else 0)  # torch's SGD counts none
    fresh = new_state(here, rule, group)
    _adopt_moments(call, state, here, group, rule, complete=complete and float(step) > 0)
    state["step"] = _counter(step, here, group)
    low = state.get("correction")
    if (low is None) != ("weight_digits" not in state):
        raise refuse(call, "correction and weight_digits, or neither", "one of them", _FIX)
    if low is not None and group["master_weight_bits"] is None:
        fix = "Set master_weight_bits to 24 or 32 in the saved param_groups, or remove correction and weight_digits."
        raise refuse(call, "no correction with master_weight_bits=None", low, fix)
    if isinstance(low, Tensor) and low.shape == here.shape:
        placed = zeros_for(here, low.dtype if low.dtype != torch.int32 else torch.int16)  # int32: see export
        state["correction"] = low if (low.stride(), low.dtype) == (placed.stride(), placed.dtype) else placed.copy_(low)
    for name, value in fresh.items():
        state.setdefault(name, value)
    check_state(call, here, state, group, rule)
    return None


def adopt_group(group: dict[str, Any]) -> None:
    """The options of a loaded group under our names: the published package counts bytes of a weight."""
    if "master_bytewidth" in group:
        group["master_weight_bits"] = {3: 24, 4: 32}.get(group.pop("master_bytewidth"))


_FIX = "Load the state that was saved with this model and these options."


def _adopt_published(
    call: str, state: dict[str, Any], parameter: Tensor, group: Mapping[str, Any], rule: str
) -> Tensor | None:
    weight, moments = read_published(call, state, parameter, rule)
    step = state.get("step", 0)
    state.clear()
    state.update(new_state(parameter, rule, group), step=_counter(step, parameter, group))
    placed = {name: zeros_for(parameter, torch.float32).copy_(value) for name, value in moments.items()}
    write_states(state, rule, placed, group)
    if weight is None:
        return None
    narrow = zeros_for(parameter, parameter.dtype)
    write_weight(narrow, state, weight)
    return narrow


def _check_names(call: str, state: Mapping[str, Any], rule: str) -> None:
    """Refuse what this optimizer has no place for, and moments of which something is missing."""
    known = {"step", "correction", "weight_digits"}
    known |= {form for name in MOMENTS[rule] for form in (name, codes_name(name), scales_name(name))}
    unknown = sorted(str(name) for name in state if name not in known)
    if unknown:
        fix = "Load a state of this kind of optimizer, or remove these entries from it."
        raise refuse(call, f"a state of {', '.join(sorted(MOMENTS[rule])) or 'no moments'}", ", ".join(unknown), fix)
    if rule == "adam" and "step" not in state:
        raise refuse(call, "a state with step", f"only {', '.join(sorted(state)) or 'nothing'}", _FIX)


def _counter(step: Any, parameter: Tensor, group: Mapping[str, Any]) -> Tensor:
    device = parameter.device if group["capturable"] else torch.device("cpu")
    counter = torch.as_tensor(step, dtype=torch.float32).reshape(()).to(device)
    if not 0 <= float(counter) < 2**31:
        raise refuse("load_state_dict", "a number of steps of at least 0", repr(step), "Load a state that was saved.")
    return counter


def _adopt_moments(
    call: str, state: dict[str, Any], parameter: Tensor, group: Mapping[str, Any], rule: str, *, complete: bool
) -> None:
    """Encode or decode what was saved in another form, or in another order of memory."""
    placed = zeros_for(parameter, torch.float32)
    for name, is_variance in MOMENTS[rule].items():
        held = state.get(name)
        if codes_name(name) in state or scales_name(name) in state:
            _check_codes(call, name, state, parameter, group["group_size"], is_variance=is_variance)
            held = state[codes_name(name)]
            state.pop(name, None)
        elif held is None:
            if complete:
                raise refuse(call, f"a state of {', '.join(MOMENTS[rule])}", f"one without {name}", _FIX)
            continue
        elif held.shape != parameter.shape:
            raise refuse(call, f"{name} of shape {tuple(parameter.shape)}", held, _FIX)
        fits = codes_name(name) in state if group["quantize"] else held.dtype == torch.float32
        if fits and held.stride() == placed.stride():
            continue
        value = read_states(state, rule, group["group_size"])[name]
        write_states(state, rule, {name: zeros_for(parameter, torch.float32).copy_(value)}, group)


def _check_codes(
    call: str, name: str, state: Mapping[str, Any], parameter: Tensor, group_size: int, *, is_variance: bool
) -> None:
    """Refuse codes and scales that cannot be decoded."""
    expected = {
        codes_name(name): (tuple(parameter.shape), torch.uint8 if is_variance else torch.int8),
        scales_name(name): ((group_count(parameter.numel(), group_size),), torch.bfloat16),
    }
    for form, (shape, dtype) in expected.items():
        value = state.get(form)
        if not isinstance(value, Tensor) or tuple(value.shape) != shape or value.dtype != dtype:
            raise refuse(call, f"{form} of shape {shape} and dtype {dtype}", "none" if value is None else value, _FIX)


def _decode_whole(call: str, state: dict[str, Any], parameter: Tensor, group: Mapping[str, Any], rule: str) -> None:
    """Decode codes of the whole of a parameter of which this rank holds a shard: groups of a shard are others."""
    for name, is_variance in MOMENTS[rule].items():
        codes = state.get(codes_name(name))
        if isinstance(codes, Tensor) and codes.shape == parameter.shape != local(parameter).shape:
            _check_codes(call, name, state, parameter, group["group_size"], is_variance=is_variance)
            whole = {form: state.pop(form) for form in (codes_name(name), scales_name(name))}
            state[name] = read_states(whole, rule, group["group_size"])[name]


def _owners(optimizer: Any) -> dict[int, tuple[Tensor, dict[str, Any]]]:
    """Parameter and group of each index of a state_dict."""
    owners: dict[int, tuple[Tensor, dict[str, Any]]] = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            owners[len(owners)] = (parameter, group)
    return owners


def export(state_dict: dict[str, Any], optimizer: Any, *, expand: bool) -> dict[str, Any]:
    """A state_dict of torch's form with the states as they are, or in float32 where `expand` or a DTensor says so.

    Codes belong to the groups of a shard, so those of a DTensor are decoded; and since neither gloo nor NCCL carries
    int16, its correction of 16 bits becomes int32.
    """
    owners, found = _owners(optimizer), {}
    for index, state in state_dict["state"].items():
        if index not in owners:
            found[index] = state
            continue
        parameter, group = owners[index]
        sharded = local(parameter) is not parameter
        exported = {name: value for name, value in state.items() if value is not None}
        if (expand or sharded) and group["quantize"]:
            for name, value in read_states(state, optimizer._rule_of(group), group["group_size"]).items():
                exported[name] = value
                exported.pop(codes_name(name), None)
                exported.pop(scales_name(name), None)
        if sharded:
            for name, value in exported.items():
                if name != "step" and isinstance(value, Tensor):
                    exported[name] = _as_dtensor(value.int() if value.dtype == torch.int16 else value, parameter)
        found[index] = exported
    return {**state_dict, "state": found}


def _as_dtensor(value: Tensor, parameter: Any) -> Tensor:
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(
        value, parameter.device_mesh, parameter.placements, run_check=False,
        shape=parameter.shape, stride=parameter.stride(),
    )  # fmt: skip


def part_of(value: Tensor, parameter: Any) -> Tensor:
    """What of a tensor of a parameter's shape, whole or sharded in any way, lies where the parameter's shard does."""
    here = local(parameter) is not parameter
    if local(value) is not value:
        sharded: Any = value
        if here and (sharded.device_mesh, sharded.placements) == (parameter.device_mesh, parameter.placements):
            return local(value)
        value = sharded.full_tensor()
    if not here or value.shape != parameter.shape:  # scales, steps
        return value
    from torch.distributed.tensor import DTensor, Replicate

    mesh = parameter.device_mesh
    whole = DTensor.from_local(value, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return local(whole.redistribute(placements=parameter.placements)).clone()  # of the shard, which is not to keep it


# The options that torch's optimizers do not have.
_OURS = {"master_weight_bits", "quantize", "group_size", "decouple_lr", "stochastic_rounding"}


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
    states = {}
    for index, state in expanded["state"].items():
        live = state_dict["state"][index]  # which torch's optimizer would step with its own, where it needs no cast
        states[index] = {
            key: value.clone() if value is live.get(key) else value
            for key, value in state.items()
            if key not in ("correction", "weight_digits")
        }
    missing = {"foreach": None, "differentiable": False, "fused": None}
    if kind == "adam":
        missing |= {"amsgrad": False, "decoupled_weight_decay": optimizer.decoupled}
    else:  # torch counts no steps here, and knows a missing buffer as None
        states = {index: {"momentum_buffer": state.get("momentum_buffer")} for index, state in states.items()}
    groups = []
    for group in expanded["param_groups"]:
        made = {key: value for key, value in {**missing, **group}.items() if key not in _OURS}
        if kind == "momentum":
            made.pop("capturable", None)
        if optimizer.decoupled and group["decouple_lr"]:  # torch multiplies it with the learning rate
            made["weight_decay"] = number(group["weight_decay"]) / number(group["initial_lr"])
        groups.append(made)
    return {"state": states, "param_groups": groups}


# Models in float32 ----------------------------------------------------------------------------------------------------


def _held(optimizer: Any) -> set[int]:
    return {id(p) for group in optimizer.param_groups for p in group["params"]}


@torch.no_grad()
def get_fp32(model: nn.Module, optimizer: Any) -> dict[str, Any]:
    """`FlashOptimizer.get_fp32_model_state_dict`."""
    found: dict[str, Any] = {}
    held = _held(optimizer)
    for name, value in unwrapped(model).state_dict(keep_vars=True).items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            found[name] = value.detach().clone() if isinstance(value, Tensor) else value
            continue
        state = optimizer.state.get(value, {}) if id(value) in held else {}
        whole = read_weight(local(value), state).detach().clone()
        found[name] = whole if local(value) is value else _as_dtensor(whole, value)
    return found


@torch.no_grad()
def set_fp32(model: nn.Module, optimizer: Any, state_dict: Mapping[str, Any]) -> None:
    """`FlashOptimizer.set_fp32_model_state_dict`."""
    call = "set_fp32_model_state_dict"
    targets = model.state_dict(keep_vars=True)
    if targets.keys() != state_dict.keys():  # those of a wrapper are as good as the model's own
        model = unwrapped(model)
        targets = model.state_dict(keep_vars=True)
    missing, extra = sorted(targets.keys() - state_dict.keys()), sorted(state_dict.keys() - targets.keys())
    if missing or extra:
        fix = "Pass the state of a model of the same architecture."
        raise refuse(call, "the model's names", f"missing {missing[:3]}, unknown {extra[:3]}", fix)
    for name, target in targets.items():
        value = state_dict[name]
        if isinstance(target, Tensor) and not isinstance(value, Tensor):
            raise refuse_type(call, f"a tensor for {name}", value)
        if isinstance(target, Tensor) and value.shape != target.shape:
            raise refuse(call, f"{name} of shape {tuple(target.shape)}", value)
        if isinstance(target, Tensor) and value.is_floating_point() != target.is_floating_point():
            raise refuse_type(call, f"{name} of a dtype like {target.dtype}", value)
    held = _held(optimizer)
    for name, target in targets.items():
        value = state_dict[name]
        if not isinstance(target, Tensor):
            owner, _, _ = name.rpartition(".")
            model.get_submodule(owner).set_extra_state(value)
            continue
        value = part_of(value, target).to(local(target).device)
        if id(target) in held and target.requires_grad and target.is_floating_point():
            write_weight(local(target), optimizer._state_of(target), value)
        else:
            local(target).copy_(value)
    optimizer.recompute_param_stats()
