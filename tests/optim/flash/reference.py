"""Slow, obvious versions of the formats and steps of the flash room, from the formulas, in float64.

A 16-bit format is a ladder: its numbers of one sign in order, rung 0 is zero, the topmost is infinity. `position` says
where a size stands on it, between two rungs in proportion. A split weight is a position in units of a fraction of a
rung; the word is the nearest rung, the correction the rest.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

DIGITS = {"bfloat16": 7, "float16": 10}
BIAS = {"bfloat16": 127, "float16": 15}
TOP = {"bfloat16": 255 << 7, "float16": 31 << 10}  # the rung of infinity
NAN = {"bfloat16": 0x7FC0, "float16": 0x7E00}
FRACTIONS = {("bfloat16", 24): 256, ("bfloat16", 32): 65536, ("float16", 24): 256, ("float16", 32): 8192}

# Weights --------------------------------------------------------------------------------------------------------------


def position(x: np.ndarray, kind: str) -> np.ndarray:
    """Where the sizes of float32 numbers stand on the ladder; infinity where they are beyond it."""
    with np.errstate(invalid="ignore"):  # a signalling NaN
        size = np.abs(x.astype(np.float64))
    lowest, rungs = 1 - BIAS[kind], 2.0 ** DIGITS[kind]
    finite = np.where(np.isfinite(size), size, 1.0)
    exponent = np.maximum(np.frexp(finite)[1] - 1, lowest)
    found = (exponent - lowest) * rungs + finite * 2.0**-exponent * rungs
    if kind == "float16":  # below 2^-14, float32 holds 13 binary digits of x * 2^-112 between two rungs
        found = np.rint(found * 8192) / 8192
    return np.where(np.isfinite(size), np.minimum(found, TOP[kind]), np.where(np.isnan(size), np.nan, TOP[kind]))


def value(place: np.ndarray, kind: str) -> np.ndarray:
    """The size at a position, float64."""
    lowest, rungs = 1 - BIAS[kind], 2.0 ** DIGITS[kind]
    octave = np.maximum(np.floor(place / rungs), 1.0)
    size = (place / rungs - octave + 1.0) * 2.0 ** (octave - 1 + lowest)
    return np.where(place > TOP[kind], np.nan, np.where(place == TOP[kind], np.inf, size))


def split(x: np.ndarray, kind: str, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Words (uint16) and corrections (int64) of float32 numbers."""
    parts, top = FRACTIONS[kind, bits], TOP[kind]
    place = position(x, kind)
    units = np.floor(parts * np.where(np.isnan(place), 0, place) + 0.5)
    units = np.where(place < top, np.minimum(units, parts * top - 1), units)  # what is finite stays finite
    rung = np.floor(units / parts + 0.5)
    correction = (units - parts * rung).astype(np.int64)
    word = rung.astype(np.int64) | np.where(np.signbit(x), 0x8000, 0)
    word, correction = np.where(np.isnan(place), NAN[kind], word), np.where(np.isnan(place), 0, correction)
    return word.astype(np.uint16), correction


def join(word: np.ndarray, correction: np.ndarray, kind: str, bits: int) -> np.ndarray:
    """float64 numbers of words and corrections; NaN where there is no such pair."""
    place = (word & 0x7FFF) + correction / FRACTIONS[kind, bits]
    size = np.where(place < 0, np.nan, value(np.maximum(place, 0), kind))
    return np.where(word & 0x8000, -size, size)


def chance(place: int, salt: int) -> int:
    """16 bits for an element."""
    x = (place * 0x9E3779B1 + salt) % 2**32
    x = (x ^ (x >> 15)) * 0x85EBCA77 % 2**32
    x = (x ^ (x >> 13)) * 0xC2B2AE3D % 2**32
    return x >> 16


def round_randomly(x: np.ndarray, kind: str, salt: int) -> np.ndarray:
    """Words of finite float32 numbers, one by one."""
    words = []
    for i, (place, number) in enumerate(zip(position(x, kind), x, strict=True)):
        more = chance(i, salt) / 65536 if kind == "bfloat16" else (chance(i, salt) >> 3) / 8192
        words.append(math.floor(place + more) | (0x8000 if np.signbit(number) else 0))
    return np.array(words, dtype=np.uint16)


# States ---------------------------------------------------------------------------------------------------------------


def dither(t: int) -> int:
    """Of step t."""
    return t * 0x9E37 % 65536


def stored_scale(largest: float, dither: int) -> float:
    """A group's scale as it is stored, of its largest size."""
    if not largest < 2.0**122:
        return math.nan
    if largest < 2.0**-110:
        return 0.0
    pattern = int(np.float32(largest).view(np.uint32))
    return float(np.uint32((pattern + dither) >> 16 << 16).view(np.float32))


