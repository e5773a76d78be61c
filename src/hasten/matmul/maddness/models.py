"""Models with table layers: freeze them, open them, train them, load them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from ..._core.checks import check, finite, refuse
from ..._core.surgery import NoEffectWarning, Report, replace_modules
from .layers import table_layer_of
from .modes import MaddnessLayer
from .patches import geometry_of

__all__ = ["finetune_mode", "freeze", "parameter_groups", "prepare"]


def freeze(model: nn.Module) -> tuple[str, ...]:
    """Freeze all table layers of `model`: rounded tables, compiled kernels, evaluation only.

    Args:
        model: call its `eval()` before it is used.

    Returns:
        Names of the layers that were not frozen before.

    Raises:
        ValueError: tables that are not finite.

    Warns:
        NoEffectWarning: there was none.
    """
    return _switch(model, "freeze", MaddnessLayer.freeze, "frozen")


def finetune_mode(model: nn.Module) -> tuple[str, ...]:
    """Open all table layers of `model` for training; build the optimizer afterwards.

    Returns:
        Names of the layers that were exact or frozen before.

    Warns:
        NoEffectWarning: there was none.
    """
    return _switch(model, "finetune_mode", MaddnessLayer.finetune_mode, "finetune")


def parameter_groups(model: nn.Module, lr: float, *, thresholds: float = 0.1) -> list[dict[str, Any]]:
    """Groups for an optimizer that fine-tunes: trees move more slowly than everything else, and never decay.

    Args:
        model: with table layers in mode "finetune".
        lr: learning rate of tables, offsets and all other parameters that train.
        thresholds: learning rate of thresholds and widths as a share of `lr`, at least 0.

    Returns:
        Two groups (one, if no layer has trees to train); the second has `weight_decay=0`.

    Raises:
        ValueError: a rate below 0.

    >>> from hasten.matmul import MaddnessLinear
    >>> layer = MaddnessLinear(16, 4, ncodebooks=4)
    >>> [(len(group["params"]), group["lr"]) for group in parameter_groups(layer, 1.0, thresholds=0.5)]
    [(2, 1.0), (2, 0.5)]
    """
    call = "parameter_groups"
    check(finite(call, "lr", lr) >= 0, call, "lr of at least 0", lr, "Pass lr=1e-3.")
    check(finite(call, "thresholds", thresholds) >= 0, call, "thresholds of at least 0", thresholds, "Pass 0.1.")
    layers = [module for module in model.modules() if isinstance(module, MaddnessLayer) and module.mode == "finetune"]
    slow = [layer.get_parameter(name) for layer in layers for name in ("thresholds", "log_width")]
    slow = [parameter for parameter in slow if parameter.requires_grad]
    apart = set(map(id, slow))
    fast = [p for p in model.parameters() if p.requires_grad and id(p) not in apart]
    groups: list[dict[str, Any]] = [{"params": fast, "lr": lr}]
    return [*groups, {"params": slow, "lr": lr * thresholds, "weight_decay": 0.0}] if slow else groups


def prepare(model: nn.Module, state: Mapping[str, Tensor], **options: Any) -> Report:
    """Put empty table layers where a saved state has some, so that `model.load_state_dict(state)` works.

    Args:
        model: the dense model, as it was before its conversion.
        state: state dict of the converted model, fine-tuned or frozen.
        **options: `lut_scale`, `accumulate`, `upcast_every` of the layers: a state does not hold them.

    Returns:
        The report, with `undo()`.

    Raises:
        ValueError: the state has tables for what is no linear or convolution layer of the model.

    Warns:
        NoEffectWarning: the state has no tables.

    >>> model = nn.Sequential(nn.Linear(16, 4), nn.ReLU()).eval()
    >>> import torch
    >>> from hasten.matmul import maddnessify
    >>> _ = maddnessify(model, torch.randn(300, 16), ncodebooks=4, force=True, skip=())
    >>> fresh = nn.Sequential(nn.Linear(16, 4), nn.ReLU()).eval()
    >>> prepare(fresh, model.state_dict()).changed
    ('0',)
    >>> fresh.load_state_dict(model.state_dict())
    <All keys matched successfully>
    """
    names = {key.removesuffix(".split_dims") for key in state if key.endswith(".split_dims")}
    modules = dict(model.named_modules(remove_duplicate=False))  # a shared layer has a state under each name
    for name in sorted(names):
        if not isinstance(modules.get(name), (nn.Linear, nn.Conv2d)):
            got = type(modules[name]).__name__ if name in modules else "none"
            raise refuse("prepare", f"a linear or convolution layer {name!r}", got, "Pass the model as it was before.")
        if any(key.startswith(f"{name}.exact.") for key in state):
            fix = "Call finetune_mode(model) or freeze(model) before saving."
            raise refuse("prepare", f"a fine-tuned or frozen state of {name!r}", "one of mode 'exact'", fix)

    def make(name: str, module: nn.Module) -> nn.Module | None:
        if name not in names:
            return None
        codebooks, levels = state[f"{name}.split_dims"].shape
        mode = "frozen" if f"{name}.luts" in state else "finetune"
        if isinstance(module, nn.Conv2d):
            geometry_of(module)  # refuses groups
        return table_layer_of(module).like(module, codebooks, 1 << levels, mode=mode, **options)

    return replace_modules(model, make, surgery="prepare").warn_if_empty("a state with tables")


def _switch(model: nn.Module, call: str, switch: Callable[[MaddnessLayer], Any], mode: str) -> tuple[str, ...]:
    names = []
    for name, module in model.named_modules():
        if isinstance(module, MaddnessLayer) and module.mode != mode:
            switch(module)
            names.append(name)
    if not names:
        message = f"{call}: nothing changed: expected table layers that are not in mode {mode!r}, the model has none."
        warnings.warn(message, NoEffectWarning, stacklevel=3)
    return tuple(names)
