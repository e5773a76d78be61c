"""Shared by all tests: one thread, markers that skip with a reason, and a way to run a test under each ISA."""

from __future__ import annotations

import gc
import os

# Before torch and NumPy are loaded: results must not depend on the number of threads, and the machine may be shared.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

# In what imports and collection leave behind there is no garbage, and looking for it takes a quarter of their time.
gc.disable()

import shutil
import sys
from collections.abc import Iterator

import hypothesis
import pytest
import torch

from hasten._core import dispatch

torch.set_num_threads(1)

# The same examples in every run; HYPOTHESIS_PROFILE=explore looks for new ones.
hypothesis.settings.register_profile("fixed", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


@pytest.fixture(autouse=True, scope="module")
def forget_compiled_code() -> None:
    """What other files compiled counts against torch.compile's limits, and which files come first is chance."""
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()


@pytest.fixture(autouse=True, scope="module")
def small_heap() -> None:
    """A full collection takes 0.3 s where all that was ever imported has to be gone through, and some tests ask for it.

    What is left when a file begins are modules and tests: the collector forgets them.
    """
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def no_syncs() -> Iterator[None]:
    """A power cut does not end tests in this process, and waiting for the disk is what saving takes longest for.

    Those that are about power cuts (bench/robustness/test_crashes.py) write in processes of their own.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # which refuses the descriptors that fsync refuses
        yield


BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run."""
    missing = {
        "gpu": None if torch.cuda.is_available() else "no CUDA device",
        "browser": None if any(map(shutil.which, BROWSERS)) else f"none of {', '.join(BROWSERS)} is installed",
    }
    for item in items:
        for marker, reason in missing.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def browser() -> str:
    """The path of a chromium; use it in tests that carry the marker `browser`."""
    return next(path for path in map(shutil.which, BROWSERS) if path)


@pytest.fixture
def no_processes() -> Iterator[None]:
    """The runs of studies are computed in this process."""
    from tests.bench.inline import inline

    with inline():
        yield


@pytest.fixture(scope="module")
def figures_once() -> Iterator[None]:
    """Charts of the same data are drawn once in a file that uses this."""
    from tests.bench.report.drawn import drawn_once

    with drawn_once():
        yield


@pytest.fixture(params=dispatch.isas() or ("reference",))
def each_isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test once under each instruction set of this machine; the value is its name."""
    if request.param == "reference":
        monkeypatch.delenv("HASTEN_ISA", raising=False)
    else:
        monkeypatch.setenv("HASTEN_ISA", request.param)
    return request.param
