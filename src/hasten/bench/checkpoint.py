"""Checkpoints that survive a crash at any moment: plain data, written aside, synced, renamed.

A checkpoint holds no random state and no loader state: both are functions of (seed, step). What is there to hold is
the model, the optimizer, what each hook holds, the clock, and the points already reached.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import torch

from .durable import write_atomically

__all__ = ["load", "pack", "save", "unpack"]

VERSION = 1


def save(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings, dicts, lists) so that `path` is always a whole checkpoint.

    Raises:
        OSError: the disk is full or not writable; the checkpoint before stays.
    """
    buffer = io.BytesIO()
    torch.save({"version": VERSION, **state}, buffer)
    write_atomically(path, buffer.getbuffer())


def load(path: Path, device: torch.device | str = "cpu") -> dict[str, Any] | None:
    """The checkpoint at `path`, or None if there is none or it is of another version or damaged.

    Damage can only come from outside (a bad disk, an edited file): it is warned of and the run starts again, which
    costs time and nothing else, because a run is a function of its program and seed.
    """
    if not path.is_file():
        return None
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many kinds here; all of them mean: not a checkpoint of ours
        return _useless(path, f"it is damaged ({type(error).__name__})")
    if not isinstance(state, dict) or state.get("version") != VERSION:
        return _useless(path, f"it is not of version {VERSION}")
    return state


def pack(state: dict[str, Any]) -> torch.Tensor:
    """A copy of `state` in memory, as bytes (uint8, on the CPU): a snapshot that later training cannot change."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return torch.frombuffer(buffer.getbuffer(), dtype=torch.uint8)


def unpack(snapshot: torch.Tensor, device: torch.device | str = "cpu") -> dict[str, Any]:
    """The state that `pack` copied."""
    return torch.load(io.BytesIO(snapshot.cpu().numpy().data), map_location=device, weights_only=True)


def _useless(path: Path, why: str) -> None:
    warnings.warn(f"{path}: cannot use this checkpoint, {why}; the run starts again.", RuntimeWarning, stacklevel=3)
