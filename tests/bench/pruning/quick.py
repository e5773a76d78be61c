"""The workload of these tests, and studies of it that are computed in this process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.bench.inline import inline

BLOBS = Path(__file__).with_name("blobs.py")


@contextmanager
def quick() -> Iterator[None]:
    """Studies are computed in this process, and times are hardly measured: nothing here looks at them."""
    with inline(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("hasten.bench.pruning.cut.ROUNDS", 6)
        patch.setattr("hasten.bench.pruning.task.calibrate", lambda: 0.01)
        patch.setattr("hasten.bench.task.calibrate", lambda: 0.01)
        yield
