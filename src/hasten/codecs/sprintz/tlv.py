"""The variable part of a file's header: names, units, dtypes of columns, and what else a file says of itself."""

from __future__ import annotations

import json
import math
import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from .chunk import Options
from .dtypes import dtype_from_code, dtype_to_code
from .errors import CorruptError

if TYPE_CHECKING:
    from .header import Header

__all__ = ["pack_json", "pack_tlvs", "parse_tlvs"]

TLV = struct.Struct("<HxxI")
COLUMN = struct.Struct("<BBBxI")
GAP = struct.Struct("<QQ")
COLUMNS, NAMES, LABELS, RATE, OPTIONS, META, GAPS = range(1, 8)  # types of a TLV; never change one


def pack_json(value: Any) -> bytes:
    """A value as JSON, always the same bytes."""
    return json.dumps(value, allow_nan=False, sort_keys=True, separators=(",", ":")).encode()


def pack_tlvs(header: Header) -> bytes:
    """The TLVs of a header."""
    items: list[tuple[int, bytes]] = []
    if len(header.dtypes) > 1:
        items.append((COLUMNS, b"".join(COLUMN.pack(*dtype_to_code(d)) for d in header.dtypes)))
    if header.names is not None:
        items.append((NAMES, pack_json(header.names)))
    if header.units is not None:
        items.append((LABELS, pack_json(header.units)))
    if header.rate is not None:
        items.append((RATE, struct.pack("<d", header.rate)))
    defaults = vars(Options())
    changed = {name: value for name, value in vars(header.options).items() if value != defaults[name]}
    if changed:
        items.append((OPTIONS, pack_json(changed)))
    if header.meta:
        items.append((META, pack_json(header.meta)))
    if header.gaps:
        items.append((GAPS, b"".join(GAP.pack(*gap) for gap in header.gaps)))
    return b"".join(TLV.pack(kind, len(data)) + data for kind, data in items)


Found = dict[int, tuple[int, memoryview]]  # type of a TLV: where it stands, its bytes


def parse_tlvs(tlvs: memoryview, start: int, ncols: int) -> dict[str, Any]:
    """What the TLVs say, as fields of a `Header`. Types unknown to us are skipped.

    Args:
        tlvs: Their bytes.
        start: Where in the file they begin, for the offsets of errors.
        ncols: Number of columns.

    Raises:
        CorruptError: They are broken, or say what cannot be.
    """
    found = _split(tlvs, start)
    said: dict[str, Any] = {
        "names": _names(found, ncols),
        "units": _strings(found, LABELS, ncols, (str, type(None))),
        "rate": _rate(found),
        "meta": _object(found, META),
        "options": _options(found, ncols),
        "gaps": _gaps(found),
    }
    if COLUMNS in found:
        said["dtypes"] = _dtypes(*found[COLUMNS], ncols)
    return said


def _split(tlvs: memoryview, start: int) -> Found:
    found: Found = {}
    at = 0
    while at < len(tlvs):
        if len(tlvs) - at < TLV.size:
            raise CorruptError(start + at, "the header ends inside a TLV")
        kind, length = TLV.unpack(tlvs[at : at + TLV.size])
        at += TLV.size
        if length > len(tlvs) - at:
            raise CorruptError(start + at - TLV.size, "a TLV is longer than the header")
        found[kind] = (start + at, tlvs[at : at + length])
        at += length
    return found


def _dtypes(place: int, data: memoryview, ncols: int) -> tuple[np.dtype, ...]:
    if ncols < 2 or len(data) != COLUMN.size * ncols:
        raise CorruptError(place, "the list of dtypes does not fit the number of columns")
    dtypes = []
    for j, code in enumerate(COLUMN.iter_unpack(data)):
        dtype = dtype_from_code(*code)
        if dtype is None:
            raise CorruptError(place + COLUMN.size * j, "unknown dtype")
        dtypes.append(dtype)
    return tuple(dtypes)


def _load(found: Found, kind: int) -> Any:
    """The JSON of a TLV; None without one."""
    if kind not in found:
        return None
    place, data = found[kind]
    try:
        return json.loads(bytes(data))
    except (ValueError, RecursionError):
        raise CorruptError(place, "a text of the header is not JSON") from None


def _object(found: Found, kind: int) -> dict[str, Any]:
    value = _load(found, kind)
    if value is not None and not isinstance(value, dict):
        raise CorruptError(found[kind][0], "expected a JSON object")
    return value or {}


def _strings(found: Found, kind: int, ncols: int, types: tuple[type, ...]) -> tuple[Any, ...] | None:
    value = _load(found, kind)
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != ncols or not all(isinstance(v, types) for v in value):
        raise CorruptError(found[kind][0], "expected one text per column")
    return tuple(value)


def _names(found: Found, ncols: int) -> tuple[str, ...] | None:
    names = _strings(found, NAMES, ncols, (str,))
    if names is not None and len(set(names)) != ncols:
        raise CorruptError(found[NAMES][0], "two columns have one name")
    return names


def _rate(found: Found) -> float | None:
    if RATE not in found:
        return None
    place, data = found[RATE]
    rate = struct.unpack("<d", data)[0] if len(data) == 8 else math.nan
    if not (math.isfinite(rate) and rate > 0):
        raise CorruptError(place, "the sampling rate is not a positive number")
    return rate


def _options(found: Found, ncols: int) -> Options:
    if OPTIONS not in found:
        return Options()
    known = vars(Options())
    value = {name: v for name, v in _object(found, OPTIONS).items() if name in known}
    errors = value.get("max_error", 1.0)
    if isinstance(errors, list):
        value["max_error"] = tuple(errors)
        fits = len(errors) == ncols and all(error is None or _is_error(error) for error in errors)
    else:
        fits = _is_error(errors)
    if not fits or not all(isinstance(v, (str, bool)) for name, v in value.items() if name != "max_error"):
        raise CorruptError(found[OPTIONS][0], "an option of the encoder is out of range")
    return Options(**value)


def _is_error(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf


def _gaps(found: Found) -> tuple[tuple[int, int], ...]:
    if GAPS not in found:
        return ()
    place, data = found[GAPS]
    if len(data) % GAP.size:
        raise CorruptError(place, "the list of gaps has a broken length")
    return tuple((row, lost) for row, lost in GAP.iter_unpack(data))
