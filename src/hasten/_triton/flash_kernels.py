"""The kernels of flash.py, as plain functions that `load()` turns into Triton ones.

What is computed stands in hasten/optim/flash/ (splitting.py, companding.py, rules.py), operation by operation in the
same order: under Triton's interpreter the bits are those of the eager backend. On a GPU, multiplications fuse with
additions, and `/` is off by up to two units in the last place; so a weight may differ in its last bits, and a code by
one where a value lies at the border of two. The square root is exact: the approximate one takes small variances for
zero. Sizes are compared as bit patterns, which orders infinities and NaN above all numbers.

The file can be imported without triton: `tl` and the constants get their meaning in `load()`. `TRITON_INTERPRET=1` must
be set before triton is imported, if at all.
"""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any

__all__ = ["ADDRESSES", "FIXED_COLUMNS", "NUMBER_COLUMNS", "SETTING_COLUMNS", "load"]

tl: Any = None  # triton.language
constexpr: Any = None  # only named in annotations, which triton reads as text

# Columns of the tables; see flash.py.
FIXED_COLUMNS, NUMBER_COLUMNS, SETTING_COLUMNS = 8, 12, 11
ADDRESSES = 3  # of the step counter, the learning rate and the decay

# Constants of the kernels, which `load()` makes Triton's.
_FIXED: Any = FIXED_COLUMNS
_NUMBERS: Any = NUMBER_COLUMNS
_SETTINGS: Any = SETTING_COLUMNS
_ADDRESSES: Any = ADDRESSES
SIZE: Any = 0x7FFFFFFF  # of a float, without its sign
INFINITY: Any = 0x7F800000
NAN: Any = 0x7FC00000
HALF_INFINITY: Any = 0x0F800000  # of float16, as the pattern of x * 2^-112
HALF_NAN: Any = 0x0FC00000
HUGE: Any = 0x7C800000  # 2^122: a state at or above it counts as not finite
TINY: Any = 0x08800000  # 2^-110: a group below it is zero
ROUND: Any = 12582912.0  # 1.5 * 2^23: adding it rounds to a whole number, halves to the even one

_CONSTANTS = (
    "_FIXED", "_NUMBERS", "_SETTINGS", "_ADDRESSES", "SIZE", "INFINITY", "NAN", "HALF_INFINITY",
    "HALF_NAN", "HUGE", "TINY", "ROUND",
)  # fmt: skip
_FUNCTIONS = (
    "_at", "_bits", "_float", "_whole", "_hash", "_half_size", "_read_weight", "_write_weight", "_write_narrow",
    "_write_group", "_read_scales", "_read_momentum", "_write_momentum", "_read_variance", "_write_variance", "_step",
    "_prepare",
)  # fmt: skip


@functools.cache
def load() -> SimpleNamespace:
    """The kernels `step` and `prepare`, compiled at their first launch; imports triton."""
    import triton
    import triton.language

    names = globals()
    names["tl"] = triton.language
    for name in _CONSTANTS:  # a kernel sees those globals only that are constants by type
        names[name] = triton.language.constexpr(names[name])
    for name in _FUNCTIONS:
        names[name] = triton.jit(names[name])
    return SimpleNamespace(step=names["_step"], prepare=names["_prepare"])


# Bits ----------------------------------------------------------------------------------------------------------------


def _at(address, TYPE: constexpr, ALIGNED: constexpr):
    """An address as a pointer. Where all are multiples of 16, memory is moved in vectors."""
    pointer = address.to(tl.pointer_type(TYPE))
    if ALIGNED:
        pointer = tl.multiple_of(pointer, 16)
    return pointer


def _bits(x):
    return x.to(tl.int32, bitcast=True)


def _float(bits):
    return bits.to(tl.float32, bitcast=True)


def _whole(x):
    """The nearest whole number, for sizes below 2^22."""
    return (x + ROUND) - ROUND


