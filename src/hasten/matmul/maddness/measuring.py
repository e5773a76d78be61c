"""How long a layer takes on this machine, dense and as tables: the best of interleaved rounds, kept in memory.

What else runs on the machine only adds to a time, and more to those of many threads: the fastest round has least of it.

The dense forms are given every advantage: inputs and weights are in bfloat16 or int8 beforehand (int8 weights packed,
the output not rounded), and a convolution has the better of both layouts of images. The tables' time is that of the
whole operator, with its encoding, scan, layout and dtype conversions, by the compiled kernels where there are some.
Inputs are random and small enough to stay in the caches; times of more rows are scaled up. Only ratios of times from
one call of `measure` mean something.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..._core.checks import check, whole
from .operators import maddness_conv2d, maddness_linear
from .packed import Packed
from .patches import Geometry
from .planner import Timing
from .trees import LEAVES

__all__ = ["forget", "interleave", "measure", "measure_conv2d"]

ROWS = 4096  # at most so many are timed
PRODUCTS = 1 << 29  # and at most so many multiplications
ROUNDS = 7
ROUND = 1e-3  # seconds of one function in one round, at least

How = tuple[torch.dtype, str, int, int]  # dtype, accumulate, upcast_every, threads


def interleave(
    functions: Mapping[str, Callable[[], Any]],
    *,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Seconds of a call of each function: the least of rounds in which all of them take turns.

    Args:
        functions: what to time, by name.
        rounds: how many, at least 1.
        clock: seconds, for tests.

    Returns:
        Seconds by name.

    >>> ticks = iter(range(100))
    >>> interleave({"a": lambda: None}, rounds=3, clock=lambda: float(next(ticks)))
    {'a': 1.0}
    """
    whole("interleave", "rounds", rounds, low=1)
    counts = {}
    for name, function in functions.items():
        function()  # the first call allocates and compiles
        start = clock()
        function()
        counts[name] = max(1, min(1000, int(ROUND / max(clock() - start, 1e-9))))
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = clock()
            for _ in range(counts[name]):
                function()
            times[name].append((clock() - start) / counts[name])
    return {name: min(values) for name, values in times.items()}


def measure(
    rows: int,
    columns: int,
    outputs: int,
    ncodebooks: int,
    leaves: int = 16,
    dtype: torch.dtype = torch.float32,
    accumulate: str = "exact",
    upcast_every: int = 16,
) -> Timing:
    """Time a linear layer and its tables.

    Args:
        rows: N of a call, at least 1; at most 4096 of them are timed, and the time is scaled up.
        columns: D, at least `ncodebooks`.
        outputs: M.
        ncodebooks, leaves: C and K.
        dtype: of the rows that the tables are given.
        accumulate, upcast_every: how the tables are summed, as for `Maddness`.

    Returns:
        Seconds of a call; `dense` holds float32, bfloat16 and, where oneDNN has it, int8. The same question is
        answered from memory (`forget` empties it), for each number of threads apart.

    Raises:
        ValueError: sizes below 1, or more codebooks than columns.
    """
    _check_sizes("measure", rows, columns, outputs, ncodebooks, leaves)
    how = (dtype, accumulate, upcast_every, torch.get_num_threads())
    return _measure(rows, columns, outputs, ncodebooks, leaves, how)


def measure_conv2d(
    shape: tuple[int, int, int, int],
    outputs: int,
    geometry: Geometry,
    ncodebooks: int,
    leaves: int = 16,
    dtype: torch.dtype = torch.float32,
    accumulate: str = "exact",
    upcast_every: int = 16,
) -> Timing:
    """Time a convolution and its tables.

    Args:
        shape: of the input of a call: batch, channels, height, width. Some of the batch are timed, as in `measure`.
        outputs: channels of the output.
        geometry: of the convolution.
        ncodebooks, leaves: C and K.
        dtype: of the images that the tables are given.
        accumulate, upcast_every: how the tables are summed, as for `Maddness`.

    Returns:
        As `measure`.

    Raises:
        ValueError: sizes below 1, or more codebooks than columns.
    """
    columns = shape[1] * geometry.kernel[0] * geometry.kernel[1]
    _check_sizes("measure_conv2d", shape[0], columns, outputs, ncodebooks, leaves)
    how = (dtype, accumulate, upcast_every, torch.get_num_threads())
    return _measure_conv2d(tuple(shape), outputs, geometry, ncodebooks, leaves, how)


