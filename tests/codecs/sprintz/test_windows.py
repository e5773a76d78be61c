"""Windows of compressed files, for training."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.codecs.sprintz.container import walk
from torch.utils.data import DataLoader, Subset

from hasten.codecs import sprintz
from hasten.codecs.sprintz import CorruptError, WindowDataset, Writer, compress
from hasten.codecs.sprintz.window_cache import OPEN_FILES, ChunkCache, FilePool

X = walk(1000, 4)
BUF = compress(X, chunk_rows=64, names=["a", "b", "c", "d"])
RECORDS = np.zeros(100, [("t", "M8[ms]"), ("n", "i4"), ("v", "f4"), ("ok", "?")])
RECORDS["t"], RECORDS["n"] = np.arange(100) + 10**12, walk(100, 1)[:, 0]
RECORDS["v"], RECORDS["ok"] = RECORDS["n"] / 4, RECORDS["n"] > 0


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "x.tsz"
    path.write_bytes(BUF)
    return path


def positions(window, start):
    """A target that spawned workers can import; says who fetched the window."""
    return start, os.getpid()


@given(
    window=st.integers(1, 200), stride=st.none() | st.integers(1, 300), first=st.integers(0, 500), rows=st.booleans(),
    columns=st.none() | st.lists(st.integers(-4, 3), min_size=1, max_size=5), cache=st.integers(0, 3), data=st.data(),
)  # fmt: skip
def test_windows_are_those_of_the_array(window, stride, first, rows, columns, cache, data):
    part = slice(first, -100) if rows else None
    dataset = WindowDataset(BUF, window, stride=stride, columns=columns, rows=part, cache_chunks=cache)
    x = (X[part] if rows else X)[:, columns if columns else slice(None)]
    step = stride or window
    assert len(dataset) == len(range(0, len(x) - window + 1, step))
    indices = data.draw(st.lists(st.integers(-len(dataset), len(dataset) - 1), max_size=8))
    batch = dataset.__getitems__(indices)
    assert len(batch) == len(indices)
    for index, found in zip(indices, batch, strict=True):
        start = index % len(dataset) * step
        assert dataset.where(index) == (0, start + (first if rows else 0))
        assert found.dtype == torch.int16
        assert torch.equal(found, torch.from_numpy(x[start : start + window]))
        assert torch.equal(found, dataset[index])


def test_only_touched_chunks_are_decoded():
    dataset = WindowDataset(BUF, 64, stride=1, cache_chunks=2)  # 16 chunks of 64 rows
    assert dataset.chunks_decoded == 0
    dataset[0]  # chunk 0
    assert dataset.chunks_decoded == 1
    dataset[64 * 5 + 1]  # chunks 5 and 6
    assert dataset.chunks_decoded == 3
    dataset[64 * 5 + 9]  # both are kept
    assert dataset.chunks_decoded == 3
    dataset[0]  # forgotten
    assert dataset.chunks_decoded == 4


def test_a_batch_decodes_a_chunk_once_even_if_none_is_kept():
    dataset = WindowDataset(BUF, 16, cache_chunks=0)
    order = np.random.default_rng(0).permutation(len(dataset)).tolist()
    found = torch.stack(dataset.__getitems__(order))
    assert dataset.chunks_decoded == 16
    assert torch.equal(found, torch.from_numpy(X[: 16 * 62].reshape(62, 16, 4)[order]))
    assert dataset._cache._blocks == {}


def test_the_cache_keeps_what_was_used_last():
    cache, made = ChunkCache(2), []

    def get(key):
        return cache.get(key, lambda: made.append(key) or np.full(1, key))

    assert [get(key).item() for key in (1, 2, 1, 3, 1, 2)] == [1, 2, 1, 3, 1, 2]
    assert made == [1, 2, 3, 2]
    assert cache.decoded == 4


def test_windows_are_copies():
    dataset = WindowDataset(BUF, 8)
    dataset[0].zero_()
    assert torch.equal(dataset[0], torch.from_numpy(X[:8]))


def test_the_loader_gives_batches(path):
    dataset = WindowDataset(path, 32, stride=16, columns=["d", "a"], dtype=torch.float32)
    batches = list(DataLoader(dataset, batch_size=8))
    assert [tuple(batch.shape) for batch in batches] == [(8, 32, 2)] * 7 + [(5, 32, 2)]
    assert batches[0].dtype == torch.float32
    expected = np.stack([X[s : s + 32, [3, 0]] for s in range(0, 1000 - 31, 16)]).astype(np.float32)
    assert torch.equal(torch.cat(batches), torch.from_numpy(expected))
    assert dataset.chunks_decoded == 16
    part = list(DataLoader(Subset(dataset, [3, 1]), batch_size=2))
    assert torch.equal(part[0], torch.from_numpy(expected[[3, 1]]))
    assert [tuple(window.shape) for window in dataset] == [(32, 2)] * 61  # it ends, as sequences do


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_open_the_files_themselves(path, method):
    if sys.platform == "win32" and method == "fork":
        pytest.skip("no fork on Windows")
    dataset = WindowDataset(path, 25, target=positions)
    expected = torch.from_numpy(X.reshape(40, 25, 4))
    straight = DataLoader(dataset, batch_size=4)
    assert torch.equal(torch.cat([x for x, _ in straight]), expected)  # the parent has the file open, and a cache
    loader = DataLoader(dataset, batch_size=4, num_workers=2 - (method == "spawn"), multiprocessing_context=method)
    batches = list(loader)
    assert torch.equal(torch.cat([x for x, _ in batches]), expected)
    assert torch.cat([start for _, (start, _) in batches]).tolist() == list(range(0, 1000, 25))
    pids = {pid for _, (_, found) in batches for pid in found.tolist()}
    assert os.getpid() not in pids
    assert len(pids) == loader.num_workers
    assert dataset.chunks_decoded == 16  # theirs are not counted here


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_shares_neither_descriptor_nor_lock(path):
    code = f"""
