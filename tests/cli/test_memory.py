"""`hasten memory`: the table, the JSON, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from hasten.bench.memory import PARTS, Footprint, Part
from hasten.cli import main
from hasten.cli.memory import amount, table

WORKLOAD = Path(__file__).parents[1] / "contract" / "images.py"
Hasten = Callable[..., tuple[int, str, str]]


@pytest.fixture
def hasten(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hasten:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def run(*words: str | Path) -> tuple[int, str, str]:
        status = main(["memory", *map(str, words)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def made(*, hooks: int = 0, step_peak: int | None = 3 << 20) -> Footprint:
    sizes = dict.fromkeys(PARTS, 0) | {"parameters": 4096, "gradients": 4096, "hooks": hooks}
    parts = tuple(Part(name, sizes[name], name in ("parameters", "hooks"), what) for name, what in PARTS.items())
    return Footprint(1024, 8, parts, step_peak, None if step_peak is None else 300 << 20)


def test_the_table_of_two_arms() -> None:
    text = table({"base": made(), "ema": made(hooks=4000)}, "base")
    assert text.splitlines()[:16] == [
        "                               base       ema",
        "always",
        "  parameters                4.0 KiB   4.0 KiB         =",
        "  hooks                           0   3.9 KiB  +3.9 KiB",
        "in a step",
        "  buffers                         0         0         =",
        "  optimizer                       0         0         =",
        "  gradients                 4.0 KiB   4.0 KiB         =",
        "  activations                     0         0         =",
        "  batch                           0         0         =",
        "sum                         8.0 KiB  11.9 KiB  +3.9 KiB",
        "bytes per parameter            8.00     11.91",
        "number of parameters          1,024     1,024",
        "measured",
        "  a step, at its peak       3.0 MiB   3.0 MiB",
        "  the process, at its peak  300 MiB   300 MiB",
    ]


def test_less_than_the_baseline_and_an_unknown_peak() -> None:
    lines = table({"plain": made(step_peak=None), "ema": made(hooks=4000)}, "ema").splitlines()
    assert lines[0].split() == ["ema", "plain"]
    assert lines[3].split() == ["hooks", "3.9", "KiB", "0", "-3.9", "KiB"]
    assert lines[14].split() == ["a", "step,", "at", "its", "peak", "3.0", "MiB", "-"]


@pytest.mark.parametrize("width", [40, 80, 200])
def test_many_arms_come_in_blocks_with_the_baseline_in_each(width: int) -> None:
    arms = {"base": made()} | {f"arm{i}": made(hooks=i) for i in range(5)}
    blocks = [block.splitlines() for block in table(arms, "base", width=width).split("\n\n")][:-1]
    assert len(blocks) == {40: 5, 80: 2, 200: 1}[width]
    names = [block[0].split() for block in blocks]
    assert all(row[0] == "base" for row in names)
    assert [name for row in names for name in row[1:]] == [f"arm{i}" for i in range(5)]
    if width > 40:
        assert max(len(line) for block in blocks for line in block) <= width


def test_amounts() -> None:
    assert [amount(size) for size in (0, 1, 1023, 1024, 102_348, 1023 * 1024, 2**20 - 1, 2**40, 2**51)] == [
        "0", "1 B", "1023 B", "1.0 KiB", "99.9 KiB", "1023 KiB", "1.0 MiB", "1.0 TiB", "2048 TiB",
    ]  # fmt: skip


def test_a_workload_from_the_command_line(hasten: Hasten) -> None:
    status, out, err = hasten(WORKLOAD, "--arms", "base,avg=ema(half_life=0.5)", "--batch", "4")
    assert status == 0
    assert err == "measuring base ...\nmeasuring avg ...\n"
    lines = out.splitlines()
    assert lines[0] == "images, batches of 4 on the CPU"
    assert lines[2].split() == ["base", "avg"]
    hooks = next(line for line in lines if line.startswith("  hooks"))
    assert hooks.split()[1] == "0"
    assert "+" in hooks
    assert any(line.startswith("Counted: ") for line in lines)


def test_json(hasten: Hasten) -> None:
    status, out, _ = hasten(WORKLOAD, "--arms", "base,avg=ema", "--baseline", "avg", "--json")
    found = json.loads(out)
    assert status == 0
    named = ("version", "workload", "device", "baseline")
    assert [found[name] for name in named] == [1, "images", "cpu", "avg"]
    base, averaged = found["arms"]
    assert (base["name"], base["methods"], base["batch_size"]) == ("base", [], 8)
    assert averaged["methods"][0].startswith("ema(")
    assert [part["name"] for part in base["parts"]] == list(PARTS)
    assert base["total"] == sum(part["bytes"] for part in base["parts"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["digits", "--batch", "0"], "memory: expected --batch of at least 1, got 0."),
        (["digitz"], "Did you mean digits?"),
        ([WORKLOAD, "--arms", "base,emma"], "expected a method, got 'emma'. Did you mean ema"),
        ([WORKLOAD, "--arms", "base,ema", "--baseline", "bass"], "got 'bass'. Did you mean base?"),
        ([WORKLOAD, "--arms", "base", "--device", "gpu"], "expected device 'cpu' or 'cuda', got 'gpu'"),
        ([WORKLOAD], "expected --arms, or ARMS in the workload file"),
    ],
)
def test_usage(hasten: Hasten, words: list[str], told: str) -> None:
    status, out, err = hasten(*words)
    assert (status, out) == (2, "")
    assert told in err


def test_an_arm_that_fails_is_named(hasten: Hasten) -> None:
    status, out, err = hasten(WORKLOAD, "--arms", "base,blur=blurpool(min_channels=999)")
    assert (status, out) == (2, "")
    assert "hasten: memory: arm 'blur': blurpool: expected something to change" in err
    status, _, err = hasten(WORKLOAD, "--arms", "base", "--batch", "999")
    assert status == 2
    assert "arm 'base': data: expected at least batch_size = 999 samples, got 48" in err
