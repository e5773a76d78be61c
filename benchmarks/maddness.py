"""Products that are looked up, against products that are multiplied, on one thread.

    python benchmarks/maddness.py --json                       10000 x 512 times 512 x 100, made-up rows
    python benchmarks/maddness.py --json --shape 10000,512,10  another shape
    python benchmarks/maddness.py --json --fashion             the 512 activations before the last layer of a small CNN
    python benchmarks/maddness.py --json --accuracy            errors only, on those activations
    python benchmarks/maddness.py --json --scan                table entries added per second, against the shuffle alone
    python benchmarks/maddness.py --json --alone               each arm with caches that hold its own data
    python benchmarks/maddness.py --json --all                 the other approximations, too

The arms take turns, the order turned round every round; `ms` is the median of the rounds, `interval` a 95 % interval
of it (order statistics), `speedup_vs_...` the median over the rounds of the quotient in the same round. Everything that
happens at run time is in `ms`: encoding, scanning, whatever changes the layout, floats out. What depends on B alone is
prepared before, for every arm (bf16 and int8 copies of B, packed weights, tables).

f32, bf16       torch.mm on tensors of that type, into an output that is there; bf16 has A in bf16 already
f32->bf16       the same, and the conversion of A, which a float32 model would pay
int8            the faster of torch._int_mm and oneDNN's packed linear layer, A quantised before; sums scaled to float32
                where the operator does it (oneDNN), else int32 out
int8, A too     and the quantisation of A, row by row
maddness C K    `row`: A as PyTorch gives it, rows one after the other, and the output too; `col`: both by columns

`nmse`: mean squared error over the variance of the exact product, on rows that were not learned from.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from _activations import Rows, fashion, invented
from _intervals import median_interval
from _record import emit

from hasten._core import dispatch
from hasten._native import ext
from hasten.matmul import Exact, Maddness
from hasten.matmul.base import nmse
from hasten.matmul.maddness import kernels
from hasten.matmul.projections import PCA, TruncatedSVD

CLAIM = "maddness"
SCANS = ((16, 10, 16), (16, 100, 16), (64, 10, 16), (64, 100, 16), (16, 100, 64))  # codebooks, outputs, leaves
Run = Callable[[], np.ndarray | None]


@dataclass
class Arm:
    """Something that computes the product; `run` gives it, or None where only its time counts."""

    name: str
    run: Run
    error: float = math.nan
    accuracy: float | None = None
    seconds: list[float] = field(default_factory=list)


def dense_arms(rows: Rows) -> list[Arm]:
    """The products that multiply."""
    A, B = torch.from_numpy(rows.test), torch.from_numpy(rows.factor)
    a, b = A.bfloat16(), B.bfloat16()
    out, out16 = torch.empty(len(A), B.shape[1]), torch.empty(len(A), B.shape[1], dtype=torch.bfloat16)
    arms = [
        Arm("f32", lambda: torch.mm(A, B, out=out).numpy()),
        Arm("bf16", lambda: torch.mm(a, b, out=out16).float().numpy()),
        Arm("f32->bf16", lambda: torch.mm(A.bfloat16(), b, out=out16).float().numpy()),
    ]
    exact = Exact("int8").fit(rows.train[:16], rows.factor)
    held = exact.encode(rows.test)
    arms.append(Arm("int8 oneDNN", lambda: exact.matmul(held)))
    q = (A / (A.abs().amax(1, keepdim=True) / 127).clamp_min(1e-30)).round().to(torch.int8)
    p = (B / (B.abs().amax(0) / 127)).round().to(torch.int8)
    arms.append(Arm("int8 _int_mm", lambda: int_mm(q, p)))
    arms.append(Arm("int8, A too", lambda: exact.matmul(rows.test)))
    return arms


def int_mm(q: torch.Tensor, p: torch.Tensor) -> None:
    torch._int_mm(q, p)


def maddness_arms(rows: Rows, settings: list[dict[str, Any]]) -> list[Arm]:
    """The products that look up, in both layouts."""
    arms = []
    by_columns = np.asfortranarray(rows.test)
    for setting in settings:
        model = Maddness(**setting).fit(rows.train, rows.factor)
        how = model.accumulate, model.upcast_every
        name = f"maddness {model.ncodebooks} {model.leaves}" + (" avg" if model.accumulate == "avg" else "")
        if "split_lines" in setting:
            name += f" {setting['split_lines']} lines"
        for layout, x in (("row", rows.test), ("col", by_columns)):
            out = np.empty((len(x), rows.factor.shape[1]), np.float32, order="C" if layout == "row" else "F")

            def run(model: Any = model, x: np.ndarray = x, out: np.ndarray = out, how: Any = how) -> np.ndarray:
                return kernels.multiply(x, model.trees_, model.tables_, *how, out)

            arms.append(Arm(f"{name} {layout}", run))
    return arms


def other_arms(rows: Rows) -> list[Arm]:
    """Approximations that multiply less."""
    arms = []
    for method in (PCA(8), PCA(32), TruncatedSVD(4), TruncatedSVD(16)):
        method.fit(rows.train, rows.factor)
        arms.append(Arm(repr(method), lambda method=method: method.matmul(rows.test)))
    return arms


def take_turns(arms: list[Arm], seconds: float, alone: bool) -> None:
    """Rounds for about so many seconds; at least 7. `alone`: five calls, of which the last one counts."""
    for arm in arms:
        arm.run()
        arm.run()
    begun, position = time.perf_counter(), 0
    while position < 7 or time.perf_counter() - begun < seconds:
        for arm in arms if position % 2 == 0 else reversed(arms):
            for _ in range(4 if alone else 0):
                arm.run()
            start = time.perf_counter()
            arm.run()
            arm.seconds.append(time.perf_counter() - start)
        position += 1


def speed(rows: Rows, arguments: argparse.Namespace) -> None:
    exact = rows.test.astype(np.float64) @ rows.factor.astype(np.float64)
    settings = [{"ncodebooks": c} for c in (8, 16, 32, 64)]
    settings += [{"ncodebooks": 16, "accumulate": "avg"}, {"ncodebooks": 16, "leaves": 64}]
    settings += [{"ncodebooks": 16, "split_lines": 8}]
    arms = dense_arms(rows) + maddness_arms(rows, settings) + (other_arms(rows) if arguments.all else [])
    for arm in arms:
        found = arm.run()
        if found is not None:
            arm.error, arm.accuracy = nmse(exact, found), rows.accuracy(found)
    copied = np.empty_like(rows.test)
    copy = Arm("copy of A", lambda: np.copyto(copied, rows.test))
    take_turns([*arms, copy], arguments.seconds, arguments.alone)
    by_name = {arm.name: arm for arm in arms}
    eight = min((by_name["int8 oneDNN"], by_name["int8 _int_mm"]), key=lambda arm: statistics.median(arm.seconds))
    bases = {"f32": by_name["f32"], "bf16": by_name["bf16"], "int8": eight}
    shape = [len(rows.test), *rows.factor.shape]
    for arm in [*arms, copy]:
        value, interval = median_interval([1e3 * s for s in arm.seconds])
        speedups = {
            f"speedup_vs_{name}": statistics.median(b / a for a, b in zip(arm.seconds, base.seconds, strict=True))
            for name, base in bases.items()
        }
        emit(
            arguments.json, claim=CLAIM, arm=arm.name, value=value, unit="ms", ms=value, interval=interval,
            n=len(arm.seconds), ratio=speedups["speedup_vs_f32"], nmse=None if math.isnan(arm.error) else arm.error,
            accuracy=arm.accuracy, **speedups, shape=shape, threads=1, alone=arguments.alone, isa=dispatch.isa(),
            int8_is=eight.name, data="fashion" if arguments.fashion else "invented",
            runs=[round(1e3 * s, 4) for s in arm.seconds],
        )  # fmt: skip


def accuracy(arguments: argparse.Namespace) -> None:
    """Errors on real activations, for as many networks as asked for."""
    for seed in range(arguments.networks):
        rows = fashion(seed)
        exact = rows.test @ rows.factor
        methods: list[tuple[str, Any]] = [("float32", Exact("float32")), ("int8", Exact("int8"))]
        for c, k in ((4, 16), (8, 16), (16, 16), (32, 16), (64, 16), (8, 64), (16, 64), (32, 32)):
            both = ("input", "output")
            methods += [(f"maddness {c} {k} {metric}", Maddness(c, leaves=k, split_metric=metric)) for metric in both]
        methods += [(f"maddness 16 16 output {n} lines", Maddness(16, split_lines=n)) for n in (16, 8, 4)]
        for c in (4, 16, 32, 64):
            methods.append((f"maddness {c} 16 input avg", Maddness(c, accumulate="avg", split_metric="input")))
            methods.append((f"maddness {c} 16 input no ridge", Maddness(c, dense=False, split_metric="input")))
        methods += [(repr(m), m) for m in (PCA(2), PCA(4), PCA(8), PCA(16), TruncatedSVD(4), TruncatedSVD(8))]
        for name, method in methods:
            begun = time.perf_counter()
            found = method.fit(rows.train, rows.factor).matmul(rows.test)
            error = nmse(exact, found)
            emit(
                arguments.json, claim="maddness_accuracy", arm=name, value=error, unit="nmse", nmse=error,
                accuracy=rows.accuracy(found), seed=seed, n=1, fit_seconds=round(time.perf_counter() - begun, 2),
            )  # fmt: skip


def scan(arguments: argparse.Namespace) -> None:
    """Entries added per second: sums alone, in blocks of rows, against as many shuffles and nothing else."""
    assert ext is not None, "--scan needs the compiled module"
    rng = np.random.default_rng(0)
    for isa in dispatch.isas():
        peak = statistics.median(ext.maddness_shuffle_rate(isa) for _ in range(9))
        emit(
            arguments.json,
            claim="maddness_scan",
            arm=f"{isa} shuffles",
            value=peak / 1e9,
            unit="G entries/s",
            isa=isa,
            n=9,
        )
        for (c, m, leaves), how in itertools.product(SCANS, ("avg", "exact")):
            luts = kernels._aligned(m * c * leaves).reshape(m, c, leaves)
            luts[:] = rng.integers(0, 256, luts.shape, np.uint8)
            rows, group = 64 * 156, 16 if how == "avg" else 0
            layout = ext.maddness_layout(leaves, how == "exact", isa)
            codes = kernels._aligned(rows * c)
            plain = rng.integers(0, leaves, (rows, c)).astype(np.uint8)
            codes[:] = kernels._laid_out(plain, leaves, layout, c, isa).values
            rates = [ext.maddness_sum_rate(codes, rows, layout, luts, group, isa) for _ in range(15)]
            value, interval = median_interval([rate / 1e9 for rate in rates])
            emit(
                arguments.json, claim="maddness_scan", arm=f"{isa} C={c} M={m} K={leaves} {how}", value=value,
                unit="G entries/s", ratio=1e9 * value / peak, interval=interval, n=len(rates), isa=isa,
            )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="JSON lines, not words")
    parser.add_argument("--shape", default="10000,512,100", help="N,D,M")
    parser.add_argument("--fashion", action="store_true", help="activations of a network (needs HASTEN_DATA); M is 10")
    parser.add_argument("--accuracy", action="store_true", help="errors, no times")
    parser.add_argument("--networks", type=int, default=1, help="with --accuracy: trained from so many seeds")
    parser.add_argument("--scan", action="store_true", help="entries per second")
    parser.add_argument("--alone", action="store_true", help="caches as the same call left them, not as the others did")
    parser.add_argument("--all", action="store_true", help="other approximations, too")
    parser.add_argument("--seconds", type=float, default=12.0, help="of all rounds together")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.scan:
        return scan(arguments)
    if arguments.accuracy:
        return accuracy(arguments)
    n, dims, outputs = (int(part) for part in arguments.shape.split(","))
    rows = fashion() if arguments.fashion else invented(n, dims, outputs)
    with torch.no_grad():
        return speed(rows, arguments)


if __name__ == "__main__":
    sys.exit(main())