def exact_codes(values: np.ndarray, group_size: int, *, is_variance: bool) -> tuple[np.ndarray, list[float]]:
    """Codes as real numbers, before they are rounded, and the largest size of each group; roots for a variance."""
    values, codes, largest = values.astype(np.float64).reshape(-1), [], []
    for start in range(0, len(values), group_size):
        group = values[start : start + group_size]
        s = float(np.abs(group).max())
        largest.append(s)
        if not 2.0**-110 <= s < 2.0**122:
            codes.append(np.zeros(len(group)))
        elif is_variance:
            codes.append(np.where(group > 0, np.maximum(255.0 * group / s, 1.0), 0.0))
        else:
            codes.append(254.0 * group / (s + np.abs(group)))
    return np.concatenate([np.zeros(0), *codes]), largest


def decode_momentum(codes: Any, scales: Any, group_size: int) -> np.ndarray:
    """One element after the other."""
    return np.array([float(scales[i // group_size]) * int(c) / (254 - abs(int(c))) for i, c in enumerate(codes)])


def decode_root(codes: Any, scales: Any, group_size: int) -> np.ndarray:
    """The square roots of a variance."""
    return np.array([float(scales[i // group_size]) * int(c) / 255 for i, c in enumerate(codes)])


# Steps ----------------------------------------------------------------------------------------------------------------


def step(
    rule: str, t: int, x: np.ndarray, g: np.ndarray, m: np.ndarray | None, root: np.ndarray | None, o: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """One step in float64: the new weight, momentum and root of the variance.

    `o` holds lr, weight_decay, decoupled, maximize, and betas, eps, momentum, dampening, nesterov as the rule needs.
    """
    lr, decay = o["lr"], o["weight_decay"]
    if o["maximize"]:
        g = -g
    if o["decoupled"]:
        x = x - lr * decay * x
    else:
        g = g + decay * x
    if rule == "adam":
        b1, b2 = o["betas"]
        m = b1 * m + (1 - b1) * g
        v = b2 * root**2 + (1 - b2) * g**2
        x = x - lr * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + o["eps"])
        return x, m, np.sqrt(v)
    if rule == "lion":
        b1, b2 = o["betas"]
        return x - lr * np.sign(b1 * m + (1 - b1) * g), b2 * m + (1 - b2) * g, None
    if rule == "momentum":
        mu = o["momentum"]
        m = mu * m + (1.0 if t == 1 else 1 - o["dampening"]) * g
        return x - lr * (g + mu * m if o["nesterov"] else m), m, None
    return x - lr * g, None, None


# The published scheme (arXiv 2602.23349) ------------------------------------------------------------------------------


def published_split(x: float, narrow: float, kind: str, limit: int) -> int:
    """The correction of `narrow`, which is `x` rounded to 16 bits: `limit` is 127 or 32767."""
    exponent = max(math.frexp(narrow)[1] - 1, 1 - BIAS[kind]) if narrow else 1 - BIAS[kind]
    ratio = max(-1.0, min(1.0, (x - narrow) / 2.0 ** (exponent - DIGITS[kind] - 1)))
    return int(math.copysign(math.floor(abs(ratio) * limit + 0.5), ratio))


def published_join(narrow: float, code: int, kind: str, limit: int) -> float:
    """The weight of a 16-bit weight and its correction."""
    exponent = max(math.frexp(narrow)[1] - 1, 1 - BIAS[kind]) if narrow else 1 - BIAS[kind]
    return narrow + code / limit * 2.0 ** (exponent - DIGITS[kind] - 1)


def published_codes(values: np.ndarray, *, is_variance: bool) -> tuple[np.ndarray, np.ndarray]:
    """Codes (int8 or uint8) and float16 scales for groups of 32."""
    codes, scales = [], []
    for start in range(0, len(values), 32):
        group = [math.sqrt(x) if is_variance else float(x) for x in values[start : start + 32]]
        s = max(max(abs(x) for x in group), 1e-12)
        scales.append(s)
        for x in group:
            z = x / s
            codes.append(math.floor(255 * z + 0.5) if is_variance else math.floor(127 * 2 * z / (1 + abs(z)) + 0.5))
    return np.array(codes, dtype=np.uint8 if is_variance else np.int8), np.array(scales, dtype=np.float16)


def published_decode(codes: np.ndarray, scales: np.ndarray, *, is_variance: bool) -> np.ndarray:
    """The values of these codes."""
    found = []
    for i, code in enumerate(codes):
        s = float(scales[i // 32])
        y = int(code) / (255 if is_variance else 127)
        found.append((y * s) ** 2 if is_variance else y / (2 - abs(y)) * s)
    return np.array(found)
