"""NPY: NumPy's own file of one array. It holds no names (but those of fields), units, rate or missing values."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np

from hasten._core.checks import refuse

from .recording import Opened, Recording
from .sink import Plain

__all__ = ["Sink", "open_file"]


def open_file(path: Path) -> Opened:
    """Open an NPY file of one or two dimensions; its rows are mapped into memory.

    Raises:
        ValueError: Not an NPY file, one that was cut, or an array that is not made of rows and columns.
    """
    what = "an NPY file with an array of numbers"
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        reason = str(error).split("\n")[0]
        if "mmap length is greater" in reason:
            reason = "it ends before its array does"
        raise refuse("npy", what, f"{path} ({reason})", "Save it again with numpy.save.") from None
    except EOFError:
        raise refuse("npy", what, f"{path}, which is empty", "Save it again with numpy.save.") from None
    if not isinstance(found, np.ndarray):
        found.close()
        raise refuse("npy", what, f"{path}, an archive of several", "Save one array with numpy.save.")
    if found.ndim not in (1, 2):
        fix = "Save x.reshape(len(x), -1)."
        raise refuse("npy", "an array of shape (rows,) or (rows, columns)", f"{found.shape} in {path}", fix)
    return Opened.of(Recording(found))


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
        head = b"\x93NUMPY" + (b"\x01\x00" if short else b"\x03\x00")  # 3.0 is 1.0 with UTF-8 and a longer length
        width = 2 if short else 4
        data = text.encode()
        data += b" " * (-(len(head) + width + len(data) + 1) % 64) + b"\n"
        file.write(head + len(data).to_bytes(width, "little") + data)
        self._dtype = dtype

    def _pack(self, block: np.ndarray) -> bytes:
        return block.astype(self._dtype, order="C", copy=False).tobytes()
