"""Which implementation runs: the compiled kernels and their instruction set, or the NumPy reference.

`HASTEN_ISA` (scalar, avx2, avx512, avx512vnni, neon) forces one instruction set for every kernel. It is read at each
call. An instruction set never changes a result, only its speed; the reference gives the same bytes again.
"""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import Any

import numpy as np

from hasten._native import REASON, ext

from .checks import near, refuse, refuse_type

__all__ = ["ISAS", "checksum", "cpu_features", "isa", "isas", "native_available", "native_reason"]

ISAS = ("scalar", "avx2", "avx512", "avx512vnni", "neon")  # on one processor family each contains the ones before it

_WORD = (1 << 64) - 1
_G, _A, _B = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB  # see _native/checksum.hpp
_CHUNK = 1 << 15  # words that the reference takes at once: its temporaries stay in a CPU's second-level cache


def native_available() -> bool:
    """Is the compiled module there?"""
    return ext is not None


def native_reason() -> str:
    """Why there is no compiled module; "" where there is one."""
    return REASON


def cpu_features() -> dict[str, bool]:
    """CPU features that the operating system supports, by name; empty without the compiled module."""
    return {} if ext is None else dict(ext.cpu_features())


def isas() -> tuple[str, ...]:
    """The instruction sets that both the compiled module and this machine have, the best last.

    Empty without the compiled module.
    """
    return () if ext is None else _isas_of(ext)


@cache
def _isas_of(module: Any) -> tuple[str, ...]:
    return tuple(module.isas())


def isa() -> str:
    """The instruction set that kernels use now: `HASTEN_ISA`, else the best one of `isas()`.

    Returns:
        A name of `ISAS`, or "reference" where there is no compiled module.

    Raises:
        ValueError: `HASTEN_ISA` names something unknown, or something this machine or installation lacks.
    """
    forced = os.environ.get("HASTEN_ISA", "") if ext is None else ext.forced_isa()
    available = isas()
    if not forced:
        return available[-1] if available else "reference"
    if forced not in ISAS:
        raise refuse("HASTEN_ISA", f"one of {', '.join(ISAS)}", repr(forced), near(forced, ISAS))
    if not available:
        raise refuse("HASTEN_ISA", "a compiled module to run it", "none", f"Unset HASTEN_ISA, since {native_reason()}")
    if forced not in available:
        fix = f"Unset HASTEN_ISA, or use one that this CPU and operating system have: {', '.join(available)}."
        raise refuse("HASTEN_ISA", "an instruction set of this machine", repr(forced), fix)
    return forced


def checksum(buffer: Any) -> int:
    """A 64-bit fingerprint of a buffer's bytes, the same on every machine and with every instruction set.

    With the bytes as little-endian words `w_i` (zeros fill up the last), all modulo 2^64:
    `mix(n + sum_i mix(w_i + (i + 1) * G))`, where `mix` is the one of SplitMix64. Any change inside one aligned word
    changes it; other changes collide with a probability of about 2^-64. Use it to tell weights or data apart; it
    does not resist anybody who looks for a collision (use `hashlib` there).

    Args:
        buffer: bytes, a memoryview, a NumPy array or a CPU torch tensor, contiguous, of any shape and plain dtype.
            Only the bytes count: neither shape nor dtype do.

    Returns:
        An integer in [0, 2^64).

    Raises:
        TypeError: not a buffer of plain data. ValueError: not contiguous, or not on the CPU.

    >>> hex(checksum(b"hasten"))
    '0x5601211f85928737'
    """
    data = _byte_view("checksum", buffer)
    chosen = isa()
    return _checksum_reference(data) if ext is None else int(ext.checksum(data, chosen))


def _byte_view(call: str, buffer: Any) -> np.ndarray:  # (bytes,), uint8
    """The bytes of `buffer` without a copy."""
    torch = sys.modules.get("torch")  # a tensor can only come from somebody who has imported torch
    if torch is not None and isinstance(buffer, torch.Tensor):
        return _tensor_bytes(call, buffer, torch)
    if not isinstance(buffer, np.ndarray):
        try:
            view = memoryview(buffer)
        except TypeError:
            what = "bytes, a memoryview, a NumPy array or a CPU torch tensor"
            raise refuse_type(call, what, type(buffer).__name__, "Pass the array that holds the data.") from None
        if not view.c_contiguous:
            raise refuse(call, "contiguous data", f"a memoryview with strides {view.strides}", "Pass bytes(view).")
        return np.frombuffer(view, dtype=np.uint8)
    if buffer.dtype.hasobject:
        raise refuse_type(call, "an array of numbers", buffer, "Pass an array whose dtype is not object.")
    if not buffer.flags.c_contiguous:
        fix = "Pass numpy.ascontiguousarray(array)."
        raise refuse(call, "contiguous data", f"an array of shape {buffer.shape} and strides {buffer.strides}", fix)
    return buffer.reshape(-1).view(np.uint8)


def _tensor_bytes(call: str, tensor: Any, torch: Any) -> np.ndarray:  # (bytes,), uint8
    """The bytes of a dense CPU tensor, of any dtype (NumPy has no bfloat16)."""
    if tensor.device.type != "cpu":
        raise refuse(call, "a tensor on the CPU", f"one on {tensor.device}", "Pass tensor.cpu().")
    if tensor.layout != torch.strided:
        raise refuse(call, "a dense tensor", f"layout {tensor.layout}", "Pass tensor.to_dense().")
    if not tensor.is_contiguous() or tensor.is_conj() or tensor.is_neg():
        fix = "Pass tensor.resolve_conj().resolve_neg().contiguous()."
        raise refuse(
            call, "contiguous data", f"a tensor of shape {tuple(tensor.shape)}, strides {tensor.stride()}", fix
        )
    return tensor.detach().reshape(-1).view(torch.uint8).numpy()


def _checksum_reference(data: np.ndarray) -> int:  # (bytes,), uint8
    """The formula of `checksum` in NumPy."""
    whole = data.size // 8
    words = data[: whole * 8].view("<u8")
    total = 0
    for start in range(0, whole, _CHUNK):
        chunk = words[start : start + _CHUNK]
        index = np.arange(start + 1, start + 1 + chunk.size, dtype=np.uint64)
        total += int(np.add.reduce(_mix(chunk + index * np.uint64(_G))))
    if data.size % 8:
        last = int.from_bytes(data[whole * 8 :].tobytes(), "little")
        total += _mix_integer(last + (whole + 1) * _G)
    return _mix_integer(data.size + total)


def _mix(x: np.ndarray) -> np.ndarray:  # (words,), uint64; array arithmetic wraps modulo 2^64
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_A)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_B)
    return x ^ (x >> np.uint64(31))


def _mix_integer(x: int) -> int:
    x &= _WORD
    x = (x ^ (x >> 30)) * _A & _WORD
    x = (x ^ (x >> 27)) * _B & _WORD
    return x ^ (x >> 31)
