"""What is checked before a file is written, and streams in place of files."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from hasten._core.checks import refuse

__all__ = ["check_free", "refuse_terminal", "spooled"]


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
