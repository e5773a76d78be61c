"""The codec `tsz` for Zarr arrays of format 3; needs `pip install 'hasten[zarr]'`.

A chunk of Zarr becomes a block (`hasten.codecs.sprintz.encode_block`), whose own chunks and columns are decoded alone:
a selection of few rows or columns is read from the store as a whole chunk of Zarr, but only the parts it touches are
decoded. To read less from the store, write smaller chunks into shards.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hasten._core.checks import missing_extra
from hasten.codecs.sprintz import decode_block, encode_block
from hasten.codecs.sprintz.blocks import _Block
from hasten.codecs.sprintz.header import MAX_CHUNK_BYTES

from ._tsz import Settings

try:
    from zarr.abc.codec import ArrayBytesCodec, ArrayBytesCodecPartialDecodeMixin
    from zarr.registry import register_codec
except ImportError as error:
    raise missing_extra("hasten.integrations.zarr", "zarr", "zarr") from error

if TYPE_CHECKING:
    from zarr.abc.store import ByteGetter
    from zarr.core.array_spec import ArraySpec
    from zarr.core.buffer import Buffer, NDBuffer

__all__ = ["TSZCodec"]


@dataclass(frozen=True)
class TSZCodec(Settings, ArrayBytesCodec, ArrayBytesCodecPartialDecodeMixin):
    """Time series as chunks of Zarr: `zarr.create_array(..., serializer=TSZCodec(), compressors=None)`.

    Compressors behind it are possible, but partial reads then decode whole chunks, and there is little left to gain.

    Args:
        profile, predictor, entropy, cross, max_error: As of `hasten.codecs.sprintz.compress`.
        time_axis: Which axis is time; all others together are columns.

    Raises:
        ValueError, TypeError: A setting that `compress` would not take; or, when an array is made, an array without
            dimensions, without this axis, or of a dtype that cannot be stored.
    """

    name: ClassVar[str] = "hasten.tsz"
    is_fixed_size: ClassVar[bool] = False  # type: ignore[misc]

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> TSZCodec:
        """The codec that the metadata of an array describe."""
        return cls(**(data.get("configuration") or {}))

    def to_dict(self) -> dict[str, Any]:
        """The codec as the metadata of an array describe it: settings that are the defaults are left out."""
        changed = self.changed()
        return {"name": self.name, "configuration": changed} if changed else {"name": self.name}

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Chunks have no fixed size, which Zarr expects to be told so."""
        raise NotImplementedError("TSZCodec: the size of a compressed chunk depends on what is in it")

    def validate(self, *, shape: tuple[int, ...], dtype: Any, chunk_grid: Any) -> None:
        """Refuse arrays that cannot be stored, before any of their chunks is written."""
        self.check(dtype.to_native_dtype(), len(shape), getattr(chunk_grid, "chunk_shape", ()))

    def evolve_from_array_spec(self, array_spec: ArraySpec) -> TSZCodec:
        """This codec; Zarr asks inside of shards, too, where it does not call `validate`."""
        self.check(array_spec.dtype.to_native_dtype(), array_spec.ndim)
        return self

    def _encode_sync(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        x = self.unmasked(chunk_data.as_numpy_array()).astype(chunk_spec.dtype.to_native_dtype(), copy=False)
        block = encode_block(np.moveaxis(x, self.axis(x.ndim), 0), **self.options())
        return chunk_spec.prototype.buffer.from_bytes(block)

    def _decode_sync(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        dtype, shape, axis = self._layout(chunk_spec)
        found = decode_block(chunk_data.as_numpy_array(), dtype, shape)
        return self._buffer(np.moveaxis(found, 0, axis), chunk_spec)

    async def _encode_single(self, chunk_data: NDBuffer, chunk_spec: ArraySpec) -> Buffer:
        return await asyncio.to_thread(self._encode_sync, chunk_data, chunk_spec)

    async def _decode_single(self, chunk_data: Buffer, chunk_spec: ArraySpec) -> NDBuffer:
        return await asyncio.to_thread(self._decode_sync, chunk_data, chunk_spec)

    async def _decode_partial_single(
        self, byte_getter: ByteGetter, selection: Any, chunk_spec: ArraySpec
    ) -> NDBuffer | None:
        data = await byte_getter.get(prototype=chunk_spec.prototype)
        if data is None:
            return None
        return await asyncio.to_thread(self._decode_part, data, selection, chunk_spec)

    def _decode_part(self, data: Buffer, selection: Any, chunk_spec: ArraySpec) -> NDBuffer:
        """Some of a chunk: what NumPy would select from all of it."""
        dtype, shape, axis = self._layout(chunk_spec)
        selectors = selection if isinstance(selection, tuple) else (selection,)
        selectors += (slice(None),) * (len(shape) - len(selectors))
        keys, kept = zip(*map(_needed, selectors, chunk_spec.shape), strict=True)
        rows, others = kept[axis], kept[:axis] + kept[axis + 1 :]
        columns = None
        if any(len(k) < n for k, n in zip(others, shape[1:], strict=True)):
            columns = np.ravel_multi_index(np.ix_(*others), shape[1:]).ravel()
        block = _Block(data.as_numpy_array().data, dtype, shape, MAX_CHUNK_BYTES)
        found = _read(block, rows, columns).reshape(len(rows), *map(len, others))
        return self._buffer(np.moveaxis(found, 0, axis)[keys], chunk_spec)

    def _layout(self, spec: ArraySpec) -> tuple[np.dtype, tuple[int, ...], int]:
        """The dtype of a chunk, its shape with time first, and where time belongs."""
        axis = self.axis(spec.ndim)
        shape = spec.shape
        return spec.dtype.to_native_dtype(), (shape[axis], *shape[:axis], *shape[axis + 1 :]), axis

    def _buffer(self, found: np.ndarray, spec: ArraySpec) -> NDBuffer:
        return spec.prototype.nd_buffer.from_numpy_array(found.astype(spec.dtype.to_native_dtype(), copy=False))


def _needed(selector: Any, size: int) -> tuple[Any, np.ndarray]:
    """Which places of an axis a selector needs, in order, and the selector that finds the same among those alone."""
    if isinstance(selector, slice):
        return slice(None), np.arange(*selector.indices(size))
    wanted = np.asarray(selector)
    kept = np.unique(wanted)
    return np.searchsorted(kept, wanted), kept


def _read(block: _Block, rows: np.ndarray, columns: np.ndarray | None) -> np.ndarray:
    """Some rows, in order, of some columns; chunks of the block that hold none of the rows are not decoded."""
    if not len(rows):
        return block.read(slice(0, 0), columns)
    far = np.diff(rows) > int(block.index.rows[1])  # there may be a chunk between, and the two are in different ones
    runs = np.split(rows, np.flatnonzero(far) + 1)
    parts = [block.read(slice(run[0], run[-1] + 1), columns) for run in runs]
    if len(parts) == 1 and len(parts[0]) == len(rows):
        return parts[0]
    return np.concatenate([part[run - run[0]] for part, run in zip(parts, runs, strict=True)])


register_codec(TSZCodec.name, TSZCodec)
