"""Products by look-up on a processor of another family: cross-compiled, emulated, and the bits of the definition.

Rows, images and results lie in memory of random strides among random bytes; all of a result's memory is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest
from tests._native.emulated.machine import ISAS, NUMBERS, Machine

from hasten._native import ext
from hasten.matmul.maddness import kernels, numpy_kernels
from hasten.matmul.maddness.tables import Tables, averaging
from hasten.matmul.maddness.trees import Trees

pytestmark = [pytest.mark.slow, pytest.mark.skipif(ext is None, reason="no compiled module")]

TYPES = ("float32", "bfloat16", "int8", "uint8")  # in the order of product.hpp
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-40, 3.4e38, 1.0], np.float32)
LENGTHS = (0, 1, 2, 7, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 191, 250)
SCANS = (("exact", 16), *(("avg", every) for every in (1, 2, 4, 8, 16)))


def words(*numbers: int) -> bytes:
    return np.array(numbers, np.int64).astype(np.uint32).tobytes()


@dataclass(frozen=True)
class Place:
    """Where the elements of an array lie in memory: axes in any order, some backwards, with gaps."""

    size: int
    first: int
    strides: tuple[int, ...]
    index: np.ndarray

    @staticmethod
    def random(shape: tuple[int, ...], g: np.random.Generator) -> Place:
        strides, step, before = [0] * len(shape), int(g.choice([1, 1, 1, 2])), int(g.integers(0, 4))
        first = before
        for axis in g.permutation(len(shape)).tolist():
            backwards = g.random() < 0.2
            strides[axis] = -step if backwards else step
            first += step * max(shape[axis] - 1, 0) * backwards
            step = step * max(shape[axis], 1) + int(g.choice([0, 0, 1, 5]))
        steps = [np.arange(n) * stride for n, stride in zip(shape, strides, strict=True)]
        index = first + sum(np.ix_(*steps), start=np.zeros(shape, np.int64))
        return Place(before + step + 3, first, tuple(strides), index)

    def filled(self, values: np.ndarray, g: np.random.Generator) -> np.ndarray:
        """The memory with `values` in it, among random bytes."""
        memory = np.frombuffer(g.bytes(self.size * values.itemsize), values.dtype).copy()
        memory[self.index] = values
        return memory

    def request(self, memory: np.ndarray) -> bytes:
        return words(self.size) + memory.tobytes() + words(self.first, *self.strides)


def values_of(shape: tuple[int, ...], kind: str, g: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Values as they are stored, and as float32."""
    if "int" in kind:
        stored = g.integers(0, 256, shape).astype(np.uint8).view(kind)
        return stored, stored.astype(np.float32)
    values = np.where(g.random(shape) < 0.2, g.choice(SPECIAL, shape), g.normal(size=shape)).astype(np.float32)
    if kind == "float32":
        return values.view(np.uint32), values  # as words: they are copied, NaN or not
    bits = values.view(np.uint32) >> np.uint32(16)
    return bits.astype(np.uint16), (bits << np.uint32(16)).view(np.float32)


def trees_for(rows: np.ndarray, C: int, levels: int, g: np.random.Generator) -> Trees:
    """Trees of which every other threshold is a value of some row."""
    shape = (C, (1 << levels) - 1)
    known = g.choice(rows.ravel(), shape) if rows.size else np.zeros(shape, np.float32)
    known = np.where(np.isnan(known), np.float32(0.25), known)
    thresholds = np.where(g.random(shape) < 0.5, known, g.normal(size=shape)).astype(np.float32)
    return Trees(g.integers(0, rows.shape[1], (C, levels)).astype(np.int32), thresholds)


def tables_for(M: int, C: int, leaves: int, g: np.random.Generator) -> Tables:
    luts = g.integers(0, 256, (M, C, leaves)).astype(np.uint8)
    luts[g.random(M) < 0.1] = 255
    scale = (g.normal(size=M) * 10.0 ** g.integers(-30, 30, M)).astype(np.float32)
    return Tables(luts, scale, (scale * g.normal(size=M) * 1000).astype(np.float32))


