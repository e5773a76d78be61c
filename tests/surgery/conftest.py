from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Layers made in a test draw the same weights in every run."""
    torch.manual_seed(0)
