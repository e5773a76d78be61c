"""Damaged files: what is wrong with one, and how to get a whole one from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from hasten._core.files import new_file

from .disk import Disk
from .errors import CorruptError
from .format import CHUNK_HEAD, ChunkHead, Trailer, pack_chunk_head, pack_trailer
from .header import MAX_CHUNK_BYTES, Header, header_crc, pack_header
from .recover import Kept, later_chunks, read_table, write_index
from .scan import INDEX_MAGIC, Index, pack_index, read_chunk, read_header, read_index
from .source import Source, as_path, as_source
from .stats import chunk_entry

__all__ = ["Fault", "Repair", "repair", "verify"]


class Fault(NamedTuple):
    """Something that is wrong: at which byte of the file, and what."""

    offset: int
    reason: str


@dataclass(frozen=True)
class Repair:
    """What `repair` did.

    Attributes:
        path: The file that is now whole. changed: Whether anything had to be done.
        rows, chunks: What it holds.
        gaps: Pairs of a row of it and how many rows were lost before that one (0: nobody knows).
        faults: What was wrong.
        left_out: How many good chunks behind a bad one were left out, and how many rows they hold; `skip_bad=True`
            keeps them.
    """

    path: Path
    changed: bool
    rows: int
    chunks: int
    gaps: tuple[tuple[int, int], ...]
    faults: tuple[Fault, ...]
    left_out: tuple[int, int] = (0, 0)


class Good(NamedTuple):
    """A good chunk: its place, its head and what the index must say of it."""

    at: int
    head: ChunkHead
    entry: bytes


def verify(path: Any, *, max_chunk_bytes: int = MAX_CHUNK_BYTES) -> list[Fault]:
    """Everything that is wrong with a file: each chunk is decoded, and compared with what the index says of it.

    Args:
        path: Of the file; or compressed bytes.
        max_chunk_bytes: Chunks that are larger after decoding are faults.

    Returns:
        The faults in the order of the file; none for a good one.

    Raises:
        FileNotFoundError: No such file.
    """
    source = as_source("verify", path)
    try:
        return _survey(source, read_header(source), max_chunk_bytes)[1]
    except CorruptError as error:
        return [Fault(error.offset, error.reason)]
    finally:
        source.close()


def _survey(source: Source, header: Header, limit: int) -> tuple[list[Good], list[Fault], int]:
    """The good chunks of a file, what is wrong with the rest, and how many rows it had (0: nobody knows)."""
    good: list[Good] = []
    faults: list[Fault] = []
    index = None
    try:
        index = read_index(source, header, limit)
    except CorruptError as error:
        faults.append(Fault(error.offset, error.reason))
    for found in _listed(source, header, index, limit) if index else _unlisted(source, header, limit):
        if isinstance(found, Fault):
            faults.append(found)
        else:
            good.append(found)
    return good, sorted(faults), int(index.rows[-1]) if index else 0


def _decoded(source: Source, header: Header, at: int, limit: int) -> Good:
    """The chunk at byte `at`, decoded to see that it can be."""
    head, body = read_chunk(source, header, at, limit)
    table = read_table(header, body, head.has_mask, head.nrows, at + CHUNK_HEAD.size)
    return Good(at, head, chunk_entry(header, table, head.length))


def _listed(source: Source, header: Header, index: Index, limit: int) -> Iterator[Good | Fault]:
    """The chunks that the index lists."""
    assert index.entries is not None
    for number, at in enumerate(index.offsets.tolist()):
        try:
            good = _decoded(source, header, at, limit)
        except CorruptError as error:
            yield Fault(error.offset, error.reason)
            continue
        if (good.head.number, good.head.first_row) != (number, int(index.rows[number])):
            yield Fault(at, f"expected chunk {number}, found chunk {good.head.number}")
            continue
        yield good
        if good.entry != index.entries[number].tobytes():
            yield Fault(index.end, f"the index is wrong about chunk {number}")


def _unlisted(source: Source, header: Header, limit: int) -> Iterator[Good | Fault]:
    """The chunks that are found without an index."""
    at, number, row = header.size, 0, 0
    while at < source.size and source.some(at, len(INDEX_MAGIC)) != INDEX_MAGIC:
        good = None
        try:
            good = _decoded(source, header, at, limit)
            if (good.head.number, good.head.first_row) != (number, row):
                raise CorruptError(at, f"expected chunk {number}, found chunk {good.head.number}")
        except CorruptError as error:
            good = _next_good(source, header, at + 1, limit, number, row)
            yield Fault(error.offset, error.reason)
        if good is None:
            return
        yield good
        at = good.at + CHUNK_HEAD.size + good.head.length + 4
        number, row = good.head.number + 1, good.head.first_row + good.head.nrows


def _next_good(source: Source, header: Header, at: int, limit: int, number: int, row: int) -> Good | None:
    """The first good chunk behind a bad one."""
    for place, head in later_chunks(source, header, at, limit):
        if head.number >= number and head.first_row >= row:
            try:
                return _decoded(source, header, place, limit)
            except CorruptError:
                continue
    return None


def repair(
    path: Any, target: Any = None, *, skip_bad: bool = False, max_chunk_bytes: int = MAX_CHUNK_BYTES
) -> Repair:  # fmt: skip
    """Make a whole file from a damaged one.

    A file that was cut, or whose writer was killed, loses what lies behind its last good chunk and gets an index. Bad
    chunks between good ones are left out, if you say so: the rows behind them move up, and the result and the header of
    the new file (`info`) list the gaps.

    Args:
        path: Of the damaged file.
        target: Where to write the whole one; None: in its place, so that a crash leaves the old rows or the new file.
        skip_bad: Whether to keep what lies behind a bad chunk. If not, good chunks there are an error, and nothing is
            changed; with a target they are left out of it, and the result counts them.
        max_chunk_bytes: Chunks that are larger after decoding are bad.

    Raises:
        CorruptError: The header is damaged; or good chunks lie behind a bad one, and neither `skip_bad` nor a target
            was given. BlockingIOError: A writer has the file open.
    """
    path, goal = as_path("repair", path), Path(path if target is None else target)
    with ExitStack() as stack:
        disk = None if target is not None else stack.enter_context(closing(Disk(path, create=False)))
        source = stack.enter_context(closing(as_source("repair", path)))
        header = read_header(source)
        good, faults, total = _survey(source, header, max_chunk_bytes)
        prefix = [chunk for number, chunk in enumerate(good) if chunk.head.number == number]
        left_out: list[Good] = []
        if not skip_bad:
            good, left_out = prefix, good[len(prefix) :]
        if left_out and target is None:
            raise _would_lose(faults[0], left_out)
        renumbered, lost = _with_gaps(header, good, total)
        if disk is None or len(prefix) < len(good):
            _rewrite(source, renumbered, good, goal)
        elif faults:
            _mend(disk, header, good)
    counts = (len(left_out), _rows(left_out))
    return Repair(goal, bool(faults), _rows(good), len(good), lost, tuple(faults), counts)


def _rows(chunks: list[Good]) -> int:
    return sum(chunk.head.nrows for chunk in chunks)


def _would_lose(fault: Fault, chunks: list[Good]) -> CorruptError:
    """Why a file is not simply cut."""
    behind = f"{len(chunks)} good chunks with {_rows(chunks)} rows lie behind it"
    return CorruptError(fault.offset, f"{fault.reason}; {behind}: pass skip_bad=True to keep them")


def _mend(disk: Disk, header: Header, good: list[Good]) -> None:
    """Cut what lies behind the chunks, and write an index there."""
    end = good[-1].at + CHUNK_HEAD.size + good[-1].head.length + 4 if good else header.size
    disk.truncate(end)
    disk.sync()
    write_index(disk, header, Kept(end, _rows(good), [chunk.entry for chunk in good]))


def _with_gaps(header: Header, good: list[Good], total: int) -> tuple[Header, tuple[tuple[int, int], ...]]:
    """The header for these chunks alone, and the gaps between them, and at the end if that is known."""
    lost: list[tuple[int, int]] = []
    kept: list[tuple[int, int]] = []  # the old file's gaps, at their new rows
    old = list(header.gaps)
    row = was = 0  # in the new and in the old file
    for _, head, _ in good:
        while old and old[0][0] <= head.first_row:
            kept.append((row if old[0][0] > was else row - (was - old[0][0]), old.pop(0)[1]))
        if head.first_row > was:
            lost.append((row, head.first_row - was))
        row, was = row + head.nrows, head.first_row + head.nrows
    gaps = tuple(sorted([*kept, *lost]))
    if total > was:
        lost.append((row, total - was))
    packed = pack_header(replace(header, gaps=gaps))
    return replace(header, gaps=gaps, size=len(packed), crc=header_crc(packed)), tuple(lost)


def _rewrite(source: Source, header: Header, good: list[Good], goal: Path) -> None:
    """Write the chunks as a new file, beside `goal` and then over it."""
    with new_file(goal) as file:
        file.write(pack_header(header))
        row = 0
        for number, (at, head, _) in enumerate(good):
            new = replace(head, number=number, first_row=row)
            file.write(pack_chunk_head(new, header.crc))
            file.write(source.read(at + CHUNK_HEAD.size, head.length + 4))
            row += head.nrows
        trailer = Trailer(file.tell(), row, len(good))
        file.write(pack_index(header, b"".join(chunk.entry for chunk in good)))
        file.write(pack_trailer(trailer, header.crc))
