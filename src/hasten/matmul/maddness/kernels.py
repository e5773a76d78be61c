"""Encode and scan as the estimator calls them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..base import Encoded
from . import numpy_kernels
from .tables import Tables
from .trees import Trees

__all__ = ["Codes", "encode", "scan"]


@dataclass(frozen=True, eq=False)
class Codes(Encoded):
    """The codes of rows; how they lie in memory is the kernels' own affair."""

    ncodebooks: int
    leaves: int

    def array(self) -> np.ndarray:
        """The codes as (N, C) uint8 in [0, K)."""
        return self.values


def encode(x: np.ndarray, trees: Trees) -> Codes:
    """The codes of rows `x`, (N, D) of any strides."""
    values = numpy_kernels.encode(x, trees.dims, trees.thresholds)
    return Codes(values, len(values), trees.ncodebooks, trees.leaves)


def scan(
    codes: Codes, tables: Tables, accumulate: str = "exact", upcast_every: int = 16, out: np.ndarray | None = None
) -> np.ndarray:
    """The approximate product, (N, M) float32."""
    return numpy_kernels.scan(codes.array(), tables, accumulate, upcast_every, out)
