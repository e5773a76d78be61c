"""What a program needs in memory: its state, and what a training step adds to it.

Counted are the storages of live tensors, each once, whoever shares it (tied weights, views), in real steps of the real
program: the optimizer's state is what the optimizer made, activations are what autograd kept for the backward pass.
Counting has limits: what a kernel needs only while it runs, what an optimizer builds and drops within its step (SAM's
copy of the weights), and what a custom autograd function keeps behind autograd's back are in no part. So the peak that
the system measures around the step stands beside the sum.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from hasten._core.checks import refuse, whole
from hasten._core.clock import Tick
from hasten._core.rng import fork
from hasten.program import Program

from .build import Transform, build
from .flops import FlopCounter, compute_all
from .ledger import Ledger, peak_memory, reset_peak_memory
from .run import Run
from .source import BatchSource
from .storages import SavedTensors, module_bytes, optimizer_bytes, saved_bytes, storage_bytes, tensors_in
from .train import tokens_per_sample, total_steps

__all__ = ["PARTS", "Footprint", "Part", "check_device", "footprint", "module_bytes", "optimizer_bytes", "saved_bytes"]

# name -> what it is, in the order of reports. The first four are there always, the others in a step.
PARTS = {
    "parameters": "the weights, after surgery",
    "buffers": "what else the model holds: running statistics, masks",
    "optimizer": "the tensors of its state, after a step",
    "hooks": "the tensors in the states of hooks: averages of weights and the like",
    "gradients": "of every weight that is trained, at the end of a step",
    "activations": "what autograd keeps for the backward pass, at its fullest",
    "batch": "inputs and targets of a step, as the model gets them",
}
ALWAYS = ("parameters", "buffers", "optimizer", "hooks")
PER_PARAMETER = ("parameters", "gradients", "optimizer", "hooks")  # what grows with the number of parameters

RESET_SLACK = 1 << 20  # bytes by which a peak may stand above the present right after it was reset


@dataclass(frozen=True)
class Part:
    """A named part of what a program needs."""

    name: str
    bytes: int
    always: bool  # or only in a step
    what: str


@dataclass(frozen=True)
class Footprint:
    """What a program needs in memory.

    Args:
        parameters: how many, tied ones once.
        batch_size: samples in a step.
        parts: what was counted.
        step_peak: bytes that a step needed above what was there before it (weights, state, data), as the system
            measures it: gradients, activations, batch, and what kernels need. None where the system does not tell.
        process_peak: bytes of the whole process at that moment: allocated tensors on a GPU (also the training set,
            which is there), resident memory with Python and torch themselves on a CPU. None likewise.
    """

    parameters: int
    batch_size: int
    parts: tuple[Part, ...]
    step_peak: int | None
    process_peak: int | None

    @property
    def total(self) -> int:
        """The sum of the parts: an upper bound for what is alive together, as gradients come when activations go."""
        return sum(part.bytes for part in self.parts)

    @property
    def bytes_per_parameter(self) -> float:
        """Weights, gradients and the states of optimizer and hooks, divided by the number of parameters."""
        wanted = sum(part.bytes for part in self.parts if part.name in PER_PARAMETER)
        return wanted / self.parameters if self.parameters else 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**asdict(self), "total": self.total, "bytes_per_parameter": self.bytes_per_parameter}


def footprint(program: Program, *, device: str = "cpu", batch_size: int | None = None, seed: int = 0) -> Footprint:
    """Measure a program in real steps: the larger of its first and its last step, part by part.

    Both ends, because methods change the step over time: progressive resizing ends larger than it begins, freezing
    smaller. A step before them makes what is made once: the optimizer's state, averages, workspaces.

    Args:
        program: e.g. `load("digits").program.then(ema())`.
        device: "cpu" or "cuda".
        batch_size: samples in a step; None takes the program's.
        seed: of weights and data.

    Raises:
        ValueError: the batch does not fit the data; a method finds nothing to change.
        RuntimeError: the device's memory is too small; the loss is not finite.
    """
    check_device(device)
    if batch_size is not None:
        program = program.replace(batch_size=whole("memory", "batch_size", batch_size, low=1))
    with fork(seed, "memory"):
        run, source = _live(program, torch.device(device), seed)
        steps, tokens, batches = total_steps(program, source), tokens_per_sample(source), source.batches(0)
        clock = (0.0, source.steps_per_epoch, source.batch_size, tokens)
        first, last = Tick(0, 0, steps, *clock), Tick(max(steps - 1, 0), 0, steps, *clock)
        run.step(first, batches)
        moments = [_moment(run, tick, batches) for tick in (first, last)]
    sizes = {name: max(moment[name] for moment in moments) for name in moments[0]}
    return Footprint(
        parameters=sum(p.numel() for p in run.model.parameters()),
        batch_size=program.batch_size,
        parts=tuple(Part(name, sizes[name], name in ALWAYS, what) for name, what in PARTS.items()),
        step_peak=sizes.get("step_peak"),
        process_peak=sizes.get("process_peak"),
    )


def check_device(device: str) -> None:
    """Refuse a device that is unknown or absent."""
    if device not in ("cpu", "cuda"):
        raise refuse("memory", "device 'cpu' or 'cuda'", repr(device))
    if device == "cuda" and not torch.cuda.is_available():
        raise refuse("memory", "a machine with a CUDA device", "none", "Use device='cpu'.")


class _NoCount(FlopCounter):
    """Counts nothing: a count is a pass over a copy of the model, which would be measured with the step."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.known = {None: 0.0}

    def key(self, batch: Any, *, backward: bool) -> Any:
        return None


