"""Samples per second that a DataLoader gets out of files: compressed ones against a memory-mapped array.

An epoch is `--samples` windows at random places, as float32 (batch, window, columns), the same ones for every arm:

    memory-mapped npy       what most people use; the baseline of `ratio`
    tsz                     WindowDataset on a compressed file with the usual chunks of 64 KiB of each column
    tsz, N rows a chunk     the same on a file written for training, with chunks of about four windows
    npz in memory           an array that was decompressed as a whole: the upper bound, while memory lasts

    python benchmarks/codec_training.py --json                  a made signal of four columns of 12 bits
    python benchmarks/codec_training.py --json --data DIR       MIT-BIH record 100 of DIR, again and again
    python benchmarks/codec_training.py --json --train          with a step of a small 1-D convolution after each batch
    python benchmarks/codec_training.py --json --samples 4096   longer epochs, for a record

The arms take turns, an epoch each, the order turned round every round, with 0 and with 2 workers. `ratio` is the median
over the rounds of an arm's samples per second over those of the baseline in the same round, `interval` a 95 % interval
of that median (its order statistics).

`cache` says what is measured. "warm": files in the page cache, workers there, everything opened before; the first epoch
is not timed. "cold": the file is dropped from the page cache, and the time holds opening it and starting the workers.
`cached` is the share of the file that was in the page cache nevertheless (all of it, if the folder lies in memory; see
`--folder`), null where the system does not say.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _intervals import median_interval
from _record import emit
from torch import Tensor, nn
from torch.utils.data import DataLoader

from hasten.codecs import files
from hasten.codecs.sprintz import WindowDataset, compress

BASE = "memory-mapped npy"


class ArrayWindows:
    """Windows of an array; a batch at once, as WindowDataset does."""

    def __init__(self, x: np.ndarray, window: int) -> None:
        self.x, self.window = x, window

    def __len__(self) -> int:
        return len(self.x) - self.window + 1

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self.x[index : index + self.window].astype(np.float32))

    def __getitems__(self, indices: Sequence[int]) -> list[Tensor]:
        return [self[index] for index in indices]


class Draw:
    """A sampler of random places; the same in every arm of a round."""

    def __init__(self, count: int, places: int) -> None:
        self.count, self.places, self.seed = count, places, 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        return iter(np.random.default_rng(self.seed).integers(0, self.places, self.count).tolist())


@dataclass(frozen=True)
class Arm:
    """A file and how to read windows from it."""

    path: Path
    open: Callable[[Path], Any]


def made_signal(rows: int) -> np.ndarray:
    """Four columns of 12 bits: slow waves, a beat, and noise."""
    draw, t = np.random.default_rng(0), np.arange(rows)[:, None]
    slow = 700 * np.sin(t / [400, 530, 610, 890])
    beat = 900 * np.exp(-(((t % [360, 360, 300, 300]) - 150) ** 2) / 60.0)
    return np.clip(slow + beat + draw.normal(0, 4, (rows, 4)), -2048, 2047).round().astype(np.int16)


def real_signal(folder: Path, rows: int) -> np.ndarray:
    """MIT-BIH record 100, from its start again and again; no codec here looks back that far."""
    found = files.read(folder / "mitbih_record100" / "100.hea").data
    x = np.ascontiguousarray(np.ma.getdata(found), dtype=np.int16)
    return np.tile(x, (-(-rows // len(x)), 1))[:rows]


def write_arms(folder: Path, x: np.ndarray, window: int) -> dict[str, Arm]:
    """Write the files."""
    small = -(-4 * window // 32) * 32
    names = ("x.npy", "x.tsz", "small.tsz", "x.npz")
    npy, tsz, small_tsz, npz = (folder / name for name in names)
    np.save(npy, x)
    tsz.write_bytes(compress(x))
    small_tsz.write_bytes(compress(x, chunk_rows=small))
    np.savez_compressed(npz, x=x)
    for path in (npy, tsz, small_tsz, npz):
        with open(path, "rb+") as file:
            os.fsync(file.fileno())  # what is not on the disk cannot be dropped

    def compressed(path: Path) -> Any:
        return WindowDataset(path, window, stride=1, dtype="float32")

    return {
        BASE: Arm(npy, lambda path: ArrayWindows(np.load(path, mmap_mode="r"), window)),
        "tsz": Arm(tsz, compressed),
        f"tsz, {small} rows a chunk": Arm(small_tsz, compressed),
        "npz in memory": Arm(npz, lambda path: ArrayWindows(np.load(path)["x"], window)),
    }


# The page cache -------------------------------------------------------------------------------------------------------


def drop(path: Path) -> None:
    """Ask the system to forget a file."""
    if hasattr(os, "posix_fadvise"):
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cached_share(path: Path, places: int = 64) -> float | None:
    """The share of a file that is in the page cache; reading without waiting says so, at some places."""
    if not hasattr(os, "RWF_NOWAIT"):
        return None
    found, size = 0, path.stat().st_size
    with open(path, "rb", buffering=0) as file:
        for place in np.linspace(0, size - 1, places).astype(int).tolist():
            try:
                found += os.preadv(file.fileno(), [bytearray(1)], place, os.RWF_NOWAIT)
            except BlockingIOError:
                continue
            except OSError:
                return None
    return found / places


# Epochs ---------------------------------------------------------------------------------------------------------------


def trainer(columns: int) -> Callable[[Tensor], None]:
    """A step of a small convolution that tells the mean of each column from the window."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv1d(columns, 16, 9, stride=4), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, columns)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def step(batch: Tensor) -> None:
        inputs = batch.transpose(1, 2) / 1024
        optimizer.zero_grad()
        (model(inputs) - inputs.mean(dim=2)).square().mean().backward()
        optimizer.step()

    return step


