"""What an installation contains, and what importing it loads."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import hasten

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
OPTIONAL = {"scipy", "sklearn", "altair", "vl_convert", "rich", "cyclopts", "triton"}


def loaded_by(code: str, after: str = "") -> set[str]:
    """Top-level packages that `code` loads in a fresh process where `after` has run."""
    script = (
        f"import sys\n{after}\nbefore = set(sys.modules)\n{code}\n"
        "print(*sorted({name.partition('.')[0] for name in set(sys.modules) - before}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_hasten_loads_neither_torch_nor_numpy():
    assert not loaded_by("import hasten") & {"torch", "numpy", *OPTIONAL}


@pytest.mark.parametrize("module", ["hasten.schedules", "hasten._core.dispatch", "hasten._core.clock"])
def test_light_modules_do_not_load_torch(module):
    assert not loaded_by(f"import {module}") & {"torch", *OPTIONAL}


def test_rooms_methods_and_bench_load_no_optional_package():
    package = Path(hasten.__file__).parent
    folders = sorted(path.parent.name for path in package.glob("*/__init__.py") if path.parent.name != "cli")
    assert {"_core", "bench", "data", "losses", "optim", "schedules", "surgery"} <= set(folders)
    imports = "\n".join(f"import hasten.{folder}" for folder in [*folders, "program"])
    # Whatever torch brings along is torch's business, hence the difference.
    assert not loaded_by(imports, after="import torch, numpy") & OPTIONAL


def test_program_is_loaded_at_first_use():
    assert "hasten.program" not in sys.modules or hasten.Program is sys.modules["hasten.program"].Program
    assert hasten.Program.__module__ == "hasten.program"
    assert {"Program", "compare", "__version__"} <= set(dir(hasten))


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="module 'hasten' has no attribute 'nonsense'"):
        _ = hasten.nonsense


def test_it_is_a_typed_package():
    assert importlib.resources.files("hasten").joinpath("py.typed").is_file()


def test_versions_agree():
    try:
        installed = importlib.metadata.version("hasten")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("run from a source tree: hasten is not installed")
    assert hasten.__version__ == installed == PYPROJECT["project"]["version"]


def test_torch_is_no_build_requirement():
    # An isolated build would fetch a torch of its own.
    assert not [name for name in PYPROJECT["build-system"]["requires"] if name.startswith("torch")]


def test_constraints_pin_what_is_declared():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0] for line in lines if line and not line.startswith("#")}
    project = PYPROJECT["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["bench"]]
    assert {name.partition(">=")[0] for name in declared} <= pinned