import os, sys
from hasten.codecs.sprintz import WindowDataset
dataset = WindowDataset({str(path)!r}, 8)
dataset[0]
mine = dataset._readers[0]._source._pool.file(dataset._sources[0][0])
dataset._cache._lock.acquire()  # as if another thread were at it
pid = os.fork()
if pid:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
assert dataset.chunks_decoded == 0
assert not dataset._cache._lock.locked(), "before a second thread may ask for it"
assert dataset[0].shape == (8, 4)
assert dataset.chunks_decoded == 1
assert dataset._readers[0]._source._pool.file(dataset._sources[0][0]) is not mine
"""
    subprocess.run([sys.executable, *(["-S"] if sys.flags.no_site else []), "-c", code], check=True, timeout=60)


def test_pickled_as_path_and_options(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    dataset = WindowDataset(path.name, 10, stride=5, columns=["b"], rows=slice(-300, None), dtype="float64")
    dataset[0]
    packed = pickle.dumps(dataset)
    assert len(packed) < 2000
    monkeypatch.chdir("/")
    with Writer(path, mode="a") as writer:  # it may grow
        writer.append(X[:50])
    again = pickle.loads(packed)
    assert (len(again), again.chunks_decoded, again.dtype) == (59, 0, np.float64)
    assert torch.equal(again[3], torch.from_numpy(X[715:725, 1:2].astype(float)))
    assert torch.equal(dataset[40], again[40])
    path.write_bytes(compress(X[:999]))
    with pytest.raises(ValueError, match="expected the file that was there"):
        pickle.loads(packed)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        pickle.loads(packed)
    memory = pickle.loads(pickle.dumps(WindowDataset(memoryview(BUF), 10)))
    assert torch.equal(memory[1], torch.from_numpy(X[10:20]))


def test_a_reader_stands_for_its_file(path):
    with sprintz.open(path, max_chunk_bytes=1 << 10) as reader:
        dataset = WindowDataset(reader, 10)
    assert torch.equal(dataset[1], torch.from_numpy(X[10:20]))  # the reader is closed by now
    assert pickle.loads(pickle.dumps(dataset))._sources == [(path, 1 << 10)]
    assert torch.equal(WindowDataset(sprintz.open(BUF), 10)[1], dataset[1])


def test_several_files(tmp_path):
    lengths, paths = (40, 95, 32), []
    for number, length in enumerate(lengths):
        paths.append(tmp_path / f"{number}.tsz")
        names = ["a", "b"] if number != 1 else ["b", "a"]
        paths[-1].write_bytes(compress(walk(length, 2, seed=number), chunk_rows=32, names=names))
    dataset = WindowDataset(paths, 20, stride=10, columns=["a"], target=lambda window, start, file: (start, file))
    assert len(dataset) == 3 + 8 + 2
    places = [(file, start) for file, length in enumerate(lengths) for start in range(0, length - 19, 10)]
    assert [dataset.where(k) for k in range(13)] == places
    order = [12, 0, 5, 3, 2, 12]
    for k, (window, (start, file)) in zip(order, dataset.__getitems__(order), strict=True):
        assert (file, start) == places[k]
        column = 1 if file == 1 else 0
        assert torch.equal(
            window[:, 0], torch.from_numpy(walk(lengths[file], 2, seed=file)[start : start + 20, column])
        )


def test_few_files_are_open_at_once(tmp_path):
    paths = []
    for number in range(OPEN_FILES + 20):
        paths.append(tmp_path / f"{number}.tsz")
        paths[-1].write_bytes(compress(np.full(4, number)))
    dataset = WindowDataset(paths, 4)
    open_now = Path("/proc/self/fd")
    if not open_now.is_dir():
        pytest.skip("needs /proc")
    assert [dataset[k][0, 0].item() for k in range(len(paths))] == list(range(len(paths)))

    def count():
        return sum(os.path.realpath(one).startswith(str(tmp_path)) for one in open_now.iterdir())

    assert count() == OPEN_FILES
    del dataset
    assert count() == 0


def test_a_file_that_is_not_there_leaves_nothing_behind(tmp_path):
    with pytest.raises(FileNotFoundError):
        FilePool().file(tmp_path / "none.tsz")


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_may_share_a_dataset(path, threads):
    dataset = WindowDataset(path, 100, stride=1, cache_chunks=3, threads=threads)
    wrong = []

    def work(seed):
        for _ in range(10):
            starts = np.random.default_rng(seed).integers(0, 900, 8).tolist()
            found = torch.stack(dataset.__getitems__(starts)).numpy()
            if not np.array_equal(found, np.stack([X[s : s + 100] for s in starts])):
                wrong.append(starts)

    workers = [threading.Thread(target=work, args=[seed]) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong
    assert len(dataset._cache._blocks) <= 3


# Values ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8", "?"])
def test_dtypes_are_kept(dtype):
    x = walk(64, 3).astype(dtype)
    batch = next(iter(DataLoader(WindowDataset(compress(x), 16), batch_size=4)))
    assert batch.numpy().dtype == x.dtype
    assert np.array_equal(batch.numpy(), x.reshape(4, 16, 3))


def test_records():
    buf = compress(RECORDS, chunk_rows=32)
    batch = WindowDataset(buf, 50, columns=["v", "n", "ok", "n"], dtype="float32")[1]
    expected = np.stack([RECORDS[name][50:].astype(np.float32) for name in ("v", "n", "ok", "n")], axis=1)
    assert torch.equal(batch, torch.from_numpy(expected))
    times = WindowDataset(buf, 50, columns="t", dtype=np.int64)
    assert times[1][:, 0].tolist() == RECORDS["t"][50:].astype(np.int64).tolist()
    assert WindowDataset(buf, 50, columns=["ok", "n"], dtype="int64")[1].dtype == torch.int64
    assert WindowDataset(buf, 50, columns=1)[0].shape == (50, 1)


def test_missing_values_are_nan():
    x = np.ma.array(walk(200, 3), mask=False)
    x[70:75, 1] = np.ma.masked
    buf = compress(x, chunk_rows=32)
    found = torch.stack(WindowDataset(buf, 50, dtype="float32").__getitems__([0, 1, 2, 3])).reshape(200, 3).numpy()
    assert np.array_equal(found, x.astype(np.float32).filled(np.nan), equal_nan=True)
    assert np.isnan(found).sum() == 5
    with pytest.raises(ValueError, match=r"got 5 that are missing\. Pass dtype=\"float32\": missing values are then"):
        WindowDataset(buf, 50)
    assert WindowDataset(buf, 50, columns=[0, 2])[1].dtype == torch.int16
    assert torch.equal(WindowDataset(buf, 50, rows=slice(80, None))[0], torch.from_numpy(x.data[80:130]))
    floats = np.ma.array(np.arange(64.0), mask=np.arange(64) == 9)
    assert WindowDataset(compress(floats), 8)[1].isnan().flatten().tolist() == [False, True] + [False] * 6
    records = np.ma.array(RECORDS, mask=False)
    records["n"][3] = np.ma.masked
    with pytest.raises(ValueError, match="got 1 that are missing"):
        WindowDataset(compress(records), 8, columns=["ok", "n"], dtype="int64")
    assert len(WindowDataset(compress(records), 8, columns=["ok"])) == 12


def test_a_cut_file_is_read_up_to_its_last_good_chunk(path):
    path.write_bytes(BUF[: len(BUF) // 2])
    with sprintz.open(path) as reader:
        left = len(reader) // 64
    assert 0 < left < 15
    dataset = WindowDataset(path, 64)
    assert len(dataset) == left
    assert torch.equal(dataset[-1], torch.from_numpy(X[64 * left - 64 : 64 * left]))


def test_damage_is_told_when_it_is_met(path):
    dataset = WindowDataset(path, 64)
    data = bytearray(BUF)
    data[int(sprintz.open(BUF).index.offsets[3]) + 50] ^= 1
    path.write_bytes(data)
    assert torch.equal(dataset[2], torch.from_numpy(X[128:192]))
    with pytest.raises(CorruptError, match="chunk 3 does not fit its checksum"):
        dataset[3]


# Bad input ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"window": 0}, ValueError, "at least 1 for window"),
        ({"window": 2.0}, ValueError, "at least 1 for window"),
        ({"window": 1001}, ValueError, r"expected 1001 rows or more, as window= asks for, got 1000"),
        ({"window": 8, "rows": slice(5)}, ValueError, "expected 8 rows or more, as window= asks for, got 5"),
        ({"window": 8, "rows": slice(None, None, 2)}, ValueError, "rows without a step"),
        ({"window": 8, "rows": slice(None, None, -1)}, ValueError, "rows without a step"),
        ({"window": 8, "rows": 5}, TypeError, "a slice for rows"),
        ({"window": 8, "stride": 0}, ValueError, "at least 1 for stride"),
        ({"window": 8, "columns": ["aa"]}, ValueError, "Did you mean a"),
        ({"window": 8, "columns": 4}, ValueError, "a column below 4"),
        ({"window": 8, "columns": []}, ValueError, "one column or more"),
        ({"window": 8, "cache_chunks": -1}, ValueError, "at least 0 for cache_chunks"),
        ({"window": 8, "threads": 0}, ValueError, "at least 1 for threads"),
        ({"window": 8, "target": 3}, TypeError, "target a function"),
        ({"window": 8, "dtype": "int8"}, TypeError, r"one that holds int16.* for column 'a', got int8"),
        ({"window": 8, "dtype": torch.bfloat16}, TypeError, r"got torch\.bfloat16\. Convert the batches"),
        ({"window": 8, "dtype": "float16"}, TypeError, "expected dtype float32"),
        ({"window": 8, "dtype": "nonsense"}, TypeError, "expected dtype float32"),
        ({"window": 8, "dtype": "complex64"}, TypeError, "expected dtype float32"),
        ({"window": 8, "source": []}, ValueError, "one file or more"),
        ({"window": 8, "source": "none.tsz"}, FileNotFoundError, "none.tsz, which is no file"),
        ({"window": 8, "source": 5}, TypeError, "a path or compressed bytes"),
        ({"window": 8, "source": b"nonsense" * 9}, CorruptError, "not a tsz file"),
        ({"window": 8, "source": compress(RECORDS)}, TypeError, "columns of one dtype, got bool, datetime64.*float32"),
        ({"window": 8, "source": compress(RECORDS), "columns": "t"}, TypeError, "columns of numbers"),
        ({"window": 8, "source": compress(RECORDS), "columns": "t", "dtype": "f4"}, TypeError, "expected dtype int64"),
        ({"window": 8, "source": compress(RECORDS), "columns": "v", "dtype": "i8"}, TypeError, "holds float32"),
        ({"window": 8, "source": [BUF, compress(X[:, :2])]}, ValueError, "the same number of columns"),
        ({"window": 8, "source": [BUF, compress(X[:7])]}, ValueError, "got 7 rows"),
        ({"window": 8, "source": [BUF, compress(X.astype("i4"))]}, TypeError, "columns of one dtype, got int16, int32"),
    ],
)  # fmt: skip
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        WindowDataset(**{"source": BUF, **arguments})


def test_windows_that_are_not_there():
    dataset = WindowDataset(BUF, 100)
    assert torch.equal(dataset[-1], dataset[torch.tensor(9)])
    for index in (10, -11):
        with pytest.raises(IndexError, match="expected a window below 10"):
            dataset[index]
    with pytest.raises(TypeError, match="the number of a window"):
        dataset[0:3]
    with pytest.raises(TypeError, match="the number of a window"):
        dataset[1.0]


def test_no_torch_before_the_first_window():
    code = "import sys; from hasten.codecs import sprintz; sprintz.WindowDataset; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, *(["-S"] if sys.flags.no_site else []), "-c", code], check=True, timeout=60)
