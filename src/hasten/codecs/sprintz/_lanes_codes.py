"""Residuals from the three payloads of a record in eight lanes: the reference of _native/sprintz/record_decode.cpp."""

from __future__ import annotations

import struct
from array import array

import numpy as np

from ._lanes_head import COUNT, Cursor
from .planar import PLANAR, decode_column

__all__ = ["take_planar", "take_rice", "take_tokens"]

STREAMS, RUN = 4, 32  # RUN: steps of a lane that share a Rice parameter
MOST_UNARY = 40
MAX_CONTEXTS, LEVELS = 8, 256
MAX_LENGTH, MAX_LENGTH_OF_MANY = 11, 10  # of the codes of one context, and of several
LARGEST = (1 << 20) - 1  # of a residual, for its context
_CUT = "a record ends inside its codes"
_PARAMETERS = "a record ends inside its parameters"
_OTHER_LENGTH = "a stream has another length than its codes"

Entry = tuple[int, int, int]  # bits of a code, raw bits behind it, bits that stand above these


def take_planar(cursor: Cursor, steps: int, bits: int) -> np.ndarray:
    """(steps, 8) of uint64: blocks as in a planar record without a predictor."""
    head = struct.pack("<BBBQ", PLANAR, 0, bits, 0)
    rest = cursor.take(cursor.left(), "")
    at = cursor.at + cursor.place - len(rest) - len(head)
    values = decode_column(memoryview(head + rest), COUNT * steps, np.dtype(f"u{bits // 8}"), at)
    return values.astype(np.uint64).reshape(steps, COUNT)


