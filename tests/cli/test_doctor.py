"""What `hasten doctor` says, and when it says that something is wrong."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import numpy as np
import pytest
import torch

from hasten._core import dispatch
from hasten.cli import doctor

REQUIRES = [
    "torch>=2.6",
    "numpy>=1.26; extra == 'bench'",
    'no-such-package>=1; extra == "bench"',
    'numpy>=1.26; python_version >= "3.11" and extra == "light"',
]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    for name in ("HASTEN_ISA", "HASTEN_DATA", "HASTEN_CACHE"):
        monkeypatch.delenv(name, raising=False)


def test_facts_of_this_machine():
    found = doctor.facts()
    assert all(isinstance(line, str) and "\n" not in line for line in found.values())
    assert found["torch"].startswith(torch.__version__)
    assert found["numpy"] == np.__version__
    assert found["isa"] == dispatch.isa()
    assert found.get("isas", "").split() == list(dispatch.isas())
    assert found["cores"].endswith(" logical")
    assert found["energy"].startswith("cpu: ")
    assert doctor.doctor() == 0


def test_printing(capsys):
    assert doctor.doctor() == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == list(doctor.facts())


def test_missing_kernels_are_loud_but_no_error(monkeypatch):
    monkeypatch.setattr(dispatch, "ext", None)
    monkeypatch.setattr(dispatch, "REASON", "no compiler worked")
    found = doctor.facts()
    assert found["native"] == "! NO COMPILED KERNELS, slower reference code runs: no compiler worked"
    assert found["isa"] == "reference"
    assert doctor.doctor() == 0


def test_energy_is_named_or_why_it_is_not_measured(monkeypatch):
    from hasten.bench import energy

    told = {"cpu": (None, "only root may read it"), "cuda": (object(), "one board through NVML")}
    monkeypatch.setattr(energy, "find_meter", told.__getitem__)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert doctor._energy() == "cpu: not measured, only root may read it"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert doctor._energy() == "cpu: not measured, only root may read it; cuda: one board through NVML"
    told["cpu"] = (object(), "2 processor packages through RAPL")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert doctor._energy() == "cpu: 2 processor packages through RAPL"


def test_forced_isa_is_named(each_isa):
    assert doctor.facts()["isa"].startswith(each_isa)
    assert doctor.facts()["isa"].endswith("(forced by HASTEN_ISA)") == dispatch.native_available()


@pytest.mark.parametrize(
    ("name", "value", "line", "text"),
    [
        ("HASTEN_ISA", "avx3", "isa", "got 'avx3'. Did you mean avx2"),
        ("HASTEN_DATA", "no-such-folder", "data", "HASTEN_DATA=no-such-folder is not a folder"),
    ],
)
def test_what_will_fail_is_an_error(monkeypatch, capsys, name, value, line, text):
    monkeypatch.setenv(name, value)
    found = doctor.facts()[line]
    assert found.startswith("! error: ")
    assert text in found
    assert doctor.doctor() == 1
    assert text in capsys.readouterr().out


def test_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("HASTEN_DATA", str(tmp_path))
    monkeypatch.setenv("HASTEN_CACHE", str(tmp_path / "cache"))
    found = doctor.facts()
    assert found["data"] == f"{tmp_path} (HASTEN_DATA)"
    assert found["cache"] == f"{tmp_path / 'cache'} (not there yet)"
    (tmp_path / "cache").mkdir()
    assert doctor.facts()["cache"] == str(tmp_path / "cache")


def test_extras(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: REQUIRES)
    found = doctor.facts()
    assert found["extra bench"] == "! without no-such-package. Install: pip install 'hasten[bench]'"
    assert found["extra light"] == f"numpy {np.__version__}"


def test_broken_torch_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert doctor.facts()["torch"].startswith("! error: ")
    assert doctor.doctor() == 1


def test_importing_doctor_does_not_load_torch():
    code = "import sys, hasten.cli.doctor; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
