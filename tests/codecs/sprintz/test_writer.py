"""Writing bit by bit: the bytes of `compress`, and nothing that was acknowledged is ever lost."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.codecs.sprintz.container import arrays, same, walk
from tests.codecs.sprintz.replay import files_after, record, written

from hasten.codecs import sprintz
from hasten.codecs.sprintz import CorruptError, Writer, compress, info, repair, verify
from hasten.codecs.sprintz.disk import Disk

X = walk(3000, 3)


@given(x=arrays(), sizes=st.lists(st.integers(0, 150), max_size=12), threads=st.sampled_from((1, 3)))
def test_blocks_of_any_size_give_the_file_of_one(tmp_path_factory, x, sizes, threads):
    path = tmp_path_factory.getbasetemp() / "blocks.tsz"
    columns = x.shape[1] if x.ndim == 2 else None
    with Writer(path, x.dtype, columns, chunk_rows=32, threads=threads) as w:
        for size in (*sizes, len(x)):
            w.append(x[w.rows : w.rows + size])
    assert path.read_bytes() == compress(x, chunk_rows=32)
    assert (w.rows, w.rows_durable) == (len(x), len(x))


def test_the_buffer_holds_copies(tmp_path):
    block = np.zeros((5, 2), "i2")
    with Writer(tmp_path / "x", "i2", 2) as w:
        for k in range(4):
            block[:] = k
            w.append(block)
    with sprintz.open(tmp_path / "x") as r:
        assert r[:, 0].tolist() == sorted([0, 1, 2, 3] * 5)


def test_masked_rows(tmp_path, monkeypatch):
    x = np.ma.array(X, mask=X % 5 == 0)
    with Writer(tmp_path / "x", "i2", 3, chunk_rows=64, missing=True) as w:
        w.append(X[:50])
        w.append(x[50:1000])
        w.append(x[1000:])
    with sprintz.open(tmp_path / "x") as r:
        assert same(r[:50], np.ma.array(X[:50]))
        assert same(r[50:], x[50:])
        assert not np.ma.getmaskarray(r[:50]).any()
    with Writer(tmp_path / "y", "i2", 3) as w:
        w.append(np.ma.array(X))
        with pytest.raises(
            ValueError, match="without missing values, got .* of them. Open the writer with missing=True"
        ):
            w.append(x)
        w.append(X)
    assert sprintz.info(tmp_path / "y").shape == (6000, 3)


def test_records(tmp_path):
    dtype = [("t", "M8[ms]"), ("v", "f4")]
    x = np.array([(k, k / 2) for k in range(100)], dtype)
    with Writer(tmp_path / "x", dtype, chunk_rows=32) as w:
        w.append(x[:7])
        w.append(x[7:])
    with sprintz.open(tmp_path / "x") as r:
        assert same(r[:], x)


def test_flush_makes_rows_readable_while_the_writer_is_open(tmp_path):
    path = tmp_path / "x"
    w = Writer(path, "i2", 3, chunk_rows=64)
    w.append(X[:100])
    assert (w.rows, w.rows_durable) == (100, 0)
    w.flush()
    assert w.rows_durable == 100
    w.append(X[100:110])
    with sprintz.open(path) as r:
        assert r.recovered
        assert same(r[:], X[:100])
    size = path.stat().st_size
    w.flush()
    w.flush()
    assert path.stat().st_size > size
    w.close()
    w.close()
    with sprintz.open(path) as r:
        assert not r.recovered
        assert np.diff(r.index.rows).tolist() == [64, 36, 10]
        assert same(r[:], X[:110])


def test_going_on_with_a_file(tmp_path):
    path = tmp_path / "x"
    said = {"rate": 360.0, "names": ["a", "b", "c"], "units": ["mV"] * 3, "meta": {"k": 1}, "chunk_rows": 64}
    for start in range(0, 3000, 1000):
        with Writer(path, "i2", 3, mode="a", **said) as w:
            assert w.rows == w.rows_durable == start
            w.append(X[start : start + 1000])
    with Writer(path, mode="a"):
        pass
    assert verify(path) == []
    with sprintz.open(path) as r:
        assert r.max().tolist() == X.max(axis=0).tolist()
        assert r.chunks_decoded == 0
        assert same(r[:], X)
        assert r.header.rate == 360.0


def test_opening_without_appending_changes_nothing(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(compress(X))
    Writer(path, mode="a").close()
    assert path.read_bytes() == compress(X)


def test_a_writer_shares_its_header_with_no_other(tmp_path):
    meta = {"device": {"name": "A7"}}
    for arguments in ({}, {"meta": meta}):
        with Writer(tmp_path / "first", "int16", 2, **arguments) as writer:
            writer.header.meta.setdefault("device", {})["name"] = "mine"
        with Writer(tmp_path / "second", "int16", 2, **arguments) as writer:
            assert writer.header.meta == arguments.get("meta", {})
        Writer(tmp_path / "second", "int16", 2, mode="a", **arguments).close()
    assert meta == {"device": {"name": "A7"}}


def test_any_truth_says_that_values_may_be_missing(tmp_path):
    Writer(tmp_path / "x", "int16", 2, missing=2).close()
    assert (info(tmp_path / "x").missing, info(tmp_path / "x").checksum) == (True, True)


def test_a_new_file_replaces_an_old_one(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(compress(X))
    Writer(path, "i2").close()
    assert path.read_bytes() == compress(X[:0, 0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dtype": "i4", "columns": 3}, "dtype int16, as of the file, got int32"),
        ({"dtype": "i2", "columns": 2}, "ncols 3, as of the file, got 2"),
        ({"dtype": "i2"}, "layout matrix, as of the file, got flat"),
        ({"dtype": "i2", "columns": 3, "rate": 2.0}, "rate 1.0, as of the file, got 2.0"),
        ({"dtype": "i2", "columns": 3, "profile": "fast"}, "options .*, as of the file"),
        ({"dtype": "i2", "columns": 3, "chunk_rows": 96}, "chunk_rows 64, as of the file, got 96"),
        ({"dtype": "i2", "columns": 3, "missing": True}, "missing False, as of the file"),
    ],
)
def test_going_on_with_another_kind_of_rows(tmp_path, arguments, message):
    path = tmp_path / "x"
    path.write_bytes(compress(X, chunk_rows=64, rate=1.0))
    with pytest.raises(ValueError, match=message):
        Writer(path, mode="a", **arguments)
    assert path.read_bytes() == compress(X, chunk_rows=64, rate=1.0)


def test_arguments_that_cannot_be(tmp_path):
    path = tmp_path / "x"
    with pytest.raises(ValueError, match='mode "w" or "a", got \'r\''):
        Writer(path, "i2", mode="r")
    with pytest.raises(ValueError, match="a dtype for a new file, got none"):
        Writer(path)
    with pytest.raises(FileNotFoundError):
        Writer(path, mode="a")
    with pytest.raises(ValueError, match="a whole number of at least 0 for columns"):
        Writer(path, "i2", -1)
    assert not path.exists()
    path.write_text("something else")
    with pytest.raises(CorruptError, match="this is not a tsz file"):
        Writer(path, "i2", mode="a")
    path.write_bytes(compress(X, checksum=False))
    with pytest.raises(ValueError, match="a file with checksums, got one without"):
        Writer(path, mode="a")


def test_blocks_that_do_not_fit_leave_the_writer_as_it_was(tmp_path):
    with Writer(tmp_path / "x", "i2", 3) as w:
        with pytest.raises(TypeError, match="append: expected dtype int16, got ndarray of shape .* and dtype int64"):
            w.append(X.astype("i8"))
        with pytest.raises(ValueError, match=r"append: expected shape \(rows, 3\), got ndarray of shape \(3000, 2\)"):
            w.append(X[:, :2])
        with pytest.raises(ValueError, match=r"shape \(rows, 3\)"):
            w.append(X[:, 0])
        w.append(X)
    with sprintz.open(tmp_path / "x") as r:
        assert same(r[:], X)


def test_one_writer_at_a_time(tmp_path):
    path = tmp_path / "x"
    with Writer(path, "i2", 3) as w:
        w.append(X)
        for mode in ("w", "a"):
            with pytest.raises(BlockingIOError, match="nobody else writes, got .*Close that one first"):
                Writer(path, "i2", 3, mode=mode)
        with pytest.raises(BlockingIOError):
            repair(path)
    with Writer(path, mode="a") as w:
        assert w.rows == 3000


def test_a_closed_writer_says_so(tmp_path):
    with Writer(tmp_path / "x", "i2", 3) as w:
        pass
    with pytest.raises(ValueError, match="an open writer, got a closed one"):
        w.append(X)


def test_a_full_disk(tmp_path, monkeypatch):
    path, write = tmp_path / "x", Disk.write
    w = Writer(path, "i2", 3, chunk_rows=64)
    w.append(X[:1000])
    w.flush()

    def full(self, at, data):
        write(self, at, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(Disk, "write", full)
    with pytest.raises(OSError, match="No space left"):
        w.append(X[1000:2000])
    with pytest.raises(ValueError, match="one that failed before .*No space left"):
        w.flush()
    w.close()
    monkeypatch.undo()
    with sprintz.open(path) as r:
        assert same(r[:], X[:1000])
    with Writer(path, mode="a") as w:
        assert w.rows == 1000
        w.append(X[1000:])
    assert verify(path) == []


def test_an_exception_in_the_block_of_a_writer_keeps_the_rows(tmp_path):
    def failing():
        with Writer(tmp_path / "x", "i2", 3) as w:
            w.append(X)
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert verify(tmp_path / "x") == []
    assert sprintz.info(tmp_path / "x").shape == (3000, 3)


WRITERS = [
    [40, 200, "flush", 10, "flush", 300, 7],
    [1, "flush", 130, 64, "flush", "flush", 20],
    [500, "flush"],
]


def check(data: bytes, acknowledged: int) -> None:
    """A file that a crash left: what can be read of it; at least what was acknowledged, and nothing that was not."""
    try:
        r = sprintz.open(data)
    except CorruptError:
        assert acknowledged == 0
        return
    assert len(r) >= acknowledged
    assert same(r[:], X[: len(r)])
    assert r.recovered or verify(data) == []


def go_on(data: bytes, acknowledged: int, path: Path) -> None:
    """A writer goes on with such a file, or says why not; then `repair` helps."""
    path.write_bytes(data)
    try:
        w = Writer(path, "i2", 3, mode="a", chunk_rows=64)
    except CorruptError:
        with pytest.raises(CorruptError, match="use hasten.codecs.sprintz.repair"):
            Writer(path, mode="a")
        done = repair(path, skip_bad=True)
        assert done.rows >= acknowledged
        with sprintz.open(path) as r:
            assert same(r[:acknowledged], X[:acknowledged])
        assert verify(path) == []
        return
    with w:
        assert w.rows == w.rows_durable >= acknowledged
        w.append(X[w.rows : w.rows + 100])
    with sprintz.open(path) as r:
        assert same(r[:], X[: len(r)])
        assert len(r) >= acknowledged + 100
    assert verify(path) == []


def test_every_crash_between_and_in_writes(tmp_path, monkeypatch):
    path = tmp_path / "x"
    steps = record(monkeypatch)
    for actions in WRITERS:
        written(path, actions, X, steps, dtype="i2", columns=3, mode="a", chunk_rows=64)
    states = list(files_after(steps, b""))
    assert len(states) > 300
    assert max(rows for rows, _ in states) == 1272
    for k, (rows, data) in enumerate(states):
        check(data, rows)
        if k % 5 == 0:
            go_on(data, rows, tmp_path / "y")


def test_a_crash_after_a_crash(tmp_path, monkeypatch):
    # What the first crash left (a later chunk without an earlier one, half an index) must not come back.
    path = tmp_path / "x"
    steps = record(monkeypatch)
    written(path, [40, 200, "flush", 300], X, steps, dtype="i2", columns=3, mode="a", chunk_rows=64)
    first = [state for state in dict.fromkeys(files_after(steps, b"")) if state[0] == 240]
    tried = 0
    for rows, data in first[:: max(1, len(first) // 12)]:
        path.write_bytes(data)
        steps.clear()
        steps.append(("rows", rows))
        try:
            written(path, [64, "flush", 100], X, steps, dtype="i2", columns=3, mode="a", chunk_rows=64)
        except CorruptError:
            continue
        for acknowledged, left in files_after(steps, data):
            check(left, max(rows, acknowledged))
        tried += 1
    assert tried >= 6


def killed(folder: Path, rounds: int, seed: int) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    script = Path(__file__).with_name("crash.py")
    done = subprocess.run(
        [sys.executable, "-S", script, folder, str(rounds), str(seed)], env=environment, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert len(found["rounds"]) == rounds
    assert all(good for _, _, good, _ in found["rounds"]), found
    assert found["rounds"][-1][0] > 0
    assert found["faults"] == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_killed_writers(tmp_path):
    killed(tmp_path, 10, seed=1)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_hundred_killed_writers(tmp_path):
    killed(tmp_path, 100, seed=2)


@settings(max_examples=5)
@given(seed=st.integers(0, 10**6))
def test_crashes_of_random_writers(tmp_path_factory, seed):
    generator = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("random") / "x"
    with pytest.MonkeyPatch.context() as patch:
        steps = record(patch)
        for _ in range(2):
            actions = [int(n) if n < 200 else "flush" for n in generator.integers(0, 260, 6)]
            written(path, actions, X, steps, dtype="i2", columns=3, mode="a", chunk_rows=64)
    for rows, data in files_after(steps, b"", seed):
        check(data, rows)
