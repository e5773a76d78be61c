"""Compiled kernels give the bits of the NumPy definition: every instruction set, layout, shape and stride."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten._core import dispatch
from hasten._native import ext
from hasten.matmul.maddness import kernels, numpy_kernels
from hasten.matmul.maddness.tables import Tables, make_tables
from hasten.matmul.maddness.trees import Trees

needs_kernels = pytest.mark.skipif(ext is None, reason="no compiled module")
ISAS = dispatch.isas()
SCANS = (("exact", 16), ("avg", 1), ("avg", 4), ("avg", 16), ("avg", 32), ("avg", 64))


def trees_of(C: int, levels: int, D: int, seed: int = 0) -> Trees:
    rng = np.random.default_rng(seed)
    thresholds = rng.normal(size=(C, (1 << levels) - 1)).astype(np.float32)
    thresholds[rng.random(thresholds.shape) < 0.02] = np.inf
    return Trees(rng.integers(0, D, (C, levels)).astype(np.int32), thresholds)


def tables_of(M: int, C: int, K: int, seed: int = 0) -> Tables:
    return make_tables(np.random.default_rng(seed).normal(size=(M, C, K)))


def layouts_of(x: np.ndarray) -> list[np.ndarray]:
    """The same rows in other memory."""
    wide = np.repeat(x, 2, axis=1)[:, ::2]
    return [x, np.asfortranarray(x), x[::-1].copy()[::-1], wide, np.asfortranarray(np.repeat(x, 2, axis=0))[::2]]


@needs_kernels
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("levels", [4, 5, 6])
def test_codes_and_products_have_the_bits_of_the_definition(isa, levels, monkeypatch):
    monkeypatch.setenv("HASTEN_ISA", isa)
    for C, N, M in itertools.product((1, 3, 4, 16, 33), (0, 1, 15, 16, 17, 31, 33, 64, 130, 1031), (1, 3, 17, 40)):
        if (C + N + M) % 3 and N > 130:
            continue
        x = np.random.default_rng(N).normal(size=(N, 40)).astype(np.float32)
        x[::7, 0], x[::11, 1], x[::13, 2] = np.nan, np.inf, -0.0
        trees, tables = trees_of(C, levels, 40), tables_of(M, C, 1 << levels)
        codes = numpy_kernels.encode(x, trees.dims, trees.thresholds)
        accumulate, upcast_every = SCANS[(C + N + M) % len(SCANS)]
        expected = numpy_kernels.scan(codes, tables, accumulate, upcast_every)
        for rows in layouts_of(x)[(C + M) % 2 :: 2]:
            found = kernels.encode(rows, trees, accumulate, upcast_every)
            assert (found.array() == codes).all()
            assert kernels.scan(found, tables, accumulate, upcast_every).tobytes() == expected.tobytes()
            columns = np.empty((M, N), np.float32).T
            made = kernels.multiply(rows, trees, tables, accumulate, upcast_every, columns, threads=1 + N % 3)
            assert made is columns
            assert made.tobytes() == expected.tobytes()


@needs_kernels
@given(
    C=st.integers(1, 20), N=st.integers(0, 150), M=st.integers(1, 35), levels=st.sampled_from((4, 5, 6)),
    scan=st.sampled_from(SCANS), isa=st.sampled_from(ISAS or ("",)), seed=st.integers(0, 99),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_any_shape(C, N, M, levels, scan, isa, seed):
    x = np.random.default_rng(seed).normal(size=(N, 24)).astype(np.float32)
    trees, tables = trees_of(C, levels, 24, seed), tables_of(M, C, 1 << levels, seed)
    codes = numpy_kernels.encode(x, trees.dims, trees.thresholds)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HASTEN_ISA", isa)
        found = kernels.multiply(x, trees, tables, *scan)
        again = kernels.scan(kernels.encode(x, trees), tables, *scan)  # codes that were laid out for another scan
    expected = numpy_kernels.scan(codes, tables, *scan)
    assert found.tobytes() == expected.tobytes() == again.tobytes()


@needs_kernels
@pytest.mark.parametrize("isa", ISAS)
def test_more_codebooks_than_sixteen_bits_hold(isa, monkeypatch):
    monkeypatch.setenv("HASTEN_ISA", isa)
    x = np.random.default_rng(1).normal(size=(70, 300)).astype(np.float32)
    trees = trees_of(300, 4, 300)
    luts = np.full((35, 300, 16), 255, np.uint8)
    tables = Tables(luts, np.ones(35, np.float32), np.zeros(35, np.float32))
    assert (kernels.multiply(x, trees, tables) == 255 * 300).all()
    codes = numpy_kernels.encode(x, trees.dims, trees.thresholds)
    expected = numpy_kernels.scan(codes, tables, "avg", 16)
    assert (kernels.multiply(x, trees, tables, "avg") == expected).all()


@needs_kernels
@pytest.mark.parametrize("dtype", ["int8", "uint8", "float16"])
@pytest.mark.parametrize("isa", ISAS)
def test_rows_of_other_types_are_widened_without_rounding(isa, dtype, monkeypatch):
    monkeypatch.setenv("HASTEN_ISA", isa)
    x = np.random.default_rng(2).integers(0, 100, (130, 20)).astype(dtype)
    trees = Trees(trees_of(5, 4, 20).dims, np.random.default_rng(2).integers(0, 100, (5, 15)).astype(np.float32))
    expected = numpy_kernels.encode(x.astype(np.float32), trees.dims, trees.thresholds)
    for rows in layouts_of(x):
        assert (kernels.encode(rows, trees).array() == expected).all(), "equal to a threshold goes left"


@pytest.mark.parametrize("isa", ISAS or ("",))
def test_bits_of_bfloat16(isa, monkeypatch):
    monkeypatch.setenv("HASTEN_ISA", isa)
    x = np.random.default_rng(3).normal(size=(100, 20)).astype(np.float32)
    bits = (x.view(np.uint32) >> 16).astype(np.uint16)
    cut = (bits.astype(np.uint32) << 16).view(np.float32)
    trees, tables = trees_of(5, 4, 20), tables_of(3, 5, 16)
    expected = numpy_kernels.encode(cut, trees.dims, trees.thresholds)
    assert (kernels.encode(bits, trees, bfloat16=True).array() == expected).all()
    assert (kernels.multiply(bits, trees, tables, bfloat16=True) == kernels.multiply(cut, trees, tables)).all()
    with pytest.raises(ValueError, match="the bits of bfloat16 as uint16"):
        kernels.encode(x, trees, bfloat16=True)


def test_without_compiled_kernels(monkeypatch):
    x = np.random.default_rng(4).normal(size=(100, 20)).astype(np.float32)
    trees, tables = trees_of(5, 4, 20), tables_of(3, 5, 16)
    compiled = kernels.multiply(x, trees, tables, "avg")
    monkeypatch.setattr(kernels, "ext", None)
    assert kernels.multiply(x, trees, tables, "avg").tobytes() == compiled.tobytes()
    bits = (x.view(np.uint32) >> 16).astype(np.uint16)
    assert kernels.encode(bits, trees, bfloat16=True).array().shape == (100, 5)


@needs_kernels
def test_threads_and_batches_give_the_same(monkeypatch):
    x = np.random.default_rng(5).normal(size=(3000, 20)).astype(np.float32)
    trees, tables = trees_of(6, 4, 20), tables_of(33, 6, 16)
    whole = kernels.multiply(x, trees, tables)
    assert kernels.multiply(x, trees, tables, threads=3).tobytes() == whole.tobytes()
    assert kernels.scan(kernels.encode(x, trees, threads=2), tables, threads=2).tobytes() == whole.tobytes()
    parts = [kernels.multiply(x[i : i + 77], trees, tables) for i in range(0, 3000, 77)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()
    order = np.random.default_rng(6).permutation(3000)
    assert (kernels.multiply(x[order], trees, tables) == whole[order]).all()


@needs_kernels
def test_what_native_code_refuses():
    x = np.zeros((70, 20), np.float32)
    trees, tables = trees_of(5, 4, 20), tables_of(3, 5, 16)
    assert ext is not None
    dims, nodes = kernels._packed_trees(trees, 5)
    packed = kernels._packed_tables(tables, "exact", 16, 5)
    out, codes = np.zeros((70, 3), np.float32), np.empty(128 * 5, np.uint8)
    with pytest.raises(ValueError, match="a column that the rows do not have"):
        ext.maddness_encode(x, np.full((5, 4), 20, np.int32), nodes, 0, codes, "scalar", 1)
    with pytest.raises(ValueError, match="codes of another size"):
        ext.maddness_encode(x, dims, nodes, 0, codes[:-1], "scalar", 1)
    with pytest.raises(ValueError, match="quads and quarters need 16 leaves"):
        ext.maddness_encode(x, dims, nodes, 1, codes, "scalar", 1)
    with pytest.raises(ValueError, match="an output of another shape"):
        ext.maddness_multiply(x, dims, nodes, 0, *packed, out[:60], "scalar", 1)
    with pytest.raises(ValueError, match="tables of other trees"):
        ext.maddness_multiply(x, dims[:4], nodes[:4], 0, *packed, out, "scalar", 1)
    with pytest.raises(ValueError, match="groups of 1 to 16 codebooks"):
        ext.maddness_multiply(x, dims, nodes, 0, packed[0], 3, *packed[2:], out, "scalar", 1)
    with pytest.raises(ValueError, match="expected out of shape"):
        kernels.multiply(x, trees, tables, out=out.astype(np.float64))
    with pytest.raises(ValueError, match="threads"):
        kernels.multiply(x, trees, tables, threads=0)


@pytest.mark.parametrize("compiled", [True, False])
def test_trees_codes_and_tables_that_do_not_fit(compiled, monkeypatch):
    if not compiled:
        monkeypatch.setattr(kernels, "ext", None)
    x = np.zeros((70, 20), np.float32)
    trees, tables = trees_of(5, 4, 20), tables_of(3, 5, 16)
    outside = Trees(np.full((5, 4), 15, np.int32), trees.thresholds)
    for call in (kernels.encode, lambda *given: kernels.multiply(*given, tables)):
        with pytest.raises(ValueError, match=r"encode: expected rows \(N, D\) with column 15"):
            call(x[:, :10], outside)
        with pytest.raises(ValueError, match=r"encode: expected rows \(N, D\)"):
            call(x[0], trees)
    for other in (tables_of(3, 6, 16), tables_of(3, 5, 32)):
        for call in (kernels.multiply, lambda x, trees, tables: kernels.scan(kernels.encode(x, trees), tables)):
            with pytest.raises(ValueError, match="expected tables of 5 codebooks and 16 leaves"):
                call(x, trees, other)
        asked = filter_of((7, 20, 5, 2), (1, 1), (1, 1), (0, 0), (1, 1))
        with pytest.raises(ValueError, match="convolve: expected tables of 5 codebooks and 16 leaves"):
            kernels.convolve(np.zeros((7, 20, 5, 2), np.float32), asked, trees, other)


@needs_kernels
@pytest.mark.parametrize("isa", ISAS)
def test_codes_that_are_none_read_nothing_outside_of_the_tables(isa):
    packed = kernels._packed_tables(tables_of(2, 4, 16), "exact", 16, 4)
    assert ext is not None
    ext.maddness_scan(np.full(64 * 4, 255, np.uint8), 64, 0, *packed, np.empty((64, 2), np.float32), isa, 1)


@needs_kernels
@pytest.mark.parametrize(("C", "upcast_every"), [(300, 1), (600, 2)])
def test_more_groups_than_sixteen_bits_hold(C, upcast_every):
    x = np.random.default_rng(9).normal(size=(70, 20)).astype(np.float32)
    trees, tables = trees_of(C, 4, 20), tables_of(3, C, 16)
    codes = numpy_kernels.encode(x, trees.dims, trees.thresholds)
    expected = numpy_kernels.scan(codes, tables, "avg", upcast_every)
    assert kernels.multiply(x, trees, tables, "avg", upcast_every).tobytes() == expected.tobytes()


def test_an_output_in_the_memory_of_the_rows():
    rows = np.random.default_rng(10).normal(size=(1000, 20)).astype(np.float32)
    trees, tables = trees_of(5, 4, 20), tables_of(20, 5, 16)
    expected = kernels.multiply(rows, trees, tables)
    for shift in (0, 10):
        memory = np.empty((1000 + shift, 20), np.float32)
        memory[:1000] = rows
        assert (kernels.multiply(memory[:1000], trees, tables, out=memory[shift:]) == expected).all()
    images, asked = rows.reshape(20, 20, 10, 5), filter_of((20, 20, 10, 5), (1, 1), (1, 1), (0, 0), (1, 1))
    expected = kernels.convolve(images, asked, trees, tables)
    memory = np.empty(images.size + 1000, np.float32)
    memory[: images.size] = images.ravel()
    out = memory[1000:].reshape(expected.shape)
    inside = memory[: images.size].reshape(images.shape)
    assert (kernels.convolve(inside, asked, trees, tables, out=out) == expected).all()


def filter_of(shape, kernel, stride, padding, dilation) -> kernels.Filter:
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    places = [(shape[2 + a] + 2 * padding[a] - spans[a]) // stride[a] + 1 for a in range(2)]
    return kernels.Filter(kernel, stride, padding, dilation, (places[0], places[1]))


def patches_by_hand(x: np.ndarray, geometry: kernels.Filter) -> np.ndarray:
    """im2col, a number at a time."""
    n, channels, height, width = x.shape
    rows = []
    for i in range(n):
        for y in range(geometry.places[0]):
            for z in range(geometry.places[1]):
                row = []
                for c in range(channels):
                    for k in range(geometry.kernel[0]):
                        for m in range(geometry.kernel[1]):
                            at = y * geometry.stride[0] + k * geometry.dilation[0] - geometry.padding[0]
                            to = z * geometry.stride[1] + m * geometry.dilation[1] - geometry.padding[1]
                            row.append(x[i, c, at, to] if 0 <= at < height and 0 <= to < width else 0)
                rows.append(row)
    return np.array(rows, np.float32)


GEOMETRIES = [
    ((3, 3), (1, 1), (1, 1), (1, 1)),
    ((3, 2), (2, 1), (0, 3), (1, 2)),
    ((1, 1), (1, 1), (0, 0), (1, 1)),
]


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("isa", ISAS or ("",))
def test_patches_are_read_out_of_images(isa, geometry, monkeypatch):
    monkeypatch.setenv("HASTEN_ISA", isa)
    images = np.random.default_rng(7).normal(size=(3, 4, 11, 9)).astype(np.float32)
    asked = filter_of(images.shape, *geometry)
    rows = patches_by_hand(images, asked)
    assert (kernels.patches(images, asked) == rows).all()
    trees, tables = trees_of(6, 4, rows.shape[1]), tables_of(19, 6, 16)
    expected = kernels.multiply(rows, trees, tables).reshape(3, -1, 19).transpose(0, 2, 1)
    for x in (images, images.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)):
        assert (kernels.convolve(x, asked, trees, tables) == expected).all()
        last = np.empty((3, *expected.shape[:0:-1]), np.float32).transpose(0, 2, 1)
        assert (kernels.convolve(x, asked, trees, tables, out=last, threads=2) == expected).all()


def test_patches_of_other_types_and_without_compiled_kernels(monkeypatch):
    images = np.random.default_rng(8).integers(-9, 9, (2, 3, 6, 6)).astype(np.int8)
    asked = filter_of(images.shape, *GEOMETRIES[0])
    rows = patches_by_hand(images, asked)
    trees, tables = trees_of(3, 4, rows.shape[1]), tables_of(5, 3, 16)
    expected = kernels.multiply(rows, trees, tables).reshape(2, -1, 5).transpose(0, 2, 1)
    bits = (images.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    for _ in range(2):
        assert (kernels.convolve(images, asked, trees, tables) == expected).all()
        assert (kernels.convolve(bits, asked, trees, tables, bfloat16=True) == expected).all()
        monkeypatch.setattr(kernels, "ext", None)
    with pytest.raises(ValueError, match="a filter that fits the images"):
        kernels.convolve(images, filter_of(images.shape, (9, 9), (1, 1), (1, 1), (1, 1)), trees, tables)