@dataclass(frozen=True)
class Case:
    """A request, and what is right."""

    name: str
    what: bytes  # of which the request for an instruction set is made
    source: bytes
    codes: np.ndarray  # (N, C)
    leaves: int
    padded: int
    result: bytes  # the memory of the products

    def request(self, isa: int) -> bytes:
        return self.what + bytes([isa]) + self.source

    def assert_answer(self, answer: bytes, isa: str) -> None:
        size = -(-len(self.codes) // kernels.ROWS) * kernels.ROWS * self.padded
        values = np.frombuffer(answer, np.uint8, size)
        found = kernels.Codes(values, len(self.codes), self.codes.shape[1], self.leaves, self.padded, 0)
        assert (found.array() == self.codes).all(), (isa, self.name, "codes")
        assert answer[size:] == 2 * self.result, (isa, self.name, "products")


def case_of(
    what: bytes,
    source: bytes,
    rows: np.ndarray,
    images: int,
    trees: Trees,
    M: int,
    scan: tuple[str, int],
    g: np.random.Generator,
) -> Case:
    """`source` is the request so far, whose rows these are."""
    C, tables = trees.ncodebooks, tables_for(M, trees.ncodebooks, trees.leaves, g)
    padded = averaging(C, scan[1])[1] if scan[0] == "avg" else C
    dims, nodes = kernels._packed_trees(trees, padded)
    luts, group, scale, offset = kernels._packed_tables(tables, *scan, padded)
    source += words(padded, trees.levels) + dims.tobytes() + nodes.tobytes()
    source += words(M, padded, trees.leaves, group) + luts.tobytes() + scale.tobytes() + offset.tobytes()
    codes = numpy_kernels.encode(rows, trees.dims, trees.thresholds)
    products = numpy_kernels.scan(codes, tables, *scan).view(np.uint32).reshape(images, -1, M)
    place = Place.random(products.shape, g)
    memory = place.filled(products, g)
    image, row, output = place.strides
    empty = memory.copy()
    empty[place.index] = 0xFFFFFFFF
    source += words(place.size) + empty.tobytes() + words(place.first, row, output, image, int(g.integers(1, 3)))
    name = f"{len(rows)} x {C} x {trees.leaves} x {M}, {scan}, strides {place.strides}"
    return Case(name, what, source, codes, trees.leaves, padded, memory.tobytes())


def rows_case(C: int, levels: int, N: int, M: int, scan: tuple[str, int], kind: str, g: np.random.Generator) -> Case:
    stored, rows = values_of((N, int(g.integers(1, 40))), kind, g)
    place = Place.random(stored.shape, g)
    source = words(TYPES.index(kind), *stored.shape) + place.request(place.filled(stored, g))
    return case_of(b"m", source, rows, 1, trees_for(rows, C, levels, g), M, scan, g)


def images_case(C: int, levels: int, M: int, scan: tuple[str, int], kind: str, g: np.random.Generator) -> Case:
    stored, images = values_of(tuple(g.integers(1, (4, 4, 12, 12)).tolist()), kind, g)
    kernel, stride, dilation = ((int(a), int(b)) for a, b in g.integers(1, (4, 4), (3, 2)))
    padding = (int(g.integers(2, 5)) * dilation[0], int(g.integers(2, 5)) * dilation[1])  # wider than a filter
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    places = [(images.shape[2 + a] + 2 * padding[a] - spans[a]) // stride[a] + 1 for a in range(2)]
    geometry = kernels.Filter(kernel, stride, padding, dilation, (places[0], places[1]))
    place = Place.random(stored.shape, g)
    source = words(TYPES.index(kind), *stored.shape) + place.request(place.filled(stored, g))
    source += words(*geometry.numbers().tolist())
    rows = kernels.patches(images, geometry)
    return case_of(b"f", source, rows, len(images), trees_for(rows, C, levels, g), M, scan, g)


def assert_all(machine: Machine, cases: Sequence[Case]) -> None:
    """Every instruction set of the machine gives what is right."""
    asked = list(product(NUMBERS, cases))
    answers = machine([case.request(isa) for isa, case in asked])
    for (isa, case), answer in zip(asked, answers, strict=True):
        case.assert_answer(answer, ISAS[isa])


@pytest.mark.parametrize("levels", [4, 5, 6])
def test_the_same_codes_and_products(machine, levels):
    for part in range(8):  # 99 cases in one file of requests
        cases = []
        for number in range(99 * part, 99 * (part + 1)):
            g = np.random.default_rng([levels, number])
            kind = TYPES[g.integers(0, 4)] if number % 3 == 0 else "float32"
            N, scan = LENGTHS[number % len(LENGTHS)], SCANS[number % len(SCANS)]
            cases.append(rows_case(1 + number % 33, levels, N, 1 + number % 100, scan, kind, g))
        assert_all(machine, cases)


@pytest.mark.parametrize("C", [34, 48, 64, 100, 255, 256, 257, 300, 520])
def test_many_codebooks(machine, C):
    cases = []
    for number, (levels, scan) in enumerate(product((4, 5, 6), SCANS)):
        if scan[0] == "exact" or scan[1] * kernels.MOST_GROUPS >= C:
            g = np.random.default_rng([C, number])
            cases.append(rows_case(C, levels, 60 + number, 1 + 2 * number, scan, "float32", g))
    assert_all(machine, cases)


@pytest.mark.parametrize("levels", [4, 5, 6])
def test_the_same_products_of_patches(machine, levels):
    cases = []
    for number in range(84):
        g = np.random.default_rng([levels, number])
        cases.append(
            images_case(1 + number % 9, levels, 1 + number % 40, SCANS[number % len(SCANS)], TYPES[number % 4], g)
        )
    assert_all(machine, cases)
