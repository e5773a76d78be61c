"""Real recordings, where the machine has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("HASTEN_DATA", ""))


def real(name: str) -> pytest.MarkDecorator:
    """Skip a test without this file."""
    missing = "HASTEN_DATA" not in os.environ or not (FOLDER / name).is_file()
    return pytest.mark.skipif(missing, reason=f"HASTEN_DATA has no {name}")
