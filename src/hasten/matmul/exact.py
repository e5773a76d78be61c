"""The exact product as a machine would compute it: float32, bfloat16, or 8-bit integers with a scale for each row.

What every approximation has to beat. float32 is NumPy's product; the other two are torch's, which uses the matrix units
of the processor where there are any. torch is imported when they are first used.

    float32    A @ B
    bfloat16   A and B rounded to 8 bits of significand, sums in float32 inside torch, the result rounded to bfloat16
    int8       a[n] = max |A[n, :]| / 127, b[m] = max |B[:, m]| / 127
               Q = round(A / a), P = round(B / b), both in -127..127 (symmetric: no zero points)
               out[n, m] = float32(sum over d of Q[n, d] P[d, m]) * b[m] * a[n], rounded after each step

The int8 error of one element is at most the sum over d of |A| b / 2 + |B| a / 2 + a b / 4, and the three roundings.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from .._core.checks import near, refuse
from .base import ApproxMatmul, Cost, Encoded

__all__ = ["Exact", "factor32", "product", "quantise_rows", "rows32"]

DTYPES = ("float32", "bfloat16", "int8")
_BLOCK = 1 << 16  # elements of A that are quantised at once: 256 KB, so that the passes over them stay in the cache


def rows32(A: np.ndarray) -> np.ndarray:
    """Rows of A as float32, not copied if they are so already; all dtypes of rows are float32 exactly.

    >>> rows32(np.array([[1, -2]], np.int8))
    array([[ 1., -2.]], dtype=float32)
    """
    return np.asarray(A, np.float32)


def factor32(call: str, B: np.ndarray) -> np.ndarray:
    """B as float32, not copied if it is so already.

    Raises:
        ValueError: a float64 value is beyond float32.

    >>> factor32("f", np.array([[0.5]]))
    array([[0.5]], dtype=float32)
    """
    with np.errstate(over="ignore"):
        found = np.asarray(B, np.float32)
    if not np.isfinite(found).all():
        raise refuse(call, "B within the range of float32", "a value that is not", "Scale B down, and the product up.")
    return found


def product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """`left @ right` without a warning where infinity times 0 gives NaN; the NaN is the answer.

    >>> product(np.array([[np.inf, 1.0]]), np.array([[0.0], [1.0]]))
    array([[nan]])
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return left @ right


