"""`hasten matmul bench`: error and speed of products, on a user's own activations, beside the exact ones.

Methods take turns, the order turned round every round. The time of a method is the median of its rounds, its speed-up
the median over the rounds of the quotient with float32 in the same round; both with the order statistics that hold the
median of the law with 95 %. Errors are on rows that were not learned from, with an interval over rows.

Nothing is ranked that is not separated: methods whose intervals of time overlap share places, and a method counts as
beaten only by one that is faster and more exact, both without overlap.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json as json_
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hasten._core import dispatch
from hasten._core.checks import near

from .matmul_data import Data, clear, data_of, invented, numbers, progress, wrong
from .matmul_error import by_row, exact_product, nmse_and_intervals, spread
from .matmul_methods import ALL, EXACT, USUAL, Method, Ready, Settings, methods_of
from .matmul_timing import Interval, median_interval, take_turns, threads_limited
from .memory import aligned, amount

__all__ = ["Asked", "Result", "bench", "beaten_by", "measure", "places"]

NCODEBOOKS, LEAVES, COMPONENTS = (8, 16, 32), (16, 64), (4, 8, 16, 32)
FEWEST_ROUNDS = 6  # with fewer no order statistics hold the median with 95 %


@dataclass(frozen=True)
class Asked:
    """The options, as they were written."""

    methods: str | None
    ncodebooks: str | None
    leaves: str | None
    components: str | None
    accumulate: str
    threads: int
    rounds: int
    seed: int


@dataclass(frozen=True)
class Result:
    """What was found of a method; `problem` says why there are no numbers. Times are in ms, of all rows."""

    method: str
    family: str
    title: str
    setting: str
    table_bytes: int = 0
    nmse: float = math.nan
    nmse_interval: Interval = (math.nan, math.nan)
    ms: float = math.nan
    ms_interval: Interval = (math.nan, math.nan)
    speedup: float = math.nan
    speedup_interval: Interval = (math.nan, math.nan)
    place: tuple[int, int] = (0, 0)
    beaten_by: tuple[str, ...] = ()
    runs: tuple[float, ...] = ()
    problem: str | None = None


def bench(
    a: Path | None, b: Path | None, shape: str | None, test: Path | None, asked: Asked, *, json: bool, out: Path | None
) -> None:  # fmt: skip
    """Measure, print, and write the picture."""
    data = _data(a, b, shape, test, asked.seed)
    methods = methods_of(_families(asked.methods), _settings(asked, data))
    if out is not None:
        from .matmul_picture import check_folder

        check_folder(out)
    with threads_limited(asked.threads), contextlib.ExitStack() as stack:
        stack.callback(clear)
        results = measure(methods, data, asked.rounds)
    lines = [json_.dumps(_plain(result, data, asked)) for result in results]
    print("\n".join(lines) if json else _table(results, data, asked))
    if out is not None:
        from .matmul_picture import write

        for path in write(out, results, lines, _title(data)):
            if not json:
                print(f"wrote {path}")


# What is asked for ----------------------------------------------------------------------------------------------------


def _data(a: Path | None, b: Path | None, shape: str | None, test: Path | None, seed: int) -> Data:
    if seed < 0:
        raise wrong("bench", "--seed of at least 0", str(seed))
    if shape is not None:
        if a is not None or test is not None:
            raise wrong("bench", "files or --shape", "both", "Leave one out.")
        return invented("bench", shape, seed)
    if a is None or b is None:
        raise wrong("bench", "A.npy and B.npy, or --shape", "none" if a is None else f"{a} alone",
                    "Pass two files, or --shape 10000,512,100.")  # fmt: skip
    data = data_of("bench", a, b, test, 0.5, seed)
    rows = [np.ascontiguousarray(part, np.float32) for part in (data.learn, data.test)]  # float32 holds them exactly
    return replace(data, learn=rows[0], test=rows[1])


def _families(text: str | None) -> list[str]:
    if text is None:
        return list(USUAL)
    names = [name.strip().lower() for name in text.split(",")]
    for name in names:
        if name not in (*ALL, "all"):
            raise wrong("bench", "--methods with names of methods", repr(name), near(name, (*ALL, "all")))
    return list(ALL) if "all" in names else list(dict.fromkeys(names))


def _settings(asked: Asked, data: Data) -> Settings:
    for name, value, low in (("threads", asked.threads, 1), ("rounds", asked.rounds, FEWEST_ROUNDS)):
        if value < low:
            raise wrong("bench", f"--{name} of at least {low}", str(value), f"Pass --{name} {low}.")
    leaves = list(LEAVES) if asked.leaves is None else numbers("bench", "--leaves", asked.leaves)
    strange = [number for number in leaves if number not in (16, 32, 64)]
    if strange:
        raise wrong("bench", "--leaves among 16, 32, 64", str(strange[0]), "Pass --leaves 16,64.")
    columns = data.factor.shape[0]
    outputs = data.factor.shape[1]
    saving = [size for size in COMPONENTS if size * (columns + outputs) < columns * outputs]  # multiplications
    ncodebooks = _sizes("--ncodebooks", asked.ncodebooks, NCODEBOOKS, columns)
    components = _sizes("--components", asked.components, saving or [1], columns)
    return Settings(ncodebooks, leaves, components, asked.accumulate, asked.threads, asked.seed)


def _sizes(option: str, text: str | None, usual: Sequence[int], columns: int) -> list[int]:
    """Those asked for, none above the columns of A; or the usual ones that are not."""
    if text is None:
        return [size for size in usual if size <= columns] or [columns]
    found = numbers("bench", option, text)
    if max(found) > columns:
        fix = f"Pass {option} {columns} or fewer."
        raise wrong("bench", f"{option} of at most {columns}, the columns of A", str(max(found)), fix)
    return found


# Measuring ------------------------------------------------------------------------------------------------------------


def measure(methods: list[Method], data: Data, rounds: int) -> list[Result]:
    """Learn, look at the errors, take turns, compare."""
    exact = exact_product(data.test, data.factor)
    spreads = spread(exact)
    if not spreads.any():
        raise wrong("bench", "products that differ", "the same in every row and output", "Take other rows.")
    results, ready, errors = [], [], []
    for method in methods:
        progress(f"learning {method.name}")
        found, error, problem = _prepared(method, data, exact)
        results.append(Result(method.name, method.family, method.title, method.setting, problem=problem))
        if found is not None and error is not None:
            ready.append(found)
            errors.append(error)
    intervals = nmse_and_intervals(np.array(errors), spreads)
    seconds = take_turns([found.run for found in ready], rounds)
    parts = iter(zip(ready, intervals, seconds, strict=True))
    results = [r if r.problem else _numbers(r, *next(parts), seconds[0]) for r in results]
    return _compared(results)


def _prepared(method: Method, data: Data, exact: np.ndarray) -> tuple[Ready | None, np.ndarray | None, str | None]:
    """The method, the error of each row, and what is wrong with it; float32 must work."""
    try:
        ready = method.prepare(data)
        error = by_row(exact, ready.run())
    except (TypeError, ValueError, RuntimeError) as refused:
        if method.family == "float32":
            raise
        return None, None, f"refuses this: {str(refused).splitlines()[0] if str(refused) else type(refused).__name__}"
    if not np.isfinite(error).all():
        return None, None, "gives NaN or infinity"
    return ready, error, None


def _numbers(
    result: Result, ready: Ready, error: tuple[float, float, float], seconds: list[float], base: list[float]
) -> Result:  # fmt: skip
    ms, ms_interval = median_interval([1e3 * s for s in seconds])
    speedup, speedup_interval = median_interval([b / s for b, s in zip(base, seconds, strict=True)])
    return replace(
        result, table_bytes=ready.table_bytes, nmse=error[0], nmse_interval=error[1:], ms=ms, ms_interval=ms_interval,
        speedup=speedup, speedup_interval=speedup_interval, runs=tuple(round(1e3 * s, 6) for s in seconds),
    )  # fmt: skip


# Comparing ------------------------------------------------------------------------------------------------------------


def _compared(results: list[Result]) -> list[Result]:
    good = [result for result in results if result.problem is None]
    found = dict(zip((result.method for result in good), places([r.ms_interval for r in good]), strict=True))
    return [
        result if result.problem else replace(result, place=found[result.method], beaten_by=beaten_by(result, good))
        for result in results
    ]


def places(intervals: Sequence[Interval]) -> list[tuple[int, int]]:
    """The first and the last place that each may have, the smallest first: only what does not overlap is ranked.

    >>> places([(1, 2), (5, 6), (4, 5), (8, 9)])
    [(1, 1), (2, 3), (2, 3), (4, 4)]
    """
    lows, highs = np.array(intervals).reshape(-1, 2).T
    before = [int((highs < low).sum()) for low in lows]
    after = [int((lows > high).sum()) for high in highs]
    return [(1 + first, len(lows) - last) for first, last in zip(before, after, strict=True)]


def beaten_by(result: Result, others: Sequence[Result]) -> tuple[str, ...]:
    """The methods that are both faster and more exact than this one, where no interval overlaps."""
    return tuple(
        other.method
        for other in others
        if other.ms_interval[1] < result.ms_interval[0] and other.nmse_interval[1] < result.nmse_interval[0]
    )


# Saying ---------------------------------------------------------------------------------------------------------------


def _plain(result: Result, data: Data, asked: Asked) -> dict[str, Any]:
    """A result as JSON: no NaN."""
    found: dict[str, Any] = dataclasses.asdict(result)
    if result.problem is not None:
        found = {key: found[key] for key in ("method", "family", "title", "setting", "problem")}
    columns, outputs = data.factor.shape
    return found | {
        "data": data.name, "rows": len(data.test), "columns": columns, "outputs": outputs, "learned": len(data.learn),
        "threads": asked.threads, "isa": dispatch.isa(), "version": 1,
    }  # fmt: skip


def _title(data: Data) -> str:
    columns, outputs = data.factor.shape
    return f"{len(data.test):,} rows, {columns} columns to {outputs} outputs"


def _table(results: list[Result], data: Data, asked: Asked) -> str:
    threads = "1 thread" if asked.threads == 1 else f"{asked.threads} threads"
    head = f"{data.name}: {_title(data)}; learned from {len(data.learn):,} others; {threads}, {dispatch.isa()}"
    good = [result for result in results if result.problem is None]
    columns = [
        ["", *(f"{result.method}{'' if result.beaten_by else ' *'}" for result in good)],
        ["NMSE", *(f"{result.nmse:.2g}" for result in good)],
        ["95 %", *(_span(result.nmse_interval, ".2g") for result in good)],
        ["ms", *(f"{result.ms:.3g}" for result in good)],
        ["95 %", *(_span(result.ms_interval, ".3g") for result in good)],
        ["place", *(_place(result.place) for result in good)],
        ["speed-up", *(f"{result.speedup:.3g}" for result in good)],
        ["95 %", *(_span(result.speedup_interval, ".3g") for result in good)],
        ["tables", *(amount(result.table_bytes) for result in good)],
    ]
    refused = [f"{result.method}: {result.problem}" for result in results if result.problem]
    return "\n".join([head, "", *aligned(columns), *refused, "", *_reading(good)])


def _span(interval: Interval, form: str) -> str:
    return f"{interval[0]:{form}} .. {interval[1]:{form}}"


def _place(place: tuple[int, int]) -> str:
    first, last = place
    return f"{first}" if first == last else f"{first}-{last}"


def _reading(results: list[Result]) -> list[str]:
    """How to read the table, and what it says."""
    exact = [result for result in results if result.family in EXACT]
    fastest = min(result.ms_interval[0] for result in exact)
    faster = [r.method for r in results if r.family not in EXACT and r.ms_interval[1] < fastest]
    return [
        "*  no other method here is both faster and more exact. Speed-up: against float32. Places are by time: methods",
        "   whose intervals overlap share them.",
        f"Faster than all exact products here: {', '.join(faster) or 'none'}.",
    ]
