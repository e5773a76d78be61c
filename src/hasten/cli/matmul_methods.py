"""The methods that `hasten matmul bench` compares, each learned and ready to be timed.

float32                  torch.mm of float32 tensors, into an array that is there
bfloat16, int8           the product of rows that are in that format already; `from float32`: the conversion of the
                         rows, too. B is converted and packed before
pca, svd                 two narrow products; svd by the error of the output
pq, opq, bolt            product quantisation
fastjl, countsketch      random sketches
maddness                 trees and tables, in one pass, by the error of the output
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from hasten.matmul import Maddness
from hasten.matmul.base import ApproxMatmul
from hasten.matmul.exact import Exact
from hasten.matmul.maddness import kernels
from hasten.matmul.projections import PCA, TruncatedSVD
from hasten.matmul.quantizers import OPQ, PQ, Bolt
from hasten.matmul.sketches import CountSketch, FastJL

from .matmul_data import Data

__all__ = ["ALL", "EXACT", "USUAL", "Method", "Ready", "Settings", "methods_of"]

EXACT = ("float32", "bfloat16", "int8")
USUAL = (*EXACT, "pca", "svd", "pq", "bolt", "maddness")
ALL = (*USUAL, "opq", "fastjl", "countsketch")
TITLES = {
    "pca": "PCA", "svd": "SVD", "pq": "PQ", "opq": "OPQ", "bolt": "Bolt", "fastjl": "FastJL",
    "countsketch": "CountSketch", "maddness": "MADDNESS",
}  # fmt: skip


@dataclass(frozen=True)
class Ready:
    """A method that has learned: `run` multiplies the rows to test on; `table_bytes` are kept for that."""

    run: Callable[[], np.ndarray]
    table_bytes: int


@dataclass(frozen=True)
class Method:
    """A method with its setting.

    Args:
        family: its name on the command line.
        title: how it is called, among the exact ones with what happens to rows.
        setting: what distinguishes it from others of that title, "" for nothing.
        prepare: learns.
    """

    family: str
    title: str
    setting: str
    prepare: Callable[[Data], Ready]

    @property
    def name(self) -> str:
        """Title and setting."""
        return f"{self.title} {self.setting}".strip()


@dataclass(frozen=True)
class Settings:
    """Sizes of the methods that have any."""

    ncodebooks: list[int]
    leaves: list[int]
    components: list[int]
    accumulate: str
    threads: int
    seed: int


def methods_of(families: list[str], settings: Settings) -> list[Method]:
    """The methods of these families with all settings, float32 first."""
    found = [_float32()]
    for family in families:
        if family in EXACT[1:]:
            found += [
                Method(family, family, "", _held(family)),
                Method(family, f"{family} from float32", "", _given(family)),
            ]
        elif family == "maddness":
            found += list(_maddness(settings))
        elif family != "float32":
            found += list(_sized(family, settings))
    return found


def _float32() -> Method:
    def prepare(data: Data) -> Ready:
        import torch

        A, B = torch.from_numpy(data.test), torch.from_numpy(data.factor)
        out = torch.empty(len(A), B.shape[1])
        return Ready(lambda: torch.mm(A, B, out=out).numpy(), data.factor.nbytes)

    return Method("float32", "float32", "", prepare)


def _whole(make: Callable[[], ApproxMatmul]) -> Callable[[Data], Ready]:
    """All of the product, from float32 rows to float32 outputs."""

    def prepare(data: Data) -> Ready:
        model = make().fit(data.learn, data.factor)
        return Ready(lambda: model.matmul(data.test), model.cost(1).table_bytes)

    return prepare


def _held(dtype: str) -> Callable[[Data], Ready]:
    """The exact product of rows that are in that format already."""

    def prepare(data: Data) -> Ready:
        model = Exact(dtype).fit(data.learn, data.factor)
        rows = model.encode(data.test)
        return Ready(lambda: model.matmul(rows), model.cost(1).table_bytes)

    return prepare


def _given(dtype: str) -> Callable[[Data], Ready]:
    """The exact product in that format of float32 rows."""

    def prepare(data: Data) -> Ready:
        model = Exact(dtype).fit(data.learn, data.factor)
        return Ready(lambda: model.matmul(model.encode(data.test)), model.cost(1).table_bytes)

    return prepare


def _sized(family: str, settings: Settings) -> Iterator[Method]:
    seed = settings.seed
    by_codebooks: dict[str, Callable[[int], ApproxMatmul]] = {
        "pq": lambda c: PQ(c, random_state=seed),
        "opq": lambda c: OPQ(c, random_state=seed),
        "bolt": lambda c: Bolt(c, random_state=seed),
    }
    by_width: dict[str, Callable[[int], ApproxMatmul]] = {
        "pca": PCA,
        "svd": TruncatedSVD,
        "fastjl": lambda d: FastJL(d, random_state=seed),
        "countsketch": lambda d: CountSketch(d, random_state=seed),
    }
    if family in by_codebooks:
        make, sizes, letter = by_codebooks[family], settings.ncodebooks, "C"
    else:
        make, sizes, letter = by_width[family], settings.components, "d"
    for size in sizes:
        yield Method(family, TITLES[family], f"{letter}={size}", _whole(lambda size=size: make(size)))


def _maddness(settings: Settings) -> Iterator[Method]:
    for leaves in settings.leaves:
        for ncodebooks in settings.ncodebooks:
            setting = f"C={ncodebooks} K={leaves}"
            yield Method("maddness", TITLES["maddness"], setting, _looked_up(ncodebooks, leaves, settings))


def _looked_up(ncodebooks: int, leaves: int, settings: Settings) -> Callable[[Data], Ready]:
    options: dict[str, Any] = {"split_metric": "output", "accumulate": settings.accumulate}

    def prepare(data: Data) -> Ready:
        model = Maddness(ncodebooks, leaves=leaves, random_state=settings.seed, **options)
        model.fit(data.learn, data.factor)
        out = np.empty((len(data.test), data.factor.shape[1]), np.float32)
        how = model.accumulate, model.upcast_every, out

        def run() -> np.ndarray:
            return kernels.multiply(data.test, model.trees_, model.tables_, *how, threads=settings.threads)

        return Ready(run, model.cost(1).table_bytes)

    return prepare
