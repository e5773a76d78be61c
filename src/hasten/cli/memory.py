"""`hasten memory`: what does a program cost in memory, and what does a method change about that?"""

from __future__ import annotations

import json as json_
import shutil
import sys
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from . import UsageError, offline
from .arms import parse_arms

if TYPE_CHECKING:
    from hasten.bench.memory import Footprint

__all__ = ["aligned", "amount", "memory", "table"]

VERSION = 1  # of the JSON
NOTE = (
    "Counted: storages of live tensors, each once; of the first and the last step, the larger. "
    "Measured: what the system saw around the same steps, with what kernels need meanwhile; rough."
)


def memory(
    workload: str,
    *,
    optimizers: str | None = None,
    arms: str | None = None,
    baseline: str | None = None,
    batch: int | None = None,
    device: str = "cpu",
    no_download: Annotated[bool, Parameter(name="--offline")] = False,
    json: bool = False,
) -> int:
    """Show what programs need in memory: weights, optimizer state, activations, and the peak of a step.

    Every arm takes three real steps. Nothing is trained to an end. With a model instead of a workload, or with
    --optimizers: what each optimizer keeps for this model, counted without allocating it.

    Parameters
    ----------
    workload
        The name of a workload, a Python file of your own; or a model: gpt_small, resnet50 and the like, or
        module:function for one of your own, of this folder or installed.
    optimizers
        Names, as in 'adamw,flash_adamw,flash_adamw+release'; 'all' lists every one.
    arms
        As in compare: 'base,ema,both=ema+sam'. Default: the workload's.
    baseline
        The arm that the others are compared with. Default: the first.
    batch
        Samples in a step, instead of the workload's.
    device
        cpu or cuda.
    no_download
        Never download data.
    json
        Print the result as JSON on standard output.
    """
    offline(no_download)
    from .optimizers import choices, is_model, show

    if optimizers is not None or is_model(workload):
        if arms is not None or batch is not None:
            raise UsageError("memory: expected either --optimizers or --arms and --batch, got both. Leave one out.")
        return show(workload, choices(optimizers), json=json)
    if batch is not None and batch < 1:
        raise UsageError(f"memory: expected --batch of at least 1, got {batch}.")
    name, programs, chosen = _programs(workload, arms, baseline, device)
    found = {arm: _measured(arm, program, device, batch) for arm, program in programs.items()}
    if json:
        print(json_.dumps(_plain(name, device, chosen, programs, found), indent=2))
        return 0
    where = "the GPU" if device == "cuda" else "the CPU"
    samples = " or ".join(sorted({f"{footprint.batch_size}" for footprint in found.values()}, key=int))
    print(f"{name}, batches of {samples} on {where}\n")
    print(table(found, chosen, width=shutil.get_terminal_size((100, 24)).columns))
    return 0


def _programs(workload: str, arms: str | None, baseline: str | None, device: str) -> tuple[str, dict[str, Any], str]:
    """The workload's name, arm -> program, and the baseline; whatever is wrong here is a matter of usage."""
    from hasten._core.checks import near, refuse
    from hasten.bench.memory import check_device
    from hasten.bench.workloads import arms_of, load, module_of

    try:
        check_device(device)
        loaded = load(workload)
        chosen = parse_arms(arms if arms is not None else arms_of(loaded), module_of(loaded))
        if baseline is not None and baseline not in chosen:
            raise refuse("memory", "a baseline among the arms", repr(baseline), near(baseline, chosen))
        programs = {name: loaded.program.then(*methods) for name, methods in chosen.items()}
    except (ValueError, TypeError) as error:
        raise UsageError(str(error)) from error
    return loaded.name, programs, baseline if baseline is not None else next(iter(chosen))


def _measured(name: str, program: Any, device: str, batch: int | None) -> Footprint:
    from hasten.bench.memory import footprint

    print(f"measuring {name} ...", file=sys.stderr)
    try:
        return footprint(program, device=device, batch_size=batch)
    except (TypeError, ValueError) as error:  # a method that finds nothing to change, too large a batch
        raise UsageError(f"memory: arm {name!r}: {error}") from error
    except (ArithmeticError, MemoryError, RuntimeError) as error:
        raise RuntimeError(f"memory: arm {name!r}: {str(error) or type(error).__name__}") from error


