"""The step of the flash optimizers on a GPU: one launch over a bucket of tensors, however many there are.

A bucket is what one compiled kernel can step: tensors of one device, with the same rule and formats (`Kind`). The
kernel finds its tensors through tables of addresses, and a program (a block of 1024 elements) its tensor through
`owners`:

    fixed      int64    (tensors, 8)    weight, correction, momentum, scales, variance, scales, size, first block
    owners     int32    (blocks,)       the tensor of each block
    gradients  int64    (tensors,)
    numbers    float32  (tensors, 12)   step, keep, coupled, sign, beta1, rest1, beta2, rest2, root and epsilon factor
                                        (`Numbers` of rules.py); as int32: dither, salt

`fixed` and `owners` stay on the device until an address in them changes. The rest goes there in one copy a step, if it
differs from what is there.

**With counters on the device** (`capturable`) the host knows no numbers: a second kernel, one launch for each bucket,
counts the steps and makes the numbers from `settings`, through the addresses of the counters and of learning rates that
are tensors. Nothing waits for the device, and a CUDA graph replays it. What a graph has captured refers to the tables
of that moment, so those are kept as long as the bucket's first parameter lives.

Nothing here vouches for an address; optim/flash/triton_tables.py does.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from .._core.checks import refuse
from . import flash_kernels
from .flash_kernels import ADDRESSES, NUMBER_COLUMNS, SETTING_COLUMNS

__all__ = ["BLOCK", "Bucket", "Kind", "Settings", "step"]

BLOCK = 1024  # elements of a program: 8 for each thread. A multiple of the largest group, which no block may cut
_WARPS = 4
_PREPARED = 128  # tensors of a program that prepares

_SIZE, _FIRST_BLOCK = 6, 7  # columns of `fixed`


class Kind(NamedTuple):
    """What a kernel is compiled for."""

    rule: str  # adam, momentum, plain, lion
    weight: str  # float32, bfloat16, float16: weight and gradient
    bits: int  # of the correction: 0, 8, 16
    quantized: bool
    group_size: int
    stochastic: bool
    nesterov: bool
    coupled: bool
    aligned: bool  # all addresses and sizes are multiples of 16


class Settings(NamedTuple):
    """From what the numbers are made on the device."""

    # int64 (tensors, 3): float32 step counter, learning rate, decay; of the last two 0 where they are not on the device
    addresses: np.ndarray
    # float64 (tensors, 11): lr, decay, coupled, sign, beta1, its log2, beta2, its log2, rest1, epsilon, salt
    values: np.ndarray


@dataclass
class Bucket:
    """Tensors that one launch steps."""

    kind: Kind
    device: torch.device
    owner: Tensor  # as long as it lives, the tables are kept
    fixed: np.ndarray  # int64 (tensors, 8), without the first blocks
    gradients: np.ndarray  # int64 (tensors,)
    numbers: np.ndarray | Settings  # float32 (tensors, 12), or on the device
    alive: list[Tensor] = field(default_factory=list)  # what must live until the launch


@dataclass
class _Tables:
    """A bucket's tables on its device."""

    fixed_bytes: bytes
    fixed: Tensor
    owners: Tensor
    moving_bytes: bytes = b""
    moving: Tensor | None = None
    numbers: Tensor | None = None  # made on the device
    spare: Tensor | None = None  # pinned memory for a capture, which may not allocate any
    captured: list[Any] = field(default_factory=list)


_tables: WeakIdKeyDictionary = WeakIdKeyDictionary()  # owner -> {kind: tables}


def step(buckets: list[Bucket]) -> None:
    """One step of every bucket, one launch each; a second one where the numbers are made on the device."""
    kernels = flash_kernels.load()
    for bucket in buckets:
        on_gpu = bucket.device.type == "cuda"
        with torch.cuda.device(bucket.device) if on_gpu else contextlib.nullcontext():
            _launch(kernels, bucket, capturing=on_gpu and torch.cuda.is_current_stream_capturing())


