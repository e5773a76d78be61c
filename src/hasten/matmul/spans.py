"""How columns are divided among codebooks."""

from __future__ import annotations

import itertools

import numpy as np

__all__ = ["spans"]


def spans(n_features: int, ncodebooks: int) -> list[slice]:
    """The columns of each codebook: contiguous, and the first `n_features % ncodebooks` have one more.

    >>> spans(5, 2)
    [slice(0, 3, None), slice(3, 5, None)]
    """
    small, more = divmod(n_features, ncodebooks)
    edges = np.cumsum([0] + [small + (c < more) for c in range(ncodebooks)]).tolist()
    return [slice(low, high) for low, high in itertools.pairwise(edges)]
