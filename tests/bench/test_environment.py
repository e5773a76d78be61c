"""What a measurement depends on besides the program, as a digest."""

from __future__ import annotations

import json
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch

import hasten
from hasten.bench.environment import calibrate, digest, environment, machine


def test_it_names_the_versions_and_settings_that_can_change_bits() -> None:
    found = environment("cpu", 1)
    assert found["python"] == platform.python_version()
    assert (found["torch"], found["numpy"], found["hasten"]) == (torch.__version__, np.__version__, hasten.__version__)
    assert (found["threads"], found["device"]) == (1, "cpu")
    assert {"isa", "cpu"} <= set(found)
    json.dumps(found)


@pytest.mark.parametrize("name", sorted(environment()))
def test_every_entry_is_in_the_digest(name: str) -> None:
    found = environment()
    assert digest({**found, name: "something else"}) != digest(found)


def test_the_digest_is_stable_and_short() -> None:
    assert digest(environment()) == digest(dict(reversed(environment().items())))
    assert digest({"a": 1}) == "015abd7f5cc57a2d"  # SHA-256 of {"a":1}: stores of any age must agree on it
    assert digest(environment("cpu", 1)) != digest(environment("cpu", 2))


def test_another_isa_is_another_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest(environment())
    monkeypatch.setattr("hasten._core.dispatch.isa", lambda: "another")
    assert digest(environment()) != before


def test_facts_about_the_machine_are_not_in_the_digest() -> None:
    facts = machine()
    assert {"system", "processor", "cores"} <= set(facts)
    assert facts["processor"]
    assert not set(facts) & set(environment())
    json.dumps(facts)


def test_calibration_is_a_time_and_leaves_no_trace() -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    assert calibrate(repeats=2) > 0
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about glibc's memory")
def test_after_the_warm_up_memory_is_used_again() -> None:
    """By page faults, which are counted, and not by time: one for every 4 KiB that the system hands out anew."""
    code = (
        "import resource, torch; torch.set_num_threads(1)\n"
        "from hasten.bench.environment import calibrate, warm_up\n"
        "warm_up(); calibrate(1)\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "before = faults(); calibrate(10); print(faults() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 10 * 2**21 // 4096  # fewer than the results alone, 2 MiB each, would need every time
