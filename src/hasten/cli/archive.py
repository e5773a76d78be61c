"""`hasten archive`: a study as one file, and back."""

from __future__ import annotations

from pathlib import Path

from . import UsageError

__all__ = ["archive"]


def archive(study: Path, *, out: Path | None = None, extract: Path | None = None) -> int:
    """Write a study as one zip file, to keep or to send; or bring one back as a folder.

    The file holds the measurements, the users' files, the logs and the report, no checkpoints. `hasten report` reads
    it. Paths of this machine are cut to their ends; what users' code printed into logs is not read.

    Parameters
    ----------
    study
        The study's folder; with --extract the archive.
    out
        The file (default: the folder's name with .zip, beside the folder).
    extract
        Bring the study in an archive back into this folder, where the same `hasten compare` goes on with it.
    """
    from hasten.bench import archive as room
    from hasten.bench.store import StoreError

    if extract is not None and out is not None:
        raise UsageError("archive: expected --out or --extract, got both. --extract names the folder.")
    try:
        print(room.archive(study, out) if extract is None else room.extract(study, extract))
    except (StoreError, ValueError) as error:
        raise UsageError(str(error)) from error
    return 0
