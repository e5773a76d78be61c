"""The codecs of the codec table, each at its best settings, with one thread.

A codec gets contiguous pieces in one of its layouts: `col`, all columns of an array one behind the other (the
transposition is not timed); `row`, rows one behind the other; `columns`, each column alone. Its output goes to memory
that is there already, where its binding can do that (not lz4's). Codecs of bytes see the memory of a piece as it lies;
those that subtract first do it along time, with NumPy, and that is timed.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hasten._core import dispatch
from hasten._core.checks import near
from hasten.codecs import sprintz
from hasten.codecs.sprintz import v0
from hasten.codecs.sprintz.encode import PROFILES

__all__ = ["MEMCPY", "PLANAR", "Codec", "Loaded", "catalogue", "choose", "flat", "pieces"]

PLANAR, MEMCPY = "tsz-planar-delta", "memcpy"  # what the claims of speed are about
Pack = Callable[[np.ndarray, np.ndarray], Any]
Unpack = Callable[[Any, np.ndarray, np.ndarray], Any]


@dataclass(frozen=True)
class Loaded:
    """A codec that is there. Both functions get memory of the size and order of a piece to do with as they like."""

    pack: Pack  # (piece, room) -> what was made of it
    unpack: Unpack  # (that, out, room) -> the bytes, or None if they are in `out`


@dataclass(frozen=True)
class Codec:
    """A codec with its settings; `load` imports what it needs.

    `package` is the distribution whose version counts. With `by` "ratio" the layout of the best ratio is taken, with
    "speed" the fastest one. `refuses` says why a dtype cannot be had.
    """

    name: str
    package: str
    load: Callable[[], Loaded]
    settings: dict[str, Any] = field(default_factory=dict)
    layouts: tuple[str, ...] = ("col", "row")
    by: str = "ratio"
    refuses: Callable[[np.dtype], str | None] = lambda dtype: None


def catalogue() -> dict[str, Codec]:
    """All codecs by their names."""
    return {one.name: one for one in [*_tsz(), *_v0(), *_zstd(), *_lz4(), *_blosc2(), *_pcodec(), _memcpy()]}


def choose(known: dict[str, Codec], wanted: list[str] | None) -> list[Codec]:
    """The codecs whose names begin like these; without any, all.

    Raises:
        ValueError: A name that none begins with.
    """
    for name in wanted or ():
        if not any(one.startswith(name) for one in known):
            text = f"--codecs: expected beginnings of {', '.join(known)}, got {name!r}. {near(name, known)}"
            raise ValueError(text)
    return [one for name, one in known.items() if wanted is None or name.startswith(tuple(wanted))]


def pieces(arrays: list[np.ndarray], layout: str) -> list[np.ndarray]:
    """Arrays as contiguous pieces of shape (rows, columns) or (rows,), time along axis 0 whatever the layout.

    >>> [piece.flags.f_contiguous for piece in pieces([np.zeros((3, 2))], "col")]
    [True]
    """
    if layout == "col":
        return [np.asfortranarray(one) for one in arrays]
    if layout == "row":
        return [np.ascontiguousarray(one) for one in arrays]
    return [np.ascontiguousarray(column) for one in arrays for column in (one.T if one.ndim == 2 else [one])]


def flat(piece: np.ndarray) -> np.ndarray:  # (values,)
    """The values of a piece as they lie in memory."""
    return piece.ravel("K")


def _module(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it imports
        return importlib.import_module(name)


# ---- ours


def _tsz() -> list[Codec]:
    """Our profiles, and the settings that are the defaults: chunks small enough to be read alone.

    The peers take whole columns at once; so that the two can be compared, the profiles have chunks of many rows. Last,
    differences at the width of the largest of 32, which the claims of speed are about, in one chunk.
    """
    profiles = [name for name in PROFILES if name != "auto"]
    settings: dict[str, dict[str, Any]] = {f"tsz-{name}": {"profile": name, "chunk_rows": 1 << 17} for name in profiles}
    settings["tsz"] = {}
    settings[PLANAR] = {
        "profile": "fast",
        "predictor": "delta",
        "entropy": "none",
        "cross": False,
        "chunk_rows": 1 << 22,
    }
    return [_one_tsz(name, {**some, "checksum": True, "threads": 1}) for name, some in settings.items()]


def _one_tsz(name: str, settings: dict[str, Any]) -> Codec:
    def unpack(packed: bytes, out: np.ndarray, room: np.ndarray) -> None:
        sprintz.decompress(packed, out=out, threads=1)

    loaded = Loaded(lambda piece, room: sprintz.compress(piece, **settings), unpack)
    return Codec(name, "hasten", lambda: loaded, settings, by="speed")


def _v0() -> list[Codec]:
    """Published Sprintz streams, and our frame around them with its Huffman stage and checksums."""
    return [_one_v0(predictor, huffman) for huffman in (False, True) for predictor in ("delta", "fire")]


def _one_v0(predictor: str, huffman: bool) -> Codec:
    def unpack(packed: bytes, out: np.ndarray, room: np.ndarray) -> None:
        if huffman:
            v0.unpack(packed, out=out)
        else:
            v0.decompress(packed, out.dtype, predictor, out=out)

    def refuses(dtype: np.dtype) -> str | None:
        if dtype.kind not in "iu" or dtype.itemsize > 2:
            return "integers of 8 and 16 bits only"
        return None if dispatch.native_available() else "too slow without compiled kernels"

    compress = v0.pack if huffman else v0.compress
    loaded = Loaded(lambda piece, room: compress(piece, predictor), unpack)
    settings = {"predictor": predictor, "huffman": huffman, "checksum": huffman}
    name = f"v0-{predictor}{'+huffman' * huffman}"
    return Codec(name, "hasten", lambda: loaded, settings, ("row",), refuses=refuses)


def _memcpy() -> Codec:
    def pack(piece: np.ndarray, room: np.ndarray) -> np.ndarray:
        np.copyto(flat(room), flat(piece))
        return room

    def unpack(packed: np.ndarray, out: np.ndarray, room: np.ndarray) -> None:
        np.copyto(flat(out), flat(packed))

    return Codec(MEMCPY, "numpy", lambda: Loaded(pack, unpack), layouts=("col",))


# ---- peers


def _zstd() -> list[Codec]:
    plain = [Codec(f"zstd-{n}", "zstandard", lambda n=n: _load_zstd(n), {"level": n}) for n in (1, 3, 9)]
    settings = {"differences": "along time, by NumPy, timed"}
    return plain + [
        Codec(f"delta+zstd-{n}", "zstandard", lambda n=n: _after_differences(_load_zstd(n)), {"level": n, **settings})
        for n in (3, 9)
    ]


def _load_zstd(level: int) -> Loaded:
    zstandard = _module("zstandard")
    compressor, decompressor = zstandard.ZstdCompressor(level=level), zstandard.ZstdDecompressor()

    def unpack(packed: bytes, out: np.ndarray, room: np.ndarray) -> None:
        if decompressor.stream_reader(packed).readinto(flat(out).view(np.uint8)) != out.nbytes:
            raise RuntimeError("zstd: less came back than went in")

    return Loaded(lambda piece, room: compressor.compress(flat(piece)), unpack)


def _after_differences(inner: Loaded) -> Loaded:
    """A codec of what each value adds to the one before it, as unsigned integers that wrap around."""

    def words(piece: np.ndarray) -> np.ndarray:
        return piece.view(f"u{piece.itemsize}")

    def pack(piece: np.ndarray, room: np.ndarray) -> Any:
        whole, differences = words(piece), words(room)
        differences[:1] = whole[:1]
        np.subtract(whole[1:], whole[:-1], out=differences[1:])
        return inner.pack(room, room)

    def unpack(packed: Any, out: np.ndarray, room: np.ndarray) -> None:
        inner.unpack(packed, room, room)
        np.cumsum(words(room), axis=0, dtype=words(room).dtype, out=words(out))

    return Loaded(pack, unpack)


def _lz4() -> list[Codec]:
    def load() -> Loaded:
        lz4 = _module("lz4.block")
        return Loaded(
            lambda piece, room: lz4.compress(flat(piece), store_size=False),
            lambda packed, out, room: lz4.decompress(packed, uncompressed_size=out.nbytes),
        )

    return [Codec("lz4", "lz4", load, {"mode": "default"})]


def _blosc2() -> list[Codec]:
    """Level 9 with lz4 has the better ratio; level 5 with zstd is zstd's level 9."""
    return [
        _one_blosc2(shuffle, codec, level) for codec, level in (("lz4", 9), ("zstd", 5))
        for shuffle in ("shuffle", "bitshuffle")
    ]  # fmt: skip


