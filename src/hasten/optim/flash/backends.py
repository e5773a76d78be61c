"""Which backend steps which parameters, and why.

    native      C++ for CPUs; the instruction set never changes a bit
    triton      one launch over buckets of parameters, for GPUs
    compiled    the readable step through torch.compile
    eager       the readable step

All follow one contract (splitting.py, companding.py, rules.py): the same formats, so that a checkpoint of one goes on
in another, and results that differ by rounding only. The kernels fuse multiplications with additions and divide by an
approximate reciprocal when they look for a code; so a weight may differ in its last bits, and a code by one where a
value lies at the border of two.
"""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ..._core.checks import near, refuse
from . import native
from .eager import step_compiled, step_eager
from .slots import Slot

__all__ = ["BACKENDS", "Choice", "check_backend", "choose", "run"]

BACKENDS = ("auto", "native", "triton", "compiled", "eager")


@dataclass(frozen=True)
class Choice:
    """The backend of a parameter, and the reason for it."""

    backend: str
    why: str


def check_backend(call: str, backend: str) -> str:
    """`backend` if there is one of this name."""
    if backend not in BACKENDS:
        raise refuse(call, f"backend among {', '.join(BACKENDS)}", repr(backend), near(str(backend), BACKENDS))
    return backend


def choose(slot: Slot, wanted: str) -> Choice:
    """The backend for a slot.

    Raises:
        ValueError: the backend that was asked for cannot step this parameter; the message says why.
    """
    if wanted in ("eager", "compiled"):
        return Choice(wanted, "asked for")
    kind = slot.parameter.device.type
    kernel = "native" if kind == "cpu" else "triton"
    reason = _REFUSALS[kernel](slot) if wanted in ("auto", "kernel", kernel) else f"its device is {kind!r}"
    if not reason:
        return _FITS[kernel] if wanted in ("auto", "kernel") else Choice(wanted, "asked for")
    if wanted == "auto":
        return Choice("eager", reason)
    call = "fused" if wanted == "kernel" else "backend"
    name = "a kernel" if wanted == "kernel" else repr(wanted)
    fix = f"Leave {call} out."
    raise refuse(call, f"parameters that {name} can step", f"one that it cannot: {reason}", fix)


def run(slots: list[Slot], wanted: str) -> None:
    """Step all slots, each by its backend."""
    by_backend: dict[str, list[Slot]] = {}
    for slot in slots:
        by_backend.setdefault(choose(slot, wanted).backend, []).append(slot)
    for name, chosen in by_backend.items():
        _STEPS[name](chosen)


def _triton_refusal(slot: Slot) -> str:
    if slot.parameter.device.type != "cuda":
        return f"there is no kernel for {slot.parameter.device.type!r}"
    return native.refusal_of_layout(slot) if _has_triton() else "triton is not installed"


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def _run_native(slots: list[Slot]) -> None:
    native.step_native(slots, torch.get_num_threads())


def _run_triton(slots: list[Slot]) -> None:
    from .triton_tables import step_triton

    step_triton(slots)


_REFUSALS: dict[str, Callable[[Slot], str]] = {"native": native.refusal, "triton": _triton_refusal}
_FITS = {"native": Choice("native", "a parameter on a CPU"), "triton": Choice("triton", "a parameter on a GPU")}
_STEPS: dict[str, Callable[[list[Slot]], None]] = {
    "native": _run_native, "triton": _run_triton, "compiled": step_compiled, "eager": step_eager,
}  # fmt: skip