def quantise_rows(A: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each row as 8-bit integers and one scale: `A ≈ codes * scale[:, None]`, within half a scale.

    A row of zeros has scale 1; so has one whose largest magnitude is below 1.5e-36, which counts as zeros (its scale
    would leave the normal floats). A row with a NaN or an infinity has codes 0 and scale NaN, so that all its products
    are NaN.

    Args:
        A: (N, D) float32, any strides.

    Returns:
        codes (N, D) int8 in -127..127 and scale (N,) float32.

    >>> quantise_rows(np.array([[1.0, -2.0, 0.5]], np.float32))[0]
    array([[  64, -127,   32]], dtype=int8)
    """
    n, width = A.shape
    codes, scale = np.empty((n, width), np.int8), np.ones(n, np.float32)
    step = max(1, _BLOCK // max(width, 1))
    for start in range(0, n, step):
        rows = A[start : start + step]
        largest = np.abs(rows).max(axis=1, initial=0)
        scale_of = largest / np.float32(127)
        scale_of[scale_of < np.finfo(np.float32).tiny] = np.inf  # codes 0
        finite = np.isfinite(largest)
        if not finite.all():
            rows, scale_of = np.where(finite[:, None], rows, 0), np.where(finite, scale_of, np.inf)
        scaled = rows / scale_of[:, None]
        codes[start : start + step] = np.rint(scaled, out=scaled)
        scale[start : start + step] = np.where(finite, np.where(np.isinf(scale_of), 1, scale_of), np.nan)
    return codes, scale


def _by_onednn(codes: Any, packed: Any, scale: Any) -> Any:
    """float32(codes @ weight) * scale for each column, of a weight that was packed before.

    `codes` are uint8, 128 more than they stand for: processors multiply unsigned by signed bytes, and of two signed
    ones oneDNN takes thousands of times as long where there is no matrix unit.
    """
    import torch

    zeros = torch.zeros(len(scale), dtype=torch.int64)
    fused = ("none", [], "")  # nothing after the product
    kind = torch.float32
    return torch.ops.onednn.qlinear_pointwise(codes, 1.0, 128, packed, scale, zeros, None, 1.0, 0, kind, *fused)


@functools.cache
def _onednn_is_exact() -> bool:
    """Whether oneDNN's 8-bit linear layer exists here, and its sums are exact.

    On processors without 8-bit dot products oneDNN may add pairs of products in 16 bits, where large ones saturate: the
    largest are tried.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(-127, 128, (37, 259), generator=generator, dtype=torch.int8)
    codes[:4] = 127
    codes[4:8] = -127
    weight = torch.randint(-127, 128, (21, 259), generator=generator, dtype=torch.int8)
    weight[:4] = 127
    scale = torch.rand(21, generator=generator)
    try:
        found = _by_onednn((codes.short() + 128).to(torch.uint8), torch.ops.onednn.qlinear_prepack(weight, None), scale)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return torch.equal(found, (codes.long() @ weight.long().T).float() * scale)


class Exact(ApproxMatmul):
    """The product itself, in float32, bfloat16 or 8-bit integers: the baseline of all others.

    `encode` converts the rows (what a network that keeps its activations in that format need not do; float32 rows are
    kept as they are, not copied), `matmul` of what it returns is the product alone. int8 runs on a packed copy of B by
    oneDNN's linear layer where that is exact, else by `torch._int_mm`: the same bits.

    Args:
        dtype: "float32", "bfloat16" or "int8".

    Raises:
        ValueError: another dtype.

    >>> A, B = np.eye(3, dtype=np.float32), np.array([[1.0], [2.0], [4.0]], np.float32)
    >>> Exact().fit(A, B).matmul(A).ravel()
    array([1., 2., 4.], dtype=float32)
    >>> Exact("int8").fit(A, B).cost(10)
    Cost(flops=60, lookups=0, bytes_read=120, table_bytes=7)
    """

    dtype_: str  # that of the last fit
    factor_: Any  # what the product reads of B: NumPy float32, torch bfloat16, or codes (D, M) int8
    scale_: np.ndarray  # int8: (M,) float32

    def __init__(self, dtype: str = "float32") -> None:
        self.dtype = dtype
        if dtype not in DTYPES:
            raise refuse("Exact", f"dtype one of {', '.join(DTYPES)}", dtype, near(str(dtype), DTYPES))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_packed"}

    def _fit(self, A: np.ndarray, B: np.ndarray | None, weight: np.ndarray | None) -> None:
        self.dtype_ = self.dtype  # nothing is learned from A

    def _set_B(self, B: np.ndarray) -> None:
        factor = factor32("Exact.set_B", B)
        if self.dtype_ == "float32":
            self.factor_ = factor.copy()
        elif self.dtype_ == "bfloat16":
            self.factor_ = self._bfloat16(factor)
        else:
            codes, self.scale_ = quantise_rows(factor.T)
            self.factor_ = codes.T
        self.__dict__.pop("_packed", None)

    def _encode(self, A: np.ndarray) -> Encoded:
        rows = rows32(A)
        if self.dtype_ == "float32":
            return Encoded(rows, len(A))
        if self.dtype_ == "bfloat16":
            return Encoded(self._bfloat16(rows), len(A))
        codes, scale = quantise_rows(rows)
        if _onednn_is_exact():
            codes = codes.view(np.uint8) ^ np.uint8(128)
        return Encoded((codes, scale), len(A))

    def _multiply(self, codes: Encoded) -> np.ndarray:
        if self.dtype_ == "float32":
            return product(codes.values, self.factor_)
        import torch

        if self.dtype_ == "bfloat16":
            return torch.mm(codes.values, self.factor_).float().numpy()
        values, scale = codes.values
        out = self._int8(torch.from_numpy(values)).numpy()
        out *= scale[:, None]
        return out

    def _int8(self, codes: Any) -> Any:
        """float32(codes @ factor_) * scale_, (N, M), of int8 codes or of uint8 ones, which are 128 more."""
        import torch

        scale = torch.from_numpy(self.scale_)
        if codes.dtype == torch.int8 or not len(codes):
            codes = (codes.short() - 128).to(torch.int8) if codes.dtype == torch.uint8 else codes
            return torch._int_mm(codes, torch.from_numpy(self.factor_)).float() * scale
        packed = self.__dict__.get("_packed")
        if packed is None:  # not in _set_B: a pickled estimator comes without
            weight = torch.from_numpy(np.ascontiguousarray(self.factor_.T))
            packed = self._packed = torch.ops.onednn.qlinear_prepack(weight, None)
        return _by_onednn(codes, packed, scale)

    @staticmethod
    def _bfloat16(rows: np.ndarray) -> Any:
        import torch

        return torch.from_numpy(np.require(rows, requirements=["C", "W"])).to(torch.bfloat16)

    def _cost(self, n: int) -> Cost:
        D, M = self.n_features_in_, self.n_outputs_
        size = {"float32": 4, "bfloat16": 2, "int8": 1}[self.dtype_]
        return Cost(2 * n * D * M, 0, 4 * n * D, size * D * M + (4 * M if self.dtype_ == "int8" else 0))
