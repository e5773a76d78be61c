"""Estimators as safetensors files: a table of named arrays, and no code.

    8 bytes    length of the header, little-endian
    header     JSON: for each array its dtype, shape and place; under `__metadata__` text by name
    arrays     one after the other, little-endian, without gaps

`__metadata__` holds the format's name and version, the constructor's arguments as JSON, and the number of columns. The
arrays are `split_dims`, `thresholds`, and where there are any `prototypes`, `luts`, `scale`, `offset`. Any safetensors
reader shows them; this one needs no package, and believes nothing: sizes, places, shapes and values are checked.
"""

from __future__ import annotations

import json
import math
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ..._core.checks import check, refuse
from ..._core.files import new_file
from .estimator import Maddness
from .tables import Tables
from .trees import Trees

__all__ = ["load", "save"]

FORMAT, VERSION = "hasten.maddness", "1"
MAX_HEADER, MAX_DIMENSIONS = 1 << 20, 3
_DTYPES = {"U8": "<u1", "U16": "<u2", "I32": "<i4", "F32": "<f4"}
_NAMES = {np.dtype(code): name for name, code in _DTYPES.items()}
_FIX = "Write it again with save."


def save(estimator: Maddness, path: str | PathLike[str], *, prototypes: bool = True) -> None:
    """Write a fitted estimator.

    What `partial_fit` would need (counts and sums of the rows) is left out: a file is for products. Pickle keeps it.

    Args:
        estimator: one that was fitted.
        path: of the file; one that is there is replaced once the new one is complete.
        prototypes: False: only what products with the present B need; another B is then refused.

    Raises:
        NotFittedError: nothing was learned, or there is nothing to multiply with.
    """
    estimator._check_fitted("Maddness.save")
    arrays = {"split_dims": estimator.split_dims_, "thresholds": estimator.thresholds_}
    kept = prototypes and hasattr(estimator, "prototypes_")
    if kept:
        arrays["prototypes"] = estimator.prototypes_
    ready = hasattr(estimator, "n_outputs_")
    check(kept or ready, "Maddness.save", "a B or prototypes=True", "neither", "Call set_B(B) first.")
    if ready:
        tables = estimator.tables_
        arrays |= {"luts": tables.luts, "scale": tables.scale, "offset": tables.offset}
    try:
        _estimator(arrays, estimator.get_params(), estimator.n_features_in_)
    except ValueError as error:
        raise refuse("Maddness.save", "arguments that were used", f"changed ones: {error}", "Call fit again.") from None
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "params": json.dumps(estimator.get_params()),
        "n_features": str(estimator.n_features_in_),
    }
    with new_file(Path(path)) as file:
        file.write(_packed(arrays, metadata))


def load(path: str | PathLike[str]) -> Maddness:
    """Read what `save` wrote.

    Args:
        path: of the file. It may come from anywhere: nothing in it is run.

    Returns:
        An estimator that gives the same products. It has no `statistics_`, so `partial_fit` refuses.

    Raises:
        ValueError: not such a file, a damaged one, or one of a newer version. OSError: it cannot be read.

    >>> import tempfile
    >>> A = np.random.default_rng(0).standard_normal((100, 4), dtype=np.float32)
    >>> model = Maddness(ncodebooks=2).fit(A, np.eye(4))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model.save(f"{folder}/model.safetensors")
    ...     same = load(f"{folder}/model.safetensors")
    >>> bool((same.matmul(A) == model.matmul(A)).all())
    True
    """
    arrays, metadata = _unpacked(Path(path).read_bytes())
    name, version = metadata.get("format"), metadata.get("version")
    check(name == FORMAT, "load", f"a file of the format {FORMAT}", str(name), _FIX)
    check(version == VERSION, "load", f"version {VERSION}", str(version), "Update hasten, or write it again with save.")
    try:
        return _estimator(arrays, json.loads(metadata["params"]), int(metadata["n_features"]))
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise refuse("load", "a consistent file", f"one where {error}", _FIX) from error


