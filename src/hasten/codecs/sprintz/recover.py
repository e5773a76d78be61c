"""What of a file can be kept: its chunks up to the first that is not good, and what lies behind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .errors import CorruptError
from .format import CHUNK_HEAD, ChunkHead, parse_chunk_head
from .header import MAX_CHUNK_BYTES, Header
from .reader import Reader, decode_body
from .scan import find_sync, read_chunk
from .source import FileSource, Source
from .stats import chunk_entry
from .table import Table

__all__ = ["Kept", "keep", "later_chunks", "read_table"]


@dataclass
class Kept:
    """Chunks that are in a file.

    Attributes:
        end: Where they end. rows: Of all of them. entries: Of each, for the index. clean: Whether the file's index and
            trailer are those of these chunks.
    """

    end: int
    rows: int
    entries: list[bytes] = field(default_factory=list)
    clean: bool = False


def keep(path: Path) -> tuple[Header, Kept]:
    """The header of a file, and the chunks that a writer can go on from.

    Raises:
        CorruptError: There is no header, or good chunks lie behind a bad one: then going on would lose them.
    """
    source = FileSource(path)
    try:
        reader = Reader(source)
        header, index = reader.header, reader.index
        end = index.end if len(index.offsets) else header.size
        if index.entries is not None:
            return header, Kept(end, len(reader), [entry.tobytes() for entry in index.entries], clean=True)
        for at, head in later_chunks(source, header, end, MAX_CHUNK_BYTES):
            fix = "use hasten.codecs.sprintz.repair"
            raise CorruptError(end, f"no chunk here, but chunk {head.number} at byte {at} is good: {fix}")
        entries = [
            chunk_entry(header, read_table(reader, number), int(length)) for number, length in enumerate(index.lengths)
        ]
        return header, Kept(end, len(reader), entries)
    finally:
        source.close()


def read_table(reader: Reader, number: int) -> Table:
    """The rows of a chunk as an encoder has them."""
    header = reader.header
    nrows = int(reader.index.rows[number + 1] - reader.index.rows[number])
    table = Table.empty(header, nrows)
    body, has_mask = reader.body(number)
    masks = [mask for part in table.masks if part is not None for mask in part.T] if has_mask else None
    if header.ncols:
        at = int(reader.index.offsets[number]) + CHUNK_HEAD.size
        decode_body(body, at, nrows, header.stored(), table.columns(), masks or None)
    return table


def later_chunks(source: Source, header: Header, at: int, limit: int) -> Iterator[tuple[int, ChunkHead]]:
    """Good chunks at byte `at` or behind it, each with its place."""
    patience = 4 * source.size  # bytes of bad bodies: a file made to waste time is not looked through for ever
    while (at := find_sync(source, at)) < source.size:
        try:
            head = parse_chunk_head(source.some(at, CHUNK_HEAD.size), header.crc, at)
        except CorruptError:
            at += 1
            continue
        behind = at + CHUNK_HEAD.size + head.length + 4
        try:
            read_chunk(source, header, at, limit, head.length)
        except CorruptError:
            patience -= head.length
            at = at + CHUNK_HEAD.size if patience > 0 else behind  # bytes may be missing: the next may stand inside
        else:
            yield at, head
            at = behind
