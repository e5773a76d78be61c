"""Codecs to compare, each with the columns one behind the other and into memory that is there already, where it can."""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from hasten.codecs import sprintz

__all__ = ["Codec", "all_codecs"]

CHUNK_ROWS = 131072  # of tsz: its peers see whole columns
Pack = Callable[[np.ndarray], Any]
Unpack = Callable[[Any, np.ndarray], Any]  # packed, array to fill


@dataclass(frozen=True)
class Codec:
    """Of one array: bytes that have a length, and back into an array of the same layout."""

    name: str
    settings: str
    version: str
    pack: Pack
    unpack: Unpack
    takes: Callable[[np.ndarray], bool] = lambda part: True


def all_codecs() -> Iterator[Codec | tuple[str, str]]:
    """Every codec; of those that are not installed a name and the reason."""
    yield _memcpy()
    yield from _ours()
    for name, make in (("zstandard", _zstd), ("lz4.block", _lz4), ("blosc2", _blosc2), ("pcodec", _pcodec)):
        try:
            module = importlib.import_module(name)
        except ImportError:
            yield name, "not installed"
        else:
            yield from make(module)


def _flat(part: np.ndarray) -> np.ndarray:
    """The bytes as they lie: column after column."""
    return part.reshape(-1, order="F").view(np.uint8)


def _memcpy() -> Codec:
    def unpack(packed: np.ndarray, out: np.ndarray) -> None:
        np.copyto(out, packed)

    return Codec("memcpy", "", np.__version__, lambda part: part.copy(order="F"), unpack)


def _ours() -> Iterator[Codec]:
    from hasten.codecs.sprintz.encode import PROFILES

    def unpack(packed: bytes, out: np.ndarray) -> None:
        sprintz.decompress(packed, out=out)

    version = importlib.metadata.version("hasten")
    ways: list[tuple[str, dict[str, Any]]] = [
        (f"tsz-{profile}", {"profile": profile, "chunk_rows": CHUNK_ROWS}) for profile in PROFILES if profile != "auto"
    ]
    ways.append(("tsz", {}))
    delta = {"profile": "fast", "predictor": "delta", "entropy": "none", "chunk_rows": 1 << 20}
    ways.append(("tsz-delta-planar", delta))
    for name, how in ways:
        said = ", ".join(f"{key}={value}" for key, value in how.items())
        yield Codec(name, said, version, lambda part, how=how: sprintz.compress(part, **how), unpack)
    for predictor in ("delta", "fire"):
        for huffman in (False, True):
            yield _v0(predictor, huffman, version)


def _v0(predictor: str, huffman: bool, version: str) -> Codec:
    from hasten.codecs.sprintz import v0

    def rows(part: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(part).view(f"u{part.itemsize}")

    def pack(part: np.ndarray) -> Any:
        return v0.pack(rows(part), predictor=predictor, huffman=huffman)

    def unpack(packed: Any, out: np.ndarray) -> None:
        out.view(f"u{out.itemsize}")[...] = v0.unpack(packed).reshape(out.shape)

    name = f"v0-{predictor}" + "+huffman" * huffman
    return Codec(name, "framed; row-major", version, pack, unpack, lambda part: part.itemsize < 3)


def _zstd(zstd: Any) -> Iterator[Codec]:
    unpacker = zstd.ZstdDecompressor()

    def unpack(packed: bytes, out: np.ndarray) -> None:
        with unpacker.stream_reader(packed) as reader:
            reader.readinto(memoryview(_flat(out)))

    for level in (1, 3, 9):
        packer = zstd.ZstdCompressor(level=level)
        yield Codec(f"zstd-{level}", "", zstd.__version__, lambda part, p=packer: p.compress(_flat(part).data), unpack)

    def undelta(packed: bytes, out: np.ndarray) -> None:
        unpack(packed, out)
        whole = out.view(f"u{out.itemsize}")
        np.cumsum(whole, axis=0, dtype=whole.dtype, out=whole)

    for level in (3, 9):
        packer = zstd.ZstdCompressor(level=level)
        yield Codec(
            f"delta+zstd-{level}", "differences timed", zstd.__version__,
            lambda part, p=packer: p.compress(_flat(_differences(part)).data), undelta,
        )  # fmt: skip


def _differences(part: np.ndarray) -> np.ndarray:
    whole = part.view(f"u{part.itemsize}")
    found = whole.copy(order="F")
    found[1:] -= whole[:-1]
    return found


def _lz4(lz4: Any) -> Iterator[Codec]:
    def unpack(packed: bytes, out: np.ndarray) -> None:
        _flat(out)[...] = np.frombuffer(lz4.decompress(packed), np.uint8)

    yield Codec(
        "lz4", "default", importlib.metadata.version("lz4"), lambda part: lz4.compress(_flat(part).data), unpack
    )


def _blosc2(blosc2: Any) -> Iterator[Codec]:
    def unpack(packed: Any, out: np.ndarray) -> None:
        blosc2.decompress2(packed, dst=_flat(out), nthreads=1)

    for codec in ("LZ4", "ZSTD"):
        for filters in ("SHUFFLE", "BITSHUFFLE"):
            how = {
                "codec": getattr(blosc2.Codec, codec), "clevel": 5, "filters": [getattr(blosc2.Filter, filters)],
                "filters_meta": [0], "nthreads": 1,
            }  # fmt: skip
            yield Codec(
                f"blosc2-{filters.lower()}+{codec.lower()}", "clevel=5, nthreads=1", blosc2.__version__,
                lambda part, how=how: blosc2.compress2(_flat(part), typesize=part.itemsize, **how), unpack,
            )  # fmt: skip


def _pcodec(pcodec: Any) -> Iterator[Codec]:
    one = pcodec.standalone

    def columns(part: np.ndarray) -> list[np.ndarray]:
        return [part] if part.ndim == 1 else list(part.T)

    def unpack(packed: Any, out: np.ndarray) -> None:
        for piece, column in zip(packed.pieces, columns(out), strict=True):
            one.simple_decompress_into(piece, column)

    for level in (0, 4, 8):
        config = pcodec.ChunkConfig(compression_level=level)

        def pack(part: np.ndarray, config: Any = config) -> _Pieces:
            return _Pieces([one.simple_compress(column, config) for column in columns(part)])

        yield Codec(
            f"pcodec-{level}", "a column at a time", importlib.metadata.version("pcodec"), pack, unpack,
            lambda part: part.itemsize > 1,
        )  # fmt: skip


@dataclass(frozen=True)
class _Pieces:
    pieces: list[bytes]

    def __len__(self) -> int:
        return sum(map(len, self.pieces))