def _estimator(arrays: dict[str, np.ndarray], params: Any, n_features: int) -> Maddness:
    """An estimator of checked arrays."""
    found = Maddness(**params)
    trees = Trees(arrays["split_dims"], arrays["thresholds"])
    shape = (trees.ncodebooks, trees.leaves)
    fits = trees.dims.max() < n_features and shape == (found.ncodebooks, found.leaves)
    check(fits, "load", "trees that fit the arguments", arrays["split_dims"], "")
    found.trees_, found.n_features_in_ = trees, n_features
    check("prototypes" in arrays or "luts" in arrays, "load", "prototypes or tables", "neither", "")
    if "prototypes" in arrays:
        prototypes = arrays["prototypes"]
        good = prototypes.shape == (*shape, n_features) and prototypes.dtype == np.float32
        check(good and bool(np.isfinite(prototypes).all()), "load", "finite prototypes (C, K, D)", prototypes, "")
        found.prototypes_ = prototypes
    if "luts" in arrays:
        tables = Tables(arrays["luts"], arrays["scale"], arrays["offset"])
        good = tables.luts.shape[1:] == shape and tables.bits == found.lut_bits
        check(good, "load", "tables that fit the arguments", tables.luts, "")
        found.tables_, found.n_outputs_ = tables, tables.n_outputs
    return found


def _packed(arrays: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """A safetensors file."""
    header: dict[str, Any] = {"__metadata__": metadata}
    parts, place = [], 0
    for name, array in arrays.items():
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        part = little.tobytes()
        header[name] = {"dtype": _NAMES[little.dtype], "shape": array.shape, "data_offsets": [place, place + len(part)]}
        parts.append(part)
        place += len(part)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def _unpacked(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and metadata of a safetensors file."""
    size = int.from_bytes(data[:8], "little")
    fits = len(data) >= 8 and size <= min(MAX_HEADER, len(data) - 8)
    check(fits, "load", "a safetensors file", f"{len(data)} other bytes", _FIX)
    try:
        header = json.loads(data[8 : 8 + size].decode())
        metadata = header.pop("__metadata__")
        places = {name: _place(name, e["dtype"], [*e["shape"]], [*e["data_offsets"]]) for name, e in header.items()}
    except (AttributeError, KeyError, TypeError, RecursionError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise refuse("load", "a safetensors header", f"one where {error!r}", _FIX) from None
    texts = isinstance(metadata, dict) and all(isinstance(value, str) for value in metadata.values())
    check(texts, "load", "metadata of text", type(metadata).__name__, _FIX)
    body = data[8 + size :]
    edges = sorted((low, high) for _, _, low, high in places.values())
    ends = [0, *(high for _, high in edges)]
    seamless = [low for low, _ in edges] == ends[:-1] and ends[-1] == len(body)
    check(seamless, "load", f"arrays that fill {len(body)} bytes without gaps", f"{edges}", _FIX)
    arrays = {
        name: np.frombuffer(body[low:high], code).reshape(shape).astype(code.newbyteorder("="))
        for name, (code, shape, low, high) in places.items()
    }
    return arrays, metadata


def _place(name: str, dtype: Any, shape: list[Any], offsets: list[Any]) -> tuple[np.dtype, list[int], int, int]:
    """What a header says of an array, if it makes sense: dtype, shape, first byte and the one after the last."""
    whole = all(type(number) is int and number >= 0 for number in (*shape, *offsets)) and len(offsets) == 2
    known = isinstance(dtype, str) and dtype in _DTYPES
    check(whole and known, "load", f"a dtype, a shape and a place of {name}", f"{dtype}, {shape}, {offsets}", _FIX)
    code, (low, high) = np.dtype(_DTYPES[dtype]), offsets
    right = high - low == math.prod(shape) * code.itemsize and len(shape) <= MAX_DIMENSIONS
    check(right, "load", f"bytes of {name} as its shape says", f"{shape} at {offsets}", _FIX)
    return code, shape, low, high
