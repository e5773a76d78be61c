"""What the codecs of `tsz` for other libraries have in common: their settings."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from hasten._core.checks import refuse, refuse_type
from hasten.codecs.sprintz.encode import finish_header, make_options
from hasten.codecs.sprintz.table import describe_dtype

__all__ = ["Settings"]


@dataclass(frozen=True)
class Settings:
    """How to encode, checked when it is made; decoding needs none of it but `time_axis`."""

    profile: str = "auto"
    predictor: str = "auto"
    entropy: str = "auto"
    cross: str | bool = "auto"
    max_error: float | None = None
    time_axis: int = 0

    def __post_init__(self) -> None:
        call = type(self).__name__
        make_options(call, **self.options())
        if isinstance(self.time_axis, bool) or not isinstance(self.time_axis, int):
            raise refuse_type(call, "time_axis a whole number", repr(self.time_axis), "Pass time_axis=0, say.")

    def options(self) -> dict[str, Any]:
        """The arguments of `encode_block` and `compress`."""
        return {field.name: getattr(self, field.name) for field in fields(Settings) if field.name != "time_axis"}

    def changed(self) -> dict[str, Any]:
        """The settings that are not the defaults, for JSON."""
        values = {field.name: (getattr(self, field.name), field.default) for field in fields(Settings)}
        return {name: value for name, (value, default) in values.items() if value != default}

    def axis(self, ndim: int) -> int:
        """The axis of time of an array with one dimension or more, counted from the first."""
        if not -ndim <= self.time_axis < ndim:
            what = f"time_axis an axis of an array with {ndim} dimension{'s' * (ndim != 1)}"
            raise refuse(type(self).__name__, what, repr(self.time_axis), "Pass time_axis=0, say.")
        return self.time_axis % ndim

    def check(self, dtype: np.dtype, ndim: int, chunk: tuple[int, ...] = ()) -> None:
        """Refuse arrays of which no block can be made, and blocks of such a shape."""
        call = type(self).__name__
        if not ndim:
            fix = "Use the default serializer, or an array of shape (1,)."
            raise refuse(call, "an array with one dimension or more", "one without", fix)
        axis = self.axis(ndim)
        ncols = math.prod(size for i, size in enumerate(chunk) if i != axis)
        found = {"ncols": ncols, **describe_dtype(call, dtype, min(ndim, 2))}
        finish_header(call, found, options=make_options(call, **self.options()))

    def unmasked(self, x: Any) -> np.ndarray:
        """What is to be encoded as an ordinary array; chunks of these libraries have no masks."""
        if np.ma.is_masked(x):
            fix = "Fill them first: x.filled(0), say."
            raise refuse(type(self).__name__, "no missing values", f"{int(np.ma.count_masked(x))} of them", fix)
        return np.asarray(x)
