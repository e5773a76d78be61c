"""What every approximate product `A @ B` shares: parameters, checks, the order of calls, the error measure.

A method learns from a sample of the rows of A (`fit`), is given B (`fit` or `set_B`), and then multiplies new rows:

    fit(A, B) -> encode(A) -> matmul(codes)        or        fit(A, B) -> matmul(A)

Encoding does not depend on B, so rows encoded once can be multiplied by many B. A subclass writes `_fit`, `_set_B`,
`_encode`, `_multiply` and `_cost`; what they are given has been checked. The conventions are scikit-learn's (parameters
are stored by the constructor and nowhere else, what is learned ends in an underscore), so `sklearn.base.clone` works.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from .._core.checks import check, near, refuse, refuse_type

__all__ = [
    "ApproxMatmul", "Cost", "Encoded", "NotFittedError", "as_factor", "as_rows", "as_sample_weight", "as_training_rows",
    "nmse",
]  # fmt: skip

# A's dtypes: all of them are float32 exactly. A torch tensor may be bfloat16 too.
ROW_DTYPES = (np.dtype(np.float32), np.dtype(np.float16), np.dtype(np.int8), np.dtype(np.uint8))
FACTOR_DTYPES = (np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.float16))


class NotFittedError(ValueError, AttributeError):
    """Something was asked of an estimator that it can only do after `fit` or `set_B`."""


@dataclass(frozen=True)
class Encoded:
    """Rows of A as a method keeps them between `encode` and `matmul`.

    Args:
        values: whatever the method's `_multiply` reads.
        n: how many rows they are.
    """

    values: Any
    n: int


@dataclass(frozen=True)
class Cost:
    """What a product of N rows costs, by counting; B is fixed, so what depends on B alone is not counted.

    Args:
        flops: floating-point multiplications, additions and comparisons.
        lookups: table entries that are added.
        bytes_read: bytes of A that must be read.
        table_bytes: bytes of everything that is kept for the product: tables, trees, matrices.
    """

    flops: int
    lookups: int
    bytes_read: int
    table_bytes: int


def nmse(exact: np.ndarray, approximate: np.ndarray) -> float:
    """Normalised mean squared error: `mean((exact - approximate)^2) / var(exact)`, over all elements.

    0 is exact, 1 is as bad as the mean of `exact` everywhere. Where `exact` is constant: 0.0 if both are equal, else
    infinity.

    Args:
        exact: any shape, at least one element.
        approximate: the same shape.

    Returns:
        A float of at least 0; NaN where one of them holds a NaN.

    Raises:
        ValueError: shapes differ, or there is nothing to compare.

    >>> nmse(np.array([0.0, 2.0]), np.array([0.0, 1.0]))
    0.5
    """
    exact, approximate = np.asarray(exact, np.float64), np.asarray(approximate, np.float64)
    fix = "Pass the two products."
    check(exact.shape == approximate.shape, "nmse", f"two arrays of shape {exact.shape}", approximate.shape, fix)
    check(exact.size > 0, "nmse", "at least one element", exact.shape, "Pass at least one row.")
    error, variance = float(np.mean((exact - approximate) ** 2)), float(np.var(exact))
    if variance == 0:
        return 0.0 if error == 0 else float("inf")
    return error / variance


def _as_array(call: str, name: str, value: Any) -> np.ndarray:
    """`value` as an array without a copy; only a bfloat16 tensor is copied, to float32."""
    torch = sys.modules.get("torch")  # a tensor can only come from somebody who has imported torch
    if torch is not None and isinstance(value, torch.Tensor):
        check(value.device.type == "cpu", call, f"{name} on the CPU", str(value.device), f"Pass {name}.cpu().")
        check(value.layout == torch.strided, call, f"a dense {name}", str(value.layout), f"Pass {name}.to_dense().")
        value = value.detach()
        return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
    if isinstance(value, np.ndarray) and not isinstance(value, np.ma.MaskedArray):
        return value
    fix = f"Pass numpy.asarray({name}, numpy.float32)."
    raise refuse_type(call, f"{name} to be a NumPy array or a CPU tensor", type(value).__name__, fix)


def as_rows(call: str, name: str, value: Any, width: int | None = None) -> np.ndarray:
    """`value` as rows of A: (N, D), float32, float16, int8 or uint8, any strides, not copied.

    Args:
        call, name: who asks for what, for the message.
        value: a NumPy array or a CPU tensor; a bfloat16 tensor is widened to float32.
        width: D, where it is known.

    Raises:
        TypeError: another type or dtype. ValueError: another shape.
    """
    array = _as_array(call, name, value)
    if array.dtype not in ROW_DTYPES:
        fix = f"Pass {name}.astype(numpy.float32)."
        raise refuse_type(call, f"{name} of dtype float32, float16, bfloat16, int8 or uint8", array, fix)
    check(array.ndim == 2, call, f"{name} of two dimensions, (N, D)", array, f"Pass {name}.reshape(-1, D).")
    fix = f"Pass rows with the {width} columns that fit saw."
    check(width is None or array.shape[1] == width, call, f"{name} of shape (N, {width})", array, fix)
    return array


def as_training_rows(call: str, name: str, value: Any) -> np.ndarray:
    """As `as_rows`, at least one row and one column, and all finite."""
    array = as_rows(call, name, value)
    check(array.shape[0] > 0 and array.shape[1] > 0, call, f"at least one row and one column of {name}", array)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise refuse(call, f"finite {name}", f"NaN or infinity in row {bad}", "Leave such rows out.")
    return array


def as_factor(call: str, name: str, value: Any, rows: int | None = None) -> np.ndarray:
    """`value` as B: (D, M) with M at least 1, float32, float64 or float16, finite, not copied.

    Args:
        call, name: who asks for what, for the message.
        value: a NumPy array or a CPU tensor.
        rows: D, where it is known.

    Raises:
        TypeError: another type or dtype. ValueError: another shape, or a value that is not finite in float32.
    """
    array = _as_array(call, name, value)
    if array.dtype not in FACTOR_DTYPES:
        raise refuse_type(call, f"{name} of a float dtype", array, f"Pass {name}.astype(numpy.float32).")
    expected = f"{name} of shape ({'D' if rows is None else rows}, M) with M at least 1"
    shaped = array.ndim == 2 and array.shape[1] > 0 and (rows is None or array.shape[0] == rows)
    check(shaped, call, expected, array, f"Pass {name} as the right factor of A @ {name}: weight.T of a linear layer.")
    check(bool(np.isfinite(array).all()), call, f"finite {name}", "NaN or infinity", f"Look where {name} comes from.")
    with np.errstate(over="ignore"):
        small = bool(np.isfinite(np.asarray(array, np.float32)).all())
    fix = f"Scale {name} down, and the product up."
    check(small, call, f"{name} within the range of float32", "a value that is not", fix)
    return array


def as_sample_weight(call: str, value: Any, rows: int) -> np.ndarray | None:
    """`value` as a weight for each row: (rows,) float64, 0 or from 1e-30 to 1e30, not all 0; None stays None."""
    if value is None:
        return None
    array = _as_array(call, "sample_weight", value)
    if array.dtype.kind not in "fiu":
        raise refuse_type(call, "sample_weight of numbers", array, "Pass floats.")
    fix = "Pass a weight for each row."
    check(array.shape == (rows,), call, f"sample_weight of shape ({rows},)", array, fix)
    good = bool(np.isfinite(array).all()) and bool((array >= 0).all()) and bool((array > 0).any())
    check(good, call, "sample_weight of at least 0, finite and not all 0", "another", "Leave out rows of no weight.")
    weight = array.astype(np.float64)
    least, most = float(weight[weight > 0].min()), float(weight.max())
    fix = "Scale them, and pass 0 for rows that shall not count."
    check(least >= 1e-30 and most <= 1e30, call, "sample_weight of 0 or from 1e-30 to 1e30", (least, most), fix)
    return weight


class ApproxMatmul:
    """An approximation of `A @ B`, learned from a sample of the rows of A.

    The base of all methods. A subclass stores its parameters in `__init__`, checks them there, and writes

        _fit(A, B, weight)     learn; A (N, D) finite, B (D, M) or None, weight (N,) float64 or None
        _set_B(B)              build what the product needs of B (assign new attributes, change no array in place)
        _encode(A)             an `encoded_type` of the rows
        _multiply(codes)       (N, M) float32
        _product(A)            the same of rows, if there is a shorter way than both
        _cost(n)               a `Cost`
    """

    encoded_type: ClassVar[type] = Encoded

    n_features_in_: int
    n_outputs_: int

    # Parameters -------------------------------------------------------------------------------------------------------

    @classmethod
    def _defaults(cls) -> dict[str, Any]:
        parameters = inspect.signature(cls.__init__).parameters.values()
        return {p.name: p.default for p in parameters if p.name != "self" and p.kind is not p.VAR_KEYWORD}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The constructor's arguments by name; `deep` is there for scikit-learn and changes nothing."""
        return {name: getattr(self, name) for name in self._defaults()}

    def set_params(self, **params: Any) -> Self:
        """Change arguments of the constructor; all or, if one is refused, none.

        What was learned stays; arguments of learning take effect at the next `fit`.

        Raises:
            ValueError: there is no such argument, or it makes no sense.
        """
        call, known = f"{type(self).__name__}.set_params", self._defaults()
        for name in params:
            check(name in known, call, "an argument of the constructor", name, near(name, known))
        type(self)(**{**self.get_params(), **params})  # refuses what makes no sense
        for name, value in params.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        given = ((name, getattr(self, name), default) for name, default in self._defaults().items())
        changed = (
            f"{n}={v!r}" for n, v, default in given if not (v is default or (type(v) is type(default) and v == default))
        )
        return f"{type(self).__name__}({', '.join(changed)})"

    # Calls ------------------------------------------------------------------------------------------------------------

    def fit(self, A: Any, B: Any = None, sample_weight: Any = None) -> Self:
        """Learn from rows of A; with B also get ready to multiply.

        Args:
            A: (N, D), N at least 1, float32, float16, bfloat16 (a tensor), int8 or uint8; finite.
            B: (D, M), of a float dtype, finite; None: `set_B` comes later.
            sample_weight: (N,), 0 or from 1e-30 to 1e30; a row of weight 2 counts as two rows. None: all 1.

        Returns:
            self.

        Raises:
            TypeError, ValueError: input as it should not be; what was learned before stays.
        """
        call = f"{type(self).__name__}.fit"
        rows = as_training_rows(call, "A", A)
        factor = None if B is None else as_factor(call, "B", B, rows.shape[1])
        weight = as_sample_weight(call, sample_weight, len(rows))
        with self._all_or_nothing():
            self._fit(rows, factor, weight)
            self.n_features_in_ = rows.shape[1]
            self._forget_B()
            return self if factor is None else self.set_B(factor)

    @contextlib.contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """What was learned before comes back where something raises: methods assign attributes and change none."""
        before = dict(self.__dict__)
        try:
            yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            raise

    def _forget_B(self) -> None:
        """What was built of an earlier B is no longer used."""
        self.__dict__.pop("n_outputs_", None)

    def set_B(self, B: Any) -> Self:
        """Take another right factor, (D, M) of a float dtype; what was learned from A stays."""
        call = f"{type(self).__name__}.set_B"
        self._check_fitted(call)
        factor = as_factor(call, "B", B, self.n_features_in_)
        with self._all_or_nothing():
            self._set_B(factor)
            self.n_outputs_ = factor.shape[1]
        return self

    def encode(self, A: Any) -> Any:
        """Encode rows, (N, D) with N at least 0, for one or more products by `matmul`."""
        call = f"{type(self).__name__}.encode"
        self._check_fitted(call)
        return self._encode(as_rows(call, "A", A, self.n_features_in_))

    def matmul(self, A: Any) -> np.ndarray:
        """The approximate product with B.

        Args:
            A: rows (N, D) with N at least 0, or what `encode` made of them.

        Returns:
            (N, M) float32.

        Raises:
            NotFittedError: no `fit` yet, or no B. TypeError, ValueError: rows as they should not be.
        """
        call = f"{type(self).__name__}.matmul"
        self._check_fitted(call)
        if not hasattr(self, "n_outputs_"):
            raise NotFittedError(f"{call}: expected a B to multiply by, got none. Call fit(A, B) or set_B(B) first.")
        if isinstance(A, self.encoded_type):
            return self._multiply(A)
        return self._product(as_rows(call, "A", A, self.n_features_in_))

    def __call__(self, A: Any, B: Any = None) -> np.ndarray:
        """`matmul(A)`; with another B that one product only, and the estimator keeps its own."""
        return self.matmul(A) if B is None else copy.copy(self).set_B(B).matmul(A)

    def score(self, A: Any, B: Any) -> float:
        """`1 - NMSE` of the product on rows that `fit` has not seen; 1 is exact.

        Args:
            A: (N, D), N at least 1, finite.
            B: (D, M); it may differ from the one of `fit`.

        >>> from hasten.matmul import Maddness
        >>> A = np.random.default_rng(0).standard_normal((500, 8), dtype=np.float32)
        >>> B = np.eye(8, 3, dtype=np.float32)
        >>> 0.5 < Maddness(ncodebooks=4).fit(A, B).score(A, B) < 1
        True
        """
        call = f"{type(self).__name__}.score"
        self._check_fitted(call)
        rows = as_training_rows(call, "A", A)
        factor = as_factor(call, "B", B, self.n_features_in_)
        return 1.0 - nmse(rows.astype(np.float64) @ factor.astype(np.float64), self(rows, factor))

    def cost(self, n: int) -> Cost:
        """What a product of `n` rows with the present B costs."""
        call = f"{type(self).__name__}.cost"
        self._check_fitted(call)
        check(isinstance(n, int) and not isinstance(n, bool) and n >= 0, call, "a number of rows", n, "Pass len(A).")
        if not hasattr(self, "n_outputs_"):
            raise NotFittedError(f"{call}: expected a B to multiply by, got none. Call fit(A, B) or set_B(B) first.")
        return self._cost(n)

    def _check_fitted(self, call: str) -> None:
        if not hasattr(self, "n_features_in_"):
            raise NotFittedError(f"{call}: expected an estimator that has learned, got {self!r}. Call fit(A, B) first.")

    # What a subclass writes -------------------------------------------------------------------------------------------

    def _fit(self, A: np.ndarray, B: np.ndarray | None, weight: np.ndarray | None) -> None:
        raise NotImplementedError

    def _set_B(self, B: np.ndarray) -> None:
        raise NotImplementedError

    def _encode(self, A: np.ndarray) -> Any:
        raise NotImplementedError

    def _product(self, A: np.ndarray) -> np.ndarray:
        return self._multiply(self._encode(A))

    def _multiply(self, codes: Any) -> np.ndarray:
        raise NotImplementedError

    def _cost(self, n: int) -> Cost:
        raise NotImplementedError