def _live(program: Program, device: torch.device, seed: int) -> tuple[Run, BatchSource]:
    with fork(seed, "data"):
        data = program.data.build()(seed)
    source = BatchSource(data, program.sampler.build(), batch_size=program.batch_size, seed=seed, device=device)
    run = Run(program, build(program, seed=seed, device=device), seed=seed, device=device, ledger=Ledger(device))
    run._flops = _NoCount(run.model)
    run.built.transforms.append(Transform("full", 0, _full, {}, {}, is_hook=True))
    return run, source


def _full(batch: Any, run: Any) -> Any:
    """Let nothing be left out by chance: what a program needs is what it needs at its worst."""
    compute_all(run.model)
    return batch


def _moment(run: Run, tick: Tick, batches: Iterator[Any]) -> dict[str, int]:
    """Take one step and count: the parts, and the peaks where the system tells."""
    model, optimizer = run.model, run.optimizer
    there = [*model.parameters(), *model.buffers()]
    saved, seen = SavedTensors(there), []

    def look(batch: Any, run: Any) -> Any:
        seen.extend(tensors_in(batch))
        saved.ignore(seen)
        return batch

    last = Transform("memory", 0, look, {}, {}, is_hook=True)
    run.built.transforms.append(last)
    optimizer.zero_grad(set_to_none=True)
    try:
        with _peaks(run.device) as peaks, saved.watching():
            run.step(tick, batches)
    finally:
        run.built.transforms.remove(last)
    states = [hook.state_dict() for hook in run.built.hooks.values() if hasattr(hook, "state_dict")]
    return {
        **module_bytes(model),
        "optimizer": optimizer_bytes(optimizer),
        "hooks": storage_bytes(tensors_in(states), ignore=[*there, *tensors_in(dict(optimizer.state))]),
        "activations": saved.peak,
        "batch": storage_bytes(seen),
        **peaks,
    }


# The system -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _peaks(device: torch.device) -> Iterator[dict[str, int]]:
    """Peaks of what happens inside, filled in at the end; left empty where the system does not tell."""
    found: dict[str, int] = {}
    _settle(device)
    reset_peak_memory(device)
    before, after_reset = _in_use(device), peak_memory(device)
    yield found
    peak = peak_memory(device)
    if before is None or after_reset is None or peak is None or after_reset > before + RESET_SLACK:
        return
    found["step_peak"], found["process_peak"] = max(peak - before, 0), peak


def _settle(device: torch.device) -> None:
    """Give back what is free, so that a step has to ask for it again."""
    gc.collect()
    if device.type == "cpu":
        with contextlib.suppress(OSError, AttributeError, TypeError):  # not glibc; TypeError: Windows
            ctypes.CDLL(None).malloc_trim(0)


def _in_use(device: torch.device) -> int | None:
    """Bytes in use now: allocated on a GPU, resident set of the process on Linux, None elsewhere."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    with contextlib.suppress(OSError), open("/proc/self/status") as file:
        for line in file:
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return None
