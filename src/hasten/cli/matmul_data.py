"""What `hasten matmul` reads and refuses: rows and factors in NumPy files, lists of numbers, names of new files."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hasten._core.checks import refuse
from hasten.matmul.base import FACTOR_DTYPES, ROW_DTYPES

from . import UsageError

__all__ = [
    "Data", "blocks", "clear", "data_of", "invented", "new_path", "numbers", "parted", "progress", "read_factor",
    "read_rows", "wrong",
]  # fmt: skip

BLOCK = 1 << 22  # elements that are looked at, or widened, at once
FEWEST = 4  # rows that can be parted: two to learn from, two to test on
CLEAR = "\r\x1b[K"  # the line of a terminal


@dataclass(frozen=True)
class Data:
    """Rows to learn from (L, D), rows to test on (N, D), and the factor (D, M); `name` says where they are from."""

    learn: np.ndarray
    test: np.ndarray
    factor: np.ndarray
    name: str


def wrong(call: str, expected: str, got: str, fix: str = "") -> UsageError:
    """The error of a command that makes no sense, in the house form."""
    return UsageError(str(refuse(f"matmul {call}", expected, got, fix)))


def progress(text: str) -> None:
    """Say on standard error what is being done, where that is a terminal."""
    if sys.stderr.isatty():
        print(f"{CLEAR}{text} ...", end="", file=sys.stderr, flush=True)


def clear() -> None:
    """Remove that line."""
    if sys.stderr.isatty():
        print(CLEAR, end="", file=sys.stderr, flush=True)


# Files ----------------------------------------------------------------------------------------------------------------


def blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """The rows, some at a time."""
    step = max(1, BLOCK // max(array.shape[1], 1))
    for start in range(0, len(array), step):
        yield array[start : start + step]


def _read(call: str, path: Path) -> np.ndarray:
    """The array in a NumPy file; of a large one only what is looked at is read."""
    fix = f"Write it by numpy.save({path.name!r}, array)."
    try:
        with open(path, "rb") as file:
            magic = file.read(6)
        if magic != np.lib.format.MAGIC_PREFIX:
            raise wrong(call, f"a NumPy file (.npy), {path}", "another kind of file", fix)
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise wrong(call, f"a file that can be read, {path}", error.strerror or str(error)) from error
    except (ValueError, EOFError, SyntaxError) as error:
        said = "objects, which are pickled" if "object" in str(error).lower() else f"a damaged one: {error}"
        raise wrong(call, f"numbers in a NumPy file, {path}", said.splitlines()[0], fix) from error


def _shown(array: np.ndarray) -> str:
    return f"shape {array.shape} and dtype {array.dtype}"


def read_rows(call: str, path: Path, columns: int | None = None, *, finite: bool = True) -> np.ndarray:
    """Rows of A, (N, D), from a file.

    Args:
        call: the verb, for errors.
        path: of the file.
        columns: D, where it is known.
        finite: whether rows with NaN or infinity, and no rows at all, are refused.

    Raises:
        UsageError: no such file, or not such an array.
    """
    array = _read(call, path)
    saved = f"numpy.save({path.name!r}, "
    if array.ndim != 2 or array.shape[1] == 0:
        raise wrong(call, f"rows in {path}, (N, D)", _shown(array), f"Write {saved}array.reshape(-1, D)).")
    if array.dtype not in ROW_DTYPES:
        fix = f"Write {saved}array.astype(numpy.float32))."
        raise wrong(call, f"float32, float16, int8 or uint8 in {path}", _shown(array), fix)
    if columns is not None and array.shape[1] != columns:
        raise wrong(call, f"{columns} columns in {path}", _shown(array), "Take rows like those that were learned from.")
    if finite:
        if not len(array):
            raise wrong(call, f"at least one row in {path}", _shown(array))
        _check_finite(call, path, array)
    return array


def _check_finite(call: str, path: Path, array: np.ndarray) -> None:
    first = 0
    for block in blocks(array) if array.dtype.kind == "f" else ():
        bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
        if len(bad):
            got = f"NaN or infinity in row {first + int(bad[0])}"
            raise wrong(call, f"finite numbers in {path}", got, "Leave such rows out.")
        first += len(block)


def read_factor(call: str, path: Path, rows: np.ndarray, source: Path) -> np.ndarray:
    """B, (D, M) as float32, from a file; `rows` and `source` are those of A.

    Raises:
        UsageError: no such file, or not such an array.
    """
    array = _read(call, path)
    columns = rows.shape[1]
    if array.dtype not in FACTOR_DTYPES:
        fix = f"Write numpy.save({path.name!r}, array.astype(numpy.float32))."
        raise wrong(call, f"floats in {path}", _shown(array), fix)
    if array.ndim != 2 or array.shape[0] != columns or not array.size:
        turned = array.ndim == 2 and array.shape[1] == columns
        fix = f"Write numpy.save({path.name!r}, {'array.T' if turned else 'weight.T'}): the right factor of A @ B."
        raise wrong(call, f"{columns} rows in {path}, as {source} has columns", _shown(array), fix)
    _check_finite(call, path, array)
    with np.errstate(over="ignore"):
        factor = np.ascontiguousarray(array, np.float32)
    if not np.isfinite(factor).all():
        raise wrong(call, f"numbers within float32 in {path}", "larger ones", "Scale them down.")
    return factor


def new_path(call: str, path: Path, force: bool) -> Path:
    """A path that can be written to, looked at before the work begins.

    Raises:
        UsageError: there is a file already, or no folder for it.
    """
    if path.is_dir():
        raise wrong(call, "a file to write to", f"the folder {path}", f"Pass --out {path / 'name'}.")
    if path.exists() and not force:
        raise wrong(call, "a new file", f"{path}, which is there", "Pass --force to replace it.")
    if not path.absolute().parent.is_dir():
        raise wrong(call, "a folder that is there", str(path.parent), f"Make it: mkdir {path.parent}")
    return path


# Rows -----------------------------------------------------------------------------------------------------------------


def parted(rows: np.ndarray, tested: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to learn from and `tested` others, drawn at random, each in the order in which they stood.

    >>> learn, test = parted(np.arange(10).reshape(5, 2), 2, seed=0)
    >>> learn.shape, test.shape, sorted([*learn[:, 0].tolist(), *test[:, 0].tolist()])
    ((3, 2), (2, 2), [0, 2, 4, 6, 8])
    """
    order = np.random.default_rng(seed).permutation(len(rows))
    return rows[np.sort(order[tested:])], rows[np.sort(order[:tested])]


