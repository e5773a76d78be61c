"""`hasten memory MODEL`: what would each optimizer keep in memory for this model?"""

from __future__ import annotations

import json as json_
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from . import UsageError

if TYPE_CHECKING:
    from hasten.bench.optimizer_memory import OptimizerFootprint

__all__ = ["choices", "is_model", "show", "table"]

VERSION = 1  # of the JSON
NOTE = "Weights, gradients and state: what training keeps, whatever the batch. Activations come on top."


def is_model(spec: str) -> bool:
    """Is this anything but a workload: the name of a model, a function that builds one, or a slip of the pen?"""
    from hasten.bench.workloads import NAMES

    return spec not in NAMES and not spec.endswith(".py")


def choices(text: str | None) -> tuple[str, ...]:
    """The names of optimizers in `text`; None are the usual ones."""
    from hasten.bench.optimizer_memory import DEFAULT, OPTIMIZERS

    if text is None:
        return DEFAULT
    if text.strip() == "all":
        return tuple(OPTIMIZERS)
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def show(model: str, names: tuple[str, ...], *, json: bool) -> int:
    """Print the table or its JSON; the exit status."""
    from hasten.bench.optimizer_memory import model_of, optimizer_footprint

    if not names:
        raise UsageError("memory: expected names of optimizers, got none. Leave --optimizers out for the usual ones.")
    try:
        with _modules_of_this_folder():
            build = model_of(model)
            found = [optimizer_footprint(build, name) for name in names]
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error
    if json:
        rows = [{**vars(one), "total": one.total, "bytes_per_parameter": one.bytes_per_parameter} for one in found]
        json_.dump({"version": VERSION, "model": model, "optimizers": rows}, sys.stdout, indent=2)
        print()
        return 0
    print(f"{model}, {found[0].parameters:,} parameters\n")
    print(table(found))
    return 0


@contextmanager
def _modules_of_this_folder() -> Iterator[None]:
    """Import from the current folder first, as `python -m` does; an installed command does not by itself."""
    sys.path.insert(0, folder := os.getcwd())
    try:
        yield
    finally:
        sys.path.remove(folder)


def table(found: list[OptimizerFootprint]) -> str:
    """One optimizer a line, the first one the measure of the others."""
    from .memory import aligned, amount

    base = found[0]
    rows = [["", "weights", "gradients", "state", "total", "per parameter", f"of {base.name}"]]
    for one in found:
        sizes = [amount(size) for size in (one.weights, one.gradients, one.state, one.total)]
        share = one.total / base.total if base.total else 1.0
        rows.append([one.name, *sizes, f"{one.bytes_per_parameter:.2f}", f"{100 * share:.0f} %"])
    return "\n".join([*aligned([list(column) for column in zip(*rows, strict=True)]), "", NOTE])
