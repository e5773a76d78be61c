"""`hasten codec bench`: ratio and speed on a user's own file, beside the codecs that are installed.

Peers get what suits them: the columns one behind the other, all columns of one dtype as one array (pcodec: each column
alone), masks as bits. Speed counts the bytes of the values; one thread; the best of several runs.
"""

from __future__ import annotations

import bz2
import importlib
import importlib.metadata
import json as json_
import lzma
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hasten.codecs import sprintz
from hasten.codecs.files.recording import Opened, Recording

from . import UsageError
from .codec_files import open_input, parse_rows, placed, usage

__all__ = ["Candidate", "Result", "bench", "candidates", "measure"]

SAMPLE_BYTES = 1 << 24  # of rows, unless told otherwise
SECONDS, RUNS = 0.4, 3  # at least so long and so often, for each figure
PROFILES = ("fast", "balanced", "max")


@dataclass(frozen=True)
class Candidate:
    """A codec with its settings: `compress` gives pieces, `decompress` the data, `check` whether they are right."""

    name: str
    version: str
    compress: Callable[[], list[Any]]
    decompress: Callable[[list[Any]], Any]
    check: Callable[[Any], bool]


@dataclass(frozen=True)
class Result:
    """What was measured; `problem` says why there are no numbers."""

    codec: str
    version: str
    raw_bytes: int
    bytes: int = 0
    ratio: float = 0.0
    compress_gbps: float = 0.0
    decompress_gbps: float = 0.0
    problem: str | None = None


def bench(
    file: str, form: str | None, options: dict[str, Any], rows: str | None, codecs: str | None,
    json: bool,
) -> None:  # fmt: skip
    """Measure and print, a line for each codec as soon as it is known."""
    wanted = parse_rows(rows)
    with placed(file), open_input(file, form, options) as (opened, _, _):
        recording = _some(opened) if rows is None else _slice(opened.read(), wanted)
    if not recording.data.size:
        raise UsageError("codec bench: expected rows, got none. Choose others with --rows.")
    chosen = tuple((codecs or "").split(","))
    with usage(ValueError, TypeError):
        found = [c for c in candidates(recording) if c.name.startswith(chosen)]
    if not found:
        raise UsageError(f"codec bench: expected names of codecs, got {codecs!r}. Try tsz,zstd,zlib.")
    shape = "x".join(map(str, (len(recording.data), recording.columns)))
    parts = arrays(recording)
    size = sum(part.nbytes for part in parts)
    if not json:
        print(f"{file}: {shape} values, {size:,} bytes\n")
        print(f"{'codec':<24}{'ratio':>8}{'compress GB/s':>16}{'decompress GB/s':>18}")
    for candidate in found:
        result = measure(candidate, size)
        if json:
            said = {"file": file, "rows": len(recording.data), "columns": recording.columns, **vars(result)}
            print(json_.dumps(said), flush=True)
        else:
            print(_line(result), flush=True)


