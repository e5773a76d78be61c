"""MADDNESS: matrix products by hashing and table look-up, without a multiplication for each element of A.

**What it computes.** D columns are cut into C contiguous parts. In each part a small decision tree (trees.py) sends a
row to one of K leaves: 4 to 6 comparisons, on 4 to 6 columns. Each leaf of each codebook has a prototype P[c, k], a
vector of all D columns (prototypes.py), and a row is approximated by the sum of its C prototypes. Hence

    A @ B  ~  sum over c of T[m, c, code[n, c]],    T[m, c, k] = <P[c, k], B[:, m]>

B is known, so T is a table, of bytes (tables.py), and an output is C look-ups, one sum and one multiply-add.

**Learning.** Trees level by level, exact best cuts (splits.py); then prototypes by ridge regression on all codes
together, from co-occurrence counts (prototypes.py), which is where most of the accuracy comes from.

**Formats.** `split_dims_` (C, L) int32 and `thresholds_` (C, K - 1) float32 in heap order; `prototypes_` (C, K, D)
float32; `tables_`: luts (M, C, K) uint8, scale and offset (M,) float32. `save` writes a safetensors file (files.py).
numpy_kernels.py defines every bit of encoding and scanning; compiled kernels give the same.

**Differs from the published reference** (arXiv 2106.10860 and its code):

- cuts lie only between distinct values, and `x > threshold` goes right in learning and in use; NaN goes left;
- thresholds are compared in float32, not in 8 bits;
- any C from 1 to D, any number of rows, K = 16, 32 or 64;
- tables have a scale for each output and may be summed exactly; averaging stays as an option, its bias derived
  (`tables.averaging`), also for numbers of codebooks that are no powers of two;
- `split_metric="output"`: cuts by the error of the product that is left (feedback.py);
- `split_lines`: cuts on columns of few cache lines (lines.py);
- sample weights, ridge by cross-validation, rows that come in parts (`partial_fit`).

**What is lost.** The result depends on a row only through its codes: rows in the same leaves get the same product. That
is a few percent of the variance at C = D / 32 on activations of networks, and all of it on rows unlike those of `fit`;
check `score` on rows that were held out. Rounding tables to bytes adds little to that.
"""

from __future__ import annotations

import dataclasses
import math
from os import PathLike
from typing import Any, Self

import numpy as np

from ..._core.checks import check, finite, near, whole
from ..base import ApproxMatmul, Cost, NotFittedError, as_factor, as_sample_weight, as_training_rows
from ..projections import moments
from ..spans import spans
from . import kernels
from .feedback import leading
from .lines import best_lines, columns_of, count_lines
from .prototypes import Statistics, choose_ridge, leaf_means, reachable, ridge_prototypes
from .tables import LUT_BITS, LUT_SCALES, Tables, averaging, make_tables
from .trees import LEAVES, Trees, learn_trees

__all__ = ["Maddness"]

FOLDS = 5  # of ridge="cv"
_WORDS = {"split_metric": ("auto", "input", "output"), "lut_scale": LUT_SCALES, "accumulate": ("exact", "avg")}
_NUMBERS = {"leaves": LEAVES, "lut_bits": LUT_BITS}


