"""`max_error`: it holds for every element, whatever the data are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.codecs.sprintz.floats import WALK, back, columns, floats, names, pack, slow_decode, unpack, with_odd

from hasten.codecs.sprintz import Writer, compress, decompress, info, verify
from hasten.codecs.sprintz import open as sprintz_open
from hasten.codecs.sprintz.quantize import error_of


def holds(x: np.ndarray, y: np.ndarray, error: float) -> bool:
    """Is every finite value within the error, in exact arithmetic, and every other one the same?"""
    finite = np.isfinite(x)
    if x[~finite].tobytes() != y[~finite].tobytes():
        return False
    both = zip(x[finite].tolist(), y[finite].tolist(), strict=True)
    return all(a == b or abs(_whole(a) - _whole(b)) < _whole(error) for a, b in both)


def _whole(x: float) -> int:
    """A float times 2^1100."""
    top, bottom = x.as_integer_ratio()
    return top * (2**1100 // bottom)


@given(floats(), st.floats(1e-12, 1e12))
def test_the_error_holds_for_every_element(column, error):
    assert holds(column, back(column, error), error)


@given(st.integers(0, 99), st.floats(1e-7, 1.0), st.sampled_from(("f4", "f8")), st.floats(-1e9, 1e9))
def test_far_from_zero(seed, error, dtype, offset):
    column = (np.random.default_rng(seed).normal(size=200) + offset).astype(dtype)
    assert holds(column, back(column, error), error)


@given(st.floats(5e-324, 1.7e308), st.sampled_from(("f4", "f8")))
def test_any_error(error, dtype):
    assume(error > 0)
    column = with_odd(np.linspace(-3, 1e6, 60).astype(dtype), [0, 30, 59])
    assert holds(column, back(column, error), error)


@pytest.mark.parametrize("name", [name for name in columns() if name != "sum"])
def test_what_is_written_is_what_the_format_says(name):
    column = columns()[name]
    record = pack(column, 1e-3)
    assert holds(column, unpack(record, len(column), column.dtype), 1e-3)
    if not np.isnan(column).any():
        found = unpack(record, len(column), column.dtype).view(f"u{column.itemsize}")
        assert slow_decode(record, len(column), column.dtype) == found.tolist()


def test_a_larger_error_is_a_smaller_record():
    noise = np.random.default_rng(0).normal(size=8192)
    sizes = [len(pack(noise, error)) for error in (1e-6, 1e-4, 1e-2)]
    assert [noise.nbytes / size for size in sizes] == pytest.approx([2.7, 3.9, 6.6], rel=0.1)
    assert names(pack(noise, 1e-4)) == ["quantised"]
    assert (back(noise, 1e-2) != noise).mean() > 0.99


def test_the_error_is_used_up():
    noise = np.random.default_rng(0).normal(size=8192)
    off = back(noise, 0.01) - noise
    assert 0.0099 < np.abs(off).max() < 0.01
    assert abs(off.mean()) < 3e-4  # and is no bias
    assert off.std() == pytest.approx(0.01 / np.sqrt(3), rel=0.03)


def test_decimals_without_loss_where_they_are_smaller():
    column = WALK[:3000] / 10
    assert names(pack(column, 0.001)) == ["scaled"]
    assert back(column, 0.001).tobytes() == column.tobytes()
    assert names(pack(column, 1.0)) == ["quantised"]


def test_an_error_below_what_the_dtype_can_tell_is_no_loss():
    column = np.random.default_rng(0).normal(size=1000) * 1e8
    for dtype, error in (("f8", 1e-9), ("f4", 1e-3)):
        x = column.astype(dtype)
        assert back(x, error).tobytes() == x.tobytes()


def test_strays_are_exceptions():
    column = np.random.default_rng(0).normal(size=5000)
    odd = with_odd(column, [*range(0, 5000, 500), 4999])
    odd[777] = 1e30
    assert names(pack(odd, 0.01)) == ["quantised"]
    assert holds(odd, back(odd, 0.01), 0.01)
    assert len(pack(odd, 0.01)) < len(pack(column, 0.01)) + 400
    odd[::30] = np.random.default_rng(1).normal(size=167) * 1e30  # more than 2 %
    assert back(odd, 0.01).tobytes() == odd.tobytes()


def test_one_error_for_each_column():
    assert [error_of(error, 1) for error in (None, 0.5, (None, 0.25))] == [None, 0.5, 0.25]


# In files -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [0.01, (0.01, None, 0.5), np.array([0.01, 0.1, 0.5]), np.float32(0.01)])
def test_files_say_what_they_lost(error):
    x = np.random.default_rng(0).normal(size=(500, 3))
    buf = compress(x, max_error=error, chunk_rows=128)
    y = decompress(buf)
    plain = np.broadcast_to(np.array(error, float), 3)  # None is NaN
    assert np.all((np.abs(x - y) < plain) | (x == y))
    said = info(buf).options["max_error"]
    assert said == (tuple(error) if np.ndim(error) else pytest.approx(0.01))
    assert info(compress(x, max_error=[None, None, None])).options["max_error"] is None


def test_the_index_speaks_of_what_is_decoded(tmp_path):
    x = np.ma.masked_array(np.random.default_rng(0).normal(size=(300, 2)), np.arange(600).reshape(300, 2) % 7 == 0)
    with Writer(tmp_path / "x.tsz", "f8", 2, missing=True, max_error=0.1, chunk_rows=64) as writer:
        writer.append(x)
    with sprintz_open(tmp_path / "x.tsz") as reader:
        y = reader.read()
        assert reader.min().tolist() == y.min(axis=0).tolist()
        assert reader.max().tolist() == y.max(axis=0).tolist()
        assert np.abs(y - x).max() < 0.1
    assert not verify(tmp_path / "x.tsz")


def test_errors_that_do_not_fit_the_columns():
    x = np.zeros(9, [("a", "f4"), ("b", "i2")])
    assert decompress(compress(x, max_error=0.5))["b"].tolist() == [0] * 9
    assert info(compress(x, max_error=[0.5, None])).options["max_error"] == (0.5, None)
    with pytest.raises(ValueError, match=r"max_error only for floats, got 0.25 for column 1 of dtype int16. Pass None"):
        compress(x, max_error=[0.5, 0.25])
    with pytest.raises(ValueError, match="max_error for 2 columns, got 3 numbers"):
        compress(x, max_error=[0.5, None, 1])