def data_of(call: str, a: Path, b: Path, test: Path | None, share: float, seed: int) -> Data:
    """What to learn from and what to test on, from files.

    Args:
        call: the verb, for errors.
        a, b: files of A and B.
        test: a file of rows to test on, or None.
        share: of the rows of A that are tested on, where there is no such file.
        seed: of the parts.

    Raises:
        UsageError: files as they should not be, or too few rows.
    """
    rows = read_rows(call, a)
    factor = read_factor(call, b, rows, a)
    if test is not None:
        return Data(np.array(rows), np.array(read_rows(call, test, rows.shape[1])), factor, f"{a}, {test}")
    tested = round(share * len(rows))
    if len(rows) < FEWEST or not 2 <= tested <= len(rows) - 2:
        raise wrong(call, f"at least {FEWEST} rows in {a}, two of them to test on", f"{len(rows)}, {tested} to test on")
    return Data(*parted(rows, tested, seed), factor, str(a))


def invented(call: str, shape: str, seed: int) -> Data:
    """Numbers that look like activations: ReLU of mixtures of 32 normal variables with some noise; a random factor.

    >>> data = invented("bench", "100,8,3", 0)
    >>> data.learn.shape, data.test.shape, data.factor.shape
    ((50, 8), (50, 8), (8, 3))
    """
    n, columns, outputs = numbers(call, "--shape", shape, parts=3)
    if n < FEWEST:
        raise wrong(call, f"--shape with at least {FEWEST} rows", shape, "Pass --shape 10000,512,100.")
    rng = np.random.default_rng(seed)
    mix = rng.standard_normal((32, columns), np.float32) / np.float32(np.sqrt(32))
    noise = np.float32(0.2) * rng.standard_normal((n, columns), np.float32)
    rows = np.maximum(rng.standard_normal((n, 32), np.float32) @ mix + noise, 0)
    factor = rng.standard_normal((columns, outputs), np.float32)
    return Data(*parted(rows, n // 2, seed), factor, f"invented, {n}x{columns} times {columns}x{outputs}")


def numbers(call: str, option: str, text: str, parts: int | None = None) -> list[int]:
    """Whole numbers of at least 1 with commas between, each once where their number is free.

    >>> numbers("bench", "--ncodebooks", "8,16,8")
    [8, 16]
    """
    try:
        found = [int(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1 or (parts is not None and len(found) != parts):
        some = "8,16" if parts is None else "10000,512,100"
        what = "whole numbers with commas between" if parts is None else "N,D,M"
        raise wrong(call, f"{option} as {what}", repr(text), f"Pass {option} {some}.")
    return found if parts is not None else list(dict.fromkeys(found))


def options_of(call: str, make: Any, options: dict[str, Any]) -> Any:
    """What the constructor makes of these options; what it refuses is a matter of usage."""
    try:
        return make(**options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"matmul {call}: {error}") from error
