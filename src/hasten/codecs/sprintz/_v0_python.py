"""Published Sprintz streams without the compiled module: its functions of the same names, same bytes, slow.

The layout stands in `hasten/_native/sprintz/v0.hpp`. Here a whole matrix is forecast first, since errors do not depend
on how blocks are put into groups; then the blocks become slots. Packing goes through arrays of single bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from .errors import CorruptError

__all__ = ["sprintz_v0_bound", "sprintz_v0_decode", "sprintz_v0_encode", "sprintz_v0_scan"]

_HEADER, _ROWS, _MAX_RUN, _MAX_REMAINING = 8, 8, 32767, 65535
_TOO_MANY = "the stream holds more elements than are allowed"


class _Layout(NamedTuple):
    """What follows from the size of an element and the number of columns."""

    itemsize: int
    columns: int

    @property
    def bits(self) -> int:
        return 8 * self.itemsize

    @property
    def narrow(self) -> bool:
        return self.columns * self.itemsize <= 4

    @property
    def field_bits(self) -> int:
        return 3 if self.itemsize == 1 else 4

    @property
    def fields_bytes(self) -> int:
        return (2 * self.columns * self.field_bits + 7) // 8

    def block_bytes(self, bits: int) -> int:
        return bits if self.narrow else _ROWS * ((bits + 7) // 8)

    def kept(self, widths: np.ndarray) -> np.ndarray:  # (columns,) -> (columns, 16), bool
        """Which bits of a column's errors a block holds."""
        return np.arange(16) < widths[:, None]


def _wrap(x: np.ndarray, bits: int) -> np.ndarray:
    """`x` modulo 2^bits, in the signed range."""
    half = 1 << (bits - 1)
    return ((x + half) & ((1 << bits) - 1)) - half


class _Predictor:
    """Delta or FIRE: the state of all columns, moved on block by block."""

    def __init__(self, layout: _Layout, fire: bool) -> None:
        self.layout, self.fire = layout, fire
        self.value, self.delta, self.counter = (np.zeros(layout.columns, np.int64) for _ in range(3))

    def _coefficient(self) -> np.ndarray:
        bits = self.layout.bits
        if not self.fire:
            return np.zeros_like(self.counter)
        if self.layout.narrow:
            return self.counter >> 1
        return _wrap(self.counter >> (bits - 3) << (bits - 4), 16)

    def errors(self, block: np.ndarray) -> np.ndarray:  # (8, columns) -> the same, zigzag coded
        """Errors of a block of values."""
        return self._block(block, known=True)

    def values(self, errors: np.ndarray) -> np.ndarray:  # (8, columns), zigzag coded -> the same
        """The block of values that has these errors."""
        return self._block(errors, known=False)

    def _block(self, given: np.ndarray, known: bool) -> np.ndarray:
        bits = self.layout.bits
        coefficient, gradient = self._coefficient(), np.zeros_like(self.counter)
        out = np.empty_like(given)
        for i, row in enumerate(given.astype(np.int64)):
            predicted = self.delta * coefficient >> bits
            if known:
                delta = _wrap(row - self.value, bits)
                error = _wrap(delta - predicted, bits)
                out[i] = (error << 1 ^ error >> (bits - 1)) & ((1 << bits) - 1)
                value = row
            else:
                error = row >> 1 ^ -(row & 1)
                delta = _wrap(error + predicted, bits)
                value = out[i] = self.value + delta & ((1 << bits) - 1)
            if i % 2 == 1:
                gradient = _wrap(gradient + np.sign(error) * self.delta, bits)
            self.value, self.delta = value, delta
        if self.fire:
            self.counter = _wrap(self.counter + (gradient >> 2), 2 * bits)
        return out


def sprintz_v0_bound(rows: int, columns: int, itemsize: int) -> int:
    """Room for a stream of such a matrix; the compiled encoder writes up to 8 bytes beyond the end."""
    return _HEADER + rows // 16 * _Layout(itemsize, columns).fields_bytes + rows * columns * itemsize + 8


def _packed(bits: np.ndarray) -> bytes:
    return np.packbits(bits, axis=-1, bitorder="little").tobytes()


def _bits(x: np.ndarray) -> np.ndarray:  # (...,) -> (..., 16), the lowest first
    return np.unpackbits(x.astype("<u2")[..., None].view(np.uint8), axis=-1, bitorder="little")


