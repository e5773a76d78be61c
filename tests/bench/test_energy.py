"""Meters of energy against counters that the test moves: wrap-around, several parts, and every way to be silent."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.bench import energy
from hasten.bench.energy import counted, find_meter, open_meter, why_absent

SPAN = 262_143_328_850  # microjoules; a counter of 32 bits in units of 61 of them, as most processors have


class Clock:
    now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(energy, "time", made)
    return made


def domain(root: Path, folder: str, name: str, value: int, span: int = SPAN) -> Path:
    made = root / folder
    made.mkdir(parents=True)
    (made / "name").write_text(f"{name}\n")
    (made / "energy_uj").write_text(f"{value}\n")
    (made / "max_energy_range_uj").write_text(f"{span}\n")
    return made


def put(package: Path, value: int) -> None:
    (package / "energy_uj").write_text(f"{value}\n")


def test_joules_since_the_last_call(tmp_path: Path) -> None:
    package = domain(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    meter = open_meter("cpu", root=tmp_path)
    assert meter is not None
    assert meter.name == "1 processor package through RAPL"
    assert meter.take() == 0
    put(package, 7_500_000)
    assert meter.take() == 2.5
    put(package, 7_600_000)
    assert meter.take() == pytest.approx(0.1)
    assert meter.take() == 0


def test_a_counter_that_starts_again(tmp_path: Path) -> None:
    package = domain(tmp_path, "intel-rapl:0", "package-0", SPAN - 1_000_000)
    meter = open_meter("cpu", root=tmp_path)
    put(package, 2_000_000)
    assert meter.take() == pytest.approx(3.0)
    put(package, 2_500_000)
    assert meter.take() == 0.5


@given(st.integers(1, 2**40), st.data())
def test_a_wrap_around_is_no_jump(span: int, data: st.DataObject) -> None:
    before, used = data.draw(st.integers(0, span - 1)), data.draw(st.integers(0, span - 1))
    assert counted(before, (before + used) % span, span) == used


def test_every_package_counts_and_nothing_counts_twice(tmp_path: Path) -> None:
    packages = [domain(tmp_path, f"intel-rapl:{i}", f"package-{i}", 0, span=10**12 + i) for i in range(2)]
    others = [
        domain(tmp_path, "intel-rapl:0:0", "core", 0),
        domain(tmp_path, "intel-rapl:0:1", "package-0-part", 0),
        domain(tmp_path, "intel-rapl:2", "psys", 0),  # the whole board, packages included
        domain(tmp_path, "intel-rapl-mmio:0", "package-0", 0),  # package 0 again
    ]
    meter = open_meter("cpu", root=tmp_path)
    assert meter.name == "2 processor packages through RAPL"
    for package, value in zip(packages, (1_000_000, 20_000_000), strict=True):
        put(package, value)
    for other in others:
        put(other, 500_000_000)
    assert meter.take() == pytest.approx(21.0)


def test_a_time_in_which_it_could_have_wrapped_unseen_is_unknown(tmp_path: Path, clock: Clock) -> None:
    package = domain(tmp_path, "intel-rapl:0", "package-0", 0)
    meter = open_meter("cpu", root=tmp_path)
    clock.now += 262
    put(package, 1_000_000)
    assert meter.take() == 1.0
    clock.now += 263  # at 1000 W, more than the span
    put(package, 3_000_000)
    assert meter.take() is None
    put(package, 4_000_000)
    assert meter.take() == 1.0  # from there on it is known again


@pytest.mark.parametrize("text", ["", "unknown"])
def test_a_counter_that_goes_while_it_is_read(tmp_path: Path, text: str) -> None:
    package = domain(tmp_path, "intel-rapl:0", "package-0", 0)
    meter = open_meter("cpu", root=tmp_path)
    (package / "energy_uj").write_text(text)
    assert meter.take() is None
    (package / "energy_uj").unlink()
    assert meter.take() is None
    put(package, 9)
    assert meter.take() is None  # what was before is not known
    put(package, 10)
    assert meter.take() == pytest.approx(1e-6)


def test_a_counter_that_only_root_may_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = domain(tmp_path, "intel-rapl:0", "package-0", 0)
    real = Path.read_bytes

    def closed(self: Path) -> bytes:
        if self.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(self))
        return real(self)

    monkeypatch.setattr(Path, "read_bytes", closed)  # root, who may run the tests, may read everything
    assert find_meter("cpu", root=tmp_path) == (None, f"only root may read {package / 'energy_uj'}")
    assert open_meter("cpu", root=tmp_path) is None


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    found = (None, f"the system shows no processor's counter in {tmp_path / 'none'}")
    assert find_meter("cpu", root=tmp_path / "none") == found
    domain(tmp_path, "intel-rapl:0", "psys", 0)
    assert find_meter("cpu", root=tmp_path)[0] is None
    (domain(tmp_path, "intel-rapl:1", "package-0", 0) / "max_energy_range_uj").unlink()
    meter, why = find_meter("cpu", root=tmp_path)
    assert meter is None
    assert "max_energy_range_uj" in why
    assert find_meter("xpu") == (None, "no counter is known for the device 'xpu'")


# NVML -----------------------------------------------------------------------------------------------------------------


class Library:
    """NVML with one board, whose counter is `millijoules`; `codes` are the errors of its functions."""

    def __init__(self, millijoules: int = 0, **codes: int) -> None:
        self.millijoules, self.codes, self.asked = millijoules, codes, b""

    def nvmlInit_v2(self) -> int:
        return self.codes.get("init", 0)

    def nvmlDeviceGetHandleByUUID(self, uuid: bytes, handle: Any) -> int:
        self.asked = uuid
        handle._obj.value = 4711
        return self.codes.get("handle", 0)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: ctypes.c_void_p, millijoules: Any) -> int:
        assert handle.value == 4711
        millijoules._obj.value = self.millijoules
        return self.codes.get("energy", 0)


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "_uuid", lambda device: "GPU-1234")


def test_a_board_through_nvml(board: None) -> None:
    library = Library(10_000_000_000)  # more than 32 bits
    meter = open_meter("cuda", library=library)
    assert meter is not None
    assert (library.asked, meter.name) == (b"GPU-1234", "one board through NVML")
    library.millijoules += 2500
    assert meter.take() == 2.5
    assert meter.take() == 0
    library.millijoules = 5  # the driver was loaded again
    assert meter.take() is None
    library.millijoules += 1000
    assert meter.take() == 1.0
    library.codes["energy"] = 15
    assert meter.take() is None


@pytest.mark.parametrize(
    ("codes", "why"),
    [
        ({"init": 9}, "the driver is not loaded"),
        ({"handle": 6}, "NVML does not know this device"),
        ({"energy": 3}, "this board does not count its energy"),
        ({"energy": 999}, "NVML's error 999 in nvmlDeviceGetTotalEnergyConsumption"),
    ],
)
def test_a_board_that_does_not_tell(board: None, codes: dict[str, int], why: str) -> None:
    assert find_meter("cuda:0", library=Library(**codes)) == (None, why)


def test_an_old_driver(board: None) -> None:
    found = find_meter("cuda", library=SimpleNamespace(nvmlInit_v2=lambda: 0))
    assert found == (None, "this version of NVML has no nvmlDeviceGetHandleByUUID")


def test_a_board_is_found_by_the_uuid_that_torch_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    told = {0: "6c2b-0", 1: "MIG-6c2b-1"}
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=told[device.index or 0])
    )
    for device, uuid in (("cuda", b"GPU-6c2b-0"), ("cuda:1", b"MIG-6c2b-1")):
        library = Library()
        assert open_meter(device, library=library) is not None
        assert library.asked == uuid


def test_no_torch_for_cuda_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def absent(device: Any) -> Any:
        raise AssertionError("Torch not compiled with CUDA enabled")

    monkeypatch.setattr(torch.cuda, "get_device_properties", absent)
    meter, why = find_meter("cuda", library=Library())
    assert meter is None
    assert why == "torch does not tell which board this is (Torch not compiled with CUDA enabled)"


# Reports --------------------------------------------------------------------------------------------------------------


def test_the_sentence_for_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_absent("cpu", 2) == (
        "Energy is not measured: its counters are the machine's, and 2 runs at a time cannot be told apart. "
        "Use --workers 1 to measure it."
    )
    monkeypatch.setattr(energy, "find_meter", lambda device: (None, "only root may read it"))
    assert why_absent("cpu", 1) == "Energy is not measured: only root may read it."
    monkeypatch.setattr(energy, "find_meter", lambda device: (object(), "a meter"))
    assert why_absent("cpu", 1) is None


def test_this_machine_tells_or_says_why_not() -> None:
    meter, why = find_meter("cpu")
    assert why
    if meter is not None:
        first, second = meter.take(), meter.take()
        assert first is not None
        assert first >= 0
        assert second is not None
        assert second >= 0
