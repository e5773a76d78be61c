"""Cores, load and folders of this machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from hasten._core import machine


def test_cores_are_plausible():
    assert 1 <= machine.logical_cores() <= (os.cpu_count() or 1)
    assert machine.physical_cores() is None or 1 <= machine.physical_cores() <= machine.logical_cores()


@pytest.mark.skipif(sys.platform != "linux", reason="affinity is Linux's")
def test_affinity_counts():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert machine.logical_cores() == 1
        assert machine.physical_cores() in (1, None)
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /sys")
def test_hyper_threads_share_a_core(monkeypatch):
    siblings = {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}
    monkeypatch.setattr(machine, "_affinity", lambda: frozenset(siblings))
    monkeypatch.setattr(machine, "_linux_core", siblings.get)
    assert machine.logical_cores() == 4
    assert machine.physical_cores() == 2
    monkeypatch.setattr(machine, "_linux_core", lambda cpu: None)
    assert machine.physical_cores() is None, "not told is not guessed"


def test_load_average():
    load = machine.load_average()
    assert load is None or (len(load) == 3 and min(load) >= 0)


def test_data_folder(monkeypatch):
    monkeypatch.delenv("HASTEN_DATA", raising=False)
    assert machine.data_folder() is None
    monkeypatch.setenv("HASTEN_DATA", "~/sets")
    assert machine.data_folder() == Path.home() / "sets"


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("HASTEN_CACHE", raising=False)
    assert machine.cache_folder() == Path.home() / ".cache" / "hasten"
    monkeypatch.setenv("HASTEN_CACHE", str(tmp_path / "mine"))
    assert machine.cache_folder() == tmp_path / "mine"
    assert not (tmp_path / "mine").exists(), "asking creates nothing"