def _widths(errors: np.ndarray, layout: _Layout) -> np.ndarray:  # (blocks, 8, columns) -> (blocks, columns)
    together = np.bitwise_or.reduce(errors, axis=1)
    widths = np.zeros(together.shape, np.int64)
    for bit in range(layout.bits):
        widths[together >> bit != 0] = bit + 1
    widths[widths == layout.bits - 1] = layout.bits
    if layout.itemsize == 2 and not layout.narrow:
        widths[widths == 7] = 8
    return widths


def _payload(errors: np.ndarray, widths: np.ndarray, layout: _Layout) -> bytes:
    kept = layout.kept(widths)
    if layout.narrow:
        return _packed(_bits(errors.T)[np.broadcast_to(kept[:, None], (layout.columns, _ROWS, 16))])
    return _packed(_bits(errors)[:, kept])


def _run(blocks: int) -> bytes:
    return bytes([blocks]) if blocks < 128 else bytes([blocks & 127 | 128, blocks >> 7])


def _slots(x: np.ndarray, fire: bool, layout: _Layout) -> tuple[list[tuple[np.ndarray, bytes]], int]:
    """The slots of a matrix (widths and payload), and how many rows they take."""
    rows = x.shape[0]
    predictor = _Predictor(layout, fire)
    blocks = x[: rows // _ROWS * _ROWS].reshape(-1, _ROWS, layout.columns)
    errors = np.array([predictor.errors(block) for block in blocks], x.dtype).reshape(blocks.shape)
    widths = _widths(errors, layout)
    nothing = np.zeros(layout.columns, np.int64)
    enough = 16 if fire and not layout.narrow else 17  # rows that must be left for a run to go on
    slots: list[tuple[np.ndarray, bytes]] = []
    run = block = 0
    while len(slots) % 2 == 1 or run > 0 or rows - _ROWS * block >= 16:
        zero = not widths[block].any()
        if run > 0 and (not zero or run == _MAX_RUN):
            slots.append((nothing, _run(run)))
            run = 0
        if not zero:
            slots.append((widths[block], _payload(errors[block], widths[block], layout)))
        block += 1
        run += zero
        if zero and rows - _ROWS * block < enough:
            slots.append((nothing, _run(run)))
            if len(slots) % 2 == 1:
                slots.append((nothing, _run(0)))
            break
    return slots, _ROWS * block


def sprintz_v0_encode(x: np.ndarray, fire: bool, out: np.ndarray) -> int:
    """Write a stream into `out`; returns its length, or 0 if the format cannot hold the matrix."""
    layout = _Layout(x.itemsize, x.shape[1])
    slots, taken = _slots(x, fire, layout) if x.size >= 128 else ([], 0)
    remaining = x.size - taken * layout.columns
    if remaining > _MAX_REMAINING:
        return 0
    parts = [(len(slots) // 2).to_bytes(4, "little") + remaining.to_bytes(2, "little")]
    parts.append(layout.columns.to_bytes(2, "little"))
    for first, second in zip(slots[::2], slots[1::2], strict=True):
        widths = np.concatenate([first[0], second[0]])
        fields = widths - (widths == layout.bits)
        parts += [_packed(_bits(fields)[:, : layout.field_bits].reshape(-1)), first[1], second[1]]
    parts.append(x[taken:].astype(x.dtype.newbyteorder("<")).tobytes())
    stream = b"".join(parts)
    out[: len(stream)] = np.frombuffer(stream, np.uint8)
    return len(stream)


class _Stream:
    """A stream that is read: its header, its slots one by one, and what remains; raises CorruptError."""

    def __init__(self, data: np.ndarray, itemsize: int, max_elements: int) -> None:
        if data.size < _HEADER:
            raise CorruptError(data.size, "the stream ends inside its header")
        head = data[:_HEADER].tobytes()
        self.groups, self.remaining = int.from_bytes(head[:4], "little"), int.from_bytes(head[4:6], "little")
        self.layout = _Layout(itemsize, int.from_bytes(head[6:], "little"))
        self.data, self.max_elements, self.at, self.elements = data, max_elements, _HEADER, 0
        if self.layout.columns == 0:
            raise CorruptError(6, "a stream has at least one column")
        if self.remaining % self.layout.columns:
            raise CorruptError(4, "the elements that remain are no whole rows")

    def _take(self, size: int, reason: str) -> np.ndarray:
        if self.data.size - self.at < size:
            raise CorruptError(self.at, reason)
        self.at += size
        return self.data[self.at - size : self.at]

    def _claim(self, at: int, blocks: int) -> None:
        self.elements += blocks * _ROWS * self.layout.columns
        if self.elements > self.max_elements:
            raise CorruptError(at, _TOO_MANY)

    def _fields(self) -> np.ndarray:  # (2, columns)
        layout, start = self.layout, self.at
        taken = self._take(layout.fields_bytes, "the stream ends inside the widths of a group")
        bits = np.unpackbits(taken, bitorder="little")[: 2 * layout.columns * layout.field_bits]
        fields = bits.reshape(2, layout.columns, -1) @ (1 << np.arange(layout.field_bits))
        if layout.itemsize == 2 and not layout.narrow and (fields == 7).any():
            raise CorruptError(start, "wide rows of 16 bits have no width 7")
        return fields + (fields == layout.bits - 1)

    def _length(self) -> int:
        start = self.at
        first = int(self._take(1, "the stream ends before the length of a run")[0])
        if first < 128:
            return first
        self.at = start  # both bytes are at fault if the second is missing
        pair = self._take(2, "the stream ends inside the length of a run")
        return (first & 127) | int(pair[1]) << 7

    def slots(self) -> Iterator[tuple[np.ndarray | None, int]]:
        """Of each slot the errors of a block, or None and the length of a run."""
        for _ in range(self.groups):
            for widths in self._fields():
                start, bits = self.at, int(widths.sum())
                if bits == 0:
                    run = self._length()
                    self._claim(start, run)
                    yield None, run
                else:
                    payload = self._take(self.layout.block_bytes(bits), "the stream ends inside a block")
                    self._claim(start, 1)
                    yield self._errors(payload, widths), 0

    def _errors(self, payload: np.ndarray, widths: np.ndarray) -> np.ndarray:  # (8, columns)
        layout, kept = self.layout, self.layout.kept(widths)
        if layout.narrow:
            bits = np.zeros((layout.columns, _ROWS, 16), np.uint8)
            bits[np.broadcast_to(kept[:, None], bits.shape)] = np.unpackbits(payload, bitorder="little")
        else:
            bits = np.zeros((_ROWS, layout.columns, 16), np.uint8)
            rows = np.unpackbits(payload.reshape(_ROWS, -1), axis=1, bitorder="little")
            bits[:, kept] = rows[:, : int(widths.sum())]
        errors = np.packbits(bits, axis=-1, bitorder="little").view("<u2")[..., 0]
        return errors.T if layout.narrow else errors

    def rest(self) -> np.ndarray:
        """The elements that remain, when all slots are read."""
        size, there = self.remaining * self.layout.itemsize, self.data.size - self.at
        if there < size:
            raise CorruptError(self.data.size, "the stream ends inside the elements that remain")
        if there > size:
            raise CorruptError(self.at + size, "the stream ends here, and more bytes follow")
        self.elements += self.remaining
        if self.elements > self.max_elements:
            raise CorruptError(4, _TOO_MANY)
        return self.data[self.at :].view(f"<u{self.layout.itemsize}")


def sprintz_v0_scan(data: np.ndarray, itemsize: int, max_elements: int) -> tuple[int, int, Any]:
    """(columns, elements, fault) of a stream; the fault is (offset, reason), or None."""
    try:
        stream = _Stream(data, itemsize, max_elements)
    except CorruptError as error:
        return 0, 0, (error.offset, error.reason)
    try:
        for _ in stream.slots():
            pass
        stream.rest()
    except CorruptError as error:
        return stream.layout.columns, 0, (error.offset, error.reason)
    return stream.layout.columns, stream.elements, None


def sprintz_v0_decode(data: np.ndarray, fire: bool, out: np.ndarray) -> tuple[int, Any]:
    """Decode a stream of at most as many elements as `out` has; returns (elements, fault)."""
    try:
        stream = _Stream(data, out.itemsize, out.size)
        columns = stream.layout.columns
        predictor = _Predictor(stream.layout, fire)
        rows = out[: out.size // columns * columns].reshape(-1, columns)
        done = 0
        for errors, run in stream.slots():
            if errors is not None:
                rows[done : done + _ROWS] = predictor.values(errors)
                done += _ROWS
                continue
            still = np.zeros((_ROWS, columns), out.dtype)
            while fire and run > 0 and predictor.delta.any():
                rows[done : done + _ROWS] = predictor.values(still)
                done, run = done + _ROWS, run - 1
            rows[done : done + run * _ROWS] = predictor.value
            done += run * _ROWS
        rest = stream.rest()
        out[done * columns : done * columns + rest.size] = rest
    except CorruptError as error:
        return 0, (error.offset, error.reason)
    return stream.elements, None
