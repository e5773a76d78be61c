from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.bench.pruning.quick import BLOBS, quick

from hasten.bench.pruning import PrunePlan, PruneStudy, plan_prune, run_prune


@pytest.fixture(scope="session")
def blobs() -> Path:
    """The path of the workload."""
    return BLOBS


@pytest.fixture(scope="session")
def make_plan() -> Callable[..., PrunePlan]:
    """`make_plan(**options)`: two strategies, two ratios and two seeds of it by default."""

    def make(path: Path = BLOBS, **options: Any) -> PrunePlan:
        return plan_prune(path, **{"strategies": ["global_magnitude"], "ratios": [2, 4], "seeds": 2, **options})

    return make


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, make_plan: Callable[..., PrunePlan]) -> PruneStudy:
    """A whole study with channels removed too, and three seeds, computed in this process."""
    plan = make_plan(strategies=["global_magnitude", "layer_magnitude", "channel_l2@channel"], seeds=3)
    with quick():
        return run_prune(plan, out=tmp_path_factory.mktemp("pruning") / "one", workers=1, quiet=True)