def take_rice(cursor: Cursor, steps: int, bits: int) -> np.ndarray:
    """(steps, 8) of uint64: Rice codes, with a parameter for each 32 steps of a lane."""
    least = cursor.number(reason=_PARAMETERS)
    if least + 13 >= bits:
        cursor.fail("a parameter of more bits than the values have", 1)
    groups = -(-steps // RUN)
    packed = np.frombuffer(cursor.take(groups * COUNT // 2, _PARAMETERS), np.uint8)
    parameters = np.stack([packed & 15, packed >> 4], axis=1).reshape(groups, COUNT)
    if (parameters == 15).any():
        cursor.fail("a parameter of 15", len(packed) - int(np.argmax(parameters == 15)) // 2)
    low = cursor.take(cursor.number(4, _PARAMETERS), "a stream is longer than its record")
    high = cursor.take(cursor.left(), "")

    coded = np.zeros((groups, COUNT, RUN), bool)  # which values have a code, in the order of these
    coded[...] = (parameters > 0)[:, :, None]
    coded[-1, :, steps - RUN * (groups - 1) :] = False
    k = np.broadcast_to(parameters[:, :, None].astype(np.int64) + (least - 1), coded.shape)[coded]
    most = -(-(MOST_UNARY + 1) * len(k) // 8)  # bytes of the other stream
    ones = np.flatnonzero(np.unpackbits(np.frombuffer(high[:most], np.uint8), bitorder="little"))[: len(k)]
    zeros = np.diff(ones, prepend=-1) - 1
    ends = np.cumsum(k)
    used = (int(ends[-1]), int(ones[-1]) + 1) if len(ones) else (0, 0)
    if len(ones) < len(k) or used[0] > 8 * len(low) or (len(zeros) and zeros.max() > MOST_UNARY):
        cursor.fail("a stream ends too early, or counts too far")
    if ((used[0] + 7) // 8, (used[1] + 7) // 8) != (len(low), len(high)):
        cursor.fail(_OTHER_LENGTH)
    z = np.zeros(coded.shape, np.uint64)
    mask = np.uint64((1 << bits) - 1)
    z[coded] = (zeros.astype(np.uint64) << k.astype(np.uint64) | _bits_at(low, ends - k, k)) & mask
    return z.transpose(0, 2, 1).reshape(-1, COUNT)[:steps]


def _bits_at(stream: memoryview, places: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The numbers of up to 63 bits that begin at some bits of a stream."""
    padded = np.concatenate([np.frombuffer(stream, np.uint8), np.zeros(9, np.uint8)])
    words = np.zeros(len(places), np.uint64)
    skipped = (places % 8).astype(np.uint64)
    for byte in range(8):
        words |= padded[places // 8 + byte].astype(np.uint64) << np.uint64(8 * byte)
    rest = padded[places // 8 + 8].astype(np.uint64) << np.uint64(1) << (np.uint64(63) - skipped)
    return (words >> skipped | rest) & ((np.uint64(1) << counts.astype(np.uint64)) - np.uint64(1))


def take_tokens(cursor: Cursor, steps: int, bits: int) -> np.ndarray:
    """(steps, 8) of uint64: four streams of codes, of two lanes each."""
    context_of, shift = _take_contexts(cursor)
    top = 1 if bits == 64 else 2
    longest = MAX_LENGTH if max(context_of) == 0 else MAX_LENGTH_OF_MANY
    codes = [_take_lengths(cursor, 32 + (bits - 5 << top), longest) for _ in range(max(context_of) + 1)]
    width = max([1, *map(max, filter(None, codes))])
    tables = [_make_table(cursor, lengths, width, top) for lengths in codes]
    sizes = [cursor.number(4, _CUT) for _ in range(STREAMS - 1)]
    streams = [cursor.take(size, "a stream is longer than its record") for size in sizes]
    streams.append(cursor.take(cursor.left(), ""))
    found, ends = [], []
    for stream in streams:
        values, end = _take_stream(stream, 2 * steps, tables, width, context_of, shift)
        if end > 8 * len(stream):
            cursor.fail("a stream ends too early")
        found.append(np.frombuffer(values, np.uint64).reshape(steps, 2))
        ends.append(end)
    if any((end + 7) // 8 != len(stream) for end, stream in zip(ends, streams, strict=True)):
        cursor.fail(_OTHER_LENGTH)
    return np.stack(found, axis=2).reshape(steps, COUNT)


def _take_contexts(cursor: Cursor) -> tuple[list[int], int]:
    """The context of each level, and by how many bits the recent size is shifted to give a level."""
    count = cursor.number(reason=_CUT)
    if count == 0 or count > MAX_CONTEXTS:
        cursor.fail("no contexts, or more than 8", 1)
    if count == 1:
        return [0], 0
    shift = cursor.number(reason=_CUT)
    if shift > 31:
        cursor.fail("a shift of more than 31 bits", 1)
    context_of, previous = [0] * LEVELS, 0
    for context in range(1, count):
        level = cursor.number(reason=_CUT)
        if level <= previous:
            cursor.fail("levels of contexts that do not rise", 1)
        context_of[level:] = [context] * (LEVELS - level)
        previous = level
    return context_of, shift


def _take_lengths(cursor: Cursor, most: int, longest: int) -> list[int]:
    """Bits of the code of each token up to the last that occurs."""
    count = cursor.number(reason=_CUT)
    if count > most:
        cursor.fail("more tokens than there are", 1)
    lengths: list[int] = []
    while len(lengths) < count:
        two = cursor.number(reason=_CUT)
        lengths += (two & 15, two >> 4)
        if max(lengths[-2:]) > longest:
            cursor.fail("a code of more bits than there may be", 1)
    if count and (lengths[count - 1] == 0 or any(lengths[count:])):
        cursor.fail("tokens behind the last", 1)
    return lengths[:count]


def _make_table(cursor: Cursor, lengths: list[int], width: int, top: int) -> list[Entry]:
    """What the next `width` bits of a stream say."""

    def entry(token: int, length: int) -> Entry:
        if token < 32:
            return length, 0, token
        rest = token - 32
        return length, (rest >> top) + 5 - top, (1 << top) + rest % (1 << top)

    present = sorted((length, token) for token, length in enumerate(lengths) if length)
    if len(present) < 2:  # one token, which takes no bits; or none, and what is read with this code is 0
        if present and present[0][0] != 1:
            cursor.fail("a code that is not complete")
        return [entry(len(lengths) - 1, 0) if present else (0, 0, 0)] * (1 << width)
    room = (1 << width) - sum(1 << (width - length) for length, _ in present)
    if room < 0:
        cursor.fail("a code with more words than there is room for")
    if room > 0:
        cursor.fail("a code that is not complete")
    table: list[Entry] = [(0, 0, 0)] * (1 << width)
    code, before = 0, 0
    for length, token in present:
        code <<= length - before
        before = length
        turned = int(f"{code:0{length}b}"[::-1], 2)  # the highest bit of a code comes first
        table[turned :: 1 << length] = [entry(token, length)] * (1 << (width - length))
        code += 1
    return table


def _take_stream(
    stream: memoryview, count: int, tables: list[list[Entry]], width: int, context_of: list[int], shift: int
) -> tuple[array, int]:
    """Values of two lanes in turns, and how many bits they took; more than there are if the stream ends too early.

    Where there are several tables, each is for a context: the recent size of residuals of a lane says which.
    """
    word_at = struct.Struct("<Q").unpack_from
    padded, size, mask = bytes(stream) + bytes(16), 8 * len(stream), (1 << width) - 1
    values, at = array("Q"), 0
    append = values.append
    table, several, last = tables[0], len(tables) > 1, LEVELS - 1
    tables_of = [tables[context] for context in context_of]
    mine, other = 0, 0  # recent sizes of the two lanes
    for _ in range(count):
        word = word_at(padded, at >> 3)[0] >> (at & 7)
        if several:
            level = mine >> shift
            table = tables_of[level if level < last else last]
        length, raw, value = table[word & mask]
        at += length
        if raw:
            rest = word >> length if length + raw <= 57 else _long(padded, at)
            value = value << raw | rest & ((1 << raw) - 1)
            at += raw
        if at > size:
            break
        append(value)
        if several:
            mine, other = other, mine - (mine >> 3) + (value if value < LARGEST else LARGEST)
    return values, at


def _long(padded: bytes, at: int) -> int:
    return int.from_bytes(padded[at >> 3 : (at >> 3) + 9], "little") >> (at & 7)
