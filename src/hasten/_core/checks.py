"""Errors in one form: `<call>: expected <what>, got <value, shape or dtype>. <the line that fixes it>`.

Bad input from a user is a `ValueError` or `TypeError` built here; `assert` is only for our own invariants.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any

__all__ = [
    "NonFiniteError", "below_one", "check", "describe", "finite", "fraction", "missing_extra", "near", "positive",
    "refuse", "refuse_type", "whole",
]  # fmt: skip


class NonFiniteError(RuntimeError):
    """A loss, a gradient or a metric is no longer a finite number: this training has failed, its code has not."""


def describe(value: Any) -> str:
    """`value` as an error message shows it: shape, dtype and device for a tensor or array, a short `repr` else."""
    shape, dtype = getattr(value, "shape", None), getattr(value, "dtype", None)
    if shape is not None and dtype is not None:
        return f"{type(value).__name__} of shape {tuple(shape)} and dtype {dtype}"
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _message(call: str, expected: str, got: Any, fix: str) -> str:
    return f"{call}: expected {expected}, got {got if isinstance(got, str) else describe(got)}. {fix}".rstrip()


def refuse(call: str, expected: str, got: Any, fix: str = "") -> ValueError:
    """A `ValueError` in the house form; the caller raises it. A `str` in `got` is shown as it stands."""
    return ValueError(_message(call, expected, got, fix))


def refuse_type(call: str, expected: str, got: Any, fix: str = "") -> TypeError:
    """A `TypeError` in the house form; the caller raises it."""
    return TypeError(_message(call, expected, got, fix))


def check(condition: bool, call: str, expected: str, got: Any, fix: str = "") -> None:
    """Raise the house `ValueError` unless `condition` holds."""
    if not condition:
        raise refuse(call, expected, describe(got), fix)


def finite(call: str, name: str, value: float) -> float:
    """`value` as a finite float, or a `ValueError` that names the argument."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise refuse(call, f"a finite number for {name}", describe(value), f"Pass {name}= a finite number.")
    return float(value)


def positive(call: str, name: str, value: float) -> float:
    """`value` as a finite float above 0."""
    check(finite(call, name, value) > 0, call, f"{name} > 0", value, f"Pass {name}= a positive number.")
    return float(value)


def fraction(call: str, name: str, value: float, *, low: float = 0.0, high: float = 1.0) -> float:
    """`value` as a float in `[low, high]`."""
    number = finite(call, name, value)
    check(low <= number <= high, call, f"{name} in [{low:g}, {high:g}]", value, f"Pass {name}= a value in that range.")
    return number


def below_one(call: str, name: str, value: float, fix: str | None = None) -> float:
    """`value` as a float in `[0, 1)`; `fix` is what to do about a 1."""
    number = fraction(call, name, value)
    check(number < 1, call, f"{name} < 1", value, f"Pass {name}= a value below 1." if fix is None else fix)
    return number


def whole(call: str, name: str, value: int, *, low: int = 0) -> int:
    """`value` as an int of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise refuse(call, f"a whole number of at least {low} for {name}", describe(value), f"Pass {name}= one.")
    return value


def near(name: str, known: Iterable[str]) -> str:
    """The end of a "not found" message: the nearest known names, or all of them if none is near."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return f"Did you mean {' or '.join(close)}?"
    return f"Known: {', '.join(names)}." if names else "None is known."


def missing_extra(call: str, package: str, extra: str) -> ImportError:
    """The error of an optional package that is not installed: it names the extra to install."""
    return ImportError(
        f"{call}: needs {package}, which is not installed. Install it with: pip install 'hasten[{extra}]'"
    )