def _launch(kernels: Any, bucket: Bucket, *, capturing: bool) -> None:
    kind, count = bucket.kind, len(bucket.fixed)
    tables = _tables_of(bucket, capturing)
    moving, numbers = _moved(tables, bucket, capturing)
    if isinstance(bucket.numbers, Settings):
        addresses, settings = _parts(moving, count, ADDRESSES, SETTING_COLUMNS)
        kernels.prepare[(-(-count // _PREPARED),)](
            addresses, settings.view(torch.float64), numbers, numbers.view(torch.int32), count,
            RULE=kind.rule, BLOCK=_PREPARED, num_warps=_PREPARED // 32,
        )  # fmt: skip
    kernels.step[(len(tables.owners),)](
        tables.fixed, tables.owners, moving, numbers, numbers.view(torch.int32),
        RULE=kind.rule, WEIGHT=kind.weight, BITS=kind.bits, QUANTIZED=kind.quantized, GROUP=kind.group_size,
        STOCHASTIC=kind.stochastic, NESTEROV=kind.nesterov, COUPLED=kind.coupled, ALIGNED=kind.aligned, BLOCK=BLOCK,
        num_warps=_WARPS,
    )  # fmt: skip


def _tables_of(bucket: Bucket, capturing: bool) -> _Tables:
    """The bucket's tables, new ones where an address is another one."""
    known = _tables.setdefault(bucket.owner, {})
    tables, wanted = known.get(bucket.kind), bucket.fixed.tobytes()
    if tables is None or tables.fixed_bytes != wanted:
        if capturing:
            fix = "Take a few steps with the same parameters first, on a side stream."
            raise refuse("step in a CUDA graph", "a step before the capture", "the first one", fix)
        blocks = -(-bucket.fixed[:, _SIZE] // BLOCK)
        fixed = bucket.fixed.copy()
        fixed[:, _FIRST_BLOCK] = np.cumsum(blocks) - blocks
        owners = np.repeat(np.arange(len(blocks), dtype=np.int32), blocks)
        kept = [] if tables is None else tables.captured
        tables = _Tables(wanted, _upload(fixed, bucket.device), _upload(owners, bucket.device), captured=kept)
        known[bucket.kind] = tables
    if capturing and not any(one is tables.fixed for one in tables.captured):
        tables.captured += [tables.fixed, tables.owners]
    return tables


def _moved(tables: _Tables, bucket: Bucket, capturing: bool) -> tuple[Tensor, Tensor]:
    """What changes from step to step, on the device (the gradients first), and the numbers."""
    count, on_device = len(bucket.fixed), isinstance(bucket.numbers, Settings)
    even = np.zeros(count % 2, dtype=np.int64)  # each part starts at a multiple of 16 bytes
    parts = [bucket.gradients, even]
    if isinstance(bucket.numbers, Settings):
        parts += [bucket.numbers.addresses.ravel(), even, bucket.numbers.values.view(np.int64).ravel()]
    else:
        parts += [bucket.numbers.view(np.int64).ravel()]
    packed = np.concatenate(parts)
    wanted = packed.tobytes()
    if capturing:
        moving, numbers = _captured(tables, packed, bucket)
    else:
        if tables.moving is None or tables.moving_bytes != wanted:
            tables.moving = _upload(packed, bucket.device, into=tables.moving)
            tables.moving_bytes = wanted
        if on_device and tables.numbers is None:
            tables.numbers = torch.empty(count * NUMBER_COLUMNS, dtype=torch.float32, device=bucket.device)
        if on_device and tables.spare is None and bucket.device.type == "cuda":
            tables.spare = torch.empty(len(packed), dtype=torch.int64, pin_memory=True)
        moving, numbers = tables.moving, tables.numbers
    if not on_device:
        numbers = moving[count + count % 2 :].view(torch.float32)
    assert numbers is not None
    return moving, numbers


def _captured(tables: _Tables, packed: np.ndarray, bucket: Bucket) -> tuple[Tensor, Tensor]:
    """The same for a CUDA graph: a replay copies from the same pinned memory again, so it is this graph's own."""
    pinned = tables.spare
    if pinned is None:
        pinned = torch.empty(len(packed), dtype=torch.int64, pin_memory=True)
    tables.spare = None
    pinned.copy_(torch.from_numpy(packed))
    moving = torch.empty(len(packed), dtype=torch.int64, device=bucket.device)
    moving.copy_(pinned, non_blocking=True)
    numbers = torch.empty(len(bucket.fixed) * NUMBER_COLUMNS, dtype=torch.float32, device=bucket.device)
    tables.captured += [pinned, moving, numbers]
    return moving, numbers


def _parts(moving: Tensor, count: int, *columns: int) -> list[Tensor]:
    """The parts of `moving` behind the gradients."""
    found, start = [], count + count % 2
    for width in columns:
        found.append(moving[start : start + count * width])
        start += count * width + count % 2
    return found


def _upload(values: np.ndarray, device: torch.device, into: Tensor | None = None) -> Tensor:
    """An array on the device, without a wait: torch keeps pinned memory until the copy is done."""
    here = torch.from_numpy(values)
    if device.type == "cuda":
        here = here.pin_memory()
    if into is not None:
        return into.copy_(here, non_blocking=True)
    return here.to(device, non_blocking=True, copy=True)