def _hash(place, salt):
    """16 bits of an element's place and the step: the chance by which its weight is rounded up."""
    x = place.to(tl.uint32) * 0x9E3779B1 + salt.to(tl.uint32, bitcast=True)
    x = (x ^ (x >> 15)) * 0x85EBCA77
    x = (x ^ (x >> 13)) * 0xC2B2AE3D
    return (x >> 16).to(tl.int32)


def _half_size(x, pattern):
    """The pattern of |x| * 2^-112, of which float16 keeps bits 13 to 27; its range ends cut to its infinity and NaN."""
    size = _bits(tl.abs(x) * 1.925929944387236e-34)
    over = tl.where((pattern & SIZE) > INFINITY, HALF_NAN, HALF_INFINITY)
    return tl.where(size > HALF_INFINITY, over, size)


# Weights -------------------------------------------------------------------------------------------------------------


def _read_weight(weight, correction, place, inside, WEIGHT: constexpr, BITS: constexpr, ALIGNED: constexpr):
    """Whole weights, or gradients, for which BITS is 0."""
    if WEIGHT == "float32":
        x = tl.load(_at(weight, tl.float32, ALIGNED) + place, mask=inside, other=0.0)
    else:
        word = tl.load(_at(weight, tl.int16, ALIGNED) + place, mask=inside, other=0).to(tl.int32)
        if BITS == 8:
            low = tl.load(_at(correction, tl.int8, ALIGNED) + place, mask=inside, other=0).to(tl.int32) << 8
        elif BITS == 16:
            low = tl.load(_at(correction, tl.int16, ALIGNED) + place, mask=inside, other=0).to(tl.int32)
        else:
            low = word * 0
        if WEIGHT == "bfloat16":
            x = _float((word << 16) + low)
        else:
            if BITS == 8:
                low = low >> 3
            size = ((word & 0x7FFF) << 13) + low
            x = _bits(_float(size) * 5.192296858534828e33)
            x = tl.where(size >= HALF_INFINITY, tl.where(size > HALF_INFINITY, NAN, INFINITY), x)
            x = _float(x | ((word & 0x8000) << 16))
    return x


def _write_weight(
    x, weight, correction, place, inside, salt,
    WEIGHT: constexpr, BITS: constexpr, STOCHASTIC: constexpr, ALIGNED: constexpr,
):  # fmt: skip
    if WEIGHT == "float32":
        tl.store(_at(weight, tl.float32, ALIGNED) + place, x, mask=inside)
    elif BITS == 0:
        _write_narrow(x, weight, place, inside, salt, WEIGHT, STOCHASTIC, ALIGNED)
    else:
        pattern = tl.where(x != x, NAN, _bits(x))
        if WEIGHT == "bfloat16":
            if BITS == 16:
                low = pattern
                word = (pattern + 0x8000) >> 16
            else:
                size = pattern & SIZE  # what would round to infinity keeps 24 bits by truncation
                near = (size < INFINITY) & (size > INFINITY - 0x81)
                rounded = tl.where(near, pattern & -0x100, pattern) + 0x80
                low = rounded >> 8
                word = (rounded + 0x8000) >> 16
        else:
            size = _half_size(x, pattern)
            if BITS == 16:
                word = (size + 0x1000) >> 13
                low = size - (word << 13)
            else:
                near = (size < HALF_INFINITY) & (size > HALF_INFINITY - 0x11)
                rounded = tl.where(near, HALF_INFINITY - 0x20, size) + 0x10
                low = rounded >> 5
                word = (rounded + 0x1000) >> 13
            word = word | ((pattern >> 16) & 0x8000)
        tl.store(_at(weight, tl.int16, ALIGNED) + place, word.to(tl.int16), mask=inside)
        if BITS == 16:
            tl.store(_at(correction, tl.int16, ALIGNED) + place, low.to(tl.int16), mask=inside)
        else:
            tl.store(_at(correction, tl.int8, ALIGNED) + place, low.to(tl.int8), mask=inside)


