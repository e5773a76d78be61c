"""What programs need: parts by hand, what methods change about them, and the peaks that the system tells."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tests.contract import images
from tests.contract.battery import IMAGES, TEXT
from torch import Tensor, nn

from hasten import methods
from hasten.bench import memory
from hasten.bench.memory import PARTS, Footprint, footprint
from hasten.program import bind, call


def linear_model() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


LINEAR = IMAGES.program.replace(model=call(linear_model))
WEIGHTS = 4 * (64 * 3 + 3)


def sizes(found: Footprint) -> dict[str, int]:
    return {part.name: part.bytes for part in found.parts}


def test_a_program_by_hand() -> None:
    found = footprint(LINEAR)
    assert sizes(found) == {
        "parameters": WEIGHTS,
        "buffers": 0,
        "optimizer": WEIGHTS,  # SGD's momentum
        "hooks": 0,
        "gradients": WEIGHTS,
        "activations": 4 * 8 * 3 + 4,  # log softmax of 8 samples, and the cross entropy's sum of weights
        "batch": 8 * (4 * 64 + 8),
    }
    assert (found.parameters, found.batch_size, found.bytes_per_parameter) == (195, 8, 12.0)
    assert [part.name for part in found.parts] == list(PARTS)
    assert found.total == sum(sizes(found).values())
    assert [part.name for part in found.parts if part.always] == ["parameters", "buffers", "optimizer", "hooks"]


def test_a_larger_batch_grows_what_depends_on_it() -> None:
    small, large = sizes(footprint(LINEAR)), sizes(footprint(LINEAR, batch_size=24))
    assert large["batch"] == 3 * small["batch"]
    assert large["activations"] - 4 == 3 * (small["activations"] - 4)
    assert {n: large[n] for n in ("parameters", "optimizer", "gradients")} == dict.fromkeys(
        ("parameters", "optimizer", "gradients"), WEIGHTS
    )


def test_microbatches_are_not_alive_together() -> None:
    found = sizes(footprint(LINEAR.replace(microbatch=2)))
    assert found["activations"] == 4 * 2 * 3 + 4
    assert found["batch"] == 8 * (4 * 64 + 8)


def test_bf16_weights_are_copied_for_the_pass() -> None:
    found = sizes(footprint(LINEAR.replace(precision="bf16")))
    assert found["parameters"] == WEIGHTS
    assert found["activations"] > 2 * 8 * 64  # inputs in bfloat16, which the layer keeps


@functools.cache
def plain() -> Footprint:
    return footprint(IMAGES.program)


def test_a_compiled_program_is_measured_as_it_runs() -> None:
    eager, compiled = sizes(plain()), sizes(footprint(IMAGES.program.replace(compile="aot_eager")))
    always = ("parameters", "optimizer", "gradients", "batch")
    assert {name: compiled[name] for name in always} == {name: eager[name] for name in always}
    assert 0 < compiled["activations"] < 2 * eager["activations"]


def change(*chosen: Any) -> dict[str, int]:
    """What methods change, where they change anything."""
    before, after = sizes(plain()), sizes(footprint(IMAGES.program.then(*chosen)))
    return {name: after[name] - before[name] for name in before if after[name] != before[name]}


def test_methods_change_the_parts_that_they_should() -> None:
    weights = sizes(plain())["parameters"]
    assert change(methods.ema()) == {"hooks": weights}
    assert change(methods.sam()) == {}  # its second pass comes after the first
    assert change(methods.gradient_clipping(1.0)) == {}
    assert change(methods.stochastic_depth(drop_rate=0.9)) == {"buffers": 2 * 4}  # its masks: nothing need be dropped
    assert change(methods.blurpool(min_channels=4))["activations"] > 0


def test_the_larger_end_of_a_program_counts() -> None:
    """Resizing ends at full size, freezing begins with every gradient."""
    assert change(methods.progressive_resizing(initial_scale=0.5)).get("batch", 0) == 0
    assert change(methods.layer_freezing(start=0.0)).get("gradients", 0) == 0


def test_dicts_of_tensors_and_datasets() -> None:
    found = sizes(footprint(TEXT.program))
    assert found["batch"] > 0
    assert found["activations"] > 0
    loaded = sizes(footprint(LINEAR.replace(data=bind(images.dataset))))
    assert loaded["batch"] == 8 * (4 * 64 + 8)


def test_a_measurement_leaves_no_trace() -> None:
    state = torch.get_rng_state()
    first, second = footprint(LINEAR), footprint(LINEAR)
    assert torch.equal(torch.get_rng_state(), state)
    assert sizes(first) == sizes(second)


def test_flops_are_not_counted_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """A count is a pass over a copy of the model, which must not be measured."""
    monkeypatch.setattr("hasten.bench.flops.FlopCounterMode", None)
    assert footprint(LINEAR).parameters == 195


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ValueError, match="memory: expected device 'cpu' or 'cuda', got 'tpu'"):
        footprint(LINEAR, device="tpu")
    with pytest.raises(ValueError, match="whole number of at least 1 for batch_size, got 0"):
        footprint(LINEAR, batch_size=0)
    with pytest.raises(ValueError, match="at least batch_size = 99 samples, got 48"):
        footprint(LINEAR, batch_size=99)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_cuda_device_is_refused() -> None:
    with pytest.raises(ValueError, match="memory: expected a machine with a CUDA device"):
        footprint(LINEAR, device="cuda")


# The system -----------------------------------------------------------------------------------------------------------

HUNGRY = 64 << 20


def hungry_loss(outputs: Tensor, batch: Any) -> Tensor:
    torch.ones(HUNGRY // 4).sum()  # needed for a moment, kept by nobody
    return F.cross_entropy(outputs, batch[1], reduction="none")


def test_the_peak_of_a_step_sees_what_no_part_holds() -> None:
    plain, hungry = footprint(LINEAR), footprint(LINEAR.replace(loss=bind(hungry_loss)))
    if plain.step_peak is None or hungry.step_peak is None:
        pytest.skip("this system does not tell a process its memory")
    assert sizes(plain) == sizes(hungry)
    assert hungry.step_peak > 0.9 * HUNGRY  # the system counts in batches of pages
    assert plain.step_peak < HUNGRY / 2
    assert hungry.process_peak is not None
    assert hungry.process_peak > hungry.step_peak


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_in_use", lambda device: None)
    found = footprint(LINEAR)
    assert (found.step_peak, found.process_peak) == (None, None)
    assert found.to_json()["step_peak"] is None


def test_a_peak_that_cannot_be_reset_is_no_peak_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_in_use", lambda device: 100 << 20)
    monkeypatch.setattr(memory, "peak_memory", lambda device: 300 << 20)
    assert footprint(LINEAR).step_peak is None
    monkeypatch.setattr(memory, "peak_memory", lambda device: 100 << 20)
    found = footprint(LINEAR)
    assert (found.step_peak, found.process_peak) == (0, 100 << 20)


@pytest.mark.gpu
def test_on_a_gpu_the_allocator_tells() -> None:
    found = footprint(LINEAR.replace(loss=bind(hungry_gpu_loss)), device="cuda")
    assert sizes(found)["parameters"] == WEIGHTS
    assert found.step_peak is not None
    assert found.process_peak is not None
    assert HUNGRY <= found.step_peak < found.process_peak < 2 * HUNGRY


def hungry_gpu_loss(outputs: Tensor, batch: Any) -> Tensor:
    torch.ones(HUNGRY // 4, device=outputs.device).sum()
    return F.cross_entropy(outputs, batch[1], reduction="none")
