"""MADDNESS."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..._core.checks import check, finite, near, refuse, whole
from ..base import ApproxMatmul, Cost
from . import kernels
from .prototypes import Statistics, choose_ridge, leaf_means, reachable, ridge_prototypes
from .tables import LUT_BITS, LUT_SCALES, Tables, averaging, make_tables
from .trees import LEAVES, Trees, learn_trees, spans

__all__ = ["Maddness"]


class Maddness(ApproxMatmul):
    """Matrix products by hashing and table look-up."""

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
        split_metric: str = "input",
        lut_bits: int = 8,
        lut_scale: str = "per_output",
        accumulate: str = "exact",
        upcast_every: int = 16,
        dense: bool = True,
        random_state: int | None = None,
    ) -> None:
        self.ncodebooks, self.leaves, self.ridge, self.n_candidates = ncodebooks, leaves, ridge, n_candidates
        self.split_metric, self.lut_bits, self.lut_scale = split_metric, lut_bits, lut_scale
        self.accumulate, self.upcast_every, self.dense = accumulate, upcast_every, dense
        self.random_state = random_state

    def _fit(self, A: np.ndarray, B: np.ndarray | None, weight: np.ndarray | None) -> None:
        call = "Maddness.fit"
        check(self.ncodebooks <= A.shape[1], call, f"at least {self.ncodebooks} columns", A, "Pass fewer ncodebooks.")
        factor = B if self.split_metric == "output" else None
        learned = learn_trees(
            A, self.ncodebooks, self.leaves, n_candidates=self.n_candidates, weight=weight, factor=factor
        )
        self.trees_ = learned.trees
        self.statistics_ = Statistics.zero(self.ncodebooks, self.leaves, A.shape[1]).add(learned.codes, A, weight)
        self.ridge_ = 1.0 if self.ridge == "cv" else float(self.ridge)
        self._set_prototypes()

    def _set_prototypes(self) -> None:
        statistics = self.statistics_
        found = leaf_means(statistics, spans(statistics.sums.shape[1], self.trees_.ncodebooks))
        if self.dense:
            found = ridge_prototypes(statistics, found, self.ridge_)
        found = found[reachable(statistics.occurrences, statistics.leaves)]
        self.prototypes_ = found.reshape(self.trees_.ncodebooks, self.trees_.leaves, -1).astype(np.float32)

    @property
    def split_dims_(self) -> np.ndarray:
        """(C, L) int32."""
        return self.trees_.dims

    @property
    def thresholds_(self) -> np.ndarray:
        """(C, K - 1) float32."""
        return self.trees_.thresholds

    def _set_B(self, B: np.ndarray) -> None:
        T = np.einsum("ckd,dm->mck", self.prototypes_.astype(np.float64), B.astype(np.float64), optimize=True)
        self.tables_ = make_tables(T, self.lut_bits, self.lut_scale)

    def _encode(self, A: np.ndarray) -> kernels.Codes:
        return kernels.encode(A, self.trees_)

    def _multiply(self, codes: kernels.Codes) -> np.ndarray:
        return kernels.scan(codes, self.tables_, self.accumulate, self.upcast_every)
