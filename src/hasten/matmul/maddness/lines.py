"""Which cache lines of a row trees may look at.

Where rows lie in memory one after the other, encoding takes as long as it takes to read the lines of 64 bytes that hold
the columns of some tree. Few lines are enough where columns know of each other, as those of activations do.

Lines are taken one after the other, each time the one whose columns describe most of what is left of the product, by
linear regression on all columns taken so far. Any tree may then look at any of them.
"""

from __future__ import annotations

import numpy as np

__all__ = ["LINE", "best_lines", "columns_of", "count_lines"]

LINE = 16  # columns: 64 bytes of float32
_RIDGE = 1e-3  # of the regression, as a share of the columns' mean variance


def count_lines(n_features: int) -> int:
    """The lines of a row that begins with one; the last one may be shorter.

    >>> count_lines(512), count_lines(20)
    (32, 2)
    """
    return -(-n_features // LINE)


def columns_of(lines: list[int], n_features: int) -> np.ndarray:
    """All columns of some lines, in order.

    >>> columns_of([1], 20)
    array([16, 17, 18, 19])
    """
    every = np.arange(n_features)
    return every[np.isin(every // LINE, lines)]


def best_lines(covariance: np.ndarray, factor: np.ndarray | None, count: int) -> list[int]:
    """The lines that describe the product best.

    Args:
        covariance: (D, D) float64, of the columns of A.
        factor: (D, M), the product's; None: the product is A itself.
        count: how many, at least 1.

    Returns:
        Their numbers, the most important first; of equals the first one.

    >>> best_lines(np.diag(np.arange(40.0)), None, 2)
    [1, 2]
    """
    D = len(covariance)
    left = covariance + (_RIDGE * np.trace(covariance) / D or 1.0) * np.eye(D)  # of each pair of columns
    product = covariance @ (np.eye(D) if factor is None else factor)  # of each column with each output
    lines = {line: np.arange(line * LINE, min(line * LINE + LINE, D)) for line in range(count_lines(D))}
    taken: list[int] = []
    while lines and len(taken) < count:
        explained = [_explained(left[np.ix_(own, own)], product[own]) for own in lines.values()]
        best = list(lines)[int(np.argmax(explained))]
        own = lines.pop(best)
        root = np.linalg.cholesky(left[np.ix_(own, own)])
        with_left, with_product = np.linalg.solve(root, left[own]), np.linalg.solve(root, product[own])
        left, product = left - with_left.T @ with_left, product - with_left.T @ with_product
        taken.append(best)
    return taken


def _explained(variance: np.ndarray, product: np.ndarray) -> float:
    """How much of the product's variance a regression on these columns describes."""
    return float(np.square(np.linalg.solve(np.linalg.cholesky(variance), product)).sum())
