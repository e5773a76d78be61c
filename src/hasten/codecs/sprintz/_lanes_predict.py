"""Values from residuals, eight lanes at a time: the reference of _native/sprintz/predict_impl.hpp.

Arrays are (steps, 8) of int64, which wraps. Values are kept modulo 2^bits, from 0 up where that is fewer than 64.
"""

from __future__ import annotations

import numpy as np

from ._lanes_head import COUNT, Head

__all__ = ["undo_prediction"]

BLOCK = 8  # steps for which FIRE and nLMS hold still
TAPS = {4: 1, 5: 2, 6: 4}  # of nLMS, by predictor


def undo_prediction(z: np.ndarray, head: Head) -> np.ndarray:
    """Values in lanes.

    Args:
        z: (steps, 8) of uint64, residuals below 2^bits.
        head: Says which predictor.

    Returns:
        (steps, 8) of int64.
    """
    if head.predictor == 0:
        return z.view(np.int64)
    e = (z >> np.uint64(1)).view(np.int64) ^ -(z & np.uint64(1)).view(np.int64)
    if head.predictor == 3:
        return _fire(e)
    if head.predictor in TAPS:
        return _nlms(e, head.bits, TAPS[head.predictor])
    if head.predictor == 7:
        return _linear(e, head.bits, head.coefficients)
    if head.predictor == 2:
        e = e.copy()
        e[1:] = np.cumsum(e[1:], axis=0)
    return _wrapped(np.cumsum(e, axis=0), head.bits)


def _wrapped(v: np.ndarray, bits: int) -> np.ndarray:
    return v & np.int64((1 << bits) - 1) if bits < 64 else v


def _signed(v: np.ndarray, bits: int) -> np.ndarray:
    unused = np.int64(64 - bits)
    return v << unused >> unused


def _fire(e: np.ndarray) -> np.ndarray:
    d = np.zeros((len(e) + 1, COUNT), np.int64)  # d[t + 1]: the difference of step t
    counter = np.zeros(COUNT, np.int64)
    for first in range(0, len(e), BLOCK):
        last = min(first + BLOCK, len(e))
        coefficient = counter >> 1
        for t in range(first, last):
            d[t + 1] = _signed(e[t] + (d[t] * coefficient >> 16), 16)
        gradient = (np.sign(e[first + 1 : last : 2]) * d[first + 1 : last : 2]).sum(axis=0)
        counter = _signed(counter + (_signed(gradient, 16) >> 2), 32)
    return _wrapped(np.cumsum(d[1:], axis=0), 16)


def _nlms(e: np.ndarray, bits: int, taps: int) -> np.ndarray:
    shift, rate, low, high = (15, 128, -(1 << 14), (1 << 15) - 1) if taps == 1 else (16, 64, -(1 << 17), 1 << 17)
    half = np.int64(1 << (shift - 1))
    d = np.zeros((len(e) + taps, COUNT), np.int64)  # d[t + taps]: the difference of step t
    weights = np.zeros((taps, COUNT), np.int64)  # the oldest difference's first
    for first in range(0, len(e), BLOCK):
        last = min(first + BLOCK, len(e))
        for t in range(first, last):
            predicted = ((weights * d[t : t + taps]).sum(axis=0) + half) >> shift
            d[t + taps] = _signed(e[t] + predicted, bits)
        sign = np.sign(e[first:last])
        moved = [(sign * np.sign(d[first + j : last + j])).sum(axis=0) for j in range(taps)]
        weights = np.clip(weights + rate * np.array(moved), low, high)
    return _wrapped(np.cumsum(d[taps:], axis=0), bits)


def _linear(e: np.ndarray, bits: int, coefficients: list[int]) -> np.ndarray:
    order = len(coefficients)
    v = _wrapped(np.cumsum(e[:order], axis=0), bits)
    v = np.concatenate([v, np.zeros((max(len(e) - order, 0), COUNT), np.int64)])
    backwards = np.array(coefficients[::-1], np.int64)
    half = np.int64(2048)
    for t in range(order, len(e)):
        v[t] = _wrapped((backwards @ v[t - order : t] + half >> 12) + e[t], bits)
    return v
