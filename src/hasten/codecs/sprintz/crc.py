"""CRC-32C, compiled where it can be, else in NumPy: the same number from both."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import numpy as np

from hasten._core import dispatch
from hasten._native import ext

__all__ = ["crc32c"]

_POLYNOMIAL = 0x82F63B78  # 0x1EDC6F41 with its bits reversed
_LANES = 256  # pieces that the NumPy version takes side by side


def crc32c(data: Any, crc: int = 0) -> int:
    """The CRC-32C (Castagnoli) of a buffer, going on from `crc`.

    Args:
        data: A contiguous buffer; its bytes count.
        crc: The CRC of the bytes before, 0 for none.

    Returns:
        A number in [0, 2^32).

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    if ext is None:
        return crc32c_numpy(np.frombuffer(data, np.uint8), crc)
    return int(ext.crc32c(data, crc, dispatch.isa()))


@cache
def _table() -> np.ndarray:  # (256,), uint32
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> np.uint32(1)) ^ np.where(table & np.uint32(1), np.uint32(_POLYNOMIAL), np.uint32(0))
    return table


def _times(matrix: np.ndarray, registers: np.ndarray) -> np.ndarray:  # (32,), (n,) -> (n,)
    """A linear map of 32 bits, given as what each bit becomes, of many registers."""
    result = np.zeros_like(registers)
    for bit in range(32):
        result ^= np.where(registers >> np.uint32(bit) & np.uint32(1), matrix[bit], np.uint32(0))
    return result


@lru_cache(maxsize=256)
def _zeros(size: int) -> np.ndarray:  # (32,), uint32
    """What `size` zero bytes do to each bit of the register."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    if size == 0:
        return bits
    if size == 1:
        return (bits >> np.uint32(8)) ^ _table()[bits & np.uint32(0xFF)]
    half = _zeros(size // 2)
    whole = _times(half, half)
    return _times(_zeros(1), whole) if size % 2 else whole


def crc32c_numpy(data: np.ndarray, crc: int = 0) -> int:  # (bytes,), uint8
    """`crc32c` without the compiled module: pieces of one length side by side, then joined pair by pair."""
    register = crc ^ 0xFFFFFFFF
    length = data.size // _LANES
    if length >= 8:
        lanes = np.zeros(_LANES, np.uint32)
        lanes[0] = register
        for column in data[: _LANES * length].reshape(_LANES, length).T:
            lanes = (lanes >> np.uint32(8)) ^ _table()[(lanes ^ column) & np.uint32(0xFF)]
        size = length
        while lanes.size > 1:
            lanes = _times(_zeros(size), lanes[0::2]) ^ lanes[1::2]
            size *= 2
        register = int(lanes[0])
        data = data[_LANES * length :]
    table = _table().tolist()
    for byte in data.tolist():
        register = register >> 8 ^ table[(register ^ byte) & 0xFF]
    return register ^ 0xFFFFFFFF
