"""Files of measurements: CSV, NPY, raw, WAV, WFDB records, and compressed ones (tsz). NumPy is all that is needed.

`read` and `write` take a file as a whole; `open`, `blocks` and `create` a block of rows at a time, so that a file may
be larger than memory. The suffix of a path says which format it is.
"""

from __future__ import annotations

from .formats import blocks, create, read, write
from .formats import open_file as open  # noqa: A004
from .recording import Opened, Recording

__all__ = ["Opened", "Recording", "blocks", "create", "open", "read", "write"]
