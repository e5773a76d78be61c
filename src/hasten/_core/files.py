"""Files that appear whole or not at all, and what it takes for that to survive a power cut."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

__all__ = ["new_file", "replacing", "sync_folder"]


def sync_folder(folder: Path) -> None:
    """Make what was created, renamed or removed in `folder` durable. Windows has no such call and needs none."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write to the path that this gives; without an error it becomes `path`, durably, with one it is removed."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield aside
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.absolute().parent)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """An open file beside `path`, synced and renamed over it when all went well: a reader sees the old or the new."""
    with replacing(path) as aside, open(aside, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
