"""Windows of compressed series for training: `WindowDataset`, a dataset for PyTorch's `DataLoader`.

Chunks are what can be decoded alone, so a window costs the chunks it touches and no others. A batch is fetched as a
whole: its windows are sorted by chunk, and each chunk is decoded once. The chunks decoded last are kept.

torch is imported when the first window is asked for, and not before.
"""

from __future__ import annotations

import operator
import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from hasten._core.checks import describe, refuse, refuse_type, whole

from .decode import Piece, in_threads
from .dtypes import stored_dtype
from .header import MAX_CHUNK_BYTES
from .reader import Reader
from .select import choose_columns, choose_rows
from .source import FileSource, as_path, as_source
from .window_cache import ChunkCache, FilePool, PooledSource

__all__ = ["WindowDataset"]

CALL = "WindowDataset"


@dataclass(frozen=True)
class _Part:
    """What windows are taken from: columns and rows of one file, whose header has this checksum."""

    columns: tuple[int, ...]
    first: int
    stop: int
    crc: int


class WindowDataset:
    """Windows of equal length from one or more `tsz` files, for `torch.utils.data.DataLoader`.

    Item `i` is a tensor of shape (window, columns): of a file of one dimension (window, 1). With `target` it is a pair
    of that and what `target` returns. Window `i` of a file begins `i * stride` rows behind its first one; rows that do
    not fill a window at the end of a file belong to none, and no window crosses from one file to the next.

    With `shuffle=True` a batch decodes nearly as many chunks as it has windows. Files for training should therefore be
    written with small chunks: `chunk_rows` a few times `window`.

    Safe with any number of workers, forked or spawned: it is pickled as paths and options, and each process opens the
    files itself. A file may grow meanwhile; it may not be replaced. One that was cut is read up to its last good chunk,
    as by `open`.

    Args:
        source: The path of a file, compressed bytes or a `Reader`; a list of these.
        window: Rows of each window.
        stride: Rows from the start of one window to that of the next; None: `window`.
        columns: Numbers or names, in this order; None for all. Names are looked up in each file.
        rows: A slice without a step: only rows of it, in each file; None for all.
        target: Called as `target(window, start)` with the NumPy array and its first row in the file; if `source` is a
            list, as `target(window, start, file)` with the place of the file in it. Spawned workers need one that can
            be pickled, so no lambda.
        dtype: Of the tensors, NumPy's or torch's: float32 or float64 for any columns, else one that holds all their
            values. None: that of the columns. Points in time are int64, and only if asked for.
        cache_chunks: Decoded chunks that each process keeps; 0: none. Each takes its rows times columns times dtype.
        threads: How many decode at once, a chunk each.

    Missing values are NaN. Integers with missing values among `rows` and `columns` therefore need a float for `dtype`.

    Attributes:
        dtype: Of the tensors, as NumPy has it. window, stride: In rows.
        chunks_decoded: How many chunks this process decoded so far.

    Raises:
        ValueError: A window that is longer than a file, columns that are not there, missing values without NaN.
        TypeError: A dtype that does not hold the values. CorruptError, FileNotFoundError: As `open`.

    >>> from hasten.codecs import sprintz
    >>> file = sprintz.compress(np.arange(1000, dtype=np.int16), chunk_rows=64)
    >>> windows = WindowDataset(file, 8, stride=4, dtype="float32")
    >>> len(windows), windows[2].shape, windows[2][0].item()
    (249, torch.Size([8, 1]), 8.0)
    """

    def __init__(
        self, source: Any, window: int, *, stride: int | None = None, columns: Any = None, rows: slice | None = None,
        target: Callable[..., Any] | None = None, dtype: Any = None, cache_chunks: int = 8, threads: int = 1,
    ) -> None:  # fmt: skip
        self.window = whole(CALL, "window", window, low=1)
        self.stride = self.window if stride is None else whole(CALL, "stride", stride, low=1)
        self._cache_chunks = whole(CALL, "cache_chunks", cache_chunks)
        self._threads = whole(CALL, "threads", threads, low=1)
        if target is not None and not callable(target):
            raise refuse_type(CALL, "target a function", target, "Pass target=function, of a window and its start.")
        self._target, self._several = target, isinstance(source, (list, tuple))
        self._sources = [_locate(one) for one in (source if self._several else [source])]
        if not self._sources:
            raise refuse(CALL, "one file or more", "an empty list", "Pass the path of a file.")
        if hasattr(columns, "__iter__") and not isinstance(columns, str):
            columns = list(columns)
        self._open()
        self._parts = [_choose(reader, columns, rows, self.window) for reader in self._readers]
        self.dtype = _choose_dtype(self._readers, self._parts, dtype)
        counts = [(part.stop - part.first - self.window) // self.stride + 1 for part in self._parts]
        self._ends = list(accumulate(counts))

    def _open(self) -> None:
        """Everything that another process makes for itself."""
        pool = FilePool()
        self._cache = ChunkCache(self._cache_chunks)
        self._readers = [
            Reader(PooledSource(pool, data) if isinstance(data, Path) else as_source(CALL, data), limit)
            for data, limit in self._sources
        ]
        self._starts = [reader.index.rows.tolist() for reader in self._readers]

    def __getstate__(self) -> dict[str, Any]:
        own = ("_cache", "_readers", "_starts")
        state = {name: value for name, value in self.__dict__.items() if name not in own}
        sources = [(data if isinstance(data, Path) else bytes(data), limit) for data, limit in self._sources]
        return {**state, "_sources": sources}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()
        for reader, part, (data, _) in zip(self._readers, self._parts, self._sources, strict=True):
            if reader.header.crc != part.crc or len(reader) < part.stop:
                raise refuse(CALL, "the file that was there", f"another one, {data}", "Make the dataset again.")

    @property
    def chunks_decoded(self) -> int:
        """How many chunks this process decoded for windows so far."""
        return self._cache.decoded

    def __len__(self) -> int:
        return self._ends[-1]

    def where(self, index: int) -> tuple[int, int]:
        """The file of a window, counted from 0, and its first row in that file.

        Raises:
            IndexError: There is no such window.
        """
        try:
            number = operator.index(index)
        except TypeError:
            raise refuse_type(CALL, "the number of a window", describe(index), "Pass an int.") from None
        if not -len(self) <= number < len(self):
            raise IndexError(f"{CALL}: expected a window below {len(self)}, got {number}.")
        number %= len(self)
        file = bisect_right(self._ends, number)
        before = self._ends[file - 1] if file else 0
        return file, self._parts[file].first + (number - before) * self.stride

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """The windows of a batch; each chunk that they touch is decoded once."""
        import torch

        places = [self.where(index) for index in indices]
        shape = (self.window, len(self._parts[0].columns))
        windows = [np.empty(shape, self.dtype) for _ in places]
        touched: dict[tuple[int, int], list[int]] = {}  # (file, chunk) -> windows
        for k, (file, start) in enumerate(places):
            starts = self._starts[file]
            chunk = bisect_right(starts, start) - 1
            while starts[chunk] < start + self.window:
                touched.setdefault((file, chunk), []).append(k)
                chunk += 1

        def work(key: tuple[int, int]) -> None:
            block, begin = self._cache.get(key, lambda: self._decode(*key)), self._starts[key[0]][key[1]]
            for k in touched[key]:
                start = places[k][1]
                low, high = max(start, begin), min(start + self.window, begin + len(block))
                windows[k][low - start : high - start] = block[low - begin : high - begin]

        in_threads(work, sorted(touched), self._threads)
        tensors = [torch.from_numpy(window) for window in windows]
        if self._target is None:
            return tensors
        return [
            (tensor, self._target(window, start, file) if self._several else self._target(window, start))
            for tensor, window, (file, start) in zip(tensors, windows, places, strict=True)
        ]

    def _decode(self, file: int, number: int) -> np.ndarray:  # (rows of the chunk, columns)
        """The chosen columns of one chunk."""
        reader, chosen = self._readers[file], self._parts[file].columns
        rows = self._starts[file][number + 1] - self._starts[file][number]
        block = np.empty((rows, len(chosen)), self.dtype)
        stored = [stored_dtype(reader.header.column(j)) for j in chosen]
        columns = [block[:, k] if dtype == self.dtype else np.empty(rows, dtype) for k, dtype in enumerate(stored)]
        masks = [np.zeros(rows, bool) for _ in chosen] if reader.header.missing else None
        reader.decode(Piece(number, 0, rows, 0), 1, chosen, columns, masks)
        for k, column in enumerate(columns):
            if stored[k] != self.dtype:
                block[:, k] = column
            if masks is not None and self.dtype.kind == "f":
                block[masks[k], k] = np.nan
        return block


def _locate(source: Any) -> tuple[Any, int]:
    """Where a file is, so that any process finds it: an absolute path or bytes; and how large its chunks may be."""
    if isinstance(source, Reader):
        held = source._source
        return Path(held._file.name).absolute() if isinstance(held, FileSource) else held.some(
            0, held.size
        ), source._limit
    if isinstance(source, (str, os.PathLike)):
        return as_path(CALL, source).absolute(), MAX_CHUNK_BYTES
    return source, MAX_CHUNK_BYTES


def _choose(reader: Reader, columns: Any, rows: slice | None, window: int) -> _Part:
    """What a user asks for, as numbers."""
    chosen, wanted = choose_columns(CALL, columns, reader.header), choose_rows(CALL, rows, len(reader))
    if not chosen:
        raise refuse(CALL, "one column or more", "none", "Pass columns= some of the file's, or leave it away.")
    if wanted.step != 1 or wanted.backwards:
        raise refuse(CALL, "rows without a step", str(rows), "Pass rows=slice(first, last + 1).")
    if wanted.count < window:
        got = f"{wanted.count} rows in a file"
        raise refuse(
            CALL, f"{window} rows or more, as window= asks for", got, "Leave the file out, or pass a shorter window=."
        )
    return _Part(tuple(chosen), wanted.start, wanted.start + wanted.count, reader.header.crc)


def _choose_dtype(readers: Sequence[Reader], parts: Sequence[_Part], asked: Any) -> np.dtype:
    """The one dtype of all windows."""
    widths = sorted({len(part.columns) for part in parts})
    if len(widths) > 1:
        raise refuse(CALL, "files with the same number of columns", f"{widths}", "Choose some with columns=.")
    found = [(reader, j) for reader, part in zip(readers, parts, strict=True) for j in part.columns]
    dtypes = {str(reader.header.column(j)): reader.header.column(j) for reader, j in found}
    if asked is None:
        if len(dtypes) > 1:
            fix = 'Pass dtype="float32", or choose columns of one dtype with columns=.'
            raise refuse_type(CALL, "columns of one dtype", ", ".join(sorted(dtypes)), fix)
        wanted = next(iter(dtypes.values()))
        if wanted.kind in "Mm":
            fix = 'Leave it out with columns=, or pass dtype="int64" for counts of its unit.'
            raise refuse_type(CALL, "columns of numbers", f"dtype {wanted}", fix)
    else:
        wanted = _as_dtype(asked)
        for reader, j in found:
            _check_cast(reader.header.column(j), wanted, j if reader.names is None else reader.names[j])
    if wanted.kind != "f":
        for reader, part in zip(readers, parts, strict=True):
            _refuse_missing(reader, part)
    return wanted


def _as_dtype(asked: Any) -> np.dtype:
    """A dtype of NumPy's or torch's."""
    name = str(asked)
    try:
        wanted = np.dtype(name.removeprefix("torch.") if name.startswith("torch.") else asked).newbyteorder("=")
    except TypeError:
        wanted = np.dtype("V")
    if wanted.kind not in "biuf" or wanted.itemsize > 8 or wanted == np.float16:
        what = "dtype float32, float64, an integer or bool"
        raise refuse_type(CALL, what, name, "Convert the batches: batch.to(...).")
    return wanted


def _check_cast(dtype: np.dtype, wanted: np.dtype, column: Any) -> None:
    """Refuse to turn values into others without a word; rounding to a float is what a user asks for."""
    stored = stored_dtype(dtype)
    fits = wanted == stored if dtype.kind in "Mm" else wanted.kind == "f" or np.can_cast(stored, wanted, "safe")
    if not fits:
        holds = "int64" if dtype.kind in "Mm" else f'one that holds {dtype}, or "float32"'
        raise refuse_type(CALL, f"dtype {holds} for column {column!r}", f"{wanted}", "Pass another dtype=.")


def _refuse_missing(reader: Reader, part: _Part) -> None:
    """Integers have no NaN."""
    if not reader.header.missing:
        return
    counts = reader.count(rows=slice(part.first, part.stop), columns=sorted(set(part.columns)))
    counts = np.array(list(counts.values()) if isinstance(counts, dict) else counts)
    missing = int((part.stop - part.first - counts).sum())
    if missing:
        got = f"{missing} that are missing"
        raise refuse(CALL, "values to be there", got, 'Pass dtype="float32": missing values are then NaN.')