def _one_blosc2(shuffle: str, codec: str, level: int) -> Codec:
    def load() -> Loaded:
        blosc2 = _module("blosc2")
        settings = {
            "codec": blosc2.Codec[codec.upper()], "clevel": level, "filters": [blosc2.Filter[shuffle.upper()]],
            "filters_meta": [0], "nthreads": 1,
        }  # fmt: skip
        return Loaded(
            lambda piece, room: blosc2.compress2(flat(piece), typesize=piece.itemsize, **settings),
            lambda packed, out, room: blosc2.decompress2(packed, dst=flat(out), nthreads=1),
        )

    said = {"codec": codec, "filter": shuffle, "clevel": level, "typesize": "of the dtype", "nthreads": 1}
    return Codec(f"blosc2-{shuffle}+{codec}-{level}", "blosc2", load, said)


def _pcodec() -> list[Codec]:
    """Levels with what pcodec detects itself; and its linear prediction, which it does not try by itself."""
    settings: dict[str, dict[str, Any]] = {f"pcodec-{n}": {"level": n, "delta": "auto"} for n in (0, 4, 8)}
    settings["pcodec-8+conv32"] = {"level": 8, "delta": "conv1", "order": 32}
    layouts = ("columns", "col", "row")

    def narrow(dtype: np.dtype) -> str | None:
        return None if dtype.itemsize < 8 else "linear prediction of at most 32 bits only"

    return [
        Codec(name, "pcodec", lambda some=some: _load_pcodec(**some), {**some, "enable_8_bit": "for 8 bits"}, layouts,
              refuses=narrow if "order" in some else Codec.refuses)
        for name, some in settings.items()
    ]  # fmt: skip


def _load_pcodec(level: int, delta: str, order: int = 0) -> Loaded:
    pcodec = _module("pcodec")
    spec = pcodec.DeltaSpec.try_conv1(order) if delta == "conv1" else pcodec.DeltaSpec.auto()
    wide, narrow = (
        pcodec.ChunkConfig(compression_level=level, delta_spec=spec, enable_8_bit=bits == 8) for bits in (16, 8)
    )
    compress, decompress = pcodec.standalone.simple_compress, pcodec.standalone.simple_decompress_into

    def pack(piece: np.ndarray, room: np.ndarray) -> bytes:
        try:
            return compress(flat(piece), narrow if piece.itemsize == 1 else wide)
        except BaseException as error:  # a panic of Rust is no Exception; conv1 has one where a page is short
            if type(error).__name__ == "PanicException":
                raise RuntimeError(f"panic: {error}") from None
            raise

    def unpack(packed: bytes, out: np.ndarray, room: np.ndarray) -> None:
        decompress(packed, flat(out))

    return Loaded(pack, unpack)
