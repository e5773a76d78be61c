"""The Huffman stage without the compiled module: its functions of the same names, same bytes, slow.

The layout stands in `hasten/_native/sprintz/v0_huffman.hpp`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import CorruptError

__all__ = ["sprintz_huffman_bound", "sprintz_huffman_decode", "sprintz_huffman_encode"]

_BLOCK, _HEADER, _BITMAP, _STREAM_LENGTHS, _MAX_LENGTH = 131072, 5, 32, 12, 11
_STORED, _CODED, _REPEATED = 0, 1, 2


def _parts(size: int) -> list[tuple[int, int]]:
    """The bytes of a block that each of the four streams holds."""
    quarter = -(-size // 4)
    return [(min(k * quarter, size), min((k + 1) * quarter, size)) for k in range(4)]


def _code_lengths(counts: np.ndarray) -> np.ndarray:  # (256,) -> (256,), 0 where a symbol does not occur
    """Package-merge: a symbol before a package of the same weight, symbols of one count by value."""
    symbols = sorted(np.flatnonzero(counts).tolist(), key=lambda s: (counts[s], s))
    own = [(int(counts[s]), True) for s in symbols]
    levels: list[list[tuple[int, bool]]] = []
    below: list[tuple[int, bool]] = []
    for _ in range(_MAX_LENGTH):
        pairs = [(a[0] + b[0], False) for a, b in zip(below[::2], below[1::2], strict=False)]
        below = sorted(own + pairs, key=lambda item: (item[0], not item[1]))
        levels.append(below)
    lengths = np.zeros(256, np.int64)
    taken = 2 * len(symbols) - 2
    for level in reversed(levels):
        named = sum(is_symbol for _, is_symbol in level[:taken])
        lengths[symbols[:named]] += 1
        taken = 2 * (taken - named)
    return lengths


def _codes(lengths: np.ndarray) -> np.ndarray:  # (256,) -> (256,), the bits as they lie in a stream
    """Canonical codes: shorter ones first, then by symbol."""
    codes = np.zeros(256, np.int64)
    code = length = 0
    for s in sorted(np.flatnonzero(lengths).tolist(), key=lambda s: (lengths[s], s)):
        code <<= int(lengths[s]) - length
        length = int(lengths[s])
        codes[s] = int(f"{code:0{length}b}"[::-1], 2)
        code += 1
    return codes


def _block(data: np.ndarray) -> bytes:
    """One block with its header."""
    counts = np.bincount(data, minlength=256)
    if np.count_nonzero(counts) == 1:
        return _framed(_REPEATED, data[:1].tobytes())
    lengths = _code_lengths(counts)
    codes = _codes(lengths)
    nibbles = lengths[lengths > 0].tolist()
    nibbles += [0] * (len(nibbles) % 2)
    table = np.packbits(lengths > 0, bitorder="little").tobytes()
    table += bytes(low | high << 4 for low, high in zip(nibbles[::2], nibbles[1::2], strict=True))
    streams = [_stream(data[first:last], lengths, codes) for first, last in _parts(data.size)]
    coded = table + b"".join(len(s).to_bytes(4, "little") for s in streams[:3]) + b"".join(streams)
    return _framed(_CODED, coded) if len(coded) < data.size else _framed(_STORED, data.tobytes())


def _framed(kind: int, payload: bytes) -> bytes:
    return bytes([kind]) + len(payload).to_bytes(4, "little") + payload


def _stream(data: np.ndarray, lengths: np.ndarray, codes: np.ndarray) -> bytes:
    bits = np.unpackbits(codes[data].astype("<u2")[:, None].view(np.uint8), axis=1, bitorder="little")
    kept = bits[np.arange(16) < lengths[data][:, None]]
    return np.packbits(kept, bitorder="little").tobytes()


def sprintz_huffman_bound(size: int) -> int:
    """Room for the blocks of `size` bytes; the compiled encoder writes up to 8 bytes beyond the end."""
    return size + -(-size // _BLOCK) * _HEADER + 8


def sprintz_huffman_encode(data: np.ndarray, out: np.ndarray) -> int:
    """Write the blocks into `out`; returns their length."""
    coded = b"".join(_block(data[first : first + _BLOCK]) for first in range(0, data.size, _BLOCK))
    out[: len(coded)] = np.frombuffer(coded, np.uint8)
    return len(coded)


def sprintz_huffman_decode(data: np.ndarray, out: np.ndarray) -> Any:
    """Decode exactly what `out` has room for; returns the fault (offset, reason), or None."""
    at = 0
    try:
        for first in range(0, out.size, _BLOCK):
            at = _read_block(data, at, out[first : first + _BLOCK])
        if at != data.size:
            raise CorruptError(at, "the blocks end here, and more bytes follow")
    except CorruptError as error:
        return error.offset, error.reason
    return None


def _read_block(data: np.ndarray, at: int, out: np.ndarray) -> int:
    """Decode the block at `at`; returns where it ends."""
    if data.size - at < _HEADER:
        raise CorruptError(at, "the bytes end inside the header of a block")
    kind, length = int(data[at]), int.from_bytes(data[at + 1 : at + _HEADER].tobytes(), "little")
    start = at + _HEADER
    payload = data[start : start + length]
    if payload.size < length:
        raise CorruptError(at + 1, "a block is longer than the bytes that follow")
    if kind == _CODED:
        _read_coded(payload, start, out)
    elif kind > _REPEATED:
        raise CorruptError(at, "an unknown kind of block")
    elif length != (out.size if kind == _STORED else 1):
        raise CorruptError(at + 1, "a block has another length than its kind says")
    else:
        out[:] = payload
    return start + length


def _read_lengths(payload: np.ndarray, start: int) -> tuple[np.ndarray, int]:
    """The lengths of a block's codes, and the size of the table."""
    if payload.size < _BITMAP:
        raise CorruptError(start, "a block ends inside its table")
    used = np.flatnonzero(np.unpackbits(payload[:_BITMAP], bitorder="little"))
    size = _BITMAP + (used.size + 1) // 2
    if payload.size < size:
        raise CorruptError(start, "a block ends inside its table")
    pairs = payload[_BITMAP:size].astype(np.int64)
    nibbles = np.stack([pairs & 15, pairs >> 4], axis=1).reshape(-1)
    lengths = np.zeros(256, np.int64)
    lengths[used] = nibbles[: used.size]
    if ((lengths[used] == 0) | (lengths[used] > _MAX_LENGTH)).any():
        raise CorruptError(start, "a code of no length, or of more than 11 bits")
    if nibbles[used.size :].any():
        raise CorruptError(start + size - 1, "half a byte that should be 0")
    return lengths, size