def _write_narrow(x, weight, place, inside, salt, WEIGHT: constexpr, STOCHASTIC: constexpr, ALIGNED: constexpr):
    """A 16-bit weight without a correction: rounded to the nearest (halves to the even one), or at random."""
    pattern = tl.where(x != x, NAN, _bits(x))
    if WEIGHT == "bfloat16":
        more = _hash(place, salt) if STOCHASTIC else 0x7FFF + ((pattern >> 16) & 1)
        word = (pattern + more) >> 16
    else:
        size = _half_size(x, pattern)
        more = _hash(place, salt) >> 3 if STOCHASTIC else 0xFFF + ((size >> 13) & 1)
        word = ((size + more) >> 13) | ((pattern >> 16) & 0x8000)
    tl.store(_at(weight, tl.int16, ALIGNED) + place, word.to(tl.int16), mask=inside)


# States --------------------------------------------------------------------------------------------------------------


def _write_group(sizes, scales, group, there, dither, ALIGNED: constexpr):
    """By what each group is encoded, (groups, 1), 0 where there is nothing to encode; its scale is stored."""
    most = tl.max(sizes, axis=1)
    broken = most >= HUGE
    empty = most < TINY
    stored = tl.where(broken, 0x7FC0, tl.where(empty, 0, (most + dither) >> 16))
    tl.store(_at(scales, tl.int16, ALIGNED) + group, stored.to(tl.int16), mask=there)
    return _float(tl.where(broken | empty, 0, most))[:, None]


def _read_scales(scales, group, there, ALIGNED: constexpr):
    word = tl.load(_at(scales, tl.int16, ALIGNED) + group, mask=there, other=0)
    return _float(word.to(tl.int32) << 16)[:, None]


def _read_momentum(codes, scales, place, inside, group, there, QUANTIZED: constexpr, ALIGNED: constexpr):
    if QUANTIZED:
        code = tl.load(_at(codes, tl.int8, ALIGNED) + place, mask=inside, other=0).to(tl.float32)
        m = _read_scales(scales, group, there, ALIGNED) * (code / (254.0 - tl.abs(code)))
    else:
        m = tl.load(_at(codes, tl.float32, ALIGNED) + place, mask=inside, other=0.0)
    return m


def _write_momentum(m, codes, scales, place, inside, group, there, dither, QUANTIZED: constexpr, ALIGNED: constexpr):
    if QUANTIZED:
        used = _write_group(_bits(m) & SIZE, scales, group, there, dither, ALIGNED)
        code = _whole(m / ((used + tl.abs(m)) * 0.003937007874015748))  # 1 / 254
        code = tl.where(used > 0, code, 0.0).to(tl.int32)
        tl.store(_at(codes, tl.int8, ALIGNED) + place, code.to(tl.int8), mask=inside)
    else:
        tl.store(_at(codes, tl.float32, ALIGNED) + place, m, mask=inside)


def _read_variance(codes, scales, place, inside, group, there, QUANTIZED: constexpr, ALIGNED: constexpr):
    if QUANTIZED:
        code = tl.load(_at(codes, tl.uint8, ALIGNED) + place, mask=inside, other=0).to(tl.float32)
        root = (code / 255.0) * _read_scales(scales, group, there, ALIGNED)
        v = root * root
    else:
        v = tl.load(_at(codes, tl.float32, ALIGNED) + place, mask=inside, other=0.0)
    return v


def _write_variance(root, codes, scales, place, inside, group, there, dither, QUANTIZED: constexpr, ALIGNED: constexpr):
    if QUANTIZED:
        used = _write_group(_bits(root) & SIZE, scales, group, there, dither, ALIGNED)
        code = _whole(root * ((1.0 / used) * 255.0))
        code = tl.where((root > 0) & (code < 1.0), 1.0, code)
        code = tl.where(used > 0, code, 0.0).to(tl.int32)
        tl.store(_at(codes, tl.uint8, ALIGNED) + place, code.to(tl.uint8), mask=inside)
    else:
        tl.store(_at(codes, tl.float32, ALIGNED) + place, root * root, mask=inside)


