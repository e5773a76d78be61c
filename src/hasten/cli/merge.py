"""`hasten merge`: runs of one question from several folders as one study."""

from __future__ import annotations

import sys
from pathlib import Path

from . import UsageError, command_line

__all__ = ["merge"]


def merge(*studies: Path, out: Path, allow_mixed: bool = False) -> int:
    """Put runs of the same question that were measured in several folders into one new study.

    The inputs are not changed. The same `hasten compare` with --out goes on with the new study.

    Parameters
    ----------
    studies
        At least two folders, or archives (.zip), of the same question: the same workload, arms, baseline and curve,
        other seeds.
    out
        The new study's folder.
    allow_mixed
        Also merge studies of different machines; the report says so for ever.
    """
    from hasten.bench.merge import merge as join
    from hasten.bench.store import NotDeterministicError, StoreError
    from hasten.bench.study import open_study

    try:
        folder = join(studies, out, allow_mixed=allow_mixed, command=command_line())
    except NotDeterministicError:
        raise  # not the command is wrong, the runs are
    except (StoreError, ValueError) as error:
        raise UsageError(str(error)) from error
    study = open_study(folder)
    seeds = study.data["study"]["seeds"]
    print(f"{len(study.data['runs'])} runs of {len(seeds)} seeds, {study.status}", file=sys.stderr)
    for note in study.data["notes"]:
        print(f"- {note}", file=sys.stderr)
    print(folder)
    return 0
