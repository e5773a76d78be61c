"""`hasten matmul fit` and `apply`: learn a product by look-up, keep it in a file, use it."""

from __future__ import annotations

import json as json_
import sys
from pathlib import Path
from typing import Any

import numpy as np

from hasten._core.files import new_file
from hasten.matmul import Maddness
from hasten.matmul.maddness import kernels, load

from . import UsageError
from .matmul_data import BLOCK, Data, clear, data_of, new_path, options_of, progress, read_rows, wrong
from .matmul_error import by_row, exact_product, nmse_and_intervals, spread
from .memory import amount

__all__ = ["apply", "fit"]


def fit(
    a: Path, b: Path, out: Path, options: dict[str, Any], *, test: Path | None, held_out: float, json: bool,
    force: bool,
) -> None:  # fmt: skip
    """Learn, report, save. The saved model is the one whose error is reported."""
    if not 0 < held_out < 1:
        raise wrong("fit", "--held-out between 0 and 1", f"{held_out:g}", "Pass --held-out 0.2.")
    model = options_of("fit", Maddness, {**options, "ridge": _ridge(options["ridge"])})
    new_path("fit", out, force)
    data = data_of("fit", a, b, test, held_out, model.random_state)
    columns = data.learn.shape[1]
    if model.ncodebooks > columns:
        fix = f"Pass --ncodebooks {columns} or fewer."
        raise wrong("fit", f"--ncodebooks of at most {columns}, the columns of {a}", str(model.ncodebooks), fix)
    progress(f"learning {model.ncodebooks} codebooks from {len(data.learn):,} rows")
    try:
        model.fit(data.learn, data.factor)
    except ValueError as error:
        raise UsageError(f"matmul fit: {error}") from error
    finally:
        clear()
    nmse, low, high = _error(model, data)
    model.save(out)
    said = {
        "file": str(out), "ncodebooks": model.ncodebooks, "leaves": model.leaves, "columns": columns,
        "outputs": model.n_outputs_, "learned": len(data.learn), "tested": len(data.test), "nmse": nmse,
        "nmse_interval": [low, high], "ridge": model.ridge_, "table_bytes": model.cost(1).table_bytes,
    }  # fmt: skip
    print(json_.dumps(said) if json else _words(said))


def _ridge(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _error(model: Maddness, data: Data) -> tuple[float, float, float]:
    exact = exact_product(data.test, data.factor)
    spreads = spread(exact)
    if not spreads.any():
        raise wrong("fit", "products that differ", "the same in every row and output", "Test on other rows.")
    return nmse_and_intervals(by_row(exact, model.matmul(data.test))[None], spreads)[0]


def _words(said: dict[str, Any]) -> str:
    low, high = said["nmse_interval"]
    return (
        f"{said['file']}: {said['ncodebooks']} codebooks of {said['leaves']} leaves, {said['columns']} columns to "
        f"{said['outputs']} outputs, {amount(said['table_bytes'])} of tables and trees\n"
        f"learned from {said['learned']:,} rows, ridge {said['ridge']:g}\n"
        f"NMSE {said['nmse']:.3g} on {said['tested']:,} other rows, 95 % interval {low:.3g} .. {high:.3g}"
    )


def apply(model: Path, a: Path, out: Path, *, threads: int, force: bool) -> None:
    """Multiply the rows of a file, some at a time, and write a file."""
    if threads < 1:
        raise wrong("apply", "--threads of at least 1", str(threads))
    found = _loaded(model)
    rows = read_rows("apply", a, found.n_features_in_, finite=False)
    new_path("apply", out, force)
    strange = 0
    with new_file(out) as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (len(rows), found.n_outputs_)}
        np.lib.format.write_array_header_1_0(file, header)
        step = max(1, BLOCK // max(rows.shape[1], found.n_outputs_))
        for start in range(0, len(rows), step):
            block = rows[start : start + step]
            how = found.accumulate, found.upcast_every
            products = kernels.multiply(block, found.trees_, found.tables_, *how, threads=threads)
            file.write(products.astype("<f4", copy=False).tobytes())
            if block.dtype.kind == "f":
                strange += int((~np.isfinite(block).all(axis=1)).sum())
    if strange:
        print(f"{a}: {strange:,} rows hold NaN or infinity; their products mean nothing", file=sys.stderr)
    print(f"{out}: {len(rows):,} rows of {found.n_outputs_:,} outputs")


def _loaded(path: Path) -> Maddness:
    try:
        found = load(path)
    except OSError as error:
        raise wrong("apply", f"a file that can be read, {path}", error.strerror or str(error)) from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not hasattr(found, "n_outputs_"):
        raise ValueError(f"{path}: expected tables to multiply with, got prototypes alone. Save it after fit(A, B).")
    return found
