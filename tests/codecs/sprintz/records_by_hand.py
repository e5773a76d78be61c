"""Records in lanes put together from the text of docs/formats.md, with any fields and residuals; and series."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import numpy as np
import pytest

from hasten._native import ext
from hasten.codecs.sprintz import CorruptError, records
from hasten.codecs.sprintz.lanes import decode_lanes

PREDICTORS = records.PREDICTORS
UNSIGNED = [np.dtype(f"u{size}") for size in (1, 2, 4, 8)]
LENGTHS = (1, 7, 8, 9, 33, 257, 1000)
needs_kernels = pytest.mark.skipif(ext is None, reason="no compiled module")


# ---- series


def ar2(rows: int, a: float, b: float, seed: int) -> np.ndarray:
    """x[t] = a x[t-1] + b x[t-2] + noise, rounded."""
    noise = np.random.default_rng(seed).normal(0, 4, rows)
    x = np.zeros(rows + 2)
    for t in range(rows):
        x[t + 2] = a * x[t + 1] + b * x[t] + noise[t]
    return np.rint(x[2:]).astype(np.int64)


SERIES: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "walk": lambda n, g: g.integers(-9, 10, n).cumsum(),
    "steep walk": lambda n, g: g.integers(-(1 << 40), 1 << 40, n).cumsum(),
    "noise": lambda n, g: g.integers(0, 1 << 62, n),
    "units": lambda n, g: 7 * g.integers(-3, 4, n).cumsum() - 100,
    "few": lambda n, g: g.choice([0, 3, 100, 77, 250], n),
    "sparse": lambda n, g: g.integers(1, 99, n) * (g.random(n) < 0.01),
    "bursts": lambda n, g: np.rint(g.normal(0, 1 + 60 * (np.arange(n) // 300 % 2))).astype(np.int64),
    "constant": lambda n, g: np.full(n, -5),
}


def series(name: str, rows: int, dtype: Any, seed: int = 0) -> np.ndarray:
    """One of `SERIES`, as an unsigned dtype."""
    return SERIES[name](rows, np.random.default_rng(seed)).astype(np.int64).astype(dtype)


def leads(rows: int, dtype: str) -> list[np.ndarray]:
    """Six columns, of which three are sums of others and a little noise."""
    g = np.random.default_rng(5)
    a, b = (g.integers(-90, 91, rows).cumsum() for _ in range(2))
    noise = g.integers(-1, 2, (3, rows))
    return [c.astype(dtype) for c in (a, b, a - b + noise[0], g.integers(0, 9, rows), -a + noise[1], a // 2 + noise[2])]


# ---- both decoders


def encode(
    columns: Sequence[np.ndarray | None], profile: str = "balanced", predictor: str = "auto", entropy: str = "auto",
    *, isa: str = "scalar", cross: bool = True,
) -> list[bytes]:  # fmt: skip
    """The compiled encoder, of one instruction set."""
    assert ext is not None
    tried = PREDICTORS.index(predictor) if predictor != "auto" else -1
    code = records.ENTROPIES.index(entropy) if entropy != "auto" else -1
    return list(ext.tsz_encode(columns, records.PROFILES.index(profile), tried, code, cross, isa))


def body_of(found: Sequence[bytes]) -> bytes:
    """Records with the directory of a body before them."""
    ends = np.cumsum([len(record) for record in found])
    return ends.astype("<u4").tobytes() + b"".join(found)


def read(body: bytes, rows: int, dtypes: Sequence[Any], wanted: Sequence[int] | None = None, *, numpy: bool) -> list:
    """The wanted columns of a body."""
    chosen = range(len(dtypes)) if wanted is None else wanted
    out = [np.full(rows, 77, dtype) if j in chosen else None for j, dtype in enumerate(dtypes)]
    with mock.patch.object(records, "ext", None if numpy else ext):
        assert records.decode_body(memoryview(body), rows, out, [np.dtype(d).itemsize for d in dtypes]) == []
    return [column for column in out if column is not None]


Outcome = np.ndarray | tuple[int, str]


def outcome_numpy(record: bytes, rows: int, dtype: Any) -> Outcome:
    """The values of a record of kind 3, or the fault that was found."""
    try:
        return decode_lanes(memoryview(record), rows, np.dtype(dtype), 0, [])
    except CorruptError as error:
        return error.offset, error.reason


def outcome_compiled(record: bytes, rows: int, dtype: Any, isa: str = "scalar") -> Outcome:
    """The same of the compiled decoder."""
    assert ext is not None
    out = np.zeros(rows, dtype)
    found = ext.tsz_decode_record(record, out, isa)
    return out if found is None else tuple(found)


# ---- records by hand


def head(
    predictor: int = 0, entropy: int = 0, bits: int = 16, size: int = 2, *, base: int = 0, unit: int | None = None,
    palette: Sequence[int] | None = None, references: Sequence[tuple[int, int]] = (), linear: Sequence[int] = (),
) -> bytes:  # fmt: skip
    """All that stands before the residuals; `palette` is the differences after the base."""
    mapping = 1 if unit is not None else 2 if palette is not None else 0
    out = bytes([3, predictor, entropy, bits, mapping, len(references)]) + base.to_bytes(size, "little")
    if unit is not None:
        out += unit.to_bytes(size, "little")
    if palette is not None:
        out += struct.pack("<H", len(palette) + 1) + b"".join(map(varint, palette))
    out += b"".join(struct.pack("<Ih", *reference) for reference in references)
    if predictor == 7:
        out += bytes([len(linear)]) + struct.pack(f"<{len(linear)}h", *linear)
    return out


def varint(value: int) -> bytes:
    """7 bits a byte, the lowest first."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def planar(z: np.ndarray, bits: int) -> bytes:
    """Residuals (steps, 8), each in all its bits."""
    padded = np.pad(z.reshape(-1), (0, -z.size % 32)).astype(f"<u{bits // 8}")
    return bytes([bits]) * (len(padded) // 32) + padded.tobytes()


def packed(bits: Sequence[str]) -> bytes:
    """Bits one after the other, from the lowest of each byte up."""
    return np.packbits([int(bit) for bit in "".join(bits)] or np.zeros(0, int), bitorder="little").tobytes()


def low_bits(value: int, count: int) -> str:
    """`count` bits, the lowest first."""
    return f"{value:0{count}b}"[::-1] if count else ""


def rice(z: np.ndarray, least: int, parameters: np.ndarray) -> bytes:
    """Residuals (steps, 8) with parameters (runs, 8)."""
    low, high = [], []
    for run, row in enumerate(parameters):
        for lane, parameter in enumerate(row):
            if parameter:
                k = least + int(parameter) - 1
                for value in z[32 * run : 32 * run + 32, lane].tolist():
                    low.append(low_bits(value & ((1 << k) - 1), k))
                    high.append("0" * (value >> k) + "1")
    flat = parameters.reshape(-1).astype(np.uint8)
    first = packed(low)
    out = bytes([least]) + (flat[::2] | flat[1::2] << 4).tobytes()
    return out + struct.pack("<I", len(first)) + first + packed(high)


def token(z: int, bits: int) -> tuple[int, str]:
    """The token of a residual, and the bits as they are."""
    if z < 32:
        return z, ""
    top = 1 if bits == 64 else 2
    n = z.bit_length() - 1
    return 32 + (n - 5 << top) + (z >> (n - top)) % (1 << top), low_bits(z % (1 << (n - top)), n - top)


def contexts_of(z: np.ndarray, shift: int, levels: Sequence[int]) -> np.ndarray:
    """The context of each residual."""
    found = np.zeros(z.shape, int)
    for lane in range(8):
        recent = 0
        for t, value in enumerate(z[:, lane].tolist()):
            found[t, lane] = sum(min(recent >> shift, 255) >= level for level in levels)
            recent += -(recent >> 3) + min(value, (1 << 20) - 1)
    return found


def canonical(lengths: dict[int, int]) -> dict[int, str]:
    """The code of each token, as text."""
    codes, code, before = {}, -1, 0
    for length, number in sorted((length, number) for number, length in lengths.items()):
        code = (code + 1) << (length - before)
        before = length
        codes[number] = f"{code:0{length}b}"
    return codes if len(codes) > 1 else dict.fromkeys(codes, "")


def tokens(
    z: np.ndarray, bits: int, lengths: Sequence[dict[int, int]], shift: int = 0, levels: Sequence[int] = ()
) -> bytes:
    """Residuals (steps, 8) with a code for each context: the lengths of tokens."""
    out = bytearray([len(lengths)])
    if levels:
        out += bytes([shift, *levels])
    for mine in lengths:
        last = max(mine, default=-1) + 1
        halves = [mine.get(number, 0) for number in range(last + last % 2)]
        out += bytes([last, *(a | b << 4 for a, b in zip(halves[::2], halves[1::2], strict=True))])
    codes = [canonical(mine) for mine in lengths]
    contexts = contexts_of(z, shift, levels)
    streams: list[list[str]] = [[] for _ in range(4)]
    for t, row in enumerate(z.tolist()):
        for lane, value in enumerate(row):
            number, rest = token(value, bits)
            streams[lane % 4].append(codes[contexts[t, lane]][number] + rest)
    found = [packed(stream) for stream in streams]
    return bytes(out) + struct.pack("<III", *map(len, found[:3])) + b"".join(found)


def some_code(numbers: Sequence[int], generator: np.random.Generator, longest: int) -> dict[int, int]:
    """Lengths of a complete code of some tokens, at most `longest` bits each."""
    lengths = [0]
    while len(lengths) < len(numbers):
        short = [k for k, length in enumerate(lengths) if length < longest]
        lengths.append(lengths[k := int(generator.choice(short))] + 1)
        lengths[k] += 1
    return dict(zip(numbers, [max(length, 1) for length in lengths] if len(numbers) == 1 else lengths, strict=True))
