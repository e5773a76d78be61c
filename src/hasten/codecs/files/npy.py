"""NPY: NumPy's own file of one array. It holds no names (but those of fields), units, rate or missing values."""

from __future__ import annotations

import ast
import math
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

from hasten._core.checks import refuse

from .recording import Opened, Recording
from .sink import Plain

__all__ = ["Sink", "open_file"]

MAGIC = b"\x93NUMPY"
MAX_HEAD = 1 << 22  # bytes of the text that describes the array


def open_file(path: Path) -> Opened:
    """Open an NPY file of one or two dimensions; its rows are mapped into memory.

    Raises:
        ValueError: Not an NPY file, one that was cut, or an array that is not made of rows and columns.
    """
    with open(path, "rb") as file:
        dtype, shape, order = _read_head(path, file)
        start = file.tell()
    if len(shape) not in (1, 2):
        raise refuse("npy", "an array of shape (rows,) or (rows, columns)", f"{shape} in {path}", "Reshape it.")
    size, there = math.prod(shape) * dtype.itemsize, path.stat().st_size - start
    if there < size:
        raise _refuse(path, f"it ends after {there} of {size} bytes")
    if not size:
        return Opened.of(Recording(np.empty(shape, dtype)))
    return Opened.of(Recording(np.memmap(path, dtype, "r", start, shape, order)))


def _read_head(path: Path, file: BinaryIO) -> tuple[np.dtype, tuple[int, ...], Literal["C", "F"]]:
    """Dtype, shape and order of the array. Read here, because `numpy.load` fails in ways of its own on broken ones."""
    start = file.read(8)
    if start[:6] != MAGIC or len(start) < 8 or start[6] not in (1, 2, 3):
        archive = start[:4] == b"PK\x03\x04"
        raise _refuse(path, "an archive of arrays: save one with numpy.save" if archive else "it begins otherwise")
    length = int.from_bytes(file.read(2 if start[6] == 1 else 4), "little")
    text = file.read(min(length, MAX_HEAD))
    try:
        said = ast.literal_eval(text.decode("utf-8" if start[6] == 3 else "latin-1"))
        dtype, shape, fortran = np.lib.format.descr_to_dtype(said["descr"]), said["shape"], said["fortran_order"]
    except Exception:  # whatever Python and NumPy make of nonsense
        raise _refuse(path, "its header is broken") from None
    if not isinstance(shape, tuple) or not isinstance(fortran, bool) or len(text) < length:
        raise _refuse(path, "its header is broken")
    if any(type(count) is not int or not 0 <= count < 1 << 40 for count in shape):
        raise _refuse(path, "its header is broken")
    if dtype.hasobject or not dtype.itemsize:
        raise _refuse(path, f"dtype {dtype} is none of numbers")
    return dtype, shape, "F" if fortran else "C"


def _refuse(path: Path, reason: str) -> ValueError:
    return refuse("npy", "an NPY file with an array of numbers", f"{path} ({reason})", "")


class Sink(Plain):
    """Writes an NPY file row by row."""

    call = "npy"

    def __init__(self, file: BinaryIO, like: Recording, rows: int) -> None:
        super().__init__(file, like, rows)
        dtype = like.data.dtype.newbyteorder("=")
        shape = (rows, like.columns) if like.data.ndim == 2 else (rows,)
        described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        text = repr(described)
        short = text.isascii() and len(text) < 60_000
        head = MAGIC + (b"\x01\x00" if short else b"\x03\x00")  # 3.0 is 1.0 with UTF-8 and a longer length
        width = 2 if short else 4
        data = text.encode()
        data += b" " * (-(len(head) + width + len(data) + 1) % 64) + b"\n"
        file.write(head + len(data).to_bytes(width, "little") + data)
        self._dtype = dtype

    def _pack(self, block: np.ndarray) -> bytes:
        return block.astype(self._dtype, order="C", copy=False).tobytes()
