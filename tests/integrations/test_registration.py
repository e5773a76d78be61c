"""Other libraries find the codecs by name, and importing hasten alone loads none of those libraries."""

from __future__ import annotations

import importlib
import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import numcodecs
import pytest
import zarr.registry

from hasten.integrations.numcodecs import TSZ
from hasten.integrations.zarr import TSZCodec

ROOT = Path(__file__).parents[2]
POINTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
NAMES = {("numcodecs.codecs", TSZ.codec_id): TSZ, ("zarr.codecs", TSZCodec.name): TSZCodec}


def run(code: str) -> str:
    alike = ["-S"] if sys.flags.no_site else []  # so that it finds the same hasten as this process
    return subprocess.run([sys.executable, *alike, "-c", code], capture_output=True, text=True, check=True).stdout


def test_every_entry_point_leads_to_its_class():
    declared = {(group, name): value for group in POINTS for name, value in POINTS[group].items()}
    assert set(declared) == set(NAMES)
    for key, value in declared.items():
        module, _, name = value.partition(":")
        assert getattr(importlib.import_module(module), name) is NAMES[key]


@pytest.mark.parametrize(("group", "name"), NAMES)
def test_entry_points_of_the_installation(group, name):
    found = [p for p in importlib.metadata.entry_points(group=group, name=name) if p.module.startswith("hasten.")]
    if not found:
        pytest.skip("the installed metadata lacks the entry points: hasten is not installed, or was before they came")
    assert found[0].load() is NAMES[group, name]
    library = group.partition(".")[0]
    code = {
        "numcodecs": "import numcodecs; print(type(numcodecs.get_codec({'id': 'tsz'})).__name__)",
        "zarr": "import zarr.registry; print(zarr.registry.get_codec_class('hasten.tsz').__name__)",
    }[library]
    assert run(code).strip() == NAMES[group, name].__name__


def test_the_modules_register_what_they_hold():
    assert type(numcodecs.get_codec({"id": "tsz"})) is TSZ
    assert zarr.registry.get_codec_class("hasten.tsz") is TSZCodec


def test_nothing_more_is_loaded_than_asked_for():
    code = "import sys, {}; print(*sorted({{'torch', 'zarr', 'numcodecs'}} & set(sys.modules)))"
    assert run(code.format("hasten, hasten.integrations, hasten.codecs.sprintz")).split() == []
    assert run(code.format("hasten.integrations.numcodecs")).split() == ["numcodecs"]
    assert run(code.format("hasten.integrations.zarr")).split() == ["numcodecs", "zarr"]  # zarr loads numcodecs


@pytest.mark.parametrize("library", ["numcodecs", "zarr"])
def test_a_missing_library_is_named(library):
    code = f"try: import hasten.integrations.{library}\nexcept ImportError as error: print(error)"
    said = run(f"import sys; sys.modules['{library}'] = None\n{code}")
    assert f"hasten.integrations.{library}: needs {library}, which is not installed" in said
    assert f"pip install 'hasten[{library}]'" in said
