"""Checkpoints that survive a crash at any moment: plain data, written aside, synced, renamed.

A checkpoint holds no random state and no loader state: both are functions of (seed, step). What is there to hold is
the model, the optimizer, what each hook holds, the clock, and the points already reached.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch

__all__ = ["load", "save"]

VERSION = 1


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings, dicts, lists) so that `path` is always a whole checkpoint.

    Raises:
        OSError: the disk is full or not writable; the checkpoint before stays.
    """
    buffer = io.BytesIO()
    torch.save({"version": VERSION, **state}, buffer)
    write_atomically(path, buffer.getvalue())


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside `path`, sync, rename over it, sync the folder: a reader sees the old or the new file, whole."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(aside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    if os.name == "posix":  # a rename is durable once its folder is synced; Windows has no such call
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """The checkpoint at `path`, or None if there is none or it is of another version or damaged.

    Damage can only come from outside (a bad disk, an edited file): the run then starts again, which costs time and
    nothing else, because a run is a function of its program and seed.
    """
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception:  # torch raises many kinds here; all of them mean: not a checkpoint of ours
        return None
    return state if isinstance(state, dict) and state.get("version") == VERSION else None
