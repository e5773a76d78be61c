"""What an optimizer costs in memory on a model, before anything is trained or even allocated.

The model is built on torch's `meta` device, gets gradients and one step of the real optimizer there, and the storages
of what exists then are counted. So the numbers are those of the code that would run, for a model of any size.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hasten._core.checks import near, refuse, refuse_type
from hasten._core.params import decay_groups
from hasten.optim import LAMB, FlashAdamW, FlashLion, FlashSGD, Lion, Muon, cast_model, memory_report

from . import models
from .workloads import NAMES as WORKLOADS
from .workloads import load

__all__ = ["MODELS", "OPTIMIZERS", "OptimizerFootprint", "model_of", "optimizer_footprint"]

RELEASE = "+release"
DEFAULT = ("adamw", "flash_adamw", "flash_adamw+release", "sgd", "flash_sgd", "lion", "flash_lion")

MODELS: dict[str, Callable[[], nn.Module]] = {
    "bert_tiny": lambda: models.BERT(),
    "gpt_small": lambda: models.gpt_small(),
    "resnet18": lambda: models.ImageNetResNet(18),
    "resnet50": lambda: models.ImageNetResNet(50),
    "resnet101": lambda: models.ImageNetResNet(101),
    "vit_tiny": lambda: models.ViT(),
}


@dataclass(frozen=True)
class _Choice:
    build: Callable[[Any], Any]  # groups -> optimizer
    narrow: bool = False  # is the model cast to bfloat16?


OPTIMIZERS: dict[str, _Choice] = {
    "adamw": _Choice(lambda groups: torch.optim.AdamW(groups, foreach=False)),
    "adamw_bf16": _Choice(lambda groups: torch.optim.AdamW(groups, foreach=False), narrow=True),
    "flash_adamw": _Choice(lambda groups: FlashAdamW(groups, backend="eager"), narrow=True),
    "flash_adamw32": _Choice(lambda groups: FlashAdamW(groups, master_weight_bits=32, backend="eager"), narrow=True),
    "flash_lion": _Choice(lambda groups: FlashLion(groups, backend="eager"), narrow=True),
    "flash_sgd": _Choice(lambda groups: FlashSGD(groups, momentum=0.9, backend="eager"), narrow=True),
    "lamb": _Choice(LAMB),
    "lion": _Choice(Lion),
    "muon": _Choice(Muon),
    "sgd": _Choice(lambda groups: torch.optim.SGD(groups, momentum=0.9, foreach=False)),
}


@dataclass(frozen=True)
class OptimizerFootprint:
    """Bytes that training keeps for each parameter, whatever the batch.

    Args:
        name: a key of `OPTIMIZERS`, with "+release" where gradients are released.
        parameters: how many, tied ones once.
        weights: of the model.
        gradients: all of them; released, of the largest parameter alone.
        state: of the optimizer, with the low bits of weights.
    """

    name: str
    parameters: int
    weights: int
    gradients: int
    state: int

    @property
    def total(self) -> int:
        """The sum."""
        return self.weights + self.gradients + self.state

    @property
    def bytes_per_parameter(self) -> float:
        """The sum for each parameter."""
        return self.total / self.parameters if self.parameters else 0.0


def model_of(spec: str) -> Callable[[], nn.Module]:
    """What builds a model: a name of `MODELS`, a workload's name or file, or "package.module:function".

    Raises:
        ValueError: nothing of this name.
    """
    if spec in MODELS:
        return MODELS[spec]
    module, colon, name = spec.partition(":")
    if colon and not spec.endswith(".py"):
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise refuse("memory", "a function that builds a model", f"{spec!r} ({error})") from error
    if spec in WORKLOADS or spec.endswith(".py"):
        return load(spec).program.model.build
    raise refuse("memory", "a model, a workload or module:function", repr(spec), near(spec, [*MODELS, *WORKLOADS]))


def optimizer_footprint(build: Callable[[], nn.Module], name: str) -> OptimizerFootprint:
    """What this optimizer keeps on the model that `build` returns.

    Args:
        build: `() -> model`; called under `torch.device("meta")`.
        name: a key of `OPTIMIZERS`; a flash one may end in "+release" (gradient release).

    Raises:
        ValueError: an unknown optimizer, or release where there is none. TypeError: `build` returns no model.

    >>> found = optimizer_footprint(lambda: nn.Linear(640, 320, bias=False), "flash_adamw")
    >>> round(found.bytes_per_parameter, 3), found.state
    (7.125, 640004)
    """
    plain = name.removesuffix(RELEASE)
    if plain not in OPTIMIZERS:
        raise refuse("memory", "the name of an optimizer", repr(name), near(plain, OPTIMIZERS))
    released = plain != name
    if released and not plain.startswith("flash"):
        raise refuse("memory", f"{RELEASE} behind a flash optimizer", repr(name), "Others step all parameters at once.")
    choice = OPTIMIZERS[plain]
    model = _built(build)
    if not isinstance(model, nn.Module):
        raise refuse_type("memory", "a function that returns an nn.Module", model)
    if choice.narrow:
        cast_model(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer = choice.build(decay_groups(model))
    optimizer.step()
    found = memory_report(optimizer).bytes
    kept = _bytes(model.parameters())
    gradients = max((_bytes([p.grad]) for p in trained), default=0) if released else found["gradients"]
    state = sum(found[kind] for kind in ("correction", "states", "scales", "steps"))
    return OptimizerFootprint(name, sum(p.numel() for p in model.parameters()), kept, gradients, state)


def _built(build: Callable[[], Any]) -> Any:
    try:
        with torch.device("meta"):
            return build()
    except (RuntimeError, NotImplementedError) as error:
        fix = "Take .item() and .tolist() of tensors out of its constructor, or make these with device='cpu'."
        raise refuse(
            "memory", "a model that can be built on torch's meta device", f"one that cannot: {error}", fix
        ) from error


def _bytes(tensors: Iterable[Any]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
