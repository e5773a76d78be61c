"""Studies on disk whose runs nobody has trained: a real plan, numbers from a formula."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hasten.bench.book import Book, log_name
from hasten.bench.plan import Plan
from hasten.bench.results import curves_of, describe
from hasten.bench.store import LOCK, Store

ENVIRONMENT = {"python": "3.11.0", "torch": "2.6.0", "threads": 1, "device": "cpu"}
MACHINE = {"system": "Synthetic 1.0", "processor": "Abacus", "cores": 2, "load at start": 0.5}
PHASES = ("setup", "loader", "batch", "forward", "backward", "optimizer", "hooks")


def points_of(plan: Plan, arm: str, seed: int, pace: float = 1.0) -> list[dict[str, Any]]:
    """A curve that the last arm climbs a little higher."""
    gain = 0.02 * list(plan.arms).index(arm) + 0.001 * ((seed * 7) % 3)
    return [
        {
            "point": k,
            "step": end,
            "epoch": end / 8,
            "seconds": pace * 0.01 * end * (1 + 0.001 * seed),
            "metric": 0.5 + 0.1 * k + 0.01 * (seed % 3) + gain,
            "train_loss": 1.0 / (k + 1),
            "flops": 1e5 * end,
            "memory": 10**8,
        }
        for k, end in enumerate(plan.curve.ends)
    ]


def result(seconds: float, **data: Any) -> dict[str, Any]:
    """What a worker says at the end of a run."""
    return {
        "phases": {name: round(0.1 * seconds, 3) for name in PHASES},
        "excluded": {"data": 0.01, "evaluation": 0.02},
        "inference": {"ms": 0.25, "flops": 1024.0},
        "weights": "0123456789abcdef",
        "resumed": False,
        "calibration": {"before": 0.01, "after": 0.011},
        **data,
    }


def make(
    folder: Path,
    plan: Plan,
    *,
    machine: dict[str, Any] = MACHINE,
    environment: dict[str, Any] = ENVIRONMENT,
    digest: str = "e" * 16,
    pace: float = 1.0,
    status: str = "complete",
    left: int = 0,
    **facts: Any,
) -> Path:
    """Write a study of `plan` whose last `left` runs have not been started; returns its folder."""
    described = describe(plan)
    store = Store(folder)
    first = {
        "identity": plan.identity(), "machine": machine, "created": "2026-01-02 03:04:05", "environment": environment,
        "environment_digest": digest, "plan": described, "curves": curves_of(plan), "title": described["title"],
        "command": f"hasten compare tiny.py --out {folder}", "margin": None, "power": None, "notes": [],
        "status": status, **facts,
    }  # fmt: skip
    for name, value in first.items():
        store.put(name, value)
    book = Book(plan, store, digest)
    (folder / "logs").mkdir()
    (folder / "logs" / "worker-0.log").write_text("")
    jobs = plan.jobs()
    for job in jobs[: len(jobs) - left]:
        key, points = book.next_key(job), points_of(plan, job.arm, job.seed, pace)
        store.put_run(key, "running", {})
        for point in points:
            store.add_point(key, point)
        store.put_run(key, "done", result(points[-1]["seconds"]))
        (folder / "logs" / log_name(key)).write_text(f"{key.arm} {key.seed} {folder}/data.npz\n")
    store.close()
    (folder / LOCK).unlink()
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
