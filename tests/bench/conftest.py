"""A tiny workload and plans of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hasten.bench.plan import Plan
from hasten.bench.study import plan_study
from hasten.methods import label_smoothing

TINY = Path(__file__).with_name("tiny.py")


@pytest.fixture(scope="session")
def tiny() -> Path:
    """The path of the tiny workload."""
    return TINY


@pytest.fixture(scope="session")
def tiny_plan() -> Callable[..., Plan]:
    """`tiny_plan(arms, **options)`: a plan over the tiny workload; two arms and two seeds by default."""

    def make(arms: Any = None, *, path: Path = TINY, **options: Any) -> Plan:
        chosen = {"base": [], "smooth": [label_smoothing(0.1)]} if arms is None else arms
        return plan_study(path, chosen, **{"seeds": 2, **options})

    return make
