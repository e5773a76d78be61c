"""Several questions, one error rate: Holm for confirmatory families, Benjamini-Hochberg for sweeps.

Both take raw p-values and return adjusted ones, to be compared with alpha itself. A question that was planned but
could not be answered (a censored target) enters with p = 1: the family is fixed before the data are seen, so leaving
out what turned out unanswerable can never make another answer easier.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..._core.checks import check

__all__ = ["benjamini_hochberg", "holm"]


def _checked(call: str, p: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(p, dtype=np.float64)
    check(values.ndim == 1, call, "a list of p-values", values, "Pass one p-value per question.")
    check(bool(((values >= 0) & (values <= 1)).all()), call, "p-values in [0, 1]", values, "Pass raw p-values.")
    return values


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down adjustment: adjusted p_(i) = max_{j <= i} min(1, (m - j + 1) p_(j)), p_(1) the smallest.

    Controls the probability of even one false answer in the family, whatever the dependence between questions.
    Use it for the arms x (budgets + targets) of one study.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    values = _checked("holm", p)
    order = np.argsort(values, kind="stable")
    scaled = values[order] * (len(values) - np.arange(len(values)))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(scaled)) if len(values) else scaled
    return adjusted


def benjamini_hochberg(p: ArrayLike) -> NDArray[np.float64]:
    """Benjamini-Hochberg's step-up adjustment: adjusted p_(i) = min_{j >= i} min(1, m p_(j) / j).

    Controls the expected share of false answers among the positive ones (for independent or positively dependent
    questions). Use it for sweeps over many settings, never for the claims of a report.

    >>> benjamini_hochberg([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.04, 0.04]
    """
    values = _checked("benjamini_hochberg", p)
    order = np.argsort(values, kind="stable")
    scaled = values[order] * len(values) / (1 + np.arange(len(values)))
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1]) if len(values) else scaled
    return adjusted
