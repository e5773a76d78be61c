"""The definition of encode and scan, against loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.matmul import reference
from tests.matmul.maddness.data import random_trees

from hasten.matmul.maddness import averaging, kernels, make_tables
from hasten.matmul.maddness.numpy_kernels import ROWS, encode, scan

SIZES = (0, 1, 15, 16, 17, 31, 33)


@given(st.integers(0, 1000), st.sampled_from(SIZES), st.integers(1, 5), st.sampled_from([16, 32, 64]))
def test_encode_and_scan_equal_their_definition(seed, n, c, leaves):
    generator = np.random.default_rng(seed)
    trees = random_trees(c, leaves, 9, seed)
    x = generator.standard_normal((n, 9)).astype(np.float32)
    codes = encode(x, trees.dims, trees.thresholds)
    assert codes.dtype == np.uint8
    assert (codes == reference.encode(x, trees.dims, trees.thresholds)).all()
    for bits in (8, 16):
        tables = make_tables(generator.standard_normal((3, c, leaves)), bits)
        parts = (tables.luts, tables.scale, tables.offset)
        assert (scan(codes, tables) == reference.scan_exact(codes, *parts)).all()
    tables = make_tables(generator.standard_normal((3, c, leaves)))
    parts, upcast = (tables.luts, tables.scale, tables.offset), int(generator.choice([1, 2, 4, 16]))
    expected = reference.scan_averaged(codes, *parts, upcast, averaging(c, upcast)[2])
    assert (scan(codes, tables, "avg", upcast) == expected).all()


def test_tables_of_floats_are_added_in_order():
    generator = np.random.default_rng(0)
    T, codes = generator.standard_normal((2, 7, 16)).astype(np.float32), generator.integers(0, 16, (20, 7))
    expected = np.zeros((20, 2), np.float32)
    for c in range(7):
        expected += T[:, c, codes[:, c]].T
    assert (scan(codes.astype(np.uint8), make_tables(T, 32)) == expected).all()


def test_values_at_a_threshold_and_nan_go_left():
    trees = random_trees(1, 16, 1)
    trees.thresholds[:] = 1.0
    x = np.array([[1.0], [np.nextafter(np.float32(1), np.float32(2))], [np.nan], [np.inf], [-np.inf]], np.float32)
    assert encode(x, trees.dims, trees.thresholds).tolist() == [[0], [15], [0], [15], [0]]
    trees.thresholds[:] = np.inf
    assert (encode(x, trees.dims, trees.thresholds) == 0).all()


@pytest.mark.parametrize("dtype", [np.float16, np.int8, np.uint8])
def test_narrow_types_are_compared_as_float32(dtype):
    x = np.random.default_rng(0).integers(0, 100, (50, 9)).astype(dtype)
    trees = random_trees(3, 16, 9)
    trees.thresholds[:] = 50 + 20 * trees.thresholds
    expected = encode(x.astype(np.float32), trees.dims, trees.thresholds)
    assert len(np.unique(expected)) > 3
    assert (encode(x, trees.dims, trees.thresholds) == expected).all()


def test_rows_do_not_know_of_each_other():
    n = 2 * ROWS + 33
    x, trees = np.random.default_rng(0).standard_normal((n, 9)).astype(np.float32), random_trees(4, 16, 9)
    codes = encode(x, trees.dims, trees.thresholds)
    order = np.random.default_rng(1).permutation(n)
    assert (encode(x[order], trees.dims, trees.thresholds) == codes[order]).all()
    parts = [encode(part, trees.dims, trees.thresholds) for part in np.split(x, [1, 18, 1000])]
    assert (np.concatenate(parts) == codes).all()
    tables = make_tables(np.random.default_rng(2).standard_normal((3, 4, 16)))
    whole = scan(codes, tables)
    assert (np.concatenate([scan(part, tables) for part in np.split(codes, [1, 18, 1000])]) == whole).all()


@pytest.mark.parametrize("view", ["fortran", "reversed", "every other", "columns reversed", "broadcast"])
def test_any_strides(view):
    x = np.random.default_rng(0).standard_normal((40, 18)).astype(np.float32)
    x = {
        "fortran": np.asfortranarray(x),
        "reversed": x[::-1],
        "every other": x[::2, ::2],
        "columns reversed": x[:, ::-1],
        "broadcast": np.broadcast_to(x[:1], (40, 18)),
    }[view]
    trees = random_trees(3, 16, 9)
    assert not x.flags.c_contiguous
    assert (encode(x, trees.dims, trees.thresholds) == encode(x.copy(), trees.dims, trees.thresholds)).all()


def test_output_goes_where_it_is_asked_to():
    codes, tables = np.zeros((5, 2), np.uint8), make_tables(np.random.default_rng(0).standard_normal((3, 2, 16)))
    out = np.full((5, 3), np.nan, np.float32)
    assert scan(codes, tables, out=out) is out
    assert (out == scan(codes, tables)).all()


def test_the_bias_of_averages():
    # Spec of the published method: U = C = 16 uniform bytes are too large by 16, with a deviation of 5.5.
    values = np.random.default_rng(0).integers(0, 256, (20_000, 16))
    level = values.T
    while len(level) > 1:
        level = (level[0::2] + level[1::2] + 1) >> 1
    off = 16 * level[0] - values.sum(axis=1)
    group, padded, bias = averaging(16)
    assert (group, padded, bias) == (16, 16, 16.0)
    assert off.mean() == pytest.approx(bias, abs=0.2)
    assert off.std() == pytest.approx(5.5, abs=0.2)
    assert reference.averaged_sum(values[0], 16) == (level[0][0], 16)


@pytest.mark.parametrize(("c", "upcast"), [(5, 16), (12, 16), (24, 16), (64, 16), (64, 64), (3, 2)])
def test_the_bias_is_right_for_any_number_of_codebooks(c, upcast):
    values = np.random.default_rng(0).integers(0, 256, (4000, c))
    group, _, bias = averaging(c, upcast)
    off = [group * reference.averaged_sum(row, upcast)[0] - row.sum() for row in values]
    assert np.mean(off) == pytest.approx(bias, abs=4 * np.std(off) / np.sqrt(len(off)))


@pytest.mark.parametrize("accumulate", ["exact", "avg"])
def test_constant_tables_give_the_exact_result(accumulate):
    tables = make_tables(np.full((2, 4, 16), 0.25))
    assert (scan(np.zeros((3, 4), np.uint8), tables, accumulate) == 1).all()


def test_codes_of_the_kernels():
    trees = random_trees(3, 32, 9)
    x = np.random.default_rng(0).standard_normal((21, 9)).astype(np.float32)
    codes = kernels.encode(x, trees)
    assert (codes.n, codes.ncodebooks, codes.leaves) == (21, 3, 32)
    assert (codes.array() == encode(x, trees.dims, trees.thresholds)).all()
    tables = make_tables(np.random.default_rng(1).standard_normal((2, 3, 32)))
    assert (kernels.scan(codes, tables) == scan(codes.array(), tables)).all()
    assert (kernels.scan(codes, tables, "avg", 2) == scan(codes.array(), tables, "avg", 2)).all()