def forget() -> None:
    """Forget all times; the next question is measured."""
    _measure.cache_clear()
    _measure_conv2d.cache_clear()


@functools.cache
def _measure(rows: int, columns: int, outputs: int, ncodebooks: int, leaves: int, how: How) -> Timing:
    timed = max(1, min(rows, ROWS, max(256, PRODUCTS // (columns * outputs))))
    g = torch.Generator().manual_seed(0)
    x, weight = torch.randn(timed, columns, generator=g), torch.randn(outputs, columns, generator=g)
    narrow, narrow_weight, given = x.bfloat16(), weight.bfloat16(), x.to(how[0])
    layer = _random_layer(columns, outputs, ncodebooks, leaves, g)
    functions: dict[str, Callable[[], Any]] = {
        "tables": lambda: maddness_linear(given, layer, how[1], how[2]),
        "float32": lambda: F.linear(x, weight),
        "bfloat16": lambda: F.linear(narrow, narrow_weight),
    }
    integer = _int8_linear(timed, columns, outputs)
    if integer is not None:
        functions["int8"] = integer
    return _timing(functions, rows / timed)


@functools.cache
def _measure_conv2d(
    shape: tuple[int, int, int, int],
    outputs: int,
    geometry: Geometry,
    ncodebooks: int,
    leaves: int,
    how: How,
) -> Timing:
    columns = shape[1] * geometry.kernel[0] * geometry.kernel[1]
    pixels = max(1, geometry.size(shape[2], shape[3])[0] * geometry.size(shape[2], shape[3])[1])
    timed = max(1, min(shape[0], max(ROWS // pixels, 1), max(1, PRODUCTS // (pixels * columns * outputs))))
    g = torch.Generator().manual_seed(0)
    x = torch.randn(timed, *shape[1:], generator=g)
    weight = torch.randn(outputs, shape[1], *geometry.kernel, generator=g)
    narrow, narrow_weight, given = x.bfloat16(), weight.bfloat16(), x.to(how[0])
    layer = _random_layer(columns, outputs, ncodebooks, leaves, g)
    last = [t.to(memory_format=torch.channels_last) for t in (x, weight, narrow, narrow_weight)]
    functions: dict[str, Callable[[], Any]] = {
        "tables": lambda: maddness_conv2d(given, layer, geometry, how[1], how[2]),
        "float32": lambda: _convolve(x, weight, geometry),
        "float32, channels last": lambda: _convolve(last[0], last[1], geometry),
        "bfloat16": lambda: _convolve(narrow, narrow_weight, geometry),
        "bfloat16, channels last": lambda: _convolve(last[2], last[3], geometry),
    }
    integer = _int8_conv2d((timed, *shape[1:]), outputs, geometry)
    if integer is not None:
        functions["int8"] = integer
    return _timing(functions, shape[0] / timed)


def _timing(functions: Mapping[str, Callable[[], Any]], factor: float) -> Timing:
    """Of each dtype the fastest form, times `factor`."""
    with torch.no_grad():
        seconds = interleave(functions)
    best: dict[str, float] = {}
    for name, value in seconds.items():
        dtype = name.split(",")[0]
        best[dtype] = min(best.get(dtype, value * factor), value * factor)
    return Timing(best.pop("tables"), best)


def _convolve(x: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    left, right, top, bottom = geometry.padding
    if geometry.padding_mode == "constant" and left == right and top == bottom:  # as nn.Conv2d does it
        return F.conv2d(x, weight, None, geometry.stride, (top, left), geometry.dilation)
    return F.conv2d(geometry.pad(x), weight, None, geometry.stride, 0, geometry.dilation)


def _random_layer(columns: int, outputs: int, ncodebooks: int, leaves: int, g: torch.Generator) -> Packed:
    levels = leaves.bit_length() - 1
    first = torch.arange(ncodebooks) * columns // ncodebooks  # of each codebook's columns
    within = (torch.rand(ncodebooks, levels, generator=g) * (columns // ncodebooks)).long()
    luts = torch.randint(256, (outputs, ncodebooks, leaves), generator=g, dtype=torch.uint8)
    thresholds = torch.randn(ncodebooks, leaves - 1, generator=g)
    dims = (first[:, None] + within).to(torch.int32)
    return Packed(dims, thresholds, luts, torch.ones(outputs), torch.zeros(outputs))


def _int8_linear(rows: int, columns: int, outputs: int) -> Callable[[], Any] | None:
    """The 8-bit product with packed weights that a quantised model would call; None where this torch has none."""
    x = torch.full((rows, columns), 100, dtype=torch.uint8)
    weight = torch.full((outputs, columns), 3, dtype=torch.int8)
    scale, zero = torch.ones(outputs), torch.zeros(outputs, dtype=torch.int64)

    def make() -> Callable[[], Tensor]:
        ops = torch.ops.onednn
        packed = ops.qlinear_prepack(weight, [rows, columns])
        how = (None, 1.0, 0, torch.float32, "none", [], "")
        return lambda: ops.qlinear_pointwise(x, 1.0, 0, packed, scale, zero, *how)

    return _if_there_is(make, (rows, outputs))


def _int8_conv2d(shape: tuple[int, ...], outputs: int, geometry: Geometry) -> Callable[[], Any] | None:
    """The same for a convolution; a border that it cannot make itself is there already."""
    left, right, top, bottom = geometry.padding
    size = geometry.size(shape[2], shape[3])
    border = [top, left]
    if geometry.padding_mode != "constant" or left != right or top != bottom:
        shape, border = (*shape[:2], shape[2] + top + bottom, shape[3] + left + right), [0, 0]
    x = torch.full(shape, 100, dtype=torch.uint8).to(memory_format=torch.channels_last)
    weight = torch.full((outputs, shape[1], *geometry.kernel), 3, dtype=torch.int8)
    scale, zero = torch.ones(outputs), torch.zeros(outputs, dtype=torch.int64)
    over = (list(geometry.stride), border, list(geometry.dilation), 1)

    def make() -> Callable[[], Tensor]:
        ops = torch.ops.onednn
        packed = ops.qconv_prepack(weight, scale, 1.0, 0, *over, list(shape))
        how = (1.0, 0, torch.float32, "none", [], "")
        return lambda: ops.qconv2d_pointwise(x, 1.0, 0, packed, scale, zero, None, *over, *how)

    return _if_there_is(make, (shape[0], outputs, *size))


def _if_there_is(make: Callable[[], Callable[[], Tensor]], shape: tuple[int, ...]) -> Callable[[], Any] | None:
    """What `make` makes, if that gives this shape; None where torch has no such operator, or another one."""
    try:
        product = make()
        return product if product().shape == shape else None
    except (RuntimeError, AttributeError, TypeError, NotImplementedError):
        return None


def _check_sizes(call: str, rows: int, columns: int, outputs: int, ncodebooks: int, leaves: int) -> None:
    for name, value in {"rows": rows, "columns": columns, "outputs": outputs, "ncodebooks": ncodebooks}.items():
        whole(call, name, value, low=1)
    check(ncodebooks <= columns, call, f"at most {columns} codebooks", ncodebooks, "Pass fewer ncodebooks.")
    check(leaves in LEAVES, call, f"leaves among {LEAVES}", leaves, "Pass leaves=16.")