class Maddness(ApproxMatmul):
    """Approximate products `A @ B` by C tree look-ups for each output.

    It pays with many rows, many outputs, few codebooks for many columns (D / C of 16 and more) and rows that are far
    from random noise. It does not pay for a few rows, for isotropic data, or where 1 % of error is too much
    (docs/methods/maddness.md).

    Args:
        ncodebooks: C, from 1 to D. Twice as many are twice the work at about half the error.
        leaves: K of each codebook: 16, 32 or 64. More leaves cost little time where the CPU has wide byte shuffles,
            and K / 16 of the memory for tables.
        ridge: strength of the regression that makes prototypes, above 0, in rows; "cv" tries nine of 0.1 to 1000 in
            5-fold cross-validation.
        n_candidates: columns that are tried for each level of a tree, at least 1.
        split_metric: what cuts are chosen by, "input" (the published rule: spread of A) or "output" (error of the
            product; `fit` then needs B). The latter is more exact, and stays valid for another B by `set_B`. "auto":
            "output" where `fit` gets a B.
        split_lines: at most so many lines of a row, of 16 columns (64 bytes of float32), that trees look at. Where rows
            lie one after the other, encoding reads no more than these. None: no limit.
        lut_bits: of a table's entries: 8, 16, or 32 (float32).
        lut_scale: "per_output" or "shared" by all outputs.
        accumulate: "exact" sums, or "avg": averages in bytes, faster on some CPUs; needs `lut_bits=8`.
        upcast_every: codebooks that are averaged before they are summed, a power of two.
        dense: False: prototypes on their codebook's own columns only, without ridge (product quantisation by trees).
            Far less exact; tables are built faster.
        random_state: seed of the folds of "cv" and of the search for leading directions with more than 16 outputs, at
            least 0.

    Attributes:
        split_dims_: (C, L) int32.
        thresholds_: (C, K - 1) float32.
        prototypes_: (C, K, D) float32.
        tables_: `Tables`, once there is a B.
        trees_, statistics_, n_features_in_: what they are made of.
        ridge_: of the prototypes; infinite with `dense=False`.

    Raises:
        ValueError, TypeError: an argument that makes no sense.

    >>> generator = np.random.default_rng(0)
    >>> A = np.maximum(generator.standard_normal((2000, 4)) @ generator.standard_normal((4, 32)), 0).astype(np.float32)
    >>> B = generator.standard_normal((32, 3)).astype(np.float32)
    >>> model = Maddness(ncodebooks=16, split_metric="output").fit(A[:1000], B)
    >>> model.matmul(A[1000:]).shape, model.score(A[1000:], B) > 0.9
    ((1000, 3), True)

    Source: arXiv 2106.10860.
    """

    encoded_type = kernels.Codes

    trees_: Trees
    statistics_: Statistics
    ridge_: float
    prototypes_: np.ndarray
    tables_: Tables

    def __init__(
        self,
        ncodebooks: int = 16,
        *,
        leaves: int = 16,
        ridge: float | str = 1.0,
        n_candidates: int = 4,
        split_metric: str = "auto",
        split_lines: int | None = None,
        lut_bits: int = 8,
        lut_scale: str = "per_output",
        accumulate: str = "exact",
        upcast_every: int = 16,
        dense: bool = True,
        random_state: int = 0,
    ) -> None:
        self.ncodebooks, self.leaves, self.ridge, self.n_candidates = ncodebooks, leaves, ridge, n_candidates
        self.split_metric, self.split_lines = split_metric, split_lines
        self.lut_bits, self.lut_scale = lut_bits, lut_scale
        self.accumulate, self.upcast_every, self.dense = accumulate, upcast_every, dense
        self.random_state = random_state
        self._check_params()

    def _check_params(self) -> None:
        call = type(self).__name__
        whole(call, "ncodebooks", self.ncodebooks, low=1)
        whole(call, "n_candidates", self.n_candidates, low=1)
        for name, words in _WORDS.items():
            word = getattr(self, name)
            check(word in words, call, f"{name} among {', '.join(words)}", word, near(str(word), words))
        for name, numbers in _NUMBERS.items():
            number = whole(call, name, getattr(self, name))
            check(number in numbers, call, f"{name} among {numbers}", number, f"Pass {name}={numbers[0]}.")
        check(isinstance(self.dense, bool), call, "dense to be True or False", self.dense, "Pass dense=True.")
        if self.ridge != "cv":
            fix = 'Pass ridge=1.0, ridge="cv", or dense=False for none.'
            check(not isinstance(self.ridge, str), call, 'ridge to be a number or "cv"', self.ridge, fix)
            check(finite(call, "ridge", self.ridge) > 0, call, "ridge > 0", self.ridge, fix)  # type: ignore[arg-type]
        check(self.dense or self.ridge != "cv", call, 'dense=True with ridge="cv"', self.dense, "Leave out ridge.")
        if self.split_lines is not None:
            whole(call, "split_lines", self.split_lines, low=1)
            check(self.dense, call, "dense=True with split_lines", self.dense, "Leave out split_lines.")
        averaging(1, self.upcast_every)
        fits = self.accumulate == "exact" or self.lut_bits == 8
        check(fits, call, 'lut_bits=8 with accumulate="avg"', self.lut_bits, 'Pass accumulate="exact".')
        whole(call, "random_state", self.random_state)

    # Learning ---------------------------------------------------------------------------------------------------------

    def _fit(self, A: np.ndarray, B: np.ndarray | None, weight: np.ndarray | None) -> None:
        call = "Maddness.fit"
        enough = self.ncodebooks <= A.shape[1]
        check(enough, call, f"at least {self.ncodebooks} columns", A, f"Pass ncodebooks={A.shape[1]} or fewer.")
        aware = self.split_metric == "output" or (self.split_metric == "auto" and B is not None)
        check(B is not None or not aware, call, 'B with split_metric="output"', B, "Pass fit(A, B).")
        if weight is not None:
            A, weight = A[weight > 0], weight[weight > 0]
        few = self.ridge == "cv" and len(A) < FOLDS
        check(not few, call, f'at least {FOLDS} rows with ridge="cv"', A, "Pass more rows, or ridge=1.0.")
        factor = self._factor(A, B, weight) if aware else None
        learned = learn_trees(
            A, self.ncodebooks, self.leaves, n_candidates=self.n_candidates, weight=weight, factor=factor,
            feedback=self.dense, columns=self._columns(A, factor, weight),
        )  # fmt: skip
        statistics = Statistics.zero(self.ncodebooks, self.leaves, A.shape[1]).add(learned.codes, A, weight)
        self.ridge_ = self._ridge(statistics, learned.codes, A, B, weight)
        self.trees_, self.statistics_ = learned.trees, statistics
        self._set_prototypes()

    def _factor(self, A: np.ndarray, B: np.ndarray | None, weight: np.ndarray | None) -> np.ndarray:
        assert B is not None
        return leading(A, B, np.ones(len(A)) if weight is None else weight, self.random_state) if self.dense else B

    def _columns(self, A: np.ndarray, factor: np.ndarray | None, weight: np.ndarray | None) -> np.ndarray | None:
        """Those that trees may look at, or None for no limit."""
        if self.split_lines is None or self.split_lines >= count_lines(A.shape[1]):
            return None
        covariance = moments(A, weight)[1]
        return columns_of(best_lines(covariance, factor, self.split_lines), A.shape[1])

    def _ridge(
        self,
        total: Statistics,
        codes: np.ndarray,
        A: np.ndarray,
        B: np.ndarray | None,
        weight: np.ndarray | None,
    ) -> float:
        if self.ridge != "cv":
            return float(self.ridge) if self.dense else math.inf
        fold_of = np.random.default_rng(self.random_state).permutation(len(A)) % FOLDS

        def fold(i: int) -> Statistics:
            rows = np.flatnonzero(fold_of == i)
            empty = Statistics.zero(self.ncodebooks, self.leaves, A.shape[1])
            return empty.add(codes[rows], A[rows], None if weight is None else weight[rows])

        columns = spans(A.shape[1], self.ncodebooks)
        return choose_ridge(total, map(fold, range(FOLDS)), columns, None if B is None else B.astype(np.float64))

    def _set_prototypes(self) -> None:
        statistics = self.statistics_
        means = leaf_means(statistics, spans(statistics.sums.shape[1], self.trees_.ncodebooks))
        found = ridge_prototypes(statistics, means, self.ridge_)
        found = found[reachable(statistics.occurrences, statistics.leaves)]
        self.prototypes_ = found.reshape(self.trees_.ncodebooks, self.trees_.leaves, -1).astype(np.float32)

    def partial_fit(self, A: Any, B: Any = None, sample_weight: Any = None) -> Self:
        """Add rows to those that the prototypes are made from; the trees and the ridge (infinite: not dense) stay.

        Learn the trees from a part that fits in memory by `fit`, pass the rest in parts, and B with the last one: the
        prototypes are those of all rows at once with these trees.

        Args:
            A: (N, D), more rows.
            B: (D, M); None: the tables are dropped, and `set_B` comes later.
            sample_weight: (N,), as of `fit`.

        Raises:
            NotFittedError: there are no trees yet.
        """
        call = "Maddness.partial_fit"
        self._check_fitted(call)
        if not hasattr(self, "statistics_"):
            raise NotFittedError(f"{call}: expected what fit learned, got a loaded file. Call fit(A, B) first.")
        rows = as_training_rows(call, "A", A)
        check(rows.shape[1] == self.n_features_in_, call, f"A of shape (N, {self.n_features_in_})", rows, "")
        factor = None if B is None else as_factor(call, "B", B, rows.shape[1])
        weight = as_sample_weight(call, sample_weight, len(rows))
        codes = kernels.encode(rows, self.trees_).array()
        with self._all_or_nothing():
            self.statistics_ = self.statistics_.copy().add(codes, rows, weight)
            self._set_prototypes()
            self._forget_B()
            return self if factor is None else self.set_B(factor)

    # Products ---------------------------------------------------------------------------------------------------------

    @property
    def split_dims_(self) -> np.ndarray:
        """(C, L) int32, the column of each level of each codebook."""
        return self.trees_.dims

    @property
    def thresholds_(self) -> np.ndarray:
        """(C, K - 1) float32, in heap order."""
        return self.trees_.thresholds

    def _set_B(self, B: np.ndarray) -> None:
        if not hasattr(self, "prototypes_"):
            raise NotFittedError("Maddness.set_B: expected prototypes, got a file saved without. Save them too.")
        self.tables_ = make_tables(self.float_tables(B), self.lut_bits, self.lut_scale)

    def float_tables(self, B: np.ndarray) -> np.ndarray:
        """T before it is rounded, (M, C, K) float64, for a right factor (D, M)."""
        C, K, D = self.prototypes_.shape
        T = self.prototypes_.reshape(C * K, D).astype(np.float64) @ B.astype(np.float64)
        return np.ascontiguousarray(T.T).reshape(-1, C, K)

    def _encode(self, A: np.ndarray) -> kernels.Codes:
        return kernels.encode(A, self.trees_, self.accumulate, self.upcast_every)

    def _multiply(self, codes: kernels.Codes) -> np.ndarray:
        own, got = (self.trees_.ncodebooks, self.trees_.leaves), (codes.ncodebooks, codes.leaves)
        check(own == got, "Maddness.matmul", f"codes of {own} codebooks and leaves", got, "Encode with this estimator.")
        self._check_tables()
        return kernels.scan(codes, self.tables_, self.accumulate, self.upcast_every)

    def _check_tables(self) -> None:
        fits, expected = self.accumulate == "exact" or self.tables_.bits == 8, 'tables of 8 bits with accumulate="avg"'
        check(fits, "Maddness.matmul", expected, self.tables_.luts, "Call set_B(B) again.")

    def _product(self, A: np.ndarray) -> np.ndarray:
        self._check_tables()
        return kernels.multiply(A, self.trees_, self.tables_, self.accumulate, self.upcast_every)

    def _cost(self, n: int) -> Cost:
        C, M, L = self.tables_.ncodebooks, self.tables_.n_outputs, self.trees_.levels
        kept = (getattr(part, f.name) for part in (self.tables_, self.trees_) for f in dataclasses.fields(part))
        touched = len(np.unique(self.trees_.dims))
        return Cost(n * C * L + 2 * n * M, n * C * M, 4 * n * touched, sum(array.nbytes for array in kept))

    # Files ------------------------------------------------------------------------------------------------------------

    def save(self, path: str | PathLike[str], *, prototypes: bool = True) -> None:
        """Write a safetensors file that `hasten.matmul.maddness.load` reads.

        Args:
            path: of the file; one that is there is replaced once the new one is complete.
            prototypes: False: only what products with the present B need; another B is then refused.
        """
        from .files import save

        save(self, path, prototypes=prototypes)
