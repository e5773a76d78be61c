"""Look-up tables: what each leaf of each codebook adds to each output, in 8, 16 or 32 bits.

From T[m, c, k] = <prototype k of codebook c, column m of B>, with o[m, c] = min over k of T:

    "per_output"   gap[m] = max over c of (max over k of T - o[m, c]), scale[m] = gap[m] / 255
    "shared"       o[c] and gap are taken over all m, so one scale serves all outputs
    luts           floor((T - o) / scale + 0.5), in 0 .. 255 (0 .. 65535 with 16 bits)
    offset[m]      sum over c of o[m, c], and the bias of the layer if it has one

`sum over c of luts * scale + offset` is the product, off by at most C scale / 2. The scale is float32, and entries are
rounded for that scale, so no bit of it is lost between building and using a table. A gap of 0 makes tables of zeros
with scale 0, which is exact, also where a multiple of the scale corrects averages. 32 bits keep T as float32, with
scale 1 and offset 0 (or the bias).

Differs from the published reference, which shares one scale, a power of two, among all outputs: an output with small
weights then has few steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..._core.checks import check, refuse

__all__ = ["LUT_BITS", "LUT_SCALES", "Tables", "averaging", "dequantise", "make_tables"]

LUT_BITS = (8, 16, 32)
LUT_SCALES = ("per_output", "shared")
_DTYPES = {8: np.dtype(np.uint8), 16: np.dtype(np.uint16), 32: np.dtype(np.float32)}


@dataclass(frozen=True, eq=False)
class Tables:
    """Tables and how their sums are read: `sum * scale[m] + offset[m]`.

    The arrays are not copied, and must not change: kernels keep copies of their own.

    Args:
        luts: (M, C, K) uint8, uint16 or float32.
        scale: (M,) float32.
        offset: (M,) float32.

    Raises:
        ValueError: shapes or dtypes that are no tables, or values that are not finite.
    """

    luts: np.ndarray
    scale: np.ndarray
    offset: np.ndarray

    def __post_init__(self) -> None:
        fix = "Pass what make_tables returns."
        check(self.luts.dtype in _DTYPES.values(), "Tables", "luts of dtype uint8, uint16 or float32", self.luts, fix)
        check(self.luts.ndim == 3 and self.luts.size > 0, "Tables", "luts of shape (M, C, K)", self.luts, fix)
        for name, array in (("scale", self.scale), ("offset", self.offset)):
            good = array.dtype == np.float32 and array.shape == self.luts.shape[:1]
            check(good, "Tables", f"{name} of shape ({len(self.luts)},) and dtype float32", array, fix)
            check(bool(np.isfinite(array).all()), "Tables", f"finite {name}", "NaN or infinity", fix)

    @property
    def n_outputs(self) -> int:
        """M."""
        return self.luts.shape[0]

    @property
    def ncodebooks(self) -> int:
        """C."""
        return self.luts.shape[1]

    @property
    def leaves(self) -> int:
        """K."""
        return self.luts.shape[2]

    @property
    def bits(self) -> int:
        """Bits of an entry: 8, 16 or 32."""
        return 8 * self.luts.dtype.itemsize


def make_tables(
    T: np.ndarray, lut_bits: int = 8, lut_scale: str = "per_output", bias: np.ndarray | None = None
) -> Tables:
    """Round tables of floats.

    Args:
        T: (M, C, K) float64 or float32, finite.
        lut_bits: 8, 16 or 32.
        lut_scale: "per_output" or "shared"; of no effect with 32 bits.
        bias: (M,), added to the product; None: none.

    Raises:
        ValueError: values that are not finite, or too large for float32.

    >>> tables = make_tables(np.array([[[0.0, 1.0, 2.0, 51.0]]]))
    >>> tables.luts.tolist(), tables.scale.tolist(), tables.offset.tolist()
    ([[[0, 5, 10, 255]]], [0.20000000298023224], [0.0])
    """
    T = np.asarray(T, np.float64)
    bias = np.zeros(len(T)) if bias is None else np.asarray(bias, np.float64)
    check(lut_bits in LUT_BITS, "make_tables", f"lut_bits among {LUT_BITS}", lut_bits, "Pass 8.")
    check(lut_scale in LUT_SCALES, "make_tables", f"lut_scale among {LUT_SCALES}", lut_scale, 'Pass "per_output".')
    check(bias.shape == (len(T),), "make_tables", f"bias of shape ({len(T)},)", bias, "Pass a value for each output.")
    largest = np.abs(T).max(initial=0.0) * T.shape[1] + np.abs(bias).max(initial=0.0)
    if not largest < np.finfo(np.float32).max:  # NaN too
        raise refuse("make_tables", "products that float32 can hold", f"up to {largest:g}", "Scale A or B down.")
    if lut_bits == 32:
        return Tables(T.astype(np.float32), np.ones(len(T), np.float32), bias.astype(np.float32))
    over = (2,) if lut_scale == "per_output" else (0, 2)
    low = T.min(axis=over, keepdims=True)  # (M or 1, C, 1)
    gap = (T.max(axis=over, keepdims=True) - low).max(axis=1, keepdims=True)  # (M or 1, 1, 1)
    steps = (1 << lut_bits) - 1
    scale = (gap / steps).astype(np.float32)
    luts = np.floor((T - low) / np.where(scale > 0, scale, np.inf) + 0.5).clip(0, steps).astype(_DTYPES[lut_bits])
    offset = np.broadcast_to(low.sum(axis=1)[:, 0], len(T)) + bias
    return Tables(luts, np.broadcast_to(scale[:, 0, 0], len(T)).copy(), offset.astype(np.float32))


def dequantise(tables: Tables) -> np.ndarray:
    """What the entries stand for, (M, C, K) float64, with the offset spread evenly over the codebooks."""
    part = tables.offset.astype(np.float64)[:, None, None] / tables.ncodebooks
    return tables.luts * tables.scale.astype(np.float64)[:, None, None] + part


def averaging(ncodebooks: int, upcast_every: int = 16) -> tuple[int, int, float]:
    """How the averaging scan groups C codebooks, and by how much its sums are too large.

    Each average (a + b + 1) >> 1 rounds up by 1/4 in the mean, since half of all sums are odd. One at level l of a tree
    stands for 2^l codebooks, so it adds 2^l / 4 to the sum: C/4 for each level and `C/4 * log2 U` together. Averages of
    two codebooks of padding are exact and do not count.

    Args:
        ncodebooks: C.
        upcast_every: at most this many codebooks in a group; a power of two.

    Returns:
        U, the codebooks of a group, a power of two; C padded to a multiple of U; and the bias.

    >>> averaging(16), averaging(64), averaging(5)
    ((16, 16, 16.0), (16, 64, 64.0), (8, 8, 5.5))
    """
    number = isinstance(upcast_every, int) and not isinstance(upcast_every, bool)
    power = number and upcast_every > 0 and upcast_every & (upcast_every - 1) == 0
    check(power, "averaging", "upcast_every to be a power of two", upcast_every, "Pass 16.")
    group = min(upcast_every, 1 << (ncodebooks - 1).bit_length())
    padded = -(-ncodebooks // group) * group
    levels = range(1, group.bit_length())
    return group, padded, sum(-(-ncodebooks // (1 << level)) * (1 << level) / 4 for level in levels)
