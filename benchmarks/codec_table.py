"""Ratio and speed of the codecs on sensor data: one line for each data set and codec.

    python benchmarks/codec_table.py --json --data DIR                everything
    python benchmarks/codec_table.py --sets native walk_16            what the claims are about, as tables
    python benchmarks/codec_table.py --record DIR --claims            lines into DIR, then what is held and what missed
    python benchmarks/codec_table.py --claims DIR/codec_table.jsonl   the same of lines that are there

`ratio` is raw over compressed bytes, headers and checksums included; `compress_gbps` and `decompress_gbps` are raw
bytes per second / 1e9. One thread. Every codec must give the very bytes back before it is timed. The layout of a peer
is the one of the best ratio, found in a pilot that is not timed; ours is the faster one of `col` and `row`, for
compression and decompression together. Then the codecs of a set take turns, the order turned round every round; a
figure is the mean of as many calls as take `--seconds-per-figure`. The speeds are medians over the rounds by the clock,
their intervals order statistics of 95 % (of fewer than six rounds: the least and the largest), `_cpu_gbps` the medians
by CPU time. `cpu_share` is CPU time over time by the clock: well below 1, other work had the core, and the speeds are
none; above 1, a codec had several threads. Sets that fit into a cache stay in it: their speeds are no speeds of memory.

A line with `skipped` says why there are no numbers: a peer that is not installed (`pip install --group peers`, and the
extra `zstd`), or a dtype that a codec has not. `_codec_sets.py` has the data, `_codec_peers.py` the codecs,
`_codec_claims.py` the claims.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import _codec_peers
import _codec_sets
import numpy as np
from _codec_claims import judge
from _codec_measure import WRONG, Candidate, Times, prepare, take_turns
from _codec_peers import Codec
from _codec_sets import DataSet, describe
from _intervals import median_interval
from _record import emit, record

import hasten
from hasten._core import dispatch

FILE = "codec_table.jsonl"
ALONE = (0.97, 1.03)  # a cpu_share outside is worth a warning

Line = dict[str, Any]


def measure(one: DataSet, codecs: list[Codec], options: argparse.Namespace) -> Iterator[Line]:
    """The lines of a set, once all its codecs are measured."""
    arrays = [part[: options.rows] for part in one.load()]
    memory: dict[str, Any] = {}
    prepared = [prepare(codec, arrays, memory) for codec in codecs]
    candidates = [found for found in prepared if isinstance(found, Candidate)]
    times = iter(take_turns(candidates, options.repeats, options.seconds_per_figure))
    raw = sum(part.nbytes for part in arrays)
    for codec, found in zip(codecs, prepared, strict=True):
        figures = {"ratio": None, "compress_gbps": None, "decompress_gbps": None, "n": 0, "skipped": found}
        if isinstance(found, Candidate):
            figures = {**speeds(raw, next(times)), "ratio": raw / found.size(), "n": options.repeats,
                       "compressed_bytes": found.size(), "layout": found.layout}  # fmt: skip
        yield record(
            claim="codec table", set=one.name, arm=codec.name, value=figures["ratio"],
            unit="raw bytes per compressed byte", **figures, raw_bytes=raw, data=describe(arrays), about=one.about,
            group=one.group, settings=codec.settings, seconds_per_figure=options.seconds_per_figure, threads=1,
            isa=dispatch.isa(), versions=versions(codec),
        )  # fmt: skip


def speeds(raw: int, times: dict[str, Times]) -> Line:
    """Medians, intervals and all runs, in GB/s."""
    fields: Line = {}
    for name, pairs in times.items():
        runs, cpu_runs = ([raw / max(pair[k], 1e-12) / 1e9 for pair in pairs] for k in (0, 1))
        fields[f"{name}_gbps"], fields[f"{name}_interval"] = median_interval(runs)
        fields[f"{name}_cpu_gbps"], _ = median_interval(cpu_runs)
        fields[f"{name}_runs"] = [round(run, 5) for run in runs]
    every = [pair for pairs in times.values() for pair in pairs]
    fields["cpu_share"] = round(sum(cpu for _, cpu in every) / sum(wall for wall, _ in every), 4)
    return fields


def versions(codec: Codec) -> dict[str, str]:
    """Of what the figure depends on."""
    found = {"python": platform.python_version(), "numpy": np.__version__, "hasten": hasten.__version__}
    if codec.package not in found:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[codec.package] = importlib.metadata.version(codec.package)
    return found


def table(lines: list[Line]) -> str:
    """The lines of a set in aligned columns."""
    first = lines[0]
    rows = [f"\n{first['set']}: {first['about']} ({first['data']}, {first['raw_bytes'] / 1e6:.2f} MB)",
            f"  {'codec':<24}{'ratio':>9}{'compress GB/s':>16}{'decompress GB/s':>17}  layout"]  # fmt: skip
    for line in lines:
        if line["ratio"] is None:
            rows.append(f"  {line['arm']:<24}        -  {line['skipped']}")
            continue
        figures = f"{line['ratio']:>9.3f}{line['compress_gbps']:>16.3f}{line['decompress_gbps']:>17.3f}"
        rows.append(f"  {line['arm']:<24}{figures}  {line['layout']}")
    return "\n".join(rows)


def run(sets: list[DataSet], codecs: list[Codec], options: argparse.Namespace, kept: TextIO | None) -> list[Line]:
    """Measure, and print each set as soon as it is done."""
    lines: list[Line] = []
    for one in sets:
        if reason := one.missing():
            print(f"{one.name} is left out: {reason}", file=sys.stderr)
            continue
        found = list(measure(one, codecs, options))
        lines += found
        for file in [sys.stdout] * options.json + [kept] * (kept is not None):
            for line in found:
                emit(True, file=file, **line)
        if not options.json or options.summary:
            print(table(found), file=sys.stderr if options.json else sys.stdout, flush=True)
    return lines


def warn(lines: list[Line]) -> None:
    """Say on standard error what the numbers lack."""
    absent = {line["skipped"] for line in lines if "is not there" in (line.get("skipped") or "")}
    for reason in sorted(absent):
        print(f"left out: {reason}", file=sys.stderr)
    disturbed = [f"{line['set']} {line['arm']} ({line['cpu_share']:.2f})" for line in lines
                 if line["ratio"] is not None and not ALONE[0] <= line["cpu_share"] <= ALONE[1]]  # fmt: skip
    if disturbed:
        some = ", ".join(disturbed[:8]) + ", ..." * (len(disturbed) > 8)
        print(f"not alone on one core: {len(disturbed)} of {len(lines)} lines, {some}", file=sys.stderr)


def arguments(given: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="lines on standard output, not tables")
    parser.add_argument("--data", type=Path, default=os.environ.get("HASTEN_DATA"), help="folder; else HASTEN_DATA")
    parser.add_argument("--record", type=Path, help=f"folder to write {FILE} to")
    parser.add_argument("--sets", nargs="+", help="names, or native, quantised, floats, synthetic")
    parser.add_argument("--codecs", nargs="+", help="beginnings of names")
    parser.add_argument("--repeats", type=int, default=7, help="rounds")
    parser.add_argument("--seconds-per-figure", type=float, default=0.03)
    parser.add_argument("--rows", type=int, help="of each array at most; for a trial")
    parser.add_argument("--summary", action="store_true", help="with --json: the tables, too, on standard error")
    parser.add_argument("--claims", nargs="*", type=Path, metavar="FILE", help="judge the claims; of files: do not run")
    options = parser.parse_args(given)
    options.data = None if options.data is None else Path(options.data)
    if options.repeats < 1 or (options.rows or 1) < 1:
        parser.error("expected at least one round and one row")
    return options


def main(given: list[str] | None = None) -> int:
    options = arguments(given)
    if options.claims:
        lines = [json.loads(line) for path in options.claims for line in path.read_text().splitlines()]
    else:
        sets = _codec_sets.choose(_codec_sets.catalogue(options.data), options.sets)
        codecs = _codec_peers.choose(_codec_peers.catalogue(), options.codecs)
        with contextlib.ExitStack() as stack:
            kept = None
            if options.record is not None:
                options.record.mkdir(parents=True, exist_ok=True)
                kept = stack.enter_context(open(options.record / FILE, "x"))  # a record is never overwritten
            lines = run(sets, codecs, options, kept)
        warn(lines)
    if options.claims is not None:
        for verdict in judge(lines):
            print(json.dumps(verdict.fields()) if options.json else verdict.text())
    wrong = [line for line in lines if WRONG in (line.get("skipped") or "")]
    for line in wrong:
        print(f"{line['set']} {line['arm']}: {line['skipped']}", file=sys.stderr)
    return 1 if wrong or not lines else 0


if __name__ == "__main__":
    sys.exit(main())
