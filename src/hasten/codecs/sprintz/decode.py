"""From chunks to rows: whatever holds chunks is read by the same few functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from hasten._core.checks import refuse, whole

from . import chunk
from .errors import CorruptError
from .format import CHUNK_HEAD
from .header import Header
from .scan import Index
from .select import Rows, as_target, choose_columns, choose_rows, dtype_of, shape_of, target_columns

__all__ = ["Decoder", "Piece", "decode_body", "in_threads"]


@dataclass(frozen=True)
class Piece:
    """What is wanted of one chunk: its rows `first`, `first + step`, ..., which go to `place` and on in the output."""

    number: int
    first: int
    count: int
    place: int


class Decoder:
    """Chunks described by a header and an index; who inherits says where their bodies are.

    Attributes:
        header: What holds for all rows. index: Where the chunks are. chunks_decoded: How many were, by one thread.
    """

    header: Header
    index: Index
    chunks_decoded: int = 0

    def body(self, number: int) -> tuple[Any, bool]:
        """The checked body of a chunk, and whether values are missing in it.

        Raises:
            CorruptError: It is damaged.
        """
        raise NotImplementedError

    def __len__(self) -> int:
        return int(self.index.rows[-1])

    def read(
        self, rows: slice | None = None, columns: Any = None, *, out: Any = None, threads: int = 1,
        max_bytes: int | None = None,
    ) -> np.ndarray:  # fmt: skip
        """Decode some rows of some columns.

        Args:
            rows: A slice, as of a list; None for all.
            columns: Numbers or names; None for all.
            out: A NumPy array, CPU tensor or writable buffer of the shape and dtype of the result, which it then is.
            threads: How many decode at once, a chunk each.
            max_bytes: Refuse a larger result; None for no limit.

        Returns:
            (rows,), (rows, columns) or a structured array; a masked one if the file may have missing values.

        Raises:
            CorruptError: A chunk that was needed is damaged. ValueError, TypeError: `out` does not fit.
        """
        chosen, wanted = choose_columns("read", columns, self.header), choose_rows("read", rows, len(self))
        whole("read", "threads", threads, low=1)
        shape, dtype = shape_of(self.header, wanted.count, chosen), dtype_of("read", self.header, chosen)
        size = wanted.count * sum(self.header.column(j).itemsize for j in chosen)
        if max_bytes is not None and size > max_bytes:
            raise refuse("read", f"at most {max_bytes} bytes of rows", f"{size}", "Pass a larger max_bytes=.")
        if out is None:
            target = np.empty(shape, dtype) if not self.header.missing else np.ma.empty(shape, dtype)
        else:
            target = as_target("read", out, shape, dtype, self.header.missing)
        columns_out, masks_out = target_columns(target, self.header.layout, len(chosen))
        if wanted.backwards:
            columns_out = [c[::-1] for c in columns_out]
            masks_out = None if masks_out is None else [m[::-1] for m in masks_out]
        self._run(wanted, chosen, columns_out, masks_out, threads)
        return target if out is None or not isinstance(out, np.ndarray) else out

    def _run(
        self, wanted: Rows, chosen: Sequence[int], columns: Sequence[np.ndarray], masks: Sequence[np.ndarray] | None,
        threads: int,
    ) -> None:  # fmt: skip
        """Decode the pieces of all chunks that `wanted` touches."""
        if not chosen or not wanted.count:
            return

        def work(piece: Piece) -> None:
            at = slice(piece.place, piece.place + piece.count)
            self.decode(
                piece, wanted.step, chosen, [c[at] for c in columns], None if masks is None else [m[at] for m in masks]
            )

        pieces = list(self.pieces(wanted))
        in_threads(work, pieces, threads)

    def pieces(self, wanted: Rows) -> Iterator[Piece]:
        """The parts of chunks that make up some rows, in order."""
        starts = self.index.rows
        number = int(np.searchsorted(starts, wanted.start, "right")) - 1
        place = 0
        while place < wanted.count:
            row = wanted.start + place * wanted.step
            number += int(np.searchsorted(starts[number + 1 :], row, "right"))
            count = min(wanted.count - place, (int(starts[number + 1]) - row - 1) // wanted.step + 1)
            yield Piece(number, row - int(starts[number]), count, place)
            place += count

    def decode(
        self, piece: Piece, step: int, chosen: Sequence[int], columns: list[np.ndarray], masks: list[np.ndarray] | None
    ) -> None:
        """Decode a piece of one chunk into arrays of `piece.count` rows."""
        self.chunks_decoded += 1
        body, has_mask = self.body(piece.number)
        nrows = int(self.index.rows[piece.number + 1] - self.index.rows[piece.number])
        stored = self.header.stored()
        whole_chunk = step == 1 and piece.count == nrows
        out: list[np.ndarray | None] = [None] * self.header.ncols
        mask_out: list[np.ndarray | None] = [None] * self.header.ncols
        for k, j in enumerate(chosen):
            if out[j] is None:
                out[j] = columns[k] if whole_chunk else np.empty(nrows, stored[j])
                if has_mask:
                    mask_out[j] = masks[k] if whole_chunk and masks else np.zeros(nrows, bool)
        at = int(self.index.offsets[piece.number]) + CHUNK_HEAD.size
        decode_body(body, at, nrows, stored, out, mask_out if has_mask else None)
        taken = slice(None) if whole_chunk else slice(piece.first, piece.first + (piece.count - 1) * step + 1, step)
        for k, j in enumerate(chosen):
            for mine, decoded in ((columns[k], out[j]), (masks[k] if masks else None, mask_out[j])):
                if mine is not None and decoded is not None and mine is not decoded:
                    mine[...] = decoded[taken]


def decode_body(
    body: Any, at: int, nrows: int, dtypes: Sequence[np.dtype], out: Sequence[np.ndarray | None],
    masks: Sequence[np.ndarray | None] | None,
) -> None:  # fmt: skip
    """`chunk.decode` of a body that begins at byte `at` of the file, for the offsets of errors."""
    try:
        chunk.decode(body, nrows, dtypes, out, masks=masks)
    except CorruptError as error:
        raise CorruptError(at + max(error.offset, 0), error.reason) from None


def in_threads(work: Callable[[Any], Any], items: Sequence[Any], threads: int) -> list[Any]:
    """`work` of every item, in order, by up to `threads` threads."""
    if threads == 1 or len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(work, items))
