from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.bench.robustness.tools import Drivers


@pytest.fixture(scope="session")
def drivers(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drivers]:
    """Drivers of the tiny workload."""
    found = Drivers(tiny, tmp_path_factory.mktemp("drivers") / "drivers.log")
    yield found
    found.end()
