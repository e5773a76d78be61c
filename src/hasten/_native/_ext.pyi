from typing import Any

from numpy import float32, float64, int32, int64, uint8, uint16, uint32, uint64
from numpy.typing import NDArray

def cpu_features() -> dict[str, bool]: ...
def isas() -> tuple[str, ...]: ...
def checksum(data: NDArray[uint8], isa: str) -> int: ...
def crc32c(data: NDArray[uint8], crc: int, isa: str) -> int: ...
def column_stats(
    block: NDArray[Any],
    low: NDArray[Any],
    high: NDArray[Any],
    sum_low: NDArray[uint64],
    sum_high: NDArray[int64],
    nulls: NDArray[uint32],
    isa: str,
) -> None: ...
def flash_step(tensors: NDArray[uint64], groups: NDArray[float64], isa: str, threads: int) -> None: ...
def sprintz_v0_bound(rows: int, columns: int, itemsize: int) -> int: ...
def sprintz_v0_encode(x: NDArray[uint8] | NDArray[uint16], fire: bool, out: NDArray[uint8]) -> int: ...
def sprintz_v0_scan(
    data: NDArray[uint8], itemsize: int, max_elements: int
) -> tuple[int, int, tuple[int, str] | None]: ...
def sprintz_v0_decode(
    data: NDArray[uint8], fire: bool, out: NDArray[uint8] | NDArray[uint16]
) -> tuple[int, tuple[int, str] | None]: ...
def sprintz_huffman_bound(size: int) -> int: ...
def sprintz_huffman_encode(data: NDArray[uint8], out: NDArray[uint8]) -> int: ...
def sprintz_huffman_decode(data: NDArray[uint8], out: NDArray[uint8]) -> tuple[int, str] | None: ...

MADDNESS_ROWS: int
MADDNESS_NODES: int

def maddness_layout(leaves: int, exact: bool, isa: str) -> int: ...
def maddness_encode(
    x: NDArray[Any],
    dims: NDArray[int32],
    nodes: NDArray[float32],
    layout: int,
    codes: NDArray[uint8],
    isa: str,
    threads: int,
) -> None: ...
def maddness_encode_patches(
    x: NDArray[Any],
    geometry: NDArray[int64],
    dims: NDArray[int32],
    nodes: NDArray[float32],
    layout: int,
    codes: NDArray[uint8],
    isa: str,
    threads: int,
) -> None: ...
def maddness_scan(
    codes: NDArray[uint8],
    rows: int,
    layout: int,
    luts: NDArray[uint8],
    group: int,
    scale: NDArray[float32],
    offset: NDArray[float32],
    out: NDArray[float32],
    isa: str,
    threads: int,
) -> None: ...
def maddness_multiply(
    x: NDArray[Any],
    dims: NDArray[int32],
    nodes: NDArray[float32],
    layout: int,
    luts: NDArray[uint8],
    group: int,
    scale: NDArray[float32],
    offset: NDArray[float32],
    out: NDArray[float32],
    isa: str,
    threads: int,
) -> None: ...
def maddness_convolve(
    x: NDArray[Any],
    geometry: NDArray[int64],
    dims: NDArray[int32],
    nodes: NDArray[float32],
    layout: int,
    luts: NDArray[uint8],
    group: int,
    scale: NDArray[float32],
    offset: NDArray[float32],
    out: NDArray[float32],
    isa: str,
    threads: int,
) -> None: ...
def maddness_shuffle_rate(isa: str) -> float: ...
def maddness_sum_rate(
    codes: NDArray[uint8], rows: int, layout: int, luts: NDArray[uint8], group: int, isa: str
) -> float: ...