# Kernels -------------------------------------------------------------------------------------------------------------


def _step(
    fixed,  # int64 (tensors, FIXED_COLUMNS)
    owners,  # int32 (blocks,)
    gradients,  # int64 (tensors,)
    numbers,  # float32 (tensors, NUMBER_COLUMNS)
    words,  # the same memory, int32
    RULE: constexpr,
    WEIGHT: constexpr,
    BITS: constexpr,  # of the correction: 0, 8, 16
    QUANTIZED: constexpr,
    GROUP: constexpr,
    STOCHASTIC: constexpr,
    NESTEROV: constexpr,
    COUPLED: constexpr,
    ALIGNED: constexpr,
    BLOCK: constexpr,
):
    """One block of BLOCK elements, as (groups, GROUP): decode, update, encode, in place."""
    program = tl.program_id(0)
    tensor = tl.load(owners + program)
    row = fixed + tensor * _FIXED
    weight, correction, gradient = tl.load(row), tl.load(row + 1), tl.load(gradients + tensor)
    size = tl.load(row + 6)
    if ALIGNED:
        size = tl.multiple_of(size, 16)
    start = (program - tl.load(row + 7)) * BLOCK
    rows = tl.arange(0, BLOCK // GROUP)
    place = start + (rows[:, None] * GROUP + tl.arange(0, GROUP)[None, :])
    inside = place < size
    group = start // GROUP + rows
    there = group * GROUP < size

    row_of_numbers = numbers + tensor * _NUMBERS
    step, keep = tl.load(row_of_numbers), tl.load(row_of_numbers + 1)
    coupled, sign = tl.load(row_of_numbers + 2), tl.load(row_of_numbers + 3)
    beta1, rest1 = tl.load(row_of_numbers + 4), tl.load(row_of_numbers + 5)
    beta2, rest2 = tl.load(row_of_numbers + 6), tl.load(row_of_numbers + 7)
    root_factor, epsilon_factor = tl.load(row_of_numbers + 8), tl.load(row_of_numbers + 9)
    dither = tl.load(words + tensor * _NUMBERS + 10)
    salt = tl.load(words + tensor * _NUMBERS + 11)

    g = _read_weight(gradient, gradient, place, inside, WEIGHT, 0, ALIGNED) * sign
    x = _read_weight(weight, correction, place, inside, WEIGHT, BITS, ALIGNED)
    if COUPLED:
        g = g + coupled * x
    if RULE == "plain":
        x = x * keep - step * g
    else:
        codes, scales = tl.load(row + 2), tl.load(row + 3)
        old = _read_momentum(codes, scales, place, inside, group, there, QUANTIZED, ALIGNED)
        if RULE == "lion":
            m = beta2 * old + rest2 * g
            direction = beta1 * old + rest1 * g
            direction = tl.where(direction > 0, 1.0, tl.where(direction < 0, -1.0, direction))  # NaN stays
            x = x * keep - step * direction
        elif RULE == "momentum":
            m = beta1 * old + rest1 * g
            direction = g + beta1 * m if NESTEROV else m
            x = x * keep - step * direction
        else:
            m = beta1 * old + rest1 * g
            root_codes, root_scales = tl.load(row + 4), tl.load(row + 5)
            v = _read_variance(root_codes, root_scales, place, inside, group, there, QUANTIZED, ALIGNED)
            root = tl.sqrt_rn(beta2 * v + (rest2 * g) * g)
            x = x * keep - m / (root * root_factor + epsilon_factor)
            _write_variance(root, root_codes, root_scales, place, inside, group, there, dither, QUANTIZED, ALIGNED)
        _write_momentum(m, codes, scales, place, inside, group, there, dither, QUANTIZED, ALIGNED)
    _write_weight(x, weight, correction, place, inside, salt, WEIGHT, BITS, STOCHASTIC, ALIGNED)


def _prepare(
    addresses,  # int64 (tensors, ADDRESSES): step counter; learning rate and decay or 0
    settings,  # float64 (tensors, SETTING_COLUMNS)
    numbers,  # float32 (tensors, NUMBER_COLUMNS)
    words,  # the same memory, int32
    count,
    RULE: constexpr,
    BLOCK: constexpr,
):
    """Count the step of each tensor, and make its numbers (`numbers` of rules.py) without a wait for the host."""
    tensor = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = tensor < count
    counter = tl.load(addresses + tensor * _ADDRESSES, mask=inside, other=0).to(tl.pointer_type(tl.float32))
    counted = tl.load(counter, mask=inside, other=0.0) + 1.0
    tl.store(counter, counted, mask=inside)
    t = counted.to(tl.float64)

    row = settings + tensor * _SETTINGS
    place = tl.load(addresses + tensor * _ADDRESSES + 1, mask=inside, other=0)
    fallback = tl.load(row, mask=inside, other=0.0)
    lr = tl.load(place.to(tl.pointer_type(tl.float32)), mask=inside & (place != 0), other=0.0).to(tl.float64)
    lr = tl.where(place != 0, lr, fallback)
    place = tl.load(addresses + tensor * _ADDRESSES + 2, mask=inside, other=0)
    fallback = tl.load(row + 1, mask=inside, other=0.0)
    decay = tl.load(place.to(tl.pointer_type(tl.float32)), mask=inside & (place != 0), other=0.0).to(tl.float64)
    decay = tl.where(place != 0, decay, fallback)
    coupled, sign = tl.load(row + 2, mask=inside, other=0.0), tl.load(row + 3, mask=inside, other=1.0)
    beta1, beta2 = tl.load(row + 4, mask=inside, other=0.0), tl.load(row + 6, mask=inside, other=0.0)
    rest1 = tl.load(row + 8, mask=inside, other=1.0)
    root_factor = lr * 0.0
    epsilon_factor = root_factor
    if RULE == "adam":
        epsilon = tl.load(row + 9, mask=inside, other=0.0)
        step = lr / (1.0 - tl.exp2(t * tl.load(row + 5, mask=inside, other=-1.0)))  # log2 of beta
        step = tl.where(step > 0, step, 1e-300)
        root_factor = 1.0 / (tl.sqrt(1.0 - tl.exp2(t * tl.load(row + 7, mask=inside, other=-1.0))) * step)
        epsilon_factor = epsilon / step
        possible = (root_factor < 3e38) & (epsilon_factor < 3e38)
        root_factor = tl.where(possible, root_factor, 0.0)  # no learning rate, no step
        epsilon_factor = tl.where(possible, epsilon_factor, tl.where(lr == lr, float("inf"), lr))
    elif RULE == "momentum":  # torch's first step takes the whole gradient, whatever the dampening
        rest1 = tl.where(t == 1.0, 1.0, rest1)

    row = numbers + tensor * _NUMBERS
    tl.store(row, lr.to(tl.float32), mask=inside)
    tl.store(row + 1, (1.0 - decay).to(tl.float32), mask=inside)
    tl.store(row + 2, coupled.to(tl.float32), mask=inside)
    tl.store(row + 3, sign.to(tl.float32), mask=inside)
    tl.store(row + 4, beta1.to(tl.float32), mask=inside)
    tl.store(row + 5, rest1.to(tl.float32), mask=inside)
    tl.store(row + 6, beta2.to(tl.float32), mask=inside)
    tl.store(row + 7, (1.0 - beta2).to(tl.float32), mask=inside)
    tl.store(row + 8, root_factor.to(tl.float32), mask=inside)
    tl.store(row + 9, epsilon_factor.to(tl.float32), mask=inside)
    whole = counted.to(tl.int64)
    salt = tl.load(settings + tensor * _SETTINGS + 10, mask=inside, other=0.0).to(tl.int64)
    row = words + tensor * _NUMBERS
    tl.store(row + 10, ((whole * 0x9E37) & 0xFFFF).to(tl.int32), mask=inside)
    tl.store(row + 11, (salt + whole * 0x9E3779B1).to(tl.int32), mask=inside)
