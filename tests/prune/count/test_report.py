"""The table: numbers counted beside numbers measured, and what is said of zeros that save no time."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from torch import Tensor, nn

from hasten.prune.count import Comparison, Latency, Report, report, sizes
from hasten.prune.count.report import ZEROS_ALONE

X = torch.ones(2, 3, 8)


def model(width: int = 12) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, width), nn.ReLU(), nn.Linear(width, 4))


def halved() -> nn.Sequential:
    """Half of the entries of each weight are 0."""
    net = model()
    for layer in (net[0], net[2]):
        layer.weight.data[:, ::2] = 0
    return net


def compared(low: float, high: float) -> Comparison:
    one = Latency(1.0, 0.9, 1.1, "cpu", 1)
    return Comparison((low + high) / 2, low, high, one, one)


def steady() -> float:
    """A clock for tests: every look takes a millisecond."""
    steady.now += 1e-3
    return steady.now


steady.now = 0.0


def test_zeros_that_save_nothing_are_said_so() -> None:
    found = report(halved(), X, rounds=6, threads=1, clock=steady)
    assert (found.sizes.total, found.sizes.nonzero) == (160, 88)
    assert (found.macs.total, found.macs.nonzero) == (3 * 144, 3 * 72)
    assert found.compression == 160 / 88
    assert found.theoretical_speedup == 2
    assert found.measured_speedup == pytest.approx((1, 1, 1))
    assert found.zeros_alone
    assert str(found).splitlines() == [
        "parameters                           160",
        "nonzero                               88",
        "compression                        1.82x",
        "MACs of a sample                     432",
        "nonzero MACs                         216",
        "theoretical speed-up               2.00x",
        "latency                500 us [500, 500]",
        "measured on                cpu, 1 thread",
        "measured speed-up     1.00x [1.00, 1.00]",
        "bytes",
        "  dense                              640",
        "  CSR, 32-bit                        712",
        "  CSR, narrow                        442",
        "  bitmap                             370",
        "  2:4                                370",
        "smallest                          bitmap",
        "zeros alone give no measured speed-up on this device",
    ]


def test_the_model_is_compared_with_a_copy_where_nothing_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[nn.Module, nn.Module]] = []

    def record(a: nn.Module, b: nn.Module, inputs: Tensor, **_: object) -> Comparison:
        seen.append((a, b))
        return compared(0.98, 1.02)

    monkeypatch.setattr(sys.modules[report.__module__], "compare_latency", record)
    net = halved()
    before = [p.clone() for p in net.parameters()]
    assert report(net, X).zeros_alone
    [(given, twin)] = seen
    assert given is net
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert sizes(twin).nonzero == sizes(twin).total == 160
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        assert torch.equal(a[a != 0], b[a != 0])


@pytest.mark.parametrize(("low", "high", "said"), [(0.9, 1.1, True), (1.1, 1.2, True), (0.5, 0.9, False)])
def test_the_sentence_follows_the_measurement(low: float, high: float, said: bool) -> None:
    found = Report(sizes(halved()), comparison=compared(low, high))
    assert found.zeros_alone is said
    assert (ZEROS_ALONE in str(found)) is said
    removed = Report(sizes(halved()), comparison=compared(low, high), baseline_sizes=sizes(model(24)))
    assert not removed.zeros_alone  # there is less to multiply: the time is what it is
    dense = Report(sizes(model()), comparison=compared(low, high), baseline_sizes=sizes(model()))
    assert not dense.zeros_alone


def test_a_smaller_model_beside_its_baseline() -> None:
    found = report(model(6), X, model(12), rounds=6, clock=steady)
    assert found.compression == 160 / 82
    assert found.theoretical_speedup == 2
    assert found.baseline_macs.total == 432
    lines = str(found).splitlines()
    assert lines[0].split() == ["model", "baseline"]
    assert lines[1].split() == ["parameters", "82", "160"]
    assert next(line for line in lines if "MACs of" in line).split()[-2:] == ["216", "432"]
    assert next(line for line in lines if "dense" in line).split()[-2:] == ["328", "640"]
    assert ZEROS_ALONE not in str(found)


def test_a_dense_model_alone_has_a_time_and_no_ratio() -> None:
    found = report(model(), X, rounds=6, clock=steady)
    assert found.latency.median > 0
    assert found.measured_speedup is None
    assert "measured speed-up" not in str(found)


def test_without_inputs_nothing_is_run() -> None:
    class Broken(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError

    found = report(Broken(4, 4))
    assert (found.macs, found.latency, found.theoretical_speedup) == (None, None, None)
    assert "MACs" not in str(found)
    assert report(Broken(4, 4), baseline=Broken(8, 8)).compression == 72 / 20


def test_extremes() -> None:
    layer = nn.Linear(2, 2)
    for parameter in layer.parameters():
        parameter.data.zero_()
    found = report(layer, X[..., :2], rounds=6, clock=steady)
    assert (found.compression, found.theoretical_speedup) == (math.inf, math.inf)
    assert "inf" in str(found)


def test_what_is_not_counted_is_in_the_table() -> None:
    with torch.library._scoped_library("hasten_report", "FRAGMENT") as library:
        library.define("twice(Tensor x) -> Tensor")
        library.impl("twice", lambda x: 2 * x, "CPU")

        class Custom(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return torch.ops.hasten_report.twice(x)

        assert "not counted: hasten_report.twice" in str(report(Custom(), X, rounds=6, clock=steady))


def test_bad_input() -> None:
    with pytest.raises(TypeError, match="sizes: expected a torch.nn.Module"):
        report(torch.relu)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 6 for rounds, got 2"):
        report(model(), X, rounds=2)
