"""A model as it is evaluated: evaluation mode, no gradients, and afterwards as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

__all__ = ["evaluation_mode"]


@contextlib.contextmanager
def evaluation_mode(*models: Callable[..., Any]) -> Iterator[None]:
    """Inside: the models in evaluation mode, no gradients. Afterwards: each module's own training flag as before.

    A model that is no module is a function, and has no mode.

    >>> model = nn.Dropout()
    >>> with evaluation_mode(model): model.training
    False
    >>> model.training
    True
    """
    flags = [(m, m.training) for model in models if isinstance(model, nn.Module) for m in model.modules()]
    try:
        for module, _ in flags:
            module.training = False
        with torch.no_grad():
            yield
    finally:
        for module, training in flags:  # one by one: frozen norms stay in evaluation mode
            module.training = training
