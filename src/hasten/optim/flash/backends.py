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
    reasons = {name: why(slot) for name, why in _REFUSALS.items()}
    if wanted == "kernel" and all(reasons.values()):
        why = reasons["native" if slot.parameter.device.type == "cpu" else "triton"]
        raise refuse("fused", "parameters that a kernel can step", f"one that none can: {why}", "Use fused=None.")
    if wanted not in ("auto", "kernel"):
        if reasons[wanted]:
            fix = "Use backend='auto'."
            raise refuse(
                "backend", f"parameters that {wanted!r} can step", f"one that it cannot: {reasons[wanted]}", fix
            )
        return Choice(wanted, "asked for")
    for name, reason in reasons.items():
        if not reason:
            return Choice(name, f"parameters on {slot.parameter.device.type}")
    kind = slot.parameter.device.type
    return Choice("eager", reasons["native" if kind == "cpu" else "triton"])


def run(slots: list[Slot], wanted: str) -> None:
    """Step all slots, each by its backend."""
    by_backend: dict[str, list[Slot]] = {}
    for slot in slots:
        by_backend.setdefault(choose(slot, wanted).backend, []).append(slot)
    for name, chosen in by_backend.items():
        _STEPS[name](chosen)


def _native_refusal(slot: Slot) -> str:
    if slot.parameter.device.type != "cpu":
        return f"the kernel is for CPUs, the parameter is on {slot.parameter.device.type}"
    return native.refusal(slot)


def _triton_refusal(slot: Slot) -> str:
    if slot.parameter.device.type != "cuda":
        return f"the kernel is for GPUs, the parameter is on {slot.parameter.device.type}"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed"
    return native.refusal_of_layout(slot)


def _run_native(slots: list[Slot]) -> None:
    native.step_native(slots, torch.get_num_threads())


def _run_triton(slots: list[Slot]) -> None:
    from .triton_tables import step_triton

    step_triton(slots)


_REFUSALS: dict[str, Callable[[Slot], str]] = {"native": _native_refusal, "triton": _triton_refusal}
_STEPS: dict[str, Callable[[list[Slot]], None]] = {
    "native": _run_native, "triton": _run_triton, "compiled": step_compiled, "eager": step_eager,
}  # fmt: skip
