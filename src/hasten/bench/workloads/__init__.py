"""Workloads by name or by file: `load("digits")`, `load("my_workload.py")`."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

from hasten._core import sources
from hasten._core.checks import near, refuse

from .base import Workload, from_file, from_module, probe

__all__ = ["NAMES", "Workload", "arms_of", "load", "module_of", "probe"]

NAMES = {
    "digits": "scikit-learn's digits made hard: a small CNN, seconds a run, no download",
    "charlm": "a tiny GPT on Python's own standard library, bits per byte, no download",
    "fashion_mnist": "Fashion-MNIST with a small CNN",
    "cifar10": "CIFAR-10 with ResNet-8",
    "cifar10_jpeg": "CIFAR-10 re-encoded as JPEG, with ResNet-8",
    "shakespeare": "a tiny GPT on Shakespeare, bits per character",
    "sst2": "sentiment of film reviews (SST-2) with a small BERT from scratch",
    "wikitext2_small": "a small GPT on part of WikiText-2, bits per word",
}


def load(spec: str | Path | Workload) -> Workload:
    """A workload by name, by the path of a Python file, or as it is.

    Raises:
        ValueError: an unknown name; the message lists near ones.
    """
    if isinstance(spec, Workload):
        return spec
    text = str(spec)
    if text in NAMES:
        module = importlib.import_module(f"{__name__}.{text}")
        identity = module.identity() if hasattr(module, "identity") else text
        return from_module(module, text, identity=identity)
    if text.endswith(".py"):
        return from_file(text)
    raise refuse("workload", "a name or a Python file", repr(text), near(text, NAMES))


def module_of(workload: Workload) -> ModuleType | None:
    """The user's module behind a workload, where it comes from a file."""
    identity = workload.program.workload.partition("+")[0]  # of a variant: what it is a variant of
    return sources.module_of(identity.removeprefix("user:")) if identity.startswith("user:") else None


def arms_of(workload: Workload) -> str:
    """The arms to compare when none are named: the workload's `ARMS`.

    Raises:
        ValueError: it has none.
    """
    module = module_of(workload) or importlib.import_module(f"{__name__}.{workload.name.partition('+')[0]}")
    text = getattr(module, "ARMS", None)
    if text is None:
        raise refuse("compare", "--arms, or ARMS in the workload file", "neither", "For example --arms 'base,ema'.")
    return str(text)
