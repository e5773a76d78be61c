"""Sprintz: lossless compression of time series, after Blalock, Madden and Guttag (arXiv 1808.02515).

A series is predicted from its past; what is left is small, and packed at as many bits as the largest of a few
neighbours needs. The published codec does that for 8 and 16 bits, in blocks of 8 rows, with state of a few bytes per
column:

- `v0` writes and reads its streams byte for byte (delta and FIRE predictors, runs), checks every byte that it reads,
  and adds a frame with a Huffman stage of our own, since a published stream names neither its width nor its length.
- `device` reads what a microcontroller writes with `include/tsz_encoder.h`, a C99 encoder of less than 1 KB of memory.
- `tsz` files hold tables: `compress`, `decompress`, `Writer`, `open`. Each column of a chunk is a record of its own
  (records.py), so any rows of any columns can be read alone; every byte is under a checksum; rows that `flush` returned
  for survive a crash; `min`, `max`, `sum` and `crossings` are answered from an index where that is possible.
- `WindowDataset` gives windows of such files to PyTorch's `DataLoader`; `from_arrow` writes them from data frames.

Differences from the published codec, in `tsz` files: any integers, floats, bool and points in time; blocks of 32 values
of one column, or eight runs of it side by side; more predictors, chosen on a sample; prediction from other columns;
Rice and Huffman codes of residuals; data that do not shrink are stored; lengths, limits and checksums everywhere.
`hasten codec bench` compares with pcodec, zstd and others on a file of yours.
"""

from __future__ import annotations

from .arrow import from_arrow
from .blocks import decode_block, encode_block
from .errors import BoundError, CorruptError, VersionError
from .info import Info, info
from .oneshot import bound, compress, decompress
from .queries import Crossings
from .reader import Reader
from .reader import open_file as open  # noqa: A004
from .repair import Fault, Repair, repair, verify
from .windows import WindowDataset
from .writer import Writer

__all__ = [
    "BoundError", "CorruptError", "Crossings", "Fault", "Info", "Reader", "Repair", "VersionError", "WindowDataset",
    "Writer", "bound", "compress", "decode_block", "decompress", "encode_block", "from_arrow", "info", "open", "repair",
    "verify",
]  # fmt: skip