def loader(dataset: Any, draw: Draw, batch: int, workers: int, keep: bool) -> DataLoader[Any]:
    """Workers are forked, so that an array in memory is not sent to them."""
    context = "fork" if workers and hasattr(os, "fork") else None
    return DataLoader(
        dataset, batch_size=batch, sampler=draw, num_workers=workers, multiprocessing_context=context,
        persistent_workers=keep and workers > 0,
    )  # fmt: skip


def epoch(batches: DataLoader[Any], step: Callable[[Tensor], None] | None, count: int) -> None:
    """Go through the windows."""
    seen = 0
    for batch in batches:
        seen += len(batch)
        if step is not None:
            step(batch)
    assert seen == count


def measure(
    options: argparse.Namespace, arms: dict[str, Arm], workers: int, cold: bool
) -> tuple[dict[str, list[float]], dict[str, float | None]]:
    """Samples per second of each arm, one value a round; and the largest share of each file that was cached."""
    places = options.rows - options.window + 1
    draw = Draw(options.samples, places)
    step = trainer(options.columns) if options.train else None
    warm = {
        name: loader(arm.open(arm.path), draw, options.batch, workers, True) for name, arm in arms.items() if not cold
    }
    for batches in warm.values():
        epoch(batches, step, options.samples)  # starts workers
    speeds: dict[str, list[float]] = {name: [] for name in arms}
    cached: dict[str, float | None] = dict.fromkeys(arms)
    for number in range(options.rounds):
        draw.seed = number + 1
        for name in list(arms) if number % 2 == 0 else list(reversed(arms)):
            if cold:
                drop(arms[name].path)
                share = cached_share(arms[name].path)
                cached[name] = share if share is None else max(share, cached[name] or 0.0)
                drop(arms[name].path)  # looking may have read ahead
            begun = time.perf_counter()
            batches = (
                loader(arms[name].open(arms[name].path), draw, options.batch, workers, False) if cold else warm[name]
            )
            epoch(batches, step, options.samples)
            speeds[name].append(options.samples / (time.perf_counter() - begun))
            del batches  # pages that are mapped cannot be dropped
    return speeds, cached


def report(options: argparse.Namespace, arms: dict[str, Arm], workers: int, cold: bool) -> None:
    """One line for each arm."""
    speeds, cached = measure(options, arms, workers, cold)
    for name, found in speeds.items():
        ratios = [mine / base for mine, base in zip(found, speeds[BASE], strict=True)]
        emit(
            options.json,
            claim="training from files",
            arm=name,
            value=statistics.median(found),
            unit="samples/s",
            ratio=statistics.median(ratios),
            interval=median_interval(ratios)[1],
            n=len(found),
            workers=workers,
            cache="cold" if cold else "warm",
            cached=cached[name],
            train=options.train,
            data="mitbih_record100" if options.data else "made",
            rows=options.rows,
            columns=options.columns,
            window=options.window,
            batch=options.batch,
            samples=options.samples,
            file_bytes=arms[name].path.stat().st_size,
            runs=[round(one, 1) for one in found],
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--data", type=Path, help="folder that holds mitbih_record100")
    parser.add_argument("--folder", type=Path, help="where the files are written and read; a temporary folder else")
    parser.add_argument("--rows", type=int, default=1 << 21)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--samples", type=int, default=256, help="windows of an epoch")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--train", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    x = made_signal(options.rows) if options.data is None else real_signal(options.data, options.rows)
    options.columns = x.shape[1]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        arms = write_arms(Path(folder), x, options.window)
        for cold in (False, True):
            for workers in (0, 2):
                if not options.json:
                    print(f"{'cold' if cold else 'warm'}, {workers} workers")
                report(options, arms, workers, cold)


if __name__ == "__main__":
    main()
