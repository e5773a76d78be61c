"""One way to read and write all formats; a file's suffix says which it is."""

from __future__ import annotations

import contextlib
import inspect
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hasten._core.checks import near, refuse, refuse_type
from hasten._core.files import new_file, replacing

from . import csv, npy, raw, tsz, wav, wfdb, wfdb_sink
from .output import check_free
from .recording import Opened, Recording
from .sink import Sink

__all__ = ["FORMATS", "SUFFIXES", "blocks", "create", "format_of", "open_file", "read", "sink", "write"]

OPENERS: dict[str, Callable[..., Opened]] = {
    "csv": csv.open_file, "npy": npy.open_file, "raw": raw.open_file, "tsz": tsz.open_file, "wav": wav.open_file,
    "wfdb": wfdb.open_file,
}  # fmt: skip
FORMATS = tuple(OPENERS)
SUFFIXES = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".npy": "npy", ".wav": "wav", ".hea": "wfdb", ".raw": "raw",
    ".bin": "raw", ".dat": "raw", ".tsz": "tsz",
}  # fmt: skip
_SINKS: dict[str, Callable[..., Sink]] = {"csv": csv.Sink, "npy": npy.Sink, "raw": raw.Sink, "wav": wav.Sink}


def format_of(path: Path, format: str | None = None) -> str:  # noqa: A002
    """The format of a file: `format` if it is given, else what the suffix means.

    >>> format_of(Path("ecg.tsv"))
    'csv'
    """
    if format is not None:
        if format not in OPENERS:
            raise refuse("files", f"a format among {', '.join(FORMATS)}", repr(format), near(format, FORMATS))
        return format
    found = SUFFIXES.get(path.suffix.lower())
    if found is None:
        known = ", ".join(SUFFIXES)
        raise refuse("files", f"a suffix among {known}", repr(path.name), "Name the format with --format csv, say.")
    return found


def locate(path: Any, format: str | None, options: dict[str, Any]) -> tuple[Path, str]:  # noqa: A002
    """The file that is meant, and its format: of a WFDB record also its name or its samples may be given."""
    found = Path(path)
    may_be_record = found.suffix in ("", ".dat") if format is None else format == "wfdb"
    if may_be_record and found.name and "dtype" not in options and found.with_suffix(".hea").is_file():
        return found.with_suffix(".hea"), "wfdb"
    if not found.is_file():
        others = [other.name for other in found.parent.glob("*")][:1000] if found.parent.is_dir() else []
        hint = near(found.name, others)
        message = f"files: expected a file, got {found}, which is {'a folder' if found.is_dir() else 'none'}."
        raise FileNotFoundError(f"{message} {hint if 'mean' in hint else ''}".rstrip())
    return found, format_of(found, format)


def open_file(path: str | os.PathLike[str], *, format: str | None = None, **options: Any) -> Opened:  # noqa: A002
    """Open a file of measurements; its rows are read when they are asked for.

    Args:
        path: Of the file; of a WFDB record its header, or its name without a suffix.
        format: "csv", "npy", "raw", "tsz", "wav" or "wfdb"; None: the suffix says it.
        options: Of the format. csv: `columns`, `delimiter`, `header`. raw: `dtype`, `columns`. wav: `check`. wfdb:
            `check`, `align`. tsz: `columns`, `rows`, `recover`, `threads`. See the `open_file` of each module.

    Raises:
        FileNotFoundError: No such file. ValueError: The file is broken, or the suffix unknown. TypeError: An option
            that this format has not.
    """
    found, form = locate(path, format, options)
    opener = OPENERS[form]
    known = [name for name in inspect.signature(opener).parameters if name != "path"]
    for name in options:
        if name not in known:
            listed = f"the options {', '.join(known)}" if known else "no options"
            raise refuse_type("files", f"{listed} for a file of format {form}", name, "Leave it away.")
    return opener(found, **options)


def read(path: str | os.PathLike[str], *, format: str | None = None, **options: Any) -> Recording:  # noqa: A002
    """All of a file of measurements; arguments as of `open`. NPY, raw and WAV files stay on disk, mapped into memory.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "ecg.csv"
    >>> _ = path.write_text("time,V1\\n0,0.25\\n1,0.5\\n")
    >>> read(path).data["V1"].tolist()
    [0.25, 0.5]
    """
    with open_file(path, format=format, **options) as opened:
        return opened.read()


def blocks(path: str | os.PathLike[str], rows: int | None = None, **options: Any) -> Iterator[np.ndarray]:
    """The rows of a file in order, block by block, so that a large file needs little memory.

    Args:
        path: Of the file.
        rows: Of a block; None: about 8 MiB.
        options: As of `open`.
    """
    with open_file(path, **options) as opened:
        yield from opened.blocks(rows)


def sink(file: BinaryIO, like: Recording, rows: int, form: str, **options: Any) -> Sink:
    """What writes rows to an open file; formats of one file that is written from front to end."""
    if form not in _SINKS:
        raise refuse("files", f"a format among {', '.join(_SINKS)}", repr(form), "Write a file of its own.")
    return _SINKS[form](file, like, rows, **options)


@contextlib.contextmanager
def create(
    path: str | os.PathLike[str], like: Recording, rows: int, *, format: str | None = None, force: bool = False,  # noqa: A002
    **options: Any,
) -> Iterator[Sink]:  # fmt: skip
    """Write a file block by block. It appears when all went well, and not before.

    Args:
        path: Of the file; of a WFDB record its header, beside which its samples will be.
        like: What the rows are.
        rows: How many will come.
        format: As of `open`.
        force: Whether to replace a file that is there.
        options: csv: `delimiter`. tsz: those of `hasten.codecs.sprintz.Writer`.

    Raises:
        FileExistsError: There is such a file. ValueError, TypeError: The format cannot hold this.
    """
    found = Path(path)
    form = format_of(found, format)
    check_free(found, force)
    if form == "tsz":
        with replacing(found) as aside, tsz.writer(aside, like, **options) as target:
            yield target
    elif form == "wfdb":
        samples = found.with_suffix(".dat")
        check_free(samples, force)
        with new_file(found) as header:
            with new_file(samples) as file:
                record = wfdb_sink.Sink(file, like, rows, found.stem)
                yield record
                record.close()
            header.write(record.header.encode())
    else:
        if form == "csv" and found.suffix.lower() == ".tsv":
            options.setdefault("delimiter", "\t")
        with new_file(found) as file:
            target = sink(file, like, rows, form, **options)
            yield target
            target.close()


def write(
    path: str | os.PathLike[str], recording: Recording, *, format: str | None = None, force: bool = False,  # noqa: A002
    **options: Any,
) -> None:  # fmt: skip
    """Write a recording; arguments as of `create`.

    What a format has no place for is left out: NPY and raw hold the values alone, WAV also the rate, CSV also the
    names, WFDB also units and gains, and tsz all.
    """
    with create(path, recording.like(), len(recording.data), format=format, force=force, **options) as target:
        for block in Opened.of(recording).blocks():
            target.append(block)
