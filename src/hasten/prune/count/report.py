"""What pruning has saved, in one table: what is counted beside what was measured.

The zeros of a model are judged against a baseline: the model before it was pruned, or else the same model with its
zeros filled up. Removed channels make the time shorter, zeros as a rule do not, and then the report says so.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .latency import ROUNDS, Comparison, Latency, compare_latency, latency
from .macs import Macs, macs
from .sizes import Sizes, sizes

__all__ = ["Report", "report"]

ZEROS_ALONE = "zeros alone give no measured speed-up on this device"
_LABELS = {"dense": "dense", "csr": "CSR, 32-bit", "csr_narrow": "CSR, narrow", "bitmap": "bitmap", "2:4": "2:4"}


@dataclass(frozen=True)
class Report:
    """What a model takes, beside its baseline; `print` it for the table.

    Args:
        sizes: parameters and bytes of the model.
        macs: what it multiplies for a sample; None without inputs.
        latency: its measured time; None without inputs.
        comparison: its time against the baseline's, or against itself with its zeros filled up; None without inputs,
            and of a model that has neither zeros nor a baseline.
        baseline_sizes, baseline_macs: of the baseline; None without one.
    """

    sizes: Sizes
    macs: Macs | None = None
    latency: Latency | None = None
    comparison: Comparison | None = None
    baseline_sizes: Sizes | None = None
    baseline_macs: Macs | None = None

    @property
    def compression(self) -> float:
        """Parameters of the baseline (of the model itself without one) for each nonzero one of the model."""
        total = (self.baseline_sizes or self.sizes).total
        return _ratio(total, self.sizes.nonzero)

    @property
    def theoretical_speedup(self) -> float | None:
        """MACs of the baseline (of the model itself without one) for each nonzero one of the model."""
        whole = self.baseline_macs or self.macs
        return None if whole is None or self.macs is None else _ratio(whole.total, self.macs.nonzero)

    @property
    def measured_speedup(self) -> tuple[float, float, float] | None:
        """The baseline's time for the model's: median, and the interval that holds it with 95 %."""
        found = self.comparison
        return None if found is None else (1 / found.ratio, 1 / found.high, 1 / found.low)

    @property
    def zeros_alone(self) -> bool:
        """Was it measured that zeros in tensors of the old shapes save no time?"""
        removed = self.baseline_sizes is not None and self.baseline_sizes.total != self.sizes.total
        measured = self.comparison is not None and not self.comparison.faster
        return measured and not removed and self.sizes.nonzero < self.sizes.total

    def __str__(self) -> str:
        rows = [*_counted(self), *_measured(self), *_stored(self)]
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        lines = [f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}".rstrip() for a, b, c in rows]
        if self.macs is not None and self.macs.uncounted:
            lines.append(f"not counted: {', '.join(self.macs.uncounted)}")
        if self.zeros_alone:
            lines.append(ZEROS_ALONE)
        return "\n".join(lines)


def report(
    model: nn.Module,
    inputs: Any = None,
    baseline: nn.Module | None = None,
    *,
    samples: int | None = None,
    rounds: int = ROUNDS,
    threads: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Report:
    """Count and measure what a pruned model takes.

    Args:
        model: the pruned model: with zeros in its weights, or with channels removed.
        inputs: example inputs as for `macs`; None counts parameters and bytes alone.
        baseline: what to compare with, taking the same inputs: the model before pruning. None: the model itself, whose
            zeros are filled up in a copy for the measurement.
        samples: samples in `inputs`; None: the first dimension of its first tensor.
        rounds, threads, clock: of the measurement, as for `latency`.

    Returns:
        The report.

    Raises:
        TypeError, ValueError: as of `sizes`, `macs` and `latency`.

    >>> layer = nn.Linear(16, 16, bias=False)
    >>> layer.weight.data[:, 2:] = 0
    >>> print(report(layer))
    parameters        256
    nonzero            32
    compression     8.00x
    bytes
      dense         1,024
      CSR, 32-bit     324
      CSR, narrow     177
      bitmap          160
      2:4             544
    smallest       bitmap
    """
    model_sizes = sizes(model)
    baseline_sizes = None if baseline is None else sizes(baseline)
    if inputs is None:
        return Report(model_sizes, baseline_sizes=baseline_sizes)
    model_macs = macs(model, inputs, samples=samples)
    baseline_macs = None if baseline is None else macs(baseline, inputs, samples=samples)
    timing: dict[str, Any] = {"rounds": rounds, "threads": threads, "clock": clock}
    if baseline is None and model_sizes.nonzero == model_sizes.total:
        return Report(model_sizes, model_macs, latency(model, inputs, **timing))
    compared = compare_latency(model, _filled(model) if baseline is None else baseline, inputs, **timing)
    return Report(model_sizes, model_macs, compared.model, compared, baseline_sizes, baseline_macs)


def _filled(model: nn.Module) -> nn.Module:
    """A copy whose weights are nowhere 0: the same work for a kernel that looks at no value."""
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter[parameter == 0] = 0.01
    return twin


def _ratio(whole: float, left: float) -> float:
    if left:
        return whole / left
    return math.inf if whole else 1.0


Row = tuple[str, str, str]


def _counted(found: Report) -> list[Row]:
    """Parameters and MACs, each beside the baseline's."""
    old = found.baseline_sizes
    rows = [] if old is None else [("", "model", "baseline")]
    rows += [
        ("parameters", f"{found.sizes.total:,}", "" if old is None else f"{old.total:,}"),
        ("nonzero", f"{found.sizes.nonzero:,}", "" if old is None else f"{old.nonzero:,}"),
        ("compression", f"{found.compression:.2f}x", ""),
    ]
    if found.macs is not None:
        before = found.baseline_macs
        rows += [
            ("MACs of a sample", f"{found.macs.total:,.0f}", "" if before is None else f"{before.total:,.0f}"),
            ("nonzero MACs", f"{found.macs.nonzero:,.0f}", "" if before is None else f"{before.nonzero:,.0f}"),
            ("theoretical speed-up", f"{found.theoretical_speedup:.2f}x", ""),
        ]
    return rows


def _measured(found: Report) -> list[Row]:
    rows, compared = [], found.comparison
    if found.latency is not None:
        beside = "" if compared is None or found.baseline_sizes is None else compared.baseline.text
        rows = [("latency", found.latency.text, beside), ("measured on", found.latency.where, "")]
    if found.measured_speedup is not None:
        middle, low, high = found.measured_speedup
        rows.append(("measured speed-up", f"{middle:.2f}x [{low:.2f}, {high:.2f}]", ""))
    return rows


def _stored(found: Report) -> list[Row]:
    def text(sizes: Sizes | None, layout: str) -> str:
        size = None if sizes is None else sizes.bytes[layout]
        return "" if size is None else f"{size:,}"

    rows = [("bytes", "", "")]
    for layout, label in _LABELS.items():
        shown = text(found.sizes, layout) or "-"
        rows.append((f"  {label}", shown, text(found.baseline_sizes, layout)))
    old = found.baseline_sizes
    return [*rows, ("smallest", _LABELS[found.sizes.smallest[0]], "" if old is None else _LABELS[old.smallest[0]])]
