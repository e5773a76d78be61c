"""`hasten new workload`: a commented example to start from."""

from __future__ import annotations

from pathlib import Path

from . import UsageError

__all__ = ["new"]


def new(what: str = "workload", path: Path = Path("my_workload.py")) -> int:
    """Write a file to start from. An existing file is never overwritten.

    Parameters
    ----------
    what
        "workload".
    path
        Where to write it.
    """
    from hasten.bench.workloads.template import template

    if what != "workload":
        raise UsageError(f"new: expected 'workload', got {what!r}.")
    if path.suffix != ".py":
        raise UsageError(f"new: expected a name that ends in .py, got {path.name!r}.")
    if not path.parent.is_dir():
        raise UsageError(f"new: expected a folder that exists, got {str(path.parent)!r}.")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(template(path.name))
    except FileExistsError:
        raise UsageError(f"new: {path} exists; it is never overwritten. Pass another name.") from None
    print(f"{path}: edit its four functions, then: hasten compare {path} --arms base,label_smoothing")
    return 0
