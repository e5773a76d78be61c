"""The kernel of the flash optimizers by its tables: same bytes with every instruction set, nothing beside its memory.

NumPy only, and arrays that end where their allocation ends: a sanitizer sees each byte read or written too many. What
is computed is checked in tests/optim/flash/test_native.py.
"""

from __future__ import annotations

import itertools
import os
import shutil
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from hasten._core import dispatch
from hasten._native import ext

ASKED_FOR = os.environ.get("HASTEN_NO_NATIVE", "0") not in ("", "0")
COMPILER = any(map(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++", "cl")))
pytestmark = [
    pytest.mark.skipif(ext is None and ASKED_FOR, reason="no compiled module: HASTEN_NO_NATIVE is set"),
    pytest.mark.skipif(ext is None and not COMPILER, reason="no compiled module: this machine has no C++ compiler"),
]

ISAS = dispatch.isas()
RULES = {"adam": 0, "momentum": 1, "plain": 2, "lion": 3}
FORMATS = {"f32": (4, 0), "bf16": (2, 0), "bf16c8": (2, 1), "bf16c16": (2, 2), "f16": (2, 0), "f16c8": (2, 1),
           "f16c16": (2, 2)}  # fmt: skip
GROUP_SIZES = (32, 64, 128, 256, 512)
SIZES = (1, 31, 32, 33, 63, 64, 65, 127, 511, 512, 513, 1000, 1025, 4097)
GUARD = 64
TENSOR_COLUMNS, GROUP_COLUMNS = 11, 14


def place(content: np.ndarray, *, guarded: bool, shift: int = 0) -> np.ndarray:
    """A copy at the very end of an allocation, or between guards; `shift` elements off the allocation's alignment."""
    content = np.ascontiguousarray(content).reshape(-1)
    before = GUARD + shift * content.itemsize
    block = np.full(before + content.nbytes + (GUARD if guarded else 0), 0xA5, dtype=np.uint8)
    block[before : before + content.nbytes] = content.view(np.uint8)
    view = block[before : before + content.nbytes].view(content.dtype)
    view.flags.writeable = True
    return view


def guards_hold(view: np.ndarray) -> bool:
    block = view.base
    while block.base is not None:
        block = block.base
    start = view.__array_interface__["data"][0] - block.__array_interface__["data"][0]
    return bool((block[:start] == 0xA5).all() and (block[start + view.nbytes :] == 0xA5).all())


def narrow(x: np.ndarray, kind: str) -> np.ndarray:
    """float32 in the bits of a format."""
    if kind == "f32":
        return x.astype(np.float32)
    if kind.startswith("bf16"):
        return (x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    return x.astype(np.float16).view(np.uint16)


@dataclass
class Tensor:
    """One tensor's memory, by the names of the table's columns."""

    kind: str
    rule: str
    quantized: bool
    size: int
    group_size: int
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    salt: int = 12345

    def row(self) -> list[int]:
        def address(name: str) -> int:
            array = self.arrays.get(name)
            return 0 if array is None else array.__array_interface__["data"][0]

        names = ("weight", "gradient", "momentum", "momentum_scale", "variance", "variance_scale", "step")
        return [*map(address, names), self.size, list(FORMATS).index(self.kind), self.salt, address("correction")]

    def contents(self) -> dict[str, bytes]:
        return {name: array.tobytes() for name, array in self.arrays.items()}


def make(kind: str, rule: str, quantized: bool, size: int, group_size: int = 32, *, seed: int = 0, t: int = 0,
         guarded: bool = False, shift: int = 0, spread: float = 1.0) -> Tensor:  # fmt: skip
    rng = np.random.default_rng(seed)
    found = Tensor(kind, rule, quantized, size, group_size)
    groups = -(-size // group_size)

    def put(name: str, content: np.ndarray) -> None:
        found.arrays[name] = place(content, guarded=guarded, shift=shift)

    put("weight", narrow(rng.normal(size=size), kind))
    put("gradient", narrow(rng.normal(size=size) * np.exp(spread * rng.normal(size=size)), kind))
    width = FORMATS[kind][1]
    if width == 2 and kind == "f16c16":
        put("correction", rng.integers(-4096, 4096, size, dtype=np.int16))
    elif width:
        put("correction", rng.integers(*((-128, 128) if width == 1 else (-32768, 32768)), size,
                                       dtype=np.int8 if width == 1 else np.int16))  # fmt: skip
    for name, signed in (("momentum", True), ("variance", False)):
        if rule == "plain" or (not signed and rule != "adam"):
            continue
        if quantized:
            codes = (
                rng.integers(-127, 128, size, dtype=np.int8) if signed else rng.integers(0, 256, size, dtype=np.uint8)
            )
            put(name, codes)
            put(f"{name}_scale", narrow(np.exp(rng.normal(size=groups)), "bf16"))
        else:
            put(name, (rng.normal(size=size) if signed else rng.exponential(size=size)).astype(np.float32))
    put("step", np.full(1, t, dtype=np.float32))
    return found


def settings(rule: str, quantized: bool, group_size: int, first: int = 0, **options: float) -> list[float]:
    o: dict[str, Any] = {
        "lr": 0.01, "beta1": 0.9, "beta2": 0.999 if rule == "adam" else 0.99, "eps": 1e-8, "decay": 0.001,
        "coupled": 0.0, "dampening": 0.0, "sign": 1.0, "nesterov": 0.0, "stochastic": 0.0, **options,
    }  # fmt: skip
    return [first, RULES[rule], o["lr"], o["beta1"], o["beta2"], o["eps"], o["decay"], o["coupled"], o["dampening"],
            o["sign"], o["nesterov"], o["stochastic"], float(quantized), group_size]  # fmt: skip


def step(tensors: list[Tensor], isa: str, *, threads: int = 1, times: int = 1, **options: float) -> None:
    """One step of tensors, each a group of its own."""
    rows = np.array([tensor.row() for tensor in tensors], dtype=np.uint64).reshape(len(tensors), TENSOR_COLUMNS)
    groups = np.array(
        [settings(x.rule, x.quantized, x.group_size, i, **options) for i, x in enumerate(tensors)], dtype=np.float64
    ).reshape(len(tensors), GROUP_COLUMNS)
    for _ in range(times):
        ext.flash_step(rows, groups, isa, threads)


def kinds_of_states() -> list[tuple[str, bool]]:
    return [(rule, quantized) for rule in RULES for quantized in (True, False) if (rule, quantized) != ("plain", True)]


@pytest.mark.parametrize(("rule", "quantized"), kinds_of_states())
@pytest.mark.parametrize("kind", FORMATS)
def test_every_isa_gives_the_same_bytes(kind: str, rule: str, quantized: bool) -> None:
    for group_size, size in itertools.product(GROUP_SIZES if quantized else (32,), SIZES):
        expected = make(kind, rule, quantized, size, group_size, seed=size)
        before = expected.contents()
        step([expected], "scalar", times=2)
        contents = expected.contents()
        assert contents["gradient"] == before["gradient"]
        assert expected.arrays["step"] == 2.0
        changed = [name for name in before if contents[name] != before[name]]
        assert "weight" in changed or "correction" in changed
        for isa in ISAS[1:]:
            other = make(kind, rule, quantized, size, group_size, seed=size)
            step([other], isa, times=2)
            assert other.contents() == contents, (isa, size, group_size)


OPTIONS: list[dict[str, float]] = [
    {"coupled": 0.1, "decay": 0.0}, {"sign": -1.0}, {"nesterov": 1.0}, {"dampening": 0.5}, {"stochastic": 1.0},
    {"lr": 0.0}, {"beta1": 0.0, "beta2": 0.0}, {"eps": 0.0}, {"eps": 1.0, "lr": 1e-30}, {"lr": 3.0, "decay": 1.0},
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_isa_under_every_option(options: dict[str, float]) -> None:
    for kind, (rule, quantized) in itertools.product(FORMATS, kinds_of_states()):
        expected = make(kind, rule, quantized, 600, seed=3)
        step([expected], "scalar", times=2, **options)
        for isa in ISAS[1:]:
            other = make(kind, rule, quantized, 600, seed=3)
            step([other], isa, times=2, **options)
            assert other.contents() == expected.contents(), (isa, kind, rule)


@pytest.mark.parametrize("isa", ISAS)
def test_nothing_beside_the_arrays_is_touched_at_any_alignment(isa: str) -> None:
    for kind, (rule, quantized) in itertools.product(FORMATS, kinds_of_states()):
        for size, shift in ((1, 1), (33, 3), (64, 1), (511, 5), (512, 1), (1025, 7)):
            plain = make(kind, rule, quantized, size, seed=size)
            step([plain], isa)
            shifted = make(kind, rule, quantized, size, seed=size, guarded=True, shift=shift)
            step([shifted], isa)
            assert shifted.contents() == plain.contents(), (kind, rule, size)
            assert all(map(guards_hold, shifted.arrays.values())), (kind, rule, size)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("rule", "quantized"), [("adam", True), ("momentum", False), ("lion", True), ("plain", False)])
def test_threads_change_nothing(isa: str, rule: str, quantized: bool) -> None:
    # A thread takes at least 256 blocks of 512: three threads need more than 393 216 elements.
    sizes = (200_003, 1, 513, 0, 220_000)
    found = []
    for threads in (1, 2, 3, 64):
        tensors = [make("bf16c8", rule, quantized, size, seed=i) for i, size in enumerate(sizes)]
        step(tensors, isa, threads=threads)
        found.append([tensor.contents() for tensor in tensors])
    assert found[1] == found[0]
    assert found[2] == found[0]
    assert found[3] == found[0]


@pytest.mark.parametrize("isa", ISAS)
def test_one_table_of_everything_is_every_tensor_alone(isa: str) -> None:
    every = list(itertools.product(FORMATS, kinds_of_states(), (1, 70, 513)))
    together = [make(kind, *state, size, seed=i, t=i % 4) for i, (kind, state, size) in enumerate(every)]
    step(together, isa)
    for i, (kind, state, size) in enumerate(every):
        alone = make(kind, *state, size, seed=i, t=i % 4)
        step([alone], isa)
        assert alone.contents() == together[i].contents()
        assert alone.arrays["step"] == i % 4 + 1


def test_tensors_of_one_group_share_its_settings() -> None:
    """Groups follow each other in the table of tensors: two, then one, with other learning rates."""
    tensors = [make("f32", "plain", False, 40, seed=i) for i in range(3)]
    before = [tensor.arrays["weight"].copy() for tensor in tensors]
    rows = np.array([tensor.row() for tensor in tensors], dtype=np.uint64)
    groups = np.array([settings("plain", False, 32, first, lr=lr, decay=0.0) for first, lr in ((0, 0.5), (2, 0.25))])
    ext.flash_step(rows, groups, ISAS[-1], 1)
    for tensor, old, lr in zip(tensors, before, (0.5, 0.5, 0.25), strict=True):
        np.testing.assert_allclose(tensor.arrays["weight"], old - lr * tensor.arrays["gradient"], rtol=1e-6, atol=1e-7)


def without_nan(contents: dict[str, bytes], kind: str) -> dict[str, Any]:
    """NaN has many bit patterns, and which one arithmetic gives is the processor's choice."""
    found: dict[str, Any] = dict(contents)
    for name, data in contents.items():
        if len(data) and (kind == "f32" and name == "weight"):
            found[name] = np.nan_to_num(np.frombuffer(data, dtype=np.float32), nan=1e-30).tolist()
        elif kind.startswith("f16") and name == "weight":
            words = np.frombuffer(data, dtype=np.uint16)
            found[name] = np.where((words & 0x7FFF) > 0x7C00, 0x7E00, words).tolist()
        elif name in ("momentum", "variance") and len(data) == 4 * (len(contents["gradient"]) // FORMATS[kind][0]):
            found[name] = np.nan_to_num(np.frombuffer(data, dtype=np.float32), nan=1e-30).tolist()
    return found


@pytest.mark.parametrize("kind", FORMATS)
def test_special_values_are_alike_with_every_isa(kind: str) -> None:
    for rule, quantized in kinds_of_states():
        found = []
        for isa in ISAS:
            tensor = make(kind, rule, quantized, 1030, seed=5)
            special = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-40, 3e38, -3e38, 1e-30, 65504.0, 65519.0, 6e-8])
            with np.errstate(over="ignore"):
                tensor.arrays["gradient"][100:112] = narrow(special, kind)
                tensor.arrays["weight"][300:312] = narrow(special, kind)
                tensor.arrays["weight"][1020:1030] = narrow(special, kind)[:10]
            if quantized and rule != "plain":
                tensor.arrays["momentum_scale"][:8] = [0, 1, 0x0080, 0x7F7F, 0x7F80, 0x7FC0, 0x7A00, 0x0100]
            if quantized and rule == "adam":
                tensor.arrays["variance_scale"][8:16] = [0, 1, 0x0080, 0x7F7F, 0x7F80, 0x7FC0, 0x5E00, 0x0100]
            step([tensor], isa, times=2)
            found.append(without_nan(tensor.contents(), kind))
        for isa, one in zip(ISAS, found, strict=True):
            assert one == found[0], (isa, rule)


def test_empty_tables_and_empty_tensors() -> None:
    ext.flash_step(np.zeros((0, TENSOR_COLUMNS), np.uint64), np.zeros((0, GROUP_COLUMNS)), "scalar", 1)
    for isa in ISAS:
        empty = make("bf16c8", "adam", True, 0)
        step([empty], isa)
        assert empty.arrays["step"] == 1.0


@pytest.mark.parametrize(
    ("rows", "groups", "error"),
    [
        (np.zeros((1, 10), np.uint64), np.zeros((1, GROUP_COLUMNS)), ValueError),
        (np.zeros((1, TENSOR_COLUMNS), np.uint64), np.zeros((1, 13)), ValueError),
        (np.zeros((1, TENSOR_COLUMNS), np.uint64), np.zeros((0, GROUP_COLUMNS)), ValueError),
        (np.zeros((1, TENSOR_COLUMNS), np.int64), np.zeros((1, GROUP_COLUMNS)), TypeError),
        (np.zeros((1, TENSOR_COLUMNS), np.uint64), np.zeros((1, GROUP_COLUMNS), np.float32), TypeError),
        (np.zeros((2, TENSOR_COLUMNS), np.uint64)[:, ::2], np.zeros((1, GROUP_COLUMNS)), TypeError),
        (np.zeros(TENSOR_COLUMNS, np.uint64), np.zeros((1, GROUP_COLUMNS)), TypeError),
        (None, np.zeros((1, GROUP_COLUMNS)), TypeError),
    ],
    ids=["columns", "group columns", "no group", "signed", "float32", "strided", "one-dimensional", "none"],
)  # fmt: skip
def test_bad_tables_are_refused(rows: Any, groups: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"columns|without a group|incompatible function arguments"):
        ext.flash_step(rows, groups, "scalar", 1)


def test_other_instruction_sets_are_refused() -> None:
    rows, groups = np.zeros((0, TENSOR_COLUMNS), np.uint64), np.zeros((0, GROUP_COLUMNS))
    with pytest.raises(ValueError, match="unknown instruction set 'sse9'"):
        ext.flash_step(rows, groups, "sse9", 1)
    absent = next(name for name in dispatch.ISAS if name not in ISAS)
    with pytest.raises(ValueError, match=f"this CPU or operating system has no {absent}"):
        ext.flash_step(rows, groups, absent, 1)
