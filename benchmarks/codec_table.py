"""Ratio and speed of codecs on time series: hasten's tsz and published Sprintz against what one would use otherwise.

    python benchmarks/codec_table.py --json --data DIR      one line for each data set and codec
    python benchmarks/codec_table.py --sets mitbih,ptb --codecs tsz,pcodec
    python benchmarks/codec_table.py --claims LINES         what such lines say of our claims

One thread, in memory. Codecs take turns within a data set; a figure is the median of `--rounds` rounds, in each of
which the calls are repeated for `--seconds`. Every codec gets the columns one behind the other without paying for it,
and decompresses into memory that is there already where it offers that. Every result is compared with the data before
anything is timed. GB are 10^9 bytes of the raw data. tsz includes its checksums and index; its chunks have 131,072
rows, but for "tsz", which has the default ones, and "tsz-delta-planar" (2^20), which is there for its speed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _codec_peers import Codec, all_codecs
from _codec_sets import NATIVE, SETS, load
from _record import emit


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", default=os.environ.get("HASTEN_DATA"))
    parser.add_argument("--sets", default=",".join(SETS), help="with commas between")
    parser.add_argument("--codecs", default="", help="only those whose names begin so, with commas between")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.06, help="of each figure in each round, at least")
    parser.add_argument("--claims", default=None, metavar="LINES", help="a file that --json wrote; nothing is measured")
    options = parser.parse_args()
    if options.claims:
        return claims([json.loads(line) for line in Path(options.claims).read_text().splitlines()])
    folder = Path(options.data) if options.data else None
    wanted = tuple(filter(None, options.codecs.split(",")))
    for name in options.sets.split(","):
        try:
            parts = load(name, folder)
        except FileNotFoundError as error:
            print(f"skipped: {error}", file=sys.stderr)
            continue
        report(name, parts, chosen(wanted), options)
    return 0


def chosen(wanted: tuple[str, ...]) -> list[Codec]:
    """The codecs that are installed and asked for; the others are named."""
    found = []
    for codec in all_codecs():
        if isinstance(codec, tuple):
            print(f"skipped: {codec[0]}: {codec[1]}", file=sys.stderr)
        elif not wanted or codec.name.startswith(wanted):
            found.append(codec)
    return found


def report(name: str, parts: list[np.ndarray], codecs: list[Codec], options: argparse.Namespace) -> None:
    """Check and time all codecs on one data set."""
    raw = sum(part.nbytes for part in parts)
    outs = [np.empty_like(part) for part in parts]
    packed: dict[str, list[Any]] = {}
    for codec in list(codecs):
        if not all(codec.takes(part) for part in parts):
            codecs.remove(codec)
            continue
        packed[codec.name] = [codec.pack(part) for part in parts]
        for data, part, out in zip(packed[codec.name], parts, outs, strict=True):
            out.fill(0)
            codec.unpack(data, out)
            if out.tobytes() != part.tobytes():
                raise AssertionError(f"{codec.name} gives other values back of {name}")
    times: dict[str, tuple[list[float], list[float]]] = {codec.name: ([], []) for codec in codecs}
    for turn in range(options.rounds):
        for codec in codecs if turn % 2 == 0 else reversed(codecs):
            forth, back = times[codec.name]
            forth.append(seconds(lambda c=codec: [c.pack(part) for part in parts], options.seconds))
            pieces = packed[codec.name]
            back.append(
                seconds(
                    lambda c=codec, p=pieces: [c.unpack(d, o) for d, o in zip(p, outs, strict=True)], options.seconds
                )
            )
    for codec in codecs:
        forth, back = ([raw / t / 1e9 for t in ts] for ts in times[codec.name])
        ratio = 1.0 if codec.name == "memcpy" else raw / sum(map(len, packed[codec.name]))
        line(name, codec, raw, ratio, forth, back, options)


def line(
    name: str, codec: Codec, raw: int, ratio: float, forth: list[float], back: list[float], options: argparse.Namespace
) -> None:
    if not options.json:
        speed = f"{statistics.median(forth):8.3f} {statistics.median(back):8.3f} GB/s"
        print(f"{name:<12} {codec.name:<24} {ratio:8.3f} {speed}")
        return
    emit(
        True, claim=f"codec, {name}", arm=codec.name, value=ratio, unit="raw bytes per compressed byte", ratio=ratio,
        compress_gbps=statistics.median(forth), decompress_gbps=statistics.median(back), raw_bytes=raw, threads=1,
        compress_runs=[round(x, 4) for x in forth], decompress_runs=[round(x, 4) for x in back], n=len(forth),
        settings=codec.settings, version=codec.version,
    )  # fmt: skip


def seconds(work: Callable[[], Any], least: float) -> float:
    """Of one call, on average over calls that take `least` seconds together."""
    calls, spent = 0, 0.0
    while spent < least:
        begun = time.perf_counter()
        work()
        spent += time.perf_counter() - begun
        calls += 1
    return spent / calls


def claims(lines: list[dict[str, Any]]) -> int:
    """Print what lines say of the claims; 1 if one is missed."""
    found = {(line["claim"].split(", ")[1], line["arm"]): line for line in lines}
    checks: list[tuple[str, float, float]] = []
    for name in NATIVE:
        mine, peer = found.get((name, "tsz-balanced")), found.get((name, "pcodec-8"))
        if mine and peer:
            checks.append((f"{name}: ratio of balanced over pcodec-8's", mine["ratio"] / peer["ratio"], 0.97))
            for what, least in (("compress", 5.0), ("decompress", 1.0)):
                speeds = mine[f"{what}_gbps"] / peer[f"{what}_gbps"]
                checks.append((f"{name}: speed to {what} over pcodec-8's", speeds, least))
    if best := found.get(("ptb", "tsz-max")):
        checks.append(("ptb: ratio of max", best["ratio"], 3.5))
    if (planar := found.get(("walk", "tsz-delta-planar"))) and (copy := found.get(("walk", "memcpy"))):
        least = min(7.0, 0.65 * copy["decompress_gbps"])
        checks.append(("walk: GB/s to decompress delta planar", planar["decompress_gbps"], least))
        checks.append(("walk: GB/s to compress delta planar", planar["compress_gbps"], 2.0))
    for what, value, least in checks:
        print(f"{'held  ' if value >= least else 'MISSED'} {what}: {value:.3f}, at least {least:g} wanted")
    return int(any(value < least for _, value, least in checks))


if __name__ == "__main__":
    sys.exit(main())