def _some(opened: Opened) -> Recording:
    """The first rows, about 16 MiB."""
    blocks, size = [], 0
    for block in opened.blocks():
        blocks.append(block)
        size += block.nbytes
        if size >= SAMPLE_BYTES:
            break
    if not blocks:
        return opened.like
    data = (np.ma.concatenate if opened.like.missing else np.concatenate)(blocks)
    return replace(opened.like, data=data[: max(SAMPLE_BYTES * len(data) // max(data.nbytes, 1), 1)])


def _slice(recording: Recording, rows: slice) -> Recording:
    return replace(recording, data=recording.data[rows])


def _line(result: Result) -> str:
    if result.problem is not None:
        return f"{result.codec:<24}  {result.problem}"
    return f"{result.codec:<24}{result.ratio:>8.2f}{result.compress_gbps:>16.3f}{result.decompress_gbps:>18.3f}"


def arrays(recording: Recording) -> list[np.ndarray]:
    """The values as peers get them: for each dtype (columns, rows), contiguous; masks as bits behind them."""
    groups: dict[np.dtype, list[np.ndarray]] = {}
    masks = []
    for column in recording.columns_of():
        data = np.ma.getdata(column)
        data = data.view({"M": "i8", "m": "i8", "b": "u1"}.get(data.dtype.kind, data.dtype))
        groups.setdefault(data.dtype, []).append(data)
        if recording.missing:
            masks.append(np.packbits(np.ma.getmaskarray(column)))
    parts = [np.stack(columns).astype(dtype.newbyteorder("="), copy=False) for dtype, columns in groups.items()]
    return parts + ([np.stack(masks)] if masks else [])


def measure(candidate: Candidate, size: int) -> Result:
    """Ratio and speed of a codec; a wrong result or a refusal is told in `problem`."""
    base = Result(candidate.name, candidate.version, size)
    try:
        packed, compress_time = _best(candidate.compress)
        values, decompress_time = _best(lambda: candidate.decompress(packed))
    except (TypeError, ValueError, RuntimeError) as error:
        said = f"{error}" or type(error).__name__
        return replace(base, problem=f"refuses this: {said.splitlines()[0]}")
    if not candidate.check(values):
        return replace(base, problem="gives other values back")
    stored = sum(len(piece) for piece in packed)
    return replace(
        base, bytes=stored, ratio=size / max(stored, 1), compress_gbps=size / compress_time / 1e9,
        decompress_gbps=size / decompress_time / 1e9,
    )  # fmt: skip


def _best(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result, and the shortest time of several runs."""
    best, spent, runs = float("inf"), 0.0, 0
    result = None
    while runs < 1 or ((spent < SECONDS or runs < RUNS) and spent < 4 * SECONDS):
        begun = time.perf_counter()
        result = work()
        took = max(time.perf_counter() - begun, 1e-9)
        best, spent, runs = min(best, took), spent + took, runs + 1
    return result, best


def candidates(recording: Recording) -> Iterator[Candidate]:
    """Our profiles, and the codecs that are installed."""
    for profile in PROFILES:
        yield _ours(recording, profile)
    parts = arrays(recording)
    yield from _bytewise(parts)
    yield from _blosc2(parts)
    yield from _pcodec(parts)


def _ours(recording: Recording, profile: str) -> Candidate:
    data: Any = recording.data
    if data.ndim == 2 and not recording.missing:
        data = np.asfortranarray(data)
    out = None if recording.missing else np.empty_like(data, data.dtype.newbyteorder("="))

    def check(found: np.ndarray) -> bool:
        pairs = zip(recording.columns_of(), recording.columns_of(found), strict=True)
        return all(_same(wanted, got) for wanted, got in pairs)

    return Candidate(
        f"tsz-{profile}", importlib.metadata.version("hasten"),
        lambda: [sprintz.compress(data, profile=profile)],
        lambda packed: sprintz.decompress(packed[0], out=out, max_bytes=1 << 40), check,
    )  # fmt: skip


def _same(wanted: np.ndarray, got: np.ndarray) -> bool:
    mask = np.ma.getmaskarray(wanted)
    if not np.array_equal(mask, np.ma.getmaskarray(got)):
        return False
    a, b = np.ma.getdata(wanted)[~mask], np.ma.getdata(got)[~mask]
    return a.astype(b.dtype).tobytes() == b.tobytes()


def _bytewise(parts: list[np.ndarray]) -> Iterator[Candidate]:
    """Codecs of bytes."""
    version = f"{zlib.ZLIB_RUNTIME_VERSION}"
    yield _peer("zlib-6", version, parts, lambda part: zlib.compress(part.data, 6), zlib.decompress)
    yield _peer("bz2-9", "", parts, lambda part: bz2.compress(part.tobytes(), 9), bz2.decompress)
    yield _peer("xz-6", "", parts, lambda part: lzma.compress(part.tobytes(), preset=6), lzma.decompress)
    zstd = _installed("zstandard")
    if zstd is not None:
        unpack = zstd.ZstdDecompressor().decompress
        for level in (1, 3, 9):
            pack = zstd.ZstdCompressor(level=level).compress
            yield _peer(f"zstd-{level}", zstd.__version__, parts, lambda part, pack=pack: pack(part.data), unpack)
        pack = zstd.ZstdCompressor(level=3).compress
        yield _peer(
            "delta+zstd-3", zstd.__version__, parts, lambda part: pack(_differences(part).data),
            lambda data, part: _sums(np.frombuffer(unpack(data), _unsigned(part)).reshape(part.shape)), typed=True,
        )  # fmt: skip
    lz4 = _installed("lz4.block")
    if lz4 is not None:
        version = importlib.metadata.version("lz4")
        yield _peer("lz4", version, parts, lambda part: lz4.compress(part.tobytes()), lz4.decompress)


def _unsigned(part: np.ndarray) -> np.dtype:
    return np.dtype(f"u{part.dtype.itemsize}")


def _differences(part: np.ndarray) -> np.ndarray:
    """Each value less the one before, as unsigned integers that wrap around."""
    whole = part.view(_unsigned(part))
    found = np.array(whole)
    found[:, 1:] -= whole[:, :-1]
    return found


def _sums(found: np.ndarray) -> np.ndarray:
    return np.cumsum(found, axis=1, dtype=found.dtype)


def _blosc2(parts: list[np.ndarray]) -> Iterator[Candidate]:
    blosc2 = _installed("blosc2")
    if blosc2 is None:
        return
    for name, codec, filters in (
        ("shuffle+lz4", blosc2.Codec.LZ4, blosc2.Filter.SHUFFLE),
        ("bitshuffle+lz4", blosc2.Codec.LZ4, blosc2.Filter.BITSHUFFLE),
        ("shuffle+zstd", blosc2.Codec.ZSTD, blosc2.Filter.SHUFFLE),
        ("bitshuffle+zstd", blosc2.Codec.ZSTD, blosc2.Filter.BITSHUFFLE),
    ):
        settings = {"codec": codec, "clevel": 5, "filters": [filters], "filters_meta": [0], "nthreads": 1}

        def pack(part: np.ndarray, settings: dict[str, Any] = settings) -> Any:
            return blosc2.compress2(part, typesize=part.dtype.itemsize, **settings)

        yield _peer(
            f"blosc2-{name}", blosc2.__version__, parts, pack, lambda data: blosc2.decompress2(data, nthreads=1)
        )


def _pcodec(parts: list[np.ndarray]) -> Iterator[Candidate]:
    pcodec = _installed("pcodec")
    if pcodec is None:
        return
    columns = [column for part in parts for column in part]
    for level in (4, 8):
        config = pcodec.ChunkConfig(compression_level=level)
        yield _peer(
            f"pcodec-{level}", importlib.metadata.version("pcodec"), columns,
            lambda column, config=config: pcodec.standalone.simple_compress(column, config),
            lambda data: pcodec.standalone.simple_decompress(data),
        )  # fmt: skip


def _peer(
    name: str, version: str, parts: list[np.ndarray], pack: Callable[[np.ndarray], Any], unpack: Callable[..., Any],
    typed: bool = False,
) -> Candidate:  # fmt: skip
    """A codec that takes one array and gives its bytes back; a `typed` one must be told the array's dtype."""

    def decompress(packed: list[Any]) -> list[Any]:
        return [unpack(data, part) if typed else unpack(data) for data, part in zip(packed, parts, strict=True)]

    def check(found: list[Any]) -> bool:
        return all(bytes(memoryview(got)) == part.tobytes() for got, part in zip(found, parts, strict=True))

    return Candidate(name, version, lambda: [pack(part) for part in parts], decompress, check)


def _installed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
