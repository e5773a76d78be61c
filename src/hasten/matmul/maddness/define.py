"""How a function becomes an operator of torch, which a compiled graph holds as one node."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

__all__ = ["define"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def define(name: str, schema: str) -> Callable[[_Function], _Function]:
    """Make a function the operator `hasten::name` of this schema on every device; shapes and gradients are its own.

    (torch.library.custom_op would do, but its first call loads the compiler: seconds.)
    """
    torch.library.define(f"hasten::{name}", schema, tags=torch.Tag.pt2_compliant_tag)

    def register(function: _Function) -> _Function:
        torch.library.impl(f"hasten::{name}", "default")(function)
        return function

    return register
