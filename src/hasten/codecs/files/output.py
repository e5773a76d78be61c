"""Files that appear whole or not at all: written beside the old one, and then put in its place."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from hasten._core.checks import refuse
from hasten.codecs.sprintz.disk import sync_folder

__all__ = ["check_free", "refuse_terminal", "replacing", "spooled", "to_file"]


def check_free(path: Path, force: bool) -> None:
    """Refuse to write over what is there."""
    if path.is_dir():
        raise IsADirectoryError(f"write: expected the name of a file, got {path}, which is a folder.")
    if path.exists() and not path.is_file():
        raise FileExistsError(f"write: expected the name of a file, got {path}, which is a device or a pipe.")
    if path.exists() and not force:
        raise FileExistsError(f"write: expected a new file, got {path}, which is there. Pass --force to replace it.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"write: expected a folder that is there, got {path.parent}. Make it first.")


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write to the path that this gives; without an error it becomes `path`, with one it is removed."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield aside
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.absolute().parent)


@contextlib.contextmanager
def to_file(path: Path) -> Iterator[BinaryIO]:
    """An open file that becomes `path` when all went well."""
    with replacing(path) as aside, open(aside, "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def spooled(stream: BinaryIO, suffix: str) -> Iterator[Path]:
    """All of a stream as a file, since files are read more than once."""
    with tempfile.TemporaryDirectory(prefix="hasten-") as folder:
        path = Path(folder) / f"standard_input{suffix}"
        with open(path, "wb") as file:
            shutil.copyfileobj(stream, file, 1 << 20)
        yield path


def refuse_terminal(stream: Any) -> None:
    """Nobody wants bytes on a screen."""
    if stream.isatty():
        raise refuse("write", "a file or a pipe for bytes", "a terminal", "Pass --out FILE.")
