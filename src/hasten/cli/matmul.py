"""`hasten matmul`: does looking a product up pay on your own activations, and if so, learn one and use it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

__all__ = ["matmul"]

matmul = App(
    name="matmul",
    help="Approximate products A @ B: which pay on your own activations? Learn one (MADDNESS), use it.",
    default_parameter=Parameter(negative=()),
    version_flags=(),
)

Out = Annotated[Path, Parameter(alias="-o")]
Accumulate = Literal["exact", "avg"]


@matmul.command
def bench(
    a: Path | None = None,
    b: Path | None = None,
    *,
    shape: str | None = None,
    test: Path | None = None,
    methods: str | None = None,
    ncodebooks: str | None = None,
    leaves: str | None = None,
    components: str | None = None,
    accumulate: Accumulate = "exact",
    threads: int = 1,
    rounds: int = 15,
    seed: int = 0,
    json: bool = False,
    out: Annotated[Path | None, Parameter(alias="-o")] = None,
) -> int:
    """Compare error and speed of exact and approximate products, on activations of yours or on invented ones.

    Methods learn from one half of the rows and multiply the other half, taking turns. Whatever happens at run time is
    timed. An error or a time comes with a 95 % interval; where intervals overlap, nothing is ranked.

    hasten matmul bench activations.npy weight.npy --out bench

    hasten matmul bench --shape 10000,512,100 --methods float32,bfloat16,int8,maddness

    Parameters
    ----------
    a
        A.npy: rows (N, D) such as the inputs of a layer, float32 (float16, int8, uint8 are widened).
    b
        B.npy: the factor (D, M), weight.T of a linear layer.
    shape
        In place of files N,D,M of numbers that are invented: like activations after a ReLU.
    test
        Rows to multiply, from a file of their own; then all rows of A.npy are learned from.
    methods
        Names, with commas between: float32, bfloat16, int8, pca, svd, pq, bolt, maddness (the default), opq, fastjl,
        countsketch; or all. float32 is always among them.
    ncodebooks
        C of pq, opq, bolt and maddness, with commas between. Default: those of 8,16,32 that fit.
    leaves
        K of maddness: 16, 32 or 64, with commas between. Default: 16,64.
    components
        Widths of pca, svd, fastjl and countsketch, with commas between. Default: those of 4,8,16,32 that save
        multiplications.
    accumulate
        How maddness sums: exact, or avg, which is faster on some processors.
    threads
        How many compute at once.
    rounds
        How often each method has its turn, at least 6.
    seed
        Of the halves, of what is drawn in learning, and of invented numbers.
    json
        Print one JSON object for each method.
    out
        A folder for the picture of error against speed (matmul.svg) and the JSON lines (matmul.jsonl).
    """
    from . import matmul_bench

    asked = matmul_bench.Asked(methods, ncodebooks, leaves, components, accumulate, threads, rounds, seed)
    matmul_bench.bench(a, b, shape, test, asked, json=json, out=out)
    sys.stdout.flush()
    return 0


@matmul.command
def fit(
    a: Path,
    b: Path,
    *,
    out: Out,
    ncodebooks: int = 16,
    leaves: int = 16,
    split_metric: Literal["output", "input"] = "output",
    ridge: str = "1.0",
    accumulate: Accumulate = "exact",
    candidates: int = 4,
    test: Path | None = None,
    held_out: float = 0.2,
    seed: int = 0,
    json: bool = False,
    force: bool = False,
) -> int:
    """Learn a product by look-up, say how wrong it is on rows that were held out, and save it.

    hasten matmul fit activations.npy weight.npy --out model.safetensors --ncodebooks 32

    Parameters
    ----------
    a
        A.npy: rows (N, D), float32, float16, int8 or uint8.
    b
        B.npy: the factor (D, M), weight.T of a linear layer.
    out
        The model, a safetensors file.
    ncodebooks
        C, at most D. More are more exact, and more work.
    leaves
        K of each codebook: 16, 32 or 64.
    split_metric
        What trees are cut by: the error of the output, or the spread of the input.
    ridge
        Strength of the regression that makes prototypes, above 0; or cv, to find one.
    accumulate
        How tables are summed: exact, or avg, which is faster on some processors.
    candidates
        Columns that are tried for each level of a tree.
    test
        Rows for the error, from a file of their own; then all rows of A.npy are learned from.
    held_out
        Share of the rows that is not learned from, drawn at random.
    seed
        Of what is drawn.
    json
        Print the result as JSON.
    force
        Replace a file that is there.
    """
    from . import matmul_fit

    options = {
        "ncodebooks": ncodebooks, "leaves": leaves, "split_metric": split_metric, "accumulate": accumulate,
        "n_candidates": candidates, "ridge": ridge, "random_state": seed,
    }  # fmt: skip
    matmul_fit.fit(a, b, out, options, test=test, held_out=held_out, json=json, force=force)
    return 0


@matmul.command
def apply(model: Path, a: Path, *, out: Out, threads: int = 1, force: bool = False) -> int:
    """Multiply rows by the factor that a model was learned with.

    hasten matmul apply model.safetensors activations.npy --out products.npy

    Parameters
    ----------
    model
        What fit has written. Nothing in it is run.
    a
        A.npy: rows (N, D), float32, float16, int8 or uint8. A file larger than memory is no problem.
    out
        The products, (N, M) float32, as a NumPy file.
    threads
        How many compute at once.
    force
        Replace a file that is there.
    """
    from . import matmul_fit

    matmul_fit.apply(model, a, out, threads=threads, force=force)
    return 0
