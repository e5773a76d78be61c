"""The codec `tsz` for numcodecs, and so for Zarr arrays of format 2; needs `pip install 'hasten[numcodecs]'`.

Encoded chunks are whole `tsz` files, which `hasten codec info` shows; what NumPy knows of an array and such a file does
not (more than two dimensions, the order of bytes and of elements, the axis of time) stands in its `meta`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hasten._core.checks import missing_extra, refuse, refuse_type
from hasten.codecs.sprintz import CorruptError, Reader, compress
from hasten.codecs.sprintz import open as open_tsz

from ._tsz import Settings

try:
    from numcodecs.abc import Codec
    from numcodecs.compat import ndarray_copy
    from numcodecs.registry import register_codec
except ImportError as error:
    raise missing_extra("hasten.integrations.numcodecs", "numcodecs", "numcodecs") from error

__all__ = ["TSZ"]

META = "numcodecs"  # key in a file's meta
PLAIN = {"order": "C", "axis": 0, "byteorder": "<"}
MAX_BYTES = 1 << 31


@dataclass(frozen=True)
class TSZ(Settings, Codec):
    """Time series as chunks of numcodecs: `numcodecs.get_codec({"id": "tsz"})`.

    Unlike codecs of bytes it needs arrays with their dtype and shape, so it comes first: as the compressor or the first
    filter, with no filter before it that turns the array into bytes.

    Args:
        profile, predictor, entropy, cross, max_error: As of `hasten.codecs.sprintz.compress`.
        time_axis: Which axis is time; all others together are columns.

    Raises:
        ValueError, TypeError: A setting that `compress` would not take.

    >>> codec = TSZ()
    >>> x = np.arange(24, dtype=np.int16).reshape(4, 3, 2)
    >>> codec.decode(codec.encode(x))[1].tolist()
    [[6, 7], [8, 9], [10, 11]]
    """

    codec_id: ClassVar[str] = "tsz"  # type: ignore[misc]

    def get_config(self) -> dict[str, Any]:
        """The settings that are not the defaults, and the id."""
        return {"id": self.codec_id, **self.changed()}

    def encode(self, buf: Any) -> bytes:  # type: ignore[override]
        """Compress an array.

        Args:
            buf: Anything that NumPy can convert, of any shape; structured arrays must be packed and native. Bytes are
                taken as unsigned integers.

        Raises:
            TypeError: A dtype that cannot be stored. ValueError: Missing values, or no such axis of time.
        """
        x = self.unmasked(np.frombuffer(buf, np.uint8) if isinstance(buf, bytes) else buf)
        order = "F" if x.flags.f_contiguous and not x.flags.c_contiguous else "C"
        axis = self.axis(max(x.ndim, 1))
        moved = np.moveaxis(x, axis, 0) if x.ndim else x.reshape(1)
        if x.dtype.names:
            if x.dtype != np.dtype([(name, x.dtype[name].newbyteorder("=")) for name in x.dtype.names]):
                fix = "Use numpy.lib.recfunctions.repack_fields, and x.astype with a native dtype."
                raise refuse_type("TSZ.encode", "a structured dtype that is packed and native", x, fix)
            moved = moved.reshape(-1)
        elif moved.ndim > 2:
            moved = moved.reshape(len(moved), math.prod(moved.shape[1:]))
        byteorder = "<" if x.dtype == x.dtype.newbyteorder("<") else ">"
        said = {"shape": list(x.shape), "order": order, "axis": axis, "byteorder": byteorder}
        plain = {"shape": list(moved.shape), **PLAIN}
        changed = {key: value for key, value in said.items() if value != plain[key]}
        return compress(moved, meta={META: changed} if changed else None, **self.options())

    def decode(self, buf: Any, out: Any = None) -> Any:
        """The array that `encode` compressed, in the same order of bytes and of elements.

        Args:
            buf: What `encode` gave, or another `tsz` file without missing values.
            out: A writable buffer of just as many bytes, or None for a new array.

        Raises:
            CorruptError: The bytes are damaged. ValueError: They are more than 2 GiB, or `out` has another size.
        """
        reader = open_tsz(buf)
        if reader.index_error is not None:
            raise reader.index_error
        found = _restore(reader)
        if out is None:
            return found
        size = out.nbytes if isinstance(out, np.ndarray) else memoryview(out).nbytes
        if size != found.nbytes:
            raise refuse("TSZ.decode", f"out= of {found.nbytes} bytes", f"{size}", "Pass a buffer of that size.")
        return ndarray_copy(found, out)


def _restore(reader: Reader) -> np.ndarray:
    """The array of a file as it was before `encode` moved its axes."""
    if reader.header.missing:
        raise CorruptError(-1, "values may be missing, which no chunk of numcodecs can say")
    size = math.prod(reader.shape) * reader.dtype.itemsize
    if size > MAX_BYTES:
        raise refuse("TSZ.decode", f"at most {MAX_BYTES} bytes after decoding", f"{size}", "Write smaller chunks.")
    try:
        said: dict[str, Any] = {"shape": reader.shape, **PLAIN, **reader.header.meta.get(META, {})}
        shape = tuple(said["shape"])
        if math.prod(shape) != math.prod(reader.shape):
            raise ValueError(f"{shape} is not {reader.shape}")
        result = np.ndarray(shape, reader.dtype.newbyteorder(said["byteorder"]), order=said["order"])
        moved = np.moveaxis(result, said["axis"], 0) if shape else result.reshape(1)
        flat = moved.reshape(reader.shape)
    except (TypeError, ValueError) as error:
        raise CorruptError(-1, f"what the chunk says of its shape does not fit it: {error}") from None
    if result.dtype.isnative and np.may_share_memory(flat, result):
        reader.read(out=flat)
    else:
        moved[...] = reader.read().reshape(moved.shape)
    return result


register_codec(TSZ)
