"""An emulated machine, whose program is compiled once."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests._native.emulated.machine import Machine, build


@pytest.fixture(scope="session")
def driver(tmp_path_factory) -> list[str]:
    """The command that runs the program."""
    return build(tmp_path_factory.mktemp("build"))


@pytest.fixture
def machine(driver: list[str], tmp_path: Path) -> Machine:
    """What the emulated machine answers to requests."""
    return Machine(driver, tmp_path)