def _read_coded(payload: np.ndarray, start: int, out: np.ndarray) -> None:
    lengths, at = _read_lengths(payload, start)
    full = 1 << _MAX_LENGTH
    room = full - int((full >> lengths[lengths > 0]).sum())
    if room < 0:
        raise CorruptError(start, "a code with more words than there is room for")
    if room > 0:
        raise CorruptError(start, "a code that is not complete")
    symbol_of, codes = np.zeros(full, np.int64), _codes(lengths)
    for s in np.flatnonzero(lengths):
        symbol_of[codes[s] :: 1 << lengths[s]] = s
    if payload.size - at < _STREAM_LENGTHS:
        raise CorruptError(start + at, "a block ends inside the lengths of its streams")
    sizes = payload[at : at + _STREAM_LENGTHS].view("<u4").tolist()
    lengths_at, at = at, at + _STREAM_LENGTHS
    streams = []
    for k, size in enumerate([*sizes, None]):
        if size is not None and size > payload.size - at:
            raise CorruptError(start + lengths_at + 4 * k, "a stream is longer than its block")
        streams.append((start + at, payload[at : None if size is None else at + size]))
        at += 0 if size is None else size
    for (where, stream), (first, last) in zip(streams, _parts(out.size), strict=True):
        _read_stream(stream, where, out[first:last], symbol_of, lengths)


def _read_stream(stream: np.ndarray, where: int, out: np.ndarray, symbol_of: np.ndarray, lengths: np.ndarray) -> None:
    """Follow the codes from bit to bit; every bit's 11-bit window is looked up beforehand, zeros behind the end."""
    bits = np.concatenate([np.unpackbits(stream, bitorder="little"), np.zeros(_MAX_LENGTH, np.uint8)])
    windows = np.lib.stride_tricks.sliding_window_view(bits, _MAX_LENGTH) @ (1 << np.arange(_MAX_LENGTH))
    symbols = symbol_of[windows]
    steps, end, position = lengths[symbols].tolist(), 8 * stream.size, 0
    positions = []
    for _ in range(out.size):
        if position >= end:
            raise CorruptError(where, "a stream has another length than its codes")
        positions.append(position)
        position += steps[position]
    if -(-position // 8) != stream.size:
        raise CorruptError(where, "a stream has another length than its codes")
    out[:] = symbols[positions]