def _plain(
    name: str, device: str, baseline: str, programs: Mapping[str, Any], found: Mapping[str, Footprint]
) -> dict[str, Any]:
    arms = [
        {"name": arm, "methods": [str(method) for method in programs[arm].methods], **footprint.to_json()}
        for arm, footprint in found.items()
    ]
    return {"version": VERSION, "workload": name, "device": device, "baseline": baseline, "arms": arms}


def amount(size: float | None) -> str:
    """Bytes in the unit that fits.

    >>> amount(72), amount(71_560), amount(5 * 2**30), amount(0), amount(None)
    ('72 B', '69.9 KiB', '5.0 GiB', '0', '-')
    """
    if size is None:
        return "-"
    if size < 1024:
        return f"{size:.0f} B" if size else "0"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        size /= 1024
        if size < 1023.5 or unit == "TiB":
            break
    return f"{size:.1f} {unit}" if size < 99.95 else f"{size:.0f} {unit}"


@dataclass(frozen=True)
class _Row:
    """A row of the table: its label, an arm's entry, and the bytes that are compared with the baseline's."""

    label: str
    entry: Callable[[Footprint], str] = lambda found: ""
    compared: Callable[[Footprint], int] | None = None


def table(found: Mapping[str, Footprint], baseline: str, *, width: int = 100) -> str:
    """Parts down, arms across with their difference to the baseline, in as many blocks as the width needs.

    Args:
        found: arm -> what was measured.
        baseline: the arm that comes first and that the others are compared with.
        width: columns of the terminal.
    """
    base = found[baseline]
    rows = _rows(base)
    first = [["", *(row.label for row in rows)], [baseline, *(row.entry(base) for row in rows)]]
    blocks = [list(first)]
    for name, footprint in found.items():
        if name == baseline:
            continue
        pair = [[name, *(row.entry(footprint) for row in rows)], ["", *(_change(row, footprint, base) for row in rows)]]
        if len(blocks[-1]) > len(first) and _width([*blocks[-1], *pair]) > width:
            blocks.append(list(first))
        blocks[-1] += pair
    legend = [f"{part.name}: {part.what}" for part in base.parts]
    notes = [line for text in (*legend, NOTE) for line in textwrap.wrap(text, width, subsequent_indent="  ")]
    return "\n\n".join([*("\n".join(aligned(block)) for block in blocks), "\n".join(notes)])


def _rows(base: Footprint) -> list[_Row]:
    def of_part(index: int) -> _Row:
        def size(found: Footprint) -> int:
            return found.parts[index].bytes

        return _Row(f"  {base.parts[index].name}", lambda found: amount(size(found)), size)

    def group(title: str, always: bool) -> list[_Row]:
        return [_Row(title), *(of_part(i) for i, part in enumerate(base.parts) if part.always == always)]

    return [
        *group("always", True),
        *group("in a step", False),
        _Row("sum", lambda found: amount(found.total), lambda found: found.total),
        _Row("bytes per parameter", lambda found: f"{found.bytes_per_parameter:.2f}"),
        _Row("number of parameters", lambda found: f"{found.parameters:,}"),
        _Row("measured"),
        _Row("  a step, at its peak", lambda found: amount(found.step_peak)),
        _Row("  the process, at its peak", lambda found: amount(found.process_peak)),
    ]


def _change(row: _Row, found: Footprint, base: Footprint) -> str:
    if row.compared is None:
        return ""
    more = row.compared(found) - row.compared(base)
    return f"{'+' if more > 0 else '-'}{amount(abs(more))}" if more else "="


def _width(columns: list[list[str]]) -> int:
    return sum(max(map(len, column)) + 2 for column in columns) - 2


def aligned(columns: list[list[str]]) -> list[str]:
    """The lines of a table of these columns: labels (the first column) flush left, everything else flush right.

    >>> aligned([["", "adamw"], ["bytes", "16"]])
    ['       bytes', 'adamw     16']
    """
    labels, *others = columns
    aligned = [[label.ljust(max(map(len, labels))) for label in labels]]
    aligned += [[cell.rjust(max(map(len, column))) for cell in column] for column in others]
    return ["  ".join(row).rstrip() for row in zip(*aligned, strict=True)]
